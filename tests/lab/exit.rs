// SPDX-License-Identifier: Apache-2.0
//! Exit fidelity: systemd, `wharf history` and `wharf inspect` say how a container really ended.
//!
//! What the golden table below takes for granted, from the kernel (pid_namespaces(7), signal.c):
//!
//! - PID 1 of a PID namespace is spared every signal it has no handler for. From inside, that
//!   includes SIGKILL; from the host, SIGKILL and SIGSTOP get through. A fault of its own (SIGSEGV,
//!   SIGBUS, SIGILL, SIGFPE) ends it. So a payload that is PID 1 can be *killed* by KILL and SEGV
//!   only: TERM and ABRT it either handles, which is an exit, or ignores. Even abort(3) as PID 1
//!   ends in the SIGSEGV of the instruction that the C library has for the case.
//! - reboot(2) in a PID namespace ends its PID 1 by SIGHUP, halting it by SIGINT.
//! - With `init = true` any signal ends the payload, and PID 1 exits with 128 and its number.
//!
//! 143 is 128 + SIGTERM and in `SuccessExitStatus=` of ctr@.service: a success, whoever sent it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::support::container::{
    IMAGE, define, json, leftovers, prepare, shell, show, unit, use_runtime,
};
use crate::support::lab::{Lab, Suite};
use serde_json::Value;

/// The codes of the table.
const CODES: [u8; 9] = [0, 1, 42, 125, 126, 127, 137, 143, 255];

/// Tells that handlers are installed, then waits for whatever comes.
const WAIT: &str = "touch /ready/$(hostname); sleep 1000 & wait $!; wait $!";

/// One container, what is done to it, and how it must end.
struct Case {
    name: String,
    definition: String,
    /// A script, for which `$U` is the unit and `$N` the container; empty when it ends by itself.
    act: &'static str,
    /// `ActiveState Result ExecMainCode ExecMainStatus | reason code signal core-dumped`, the
    /// latter four as `wharf history` and `wharf inspect` have them.
    expected: String,
}

fn case(name: &str, definition: String, act: &'static str, expected: &str) -> Case {
    Case {
        name: name.to_owned(),
        definition,
        act,
        expected: expected.to_owned(),
    }
}

/// How a container that exited with `code` must be seen.
fn exited(result: &str, code: u8) -> String {
    format!("{result} exited {code} | exited {code} - false")
}

/// A success: the unit is inactive.
const OK: &str = "inactive success";

/// A failure by exit code.
const FAILED: &str = "failed exit-code";

/// SIGKILL from the host.
const KILLED: &str = "failed signal killed 9 | signal - KILL false";

/// Ends that the payload brings about itself.
fn spontaneous() -> Vec<Case> {
    let exit = |code: u8| {
        let result = if matches!(code, 0 | 143) { OK } else { FAILED };
        let definition = shell(&format!("exit {code}"), "");
        case(
            &format!("exit-{code}"),
            definition,
            "",
            &exited(result, code),
        )
    };
    let init = |signal: &str, result, code| {
        let definition = shell(&format!("kill -{signal} $$; sleep 1000"), "init = true");
        case(
            &format!("init-{signal}"),
            definition,
            "",
            &exited(result, code),
        )
    };
    // busybox's awk recurses in C: an overflow of its stack is a fault wherever it runs.
    let fault = |name, core, expected| {
        let program = "function f(x) { return f(x + 1) + 1 } BEGIN { print f(1) }";
        let definition = format!(
            "image = \"{IMAGE}\"\ncommand = [\"awk\", \"{program}\"]\nulimits = {{ core = {core} }}\n"
        );
        case(name, definition, "", expected)
    };
    let raise = "for signal in TERM ABRT SEGV KILL; do kill -$signal $$; done; exit 7";
    let reboot = shell("reboot -f; sleep 1000", "cap_add = [\"SYS_BOOT\"]");
    let mut cases: Vec<Case> = CODES.into_iter().map(exit).collect();
    cases.extend([
        init("TERM", OK, 143),
        init("KILL", FAILED, 137),
        init("SEGV", FAILED, 139),
        init("ABRT", FAILED, 134),
        case("raise", shell(raise, ""), "", &exited(FAILED, 7)),
        fault("fault", 0, "failed signal killed 11 | signal - SEGV false"),
        fault(
            "fault-core",
            -1,
            "failed core-dump dumped 11 | signal - SEGV true",
        ),
        case(
            "reboot",
            reboot,
            "",
            "inactive success killed 1 | signal - HUP false",
        ),
    ]);
    cases
}

