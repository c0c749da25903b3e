// SPDX-License-Identifier: Apache-2.0
//! Garbage collection, and removing on a full disk, through the real binary (threats S1).

use crate::support::hub;
use crate::support::layout;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use wharf::engine::images::needs;
use wharf::image::Digest;
use wharf::image::used;
use wharf::image::users::Writable;
use wharf::paths::Paths;
use wharf::sys::command::Command;
use wharf::sys::mount::{self, Isolation, unshare_mounts};

use crate::support::image_cli::{json, ok, run};
use crate::support::layout::{Layer, Rig, archive, put};
use crate::support::tar::Tar;

/// A layer of `files` files and about a hundred kilobytes, packed and unpacked.
fn layer(name: &str, files: usize) -> Layer {
    let body = vec![b'x'; 50_000 / files.max(1)];
    let tar = (0..files).fold(Tar::new(), |tar, index| {
        tar.file(format!("{name}{index}"), &body)
    });
    Layer::plain(&tar.end())
}

fn reference_file(paths: &Paths, name: &str) -> PathBuf {
    let name = format!("docker.io/library/{name}:latest").replace('/', "%2f");
    paths.images().join("references").join(name)
}

/// Makes an image look as if it was last used so long ago.
fn age(paths: &Paths, name: &str, hours: u64) {
    let file = std::fs::File::open(reference_file(paths, name)).unwrap();
    let time = SystemTime::now() - Duration::from_secs(hours * 3600);
    file.set_modified(time).unwrap();
}

fn names(rig: &Rig) -> Vec<String> {
    let records = rig.store.records().unwrap().into_iter();
    let names = records.map(|r| r.reference.unwrap().familiar());
    names
        .map(|name| name.strip_suffix(":latest").unwrap().to_owned())
        .collect()
}

fn settings(root: &Path, text: &str) {
    let text = format!("[images]\n{text}\n");
    put(&root.join("etc/wharf/wharf.toml"), text.as_bytes());
}

fn five_images() -> Rig {
    let rig = Rig::in_memory();
    for (index, name) in ["a", "b", "c", "d", "e"].iter().enumerate() {
        let files = layout::layout(name, &[layer(name, 1)]);
        rig.load(&archive(&files)).unwrap();
        // 'a' is the oldest.
        age(&rig.paths, name, 1000 - index as u64);
    }
    rig
}

#[test]
fn what_a_short_name_means_on_the_search_list_is_kept_and_used() {
    let rig = Rig::in_memory();
    let root = rig.root();
    // Nobody listens there.
    let host = "127.0.0.1:1";
    let text =
        format!("search = [\"{host}\"]\n[[registries]]\nprefix = \"{host}\"\ninsecure = true\n");
    put(&root.join("etc/wharf/wharf.toml"), text.as_bytes());
    for name in ["app", "early", "other"] {
        let files = layout::layout(&format!("{host}/{name}:1"), &[layer(name, 1)]);
        rig.load(&archive(&files)).unwrap();
    }
    let define = |file: &str, text: &str| put(&root.join("etc/wharf").join(file), text.as_bytes());
    define("containers/web.toml", "image = \"app:1\"\n");
    define(
        "images/early.toml",
        "image = \"early:1\"\npull_policy = \"always\"\n",
    );
    ok(&root, &["prune", "--all"]);
    let left: Vec<String> = rig
        .store
        .records()
        .unwrap()
        .into_iter()
        .map(|record| record.reference.unwrap().to_string())
        .collect();
    assert_eq!(
        left,
        ["app", "early"].map(|name| format!("{host}/{name}:1"))
    );
    // A prefetch that cannot refresh it finds it, and so does a start that must not pull.
    ok(&root, &["pull", "--definition", "early"]);
    let wanted = wharf::engine::images::obtain::Wanted {
        image: "app:1",
        policy: wharf::definition::PullPolicy::Never,
    };
    let settings = wharf::settings::Settings::load(&rig.paths).unwrap();
    let image = wharf::engine::images::obtain::obtain(&rig.paths, &settings, wanted, None).unwrap();
    assert_eq!(image.name(), format!("{host}/app:1"));
}

