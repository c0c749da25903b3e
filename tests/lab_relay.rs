// SPDX-License-Identifier: Apache-2.0
//! wharf-relay beside a real systemd and journald: no output is lost, none changes, nothing that
//! happens to the relay or to journald reaches the container, and nothing that the container says
//! reaches systemd unless it may.
//!
//! `tests/relay/engine.py` stands in for the engine, with a plain process as the payload.

#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

#[path = "support/lab.rs"]
mod lab;

use std::time::Duration;

use lab::{Lab, Suite, source, text};

/// Longest that the journal may take for a million lines on a busy machine.
const PATIENCE: Duration = Duration::from_secs(280);

/// A lab with the engine's stand-in and a shell library for the tests below.
fn up(suite: Suite) -> Lab {
    let lab = Lab::up(suite);
    let engine = std::fs::read(source().join("tests/relay/engine.py")).unwrap();
    lab.write("/root/engine.py", engine);
    lab.write("/root/lib.sh", include_str!("relay/lib.sh"));
    let drain = std::env::current_exe()
        .unwrap()
        .with_file_name("../examples/relay-drain");
    std::fs::copy(&drain, lab.path("/usr/libexec/wharf/relay-drain"))
        .unwrap_or_else(|err| panic!("{err}; `cargo build --examples` makes {drain:?}"));
    lab
}

/// Runs a script with the library's functions; it must succeed.
fn ok(lab: &Lab, script: &str) -> String {
    lab.ok(&format!(". /root/lib.sh; {script}"))
}

fn a_million_lines_arrive_in_order(suite: Suite) {
    let lab = up(suite);
    lab.write(
        "/root/lines.sh",
        "seq -f 'line %.0f' 1 1000000; echo -n 'last words'\n",
    );
    ok(&lab, "run lines sh /root/lines.sh");
    let output = lab
        .verb(&["exec", "--", "bash", "-c", ". /root/lib.sh; ended lines"])
        .deadline(PATIENCE)
        .run()
        .unwrap();
    assert_eq!(text(&output.stdout), "");
    let lines = ok(
        &lab,
        "output lines | awk '$1 == \"line\" && $2 == n + 1 { n++ } END { print n \" \" NR \" \" $0 }'",
    );
    assert_eq!(lines, "1000000 1000001 last words");
    let named = ok(
        &lab,
        "journalctl -q --sync; journalctl -t lines CONTAINER_NAME=lines -o cat | wc -l",
    );
    assert_eq!(named, "1000001");
    assert_eq!(lab.property("lines.service", "Result"), "success");
}

#[test]
fn a_million_lines_arrive_in_order_on_trixie() {
    a_million_lines_arrive_in_order(Suite::Trixie);
}

#[test]
fn a_million_lines_arrive_in_order_on_bookworm() {
    a_million_lines_arrive_in_order(Suite::Bookworm);
}

#[test]
fn every_way_to_the_journal_works_and_bytes_stay_as_they_are() {
    for suite in Suite::ALL {
        let lab = up(suite);
        lab.write(
            "/root/ways.sh",
            r#"
echo plain
echo complaint >&2
echo '<3>grave'
sh -c 'echo by name >/dev/stdout'
sh -c 'echo by process >/proc/'$$'/fd/1'
sh -c 'echo error by name >/dev/stderr'
exec 3>&1 1>&-
sleep 0.3
exec 1>/dev/fd/3 3>&-
echo reopened
printf 'nul\0nul\n'
printf 'bytes \377\376\033[2J\r end\n'
head -c 1048576 /dev/zero | tr '\0' x; echo
head -c 300000 /dev/urandom; echo
echo after the noise
sleep 1
"#,
        );
        ok(&lab, "run ways bash /root/ways.sh; ended ways");
        let lines = ok(&lab, "output ways | grep -a -v xxxx");
        for line in [
            "plain",
            "by name",
            "by process",
            "reopened",
            "complaint",
            "error by name",
            "after the noise",
        ] {
            assert!(lines.lines().any(|l| l == line), "{suite:?}: {line}");
        }
        let grave = ok(&lab, "journalctl -t ways -p 3..3 -o cat");
        assert_eq!(grave, "grave", "{suite:?}");
        let long = ok(&lab, "output ways | grep -a -o 'x*' | tr -d '\\n' | wc -c");
        assert!(long.parse::<u32>().unwrap() >= 1 << 20, "{suite:?}: {long}");
        let bytes = ok(
            &lab,
            "journalctl -t ways -o export | grep -a -c $'bytes \\xff\\xfe\\x1b\\\\[2J\\r end'",
        );
        assert_eq!(bytes, "1", "{suite:?}");
        assert_eq!(lab.property("ways.service", "Result"), "success");
    }
}

