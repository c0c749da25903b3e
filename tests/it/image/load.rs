// SPDX-License-Identifier: Apache-2.0
//! The image store through the library and the real binary: formats, hostile archives
//! (threats T23, R2, R5, R7, R8, R17). Damage and killed loads are in `image_damage.rs`.

use crate::support::layout;
use std::os::fd::OwnedFd;
use std::path::Path;

use wharf::image::load::{Source, load};
use wharf::image::{Digest, Reference};
use wharf::sys::command::Command;

use crate::support::layout::{Files, Layer, PLAIN, Rig, archive, layers, put};
use crate::support::tar::{Tar, gzip, zstd};

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
fn the_policy_of_the_machine_is_asked_before_a_load() {
    let rig = Rig::new();
    let (docker, oci) = (rig.path().join("docker.tar"), rig.path().join("oci.tar"));
    put(&docker, &archive(&layout::docker(&["nginx:1"], &layers())));
    let mut both = layout::layout("x", &layers());
    put(&oci, &archive(&both));
    both.extend(layout::docker(&["nginx:1"], &layers()));
    put(&rig.path().join("both.tar"), &archive(&both));
    let accept = r#"[{"type": "insecureAcceptAnything"}]"#;
    let policy = format!(
        r#"{{"default": [{{"type": "reject"}}], "transports": {{"oci-archive": {{"{}": {accept}}}}}}}"#,
        rig.path().canonicalize().unwrap().display()
    );
    put(
        &rig.root().join("etc/containers/policy.json"),
        policy.as_bytes(),
    );
    for name in ["docker.tar", "both.tar"] {
        let output = wharf(&rig.root())
            .arg("load")
            .arg(rig.path().join(name))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(
            output
                .stderr
                .contains("rejects images that it does not name"),
            "{}",
            output.stderr
        );
    }
    rig.assert_clean(&"policy");
    stdout(wharf(&rig.root()).arg("load").arg(&oci));
    rig.store.resolve("x").unwrap();
}

#[test]
fn a_pipe_is_loaded_by_its_name() {
    let rig = Rig::new();
    let file = rig.path().join("nginx.tar");
    put(&file, &archive(&layout::docker(&["nginx:1"], &layers())));
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "cat \"$1\" | \"$2\" --root \"$3\" image load /dev/stdin",
        "-",
    ]);
    command.arg(&file).arg(env!("CARGO_BIN_EXE_wharf"));
    let output = command.arg(rig.root()).run().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "loaded nginx:1\n"
    );
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
    assert_eq!(list["images"][0]["reference"], "docker.io/library/nginx:1");
    assert_eq!(list["images"][1]["reference"], "localhost/web:latest");
    assert_eq!(list["images"][0]["digest"], list["images"][1]["digest"]);
    assert_eq!(list["images"][0]["layers"], 3);
    let table = stdout(wharf(&root).arg("ls"));
    assert!(
        table.contains("nginx:1") && table.contains("localhost/web:latest"),
        "{table}"
    );
    let inspected: serde_json::Value =
        serde_json::from_str(&stdout(wharf(&root).args(["inspect", "web"]))).unwrap();
    assert_eq!(inspected["images"][0]["config"]["cmd"][0], "/bin/sh");
    stdout(wharf(&root).args(["tag", "nginx:1", "quay.io/x/y"]));
    stdout(wharf(&root).args(["check"]));
    let removed = stdout(wharf(&root).args(["rm", "nginx:1", "web"]));
    assert_eq!(removed, "removed nginx:1\nremoved localhost/web:latest\n");
    rig.store.resolve("quay.io/x/y").unwrap();
    let id = inspected["images"][0]["id"].as_str().unwrap();
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
        assert_eq!(rig.store.resolve(text).unwrap().digest, digest, "{text}");
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
    assert_eq!(rig.store.resolve("x").unwrap().digest, new[0].digest);
    let old = old[0].digest;
    rig.store.resolve(&old.to_string()).unwrap();
    let bundle = rig.running("web", "x", &old.to_string());
    let store = wharf::engine::images::needs::store(&rig.paths).unwrap();
    let writer = store.write().unwrap();
    let err = writer.remove(&old.to_string()).unwrap_err().to_string();
    assert!(err.contains("in use (container 'web' runs it)"), "{err}");
    writer.remove("x").unwrap();
    std::fs::remove_dir_all(bundle).unwrap();
    writer.remove(&old.to_string()).unwrap();
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
    let local = wharf::platform::Platform::local().architecture;
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
        rig.store.resolve(&long).unwrap().name(),
        reference.to_string()
    );
}
