// SPDX-License-Identifier: Apache-2.0
//! Files of running containers on a real systemd: export, commit, diff, cp and mount of containers
//! whose processes keep changing them (threats F1, F5, F7, K9, P1).

use crate::support::container::{IMAGE, define, json, leftovers, prepare, shell};
use crate::support::lab::{Lab, Suite, text};

/// Files that appear, vanish, grow, shrink and are swapped for links all the time. `pair` holds two
/// files that differ by at most one when they are seen at one moment.
const BUSY: &str = r#"
mkdir -p /pair /busy /swap/d; echo 0 >/pair/x; echo 0 >/pair/y; echo volume >/data/inside
ln -s /etc /swap/link; rm /bin/ls; echo mine >/etc/motd; chmod 0711 /home
( while :; do for n in a b c; do echo $n >/busy/$n; mv /busy/$n /busy/$n$n; rm /busy/$n$n; done
  head -c 100000 /dev/zero >/busy/grow; : >/busy/grow; done ) &
( while :; do mv -T /swap/d /swap/t; mv -T /swap/link /swap/d; mv -T /swap/t /swap/link; done ) &
i=0; while :; do i=$((i+1)); for n in x y; do echo $i >/pair/t; mv /pair/t /pair/$n; done; done
"#;

fn start(lab: &Lab) {
    define(
        lab,
        "busy",
        &shell(
            BUSY,
            "init = true\nvolumes = [\"data:/data\"]\nstop_timeout = \"2s\"",
        ),
    );
    define(
        lab,
        "closed",
        &shell(
            "sleep 1000",
            "init = true\nread_only = true\ntmpfs = [\"/scratch\"]\nvolumes = [\"data:/data\"]",
        ),
    );
    // What takes a while to copy.
    ok(
        lab,
        "head -c 300M /dev/zero >/var/tmp/big; systemctl daemon-reload; wharf start busy closed",
    );
    lab.wait_for("wharf cp busy:/pair/y - >/dev/null");
}

/// What every script has: `not COMMAND…` fails where the command does not, `soon COMMAND…` where it
/// does not succeed within a minute, `group CONTAINER` says where its control group is. `soon` tries
/// without a pause, as what it waits for may pass.
const FUNCTIONS: &str = r#"
not() { if "$@"; then echo "unexpected: $*" >&2; exit 1; fi; }
soon() { local end=$((SECONDS + 60)); until "$@"; do
    if test $SECONDS -ge $end; then echo "not within a minute: $*" >&2; exit 1; fi; done; }
group() { echo /sys/fs/cgroup$(wharf inspect $1 | grep -oP '"cgroup": "\K[^"]*'); }
"#;

/// Runs a script that must succeed.
fn ok(lab: &Lab, script: &str) -> String {
    lab.ok(&format!("{FUNCTIONS}{script}"))
}

/// Runs a command that must fail, and returns what it says.
fn refused(lab: &Lab, script: &str) -> String {
    let done = lab.sh(script);
    assert!(
        !done.status.success(),
        "`{script}` worked: {}",
        text(&done.stdout)
    );
    done.stderr
}

