// SPDX-License-Identifier: Apache-2.0
//! Power cuts in the middle of load, pull, commit, rm and prune (threats K4, rig CUT), while a
//! container runs or stops.
//!
//! One disk, a boot for each cut. After every boot the full check finds every visible image whole, what
//! had been reported as done is done, the command that was cut can be repeated, and containers start
//! with no manual step. The moment is a random part of the time that the same command takes in full; some
//! come right after its end. `WHARF_POWER_CUTS=50` makes so many cuts, `WHARF_POWER_CUTS_SEED` repeats
//! a run's moments. docs/testing.md says what the cut of this machine loses.

use crate::support::machine;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::machine::{Disk, POWER_CUT};

/// Cuts in a row, each command in turn.
const CUTS: usize = 5;
const COMMANDS: [&str; 5] = ["load", "pull", "commit", "rm", "prune"];

/// Layers of noise of the big image, 12 MiB together.
const LAYERS: u64 = 4;
const FILES: usize = 48;
const FILE_BYTES: usize = 64 << 10;

/// Takes a second to stop, in which the power can be cut.
const STEADY: &str = r#"
image = "localhost/small"
command = ["/bin/sh", "-c", "trap 'sleep 1; exit 0' TERM; while :; do sleep 1; done"]
persist = true
"#;

const REGISTRIES: &str = r#"
[[registries]]
prefix = "127.0.0.1:5000"
insecure = true
"#;

const REGISTRY: &str = "version: 0.1
log: { level: warn, accesslog: { disabled: true } }
storage: { filesystem: { rootdirectory: /var/lib/registry } }
http: { addr: '127.0.0.1:5000' }
";

/// `$NEXT` is the command to cut after `$PERCENT` of its time, `$LAST` the one that was cut, which had
/// ended if `$ENDED`.
const SCRIPT: &str = r#"
exec 2>&1
fail() { echo "WRONG: $*"; wharf image ls; cat /tmp/said; exit 1; }
tried() { "$@" >/tmp/said 2>&1 || fail "$*"; }
has() { wharf image inspect "$1" >/dev/null 2>&1; }
now() { echo ${EPOCHREALTIME/./}; }

do_load() { wharf image load /share/big.tar; }
do_pull() { wharf image pull 127.0.0.1:5000/big; }
do_commit() { wharf commit steady localhost/made; }
do_rm() { if [ -z "$repeated" ] || has localhost/big; then wharf image rm localhost/big; fi; }
do_prune() { wharf image prune --all; }
is_done() {
    case $1 in
    load) has localhost/big ;;
    pull) has 127.0.0.1:5000/big ;;
    commit) has localhost/made ;;
    rm | prune) ! has localhost/big ;;
    esac
}
# Makes the store one in which the command $1 has everything to do.
prepare() {
    tried wharf image prune --all
    case $1 in
    rm | prune) tried do_load ;;
    pull) start_registry ;;
    esac
}
start_registry() {
    (: </dev/tcp/127.0.0.1/5000) 2>/dev/null && return
    systemd-run --quiet --unit registry docker-registry serve /share/registry.yml
    for _ in $(seq 300); do (: </dev/tcp/127.0.0.1/5000) 2>/dev/null && return; sleep 0.2; done
    fail 'the registry does not listen'
}
checked() {
    tried wharf image check
    echo "checked $1: $(tail -n1 /tmp/said)"
}

if [ "$MACHINE_BOOT" = 1 ]; then
    mkdir -p /etc/wharf/containers
    cp /share/steady.toml /etc/wharf/containers/
    cp /share/wharf.toml /etc/wharf/
    tried wharf image load /share/small
    systemctl daemon-reload
    tried systemctl start ctr@steady
    tried wharf cp /share/written steady:/srv
    tried do_load
    start_registry
    tried wharf image push localhost/big 127.0.0.1:5000/big
    sync
fi
checked 'after the boot'
echo "visible $(wharf image ls --quiet | wc -l)"
[ -z "$ENDED" ] || is_done "$LAST" || fail "$LAST had ended, and its work is gone"
tried wharf history steady
tried wharf history --json steady
find /var/lib/wharf/containers -mindepth 2 -maxdepth 2 ! -name history.jsonl ! -name kept
tried systemctl start ctr@steady
if [ -n "$LAST" ]; then
    [ "$LAST" != pull ] || start_registry
    repeated=yes tried "do_$LAST"
    is_done "$LAST" || fail "$LAST again"
    checked 'repeated'
fi
if [ -z "$NEXT" ]; then
    tried systemctl stop ctr@steady
    tried wharf image prune --all
    echo '@@ left'
    find /run/wharf/bundles -mindepth 1
    find /var/lib/wharf/{layers,images} -name '.staging*'
    find /var/lib/wharf/containers -mindepth 2 -maxdepth 2 ! -name history.jsonl ! -name kept
    echo '@@ layers'
    ls /var/lib/wharf/layers | wc -l
    exit 0
fi
if [ ! -s /root/took-$NEXT ]; then
    prepare $NEXT
    before=$(now)
    tried do_$NEXT
    echo $(($(now) - before)) >/root/took-$NEXT
