// SPDX-License-Identifier: Apache-2.0
//! `wharf image ls, inspect, history, tag, rm, prune, diff` through the real binary: sizes that add
//! up, names, filters, damage that keeps nobody from removing (threats K8).

use crate::support::layout;
use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use wharf::image::Digest;

use crate::support::image_cli::{fails, json, ok, run};
use crate::support::layout::{GZIP, Layer, Rig, archive, layers, put};
use crate::support::tar::{Tar, gzip};

/// Bytes of all blobs and of all trees, counted on the disk.
fn on_disk(rig: &Rig) -> u64 {
    let length = |path: &Path| std::fs::symlink_metadata(path).unwrap().len();
    let blobs = wharf::sys::fs::list_dir(&rig.paths.images().join("blobs/sha256")).unwrap();
    let blobs = blobs
        .iter()
        .map(|name| length(&rig.paths.images().join("blobs/sha256").join(name)));
    let trees = layout::tree(&rig.paths.layers());
    let in_tree = |path: &&std::path::PathBuf| {
        let relative = path.strip_prefix(rig.paths.layers()).unwrap();
        relative.iter().nth(1).is_some_and(|name| name == "fs")
            && std::fs::symlink_metadata(path).unwrap().is_file()
    };
    let trees = trees.keys().filter(in_tree).map(|path| length(path));
    blobs.chain(trees).sum()
}

fn layer(name: &str, bytes: usize) -> Layer {
    let tar = Tar::new().file(name, &vec![b'x'; bytes]).end();
    Layer::new(gzip(&tar), GZIP, &tar)
}

#[test]
fn sizes_add_up() {
    let rig = Rig::in_memory();
    let base = layer("base", 100_000);
    let load = |name: &str, layers: &[Layer]| {
        rig.load(&archive(&layout::layout(name, layers))).unwrap();
    };
    load("one", &[base.clone(), layer("a", 5000)]);
    load("two", &[base.clone(), layer("b", 7000)]);
    load("three", &[layer("c", 11)]);
    let root = rig.root();
    ok(&root, &["tag", "one", "uno"]);
    let list = json(&root, &["ls", "--json"]);
    assert_eq!(list["schema"], 1);
    let images = list["images"].as_array().unwrap();
    assert_eq!(images.len(), 4);
    let number = |value: &Value, key: &str| value[key].as_u64().unwrap();
    let mut unique = BTreeMap::new();
    for image in images {
        assert_eq!(
            number(image, "bytes") + number(image, "blob_bytes"),
            number(image, "shared_bytes") + number(image, "unique_bytes"),
            "{image}"
        );
        unique.insert(image["digest"].as_str().unwrap(), image);
    }
    let base_bytes = 100_000 + base.blob.len() as u64;
    let alone: u64 = unique.values().map(|i| number(i, "unique_bytes")).sum();
    assert_eq!(alone + base_bytes, number(&list["total"], "bytes"));
    assert_eq!(number(&list["total"], "bytes"), on_disk(&rig));
    assert_eq!(number(&list["total"], "images"), 3);
    for image in images {
        let expected = match image["reference"].as_str().unwrap() {
            "docker.io/library/three:latest" => 0,
            _ => base_bytes,
        };
        assert_eq!(number(image, "shared_bytes"), expected, "{image}");
    }
    // What an image has for itself is what removing it frees.
    let before = on_disk(&rig);
    let three = images.iter().find(|i| number(i, "shared_bytes") == 0);
    let removed = json(&root, &["rm", "--json", "three"]);
    assert_eq!(number(&removed, "freed_bytes"), before - on_disk(&rig));
    assert_eq!(
        number(&removed, "freed_bytes"),
        number(three.unwrap(), "unique_bytes")
    );
    let table = ok(&root, &["ls"]);
    assert!(
        table.starts_with("REFERENCE") && table.lines().next().unwrap().ends_with("UNIQUE"),
        "{table}"
    );
    assert!(table.contains("\n2 images, "), "{table}");
}