fn export_and_diff(lab: &Lab) {
    ok(
        lab,
        "for _ in 1 2 3 4 5; do wharf export -o /var/tmp/busy.tar busy 2>/dev/null; tar -tf /var/tmp/busy.tar >/var/tmp/list; done",
    );
    let listed = lab.read("/var/tmp/list");
    for name in [
        "bin/busybox",
        "etc/motd",
        "pair/x",
        "data/",
        "proc/",
        "swap/",
    ] {
        assert!(listed.lines().any(|line| line == name), "{name}: {listed}");
    }
    // Neither volumes nor what the kernel shows, nor what the container removed.
    for name in ["data/inside", "proc/1/", "bin/ls", "dev/null"] {
        assert!(!listed.lines().any(|line| line == name), "{name}: {listed}");
    }
    assert_eq!(ok(lab, "tar -xOf /var/tmp/busy.tar etc/motd"), "mine");
    // As GNU tar sees it from inside, file by file.
    ok(
        lab,
        "mkdir /var/tmp/out; tar -C /var/tmp/out -xpf /var/tmp/busy.tar; test $(stat -c %a /var/tmp/out/home) = 711",
    );
    let changed = ok(lab, "wharf diff busy");
    for line in [
        "A /pair",
        "A /pair/x",
        "D /bin/ls",
        "A /etc/motd",
        "C /home",
    ] {
        assert!(
            changed.lines().any(|found| found == line),
            "{line}: {changed}"
        );
    }
    for path in ["/proc", "/dev", "/etc/hosts", "/data/inside"] {
        assert!(
            !changed
                .lines()
                .any(|found| found.ends_with(&format!(" {path}"))),
            "{path}: {changed}"
        );
    }
    assert_eq!(ok(lab, "wharf diff closed"), "A /data\nA /scratch");
    let size = json(lab, "wharf inspect --size busy closed");
    let bytes = |index: usize, key: &str| size["containers"][index]["size"][key].as_u64().unwrap();
    assert_eq!(bytes(0, "image"), bytes(1, "image"));
    assert!(bytes(0, "image") > 500_000 && bytes(0, "writable") > 0 && bytes(1, "writable") == 0);
    assert!(json(lab, "wharf inspect busy")["containers"][0]["size"].is_null());
}

fn commit(lab: &Lab) {
    for round in 0..3 {
        ok(
            lab,
            &format!(
                "wharf commit --change 'CMD [\"/bin/sh\", \"-c\", \"cat /pair/x /pair/y /etc/motd\"]' \
                         --message 'round {round}' busy localhost/snap:1"
            ),
        );
        assert_eq!(ok(lab, "wharf ps | grep -c running"), "2", "it goes on");
        define(
            lab,
            "snap",
            "image = \"localhost/snap:1\"\ntype = \"oneshot\"\n",
        );
        ok(lab, "systemctl daemon-reload; wharf start snap");
        let printed = ok(lab, "wharf logs snap");
        let [x, y, motd] = printed.lines().collect::<Vec<_>>()[..] else {
            panic!("{printed}");
        };
        assert_eq!(motd, "mine");
        // Of one moment.
        let (x, y) = (x.parse::<u64>().unwrap(), y.parse::<u64>().unwrap());
        assert!(x == y || x == y + 1, "{x} {y}");
    }
    ok(lab, "wharf image check");
    // What was written later is not in it, and the container is not held.
    ok(
        lab,
        "before=$(wharf cp busy:/pair/y - | tar -xO); sleep 0.3; test \"$(wharf cp busy:/pair/y - | tar -xO)\" -gt \"$before\"",
    );
    // A pause stays one.
    ok(
        lab,
        "wharf pause busy; wharf commit busy localhost/paused:1; wharf ps | grep -q paused; wharf unpause busy",
    );
    ok(
        lab,
        "wharf commit --pause=false busy localhost/moving:1 2>/dev/null",
    );
}

