// SPDX-License-Identifier: Apache-2.0
//! `wharf image check --repair`: every flipped bit is found, and only what is damaged is made or
//! fetched again (threats S6, S7, S8, K8).
//!
//! `WHARF_BIT_FLIPS` sets how many bits are flipped; 100 unless set.

use crate::support::layout;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use wharf::sys::command::Command;

use crate::support::hub::Hub;
use crate::support::image_cli::{ok, run};
use crate::support::layout::{Layer, Rig, archive, layers, put};
use crate::support::tar::{Tar, gzip};

/// An image in a store and on a registry, and another one beside it.
struct Scene {
    rig: Rig,
    hub: Hub,
    name: String,
    /// Is on no registry.
    other: String,
}

impl Scene {
    fn new() -> Self {
        let (rig, hub) = (Rig::in_memory(), Hub::new());
        hub.allow(&rig.root());
        let name = format!("{}/app:1", hub.host());
        rig.load(&archive(&layout::layout(&name, &layers())))
            .unwrap();
        let tar = Tar::new().file("other", b"1").end();
        let other = format!("{}/other:1", hub.host());
        rig.load(&archive(&layout::layout(&other, &[Layer::plain(&tar)])))
            .unwrap();
        ok(&rig.root(), &["push", "--quiet", &name]);
        Self {
            rig,
            hub,
            name,
            other,
        }
    }

    fn root(&self) -> PathBuf {
        self.rig.root()
    }

    /// Files of state: all but the lock, which holds none.
    fn files(&self) -> Vec<PathBuf> {
        let lock = self.rig.paths.images().join("lock");
        let all = layout::tree(self.rig.paths.state()).into_keys();
        all.filter(|path| *path != lock && path.symlink_metadata().unwrap().is_file())
            .collect()
    }

    /// Repairs, and returns the findings and the requests that this took.
    fn repair(&self) -> (i32, Vec<Value>, Vec<String>) {
        let before = self.hub.requests().len();
        let output = run(&self.root(), &["check", "--repair", "--json"]);
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let findings = report["findings"].as_array().unwrap().clone();
        let requests = self.hub.requests().split_off(before);
        (output.status.code().unwrap(), findings, requests)
    }
}

/// A walk through numbers that is the same at every run.
struct Walk(u64);

