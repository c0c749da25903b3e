// SPDX-License-Identifier: Apache-2.0
//! `wharf image save, import, mount, unmount` through the real binary: the same digests on every
//! way round, the same bytes every time, nothing half written.

use crate::support::layout;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use serde_json::Value;
use wharf::sys::command::Command;

use crate::support::image_cli::{json, ok, run};
use crate::support::layout::{Layer, Rig, archive, layers, put};
use crate::support::tar::{Tar, gzip, zstd};

/// Runs wharf with these files as standard input and output.
fn piped(root: &Path, args: &[&str], stdin: &Path, stdout: &Path) {
    let err = tempfile::tempfile().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    command.arg("--root").arg(root).arg("image").args(args);
    command.stdio(
        OwnedFd::from(File::open(stdin).unwrap()),
        OwnedFd::from(File::create(stdout).unwrap()),
        err.into(),
    );
    command.run().unwrap();
}

fn all_layers() -> Vec<Layer> {
    let mut all = layers();
    // A layer that is there twice.
    all.push(all[2].clone());
    all
}

#[test]
fn a_round_trip_keeps_every_digest() {
    let rig = Rig::in_memory();
    let loaded = rig
        .load(&archive(&layout::layout("quay.io/a/b:1", &all_layers())))
        .unwrap();
    let root = rig.root();
    let dir = rig.path();
    let (tar, again) = (dir.join("x.tar"), dir.join("again.tar"));
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    ok(&root, &["save", "-o", &path(&tar), "quay.io/a/b:1"]);
    // The same bytes on standard output, and at another time.
    piped(
        &root,
        &["save", "quay.io/a/b:1"],
        Path::new("/dev/null"),
        &again,
    );
    assert_eq!(std::fs::read(&tar).unwrap(), std::fs::read(&again).unwrap());
    let layout_dir = dir.join("layout");
    ok(
        &root,
        &[
            "save",
            "--format",
            "oci-dir",
            "--output",
            &path(&layout_dir),
            "quay.io/a/b:1",
        ],
    );
    for source in [&tar, &layout_dir] {
        let other = Rig::in_memory();
        ok(&other.root(), &["load", &path(source)]);
        let image = other.store.resolve("quay.io/a/b:1").unwrap();
        assert_eq!(image.digest, loaded[0].digest);
        let blobs = |rig: &Rig| wharf::sys::fs::list_dir(&rig.paths.images().join("blobs/sha256"));
        assert_eq!(blobs(&rig).unwrap(), blobs(&other).unwrap());
        other.assert_clean(&source);
    }
    // GNU tar sees nothing to complain about.
    let listed = Command::new("tar").arg("-tvf").arg(&tar).output().unwrap();
    assert!(
        listed.status.success() && listed.stderr.is_empty(),
        "{listed:?}"
    );
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains("root/root") || listed.contains("0/0"),
        "{listed}"
    );
    let index: Value =
        serde_json::from_slice(&std::fs::read(layout_dir.join("index.json")).unwrap()).unwrap();
    let entry = &index["manifests"][0];
    assert_eq!(
        entry["annotations"]["org.opencontainers.image.ref.name"],
        "quay.io/a/b:1"
    );
    assert_eq!(entry["platform"]["os"], "linux");
}

#[test]
fn docker_archives_are_read_back_with_the_same_config_and_layers() {
    let rig = Rig::in_memory();
    let loaded = rig
        .load(&archive(&layout::layout("quay.io/a/b:1", &all_layers())))
        .unwrap();
    let root = rig.root();
    ok(&root, &["tag", "quay.io/a/b:1", "other"]);
    let tar = rig.path().join("x.tar");
    let name = tar.to_str().unwrap();
    let args = [
        "save",
        "--format",
        "docker-archive",
        "-o",
        name,
        "quay.io/a/b:1",
        "other",
    ];
    ok(&root, &args);
    let first = std::fs::read(&tar).unwrap();
    ok(&root, &args);
    assert_eq!(first, std::fs::read(&tar).unwrap());
    let other = Rig::in_memory();
    ok(&other.root(), &["load", name]);
    let (_, digest) = other.store.find("quay.io/a/b:1").unwrap();
    assert_eq!(other.store.find("other").unwrap().1, digest);
    let documents = other.store.documents(&digest).unwrap();
    assert_eq!(documents.manifest.config.digest, loaded[0].id);
    let diff_ids: Vec<String> = documents
        .config
        .diff_ids
        .iter()
        .map(|d| d.to_string())
        .collect();
    let expected: Vec<String> = all_layers()
        .into_iter()
        .map(|layer| layer.diff_id)
        .collect();
    assert_eq!(diff_ids, expected);
    // What every reader of the format takes: plain or gzip.
    let types: BTreeSet<&str> = documents
        .manifest
        .layers
        .iter()
        .map(|layer| layer.media_type.as_str())
        .collect();
    assert_eq!(types, BTreeSet::from([layout::GZIP, layout::PLAIN]));
    // Four layers, one of them twice.
    let list = Command::new("tar").arg("-tf").arg(&tar).run().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert_eq!(list.lines().filter(|l| l.ends_with(".tar")).count(), 3);
}

