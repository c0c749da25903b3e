// SPDX-License-Identifier: Apache-2.0
//! What every other machine test relies on: controllers, OOM kills, reboots, power cuts and disks
//! that outlive them, with plain units.

use crate::support::machine;
use crate::support::machine::{Disk, POWER_CUT};

#[test]
fn limits_are_enforced_and_reboots_survived() {
    let script = r#"
        if [ "$MACHINE_BOOT" = 1 ]; then
            cat /sys/fs/cgroup/cgroup.controllers
            systemctl is-system-running
            systemd-run --quiet --unit=capped --property=TasksMax=7 --property=CPUQuota=20% \
                --property=MemoryHigh=30M sleep 1000
            (cd /sys/fs/cgroup/system.slice/capped.service; echo $(cat pids.max cpu.max memory.high))
            systemd-run --wait --property=MemoryMax=20M --property=MemorySwapMax=0 \
                python3 -c 'x = bytearray(200 << 20)' 2>&1 | grep --only-matching 'result: .*'
            wharf --version
            systemctl reboot
            exit 1
        fi
        journalctl --quiet --list-boots | wc -l
        exit 42
    "#;
    let run = machine::run(script, &[]);
    assert_eq!(run.status, Some(42), "{run:#?}");
    let lines: Vec<&str> = run.output.lines().collect();
    let expected = [
        "cpu io memory pids",
        "running",
        "7 20000 100000 31457280",
        "result: oom-kill",
        concat!("wharf ", env!("CARGO_PKG_VERSION")),
        "2",
    ];
    assert_eq!(lines, expected, "{}", run.complaint);
}

#[test]
fn a_power_cut_loses_what_was_not_synced_only() {
    let disk = Disk::new("power-cut");
    let script = r#"
        if [ "$MACHINE_BOOT" = 1 ]; then
            echo kept >/var/synced
            sync
            echo lost >/var/unsynced
            echo cut here
            sleep 1000
        fi
        cat /var/synced
        test -s /var/unsynced && echo "unsynced data survived"
        exit 0
    "#;
    let cut = disk.run(script, &["--cut-at", "cut here"]);
    assert_eq!(cut.status, Some(POWER_CUT), "{cut:#?}");
    let after = disk.run(script, &[]);
    assert_eq!(
        (after.status, after.output.as_str()),
        (Some(0), "kept\n"),
        "{}",
        after.complaint
    );
}
