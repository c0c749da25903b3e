// SPDX-License-Identifier: Apache-2.0
//! Pulls that meet others: one download per blob, killed and failed pullers, names that move, images
//! that are removed meanwhile, and leases (threats R15, R16, K1, T21).

use crate::support::layout;
use crate::support::registry;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use wharf::definition::PullPolicy;
use wharf::image::Digest;
use wharf::image::change::Expected;
use wharf::image::check::check;
use wharf::image::event::Event;
use wharf::image::pull::Options;
use wharf::sys::command::Command;

use crate::support::layout::{Files, Layer, layers};
use crate::support::pull::{Content, World, layers_of, manifest_of};
use crate::support::registry::Reply;
use crate::support::tar::Tar;

fn image() -> Files {
    layout::layout("x", &layers())
}

/// Blobs come slowly, so that pulls overlap.
fn slow(content: &Content, seen: &registry::Seen) -> Option<Reply> {
    let blob = seen.path.contains("/blobs/");
    blob.then(|| content.reply(seen).delay(Duration::from_millis(300)))
}

fn staging(world: &World) -> Vec<PathBuf> {
    let dirs = [world.rig.paths.images(), world.rig.paths.layers()];
    let all = dirs.iter().flat_map(|dir| {
        let names = wharf::sys::fs::list_dir(dir).unwrap();
        names.into_iter().map(move |name| dir.join(name))
    });
    all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with('.'))
        .collect()
}

#[test]
fn r15_eight_processes_download_each_blob_once() {
    let world = World::scripted(Content::default().with("1", &image()), slow);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut command = world.command("1");
                command.deadline(Duration::from_secs(60)).run().unwrap();
            });
        }
    });
    let downloads = world.downloads();
    assert_eq!(downloads.len(), 4, "{downloads:?}");
    assert!(downloads.values().all(|count| *count == 1), "{downloads:?}");
    world.rig.store.resolve(&world.name("1")).unwrap();
    world.rig.assert_clean(&"eight");
}

#[test]
fn r15_images_with_common_layers_never_wait_in_a_circle() {
    let mut content = Content::default();
    // Each of four images has the common layers in another order.
    for first in 0..4 {
        let mut layers = layers();
        layers.push(Layer::plain(&Tar::new().file("four", b"4").end()));
        layers.rotate_left(first);
        content = content.with(&first.to_string(), &layout::layout("x", &layers));
    }
    let world = World::scripted(content, slow);
    std::thread::scope(|scope| {
        for tag in 0..8 {
            let world = &world;
            scope.spawn(move || {
                let mut command = world.command(&(tag % 4).to_string());
                command.deadline(Duration::from_secs(60)).run().unwrap();
            });
        }
    });
    let downloads = world.downloads();
    assert_eq!(
        downloads.len(),
        8,
        "four configs, four layers: {downloads:?}"
    );
    assert!(downloads.values().all(|count| *count == 1), "{downloads:?}");
    world.rig.assert_clean(&"circle");
}

#[test]
fn r15_the_second_succeeds_when_the_first_is_killed() {
    let layer = layers_of(&image()).remove(2);
    let (begun, first_asked) = channel();
    let world = World::scripted(
        Content::default().with("1", &image()),
        move |content, seen| {
            // The first to ask never gets the last of it.
            let first = seen.path.ends_with(&layer) && seen.nth == 0;
            first.then(|| {
                begun.send(()).unwrap();
                content.reply(seen).drip(1, Duration::from_secs(5))
            })
        },
    );
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            // The deadline kills.
            let mut command = world.command("1");
            command.deadline(Duration::from_secs(3)).run().unwrap_err()
        });
        first_asked.recv().unwrap();
        let (waiting, is_waiting) = channel();
        let options = Options::default();
        let second = wharf::image::pull::pull(
            &world.rig.store,
            &world.client,
            &world.name("1"),
            &options,
            &|event| {
                if let Event::Waiting { holder, .. } = event {
                    waiting.send(holder).unwrap();
                }
            },
        );
        second.unwrap();
        let holder = is_waiting.recv().unwrap();
        assert!(
            holder.starts_with("process ") && holder.contains("image pull"),
            "{holder}"
        );
        first.join().unwrap();
    });
    world.rig.store.resolve(&world.name("1")).unwrap();
    drop(world.rig.store.write().unwrap());
    assert_eq!(staging(&world), Vec::<PathBuf>::new());
    world.rig.assert_clean(&"killed");
}

