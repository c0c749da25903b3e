// SPDX-License-Identifier: Apache-2.0
//! Limits: what a definition says is in the unit's cgroup, is what the container sees, and is
//! enforced by the kernel; and a reboot in the middle of it all.
//!
//! One machine, booted twice. A container whose payload is [`SHELL`] runs commands that come in
//! through a FIFO, so that everything "inside" is done by a process of the container. The machine's
//! kernel has no cpuset controller and no io.weight: those two are followed as far as systemd.

use crate::support::machine;
use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

/// Runs what comes in through /box/ask. With an init, so that a TERM ends it.
const SHELL: &str = r#"
image = "localhost/busybox"
init = true
command = ["/bin/sh", "-c", "while :; do read -r line </box/ask; (eval \"$line\") >/box/answer 2>&1; done"]
volumes = ["/srv/%N:/box"]
"#;

/// Doubles a string until memory runs out.
const HOG: &str = r#"
image = "localhost/busybox"
command = ["/bin/sh", "-c", "x=a; while :; do x=$x$x; done"]
resources = { memory = "16M", memory_swap = 0 }
"#;

/// Waits to be killed.
const VICTIM: &str = r#"
image = "localhost/busybox"
command = ["sleep", "1000"]
resources = { memory = "16M" }
"#;

/// Containers that run [`SHELL`], and their other keys.
const SHELLS: &[(&str, &str)] = &[
    (
        "limited",
        r#"
        [resources]
        memory = "32M"
        memory_high = "30M"
        memory_swap = "8M"
        pids = 50
        cpus = 0.5
        cpu_weight = 321
        cpuset = "0"
        io_weight = 222
        oom_score_adj = 300
        "#,
    ),
    ("forks", "resources.pids = 20"),
    (
        "swaps",
        "resources = { memory = \"16M\", memory_swap = \"8M\", oom_policy = \"continue\" }",
    ),
    (
        "stops",
        "resources = { memory = \"16M\", memory_swap = 0, oom_policy = \"stop\" }",
    ),
    (
        "root",
        "privileged = true\nresources = { memory = \"32M\", pids = 50, cpus = 0.5 }",
    ),
    ("steady", "enabled = true"),
];

const SCRIPT: &str = r#"
exec 2>&1
inside() { echo "$2" >/srv/$1/ask; cat /srv/$1/answer; }
limits() { echo $(cat memory.max memory.high memory.swap.max pids.max cpu.max cpu.weight); }
unit() { echo /sys/fs/cgroup/ctr.slice/ctr@$1.service; }
show() { systemctl show --value --property "$2" ctr@$1; }
LIMITS='cd /sys/fs/cgroup; echo $(cat memory.max memory.high memory.swap.max pids.max cpu.max cpu.weight)'