#[test]
fn an_id_means_all_names() {
    let rig = Rig::in_memory();
    let image = layout::layout("one", &[layer("a", 5000)]);
    for how in ["sha256:", ""] {
        rig.load(&archive(&image)).unwrap();
        let root = rig.root();
        ok(&root, &["tag", "one", "uno"]);
        let list = json(&root, &["ls", "--json"]);
        let digest = list["images"][0]["digest"].as_str().unwrap();
        let digits = digest.strip_prefix("sha256:").unwrap();
        ok(&root, &["rm", &format!("{how}{digits}")]);
        assert_eq!(json(&root, &["ls", "--json"])["total"]["images"], 0);
        assert_eq!(on_disk(&rig), 0);
    }
}

#[test]
fn lists_are_narrowed() {
    let rig = Rig::in_memory();
    for (name, file) in [("nginx:1", "a"), ("quay.io/x/nginx:2", "b"), ("web", "c")] {
        rig.load(&archive(&layout::layout(name, &[layer(file, 10)])))
            .unwrap();
    }
    // The image that was web has no name now.
    rig.load(&archive(&layout::layout("web", &[layer("d", 10)])))
        .unwrap();
    let root = rig.root();
    let names = |args: &[&str]| -> Vec<String> {
        let mut all = vec!["ls", "--json"];
        all.extend(args);
        let list = json(&root, &all);
        let images = list["images"].as_array().unwrap().iter();
        let name = |image: &Value| image["reference"].as_str().unwrap_or("-").to_owned();
        images.map(name).collect()
    };
    assert_eq!(names(&["nginx"]), ["docker.io/library/nginx:1"]);
    assert_eq!(names(&["*nginx*"]).len(), 2);
    assert_eq!(names(&["--filter", "dangling=true"]), ["-"]);
    assert_eq!(names(&["--filter", "dangling=false"]).len(), 3);
    assert_eq!(names(&["--filter", "reference=quay.io/*"]).len(), 1);
    assert_eq!(names(&["--filter", "until=1h"]).len(), 0);
    assert_eq!(names(&["--filter", "label=none"]).len(), 0);
    let quiet = ok(&root, &["ls", "-q"]);
    assert_eq!(quiet.lines().count(), 4);
    for line in quiet.lines() {
        line.parse::<Digest>().unwrap();
        ok(&root, &["inspect", line]);
    }
    let digests = ok(&root, &["ls", "--digests", "nginx"]);
    let first: Digest = digests
        .lines()
        .nth(1)
        .and_then(|line| line.split_whitespace().last())
        .unwrap()
        .parse()
        .unwrap();
    assert!(quiet.contains(&first.to_string()));
    assert_eq!(run(&root, &["ls", "--filter", "x"]).status.code(), Some(2));
    assert_eq!(
        run(&root, &["tag", "web", "Not A Name"]).status.code(),
        Some(2)
    );
    let tagged = json(&root, &["tag", "--json", "nginx:1", "other"]);
    assert_eq!(tagged["digest"], first.to_string());
}

