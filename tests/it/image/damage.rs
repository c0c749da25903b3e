// SPDX-License-Identifier: Apache-2.0
//! Damage in the image store and loads that were killed or run at once
//! (threats S6, S7, S8, K1, K8, R15).

use crate::support::layout;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use wharf::engine::images::needs;
use wharf::image::check::check;
use wharf::image::load::{Source, load};
use wharf::image::store::Store;
use wharf::sys::command::Command;
use wharf::sys::mount::{Isolation, unshare_mounts};

use crate::support::layout::{Layer, Rig, archive, layers, put};
use crate::support::tar::Tar;

/// All files of the store.
fn files(rig: &Rig) -> Vec<PathBuf> {
    let all = layout::tree(rig.paths.state());
    let lock = rig.paths.images().join("lock");
    all.into_keys()
        .filter(|path| *path != lock && std::fs::symlink_metadata(path).unwrap().is_file())
        .collect()
}

fn findings(rig: &Rig) -> usize {
    // A damaged version stamp stops the store from being opened at all.
    let Ok(store) = Store::open(&rig.paths) else {
        return 1;
    };
    check(&store, &mut |_| {}).unwrap().findings.len()
}

#[test]
fn s6_every_flipped_bit_is_found() {
    let rig = Rig::in_memory();
    rig.load(&archive(&layout::layout("x", &layers()))).unwrap();
    let mut flips = 0;
    // A walk through the bits that repeats at every run; each file gets its share.
    let mut random = 12345_u64;
    for path in files(&rig) {
        let whole = std::fs::read(&path).unwrap();
        for _ in 0..12_usize.min(whole.len() * 8) {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let bit = usize::try_from(random >> 33).unwrap() % (whole.len() * 8);
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // In place, as a disk would do it: owner and mode stay.
            let flip = |bytes: &[u8]| {
                let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.write_all(bytes).unwrap();
            };
            flip(&damaged);
            assert!(findings(&rig) > 0, "bit {bit} of '{}'", path.display());
            flip(&whole);
            flips += 1;
        }
    }
    assert!(flips > 100, "{flips}");
    assert_eq!(findings(&rig), 0);
}

#[test]
fn what_cannot_be_removed_stops_no_writer() {
    let rig = Rig::in_memory();
    rig.load(&archive(&layout::layout("x", &layers()))).unwrap();
    let (images, layers_dir) = (rig.paths.images(), rig.paths.layers());
    let hex = |digit: &str| digit.repeat(64);
    // A place of each kind that a sweep looks at.
    let places = |staging: &str, half: &str, digit: &str| {
        [
            images.join(staging),
            layers_dir.join(staging),
            images.join("references").join(half),
            layers_dir.join(hex(digit)),
            images.join("blobs/sha256").join(hex(digit)),
            images.join("flights").join(hex(digit)),
        ]
    };
    // rmdir(2) and rename(2) of a mount point are EBUSY.
    unshare_mounts(rig.path(), Isolation::Slave).unwrap();
    let mounted = places(".staging-1-1", ".#x", "1");
    let mount = |verb: &str, args: &[&str], path: &Path| {
        let mut command = Command::new(verb);
        command.args(args).arg(path).run().unwrap();
    };
    for path in &mounted {
        std::fs::create_dir_all(path).unwrap();
        mount("mount", &["-t", "tmpfs", "none"], path);
    }
    // Beside them, and sorted behind: what can be removed.
    let removable = places(".staging-2-2", ".#y", "2");
    for path in &removable {
        std::fs::create_dir_all(path).unwrap();
    }
    // Nobody can tell whether this one is alive.
    let unreadable = images.join(".staging-3-3");
    std::fs::create_dir_all(&unreadable).unwrap();
    std::os::unix::fs::symlink("lease", unreadable.join("lease")).unwrap();
    let file = rig.path().join("y.tar");
    put(&file, &archive(&layout::layout("y", &layers())));
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    command
        .arg("--root")
        .arg(rig.root())
        .args(["image", "load"]);
    let output = command.arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    for path in &mounted {
        assert!(path.exists());
        // Those of flights are opened and locked first, which may fail as well.
        let verb = match path.starts_with(images.join("flights")) {
            true => "sweep",
            false => "remove",
        };
        let told = format!("cannot {verb} '{}', skipping", path.display());
        assert!(output.stderr.contains(&told), "{told}: {}", output.stderr);
    }
    assert_eq!(removable.map(|path| path.exists()), [false; 6]);
    assert!(unreadable.exists() && output.stderr.contains("cannot open"));
    rig.store.resolve("y").unwrap();
    for path in &mounted {
        mount("umount", &[], path);
    }
    std::fs::remove_dir_all(&unreadable).unwrap();
    drop(rig.store.write().unwrap());
    rig.assert_clean(&"unmounted");
}