/// Ends on request.
fn requested() -> Vec<Case> {
    let plain = || shell(WAIT, "");
    let init = || shell(WAIT, "init = true");
    let handler = |signal, code, more| shell(&format!("trap 'exit {code}' {signal}; {WAIT}"), more);
    let stop = "systemctl stop --no-block $U";
    vec![
        case(
            "systemctl-kill",
            plain(),
            "systemctl kill -s KILL $U",
            KILLED,
        ),
        case("wharf-kill", plain(), "wharf kill -s KILL $N", KILLED),
        case(
            "host-kill",
            plain(),
            "kill -KILL $(systemctl show -p MainPID --value $U)",
            KILLED,
        ),
        case(
            "spared",
            plain(),
            "for s in TERM SEGV ABRT; do wharf kill -s $s $N; done; sleep 0.3; wharf kill -s KILL $N",
            KILLED,
        ),
        case(
            "term-3",
            handler("TERM", 3, ""),
            "systemctl kill -s TERM $U",
            &exited(FAILED, 3),
        ),
        case(
            "abrt-42",
            handler("ABRT", 42, ""),
            "wharf kill -s SIGABRT $N",
            &exited(FAILED, 42),
        ),
        case(
            "term-init",
            init(),
            "wharf kill -s TERM $N",
            &exited(OK, 143),
        ),
        case(
            "segv-init",
            init(),
            "systemctl kill -s SEGV $U",
            &exited(FAILED, 139),
        ),
        case("stop-init", init(), stop, &exited(OK, 143)),
        case("stop-0", handler("TERM", 0, ""), stop, &exited(OK, 0)),
        case(
            "stop-143",
            handler("TERM", 143, ""),
            "wharf stop $N",
            &exited(OK, 143),
        ),
        case("stop-5", handler("TERM", 5, ""), stop, &exited(FAILED, 5)),
        case(
            "stop-int",
            handler("INT", 130, "stop_signal = \"SIGINT\""),
            stop,
            &exited(OK, 130),
        ),
        case(
            "stop-at-once",
            shell(WAIT, "stop_signal = \"SIGKILL\""),
            stop,
            "inactive success killed 9 | signal - KILL false",
        ),
        case(
            "stop-ignored",
            shell(WAIT, "stop_timeout = \"1s\""),
            stop,
            "failed timeout killed 9 | timeout - KILL false",
        ),
    ]
}

/// Every case as a service and as a oneshot, with its output in the journal and direct.
fn table() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in ["service", "oneshot"] {
        for driver in ["journal", "direct"] {
            for case in spontaneous().into_iter().chain(requested()) {
                let Case {
                    name,
                    definition,
                    act,
                    mut expected,
                } = case;
                // SIGHUP is how daemons may end, but not commands (systemd.service(5)).
                if (name.as_str(), kind) == ("reboot", "oneshot") {
                    expected = expected.replace(OK, "failed signal");
                }
                // `enabled`, so that an active target keeps the ended unit in systemd's memory.
                let definition = format!(
                    "{definition}type = \"{kind}\"\nenabled = true\n\
                     volumes = [\"/var/tmp/ready:/ready\"]\n[log]\ndriver = \"{driver}\"\n"
                );
                cases.push(Case {
                    name: format!("{name}-{kind}-{driver}"),
                    definition,
                    act,
                    expected,
                });
            }
        }
    }
    cases
}

/// `| reason code signal core-dumped` of a history entry.
fn in_words(entry: &Value) -> String {
    let word = |key: &str| match &entry[key] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let keys = ["reason", "code", "signal", "core_dumped"];
    keys.map(word).join(" ")
}