#[test]
fn r15_the_second_succeeds_when_the_first_got_garbage() {
    let layer = layers_of(&image()).remove(0);
    let world = World::scripted(
        Content::default().with("1", &image()),
        move |content, seen| {
            if !seen.path.ends_with(&layer) || seen.nth > 0 {
                return None;
            }
            let mut garbage = content.blobs.get(&layer).unwrap().clone();
            *garbage.last_mut().unwrap() ^= 1;
            Some(Reply::ok(garbage).delay(Duration::from_millis(300)))
        },
    );
    let failed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut command = world.command("1");
                let output = command.deadline(Duration::from_secs(60)).output().unwrap();
                failed.fetch_add(usize::from(!output.status.success()), Ordering::Relaxed);
            });
        }
    });
    assert_eq!(failed.into_inner(), 1);
    world.rig.store.resolve(&world.name("1")).unwrap();
    world.rig.assert_clean(&"garbage");
}

#[test]
fn r16_a_tag_that_moves_meanwhile_changes_nothing() {
    let other = [Layer::plain(&Tar::new().file("other", b"1").end())];
    let other = layout::layout("x", &other);
    let content = Content::default().with("1", &image()).with("2", &other);
    let moved = AtomicBool::new(false);
    let (old, new) = (manifest_of(&image()), manifest_of(&other));
    let world = World::scripted(content, move |content, seen| {
        // As soon as the manifest was given, the tag leads elsewhere.
        (seen.path.ends_with("/manifests/1") && moved.swap(true, Ordering::Relaxed)).then(|| {
            let mut content = content.clone();
            content.tags.insert("1".to_owned(), new.clone());
            content.reply(seen)
        })
    });
    assert_eq!(world.pull("1").unwrap().digest.to_string(), old);
    assert_eq!(
        world.pull("1").unwrap().digest.to_string(),
        manifest_of(&other)
    );
}

#[test]
fn r16_what_a_pull_relies_on_is_not_removed_under_it() {
    let mut more = layers();
    more.push(Layer::plain(&Tar::new().file("more", b"1").end()));
    let more = layout::layout("x", &more);
    let last = layers_of(&more).remove(3);
    let (begun, asked) = channel();
    let (go_on, removed) = channel::<()>();
    let removed = std::sync::Mutex::new(removed);
    let content = Content::default()
        .with("base", &image())
        .with("more", &more);
    let world = World::scripted(content, move |content, seen| {
        seen.path.ends_with(&last).then(|| {
            begun.send(()).unwrap();
            removed.lock().unwrap().recv().unwrap();
            content.reply(seen)
        })
    });
    world.pull("base").unwrap();
    std::thread::scope(|scope| {
        let puller = scope.spawn(|| {
            let mut command = world.command("more");
            command.deadline(Duration::from_secs(60)).run().unwrap();
        });
        asked.recv().unwrap();
        // The pull waits for its last layer; the image that has the others goes.
        let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
        command.arg("--root").arg(world.rig.root());
        command
            .args(["image", "rm", &world.name("base")])
            .run()
            .unwrap();
        world.rig.store.write().unwrap().collect().unwrap();
        go_on.send(()).unwrap();
        puller.join().unwrap();
    });
    world.rig.store.resolve(&world.name("more")).unwrap();
    world.rig.assert_clean(&"rm");
    let downloads = world.downloads();
    assert!(downloads.values().all(|count| *count == 1), "{downloads:?}");
}

#[test]
fn a_layer_that_gets_in_use_meanwhile_is_not_replaced() {
    let last = layers_of(&image()).remove(2);
    let (begun, asked) = channel();
    let (go_on, started) = channel::<()>();
    let started = std::sync::Mutex::new(started);
    let world = World::scripted(
        Content::default().with("1", &image()),
        move |content, seen| {
            (seen.path.ends_with(&last) && seen.nth == 1).then(|| {
                begun.send(()).unwrap();
                started.lock().unwrap().recv().unwrap();
                content.reply(seen)
            })
        },
    );
    world.pull("1").unwrap();
    let found = world.rig.store.resolve(&world.name("1")).unwrap();
    let layer = found.layers.last().unwrap().parent().unwrap();
    let inode = || std::os::unix::fs::MetadataExt::ino(&layer.metadata().unwrap());
    let before = inode();
    // Tree and blob: the pull replaces both, from the registry.
    layout::put(&layer.join("layer.json"), b"{");
    let digest = layers_of(&image()).remove(2).parse().unwrap();
    layout::put(&world.rig.store.blob_path(&digest), b"damage");
    std::thread::scope(|scope| {
        let puller = scope.spawn(|| {
            let mut command = world.command("1");
            command.deadline(Duration::from_secs(60)).output().unwrap()
        });
        asked.recv().unwrap();
        world.rig.running("web", "x", &found.digest.to_string());
        go_on.send(()).unwrap();
        let output = puller.join().unwrap();
        assert!(!output.status.success());
        let told = "in use (container 'web' runs it)";
        assert!(output.stderr.contains(told), "{}", output.stderr);
    });
    assert_eq!(inode(), before);
}