#[test]
fn s7_k8_damage_is_named_and_a_load_repairs_it() {
    let bytes = archive(&layout::layout("x", &layers()));
    type Damage = fn(&Path, &Path);
    let damages: [(&str, Damage); 7] = [
        ("emptied", |layer, _| {
            std::fs::remove_dir_all(layer.join("fs")).unwrap()
        }),
        ("linked", |layer, outside| {
            std::fs::remove_dir_all(layer).unwrap();
            std::os::unix::fs::symlink(outside, layer).unwrap();
        }),
        ("record empty", |layer, _| {
            put(&layer.join("layer.json"), b"")
        }),
        ("record newer", |layer, _| {
            let text = String::from_utf8(std::fs::read(layer.join("layer.json")).unwrap()).unwrap();
            let newer = text.replace("\"version\":1", "\"version\":2");
            put(&layer.join("layer.json"), newer.as_bytes());
        }),
        ("record of another", |layer, _| {
            let text = String::from_utf8(std::fs::read(layer.join("layer.json")).unwrap()).unwrap();
            let name = layer.file_name().unwrap().to_str().unwrap();
            put(
                &layer.join("layer.json"),
                text.replace(name, &"0".repeat(64)).as_bytes(),
            );
        }),
        ("gone", |layer, _| std::fs::remove_dir_all(layer).unwrap()),
        ("facts gone", |layer, _| {
            std::fs::remove_file(layer.join("facts")).unwrap()
        }),
    ];
    for (name, damage) in damages {
        let rig = Rig::in_memory();
        rig.load(&bytes).unwrap();
        let other = [Layer::plain(&Tar::new().file("other", b"1").end())];
        rig.load(&archive(&layout::layout("other", &other)))
            .unwrap();
        let layer = rig.store.resolve("x").unwrap().layers.pop().unwrap();
        let layer = layer.parent().unwrap();
        damage(layer, &rig.canary());
        let report = check(&rig.store, &mut |_| {}).unwrap();
        let hex = layer.file_name().unwrap().to_str().unwrap();
        let [finding] = report.findings.as_slice() else {
            panic!("{name}: {:?}", report.findings);
        };
        assert!(finding.subject.contains(hex), "{name}: {finding:?}");
        assert_eq!(finding.images, ["docker.io/library/x:latest"], "{name}");
        rig.store.resolve("other").unwrap();
        if name == "facts gone" {
            // Nothing of the start path reads it, so a load takes the layer for whole.
            rig.store.write().unwrap().remove("x").unwrap();
        } else {
            rig.store.resolve("x").unwrap_err();
        }
        rig.load(&bytes).unwrap();
        rig.store.resolve("x").unwrap();
    }
}

#[test]
fn s7_damage_in_a_tree_is_named_by_its_path() {
    let rig = Rig::in_memory();
    rig.load(&archive(&layout::layout("x", &layers()))).unwrap();
    let tree = rig.store.resolve("x").unwrap().layers.remove(0);
    let finding = || {
        let report = check(&rig.store, &mut |_| {}).unwrap();
        report
            .findings
            .first()
            .map(|finding| finding.problem.clone())
    };
    put(&tree.join("bin/extra\n"), b"");
    assert_eq!(
        finding().unwrap(),
        "'/bin/sh' was unpacked, but '/bin/extra\\n' is there".replace("/bin/sh", "/bin/ls")
    );
    std::fs::remove_file(tree.join("bin/extra\n")).unwrap();
    assert_eq!(finding(), None);
    std::fs::remove_file(tree.join("bin/sh")).unwrap();
    std::os::unix::fs::symlink("/evil", tree.join("bin/sh")).unwrap();
    assert_eq!(finding().unwrap(), "'/bin/sh' is not as it was unpacked");
}

