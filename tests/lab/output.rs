// SPDX-License-Identifier: Apache-2.0
//! A container's output beside a real systemd and journald: none is lost, none changes, nothing
//! that happens to the relay or to journald reaches the container, and nothing that the container
//! says reaches systemd unless it may.

use crate::support::container::{IMAGE, define, prepare, shell, unit};
use crate::support::lab::{Lab, Suite};

/// Every line counts here.
const UNLIMITED: &str = "log = { rate_limit = 0 }";

/// Runs a script with the functions of tests/lab/output/lib.sh; it must succeed.
fn ok(lab: &Lab, script: &str) -> String {
    let library = include_str!("output/lib.sh");
    lab.ok(&format!("{library}\n{script}"))
}

fn a_million_lines_arrive_in_order(suite: Suite) {
    let lab = prepare(suite);
    let script = "seq 1 1000000; echo -n 'last words'";
    define(&lab, "lines", &shell(script, UNLIMITED));
    let counted = ok(&lab, "run lines; ended lines; counted lines");
    assert_eq!(counted, "1000000 1000001 last words");
    assert_eq!(lab.property(&unit("lines"), "Result"), "success");
}

#[test]
fn a_million_lines_arrive_in_order_on_trixie() {
    a_million_lines_arrive_in_order(Suite::Trixie);
}

#[test]
fn a_million_lines_arrive_in_order_on_bookworm() {
    a_million_lines_arrive_in_order(Suite::Bookworm);
}

/// All that a payload can do with its two descriptors.
const WAYS: &str = r"
echo plain
echo complaint >&2
echo '<3>grave'
sh -c 'echo by name >/dev/stdout'
echo by process >/proc/1/fd/1
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
";

/// A terminal of which nothing is open for a while.
const TERMINAL: &str = r"
test -t 1 && stty size
echo one
printf 'two\rthree\n'
echo err >&2
exec <&- >&- 2>&-
sleep 2
";

#[test]
fn every_way_to_the_journal_works_and_bytes_stay_as_they_are() {
    for suite in Suite::ALL {
        let lab = prepare(suite);
        let log = "log = { rate_limit = 0, stderr_priority = 4, identifier = 'other name' }";
        define(&lab, "ways", &shell(WAYS, log));
        define(&lab, "tty", &shell(TERMINAL, "tty = true"));
        let direct = "echo out; echo err >&2; echo '<3>grave'; sleep 2; echo -n end";
        define(
            &lab,
            "direct",
            &shell(direct, "log = { driver = 'direct' }"),
        );
        // cat(1) ends at once if there is nothing, and has to be ended if there may be something.
        let stdin = "timeout 1 cat 2>/dev/null; test $? = 143 && echo open || echo closed";
        define(&lab, "open", &shell(stdin, "stdin = true"));
        define(&lab, "closed", &shell(stdin, ""));
        ok(&lab, "run ways tty direct open closed");
        a_terminal_without_users_costs_nothing(&lab);
        // With nothing to move, nothing of wharf stays.
        let direct = "/sys/fs/cgroup/ctr.slice/ctr@direct.service";
        assert_eq!(
            lab.ok(&format!("cat {direct}/engine/cgroup.procs")),
            "",
            "{suite:?}"
        );
        ok(&lab, "ended ways tty direct open closed");
        all_ways_were_seen(&lab);
        assert_eq!(ok(&lab, "output direct"), "out\nerr\ngrave\nend");
        assert_eq!(ok(&lab, "output direct -p 3..3"), "grave", "{suite:?}");
        let open = ok(&lab, "output open");
        assert!(open.ends_with("open"), "{suite:?}: {open}");
        assert_eq!(ok(&lab, "output closed"), "closed", "{suite:?}");
        let terminal = ok(
            &lab,
            "said tty -o export | grep -a -A1 -E '^MESSAGE|^two|three'",
        );
        for line in ["MESSAGE=24 80", "MESSAGE=one", "MESSAGE=err", "two\rthree"] {
            assert!(terminal.contains(line), "{suite:?}: {line}: {terminal:?}");
        }
        assert!(!terminal.contains("one\r"), "{suite:?}: {terminal:?}");
    }
}

fn a_terminal_without_users_costs_nothing(lab: &Lab) {
    let used = ok(
        lab,
        "before=$(used tty); sleep 0.5; echo $(($(used tty) - before))",
    );
    assert!(
        used.parse::<u32>().unwrap() < 5,
        "{:?}: {used}",
        lab.suite()
    );
}