#[test]
fn a_lease_keeps_what_was_published_and_nothing_after_it() {
    let world = World::new(Content::default());
    let store = &world.rig.store;
    let layer = &layers()[0];
    let change = store.change().unwrap();
    let expected = Expected {
        descriptor: None,
        diff_id: Some(layer.diff_id.parse().unwrap()),
    };
    let added = change
        .add_layer(&layer.blob[..], &expected, &|_| {})
        .unwrap();
    change.publish().unwrap();
    let tree = wharf::storage::layer::tree(store.layers_dir(), &added.diff_id);
    let sweep = || store.write().unwrap().collect().unwrap();
    sweep();
    assert!(tree.exists() && store.blob_path(&added.descriptor.digest).exists());
    assert!(change.has_layer(&added.descriptor, &added.diff_id).unwrap());
    // Nobody can commit what he did not add.
    let manifest = change.add_document(b"{}").unwrap();
    change.commit(&[], &manifest).unwrap_err();
    change.commit(&[], &Digest::of(b"absent")).unwrap_err();
    drop(change);
    assert_eq!(staging(&world), Vec::<PathBuf>::new());
    sweep();
    world.rig.assert_empty(&"dropped");
}

#[test]
fn k1_a_pull_killed_anywhere_leaves_nothing_half() {
    let world = World::new(Content::default().with("1", &image()));
    let name = world.name("1");
    let mut kills = 0;
    for call in [
        "mkdirat", "openat", "write", "renameat", "rename", "syncfs", "flock", "recvfrom",
    ] {
        for when in [1, 2, 5, 13, 34] {
            let mut strace = Command::new("strace");
            let inject = format!("inject={call}:signal=KILL:when={when}");
            strace.args(["-qq", "-f", "-o", "/dev/null", "-e", &inject]);
            strace.arg(env!("CARGO_BIN_EXE_wharf"));
            strace.arg("--root").arg(world.rig.root());
            strace.args(["image", "pull", &name]);
            let output = strace.output().unwrap();
            if !output.status.success() {
                kills += 1;
            }
            let report = check(&world.rig.store, &mut |_| {}).unwrap();
            assert!(report.findings.is_empty(), "{call} {when}: {report:?}");
            if !world.rig.store.records().unwrap().is_empty() {
                world.rig.store.resolve(&name).unwrap();
            }
            world.pull("1").unwrap();
            let writer = world.rig.store.write().unwrap();
            writer.remove(&name).unwrap();
            writer.collect().unwrap();
            world.rig.assert_empty(&format!("{call} {when}"));
        }
    }
    assert!(kills > 20, "only {kills} pulls were killed");
}

#[test]
fn t21_three_streams_with_large_windows_stay_small() {
    // Noise does not compress, so that the windows are really filled.
    let mut random = 99_u64;
    let mut noise = |mib: usize| -> Vec<u8> {
        let next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random.to_le_bytes()
        };
        std::iter::repeat_with(next)
            .take(mib << 17)
            .flatten()
            .collect()
    };
    let layers: Vec<Layer> = (0..4)
        .map(|index| {
            let tar = Tar::new().file(format!("noise{index}"), &noise(40)).end();
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(25).unwrap();
            encoder.include_contentsize(false).unwrap();
            std::io::copy(&mut &tar[..], &mut encoder).unwrap();
            Layer::new(encoder.finish().unwrap(), layout::ZSTD, &tar)
        })
        .collect();
    let world = World::new(Content::default().with("1", &layout::layout("x", &layers)));
    let peak = peak_of(&mut world.command("1"));
    eprintln!("peak memory: {peak} MiB");
    assert!(peak <= 64, "{peak} MiB");
    let pulled = world
        .pull_with(&world.name("1"), PullPolicy::Missing)
        .unwrap();
    assert_eq!(pulled.downloaded, 0);
}

/// The most memory that a program had, in MiB. Not from getrusage(2), which counts what the child
/// shared with this process before its exec.
fn peak_of(command: &mut Command) -> u64 {
    let (done, ended) = channel::<()>();
    std::thread::scope(|scope| {
        let watcher = scope.spawn(move || {
            let mut peak = 0;
            while ended
                .recv_timeout(Duration::from_millis(2))
                .is_err_and(|err| err == std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                peak = peak.max(children_peak());
            }
            peak
        });
        command.run().unwrap();
        drop(done);
        watcher.join().unwrap() / 1024
    })
}

/// VmHWM of the largest child, in KiB.
fn children_peak() -> u64 {
    let read = |path: PathBuf| std::fs::read(path).unwrap_or_default();
    let text = |path| String::from_utf8(read(path)).unwrap_or_default();
    let mut peak = 0;
    for task in wharf::sys::fs::list_dir("/proc/self/task".as_ref()).unwrap() {
        let children = text(PathBuf::from("/proc/self/task").join(task).join("children"));
        for child in children.split_whitespace() {
            let status = text(PathBuf::from(format!("/proc/{child}/status")));
            let is_wharf = status.starts_with("Name:\twharf");
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            peak = peak.max(kib.filter(|_| is_wharf).unwrap_or(0));
        }
    }
    peak
}