if [ "$MACHINE_BOOT" = 1 ]; then
    wharf image load /share/busybox.tar >/dev/null
    mkdir -p /etc/wharf/containers
    for file in /share/*.toml; do
        name=$(basename $file .toml)
        mkdir -p /srv/$name
        mkfifo /srv/$name/ask /srv/$name/answer
        sed "s/%N/$name/" $file >/etc/wharf/containers/$name.toml
    done
    fallocate -l 64M /var/swap && chmod 600 /var/swap && mkswap -q /var/swap && swapon /var/swap
    systemctl daemon-reload
    systemctl start ctr@{limited,forks,swaps,stops,root,steady,victim}

    echo '@@ outside'
    (cd $(unit limited); limits)
    echo '@@ inside'
    inside limited "$LIMITS; cat /proc/self/cgroup /proc/self/oom_score_adj"
    echo '@@ only systemd'
    systemctl show --property AllowedCPUs,IOWeight ctr@limited
    echo '@@ write inside'
    inside limited 'echo max >/sys/fs/cgroup/memory.max'
    echo '@@ limited'
    wharf inspect limited
    systemctl set-property --runtime ctr@limited MemoryMax=48M MemoryHigh=40M TasksMax=33 CPUQuota=30%
    echo '@@ changed outside'
    (cd $(unit limited); limits)
    echo '@@ changed inside'
    inside limited "$LIMITS"
    echo '@@ changed status'
    wharf status limited | grep -oE 'of at most.*|at most .* CPUs'
    echo '@@ changed'
    wharf inspect limited
    echo '@@ cpu'
    inside limited 'i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done'
    awk '/^nr_throttled/ { print ($2 > 0) }' $(unit limited)/cpu.stat

    echo '@@ forks'
    inside forks 'while :; do sleep 1000 >/dev/null 2>&1 & done'
    cat $(unit forks)/pids.peak
    awk '{ print $1, ($2 > 0) }' $(unit forks)/payload/pids.events
    show forks ActiveState

    echo '@@ swaps'
    pid=$(show swaps MainPID)
    inside swaps 'dd if=/dev/zero of=/dev/shm/x bs=1M count=20 2>/dev/null; echo $?; rm /dev/shm/x'
    inside swaps 'dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2>/dev/null; echo $?; rm /dev/shm/x'
    awk '/^oom_kill / { print ($2 > 0) }' $(unit swaps)/memory.events
    [ "$pid" = "$(show swaps MainPID)" ] && show swaps ActiveState
    systemctl stop ctr@swaps
    echo '@@ swaps history'
    wharf history --json swaps

    echo '@@ root'
    inside root 'cd /sys/fs/cgroup; for file in memory.max pids.max cpu.max; do echo max >$file; done'
    inside root 'mkdir /tmp/c; mount -t cgroup2 none /tmp/c; echo max >/tmp/c/memory.max'
    inside root 'cat /sys/fs/cgroup/memory.max; ls -d /sys/fs/cgroup/*/ | xargs -n 1 basename'
    (cd $(unit root); cat memory.max pids.max cpu.max)

    systemctl start ctr@hog
    inside stops 'x=a; while :; do x=$x$x; done' >/dev/null &
    kill -KILL $(show victim MainPID)
    for name in hog stops victim; do
        while [ $(show $name SubState) != failed ]; do sleep 0.2; done
        echo "@@ $name result"
        show $name Result
        echo "@@ $name history"
        wharf history --json $name
    done
    systemctl reboot
    exit 1
fi

echo '@@ after reboot'
ls /run/wharf/bundles
find /var/lib/wharf/containers -mindepth 2 ! -name history.jsonl ! -path '*/steady/*'
show steady ActiveState
systemctl start ctr@{limited,hog,root}
inside limited "$LIMITS"
systemctl is-active ctr@limited ctr@root
systemctl stop ctr@{limited,root,steady}
while [ $(show hog SubState) != failed ]; do sleep 0.2; done
find /run/wharf/bundles -mindepth 1
find /var/lib/wharf/containers -mindepth 2 ! -name history.jsonl
ls /sys/fs/cgroup/ctr.slice 2>/dev/null | grep ctr@
for name in steady limited hog victim; do
    echo "@@ $name at last"
    wharf history --json $name
done
exit 0
"#;