fn all_ways_were_seen(lab: &Lab) {
    let suite = lab.suite();
    let ok = |script: &str| ok(lab, script);
    let lines = ok("output ways -t 'other name' | grep -a -v xxxx");
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
    // journald ends a line at a NUL.
    assert_eq!(lines.lines().filter(|l| *l == "nul").count(), 2);
    assert_eq!(ok("output ways -p 3..3"), "grave", "{suite:?}");
    let complaints = ok("output ways -p 4..4");
    assert_eq!(complaints, "complaint\nerror by name", "{suite:?}");
    let long = ok("output ways | grep -a -o 'x*' | tr -d '\\n' | wc -c");
    assert!(long.parse::<u32>().unwrap() >= 1 << 20, "{suite:?}: {long}");
    let bytes = ok("said ways -o export | grep -a -c $'bytes \\xff\\xfe\\x1b\\\\[2J\\r end'");
    assert_eq!(bytes, "1", "{suite:?}");
    assert_eq!(lab.property(&unit("ways"), "Result"), "success");
}

/// A payload that prints `rounds` times `lines` numbers in a few seconds.
fn counter(rounds: u32, lines: u32) -> String {
    let script = format!(
        "for i in $(seq {rounds}); do seq $((i * {lines} - {lines} + 1)) $((i * {lines})); sleep 0.01; done; sleep 1; exit 42"
    );
    shell(&script, UNLIMITED)
}

#[test]
fn nothing_is_lost_when_the_relay_is_killed() {
    for suite in Suite::ALL {
        let lab = prepare(suite);
        define(&lab, "worker", &counter(400, 100));
        define(&lab, "guard", &counter(400, 100));
        // What comes after must fit into the FIFO: nobody is left to empty it.
        define(&lab, "both", &counter(400, 10));
        ok(
            &lab,
            "run worker guard both; sleep 1
             kill -9 $(worker worker) $(guard guard) $(guard both) $(worker both)
             sleep 1.2; kill -9 $(worker worker)
             ended worker guard both",
        );
        for (name, expected) in [
            ("worker", "40000 40000 40000"),
            ("guard", "40000 40000 40000"),
            ("both", "4000 4000 4000"),
        ] {
            let counted = ok(&lab, &format!("counted {name}"));
            assert_eq!(counted, expected, "{suite:?}: {name}");
            let status = lab.property(&unit(name), "ExecMainStatus");
            assert_eq!(status, "42", "{suite:?}: {name}");
        }
        let died = "journalctl -q -o cat -p 3 MESSAGE_ID=31087b0dcf094be7803777ce53e4874f -u";
        let reported = "relay was killed by signal 9 while the container ran; a new one goes on";
        assert_eq!(
            ok(&lab, &format!("{died} ctr@worker")),
            format!("{reported}\n{reported}"),
            "{suite:?}"
        );
        for name in ["guard", "both"] {
            let said = ok(&lab, &format!("journalctl -q -t wharf-relay -u ctr@{name}"));
            assert_eq!(said, "", "{suite:?}: {name}");
        }
    }
}

/// Lines of [`counter`] in the 48 KiB that journald reads at once.
const READ_AT_ONCE: u32 = (48 << 10) / 6;

#[test]
fn journald_may_restart_and_be_killed() {
    for suite in Suite::ALL {
        let lab = prepare(suite);
        // So slow that journald is never amid a line, whose beginning it would forget.
        let slow = "for i in $(seq 300); do echo $i; sleep 0.01; done; sleep 0.5";
        define(&lab, "restart", &shell(slow, UNLIMITED));
        define(&lab, "killed", &counter(300, 100));
        ok(
            &lab,
            "run restart; for _ in 1 2; do sleep 1; systemctl restart systemd-journald; done
             ended restart
             run killed; sleep 1.5; systemctl kill -s KILL systemd-journald; ended killed",
        );
        assert_eq!(ok(&lab, "counted restart"), "300 300 300", "{suite:?}");
        // What journald had read and not written is lost with it, whoever sent it.
        let counted = ok(&lab, "counted killed");
        let numbers: Vec<u32> = counted.split(' ').map(|n| n.parse().unwrap()).collect();
        assert!(numbers[1] >= 30_000 - READ_AT_ONCE, "{suite:?}: {counted}");
        assert_eq!(numbers[2], 30_000, "{suite:?}: {counted}");
        assert_eq!(lab.property(&unit("killed"), "ExecMainStatus"), "42");
        for name in ["restart", "killed"] {
            let said = ok(&lab, &format!("journalctl -q -t wharf-relay -u ctr@{name}"));
            assert_eq!(said, "", "{suite:?}: {name}");
        }
    }
}

#[test]
fn signals_to_the_whole_unit_leave_the_relay_alone() {
    let lab = prepare(Suite::Trixie);
    let script = "trap '' HUP INT TERM USR1 USR2; echo deaf; sleep 2; echo still heard";
    define(&lab, "deaf", &shell(script, ""));
    ok(
        &lab,
        "run deaf; sleep 0.5; before=$(worker deaf)
         for s in HUP INT TERM USR1 USR2; do systemctl kill --kill-whom=all -s $s ctr@deaf; done
         test $before = $(worker deaf); ended deaf",
    );
    assert_eq!(ok(&lab, "output deaf"), "deaf\nstill heard");
}

