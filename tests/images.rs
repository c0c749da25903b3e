// SPDX-License-Identifier: Apache-2.0
//! The image store through the library and the real binary: formats, hostile archives
//! (hostile-inputs T23, R2, R5, R7, R17), damage (S6, S7, K8) and killed loads (K1).

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use wharf::image::check::check;
use wharf::image::load::{Source, load};
use wharf::image::store::Store;
use wharf::image::{Digest, Reference};
use wharf::sys::command::Command;

#[path = "support/layout.rs"]
mod layout;
#[path = "support/tar.rs"]
mod tar;

use layout::{Files, GZIP, Layer, PLAIN, Rig, ZSTD, archive, put};
use tar::{Tar, gzip, zstd};

fn busybox() -> Vec<u8> {
    let mut busybox = tar::Header::new("bin/busybox", b'0');
    let body = b"#!generated\n".repeat(5000);
    (busybox.mode, busybox.size) = (0o755, body.len() as u64);
    let mut tar = Tar::new().dir("bin").entry(&busybox, &body);
    for applet in ["sh", "ls", "cat", "sleep"] {
        tar = tar.symlink(format!("bin/{applet}"), "busybox");
    }
    tar.file("etc/passwd", b"root:x:0:0::/:/bin/sh\n").end()
}

/// Three layers, one in each compression.
fn layers() -> Vec<Layer> {
    let base = busybox();
    let middle = Tar::new()
        .file("etc/motd", &b"hello\n".repeat(2000))
        .file("etc/.wh.passwd", b"")
        .end();
    let top = Tar::new()
        .file("srv/www/index.html", b"<p>hi")
        .hardlink("srv/again", "srv/www/index.html")
        .end();
    vec![
        Layer::new(gzip(&base), GZIP, &base),
        Layer::new(zstd(&middle), ZSTD, &middle),
        Layer::plain(&top),
    ]
}

fn wharf(root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    command.arg("--root").arg(root).arg("image");
    command
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(command.run().unwrap().stdout).unwrap()
}

fn write_layout(dir: &Path, files: &Files) {
    for (name, body) in files {
        put(&dir.join(name), body);
    }
}

#[test]
fn every_format_gives_the_same_image() {
    let oci = layout::layout("quay.io/a/b:1", &layers());
    let docker = layout::docker(&["quay.io/a/b:1", "nginx"], &layers());
    let mut digests = Vec::new();
    for files in [oci, docker] {
        let plain = archive(&files);
        for bytes in [plain.clone(), gzip(&plain), zstd(&plain)] {
            let rig = Rig::new();
            rig.load(&bytes).unwrap();
            let image = rig.store.resolve("quay.io/a/b:1").unwrap();
            assert_eq!(image.config.cmd, ["/bin/sh"]);
            assert_eq!(image.layers.len(), 3);
            assert!(image.layers[0].join("bin/sh").is_symlink());
            assert!(image.layers[2].join("srv/again").is_file());
            digests.push(image.digest);
            // Again: nothing changes.
            rig.load(&bytes).unwrap();
        }
    }
    assert!(digests[..3].iter().all(|digest| *digest == digests[0]));
    assert!(digests[3..].iter().all(|digest| *digest == digests[3]));
    let rig = Rig::new();
    let dir = rig.path().join("layout");
    write_layout(&dir, &layout::layout("x", &layers()));
    load(&rig.store, Source::Path(dir), None, &mut |_| {}).unwrap();
    rig.store.resolve("docker.io/library/x:latest").unwrap();
}