#[test]
fn what_damaged_layers_say_of_their_size_does_not_overflow() {
    let rig = five_images();
    let root = rig.root();
    for diff_id in wharf::sys::fs::list_dir(&rig.paths.layers()).unwrap() {
        let path = rig.paths.layers().join(diff_id).join("layer.json");
        let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        record["bytes"] = u64::MAX.into();
        put(&path, record.to_string().as_bytes());
    }
    let total = json(&root, &["ls", "--json"])["total"]["bytes"].as_u64();
    assert_eq!(total, Some(u64::MAX));
    settings(&root, "budget = \"1M\"");
    // One seems to be enough.
    ok(&root, &["gc"]);
    assert_eq!(names(&rig).len(), 4);
}

#[test]
fn a_start_and_a_removal_never_cross() {
    let rig = Rig::in_memory();
    let root = rig.root();
    let bytes = archive(&layout::layout("x", &[layer("a", 1)]));
    for round in 0..60 {
        rig.load(&bytes).unwrap();
        let image = rig.store.resolve("x").unwrap();
        let start = || {
            let note = || {
                rig.running("web", "x", &image.digest.to_string());
                Ok(())
            };
            rig.store.claim(&image, note).is_ok()
        };
        let remove = || {
            let store = needs::store(&rig.paths).unwrap();
            let writer = store.write().unwrap();
            let removed = writer.remove("x").is_ok();
            writer.collect().unwrap();
            removed
        };
        let is_started = match round % 3 {
            0 => {
                assert!(start() && !remove(), "round {round}");
                true
            }
            1 => {
                assert!(remove() && !start(), "round {round}");
                false
            }
            // Who wins is left to the machine; never both, and never none.
            _ => {
                let both = Barrier::new(2);
                std::thread::scope(|scope| {
                    let removal = scope.spawn(|| {
                        both.wait();
                        remove()
                    });
                    both.wait();
                    let is_started = start();
                    assert!(removal.join().unwrap() != is_started, "round {round}");
                    is_started
                })
            }
        };
        // Whatever else is swept: what was started stays.
        rig.store.write().unwrap().collect().unwrap();
        assert_eq!(is_started, rig.store.resolve("x").is_ok(), "round {round}");
        std::fs::remove_dir_all(root.join("run/wharf/bundles/web")).unwrap();
    }
}

#[test]
fn a_start_sees_that_its_image_was_replaced() {
    let rig = Rig::in_memory();
    let load = || rig.load(&archive(&layout::layout("x", &[layer("a", 1)])));
    load().unwrap();
    let image = rig.store.resolve("x").unwrap();
    rig.store.claim(&image, || Ok(())).unwrap();
    // The same name and the same content, but other directories.
    rig.forget();
    rig.store.claim(&image, || Ok(())).unwrap_err();
    load().unwrap();
    let err = rig.store.claim(&image, || Ok(())).unwrap_err().to_string();
    assert!(err.contains("was removed or repaired meanwhile"), "{err}");
    // Another name of the same trees will do, and so will none.
    let image = rig.store.resolve("x").unwrap();
    rig.load(&archive(&layout::layout("x", &[layer("b", 1)])))
        .unwrap();
    rig.store.claim(&image, || Ok(())).unwrap();
}