fi
prepare $NEXT
# The cut shall find the command's own writes in flight, not those that prepared it.
sync
took=$(</root/took-$NEXT)
before=$(now)
do_$NEXT >/tmp/said 2>&1 &
if [ $PERCENT -lt 100 ]; then
    [ $NEXT != load ] || systemctl stop --no-block ctr@steady
    left=$((took * PERCENT / 100 - $(now) + before))
    [ $left -le 0 ] || sleep $(printf '%d.%06d' $((left / 1000000)) $((left % 1000000)))
else
    wait $! || fail "$NEXT"
fi
if kill -0 $! 2>/dev/null; then ended=; else ended=', which had ended'; fi
echo "cut here: $NEXT after $((($(now) - before) / 1000)) of $((took / 1000)) ms$ended"
sleep 1000
"#;

/// What became of the cuts of one command.
#[derive(Debug, Default)]
struct Tally {
    cuts: usize,
    /// The command had ended by itself before the cut.
    ended: usize,
}

#[test]
fn k4_a_power_cut_leaves_whole_images_and_containers_that_start() {
    let share = tempfile::tempdir().unwrap();
    write_share(share.path());
    let share = share.path().to_str().unwrap();
    let disk = Disk::new("power-cut");
    let cuts = number("WHARF_POWER_CUTS").map_or(CUTS, |cuts| usize::try_from(cuts).unwrap());
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("WHARF_POWER_CUTS_SEED").unwrap_or(clock.as_secs());
    println!("{cuts} cuts, WHARF_POWER_CUTS_SEED={seed}");
    let mut random = noise(seed);
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    let (mut visible, mut checks) = (0, 0);
    let mut last = String::new();
    for cut in 0..=cuts {
        let next = (cut < cuts).then(|| COMMANDS[cut % COMMANDS.len()]);
        // A tenth of the moments is after the end.
        let percent = random.next().unwrap() % 110;
        let named = next.unwrap_or_default();
        let script = format!("NEXT={named} PERCENT={percent}\n{last}\n{SCRIPT}");
        let options = ["--share", share, "--timeout", "400"];
        let run = disk.run(&script, &[&options[..], &["--cut-at", "cut here"]].concat());
        let expected = next.map_or(0, |_| POWER_CUT);
        assert_eq!(run.status, Some(expected), "cut {cut}: {run:#?}");
        for line in run.output.lines() {
            println!("cut {cut}: {line}");
        }
        let lines = || run.output.lines();
        checks += lines().filter(|line| line.starts_with("checked ")).count();
        let seen = lines().find_map(|line| line.strip_prefix("visible "));
        visible += seen.unwrap().trim().parse::<usize>().unwrap();
        let Some(next) = next else {
            let sections = run.sections();
            assert_eq!(sections["left"], "", "{run:#?}");
            assert_eq!(sections["layers"], "1", "{run:#?}");
            continue;
        };
        let ended = run.output.contains("which had ended");
        last = format!("LAST={next} ENDED={}", if ended { "yes" } else { "" });
        let tally = tallies.entry(next).or_default();
        tally.cuts += 1;
        tally.ended += usize::from(ended);
        println!(
            "after {} cuts: {tallies:?}, {visible} images visible, {checks} checks",
            cut + 1
        );
    }
}

fn number(variable: &str) -> Option<u64> {
    let given = std::env::var(variable).ok()?;
    Some(given.parse().unwrap())
}

/// xorshift64 (Marsaglia 2003)
fn noise(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
}

/// `small`, which is busybox, and `big`, with layers of noise on top; noise that a container writes;
/// and configuration.
fn write_share(dir: &Path) {
    let small = dir.join("small");
    let options = [
        "--name",
        "localhost/small",
        "--format",
        "oci-dir",
        "--compress",
        "none",
    ];
    machine::busybox_image(&small, &options);
    let blobs = std::fs::read_dir(small.join("blobs/sha256")).unwrap();
    let busybox = blobs
        .map(|blob| blob.unwrap())
        .max_by_key(|blob| blob.metadata().unwrap().len())
        .unwrap();
    let layers = tempfile::tempdir().unwrap();
    let mut args = vec!["build".to_owned(), "--name=localhost/big".to_owned()];
    args.push(format!("--layer={}", busybox.path().display()));
    for layer in 0..LAYERS {
        let tree = layers.path().join(layer.to_string());
        write_noise(&tree, layer);
        args.push(format!("--layer={}", tree.display()));
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    machine::make_image(&dir.join("big.tar"), &args);
    write_noise(&dir.join("written"), LAYERS);
    write(&dir.join("steady.toml"), STEADY.as_bytes());
    write(&dir.join("wharf.toml"), REGISTRIES.as_bytes());
    write(&dir.join("registry.yml"), REGISTRY.as_bytes());
}

/// Three megabytes that do not compress, in many files.
fn write_noise(tree: &Path, seed: u64) {
    let mut words = noise(seed + 1);
    for number in 0..FILES {
        let dir = tree.join(format!("{}", number % 8));
        std::fs::create_dir_all(&dir).unwrap();
        let words = words.by_ref().map(u64::to_le_bytes);
        let bytes: Vec<u8> = words.take(FILE_BYTES / 8).flatten().collect();
        write(&dir.join(number.to_string()), &bytes);
    }
}

fn write(path: &Path, bytes: &[u8]) {
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(path, bytes).unwrap();
}