/// How every case ended according to everybody who can be asked, in the order of `cases`.
fn observed(lab: &Lab, cases: &[Case]) -> Vec<String> {
    let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    let units: Vec<String> = names.iter().map(|name| unit(name)).collect();
    let states = show(
        lab,
        &units,
        "ActiveState,Result,ExecMainCode,ExecMainStatus",
    );
    let names = names.join(" ");
    let inspected = json(lab, &format!("wharf inspect {names}"));
    let histories = lab.ok(&format!(
        "for name in {names}; do wharf history --json $name; done"
    ));
    let histories = serde_json::Deserializer::from_str(&histories).into_iter::<Value>();
    let inspected = inspected["containers"].as_array().unwrap();
    let one = |((case, inspected), history): ((&Case, &Value), Result<Value, _>)| {
        let history: Value = history.unwrap();
        let runs = history["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 1, "{}: {history}", case.name);
        assert_eq!(inspected["history"], history["runs"]);
        let state = &states[&unit(&case.name)];
        assert_eq!(
            inspected["unit"]["active_state"], *state["ActiveState"],
            "{inspected}"
        );
        assert_eq!(inspected["unit"]["result"], *state["Result"], "{inspected}");
        assert_eq!(inspected["state"], "exited", "{inspected}");
        let code = match state["ExecMainCode"].as_str() {
            "1" => "exited",
            "2" => "killed",
            "3" => "dumped",
            other => other,
        };
        format!(
            "{} {} {code} {} | {}",
            state["ActiveState"],
            state["Result"],
            state["ExecMainStatus"],
            in_words(&runs[0])
        )
    };
    cases
        .iter()
        .zip(inspected)
        .zip(histories)
        .map(one)
        .collect()
}

/// Forgets the containers of an earlier table, whose names are the same.
fn forget(lab: &Lab) {
    lab.ok(
        "rm -rf /var/tmp/ready /var/lib/wharf/containers /etc/wharf/containers
            mkdir -p /var/tmp/ready; systemctl reset-failed",
    );
}

fn golden_table(lab: &Lab) {
    let cases = table();
    forget(lab);
    let mut script = "systemctl daemon-reload\n".to_owned();
    for case in &cases {
        define(lab, &case.name, &case.definition);
        writeln!(script, "systemctl start --no-block {}", unit(&case.name)).unwrap();
    }
    for case in cases.iter().filter(|case| !case.act.is_empty()) {
        let Case { name, act, .. } = case;
        writeln!(
            script,
            "N={name} U={}; until test -e /var/tmp/ready/$N; do sleep 0.05; done; {act}",
            unit(name)
        )
        .unwrap();
    }
    lab.ok(&script);
    await_ends(lab);
    let mut wrong = String::new();
    for (case, observed) in cases.iter().zip(observed(lab, &cases)) {
        if observed != case.expected {
            writeln!(wrong, "{}\n- {}\n+ {observed}", case.name, case.expected).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    lab.ok("systemctl reset-failed");
    assert_eq!(leftovers(lab), "");
}

/// Waits until no container runs.
fn await_ends(lab: &Lab) {
    lab.wait_for(
        "! systemctl list-units --no-legend 'ctr@*' | grep -qE ' (activating|active|deactivating) '",
    );
}

/// How many containers exit at once, and how many of them at the same time.
const FLASHES: usize = 1000;
const AT_A_TIME: usize = 40;

/// Containers that exit as soon as they run, with random codes, in waves.
fn flashes(lab: &Lab) {
    forget(lab);
    lab.ok(&format!(
        "mkdir -p /var/tmp/codes
         for i in $(seq {FLASHES}); do
             echo $((RANDOM % 256)) >/var/tmp/codes/flash-$i
             echo Wants=ctr@flash@$i.service
         done >/var/tmp/wants"
    ));
    let script = "exit $(cat /codes/$(hostname))";
    define(
        lab,
        "flash@",
        &shell(script, "volumes = [\"/var/tmp/codes:/codes:ro\"]"),
    );
    // An active target that wants them keeps the ended ones in systemd's memory.
    lab.write(
        "/run/systemd/system/flashes.target",
        "[Unit]\nDescription=Flashes\n",
    );
    lab.ok("systemctl daemon-reload; systemctl start flashes.target
            (echo '[Unit]'; cat /var/tmp/wants) >/run/systemd/system/flashes.target
            systemctl daemon-reload");
    lab.ok(&format!(
        "seq -f 'ctr@flash@%g.service' {FLASHES} | xargs -n {AT_A_TIME} systemctl start || true"
    ));
    await_ends(lab);
    let units: Vec<String> = (1..=FLASHES).map(|i| unit(&format!("flash@{i}"))).collect();
    let states = show(lab, &units, "Result,ExecMainCode,ExecMainStatus");
    let codes = lab.ok("cd /var/tmp/codes; grep . *");
    let histories = lab.ok("cd /var/lib/wharf/containers; grep . */history.jsonl");
    let histories: BTreeMap<&str, Value> = histories
        .lines()
        .map(|line| line.split_once("/history.jsonl:").unwrap())
        .map(|(name, entry)| (name, serde_json::from_str(entry).unwrap()))
        .collect();
    let mut wrong = String::new();
    for line in codes.lines() {
        let (name, code) = line.split_once(':').unwrap();
        let name = name.replace('-', "@");
        let state = &states[&unit(&name)];
        let result = if matches!(code, "0" | "143") {
            "success"
        } else {
            "exit-code"
        };
        let observed = format!(
            "{} {} {} {}",
            state["Result"],
            state["ExecMainCode"],
            state["ExecMainStatus"],
            in_words(&histories[name.as_str()])
        );
        let expected = format!("{result} 1 {code} exited {code} - false");
        if observed != expected {
            writeln!(wrong, "{name}\n- {expected}\n+ {observed}").unwrap();
        }
    }
    assert_eq!(codes.lines().count(), FLASHES);
    assert!(wrong.is_empty(), "\n{wrong}");
    lab.ok("systemctl reset-failed");
    assert_eq!(leftovers(lab), "");
}

#[test]
fn trixie_tells_how_containers_ended() {
    let lab = prepare(Suite::Trixie);
    golden_table(&lab);
    flashes(&lab);
    use_runtime(&lab, "runc");
    golden_table(&lab);
}

#[test]
fn bookworm_tells_how_containers_ended() {
    let lab = prepare(Suite::Bookworm);
    golden_table(&lab);
    flashes(&lab);
}
