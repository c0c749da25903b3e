// SPDX-License-Identifier: Apache-2.0
//! Restarts, dependencies, readiness and what is kept between runs, all of it systemd's doing.

use crate::support::container;
use crate::support::container::{NGINX, define, json, leftovers, load_nginx, prepare, shell};
use crate::support::lab::{Lab, Suite};

/// Codes of the runs of `name`, oldest first.
fn codes(lab: &Lab, name: &str) -> Vec<i64> {
    let history = json(lab, &format!("wharf history --json {name}"));
    let runs = history["runs"].as_array().unwrap();
    runs.iter()
        .map(|run| run["code"].as_i64().unwrap())
        .collect()
}

/// A container that fails twice, then stays.
fn restarts(lab: &Lab) {
    let script =
        "echo run >>/data/runs; test $(wc -l </data/runs) -gt 2 || exit 3; exec sleep 1000";
    define(
        lab,
        "phoenix",
        &shell(
            script,
            "volumes = [\"data:/data\"]\nrestart = \"on-failure\"\nrestart_delay = \"50ms\"\nstop_timeout = \"1s\"",
        ),
    );
    lab.ok("systemctl daemon-reload; systemctl start ctr@phoenix");
    lab.wait_for("test $(systemctl show -p NRestarts --value ctr@phoenix) = 2");
    lab.wait_for("systemctl is-active --quiet ctr@phoenix && test $(cat /var/lib/wharf/volumes/data/*/runs /var/lib/wharf/volumes/data/runs 2>/dev/null | wc -l) = 3");
    assert_eq!(codes(lab, "phoenix"), [3, 3]);
    // sleep as PID 1 has no handler for SIGTERM: the journal says what to do about that.
    lab.ok("systemctl stop ctr@phoenix; journalctl --sync");
    let hint =
        lab.ok("journalctl -o cat MESSAGE_ID=f753119546374c0295cd82ae5a0c0c63 -u ctr@phoenix");
    assert!(
        hint.contains("'init = true'") && hint.contains("SIGTERM"),
        "{hint}"
    );

    // One that always fails is given up on.
    define(
        lab,
        "hopeless",
        &shell(
            "exit 4",
            "restart = \"always\"\nrestart_delay = \"1ms\"\nrestart_max_attempts = 3\nrestart_window = \"1min\"",
        ),
    );
    lab.ok("systemctl daemon-reload; systemctl start ctr@hopeless || true");
    lab.wait_for("systemctl is-failed --quiet ctr@hopeless");
    assert_eq!(codes(lab, "hopeless"), [4, 4, 4]);
}

/// A chain, started from its end.
fn dependencies(lab: &Lab) {
    let link = |depends: &str| {
        shell(
            "sleep 1000",
            &format!("init = true\ndepends_on = [{depends}]"),
        )
    };
    define(lab, "first", &link(""));
    define(lab, "second", &link("\"first\""));
    define(lab, "third", &link("\"second\", \"first\""));
    define(lab, "needy", &link("\"cursed\""));
    define(
        lab,
        "cursed",
        "image = \"localhost/absent:1\"\npull_policy = \"never\"\n",
    );
    lab.ok("systemctl daemon-reload; wharf start third");
    let times: Vec<u64> = ["first", "second", "third"]
        .map(|name| lab.property(&format!("ctr@{name}"), "ActiveEnterTimestampMonotonic"))
        .iter()
        .map(|time| time.parse().unwrap())
        .collect();
    assert!(times.is_sorted() && times[0] > 0, "{times:?}");
    // What a container needs takes it along.
    lab.ok("systemctl stop ctr@first");
    for name in ["second", "third"] {
        assert_eq!(
            lab.property(&format!("ctr@{name}"), "ActiveState"),
            "inactive"
        );
        assert_eq!(codes(lab, name), [143]);
    }
    let start = lab.sh("wharf start needy");
    assert!(!start.status.success());
    assert!(start.stderr.contains("it depends on"), "{}", start.stderr);
    assert_eq!(lab.property("ctr@needy", "ActiveState"), "inactive");
}