#[test]
fn the_binary_loads_lists_inspects_tags_and_removes() {
    let rig = Rig::new();
    let file = rig.path().join("nginx.tar");
    put(&file, &archive(&layout::docker(&["nginx:1"], &layers())));
    let root = rig.root();
    assert_eq!(
        stdout(wharf(&root).arg("load").arg(&file)),
        "loaded nginx:1\n"
    );
    let stdin = OwnedFd::from(std::fs::File::open(&file).unwrap());
    let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    wharf(&root)
        .args(["load", "--name", "localhost/web", "--json", "-"])
        .stdio(stdin, out.into(), err.into())
        .run()
        .unwrap();
    let list: serde_json::Value =
        serde_json::from_str(&stdout(wharf(&root).args(["ls", "--json"]))).unwrap();
    assert_eq!(list[0]["reference"], "docker.io/library/nginx:1");
    assert_eq!(list[1]["reference"], "localhost/web:latest");
    assert_eq!(list[0]["digest"], list[1]["digest"]);
    assert_eq!(list[0]["layers"], 3);
    let table = stdout(wharf(&root).arg("ls"));
    assert!(
        table.contains("nginx:1") && table.contains("localhost/web:latest"),
        "{table}"
    );
    let inspected: serde_json::Value =
        serde_json::from_str(&stdout(wharf(&root).args(["inspect", "web"]))).unwrap();
    assert_eq!(inspected[0]["config"]["cmd"][0], "/bin/sh");
    stdout(wharf(&root).args(["tag", "nginx:1", "quay.io/x/y"]));
    stdout(wharf(&root).args(["check"]));
    let removed = stdout(wharf(&root).args(["rm", "nginx:1", "web"]));
    assert_eq!(removed, "removed nginx:1\nremoved localhost/web:latest\n");
    rig.store.resolve("quay.io/x/y").unwrap();
    let id = inspected[0]["id"].as_str().unwrap();
    stdout(wharf(&root).args(["rm", id]));
    rig.assert_empty(&"rm");
    let err = wharf(&root)
        .args(["inspect", "nginx:1"])
        .run()
        .unwrap_err()
        .to_string();
    assert!(err.contains("image 'nginx:1' is not in the store"), "{err}");
}

#[test]
fn references_are_found_however_they_are_written() {
    let rig = Rig::new();
    let loaded = rig
        .load(&archive(&layout::layout("nginx:1", &layers())))
        .unwrap();
    let (digest, id) = (loaded[0].digest, loaded[0].id);
    for text in [
        "nginx:1",
        "docker.io/nginx:1",
        "docker.io/library/nginx:1",
        "index.docker.io/library/nginx:1",
        &format!("nginx@{digest}"),
        &format!("nginx:1@{digest}"),
        &digest.to_string(),
        &id.to_string(),
        &id.short(),
    ] {
        assert_eq!(
            rig.store.resolve(text).unwrap().digest,
            digest.to_string(),
            "{text}"
        );
    }
    for text in [
        "nginx",
        "nginx:2",
        "x",
        "deadbeefdeadbeef",
        "../x",
        "nginx:1@sha256:00",
    ] {
        assert!(rig.store.resolve(text).is_err(), "{text}");
    }
}

#[test]
fn a_name_that_moves_leaves_the_old_image_without_a_name() {
    let rig = Rig::new();
    let old = rig.load(&archive(&layout::layout("x", &layers()))).unwrap();
    let other = [Layer::plain(&Tar::new().file("other", b"1").end())];
    let new = rig.load(&archive(&layout::layout("x", &other))).unwrap();
    assert_eq!(
        rig.store.resolve("x").unwrap().digest,
        new[0].digest.to_string()
    );
    let old = old[0].digest;
    rig.store.resolve(&old.to_string()).unwrap();
    let in_use = std::collections::BTreeSet::from([old]);
    let writer = rig.store.write().unwrap();
    let err = writer
        .remove(&old.to_string(), &in_use)
        .unwrap_err()
        .to_string();
    assert!(err.contains("in use by a container"), "{err}");
    writer.remove("x", &in_use).unwrap();
    writer
        .remove(&old.to_string(), &Default::default())
        .unwrap();
    writer.collect().unwrap();
    rig.assert_empty(&"removed");
}