/// Runs a payload that counts, does something to the world in between, and checks that the count
/// is whole.
fn nothing_is_lost_by(suite: Suite, name: &str, disturbance: &str) -> Lab {
    let lab = up(suite);
    lab.write(
        "/root/count.sh",
        "for i in $(seq 1 300); do seq -f 'line %.0f' $((i * 100 - 99)) $((i * 100)); sleep 0.01; done\nsleep 1\nexit 42\n",
    );
    ok(
        &lab,
        &format!("run {name} bash /root/count.sh; sleep 1; {disturbance}; ended {name}"),
    );
    let lines = ok(
        &lab,
        &format!("output {name} | awk '/^line/ && $2 == n + 1 {{ n++ }} END {{ print n }}'"),
    );
    assert_eq!(lines, "30000", "{suite:?}: {disturbance}");
    assert_eq!(
        lab.property(&format!("{name}.service"), "ExecMainStatus"),
        "42"
    );
    lab
}

#[test]
fn a_killed_worker_is_reported_and_replaced() {
    for suite in Suite::ALL {
        let lab = nothing_is_lost_by(
            suite,
            "worker",
            "for _ in 1 2; do kill -9 $(worker worker); sleep 1.2; done",
        );
        let reports = ok(
            &lab,
            "journalctl -q -u worker MESSAGE_ID=31087b0dcf094be7803777ce53e4874f -p 3 -o cat",
        );
        assert_eq!(
            reports,
            "relay was killed by signal 9 while the container ran; a new one goes on\n\
             relay was killed by signal 9 while the container ran; a new one goes on",
            "{suite:?}"
        );
    }
}

#[test]
fn a_killed_guard_changes_nothing() {
    let lab = nothing_is_lost_by(Suite::Trixie, "guard", "kill -9 $(guard guard)");
    assert_eq!(ok(&lab, "journalctl -q -u guard -t wharf-relay -o cat"), "");
}

#[test]
fn signals_to_the_whole_unit_leave_the_relay_alone() {
    let lab = up(Suite::Trixie);
    lab.write(
        "/root/deaf.sh",
        "trap '' HUP INT TERM USR1 USR2\nsleep 2 & wait; echo still heard\n",
    );
    ok(
        &lab,
        "run deaf bash /root/deaf.sh; sleep 0.5; before=$(worker deaf)
         for s in HUP INT TERM USR1 USR2; do systemctl kill --kill-whom=all -s $s deaf; done
         test $before = $(worker deaf); ended deaf",
    );
    assert!(ok(&lab, "output deaf").contains("still heard"));
}

#[test]
fn journald_may_restart_and_be_killed() {
    for suite in Suite::ALL {
        nothing_is_lost_by(
            suite,
            "restart",
            "systemctl restart systemd-journald; sleep 1",
        );
        nothing_is_lost_by(
            suite,
            "killed",
            "systemctl kill -s KILL systemd-journald; sleep 1",
        );
    }
}