/// `notify = "container"`: the application says when it is ready, and nothing but that.
fn readiness(lab: &Lab) {
    let script = "tell() { printf \"$1\" | socat -u STDIN UNIX-SENDTO:$NOTIFY_SOCKET; }
        tell 'STATUS=warming up\\nMAINPID=1\\n'; until test -e /gate/open; do sleep 0.05; done
        tell 'MAINPID=1\\nREADY=1\\nSTATUS=serving\\nFDSTORE=1\\n'; exec sleep 1000";
    let definition = shell(
        script,
        "notify = \"container\"\ninit = true\nvolumes = [\"/var/tmp/gate:/gate\"]",
    );
    let definition = definition.replace(container::IMAGE, NGINX);
    define(lab, "herald", &definition);
    lab.ok("rm -rf /var/tmp/gate; mkdir -p /var/tmp/gate; systemctl daemon-reload; systemctl start --no-block ctr@herald");
    lab.wait_for("test \"$(systemctl show -p StatusText --value ctr@herald)\" = 'warming up'");
    let main = lab.property("ctr@herald", "MainPID");
    assert_eq!(
        lab.ok(&format!("grep ^0: /proc/{main}/cgroup")),
        "0::/ctr.slice/ctr@herald.service/payload"
    );
    assert_eq!(lab.property("ctr@herald", "ActiveState"), "activating");
    lab.ok("touch /var/tmp/gate/open");
    lab.wait_for("systemctl is-active --quiet ctr@herald");
    lab.wait_for("test \"$(systemctl show -p StatusText --value ctr@herald)\" = serving");
    assert_eq!(lab.property("ctr@herald", "MainPID"), main);
    lab.ok("systemctl stop ctr@herald");
    assert_eq!(lab.property("ctr@herald", "ActiveState"), "inactive");
    // Who the main process is remains systemd's to know, and the refusal is in the journal.
    lab.ok("journalctl --sync");
    let refused =
        lab.ok("journalctl -o cat -u ctr@herald MESSAGE_ID=5d0c6a7be2c1470f9a54f1c3b08e2d69");
    assert!(refused.contains("ignoring"), "{refused}");
    // One that ends without a word has failed.
    define(lab, "mute", &shell("exit 0", "notify = \"container\""));
    lab.ok("systemctl daemon-reload; ! systemctl start ctr@mute");
    assert_eq!(lab.property("ctr@mute", "Result"), "protocol");
    assert_eq!(codes(lab, "mute"), [0]);
}

/// What a run leaves to the next one.
fn kept(lab: &Lab) {
    let script = "echo run >>/runs; echo run >>/named/runs; wc -l </runs; wc -l </named/runs; cat /etc/motd 2>/dev/null || echo motd >/etc/motd";
    for (name, key) in [("keeper", "persist = true"), ("ephemeral", "")] {
        let keys = format!("type = \"oneshot\"\nvolumes = [\"{name}:/named\"]\n{key}");
        define(lab, name, &shell(script, &keys));
        // `enabled` or not: an inactive unit forgets its invocation, the journal does not.
    }
    lab.ok("systemctl daemon-reload");
    let run = |name: &str| {
        lab.ok(&format!("systemctl start ctr@{name}"));
        lab.ok(&format!(
            "journalctl --sync; journalctl -o cat -u ctr@{name} _TRANSPORT=stdout"
        ))
    };
    assert_eq!(run("keeper"), "1\n1");
    assert_eq!(run("keeper"), "1\n1\n2\n2\nmotd");
    assert_eq!(run("ephemeral"), "1\n1");
    assert_eq!(run("ephemeral"), "1\n1\n1\n2");
    let kept = lab.ok("find /var/lib/wharf/containers -name motd");
    assert!(
        kept.contains("/keeper/") && kept.lines().count() == 1,
        "{kept}"
    );
    lab.ok("wharf rm keeper ephemeral 2>&1");
}

fn live(suite: Suite) {
    let lab = prepare(suite);
    load_nginx(&lab);
    restarts(&lab);
    dependencies(&lab);
    readiness(&lab);
    kept(&lab);
    lab.ok("systemctl reset-failed");
    assert_eq!(leftovers(&lab), "");
}

#[test]
fn trixie_restarts_orders_and_waits() {
    live(Suite::Trixie);
}

#[test]
fn bookworm_restarts_orders_and_waits() {
    live(Suite::Bookworm);
}
