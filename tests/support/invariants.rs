// SPDX-License-Identifier: Apache-2.0
//! The invariant checker: what must not be left on a machine where no container runs, whatever
//! ended it (threats, rig INV). Included by `container.rs`.

use crate::support::lab::Lab;

/// What wharf has left on a machine where no container runs, one thing a line; nothing at best.
///
/// crun's own cache of seccomp programs stays: it belongs to no container.
///
/// Of mounts it is the mount point that counts: the lab's own have the path of the checkout in them,
/// which may hold any word.
///
/// It looks at what the kernel and systemd have, not at wharf's notes: processes, PID 1's mounts,
/// control groups, network namespaces, locks, stored descriptors, jobs, transient units, sockets,
/// and files of a run or half-made ones. A lock's file stays, as removing one would race with
/// whoever waits for it; so does a volume's data.
pub(crate) fn leftovers(lab: &Lab) -> String {
    lab.ok(r"
        find /run/wharf -mindepth 1 ! -path '/run/wharf/locks*' ! -path /run/wharf/bundles \
            ! -path /run/wharf/runtime ! -path /run/wharf/failures ! -path '/run/wharf/runtime/.cache*' 2>/dev/null || true
        find /run/wharf/locks -name '.*' 2>/dev/null || true
        find /var/lib/wharf/containers -mindepth 2 ! -name history.jsonl 2>/dev/null || true
        find /var/lib/wharf -path '/var/lib/wharf/layers/*/fs' -prune -o \( -name '.#*' -o -name '.trash-*' -o -name '.new-*' \
            -o -name '.staging-*' \) -print 2>/dev/null || true
        find /sys/fs/cgroup/ctr.slice -mindepth 1 -type d 2>/dev/null || true
        awk '$5 ~ /wharf/ || / - overlay [/]run/' /proc/1/mountinfo
        ps -eo pid,stat,comm | grep -E 'wharf|crun|runc|strace' || true
        systemctl list-jobs --no-legend
        systemctl show --property Id,NFileDescriptorStore,MainPID,ControlPID 'ctr@*.service' |
            grep -E '^(NFileDescriptorStore|MainPID|ControlPID)=[^0]' || true
        find /run/systemd/transient -name 'ctr*' 2>/dev/null || true
        lslocks --noheadings --output PATH | grep '^/run/wharf' || true
        grep /run/wharf /proc/net/unix || true
        ip netns list")
}