#[test]
fn the_oldest_go_until_the_low_water_mark() {
    let rig = five_images();
    let root = rig.root();
    let total = json(&root, &["ls", "--json"])["total"]["bytes"]
        .as_u64()
        .unwrap();
    assert!((500_000..520_000).contains(&total), "{total}");
    // Within the budget nothing goes.
    settings(&root, "budget = \"1M\"");
    assert_eq!(
        json(&root, &["gc", "--json"])["removed"],
        serde_json::json!([])
    );
    // Over the high-water mark of 450 kB: down to 300 kB, which takes two of five; then nothing.
    settings(
        &root,
        "budget = \"500000\"\nhigh_water = \"90%\"\nlow_water = \"62%\"",
    );
    let dry = json(&root, &["gc", "--dry-run", "--json"]);
    assert_eq!(dry["high_water_bytes"], 450_000);
    assert_eq!(dry["low_water_bytes"], 310_000);
    assert_eq!(dry["stored_bytes"], total);
    assert_eq!(names(&rig).len(), 5);
    let done = json(&root, &["gc", "--json"]);
    assert_eq!(done["removed"], dry["removed"]);
    assert_eq!(done["freed_bytes"], dry["freed_bytes"]);
    assert_eq!(names(&rig), ["c", "d", "e"]);
    assert_eq!(
        json(&root, &["gc", "--json"])["removed"],
        serde_json::json!([])
    );
    // A younger age than the limit keeps all; a shorter limit does not.
    settings(&root, "budget = \"1000\"\nmin_age = \"2000h\"");
    ok(&root, &["gc"]);
    assert_eq!(names(&rig).len(), 3);
    settings(
        &root,
        "budget = \"1000\"\nmin_age = \"10h\"\nkeep = [\"d\"]",
    );
    age(&rig.paths, "e", 1);
    let out = ok(&root, &["gc"]);
    assert!(out.contains("removed c:latest\nfreed "), "{out}");
    assert_eq!(names(&rig), ["d", "e"]);
    let dry = ok(&root, &["gc", "--dry-run"]);
    assert!(dry.contains("'d' in wharf.toml keeps it"), "{dry}");
    settings(&root, "budgett = \"1\"");
    let output = run(&root, &["gc"]);
    assert!(
        output.stderr.contains("wharf.toml:2:1: unknown field"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_start_makes_an_image_young_and_pulls_find_room() {
    let rig = five_images();
    let paths = &rig.paths;
    let image = rig.store.resolve("a").unwrap();
    used::mark_used(&rig.store, &image);
    let order = || -> Vec<Digest> {
        let images = wharf::image::remove::oldest_first(&rig.store).unwrap();
        images.into_iter().map(|image| image.digest).collect()
    };
    assert_eq!(order()[4], image.digest);
    // Named by its digest, an image is used all the same.
    let image = rig.store.resolve("b").unwrap();
    let by_id = rig.store.resolve(&image.digest.to_string()).unwrap();
    used::mark_used(&rig.store, &by_id);
    assert_eq!(order()[4], image.digest);
    // Room that is there is not made.
    let settings = wharf::settings::Settings::default();
    let make_room =
        |bytes| wharf::engine::images::gc::make_room(paths, &settings, &rig.store, bytes).unwrap();
    assert!(make_room(1000).images.is_empty());
    assert_eq!(names(&rig).len(), 5);
    // More than any disk has: everything that is old enough goes, and it is no error.
    let made = make_room(u64::MAX / 2);
    assert_eq!(made.images.len(), 3);
    assert_eq!(names(&rig), ["a", "b"]);
    rig.assert_clean(&"room");
}

/// A file system of its own for a store, in a mount namespace of its own, gone with the test.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    fn new(options: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        unshare_mounts(dir.path(), Isolation::Slave).unwrap();
        Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(dir.path())
            .run()
            .unwrap();
        Self { dir }
    }

    /// Takes the last inode, and the last byte too.
    fn fill(&self, fill: Fill) {
        let filler = self.dir.path().join("filler");
        std::fs::create_dir(&filler).unwrap();
        if fill == Fill::Both {
            let mut file = std::fs::File::create(filler.join("bytes")).unwrap();
            for size in [1 << 16, 4096, 1] {
                while file.write_all(&vec![1; size]).is_ok() {}
            }
        }
        let mut index = 0;
        while std::fs::File::create(filler.join(index.to_string())).is_ok() {
            index += 1;
        }
        self.probe().unwrap_err();
    }

    fn probe(&self) -> wharf::sys::Result<()> {
        let probe = self.dir.path().join("probe");
        let durability = wharf::sys::fs::Durability::Memory;
        wharf::sys::fs::write_atomic(&probe, &[0; 8192], 0o600, durability)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    Inodes,
    Both,
}

impl Drop for Disk {
    fn drop(&mut self) {
        mount::detach(self.dir.path()).unwrap();
    }
}

/// Three images on a disk that is full, of bytes or of inodes.
fn on_a_full_disk(act: impl Fn(&Path, &Writable, &Paths)) {
    for (fill, files) in [(Fill::Both, 10), (Fill::Inodes, 100)] {
        let disk = Disk::new("size=16m,nr_inodes=1000");
        let root = disk.dir.path().join("root");
        let paths = Paths::system(&root);
        let store = needs::store(&paths).unwrap();
        for name in ["a", "b", "c"] {
            let file = disk.dir.path().join("archive");
            put(
                &file,
                &archive(&layout::layout(name, &[layer(name, files)])),
            );
            ok(&root, &["load", file.to_str().unwrap()]);
            std::fs::remove_file(&file).unwrap();
            age(&paths, name, 100);
        }
        ok(&root, &["tag", "a", "moved"]);
        ok(&root, &["tag", "b", "moved"]);
        age(&paths, "moved", 99);
        disk.fill(fill);
        act(&root, &store, &paths);
        // There is room again, and everything that is left is whole.
        assert_eq!(run(&root, &["check"]).status.code(), Some(0));
        disk.probe().unwrap();
    }
}

#[test]
fn s1_rm_works_on_a_full_disk() {
    on_a_full_disk(|root, store, _| {
        let out = ok(root, &["rm", "a", "c"]);
        assert_eq!(out, "removed a:latest\nremoved c:latest\n");
        store.resolve("b").unwrap();
        store.resolve("c").unwrap_err();
        let left = wharf::sys::fs::list_dir(store.layers_dir()).unwrap();
        assert_eq!(left.len(), 1);
    });
}

#[test]
fn s1_prune_works_on_a_full_disk() {
    on_a_full_disk(|root, _, _| {
        let done = json(root, &["prune", "--all", "--json"]);
        assert_eq!(done["removed"].as_array().unwrap().len(), 3);
        assert!(done["freed_bytes"].as_u64().unwrap() > 200_000, "{done}");
    });
}

#[test]
fn s1_gc_works_on_a_full_disk() {
    on_a_full_disk(|root, _, _| {
        // The defaults: a tenth of the disk is to be free, of bytes and of inodes.
        let done = json(root, &["gc", "--json"]);
        assert_eq!(done["removed"].as_array().unwrap().len(), 3, "{done}");
    });
    on_a_full_disk(|_, store, paths| {
        let settings = wharf::settings::Settings::default();
        wharf::engine::images::gc::make_room(paths, &settings, store, 200_000).unwrap();
        assert!(store.records().unwrap().len() < 4);
    });
}

#[test]
fn a_pull_that_lacks_room_removes_what_nothing_needs() {
    let big = |name: &str, mib: usize| {
        let body = name.as_bytes()[0..1].repeat(mib << 20);
        Layer::plain(&Tar::new().file(name, &body).end())
    };
    let (source, hub) = (Rig::in_memory(), hub::Hub::new());
    hub.allow(&source.root());
    let name = format!("{}/new:1", hub.host());
    let files = layout::layout(&name, &[big("new", 2)]);
    source.load(&archive(&files)).unwrap();
    ok(&source.root(), &["push", "--quiet", &name]);
    let disk = Disk::new("size=20m");
    let root = disk.dir.path().join("root");
    hub.allow(&root);
    let paths = Paths::system(&root);
    let store = needs::store(&paths).unwrap();
    for old in ["a", "b"] {
        let file = source.path().join("archive");
        put(&file, &archive(&layout::layout(old, &[big(old, 4)])));
        ok(&root, &["load", file.to_str().unwrap()]);
    }
    let free = || wharf::sys::dir::Dir::open(&root).unwrap().space().unwrap();
    assert!(free().bytes < 6 << 20);
    // Both were loaded just now.
    let output = run(&root, &["pull", &name]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.contains("make room"), "{}", output.stderr);
    store.resolve("a").unwrap();
    age(&paths, "b", 100);
    age(&paths, "a", 50);
    let output = run(&root, &["pull", &name]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        output
            .stderr
            .contains("1 images that nothing needs were removed"),
        "{}",
        output.stderr
    );
    // The older one went, which was enough.
    store.resolve(&name).unwrap();
    store.resolve("a").unwrap();
    store.resolve("b").unwrap_err();
    assert_eq!(run(&root, &["check"]).status.code(), Some(0));
}