#[test]
fn t23_nothing_is_visible_until_all_digests_agree() {
    let rig = Rig::new();
    let whole = layout::layout("x", &layers());
    let other = Digest::of(b"other").to_string();
    type Change = Box<dyn Fn(&mut serde_json::Value)>;
    let mut changes: Vec<Change> = vec![
        Box::new(|m| m["layers"].as_array_mut().unwrap().swap(0, 1)),
        Box::new(|m| drop(m["layers"].as_array_mut().unwrap().pop())),
        Box::new(|m| {
            let first = m["layers"][0].clone();
            m["layers"].as_array_mut().unwrap().push(first);
        }),
        Box::new(|m| m["config"]["size"] = (m["config"]["size"].as_u64().unwrap() + 1).into()),
    ];
    for layer in 0..3 {
        for difference in [-1, 1] {
            changes.push(Box::new(move |m| {
                let size = m["layers"][layer]["size"].as_i64().unwrap();
                m["layers"][layer]["size"] = (size + difference).into();
            }));
        }
        let other = other.clone();
        changes.push(Box::new(move |m| {
            m["layers"][layer]["digest"] = other.clone().into()
        }));
    }
    for (index, change) in changes.iter().enumerate() {
        let files = layout::layout_with("x", &layers(), change);
        rig.load(&archive(&files)).unwrap_err();
        rig.assert_empty(&index);
    }
    // One bit of each blob, and each blob missing.
    for name in whole.keys().filter(|name| name.starts_with("blobs/")) {
        let mut files = whole.clone();
        let blob = files.get_mut(name).unwrap();
        let middle = blob.len() / 2;
        blob[middle] ^= 1;
        rig.load(&archive(&files)).unwrap_err();
        rig.assert_empty(name);
        files.remove(name);
        rig.load(&archive(&files)).unwrap_err();
        rig.assert_empty(name);
    }
    // A diff ID that the content does not have.
    for layer in 0..3 {
        let mut wrong = layers();
        wrong[layer].diff_id.clone_from(&other);
        let err = rig
            .load(&archive(&layout::layout("x", &wrong)))
            .unwrap_err();
        assert!(
            format!("{err:#}").contains("but the image's config says"),
            "{err:#}"
        );
        rig.load(&archive(&layout::docker(&["x"], &wrong)))
            .unwrap_err();
        rig.assert_empty(&layer);
    }
    rig.load(&archive(&whole)).unwrap();
}

#[test]
fn r2_r5_r7_hostile_documents() {
    let rig = Rig::new();
    let whole = layout::layout("x", &layers());
    let index = String::from_utf8(whole["index.json"].clone()).unwrap();
    let digest = index
        .split('"')
        .find(|text| text.starts_with("sha256:"))
        .unwrap();
    let deep = format!(
        r#"{{"schemaVersion":2,"manifests":{}1{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    for bad in [
        index.replace(digest, "sha256:../../../CANARY/s"),
        index.replace(digest, &digest.to_uppercase()),
        index.replace(digest, &digest[..70]),
        index.replace(digest, &digest.replace("sha256", "md5")),
        index.replace(digest, &format!("{}\\u0000", &digest[..70])),
        index.replace("\"manifests\":", "\"manifests\":[],\"manifests\":"),
        index.replace("\"size\":", "\"size\":-"),
        index.replace("\"x\"", "\"../x\""),
        format!("\u{feff}{index}"),
        deep,
        String::new(),
        "null".to_owned(),
        " ".repeat(5 << 20),
    ] {
        let mut files = whole.clone();
        files.insert("index.json".to_owned(), bad.clone().into_bytes());
        let start: String = bad.chars().take(100).collect();
        assert!(rig.load(&archive(&files)).is_err(), "{start}");
        rig.assert_empty(&start);
    }
    // An index that nests five deep, and one that names itself is impossible by digest.
    let mut files = whole.clone();
    let mut blob = whole["index.json"].clone();
    for _ in 0..5 {
        files.insert(
            format!("blobs/sha256/{}", Digest::of(&blob).hex()),
            blob.clone(),
        );
        let entry = layout::descriptor("application/vnd.oci.image.index.v1+json", &blob);
        blob = serde_json::json!({"schemaVersion": 2, "manifests": [entry]})
            .to_string()
            .into();
    }
    files.insert("index.json".to_owned(), blob);
    let err = rig.load(&archive(&files)).unwrap_err();
    assert!(format!("{err:#}").contains("nested"), "{err:#}");
}