#[test]
fn several_images_and_ids() {
    let rig = Rig::in_memory();
    let one = rig
        .load(&archive(&layout::layout("one", &layers())))
        .unwrap();
    let tar = Tar::new().file("f", b"1").end();
    rig.load(&archive(&layout::layout("two", &[Layer::plain(&tar)])))
        .unwrap();
    let root = rig.root();
    let file = rig.path().join("x.tar");
    let name = file.to_str().unwrap();
    ok(&root, &["save", "-o", name, "one", "two"]);
    let other = Rig::in_memory();
    ok(&other.root(), &["load", name]);
    other.store.resolve("one").unwrap();
    other.store.resolve("two").unwrap();
    // An id means the image, not its names.
    ok(&root, &["save", "-o", name, &one[0].id.short()]);
    let other = Rig::in_memory();
    let loaded = ok(&other.root(), &["load", name]);
    assert_eq!(loaded, format!("loaded {}\n", one[0].digest));
}

#[test]
fn nothing_half_is_left_and_nothing_is_overwritten() {
    let rig = Rig::in_memory();
    rig.load(&archive(&layout::layout("x", &layers()))).unwrap();
    let root = rig.root();
    let out = rig.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let file = out.join("x.tar");
    let name = file.to_str().unwrap();
    ok(&root, &["save", "-o", name, "x"]);
    let whole = std::fs::read(&file).unwrap();
    // A blob of another content, one of another length, one that is missing.
    let documents = rig
        .store
        .documents(&rig.store.find("x").unwrap().1)
        .unwrap();
    let blob = rig.store.blob_path(&documents.manifest.layers[1].digest);
    let content = std::fs::read(&blob).unwrap();
    let mut flipped = content.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let formats = ["oci-archive", "docker-archive", "oci-dir"];
    for damage in [Some(&flipped[..]), Some(&content[1..]), None] {
        match damage {
            Some(bytes) => put(&blob, bytes),
            None => std::fs::remove_file(&blob).unwrap(),
        }
        for format in formats {
            let target = match format {
                "oci-dir" => out.join("dir"),
                _ => file.clone(),
            };
            let args = [
                "save",
                "--format",
                format,
                "-o",
                target.to_str().unwrap(),
                "x",
            ];
            let output = run(&root, &args);
            assert_eq!(output.status.code(), Some(1), "{format} {output:?}");
            assert_eq!(
                wharf::sys::fs::list_dir(&out).unwrap(),
                ["x.tar"],
                "{format}"
            );
            assert!(std::fs::read(&file).unwrap() == whole, "{format}");
        }
    }
    put(&blob, &content);
    put(&out.join("dir/precious"), b"");
    let output = run(
        &root,
        &[
            "save",
            "--format",
            "oci-dir",
            "-o",
            out.join("dir").to_str().unwrap(),
            "x",
        ],
    );
    assert!(
        output.stderr.contains("is not an empty directory"),
        "{}",
        output.stderr
    );
    assert!(out.join("dir/precious").exists());
    let output = run(&root, &["save", "--format", "oci-dir", "x"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_person_does_not_want_an_archive_on_the_screen() {
    let rig = Rig::in_memory();
    rig.load(&archive(&layout::layout("x", &layers()))).unwrap();
    let root = rig.root();
    let output = Command::new("script")
        .args([
            "-qec",
            &format!(
                "{} --root {} image save x",
                env!("CARGO_BIN_EXE_wharf"),
                root.display()
            ),
        ])
        .arg("/dev/null")
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains("standard output is a terminal"), "{shown}");
}

#[test]
fn import_makes_an_image_of_one_layer() {
    let rig = Rig::in_memory();
    let root = rig.root();
    let plain = Tar::new()
        .dir("bin")
        .file("bin/sh", b"#!")
        .file("etc/os-release", b"ID=x\n")
        .end();
    for (index, bytes) in [plain.clone(), gzip(&plain), zstd(&plain)]
        .iter()
        .enumerate()
    {
        let file = rig.path().join("rootfs.tar");
        put(&file, bytes);
        let name = format!("localhost/rootfs:{index}");
        let made = json(
            &root,
            &[
                "import",
                "--json",
                "--change",
                "CMD [\"/bin/sh\"]",
                "--change",
                "ENV A=b",
                "--message",
                "made by hand",
                file.to_str().unwrap(),
                &name,
            ],
        );
        let image = rig.store.resolve(&name).unwrap();
        assert_eq!(made["digest"], image.digest.to_string());
        assert_eq!(image.config.cmd, ["/bin/sh"]);
        assert_eq!(image.config.env, ["A=b"]);
        assert!(image.layers[0].join("bin/sh").is_file());
        let history = json(&root, &["history", "--json", &name]);
        assert_eq!(history["steps"][0]["comment"], "made by hand");
        // The blob is the archive as it came.
        let digest = wharf::image::Digest::of(bytes);
        assert_eq!(&std::fs::read(rig.store.blob_path(&digest)).unwrap(), bytes);
        rig.assert_clean(&name);
    }
    let file = rig.path().join("rootfs.tar");
    let out = rig.path().join("out");
    piped(&root, &["import", "-"], &file, &out);
    let said = String::from_utf8(std::fs::read(&out).unwrap()).unwrap();
    let digest = said.strip_prefix("imported ").unwrap().trim_end();
    rig.store.resolve(digest).unwrap();
    // Refused, and nothing of it stays.
    let before = layout::tree(&rig.paths.layers()).len();
    put(&file, &Tar::new().file("../x", b"").end());
    let output = run(&root, &["import", file.to_str().unwrap(), "bad"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    put(&file, &plain);
    let output = run(
        &root,
        &["import", "--change", "RUN x", file.to_str().unwrap(), "bad"],
    );
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stderr.contains("RUN"), "{}", output.stderr);
    let output = run(
        &root,
        &[
            "import",
            "--change",
            "WORKDIR a\tb",
            file.to_str().unwrap(),
            "bad",
        ],
    );
    assert_ne!(output.status.code(), Some(0), "{output:?}");
    assert!(rig.store.resolve("bad").is_err());
    assert_eq!(layout::tree(&rig.paths.layers()).len(), before);
    rig.assert_clean(&"refused");
}

#[test]
fn mounted_images_are_read_only_listed_and_in_use() {
    let rig = Rig::in_memory();
    rig.load(&archive(&layout::layout("x", &layers()))).unwrap();
    let tar = Tar::new().file("only", b"1").end();
    rig.load(&archive(&layout::layout("single", &[Layer::plain(&tar)])))
        .unwrap();
    let root = rig.root();
    let out = ok(&root, &["mount", "x", "single"]);
    let [x, single] = out.lines().collect::<Vec<_>>()[..] else {
        panic!("{out}");
    };
    let _unmount = Unmount(vec![x.to_owned(), single.to_owned()]);
    assert_eq!(ok(&root, &["mount", "x"]).trim_end(), x);
    assert_eq!(std::fs::read(Path::new(single).join("only")).unwrap(), b"1");
    assert!(Path::new(x).join("srv/again").is_file());
    assert!(!Path::new(x).join("etc/passwd").exists());
    let err = std::fs::create_dir(Path::new(x).join("new")).unwrap_err();
    assert_eq!(err.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap();
    let mounts = String::from_utf8(mounts).unwrap();
    let line = mounts.lines().find(|line| line.contains(x)).unwrap();
    assert!(line.contains("ro,nosuid,nodev"), "{line}");
    let list = json(&root, &["mount", "--json"]);
    assert_eq!(list["mounts"].as_array().unwrap().len(), 2);
    assert!(ok(&root, &["mount"]).contains("x:latest"));
    let output = run(&root, &["rm", "x"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    ok(&root, &["prune", "--all"]);
    rig.store.resolve("x").unwrap();
    // Somebody works in it.
    let busy = File::open(Path::new(x).join("srv/again")).unwrap();
    let output = run(&root, &["unmount", "x", "single"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        output.stderr.contains("close its files"),
        "{}",
        output.stderr
    );
    assert!(!Path::new(single).exists());
    drop(busy);
    ok(&root, &["unmount", "x"]);
    ok(&root, &["unmount", "x"]);
    ok(&root, &["unmount", "--all"]);
    assert!(!Path::new(x).exists());
    assert_eq!(ok(&root, &["mount"]), "REFERENCE  PATH\n");
    ok(&root, &["rm", "x", "single"]);
    rig.assert_empty(&"rm");
}

/// A test that fails leaves no mount.
struct Unmount(Vec<String>);

impl Drop for Unmount {
    fn drop(&mut self) {
        for target in &self.0 {
            wharf::sys::mount::detach(Path::new(target)).unwrap();
        }
    }
}