/// systemd 252 closes journald's streams when it is stopped, 257 keeps them for the next one.
#[test]
fn without_a_journald_the_container_goes_on_and_losses_are_counted() {
    for suite in Suite::ALL {
        let lab = prepare(suite);
        let script = "for i in $(seq 40); do seq $((i * 1000 - 999)) $((i * 1000)); sleep 0.1; done
             touch /ready/talked; sleep 7; echo resumed; sleep 1";
        let more = format!("volumes = ['/run/ready:/ready']\n{UNLIMITED}");
        define(&lab, "talk", &shell(script, &more));
        // Sockets first, or they would start it again.
        ok(
            &lab,
            "mkdir /run/ready; run talk; sleep 0.5
             systemctl stop systemd-journald.socket systemd-journald-dev-log.socket \
                 systemd-journald-audit.socket systemd-journald.service || true
             ! systemctl is-active -q systemd-journald.socket systemd-journald.service
             sleep 2; before=$(used talk); sleep 1; test $(($(used talk) - before)) -lt 20
             for _ in $(seq 200); do test -e /run/ready/talked && break; sleep 0.1; done
             test -e /run/ready/talked
             systemctl start systemd-journald.socket systemd-journald.service
             ended talk",
        );
        let arrived = ok(&lab, "output talk | grep -c '^[0-9]*$'");
        assert!(ok(&lab, "output talk").ends_with("resumed"), "{suite:?}");
        let report = ok(
            &lab,
            "journalctl -q -u ctr@talk MESSAGE_ID=a3b1d0f2c6c84fe0b9d7a9f64d8e5b17 -o cat",
        );
        let (lost, unread) = losses(&report);
        assert!(lost > 1000, "{suite:?}: {report}");
        // What the relay had handed over and journald had not read is told in bytes only.
        let known = arrived.parse::<u32>().unwrap() + lost;
        match unread {
            0 => assert_eq!(known, 40_000, "{suite:?}: {report}, {arrived} arrived"),
            _ => assert!(known < 40_000, "{suite:?}: {report}, {arrived} arrived"),
        }
    }
}

/// Lines dropped and bytes unread, as the one entry about them says.
fn losses(report: &str) -> (u32, u32) {
    let number = |before: &str, after: &str| {
        let (_, rest) = report.split_once(before)?;
        rest.split_once(after)?.0.parse().ok()
    };
    assert_eq!(report.lines().count(), 1, "{report}");
    let lost = number("(", " lines)");
    let unread = number("at most ", " bytes");
    lost.zip(unread).unwrap_or_else(|| panic!("{report}"))
}

#[test]
fn only_what_a_container_may_say_reaches_systemd() {
    for suite in Suite::ALL {
        let lab = prepare(suite);
        lab.write("/srv/speak.py", include_str!("output/speak.py"));
        let definition = format!(
            "image = '{IMAGE}'\ncommand = ['/usr/bin/python3', '/srv/speak.py']\n\
             volumes = ['/usr:/usr:ro', '/usr/lib:/lib:ro', '/usr/lib64:/lib64:ro', '/srv:/srv:ro']\n\
             notify = 'container'\n"
        );
        define(&lab, "speak", &definition);
        ok(&lab, "run speak; sleep 1");
        let property = |name| lab.property(&unit("speak"), name);
        let main = property("MainPID");
        let command = ok(&lab, &format!("tr '\\0' ' ' </proc/{main}/cmdline"));
        assert_eq!(
            command.trim(),
            "/usr/bin/python3 /srv/speak.py",
            "{suite:?}"
        );
        assert_eq!(property("StatusText"), "hello  [2J world", "{suite:?}");
        assert_eq!(property("NFileDescriptorStore"), "2", "{suite:?}");
        ok(&lab, "systemctl kill -s KILL ctr@speak; ended speak");
        assert_eq!(ok(&lab, "output speak"), "barrier answered", "{suite:?}");
        let refused = ok(
            &lab,
            "journalctl -q -u ctr@speak MESSAGE_ID=5d0c6a7be2c1470f9a54f1c3b08e2d69 -o cat | wc -l",
        );
        assert_eq!(refused, "1", "{suite:?}");
        // Nothing of ours can be reached by a container that shares the host's network (threats X9).
        let abstract_names = "grep -c -E '@.*(wharf|relay)' /proc/net/unix || true";
        assert_eq!(ok(&lab, abstract_names), "0");
    }
}

#[test]
fn the_relay_stays_small_under_load() {
    let lab = prepare(Suite::Trixie);
    define(&lab, "load", &shell("seq 1 100000000", UNLIMITED));
    // A build without optimization has twice the code; the figure of the release build is in
    // docs/relay.md. What counts here: nothing grows.
    let sizes = ok(
        &lab,
        "run load; sleep 1; first=$(private load); sleep 4; echo $first $(private load)
         systemctl kill -s KILL ctr@load",
    );
    let sizes: Vec<u32> = sizes.split(' ').map(|n| n.parse().unwrap()).collect();
    assert!(sizes[0] <= 400 && sizes[1] <= sizes[0] + 8, "{sizes:?} KiB");
}