#[test]
fn without_a_journald_the_container_goes_on_and_losses_are_counted() {
    let lab = up(Suite::Trixie);
    lab.write(
        "/root/talk.sh",
        "for i in $(seq 1 60); do seq -f 'line %.0f' $((i * 1000 - 999)) $((i * 1000)); sleep 0.1; done\n\
         touch /run/talked\nsleep 8\necho resumed\nsleep 1\n",
    );
    // Sockets first, or they would start it again.
    ok(
        &lab,
        "journal='systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket'
         run talk bash /root/talk.sh; sleep 1
         systemctl stop $journal systemd-journald.service || true
         ! systemctl is-active -q systemd-journald.socket
         used() { awk '{ print $14 + $15 }' /proc/$(worker talk)/stat; }
         sleep 2; before=$(used); sleep 1; after=$(used); test $((after - before)) -lt 20
         for _ in $(seq 200); do test -e /run/talked && break; sleep 0.1; done; test -e /run/talked
         systemctl start systemd-journald.socket systemd-journald.service
         ended talk",
    );
    assert!(ok(&lab, "output talk").ends_with("resumed"));
    let report = ok(
        &lab,
        "journalctl -q -u talk MESSAGE_ID=a3b1d0f2c6c84fe0b9d7a9f64d8e5b17 -o cat",
    );
    assert_eq!(report.lines().count(), 1, "{report}");
    assert!(report.starts_with("journal was away: "), "{report}");
    let lost = report
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(" lines)"))
        .map(|(lines, _)| lines.parse::<u32>().unwrap())
        .unwrap();
    assert!(lost > 1000, "{report}");
}

#[test]
fn only_what_a_container_may_say_reaches_systemd() {
    for suite in Suite::ALL {
        let lab = up(suite);
        lab.write("/root/speak.py", include_str!("relay/speak.py"));
        ok(
            &lab,
            "OPTIONS=--notify run speak python3 /root/speak.py; sleep 1",
        );
        let main = lab.property("speak.service", "MainPID");
        let comm = ok(&lab, &format!("tr '\\0' ' ' </proc/{main}/cmdline"));
        assert_eq!(comm.trim(), "python3 /root/speak.py", "{suite:?}");
        assert_eq!(
            lab.property("speak.service", "StatusText"),
            "hello  [2J world",
            "{suite:?}"
        );
        assert_eq!(lab.property("speak.service", "NFileDescriptorStore"), "2");
        ok(&lab, "systemctl stop speak");
        assert_eq!(ok(&lab, "output speak"), "barrier answered", "{suite:?}");
        let refused = ok(
            &lab,
            "journalctl -q -u speak MESSAGE_ID=5d0c6a7be2c1470f9a54f1c3b08e2d69 -o cat | wc -l",
        );
        assert_eq!(refused, "1", "{suite:?}");
        // X9: nothing of ours can be reached by a container that shares the host's network.
        assert_eq!(
            ok(&lab, "grep -c -E '@.*(wharf|relay)' /proc/net/unix || true"),
            "0"
        );
    }
}

#[test]
fn a_terminal_is_copied_line_by_line() {
    let lab = up(Suite::Trixie);
    lab.write(
        "/root/tty.sh",
        "test -t 1 && stty size <&1; echo one; printf 'two\\rthree\\n'; echo err >&2; exec >&- 2>&-; sleep 1\n",
    );
    ok(&lab, "OPTIONS=--console run tty bash /root/tty.sh; sleep 0.5
              used=$(awk '{ print $14 + $15 }' /proc/$(worker tty)/stat); test $used -lt 5; ended tty");
    let lines = ok(
        &lab,
        "journalctl -t tty -o export | grep -a -A1 -E '^MESSAGE|^two|three'",
    );
    for line in ["MESSAGE=24 80", "MESSAGE=one", "MESSAGE=err", "two\rthree"] {
        assert!(lines.contains(line), "{line}: {lines:?}");
    }
    assert!(!lines.contains("one\r"), "{lines:?}");
}

#[test]
fn the_relay_stays_small_under_load() {
    let lab = up(Suite::Trixie);
    lab.write("/root/load.sh", "seq -f 'line %.0f' 1 100000000\n");
    // A build without optimization has twice the code; the figure of the release build is in
    // docs/relay.md. What counts here: nothing grows.
    let sizes = ok(
        &lab,
        "run load sh /root/load.sh; sleep 1; first=$(private load); sleep 4; echo $first $(private load); systemctl stop load",
    );
    let sizes: Vec<u32> = sizes.split(' ').map(|n| n.parse().unwrap()).collect();
    assert!(sizes[0] <= 400 && sizes[1] <= sizes[0] + 8, "{sizes:?} KiB");
}