#[test]
fn s8_a_newer_store_is_left_alone() {
    let rig = Rig::in_memory();
    rig.load(&archive(&layout::layout("x", &layers()))).unwrap();
    put(&rig.paths.images().join("version"), b"2\n");
    let err = Store::open(&rig.paths).unwrap_err().to_string();
    assert!(err.contains("has version 2, this wharf knows 1"), "{err}");
    put(&rig.paths.images().join("version"), b"1\n");
    rig.assert_clean(&"version");
}

#[test]
fn k1_a_load_killed_anywhere_leaves_nothing_half() {
    let rig = Rig::in_memory();
    let file = rig.path().join("x.tar");
    put(&file, &archive(&layout::docker(&["x"], &layers())));
    let root = rig.root();
    let strace = |inject: &str| {
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-f", "-o", "/dev/null", "-e", inject]);
        strace.arg(env!("CARGO_BIN_EXE_wharf"));
        strace
            .arg("--root")
            .arg(&root)
            .args(["image", "load"])
            .arg(&file);
        strace.output().unwrap()
    };
    let mut kills = 0;
    // Every call that changes something, at each of its first occurrences and then in steps.
    for call in [
        "mkdirat",
        "mkdir",
        "openat",
        "write",
        "fchown",
        "symlinkat",
        "linkat",
        "mknodat",
        "rename",
        "renameat",
        "fsync",
        "syncfs",
        "unlinkat",
        "flock",
    ] {
        for when in [1, 2, 3, 5, 8, 13, 21, 40, 80] {
            let output = strace(&format!("inject={call}:signal=KILL:when={when}"));
            if output.status.success() {
                // There are not that many; the image is there now.
                let writer = rig.store.write().unwrap();
                writer.remove("x").unwrap();
                writer.collect().unwrap();
                break;
            }
            kills += 1;
            let store = needs::store(&rig.paths).unwrap();
            let report = check(&store, &mut |_| {}).unwrap();
            assert!(report.findings.is_empty(), "{call} {when}: {report:?}");
            // Visible means whole.
            if !store.records().unwrap().is_empty() {
                store.resolve("x").unwrap();
            }
            load(&store, Source::Path(file.clone()), None, &mut |_| {}).unwrap();
            rig.assert_clean(&format!("{call} {when}"));
            store.resolve("x").unwrap();
            let writer = store.write().unwrap();
            writer.remove("x").unwrap();
            writer.collect().unwrap();
            rig.assert_empty(&format!("{call} {when}"));
        }
    }
    assert!(kills > 40, "only {kills} loads were killed");
}

#[test]
fn r15_two_loads_at_once() {
    let rig = Rig::in_memory();
    let file = rig.path().join("x.tar");
    put(&file, &archive(&layout::layout("x", &layers())));
    let bad = rig.path().join("bad.tar");
    let mut wrong = layers();
    wrong[2].blob.truncate(600);
    put(&bad, &archive(&layout::layout("x", &wrong)));
    std::thread::scope(|scope| {
        for index in 0..6 {
            let path = if index % 3 == 2 { &bad } else { &file };
            let store = &rig.store;
            scope.spawn(move || {
                let loaded = load(store, Source::Path(path.clone()), None, &mut |_| {});
                assert_eq!(loaded.is_ok(), index % 3 != 2, "{loaded:?}");
            });
        }
    });
    rig.store.resolve("x").unwrap();
    rig.assert_clean(&"six loads");
}

#[test]
fn a_load_that_is_gone_is_swept_but_a_living_one_is_not() {
    let rig = Rig::in_memory();
    rig.load(&archive(&layout::layout("x", &layers()))).unwrap();
    let stale = rig.paths.layers().join(".staging-1-1/layer/fs");
    let orphan = rig.paths.layers().join("0".repeat(64));
    let foreign = rig.paths.layers().join("lost+found");
    for dir in [&stale, &orphan, &foreign] {
        std::fs::create_dir_all(dir).unwrap();
    }
    let alive = std::fs::File::open(rig.paths.images().join("lock")).unwrap();
    alive.lock_shared().unwrap();
    drop(rig.store.write().unwrap());
    assert!(stale.exists() && orphan.exists());
    drop(alive);
    drop(rig.store.write().unwrap());
    assert!(!stale.exists() && !orphan.exists() && foreign.exists());
    rig.store.resolve("x").unwrap();
}
