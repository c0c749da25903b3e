// SPDX-License-Identifier: Apache-2.0
//! The commands on real containers under a real systemd: jobs, refusals, states, logs, events.
//!
//! One container lives through a table of steps; each step is a shell line with its exact output
//! and exit status. Times and ids, which differ, are cut by the line itself.

use crate::support::lab::{Lab, Suite, text};

const WEB: &str = r#"
rootfs = "/srv/busybox"
command = ["/bin/sh", "-c", "echo line one; printf 'esc \\033[2J\\n' >&2; trap 'exit 3' USR1; trap 'exit 0' TERM; while :; do sleep 0.1; done"]
reload = "WINCH"
"#;

const DEAF: &str = r#"
rootfs = "/srv/busybox"
command = ["/bin/sleep", "1000"]
stop_timeout = "60s"
"#;

const JOB: &str = r#"
rootfs = "/srv/busybox"
command = ["/bin/sh", "-c", "echo working; exit 42"]
"#;

/// What a line must print and end with.
type Step = (&'static str, i32, &'static str);

fn prepared(suite: Suite) -> Lab {
    let lab = Lab::up(suite);
    // bookworm's crun needs CAP_SYS_RESOURCE, which labs do not have; its runc does not.
    if suite == Suite::Bookworm {
        lab.write("/etc/wharf/wharf.toml", "runtime = \"runc\"\n");
    }
    lab.ok("mkdir -p /srv/busybox/{bin,dev,etc,proc,run,sys,tmp}
            cp /bin/busybox /srv/busybox/bin/
            for name in sh sleep; do ln -s busybox /srv/busybox/bin/$name; done");
    for (name, definition) in [
        ("web", WEB),
        ("deaf", DEAF),
        ("job", JOB),
        ("bad", "imge = 1\n"),
    ] {
        lab.write(&format!("/etc/wharf/containers/{name}.toml"), definition);
    }
    lab.ok("systemctl daemon-reload");
    lab
}

fn go_through(lab: &Lab, steps: &[Step]) {
    for (line, status, expected) in steps {
        let output = lab.sh(&format!("exec 2>&1; {line}"));
        let printed = text(&output.stdout);
        assert_eq!(
            (output.status.code(), printed.trim_end()),
            (Some(*status), *expected),
            "`{line}` in lab {} ({:?})",
            lab.name(),
            lab.suite(),
        );
    }
}

/// Prints the state word of the container `web`.
const STATE: &str = "wharf inspect web | sed -n 's/^      \"state\": \"\\(.*\\)\",/\\1/p'";

/// Every refusal of the ancestor's (features A17, A19 to A22, A25), and every state word.
const LIFECYCLE: &[Step] = &[
    (STATE, 0, "configured"),
    (
        "wharf stop web",
        1,
        "wharf: container 'web' was never started, there is nothing to stop",
    ),
    (
        "wharf kill web",
        1,
        "wharf: container 'web' is not running but configured; 'wharf start web' starts it",
    ),
    (
        "wharf pause web",
        1,
        "wharf: container 'web' is not running but configured; 'wharf start web' starts it",
    ),
    (
        "wharf wait web",
        1,
        "wharf: container 'web' has never run, there is no exit code to wait for",
    ),
    ("wharf start web", 0, ""),
    ("wharf start web", 0, ""),
    (STATE, 0, "running"),
    ("systemctl is-active ctr@web", 0, "active"),
    ("wharf ps -q", 0, "web"),
    (
        "wharf ps | awk '{print $1, $2, $3, $4}'",
        0,
        "NAME IMAGE STATE STATUS\nweb /srv/busybox running up",
    ),
    ("wharf reload web", 0, ""),
    ("wharf pause web", 0, ""),
    (STATE, 0, "paused"),
    (
        "systemctl show --value -p FreezerState ctr@web",
        0,
        "frozen",
    ),
    (
        "wharf pause web",
        1,
        "wharf: container 'web' is paused already",
    ),
    (
        "wharf start web",
        1,
        "wharf: container 'web' is paused; 'wharf unpause web' first",
    ),
    (
        "wharf stop web",
        1,
        "wharf: container 'web' is paused; 'wharf unpause web' first",
    ),
    (
        "wharf restart web",
        1,
        "wharf: container 'web' is paused; 'wharf unpause web' first",
    ),
    (
        "wharf kill web",
        1,
        "wharf: container 'web' is paused; 'wharf unpause web' before you kill it",
    ),
    (
        "wharf status web | grep -c 'State: paused: up .* (paused)$'",
        0,
        "1",
    ),
    ("wharf unpause web", 0, ""),
    (
        "wharf unpause web",
        1,
        "wharf: container 'web' is not paused but running",
    ),
    (
        "wharf rm web",
        1,
        "wharf: container 'web' is running; 'wharf stop web' first",
    ),
    (
        "wharf wait web & sleep 1; wharf kill -s USR1 web; wait $!",
        3,
        "3",
    ),
    (STATE, 0, "exited"),
    ("wharf status web >/dev/null", 3, ""),
    ("wharf wait web", 3, "3"),
    (
        "wharf restart web && wharf stop web deaf; systemctl is-active ctr@web",
        3,
        "wharf: container 'deaf' was never started, there is nothing to stop\ninactive",
    ),
    ("wharf stop web", 0, ""),
    (
        "wharf history --json web | grep -o '\"code\": [0-9]*'",
        0,
        "\"code\": 3\n\"code\": 0",
    ),
    (
        "wharf rm web",
        0,
        "removed what was kept of container 'web'; its definition stays: /etc/wharf/containers/web.toml",
    ),
    (STATE, 0, "configured"),
];

fn lifecycle(suite: Suite) {
    let lab = prepared(suite);
    go_through(&lab, LIFECYCLE);
}

/// Failures are told with the reason, a deaf container is killed, a changed definition is read.
fn failures(suite: Suite) {
    let lab = prepared(suite);
    let refused = "wharf: there is no container 'nobody': no 'nobody.toml' in \
                   /etc/wharf/containers, /run/wharf/containers, /usr/local/lib/wharf/containers, \
                   /usr/lib/wharf/containers";
    let bad = "wharf: container 'bad' did not start: /etc/wharf/containers/bad.toml:1:1: unknown \
               key 'imge', did you mean 'image'?";
    go_through(
        &lab,
        &[
            ("wharf start nobody", 5, refused),
            ("wharf stop nobody", 5, refused),
            (
                "wharf start bad 2>&1 | head -n 1; exit ${PIPESTATUS[0]}",
                1,
                bad,
            ),
            (
                "wharf start bad 2>&1 | grep -c 'systemd: Failed to start ctr@bad.service'",
                0,
                "1",
            ),
            ("wharf start job && wharf wait job", 42, "42"),
            (
                "wharf start job && wharf wait job job | tail -n 1; exit ${PIPESTATUS[0]}",
                42,
                "42",
            ),
            (
                "wharf start deaf && wharf stop -t 1 deaf",
                0,
                "wharf: container 'deaf' did not stop in time and was killed",
            ),
            ("systemctl show --value -p Result ctr@deaf", 0, "signal"),
            (
                "wharf start deaf
                 until grep -q sleep /proc/$(systemctl show --value -p MainPID ctr@deaf)/comm
                 do sleep 0.1; done
                 wharf stop -t 0 deaf; wharf wait deaf",
                137,
                "137",
            ),
            (
                "wharf start deaf && touch /etc/wharf/containers/deaf.toml && wharf restart -t 1 deaf",
                0,
                "wharf: definitions have changed, systemd was reloaded\n\
          wharf: container 'deaf' did not stop in time and was killed",
            ),
            ("wharf ps -q", 0, "deaf"),
            (
                "systemctl mask --runtime --quiet ctr@web && wharf start web 2>&1 | tail -n 1; exit ${PIPESTATUS[0]}",
                1,
                "wharf: container 'web' has a masked unit; 'systemctl unmask ctr@web.service' allows it to start",
            ),
            (
                "mkdir -p /run/wharf/containers; ln -s /dev/null /run/wharf/containers/gone.toml; wharf start gone",
                1,
                "wharf: definitions have changed, systemd was reloaded\n\
          wharf: container 'gone' is masked by '/run/wharf/containers/gone.toml': remove that link to use it",
            ),
        ],
    );
}

/// Logs by run, to a pipe and to a terminal (threats L1), and events.
fn journal(suite: Suite) {
    let lab = prepared(suite);
    lab.ok("wharf start web && wharf restart web && wharf start job && wharf wait job || true");
    lab.wait_for("[ \"$(wharf logs web | wc -l)\" = 2 ]");
    lab.wait_for("wharf events job | grep -q exited");
    go_through(
        &lab,
        &[
            (
                "wharf logs web | od -An -c | tr -d ' \\n'",
                0,
                r"lineone\nesc033[2J\n",
            ),
            ("wharf logs --all web | wc -l", 0, "4"),
            ("wharf logs --run -1 web | head -n 1", 0, "line one"),
            (
                "wharf logs --run -2 web",
                1,
                "wharf: container 'web' has 2 recorded runs",
            ),
            (
                "wharf logs --run 1 web",
                2,
                "wharf: '--run' takes 0 for the newest run, or -1, -2, … before it",
            ),
            ("wharf logs -n 1 job", 0, "working"),
            (
                "script -qec 'wharf logs web' /dev/null",
                0,
                "line one\r\nesc \\x1b[2J",
            ),
            (
                "script -qec 'wharf logs --raw -n 1 web' /dev/null",
                0,
                "esc \u{1b}[2J",
            ),
            ("timeout 2 wharf logs -f web | head -n 1", 0, "line one"),
            (
                "wharf events job | cut -c 22-",
                0,
                "job  started  Container 'job' started\njob  exited  Container 'job' exited with code 42",
            ),
            (
                "wharf events --json job | grep -o '\"reason\":.*\"signal\"' | tail -n 1",
                0,
                "\"reason\":\"exited\",\"code\":42,\"signal\"",
            ),
        ],
    );
    // Anybody can write a message id; only a container's own unit counts.
    lab.ok(
        "(printf 'MESSAGE_ID=dc9365dbbb55486b8c5a85fe1a1eb2eb\\nCONTAINER_NAME=job\\n\
            OBJECT_SYSTEMD_UNIT=ctr@job.service\\nMESSAGE=lie\\n'; sleep 1) | \
            socat -u - UNIX-SENDTO:/run/systemd/journal/socket; journalctl --sync",
    );
    assert!(
        lab.ok("journalctl MESSAGE_ID=dc9365dbbb55486b8c5a85fe1a1eb2eb")
            .contains("lie")
    );
    assert!(!lab.ok("wharf events").contains("lie"));
}

#[test]
fn lifecycle_trixie() {
    lifecycle(Suite::Trixie);
}

#[test]
fn lifecycle_bookworm() {
    lifecycle(Suite::Bookworm);
}

#[test]
fn failures_trixie() {
    failures(Suite::Trixie);
}

#[test]
fn failures_bookworm() {
    failures(Suite::Bookworm);
}

#[test]
fn journal_trixie() {
    journal(Suite::Trixie);
}

#[test]
fn journal_bookworm() {
    journal(Suite::Bookworm);
}
