// SPDX-License-Identifier: Apache-2.0
//! What a container sees: every key of a definition that changes it, from the inside.
//!
//! Each probe is a container that prints facts to the journal and ends; all run at once in one lab,
//! and what they printed is compared with what their definitions say.

use std::fmt::Write as _;

use crate::support::container::{define, leftovers, prepare, shell, unit, use_runtime};
use crate::support::lab::{Lab, Suite};

/// A container, what it runs, and what it must print.
struct Probe {
    name: &'static str,
    keys: &'static str,
    script: &'static str,
    expected: &'static str,
}

/// Capabilities are bits: 800405fb are CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID,
/// SETPCAP, NET_BIND_SERVICE, SYS_CHROOT and SETFCAP, the default.
const PROBES: &[Probe] = &[
    Probe {
        name: "identity",
        keys: r#"user = "app:extra"
                 group_add = ["nogroup"]"#,
        script: "id -u; id -g; id -G; echo $HOME; pwd; grep NoNewPrivs /proc/self/status",
        expected: "1000\n2000\n2000 65534\n/home/app\n/\nNoNewPrivs:\t1",
    },
    Probe {
        name: "numbers",
        keys: r#"user = "4321:1234"
                 no_new_privileges = false"#,
        script: "id -u; id -g; id -G; echo $HOME; grep -E 'NoNewPrivs|CapEff' /proc/self/status",
        expected: "4321\n1234\n1234\n/\nCapEff:\t0000000000000000\nNoNewPrivs:\t0",
    },
    Probe {
        name: "environment",
        keys: r#"environment = { A = "definition", B = "x  y%$ä", N = 5 }
                 env_file = ["/etc/probe.env", "-/etc/absent.env"]
                 working_dir = "/home/app""#,
        script: "echo \"$A|$B|$C|$N\"; echo $PATH; pwd; env | grep -cE 'NOTIFY|INVOCATION|LISTEN|JOURNAL|SYSTEMD|CREDENTIALS'",
        expected: "definition|x  y%$ä|file|5\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n/home/app\n0",
    },
    Probe {
        name: "volumes",
        keys: r#"volumes = ["/srv/rw:/rw", "/srv/ro:/ro:ro", "data:/home", "/srv/file:/etc/file", "/srv/rw:/flags:nosuid,nodev,noexec", "/anonymous"]
                 tmpfs = ["/scratch:size=64k,mode=0700"]"#,
        script: "cat /rw/given /etc/file; echo made >/rw/made; touch /ro/x 2>&1
            stat -c '%n %u %a' /home/app; echo kept >>/home/kept; wc -l </home/kept
            grep -oE ' /flags [^ ]*' /proc/self/mountinfo; touch /anonymous/x && echo anonymous
            df -k /scratch | awk 'END { print $2 }'; stat -c %a /scratch; touch /scratch/x",
        expected: "given\nfile\ntouch: /ro/x: Read-only file system\n/home/app 1000 755\n1\n /flags rw,nosuid,nodev,noexec,relatime\nanonymous\n64\n700",
    },
    Probe {
        name: "read-only",
        keys: "read_only = true",
        script: "touch /x 2>&1; touch /etc/x 2>&1; for d in /run /tmp /var/tmp /dev/shm; do touch $d/x && stat -c '%n %a' $d; done",
        expected: "touch: /x: Read-only file system\ntouch: /etc/x: Read-only file system\n/run 755\n/tmp 1777\n/var/tmp 1777\n/dev/shm 1777",
    },
    Probe {
        name: "names",
        keys: "hostname = \"box.example.org\"\ndomainname = \"lab.example\"",
        script: "cat /proc/sys/kernel/domainname; hostname; cat /etc/hostname; grep -c '127.0.0.1.*box.example.org' /etc/hosts; cat /etc/resolv.conf; nc box 9 2>&1",
        expected: "lab.example\nbox.example.org\nbox.example.org\n1\nnameserver 192.0.2.53\nsearch example.org\nnc: can't connect to remote host (127.0.0.1): Connection refused",
    },
    Probe {
        name: "limits",
        keys: r#"shm_size = "1M"
                 ulimits = { nofile = "100:200", core = 0, stack = 1048576 }
                 sysctls = { "net.ipv4.ip_unprivileged_port_start" = 81, "kernel.msgmax" = "4096" }"#,
        script: "df -k /dev/shm | awk 'END { print $2 }'; ulimit -n; ulimit -Hn; ulimit -c; ulimit -s
            cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax",
        expected: "1024\n100\n200\n0\n1024\n81\n4096",
    },
    Probe {
        name: "defaults",
        keys: "",
        script: "hostname; grep CapEff /proc/self/status; grep CapBnd /proc/self/status; grep 'Seccomp:' /proc/self/status
            df -k /dev/shm | awk 'END { print $2 }'; tail -n 1 /proc/self/cgroup; echo $$; cat /proc/1/comm
            ls -1 /proc/self/fd | wc -l; readlink /proc/self/fd/0; ip -o link | cut -d: -f2; ls /sys/class/net
            umask; echo $PPID; unshare -U true 2>&1; mount -t tmpfs tmpfs /mnt 2>&1; mknod /tmp/sda b 8 0 2>&1",
        expected: "defaults\nCapEff:\t00000000800405fb\nCapBnd:\t00000000800405fb\nSeccomp:\t2\n65536\n0::/payload\n1\nsh\n4\n/dev/null\n lo\nlo\n0022\n0\nunshare: unshare(0x10000000): Operation not permitted\nmount: permission denied (are you root?)\nmknod: /tmp/sda: Operation not permitted",
    },
    Probe {
        name: "hidden",
        keys: r#"mask = ["/home"]"#,
        script: "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; ls -A /sys/firmware /home | wc -l
            (echo 1 >/proc/sys/kernel/panic) 2>&1; (echo x >/sys/kernel/uevent_helper) 2>&1 | grep -o 'Read-only.*'; (mkdir /sys/fs/cgroup/x) 2>&1",
        expected: "0\n3\n/bin/sh: can't create /proc/sys/kernel/panic: Read-only file system\nRead-only file system\nmkdir: can't create directory '/sys/fs/cgroup/x': Read-only file system",
    },
    Probe {
        name: "unhidden",
        keys: r#"unmask = ["/proc/keys", "/proc/sys"]"#,
        script: "test $(grep -c ' /proc/keys ' /proc/self/mountinfo) = 0 && echo visible; (cat /proc/sys/kernel/hostname >/proc/sys/kernel/hostname) && echo writable",
        expected: "visible\nwritable",
    },
    Probe {
        name: "no-caps",
        keys: r#"cap_drop = ["ALL"]
                 cap_add = ["NET_ADMIN", "CAP_CHOWN"]"#,
        script: "grep -E 'Cap(Eff|Prm|Bnd|Amb)' /proc/self/status; ip link set lo down && echo admin",
        expected: "CapPrm:\t0000000000001001\nCapEff:\t0000000000001001\nCapBnd:\t0000000000001001\nCapAmb:\t0000000000000000\nadmin",
    },
    Probe {
        name: "unconfined",
        keys: r#"seccomp = "unconfined""#,
        script: "grep 'Seccomp:' /proc/self/status; unshare -U true && echo unshared",
        expected: "Seccomp:\t0\nunshared",
    },
    Probe {
        name: "privileged",
        keys: "privileged = true",
        script: "grep 'Seccomp:' /proc/self/status; mkdir /t; mount -t tmpfs tmpfs /t && echo mounted
            sysctl -w kernel.hostname=other",
        expected: "Seccomp:\t0\nmounted\nkernel.hostname = other",
    },
    Probe {
        name: "alone",
        keys: r#"network = "none""#,
        script: "ip -o link | grep -oE '<[A-Z_,]*>'; wc -c </etc/resolv.conf",
        expected: "<LOOPBACK,UP,LOWER_UP>\n0",
    },
    Probe {
        name: "private",
        keys: r#"network = "private""#,
        script: "ip -o addr | awk '{ print $4 }'",
        expected: "127.0.0.1/8\n::1/128",
    },
    Probe {
        name: "hosted",
        keys: r#"network = "host""#,
        script: "readlink /proc/self/ns/net; cat /etc/resolv.conf",
        expected: "HOST_NET\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch example.org",
    },
    Probe {
        name: "devices",
        keys: r#"devices = ["/dev/fuse:/dev/fuse2:r"]"#,
        script: "cd /dev; ls | grep -v core | tr '\\n' ' '; echo; (: <fuse2) && echo read; (: >fuse2) 2>&1",
        expected: "fd full fuse2 mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero\nread\n/bin/sh: can't create fuse2: Operation not permitted",
    },
    Probe {
        name: "init",
        keys: "init = true",
        script: "(sleep 0.1 & exec sleep 0) ; sleep 0.3; echo $PPID; ps -o stat | grep -c Z; tr '\\0' '\\n' </proc/1/cmdline | head -n 1; stat -c %U /proc/1",
        expected: "1\n0\n/dev/wharf-init\nroot",
    },
    // What a terminal still holds when its container ends is lost with the relay.
    Probe {
        name: "terminal",
        keys: "tty = true",
        script: "tty; test -t 0 && test -t 1 && test -t 2 && echo terminal; ls -l /dev/console | cut -c1; sleep 0.3",
        expected: "/dev/pts/0\nterminal\nc",
    },
    Probe {
        name: "writers",
        keys: r#"user = "app""#,
        script: "echo one; echo two >/dev/stdout; echo three >/proc/1/fd/1; printf 'no newline'",
        expected: "one\ntwo\nthree\nno newline",
    },
    Probe {
        name: "errors",
        keys: r#"user = "app""#,
        script: "echo one >&2; echo two >/dev/stderr; echo three >/proc/self/fd/2",
        expected: "one\ntwo\nthree",
    },
];