#[test]
fn history_and_inspect() {
    let rig = Rig::in_memory();
    let layers = layers();
    let mut config: Value = serde_json::from_slice(&layout::config(&layers)).unwrap();
    let long = format!("/bin/sh -c #(nop) COPY {}\u{1b}[2J\nin /", "x".repeat(100));
    config["history"] = serde_json::json!([
        {"created": "2020-01-01T00:00:00Z", "created_by": "base"},
        {"created_by": long, "comment": "c\u{7}"},
        {"created_by": "ENV A=b", "empty_layer": true},
    ]);
    config["variant"] = "v9".into();
    let config = config.to_string().into_bytes();
    let mut files = layout::docker(&["x"], &layers);
    files.insert("config.json".to_owned(), config.clone());
    rig.load(&archive(&files)).unwrap();
    let root = rig.root();
    let history = json(&root, &["history", "--json", "x"]);
    let steps = history["steps"].as_array().unwrap();
    // Three steps, one without a layer, and a layer that the history does not know.
    assert_eq!(steps.len(), 4);
    assert_eq!(steps[0]["diff_id"], layers[2].diff_id);
    assert_eq!(steps[1]["empty_layer"], true);
    assert!(steps[1]["diff_id"].is_null() && steps[1]["bytes"].is_null());
    assert_eq!(steps[2]["created_by"], long);
    assert_eq!(steps[3]["bytes"], 60_000 + 22);
    let table = ok(&root, &["history", "x"]);
    let whole = ok(&root, &["history", "--no-trunc", "x"]);
    assert!(table.contains("COPY xxx") && table.contains('…'), "{table}");
    assert!(whole.contains(&"x".repeat(100)), "{whole}");
    for text in [&table, &whole] {
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text}");
    }
    let inspected = &json(&root, &["inspect", "x"])["images"][0];
    assert_eq!(inspected["history_entries"], 3);
    assert_eq!(inspected["platform"]["variant"], "v9");
    assert_eq!(inspected["layers"][0]["bytes"], 60_022);
    assert_eq!(inspected["layers"].as_array().unwrap().len(), 3);
    assert_eq!(
        inspected["bytes"].as_u64().unwrap() + inspected["blob_bytes"].as_u64().unwrap(),
        inspected["unique_bytes"].as_u64().unwrap()
    );
    assert_eq!(inspected["in_use"].as_array().unwrap().len(), 0);
}