#[test]
fn limits_are_seen_and_enforced_and_survive_a_reboot() {
    let share = tempfile::tempdir().unwrap();
    write_share(share.path());
    let share = share.path().to_str().unwrap();
    let run = machine::run(SCRIPT, &["--share", share, "--timeout", "300"]);
    assert_eq!(run.status, Some(0), "{}\n{}", run.output, run.complaint);
    let told = run.sections();
    let expect = |section: &str, expected: &str| {
        assert_eq!(
            told.get(section).copied(),
            Some(expected),
            "{section}\n{}",
            run.output
        );
    };
    let before = "33554432 31457280 8388608 50 50000 100000 321";
    expect("outside", before);
    expect("inside", &format!("{before}\n0::/payload\n300"));
    expect("only systemd", "AllowedCPUs=0\nIOWeight=222");
    expect(
        "write inside",
        "/bin/sh: eval: line 0: can't create /sys/fs/cgroup/memory.max: Read-only file system",
    );
    let after = "50331648 41943040 8388608 33 30000 100000 321";
    expect("changed outside", after);
    expect("changed inside", after);
    expect(
        "changed status",
        "of at most 48M\nof at most 33\nat most 0.300 CPUs",
    );
    expect("cpu", "1");
    expect(
        "forks",
        "/bin/sh: eval: line 0: can't fork: Resource temporarily unavailable\n20\nmax 1\nactive",
    );
    expect("swaps", "0\n137\n1\nactive");
    let refused = "sh: write error: Operation not permitted\n".repeat(4);
    expect(
        "root",
        &format!("{refused}33554432\nengine\npayload\n33554432\n50\n50000 100000"),
    );
    expect("hog result", "oom-kill");
    expect("stops result", "oom-kill");
    expect("victim result", "signal");
    expect(
        "after reboot",
        &format!("steady\nactive\n{before}\nactive\nactive"),
    );
    check_inspected(&told);
    check_histories(&told);
}

/// What the machine needs of the host.
fn write_share(dir: &Path) {
    machine::busybox_image(&dir.join("busybox.tar"), &["--name", "localhost/busybox"]);
    let write = |name: &str, text: &str| {
        let path = dir.join(format!("{name}.toml"));
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(path, text).unwrap();
    };
    for (name, keys) in SHELLS {
        write(name, &format!("{SHELL}{keys}"));
    }
    write("hog", HOG);
    write("victim", VICTIM);
}

/// `wharf inspect` before and after `systemctl set-property`.
fn check_inspected(told: &BTreeMap<&str, &str>) {
    let limits = |section: &str| {
        let inspected: Value = serde_json::from_str(told[section]).unwrap();
        inspected["containers"][0]["limits"].clone()
    };
    let mut expected = json!({
        "memory_max": 33_554_432, "memory_high": 31_457_280, "memory_swap_max": 8_388_608,
        "tasks_max": 50, "cpus_milli": 500, "cpu_weight": 321, "cpuset": [0], "io_weight": 222,
    });
    assert_eq!(limits("limited"), expected);
    for (key, value) in [
        ("memory_max", 50_331_648),
        ("memory_high", 41_943_040),
        ("tasks_max", 33),
        ("cpus_milli", 300),
    ] {
        expected[key] = json!(value);
    }
    assert_eq!(limits("changed"), expected);
}

/// How the runs ended, and that the second boot knows those of the first.
fn check_histories(told: &BTreeMap<&str, &str>) {
    let oom = "oom KILL oom-kill";
    // Asked to stop, the payload's shell was ended by TERM, which its init reports as 143.
    let stopped = "exited 143 success";
    for (section, expected) in [
        ("hog history", vec![oom]),
        ("victim history", vec!["signal KILL signal"]),
        // The container was stopped because one of its processes was out of memory.
        ("stops history", vec!["oom 143 oom-kill"]),
        ("swaps history", vec![stopped]),
        // The reboot stopped the first two of these.
        ("steady at last", vec![stopped, stopped]),
        ("limited at last", vec![stopped, stopped]),
        ("hog at last", vec![oom, oom]),
        ("victim at last", vec!["signal KILL signal"]),
    ] {
        assert_eq!(runs(told[section]), expected, "{section}");
    }
}

/// Each run as `reason code-or-signal service-result`.
fn runs(history: &str) -> Vec<String> {
    let history: Value = serde_json::from_str(history).unwrap();
    let runs = history["runs"].as_array().unwrap().iter();
    runs.map(|run| {
        let word = |key: &str| run[key].as_str().map(str::to_owned);
        let code = run["code"].as_i64().map(|code| code.to_string());
        let end = code.or_else(|| word("signal")).unwrap_or_default();
        let (reason, result) = (word("reason").unwrap(), word("service_result"));
        format!("{reason} {end} {}", result.unwrap_or_default())
    })
    .collect()
}