/// Runs every probe and compares.
fn probe(lab: &Lab) {
    lab.ok("mkdir -p /srv/rw /srv/ro; rm -f /srv/rw/made; echo given >/srv/rw/given; echo file >/srv/file
            printf '# comment\\nA=file\\nC=file\\n' >/etc/probe.env
            printf 'nameserver 127.0.0.53\\nnameserver 192.0.2.53\\nsearch example.org\\n' >/etc/resolv.conf
            rm -rf /var/lib/wharf/volumes /etc/wharf/containers");
    for probe in PROBES {
        define(lab, probe.name, &shell(probe.script, probe.keys));
    }
    let units: Vec<String> = PROBES.iter().map(|probe| unit(probe.name)).collect();
    lab.sh(&format!(
        "systemctl daemon-reload; systemctl start {}",
        units.join(" ")
    ));
    lab.wait_for("! systemctl list-units --no-legend 'ctr@*' | grep -qE ' (activating|active|deactivating) '");
    let names: Vec<&str> = PROBES.iter().map(|probe| probe.name).collect();
    let logs = lab.ok(&format!(
        "journalctl --sync; for name in {}; do wharf logs $name; echo ====; done",
        names.join(" ")
    ));
    let mut logs = logs.split("====").map(|log| log.trim_start_matches('\n'));
    let net = lab.ok("readlink /proc/self/ns/net");
    let mut wrong = String::new();
    for probe in PROBES {
        let printed = logs.next().unwrap().trim_end_matches('\n');
        let expected = probe.expected.replace("HOST_NET", &net);
        if printed != expected {
            writeln!(
                wrong,
                "--- {}\n{expected}\n+++ printed\n{printed}\n",
                probe.name
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert_eq!(lab.read("/srv/rw/made"), "made\n");
    lab.ok("systemctl reset-failed");
    assert_eq!(leftovers(lab), "");
}

#[test]
fn trixie_containers_see_what_their_definitions_say() {
    let lab = prepare(Suite::Trixie);
    probe(&lab);
    use_runtime(&lab, "runc");
    probe(&lab);
}

#[test]
fn bookworm_containers_see_what_their_definitions_say() {
    probe(&prepare(Suite::Bookworm));
}
