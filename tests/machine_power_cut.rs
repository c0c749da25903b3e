// SPDX-License-Identifier: Apache-2.0
//! Power cuts in the middle of `wharf image load`, while a container runs and while it is stopped.
//!
//! One disk, a boot for each cut. After every boot each listed image passes `wharf image check`, the
//! load can be repeated, and containers start with no manual step. The moments are fractions of the
//! time that the same load has just taken in the same boot, and marks of its progress.

#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

#[path = "support/machine.rs"]
mod machine;

use std::path::Path;

use machine::{Disk, POWER_CUT};

/// Layers of noise of the big image, 40 MiB together.
const LAYERS: u64 = 4;
const FILES: usize = 80;
const FILE_BYTES: usize = 128 << 10;

/// Takes a second to stop, in which the power can be cut.
const STEADY: &str = r#"
image = "localhost/small"
command = ["/bin/sh", "-c", "trap 'sleep 1; exit 0' TERM; while :; do sleep 1; done"]
"#;

/// When the power is cut: a name, and a script that ends at that moment of a load in progress.
const MOMENTS: &[(&str, &str)] = &[
    ("a tenth of the load", "after 10"),
    (
        "half of the load",
        "after 50; systemctl stop --no-block ctr@steady",
    ),
    ("most of the load", "after 85"),
    (
        "the first layer is in place",
        "until set -- /var/lib/wharf/layers/*/; [ $# -gt 1 ]; do :; done",
    ),
    ("the load has ended", "wait $load"),
];

/// `$MOMENT` is one of [`MOMENTS`].
const SCRIPT: &str = r#"
exec 2>&1
after() { sleep $(awk -v ms=$took -v percent=$1 'BEGIN { print ms * percent / 100000 }'); }
checked() {
    wharf image check >/tmp/check || { echo "$1: damaged"; cat /tmp/check; wharf image ls; exit 1; }
}
if [ "$MACHINE_BOOT" = 1 ]; then
    wharf image load /share/small || exit 1
    mkdir -p /etc/wharf/containers
    cp /share/*.toml /etc/wharf/containers/
    sync
    systemctl daemon-reload
fi
checked 'after the boot'
wharf image ls
wharf history steady
wharf history --json steady >/dev/null || exit 1
find /var/lib/wharf/containers -mindepth 2 ! -name history.jsonl | sed 's/^/left: /' | head -3
systemctl start ctr@steady || exit 1

before=$EPOCHREALTIME
wharf image load /share/big.tar >/dev/null 2>&1 || { echo 'loading again failed'; exit 1; }
took=$(((${EPOCHREALTIME/./} - ${before/./}) / 1000))
echo "a whole load takes $took ms"
checked 'loaded again'
if [ -z "$MOMENT" ]; then
    systemctl start ctr@big || exit 1
    systemctl is-active ctr@{steady,big} || exit 1
    systemctl stop ctr@steady ctr@big
    echo '@@ left'
    find /run/wharf/bundles -mindepth 1
    find /var/lib/wharf/{layers,images} -name '.staging*'
    find /var/lib/wharf/containers -mindepth 2 ! -name history.jsonl
    echo '@@ layers'
    ls /var/lib/wharf/layers | wc -l
    echo '@@ history'
    wharf history steady
    exit 0
fi
wharf image rm localhost/big >/dev/null || exit 1
wharf image load /share/big.tar >/dev/null 2>&1 &
load=$!
eval "$MOMENT"
echo 'cut here'
sleep 1000
"#;

#[test]
fn a_power_cut_leaves_whole_images_and_containers_that_start() {
    let share = tempfile::tempdir().unwrap();
    write_share(share.path());
    let share = [
        "--share",
        share.path().to_str().unwrap(),
        "--timeout",
        "200",
    ];
    let disk = Disk::new("load-cut");
    for (name, moment) in MOMENTS {
        let script = format!("MOMENT='{moment}'\n{SCRIPT}");
        let run = disk.run(&script, &[&share[..], &["--cut-at", "cut here"]].concat());
        assert_eq!(run.status, Some(POWER_CUT), "{name}: {run:#?}");
    }
    let run = disk.run(SCRIPT, &share);
    assert_eq!(run.status, Some(0), "{run:#?}");
    // The last cut came after the load had said that it is done.
    assert!(run.output.contains("localhost/big:latest"), "{run:#?}");
    let sections = run.sections();
    assert_eq!(sections["left"], "", "{run:#?}");
    assert_eq!(sections["layers"], (LAYERS + 1).to_string(), "{run:#?}");
}

/// Images and definitions: `small`, which is busybox, and `big`, with layers of noise on top.
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
    let noise = tempfile::tempdir().unwrap();
    let mut args = vec!["build".to_owned(), "--name=localhost/big".to_owned()];
    args.push(r#"--cmd=["sleep", "1000"]"#.to_owned());
    args.push(format!("--layer={}", busybox.path().display()));
    for layer in 0..LAYERS {
        let tree = noise.path().join(layer.to_string());
        write_noise(&tree, layer);
        args.push(format!("--layer={}", tree.display()));
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    machine::make_image(&dir.join("big.tar"), &args);
    write(
        &dir.join("big.toml"),
        b"image = \"localhost/big\"\ninit = true\n",
    );
    write(&dir.join("steady.toml"), STEADY.as_bytes());
}

/// Ten megabytes that do not compress, in many files.
fn write_noise(tree: &Path, layer: u64) {
    let mut state = layer + 1;
    for number in 0..FILES {
        let dir = tree.join(format!("{}", number % 8));
        std::fs::create_dir_all(&dir).unwrap();
        let words = std::iter::repeat_with(|| {
            // xorshift64 (Marsaglia 2003)
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        let bytes: Vec<u8> = words.take(FILE_BYTES / 8).flatten().collect();
        write(&dir.join(number.to_string()), &bytes);
    }
}

fn write(path: &Path, bytes: &[u8]) {
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(path, bytes).unwrap();
}
