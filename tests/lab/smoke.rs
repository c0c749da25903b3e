// SPDX-License-Identifier: Apache-2.0
//! What every other lab test relies on: labs boot a real systemd, keep apart from each other and
//! from the host, pass commands through faithfully, and leave nothing behind.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;

use crate::support::lab::{Lab, Suite, text};
use wharf::sys::command::Command;

/// Boots `suite` and tries what a system manager is needed for.
fn boots(suite: Suite, version: &str) {
    let lab = Lab::up(suite);
    assert_eq!(lab.ok("systemctl is-system-running"), "running");
    assert!(lab.ok("systemctl --version").starts_with(version));
    assert_eq!(
        lab.ok("cat /proc/1/comm; hostname"),
        format!("systemd\n{}", lab.name())
    );

    // The journal, by unit, on disk.
    lab.ok("systemd-run --quiet --wait --unit=speaker echo spoken words");
    assert_eq!(
        lab.ok("journalctl --output=cat --unit=speaker _TRANSPORT=stdout"),
        "spoken words"
    );
    lab.ok("test -d /var/log/journal/$(cat /etc/machine-id)");

    // The system bus.
    let owner = lab.ok(
        "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 \
                        org.freedesktop.systemd1.Manager GetUnit s speaker.service 2>&1 || true",
    );
    assert!(owner.contains("speaker.service"), "{owner}");

    // A user's manager.
    lab.ok("useradd --create-home alice && loginctl enable-linger alice");
    lab.wait_for("systemctl is-active --quiet user@$(id -u alice).service");
    let args = [
        "exec",
        "--user",
        "alice",
        "--",
        "systemd-run",
        "--user",
        "--quiet",
        "--pipe",
        "id",
        "-un",
    ];
    assert_eq!(text(&lab.verb(&args).run().unwrap().stdout), "alice\n");

    // An OCI runtime, on a root file system on an overlay below /var, in a delegated cgroup.
    lab.ok("mkdir -p /var/lib/t/{lower,upper,work,rootfs} && cd /var/lib/t
            mkdir lower/bin && cp /bin/busybox lower/bin/sh
            mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay rootfs
            runc spec
            sed -i 's/\"terminal\": true/\"terminal\": false/; s/\"sh\"/\"sh\", \"-c\", \"exit 42\"/' config.json");
    let script = "cd /var/lib/t && runc run smoke";
    assert_eq!(
        lab.sh(script).status.code(),
        Some(42),
        "{}",
        lab.sh(script).stderr
    );

    // wharf, where its units expect it.
    for file in [
        "bin/wharf",
        "libexec/wharf/wharf-relay",
        "lib/systemd/system-generators/wharf-generator",
    ] {
        lab.ok(&format!("test -x /usr/{file}"));
    }
}

#[test]
fn trixie_boots_with_journal_bus_and_users() {
    boots(Suite::Trixie, "systemd 257");
}

#[test]
fn bookworm_boots_with_journal_bus_and_users() {
    boots(Suite::Bookworm, "systemd 252");
}

#[test]
fn commands_pass_through_faithfully() {
    let lab = Lab::up_bare(Suite::Trixie);
    for code in [0, 1, 42, 125, 126, 127, 137, 255] {
        assert_eq!(lab.sh(&format!("exit {code}")).status.code(), Some(code));
    }
    assert_eq!(lab.sh("kill -KILL $$").status.signal(), Some(9));
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let echoed = lab
        .verb(&["exec", "--", "cat"])
        .stdin_bytes(bytes.clone())
        .run()
        .unwrap();
    assert_eq!(echoed.stdout, bytes);
    let output = lab.exec(&[
        "sh",
        "-c",
        "echo \"$1\"; echo err >&2; echo $HOME $PWD",
        "-",
        "a  b'\"*",
    ]);
    assert_eq!(text(&output.stdout), "a  b'\"*\n/root /root\n");
    assert_eq!(output.stderr, "err\n");
}

#[test]
fn labs_at_once_are_apart() {
    let (one, two) = (Lab::up_bare(Suite::Trixie), Lab::up_bare(Suite::Bookworm));
    one.ok("systemd-run --quiet --unit=only-here sleep 1000; touch /etc/only-here /var/only-here /tmp/only-here");
    assert_eq!(one.property("only-here.service", "ActiveState"), "active");
    assert_eq!(two.property("only-here.service", "ActiveState"), "inactive");
    two.ok("! ls /etc/only-here /var/only-here /tmp/only-here");
    two.ok("! pgrep -f '[s]leep 1000'");
    for what in [
        "cat /etc/machine-id",
        "hostname",
        "readlink /proc/self/ns/net",
    ] {
        assert_ne!(one.ok(what), two.ok(what), "{what}");
    }
    let list = text(&one.verb(&["list"]).run().unwrap().stdout);
    for lab in [&one, &two] {
        let line = format!("{} {} up", lab.name(), lab.suite().name());
        assert!(
            list.lines().any(|l| l == line),
            "'{line}' is not in\n{list}"
        );
    }
}

/// What a lab could change on the host, one fact per line. Other labs come and go meanwhile.
fn host_facts() -> BTreeSet<String> {
    let script = "cat /proc/self/mountinfo
        ip -o link | sed 's/^[0-9]*: //' ; ip -o address; ip route; ls /run/netns 2>/dev/null
        find /sys/fs/cgroup -name 'wharf-lab-*' -prune -o -type d -print
        sysctl fs.file-max fs.nr_open kernel.hostname kernel.core_pattern net.ipv4.ip_forward
        date +%Y";
    let output = Command::new("bash").args(["-c", script]).run().unwrap();
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn the_host_is_untouched() {
    let before = host_facts();
    let lab = Lab::up(Suite::Trixie);
    lab.ok("mount -t tmpfs tmpfs /mnt; ip link add dummy0 type bridge; hostname elsewhere
            ip netns add inside; sysctl -q -w net.ipv4.ip_forward=1; mkdir /sys/fs/cgroup/mine
            systemd-run --quiet --unit=stubborn sh -c 'trap \"\" TERM INT; while :; do sleep 100; done'");
    let during = host_facts();
    let (name, root) = (lab.name().to_owned(), lab.path("/"));
    drop(lab);
    let after = host_facts();
    assert_eq!(before, during, "while the lab ran");
    assert_eq!(before, after, "after the lab");
    assert!(!root.exists());
    let left = format!(
        "find /sys/fs/cgroup target/lab/labs -name '*{name}' 2>/dev/null; pgrep -f '[l]abs/{name} ' || true"
    );
    let left = Command::new("bash").args(["-c", &left]).output().unwrap();
    assert_eq!(text(&left.stdout), "");
}

#[test]
fn a_lab_whose_processes_died_is_stale_and_can_come_up_again() {
    let lab = Lab::up_bare(Suite::Trixie);
    lab.ok("touch /var/of-the-first-life");
    let init = lab.verb(&["root"]).run().unwrap();
    let init = text(&init.stdout);
    let pid = init.split('/').nth(2).unwrap();
    Command::new("kill").args(["-KILL", pid]).run().unwrap();
    let state = || {
        let list = text(&lab.verb(&["list"]).run().unwrap().stdout);
        let line = list
            .lines()
            .find(|l| l.starts_with(&format!("{} ", lab.name())));
        line.map(str::to_owned)
    };
    // The kernel tears the PID namespace down after kill(2) has returned.
    while state().as_deref() != Some(&format!("{} trixie stale", lab.name())) {}
    assert_eq!(lab.exec(&["true"]).status.code(), Some(1));
    lab.verb(&["up"]).run().unwrap();
    lab.ok("test ! -e /var/of-the-first-life");
    lab.verb(&["down"]).run().unwrap();
    assert_eq!(state(), None);
    // Absent is success, for a second `down` and for the one of Drop.
    lab.verb(&["down"]).run().unwrap();
}