#[test]
fn r8_the_manifest_of_this_machine_is_taken() {
    let rig = Rig::new();
    let ours = layout::layout("x", &layers());
    let foreign = layout::layout("x", &[Layer::plain(&Tar::new().file("f", b"").end())]);
    let entry = |files: &Files, architecture: &str| {
        let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let mut entry = index["manifests"][0].clone();
        entry["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
        entry
    };
    let local = wharf::image::manifest::local_platform().architecture;
    let entries = [entry(&foreign, "mips64le"), entry(&ours, &local)];
    let index = serde_json::json!({"schemaVersion": 2, "manifests": entries});
    let mut files: Files = foreign.clone().into_iter().chain(ours.clone()).collect();
    files.insert("index.json".to_owned(), index.to_string().into_bytes());
    rig.load(&archive(&files)).unwrap();
    assert_eq!(rig.store.resolve("x").unwrap().layers.len(), 3);
}

#[test]
fn r17_archives_name_nothing_outside() {
    let rig = Rig::new();
    let whole = layout::layout("x", &layers());
    // A layout whose blobs are links to files of the host with the right content.
    let dir = rig.path().join("layout");
    let outside = rig.path().join("outside");
    for (name, body) in &whole {
        if name.starts_with("blobs/") {
            put(&outside.join(name), body);
            std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
            std::os::unix::fs::symlink(outside.join(name), dir.join(name)).unwrap();
        } else {
            put(&dir.join(name), body);
        }
    }
    load(&rig.store, Source::Path(dir.clone()), None, &mut |_| {}).unwrap_err();
    rig.assert_empty(&"links");
    std::fs::remove_dir_all(dir.join("blobs")).unwrap();
    std::os::unix::fs::symlink(outside.join("blobs"), dir.join("blobs")).unwrap();
    load(&rig.store, Source::Path(dir), None, &mut |_| {}).unwrap_err();
    rig.assert_empty(&"linked directory");
    // A docker-archive that names files of the host, or a member that is a link to one.
    let canary = rig.canary().join("s");
    for config in [
        "../CANARY/s",
        canary.to_str().unwrap(),
        "link",
        "/etc/passwd",
    ] {
        let manifest = serde_json::json!([{"Config": config, "RepoTags": ["x"], "Layers": []}]);
        let tar = Tar::new()
            .file("manifest.json", manifest.to_string().as_bytes())
            .symlink("link", canary.to_str().unwrap())
            .end();
        for bytes in [tar.clone(), gzip(&tar)] {
            rig.load(&bytes).unwrap_err();
            rig.assert_empty(&config);
        }
    }
    let up = Tar::new().file("../manifest.json", b"[]").end();
    let err = rig.load(&up).unwrap_err();
    assert!(
        format!("{err:#}").contains("leads out of the archive"),
        "{err:#}"
    );
    // Layers that are links inside the archive are what old versions of docker save wrote.
    let layer = &layers()[2];
    let manifest = serde_json::json!([
        {"Config": "c", "RepoTags": ["x"], "Layers": ["a/layer.tar", "b/layer.tar"]}
    ]);
    let tar = Tar::new()
        .file("c", &layout::config(&[layer.clone(), layer.clone()]))
        .file("a/layer.tar", &layer.blob)
        .symlink("b/layer.tar", "../a/layer.tar")
        .file("manifest.json", manifest.to_string().as_bytes())
        .end();
    rig.load(&tar).unwrap();
}

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
            rig.store
                .write()
                .unwrap()
                .remove("x", &Default::default())
                .unwrap();
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
                writer.remove("x", &Default::default()).unwrap();
                writer.collect().unwrap();
                break;
            }
            kills += 1;
            let store = Store::open(&rig.paths).unwrap();
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
            writer.remove("x", &Default::default()).unwrap();
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

#[test]
fn resolving_is_fast_and_takes_no_lock() {
    let rig = Rig::in_memory();
    let tars: Vec<Vec<u8>> = (0..20)
        .map(|i| Tar::new().file(format!("{i}"), b"1").end())
        .collect();
    let layers: Vec<Layer> = tars
        .iter()
        .map(|tar| Layer::new(tar.clone(), PLAIN, tar))
        .collect();
    rig.load(&archive(&layout::layout("x", &layers))).unwrap();
    let lock = std::fs::File::open(rig.paths.images().join("lock")).unwrap();
    lock.lock().unwrap();
    let best = (0..20)
        .map(|_| {
            let start = std::time::Instant::now();
            rig.store.resolve("x").unwrap();
            start.elapsed()
        })
        .min()
        .unwrap();
    // Twenty layers, without optimisation; one millisecond in release.
    assert!(best.as_millis() < 10, "{best:?}");
}

#[test]
fn names_of_any_length_have_a_file() {
    let rig = Rig::in_memory();
    let long = format!("quay.io/{}:{}", "a/".repeat(50) + "b", "t".repeat(120));
    rig.load(&archive(&layout::layout(&long, &layers())))
        .unwrap();
    let reference: Reference = long.parse().unwrap();
    assert_eq!(
        rig.store.resolve(&long).unwrap().reference,
        reference.to_string()
    );
}