/// Killed while the container is frozen, and the container goes on.
fn p1_a_killed_commit_leaves_nothing_frozen(lab: &Lab) {
    ok(lab, "cgroup=$(group busy); wharf cp /var/tmp/big busy:/busy/big
            wharf commit busy localhost/never:1 & pid=$!
            soon grep -q 'frozen 1' $cgroup/cgroup.events; kill -9 $pid; not wait $pid
            soon grep -q 'frozen 0' $cgroup/cgroup.events
            not wharf image inspect localhost/never:1 2>/dev/null
            # Frozen by hand, as if the bystander had been killed too.
            echo 1 >$cgroup/cgroup.freeze; soon grep -q 'frozen 1' $cgroup/cgroup.events
            wharf ps >/var/tmp/ps; grep -q paused /var/tmp/ps; wharf unpause busy
            soon grep -q 'frozen 0' $cgroup/cgroup.events; wharf ps >/var/tmp/ps; not grep -q paused /var/tmp/ps
            # Thawed by somebody while it is copied: no image of two moments.
            wharf commit busy localhost/never:1 2>/var/tmp/said & pid=$!
            soon grep -q 'frozen 1' $cgroup/cgroup.events; echo 0 >$cgroup/cgroup.freeze
            not wait $pid; cat /var/tmp/said >&2
            grep -qE 'it went on or ended while it was copied|processes do not stop' /var/tmp/said
            not wharf image inspect localhost/never:1 2>/dev/null");
}

/// Ctrl-Z while the container is frozen stops the commit only when the container goes on.
fn a_commit_stopped_by_the_terminal_leaves_nothing_frozen(lab: &Lab) {
    // A job of its own, as the kernel ignores SIGTSTP where nobody could say 'fg'. Of another shell:
    // one whose job stops leaves the loop that it is in.
    // It is thawed before it stops, and the kernel says so when the last process goes on.
    ok(
        lab,
        "cgroup=$(group busy); wharf cp /var/tmp/big busy:/busy/big
            bash -mc 'wharf commit busy localhost/stopped:1 >/var/tmp/stopped & echo $! >/var/tmp/pid; exec sleep 300' & shell=$!
            soon grep -q 'frozen 1' $cgroup/cgroup.events; pid=$(cat /var/tmp/pid); kill -TSTP $pid
            soon grep -q '^State:.T' /proc/$pid/status; soon grep -q 'frozen 0' $cgroup/cgroup.events
            kill -CONT $pid; soon grep -q committed /var/tmp/stopped; kill $shell; wharf image rm localhost/stopped:1",
    );
}

fn artifacts(lab: &Lab) {
    ok(lab, "echo one >/var/tmp/one; wharf artifact add closed site.conf /var/tmp/one; echo two | wharf artifact add closed note -
            not wharf artifact add closed note /var/tmp/one 2>/var/tmp/said; grep -q -- --replace /var/tmp/said
            wharf artifact add --replace closed note /var/tmp/one; test \"$(wharf artifact get closed note)\" = one
            wharf artifact get closed site.conf /var/tmp/got; cmp /var/tmp/got /var/tmp/one; test $(stat -c %a /var/tmp/got) = 600
            cd /var/lib/wharf/containers/closed/artifacts; test \"$(stat -c %a . site.conf | xargs)\" = '700 600'");
    let listed = json(lab, "wharf artifact ls closed --json");
    let artifacts = listed["artifacts"].as_array().unwrap();
    let names: Vec<&str> = artifacts
        .iter()
        .filter_map(|a| a["name"].as_str())
        .collect();
    assert_eq!(names, ["note", "site.conf"]);
    assert_eq!(
        (&artifacts[0]["bytes"], &listed["name"]),
        (&4.into(), &"closed".into())
    );
    for (script, says) in [
        (
            "wharf artifact get closed none",
            "'wharf artifact ls closed' lists what it has",
        ),
        (
            "wharf artifact add closed ../x /var/tmp/one",
            "is not a name",
        ),
        (
            "wharf artifact add closed zero /dev/zero",
            "more than 64 MiB",
        ),
        ("wharf artifact ls nobody", "nobody"),
    ] {
        let said = refused(lab, script);
        assert!(said.contains(says), "{script}: {said}");
    }
    // They outlive runs, and a volume shows one to the container.
    define(
        lab,
        "reader",
        &shell(
            "cat /site.conf",
            "type = \"oneshot\"\nvolumes = [\"/var/lib/wharf/containers/closed/artifacts/site.conf:/site.conf:ro\"]",
        ),
    );
    ok(
        lab,
        "systemctl daemon-reload; wharf restart closed; wharf artifact rm closed note; wharf start reader",
    );
    assert_eq!(ok(lab, "wharf logs reader"), "one");
    assert_eq!(
        ok(lab, "wharf artifact ls closed | tail -n +2 | cut -d' ' -f1"),
        "site.conf"
    );
    ok(
        lab,
        "wharf stop closed; wharf rm closed reader; test -z \"$(wharf artifact ls closed | tail -n +2)\"; wharf start closed",
    );
}

fn cp(lab: &Lab) {
    ok(
        lab,
        "echo from the host >/var/tmp/file; mkdir -p /var/tmp/tree/sub; echo leaf >/var/tmp/tree/sub/leaf; chown -R 7:8 /var/tmp/tree",
    );
    ok(
        lab,
        "wharf cp /var/tmp/file busy:/pair/in; test \"$(wharf cp busy:/pair/in - | tar -xO)\" = 'from the host'",
    );
    // Owners: root's, or kept.
    lab.ok(
        "wharf cp /var/tmp/tree busy:/plain; wharf cp -a /var/tmp/tree busy:/archive
            test $(wharf cp busy:/plain - | tar -tv --numeric-owner | grep -c ' 0/0 ') = 3
            test $(wharf cp busy:/archive - | tar -tv --numeric-owner | grep -c ' 7/8 ') = 3",
    );
    ok(
        lab,
        "tar -C /var/tmp -c tree | wharf cp - busy:/home; wharf cp busy:/home/tree/. /var/tmp/back; test \"$(cat /var/tmp/back/sub/leaf)\" = leaf",
    );
    // Volumes are where the container has them.
    ok(
        lab,
        "wharf cp /var/tmp/file busy:/data/; cmp /var/tmp/file /var/lib/wharf/volumes/data/data/file; wharf cp closed:/data/inside - >/dev/null",
    );
    // A mounted file keeps its mount.
    ok(lab, "echo 127.0.0.1 changed >/var/tmp/hosts; wharf cp /var/tmp/hosts busy:/etc/hosts
            pid=$(wharf inspect busy | grep -oP '\"pid\": \\K\\d+'); grep -q ' /etc/hosts ' /proc/$pid/mountinfo
            cmp /var/tmp/hosts /run/wharf/bundles/busy/hosts; cmp /var/tmp/hosts /proc/$pid/root/etc/hosts");
    let said = refused(lab, "wharf cp /var/tmp/file closed:/etc/");
    assert!(
        said.contains("the destination is mounted read-only"),
        "{said}"
    );
    ok(
        lab,
        "wharf cp /var/tmp/file closed:/scratch/; wharf cp closed:/scratch/file - >/dev/null",
    );
    // Links of the container lead to its own files; swapped ones to nothing else.
    ok(lab, "sha256sum /etc/passwd /etc/hostname >/var/tmp/sums; ls /etc >/var/tmp/names
            for i in $(seq 200); do wharf cp /var/tmp/file busy:/swap/d/ 2>/dev/null || true; wharf cp busy:/swap/d /var/tmp/swapped 2>/dev/null || true
            rm -rf /var/tmp/swapped; done
            sha256sum --check --quiet /var/tmp/sums; ls /etc | cmp - /var/tmp/names");
    let said = refused(lab, "wharf cp busy:/proc/1/mem /var/tmp/");
    assert!(said.contains("shows something of the kernel"), "{said}");
    ok(
        lab,
        "wharf cp busy:/. /var/tmp/all 2>/var/tmp/said; grep -q \"'all/proc' shows something of the kernel\" /var/tmp/said; test -e /var/tmp/all/data/inside",
    );
    ok(lab, "rm -rf /var/tmp/all");
}

fn k9_mount(lab: &Lab) {
    ok(lab, "dir=$(wharf mount busy); test \"$(cat $dir/etc/motd)\" = mine; not test -e $dir/data/inside; not touch $dir/x 2>/dev/null
            grep \" $dir \" /proc/self/mountinfo | grep -q 'ro,nosuid,nodev'; wharf mount | grep -q busy");
    // Somebody works in it while the container ends.
    ok(
        lab,
        "cd $(wharf mount busy)/etc; wharf stop busy; wharf mount >/var/tmp/mounts; not grep -q busy /var/tmp/mounts; not grep -q wharf/mounts /proc/self/mountinfo",
    );
    let said = refused(lab, "wharf export -o /var/tmp/none.tar busy");
    assert!(said.contains("nothing that it wrote is kept"), "{said}");
    ok(
        lab,
        "not test -e /var/tmp/none.tar; wharf start busy; dir=$(wharf mount busy); not test -e $dir/pair/in; wharf unmount busy",
    );
}

/// A container that ends while it is read is no whole archive.
fn f5_an_end_meanwhile_is_noticed(lab: &Lab) {
    ok(
        lab,
        "wharf cp /var/tmp/big busy:/busy/big; wharf cp /var/tmp/big busy:/busy/big2",
    );
    let said = refused(
        lab,
        "wharf export busy | { head -c 1M >/dev/null; wharf stop busy; cat >/dev/null; }; exit ${PIPESTATUS[0]}",
    );
    assert!(said.contains("ended while its files were read"), "{said}");
}

fn kept(lab: &Lab) {
    define(
        lab,
        "kept",
        &shell(
            "echo $((1 + $(cat /count 2>/dev/null || echo 0))) >/count",
            "persist = true\ntype = \"oneshot\"",
        ),
    );
    ok(lab, "systemctl daemon-reload; wharf cp /var/tmp/file kept:/before; wharf start kept; wharf start kept
            test \"$(wharf cp kept:/count - | tar -xO)\" = 2; echo 41 >/var/tmp/count; wharf cp /var/tmp/count kept:/count; dir=$(wharf mount kept)
            wharf start kept; not grep -q $dir /proc/self/mountinfo; test \"$(wharf cp kept:/count - | tar -xO)\" = 42
            wharf mount kept; wharf commit kept localhost/kept:1; wharf diff kept | grep -q '^A /before'; wharf export kept | tar -t | grep -qx count
            wharf rm kept; wharf mount >/var/tmp/mounts; not grep -q kept /var/tmp/mounts");
    define(
        lab,
        "new",
        "image = \"localhost/kept:1\"\ncommand = [\"cat\", \"/count\", \"/before\"]\ntype = \"oneshot\"\n",
    );
    ok(lab, "systemctl daemon-reload; wharf start new");
    assert_eq!(ok(lab, "wharf logs new"), "42\nfrom the host");
}

fn rootfs(lab: &Lab) {
    ok(lab, "mkdir -p /srv/root; wharf image load --name localhost/again:1 /var/tmp/busybox.tar >/dev/null
            wharf export -o /var/tmp/base.tar closed; tar -C /srv/root -xpf /var/tmp/base.tar");
    define(
        lab,
        "dir",
        "rootfs = \"/srv/root\"\ncommand = [\"/bin/sleep\", \"1000\"]\ninit = true\n",
    );
    ok(lab, "systemctl daemon-reload; wharf start dir; wharf cp /var/tmp/file dir:/home/; cmp /var/tmp/file /srv/root/home/file
            wharf export dir | tar -t | grep -qx home/file; wharf stop dir; wharf export dir | tar -t | grep -qx home/file");
    let said = refused(lab, "wharf commit dir");
    assert!(said.contains("a directory of the host"), "{said}");
}

fn files_of_running_containers(suite: Suite) {
    let lab = prepare(suite);
    start(&lab);
    export_and_diff(&lab);
    commit(&lab);
    cp(&lab);
    p1_a_killed_commit_leaves_nothing_frozen(&lab);
    a_commit_stopped_by_the_terminal_leaves_nothing_frozen(&lab);
    artifacts(&lab);
    k9_mount(&lab);
    f5_an_end_meanwhile_is_noticed(&lab);
    kept(&lab);
    rootfs(&lab);
    ok(
        &lab,
        "wharf stop closed; wharf rm closed busy snap new dir >/dev/null",
    );
    ok(
        &lab,
        &format!("wharf image check; wharf image inspect {IMAGE} >/dev/null"),
    );
    assert_eq!(leftovers(&lab), "");
}

#[test]
fn files_of_running_containers_on_trixie() {
    files_of_running_containers(Suite::Trixie);
}

#[test]
fn files_of_running_containers_on_bookworm() {
    files_of_running_containers(Suite::Bookworm);
}