#[test]
fn rm_of_several() {
    let rig = Rig::in_memory();
    for (name, file) in [("a", "a"), ("b", "b"), ("c", "c")] {
        rig.load(&archive(&layout::layout(name, &[layer(file, 10)])))
            .unwrap();
    }
    let root = rig.root();
    let err = fails(&root, &["rm", "a", "nothing", "b"]);
    assert!(err.contains("image 'nothing' is not in the store"), "{err}");
    assert_eq!(
        json(&root, &["ls", "--json"])["images"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let out = ok(&root, &["rm", "--force", "nothing", "c"]);
    assert_eq!(out, "removed c:latest\n");
    rig.assert_empty(&"rm");
    // A typing mistake is one whatever is forced.
    fails(&root, &["rm", "--force", "Nothing"]);
}

#[test]
fn the_image_of_a_running_container_stays() {
    let rig = Rig::in_memory();
    let loaded = rig.load(&archive(&layout::layout("x", &layers()))).unwrap();
    let digest = loaded[0].digest.to_string();
    let root = rig.root();
    rig.running("web", "x", &digest);
    for name in ["x", &digest] {
        let err = fails(&root, &["rm", "--force", name]);
        assert!(err.contains("in use (container 'web' runs it)"), "{err}");
    }
    ok(&root, &["prune", "--all"]);
    let inspected = json(&root, &["inspect", "x"]);
    assert_eq!(inspected["images"][0]["in_use"][0]["running"], "web");
    // Its only name may go to another image; then it has none, and stays.
    rig.load(&archive(&layout::layout("x", &[layer("a", 1)])))
        .unwrap();
    ok(&root, &["prune", "--all"]);
    rig.store.resolve(&digest).unwrap();
    std::fs::remove_dir_all(root.join("run/wharf/bundles/web")).unwrap();
    ok(&root, &["prune", "--all"]);
    rig.assert_empty(&"nothing runs");
}

#[test]
fn k8_a_damaged_name_that_is_given_again_keeps_what_runs() {
    let rig = Rig::in_memory();
    let root = rig.root();
    let load = |name: &str, file: &str| {
        let files = layout::layout(name, &[layer(file, 1000)]);
        rig.load(&archive(&files)).unwrap()[0].digest.to_string()
    };
    let runs = load("quay.io/a/x:1", "1");
    load("y:1", "2");
    rig.running("web", "quay.io/a/x:1", &runs);
    let references = rig.paths.images().join("references");
    let name = std::fs::read_dir(&references).unwrap().find_map(|entry| {
        let name = entry.unwrap().file_name();
        name.to_str()
            .unwrap()
            .starts_with("quay.io")
            .then_some(name)
    });
    put(&references.join(name.unwrap()), b"");
    ok(&root, &["tag", "y:1", "quay.io/a/x:1"]);
    ok(&root, &["prune", "--all"]);
    rig.store.resolve(&runs).unwrap();
}

#[test]
fn k8_records_of_other_versions_and_damaged_ones_count() {
    let rig = Rig::in_memory();
    let root = rig.root();
    let files = layout::layout("x", &[layer("a", 1000)]);
    let digest = rig.load(&archive(&files)).unwrap()[0].digest.to_string();
    let record = rig.running("web", "x", &digest).join("state.json");
    let text = wharf::sys::fs::read_to_string(&record).unwrap();
    let other = text.replace("\"version\":1", "\"version\":2,\"more\":0");
    assert_ne!(other, text);
    put(&record, other.as_bytes());
    let err = fails(&root, &["rm", "x"]);
    assert!(err.contains("in use (container 'web' runs it)"), "{err}");
    for damaged in [&text[..100], ""] {
        put(&record, damaged.as_bytes());
        for command in [&["rm", "x"][..], &["prune", "--all"], &["gc"]] {
            let err = fails(&root, command);
            let says = "which image container 'web' runs cannot be told";
            assert!(err.contains(says), "{command:?}: {err}");
        }
    }
    rig.store.resolve(&digest).unwrap();
    std::fs::remove_file(&record).unwrap();
    ok(&root, &["rm", "x"]);
}

#[test]
fn prune_takes_what_nothing_needs() {
    let rig = Rig::in_memory();
    let root = rig.root();
    let load = |name: &str, file: &str| -> Digest {
        let files = layout::layout(name, &[layer(file, 1000)]);
        rig.load(&archive(&files)).unwrap()[0].digest
    };
    let first = load("app", "1");
    let second = load("app", "2");
    load("app", "3");
    load("defined", "d");
    load("template", "t");
    load("pinned:1", "p");
    load("other", "o");
    put(
        &root.join("etc/wharf/containers/web.toml"),
        b"image = \"defined\"\n",
    );
    put(
        &root.join("etc/wharf/containers/job@.toml"),
        b"image = \"template\"\n",
    );
    load("prefetched", "f");
    put(
        &root.join("etc/wharf/images/early.toml"),
        b"image = \"prefetched\"\n",
    );
    put(
        &root.join("etc/wharf/wharf.toml"),
        b"[images]\nkeep = [\"pinned\"]\n",
    );
    // web ran the first image, and the second one badly; the third is for a roll-back.
    let run = |digest: &Digest, result: &str| {
        let entry = serde_json::json!({
            "invocation_id": null, "started_at": null, "finished_at": "2026-01-01T00:00:00Z",
            "reason": "exited", "code": 0, "signal": null, "core_dumped": false,
            "service_result": result, "message": null,
            "image": {"image": {"reference": "app", "digest": digest.to_string()}},
        });
        let entry = serde_json::from_value(entry).unwrap();
        wharf::records::history::append(&rig.paths, &"web".parse().unwrap(), &entry).unwrap();
    };
    run(&first, "success");
    run(&second, "exit-code");
    let dry = json(&root, &["prune", "--dry-run", "--json"]);
    assert_eq!(dry["removed"].as_array().unwrap().len(), 0, "{dry}");
    let err = fails(&root, &["inspect", "nothing"]);
    assert!(err.contains("not in the store"), "{err}");
    let dry = json(&root, &["prune", "--all", "--dry-run", "--json"]);
    let gone: Vec<&str> = dry["removed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["references"][0].as_str().unwrap())
        .collect();
    assert_eq!(
        gone,
        [
            "docker.io/library/app:latest",
            "docker.io/library/other:latest"
        ]
    );
    assert_eq!(
        ok(&root, &["prune", "--all", "--filter", "until=1h"]),
        "freed 0 B\n"
    );
    let before = on_disk(&rig);
    let done = json(&root, &["prune", "--all", "--json"]);
    assert_eq!(done["removed"], dry["removed"]);
    assert_eq!(done["freed_bytes"], dry["freed_bytes"]);
    assert_eq!(done["freed_bytes"], before - on_disk(&rig));
    rig.store.resolve(&first.to_string()).unwrap();
    rig.store.resolve("pinned:1").unwrap();
    rig.store.resolve("prefetched").unwrap();
    // Without the definition there is nothing to roll back to.
    std::fs::remove_file(root.join("etc/wharf/containers/web.toml")).unwrap();
    let done = json(&root, &["prune", "--json"]);
    assert_eq!(done["removed"].as_array().unwrap().len(), 2, "{done}");
}

#[test]
fn k8_a_damaged_reference_is_shown_and_removed() {
    for damage in [&b""[..], b"garbage", &[0; 64], br#"{"version":2}"#] {
        let rig = Rig::in_memory();
        rig.load(&archive(&layout::layout("quay.io/a/x:1", &layers())))
            .unwrap();
        rig.load(&archive(&layout::layout("y", &[layer("y", 1)])))
            .unwrap();
        let root = rig.root();
        let file = rig.paths.images().join("references/quay.io%2fa%2fx:1");
        assert!(file.is_file());
        put(&file, damage);
        let list = json(&root, &["ls", "--json"]);
        assert_eq!(list["damaged"][0]["reference"], "quay.io/a/x:1");
        let table = ok(&root, &["ls"]);
        assert!(
            table.contains("quay.io/a/x:1") && table.contains("damaged"),
            "{table}"
        );
        assert_eq!(run(&root, &["check"]).status.code(), Some(1));
        rig.store.resolve("y").unwrap();
        fails(&root, &["inspect", "quay.io/a/x:1"]);
        assert_eq!(
            ok(&root, &["rm", "quay.io/a/x:1"]),
            "removed quay.io/a/x:1\n"
        );
        rig.assert_clean(&"rm");
        rig.store.resolve("y").unwrap();
        // Nothing is left of it.
        ok(&root, &["rm", "y"]);
        rig.assert_empty(&"rm");
    }
}

#[test]
fn k8_other_images_work_beside_a_damaged_one_and_rm_works() {
    let whole = archive(&layout::layout("x", &layers()));
    let rig = Rig::in_memory();
    rig.load(&whole).unwrap();
    let inspected = wharf::image::check::check(&rig.store, &mut |_| {}).unwrap();
    assert!(inspected.findings.is_empty());
    let mut files: Vec<_> = layout::tree(rig.paths.state()).into_keys().collect();
    files.retain(|path| {
        let name = path.file_name().unwrap();
        let parent = path.parent().unwrap();
        let is_state = parent.ends_with("references")
            || parent.ends_with("sha256")
            || name == "layer.json"
            || name == "facts";
        is_state && path.is_file()
    });
    assert!(files.len() > 10, "{files:?}");
    let state = rig.paths.state().to_owned();
    for file in files {
        let file = file.strip_prefix(&state).unwrap();
        for damage in [None, Some(&b""[..]), Some(b"{}garbage")] {
            let rig = Rig::in_memory();
            rig.load(&archive(&layout::layout("y", &[layer("y", 1)])))
                .unwrap();
            rig.load(&whole).unwrap();
            let path = rig.paths.state().join(file);
            let shown = format!("{} {damage:?}", file.display());
            let bytes = std::fs::read(&path).unwrap();
            put(&path, damage.unwrap_or(&bytes[..bytes.len() / 2]));
            let root = rig.root();
            let findings = || {
                let report = wharf::image::check::check(&rig.store, &mut |_| {});
                report.unwrap().findings.len()
            };
            assert!(findings() > 0, "{shown}");
            rig.store.resolve("y").unwrap();
            ok(&root, &["rm", "x"]);
            assert_eq!(findings(), 0, "{shown}");
            rig.store.resolve("y").unwrap();
            rig.load(&whole).unwrap();
            rig.store.resolve("x").unwrap();
        }
    }
}

#[test]
fn diff_of_layers_and_images() {
    let rig = Rig::in_memory();
    let base = Tar::new()
        .dir("etc")
        .file("etc/a", b"1")
        .file("etc/b", b"1")
        .dir("usr")
        .dir("usr/lib")
        .file("usr/lib/x", b"1")
        .file("usr/lib/y", b"1")
        .dir("opt")
        .file("opt/old", b"1")
        .symlink("link", "etc")
        .end();
    let top = Tar::new()
        .file("etc/a", b"2")
        .file("etc/.wh.b", b"")
        .file("etc/new\u{1b}", b"")
        .file(".wh.usr", b"")
        .dir("opt")
        .file("opt/.wh..wh..opq", b"")
        .file("opt/new", b"1")
        .file("link", b"now a file")
        .end();
    let same = Tar::new().file("opt/new", b"1").file("etc/c", b"").end();
    let layers = [&base, &top, &same].map(|tar| Layer::plain(tar));
    rig.load(&archive(&layout::layout("base", &layers[..1])))
        .unwrap();
    rig.load(&archive(&layout::layout("both", &layers[..2])))
        .unwrap();
    rig.load(&archive(&layout::layout("all", &layers))).unwrap();
    let root = rig.root();
    let expected = "C /etc/a\nD /etc/b\nA /etc/new\\x1b\nC /link\nA /opt/new\nD /opt/old\nD /usr\n";
    assert_eq!(ok(&root, &["diff", "both"]), expected);
    assert_eq!(ok(&root, &["diff", "base", "both"]), expected);
    let reverse = ok(&root, &["diff", "both", "base"]);
    assert!(
        reverse.contains("A /usr\nA /usr/lib\nA /usr/lib/x\n"),
        "{reverse}"
    );
    assert_eq!(ok(&root, &["diff", "all"]), "A /etc/c\n");
    assert_eq!(ok(&root, &["diff", "all", "all"]), "");
    let changes = json(&root, &["diff", "--json", "all"]);
    assert_eq!(changes["changes"][0]["kind"], "added");
    // The first layer of an image is all new.
    assert!(ok(&root, &["diff", "base"]).starts_with("A /\nA /etc\n"));
    // As the kernel sees it.
    let both = rig.store.resolve("both").unwrap();
    let mount = tempfile::tempdir().unwrap();
    let view = mount.path().join("m");
    wharf::storage::view::mount(&both.layers, &view).unwrap();
    let names = |dir: &str| wharf::sys::fs::list_dir(&view.join(dir)).unwrap();
    assert_eq!(names(""), ["etc", "link", "opt"]);
    assert_eq!(names("opt"), ["new"]);
    assert_eq!(names("etc"), ["a", "new\u{1b}"]);
    wharf::storage::view::unmount(&view, mount.path()).unwrap();
    assert!(!view.exists());
}

#[test]
fn k8_damage_that_hides_what_is_needed_keeps_content_and_is_told() {
    let rig = Rig::in_memory();
    let loaded = rig.load(&archive(&layout::layout("x", &layers()))).unwrap();
    let digest = loaded[0].digest.to_string();
    rig.load(&archive(&layout::layout("y", &[layer("y", 1)])))
        .unwrap();
    let root = rig.root();
    let references = rig.paths.images().join("references");
    put(
        &references.join("docker.io%2flibrary%2fx:latest"),
        b"garbage",
    );
    put(&references.join("@sha256:0"), b"garbage");
    // Removing 'y' frees nothing now, and says so.
    let output = run(&root, &["rm", "y"]);
    assert!(output.status.success(), "{}", output.stderr);
    assert!(
        output.stderr.contains("damage hides what is needed"),
        "{}",
        output.stderr
    );
    // A container runs the image whose name is damaged: it stays, without the name.
    rig.running("web", "x", &digest);
    ok(&root, &["rm", "x", "@sha256:0"]);
    rig.assert_clean(&"rm");
    assert_eq!(rig.store.resolve(&digest).unwrap().layers.len(), 3);
    std::fs::remove_dir_all(root.join("run/wharf/bundles/web")).unwrap();
    ok(&root, &["rm", &digest]);
    rig.assert_empty(&"rm");
}