impl Walk {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// In place, as a disk would do it: owner, mode and inode stay.
fn overwrite(path: &Path, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn s6_flipped_bits_are_found_and_repaired() {
    let flips = std::env::var("WHARF_BIT_FLIPS").map_or(100, |text| text.parse().unwrap());
    let scene = Scene::new();
    let version = scene.rig.paths.images().join("version");
    let (mut found, mut repaired, mut fetched) = (0, 0, 0);
    let mut walk = Walk(20_261_121);
    let mut unrepaired = std::collections::BTreeMap::new();
    for round in 0..flips {
        let files = scene.files();
        let path = &files[walk.below(files.len())];
        let whole = std::fs::read(path).unwrap();
        if whole.is_empty() {
            continue;
        }
        let bit = walk.below(whole.len() * 8);
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        overwrite(path, &damaged);
        let context = format!("{round}: bit {bit} of '{}'", path.display());
        if *path == version {
            // Such a store is not opened at all.
            assert_eq!(
                run(&scene.root(), &["check"]).status.code(),
                Some(1),
                "{context}"
            );
            overwrite(path, &whole);
            (found, repaired) = (found + 1, repaired + 1);
            continue;
        }
        let (status, findings, requests) = scene.repair();
        assert!(!findings.is_empty(), "{context}: not found");
        found += 1;
        if status == 0 {
            repaired += 1;
            fetched += usize::from(!requests.is_empty());
        } else {
            // What no registry has: the other image's documents, blob and reference.
            let reason = findings[0]["subject"].as_str().unwrap().to_owned();
            *unrepaired.entry(reason).or_insert(0) += 1;
            overwrite(path, &whole);
        }
        assert_eq!(
            run(&scene.root(), &["check"]).status.code(),
            Some(0),
            "{context}"
        );
        scene.rig.store.resolve(&scene.name).unwrap();
        scene.rig.store.resolve(&scene.other).unwrap();
    }
    println!("{flips} flips: {found} found, {repaired} repaired ({fetched} with the network)");
    println!("not repaired: {unrepaired:#?}");
    assert!(found * 20 > flips * 19, "{found} of {flips}");
    assert!(repaired > flips / 2 && fetched > 0, "{repaired}, {fetched}");
    // Only the image that is on no registry is beyond repair, and only its blobs and names.
    let (_, other) = scene.rig.store.find(&scene.other).unwrap();
    let documents = scene.rig.store.documents(&other).unwrap();
    let mut beyond = vec![
        other.to_string(),
        documents.manifest.config.digest.to_string(),
    ];
    beyond.extend(
        documents
            .manifest
            .layers
            .iter()
            .map(|l| l.digest.to_string()),
    );
    for subject in unrepaired.keys() {
        let known = beyond
            .iter()
            .any(|digest| subject.ends_with(digest.as_str()));
        assert!(known || subject.contains("other"), "{subject}");
    }
}

#[test]
fn s7_a_layer_is_unpacked_again_without_the_network() {
    type Damage = fn(&Path, &Path);
    let damages: [(&str, Damage); 6] = [
        ("emptied", |layer, _| {
            std::fs::remove_dir_all(layer.join("fs")).unwrap();
            std::fs::create_dir(layer.join("fs")).unwrap();
        }),
        ("gone", |layer, _| std::fs::remove_dir_all(layer).unwrap()),
        ("linked", |layer, outside| {
            std::fs::remove_dir_all(layer).unwrap();
            std::os::unix::fs::symlink(outside, layer).unwrap();
        }),
        ("changed", |layer, _| {
            put(&layer.join("fs/srv/www/index.html"), b"<p>ho");
        }),
        ("facts gone", |layer, _| {
            std::fs::remove_file(layer.join("facts")).unwrap();
        }),
        ("record of another version", |layer, _| {
            put(&layer.join("layer.json"), br#"{"version":2}"#);
        }),
    ];
    let scene = Scene::new();
    for (name, damage) in damages {
        let layer = scene.rig.store.resolve(&scene.name).unwrap().layers.pop();
        let layer = layer.unwrap().parent().unwrap().to_owned();
        damage(&layer, &scene.rig.canary());
        scene.rig.store.resolve(&scene.other).unwrap();
        let (status, findings, requests) = scene.repair();
        assert_eq!(status, 0, "{name}: {findings:?}");
        assert!(findings.iter().all(|f| f["repaired"] == true), "{name}");
        assert_eq!(findings[0]["images"][0], scene.name, "{name}");
        assert_eq!(requests, Vec::<String>::new(), "{name}");
        let index = layer.join("fs/srv/www/index.html");
        assert_eq!(std::fs::read(index).unwrap(), b"<p>hi", "{name}");
        scene.rig.assert_clean(&name);
    }
}

#[test]
fn only_what_is_damaged_is_fetched() {
    let scene = Scene::new();
    let (_, digest) = scene.rig.store.find(&scene.name).unwrap();
    let documents = scene.rig.store.documents(&digest).unwrap();
    let config = documents.manifest.config.digest;
    let layer = documents.manifest.layers[1].digest;
    for (blob, request) in [
        (digest, format!("GET /v2/app/manifests/{digest}")),
        (config, format!("GET /v2/app/blobs/{config}")),
        (layer, format!("GET /v2/app/blobs/{layer}")),
    ] {
        let path = scene.rig.store.blob_path(&blob);
        let whole = std::fs::read(&path).unwrap();
        for damage in [&b""[..], b"{}", &whole[..whole.len() - 1]] {
            put(&path, damage);
            let (status, findings, requests) = scene.repair();
            assert_eq!(status, 0, "{request}: {findings:?}");
            assert_eq!(requests, [request.as_str()]);
            assert_eq!(std::fs::read(&path).unwrap(), whole);
            scene.rig.assert_clean(&request);
        }
        std::fs::remove_file(&path).unwrap();
        let (status, _, requests) = scene.repair();
        assert_eq!((status, requests.len()), (0, 1), "{request}");
        scene.rig.assert_clean(&request);
    }
    // The reference itself: the registry tells what it led to, if that is in the store.
    let name = scene.name.replace('/', "%2f");
    let reference = scene.rig.paths.images().join("references").join(name);
    for damage in [&b""[..], b"garbage", &[0; 100]] {
        put(&reference, damage);
        let (status, findings, _) = scene.repair();
        assert_eq!(status, 0, "{findings:?}");
        assert_eq!(scene.rig.store.find(&scene.name).unwrap().1, digest);
        scene.rig.assert_clean(&"reference");
    }
}

#[test]
fn what_cannot_be_repaired_is_reported_and_stays() {
    let scene = Scene::new();
    let root = scene.root();
    let (_, digest) = scene.rig.store.find(&scene.name).unwrap();
    let layer = scene.rig.store.documents(&digest).unwrap().manifest.layers[0].digest;
    let path = scene.rig.store.blob_path(&layer);
    let whole = std::fs::read(&path).unwrap();
    scene.hub.forget("app", &layer.to_string());
    put(&path, b"damage");
    let output = run(&root, &["check", "--repair"]);
    assert_eq!(output.status.code(), Some(1));
    let out = String::from_utf8(output.stdout).unwrap();
    let host = scene.hub.host();
    for part in [
        format!("blob {layer}: its content is sha256:"),
        format!("  needed by {}", scene.name),
        format!("  not repaired: registry '{host}', repository 'app': "),
        "1 problem, 0 repaired".to_owned(),
    ] {
        assert!(out.contains(&part), "{part}: {out}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"damage");
    // The unpacked layer still runs, and the other image is as it was.
    scene.rig.store.resolve(&scene.name).unwrap();
    scene.rig.store.resolve(&scene.other).unwrap();
    put(&path, &whole);
    scene.rig.assert_clean(&"repaired");
}

#[test]
fn a_layer_that_is_in_use_is_not_replaced() {
    let scene = Scene::new();
    let root = scene.root();
    let (_, digest) = scene.rig.store.find(&scene.name).unwrap();
    let image = scene.rig.store.resolve(&scene.name).unwrap();
    let layer = image.layers.last().unwrap().parent().unwrap().to_owned();
    let inode = || layer.metadata().unwrap().ino();
    let before = inode();
    let bundle = scene.rig.running("web", &scene.name, &digest.to_string());
    let in_use = "its image is in use (container 'web' runs it)";
    type Damage = fn(&Path);
    let damages: [Damage; 2] = [
        |layer| put(&layer.join("fs/srv/extra"), b""),
        |layer| put(&layer.join("layer.json"), b"{"),
    ];
    for damage in damages {
        damage(&layer);
        let (status, findings, requests) = scene.repair();
        assert_eq!((status, requests.len()), (1, 0));
        let reason = findings[0]["reason"].as_str().unwrap();
        assert!(reason.contains(in_use), "{reason}");
        assert!(reason.contains("stop the container"), "{reason}");
        assert_eq!(inode(), before);
    }
    // The layer cannot be opened, which has other ways in replace it.
    let file = scene.rig.path().join("x.tar");
    put(&file, &archive(&layout::layout("x", &layers())));
    for args in [
        &["load", file.to_str().unwrap()][..],
        &["pull", &scene.name],
    ] {
        let output = run(&root, args);
        assert!(output.stderr.contains(in_use), "{}", output.stderr);
        assert_eq!(inode(), before);
    }
    std::fs::remove_dir_all(&bundle).unwrap();
    assert_eq!(scene.repair().0, 0);
    assert_ne!(inode(), before);
    assert!(!layer.join("fs/srv/extra").exists());
    scene.rig.assert_clean(&"repaired");
}

#[test]
fn what_the_machine_cannot_read_is_not_fetched_again() {
    let scene = Scene::new();
    let (_, digest) = scene.rig.store.find(&scene.name).unwrap();
    let documents = scene.rig.store.documents(&digest).unwrap();
    let blob = |digest| scene.rig.store.blob_path(digest);
    let layer = scene.rig.store.resolve(&scene.name).unwrap().layers[0].clone();
    let layer = layer.parent().unwrap().to_owned();
    let inodes = || -> Vec<(PathBuf, u64)> {
        let files = scene.files().into_iter();
        let inode = |path: &Path| path.metadata().unwrap().ino();
        files.map(|path| (path.clone(), inode(&path))).collect()
    };
    let before = inodes();
    // What a start and a pull of what is there look at, and what they do not.
    for (path, is_read) in [
        (blob(&digest), true),
        (blob(&documents.manifest.config.digest), true),
        (layer.join("layer.json"), true),
        (blob(&documents.manifest.layers[0].digest), false),
    ] {
        let pull = ["pull", "--policy", "missing", &scene.name];
        for (args, errno, told) in [
            (&pull[..], "EMFILE", "Too many open files"),
            (
                &["check", "--repair"],
                "EIO",
                "not repaired: the machine cannot read it",
            ),
        ] {
            let asked = scene.hub.requests().len();
            let mut strace = Command::new("strace");
            strace
                .args(["-qq", "-f", "-o", "/dev/null", "-P"])
                .arg(&path);
            strace.args(["-e", &format!("inject=openat:error={errno}")]);
            strace.arg(env!("CARGO_BIN_EXE_wharf"));
            strace.arg("--root").arg(scene.root());
            let output = strace.arg("image").args(args).output().unwrap();
            let all = String::from_utf8_lossy(&output.stdout).into_owned() + &output.stderr;
            let context = format!("{args:?}: {}: {all}", path.display());
            let fails = is_read || args[0] == "check";
            assert_eq!(output.status.code(), Some(i32::from(fails)), "{context}");
            assert!(!fails || all.contains(told), "{context}");
            assert_eq!(scene.hub.requests().len(), asked, "{context}");
            assert_eq!(inodes(), before, "{context}");
        }
    }
    scene.rig.assert_clean(&"readable");
}

#[test]
fn k1_a_repair_that_is_killed_is_finished_by_the_next() {
    let scene = Scene::new();
    let (_, digest) = scene.rig.store.find(&scene.name).unwrap();
    let documents = scene.rig.store.documents(&digest).unwrap();
    let blob = scene
        .rig
        .store
        .blob_path(&documents.manifest.layers[1].digest);
    let mut kills = 0;
    for call in [
        "mkdirat",
        "openat",
        "renameat",
        "renameat2",
        "rename",
        "syncfs",
        "fsync",
        "unlinkat",
        "flock",
    ] {
        for when in [1, 2, 3, 5, 8, 13] {
            let context = format!("{call} {when}");
            // A tree, and the blob of another layer.
            let mut layers = scene.rig.store.resolve(&scene.name).unwrap().layers;
            put(&layers.pop().unwrap().join("srv/extra"), b"");
            put(&blob, b"damage");
            let mut strace = Command::new("strace");
            let inject = format!("inject={call}:signal=KILL:when={when}");
            strace.args(["-qq", "-f", "-o", "/dev/null", "-e", &inject]);
            strace.arg(env!("CARGO_BIN_EXE_wharf"));
            strace.arg("--root").arg(scene.root());
            let output = strace.args(["image", "check", "--repair"]).output();
            if output.unwrap().status.success() {
                // There are not that many.
                scene.rig.assert_clean(&context);
                break;
            }
            kills += 1;
            scene.rig.store.resolve(&scene.other).unwrap();
            // There is a layer at every instant: the damaged one or the new one.
            scene.rig.store.resolve(&scene.name).unwrap();
            let (status, findings, _) = scene.repair();
            assert_eq!(status, 0, "{context}: {findings:?}");
            scene.rig.assert_clean(&context);
        }
    }
    assert!(kills > 20, "only {kills} repairs were killed");
}

#[test]
fn damage_that_no_image_needs_is_removed() {
    let scene = Scene::new();
    let blob = scene
        .rig
        .paths
        .images()
        .join("blobs/sha256")
        .join("0".repeat(64));
    put(&blob, b"not zero");
    let layer = scene.rig.paths.layers().join("1".repeat(64));
    std::fs::create_dir(&layer).unwrap();
    let (status, findings, requests) = scene.repair();
    assert_eq!(
        (status, findings.len(), requests.len()),
        (0, 2, 0),
        "{findings:?}"
    );
    assert!(!blob.exists() && !layer.exists());
    scene.rig.assert_clean(&"orphans");
}

#[test]
fn s8_a_newer_store_is_neither_read_nor_written() {
    let scene = Scene::new();
    let root = scene.root();
    let file = scene.rig.path().join("x.tar");
    put(&file, &archive(&layout::layout("x", &layers())));
    let rootfs = scene.rig.path().join("rootfs.tar.gz");
    put(&rootfs, &gzip(&Tar::new().file("f", b"1").end()));
    put(&scene.rig.paths.images().join("version"), b"2\n");
    let before = layout::tree(scene.rig.paths.state());
    let (file, rootfs) = (file.to_str().unwrap(), rootfs.to_str().unwrap());
    for args in [
        &["ls"][..],
        &["inspect", &scene.other],
        &["history", &scene.other],
        &["load", file],
        &["import", rootfs],
        &["save", "-o", "/dev/null", &scene.other],
        &["tag", &scene.other, "more"],
        &["rm", &scene.other],
        &["prune", "--all"],
        &["gc"],
        &["mount", &scene.other],
        &["diff", &scene.other],
        &["push", &scene.name],
        &["pull", &scene.name],
        &["check"],
        &["check", "--repair"],
    ] {
        let output = run(&root, args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(
            output.stderr.contains("has version 2, this wharf knows 1"),
            "{args:?}: {}",
            output.stderr
        );
    }
    assert_eq!(layout::tree(scene.rig.paths.state()), before);
}
