// SPDX-License-Identifier: Apache-2.0
//! Layers that are too much: too large, too many entries, too many layers (threats T21, T26).
//!
//! Each archive is written as a stream and loaded by the program into a file system of its own. Bombs
//! go off in a control group of 256 MiB, in which that file system, a tmpfs, counts too. The peak memory
//! of the program is what getrusage(2) says of this test's children: nextest runs each test in a process
//! of its own. `WHARF_BOMBS=full` takes the sizes of the catalogue.

use crate::support::layout;
use std::fs::File;
use std::io::{BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};

use nix::sys::resource::{UsageWho, getrusage};
use wharf::engine::images::needs;
use wharf::image::load::{Source, load};
use wharf::name::ContainerName;
use wharf::paths::Paths;
use wharf::storage::overlay::{self, Upper};
use wharf::sys::command::{Command, Output};
use wharf::sys::mount::{Isolation, OVERLAY_LAYERS_MAX, unshare_mounts};

use crate::support::cage::Cage;
use crate::support::layout::{Layer, put};
use crate::support::tar::{Header, Tar};

/// What loading may take, whatever the image is.
const MEMORY_MAX_KIB: i64 = 64 << 10;

/// What a machine may have for it, its disk included.
const CAGE_BYTES: u64 = 256 << 20;

fn full() -> bool {
    std::env::var_os("WHARF_BOMBS").is_some_and(|value| value == "full")
}

/// Peak memory of the largest child of this process until now, in KiB.
fn peak() -> i64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss()
}

/// A tmpfs of its own, in a mount namespace of its own, that ends with the thread.
struct Small {
    dir: tempfile::TempDir,
    cage: Option<Cage>,
}

impl Small {
    fn new(options: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        unshare_mounts(dir.path(), Isolation::Slave).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]);
        mount.arg(dir.path()).run().unwrap();
        Self { dir, cage: None }
    }

    fn caged(options: &str) -> Self {
        let cage = Some(Cage::new(CAGE_BYTES));
        Self {
            cage,
            ..Self::new(options)
        }
    }

    /// For the test's output, after what `output` says.
    fn told(&self, output: &Output) -> String {
        let cage = self.cage.as_ref().map(Cage::peak);
        format!(
            "{}peak {} KiB, of the control group {cage:?} KiB",
            output.stderr,
            peak()
        )
    }

    fn wharf(&self, args: &[&str]) -> Output {
        let program = env!("CARGO_BIN_EXE_wharf");
        let mut wharf = match &self.cage {
            Some(cage) => cage.command(program),
            None => Command::new(program),
        };
        wharf.arg("--root").arg(self.dir.path().join("root"));
        wharf.arg("image").args(args).output().unwrap()
    }

    /// Nothing of any image is there, and the program says so.
    fn assert_empty(&self) {
        let paths = Paths::system(&self.dir.path().join("root"));
        for dir in [paths.images().join("blobs/sha256"), paths.layers()] {
            let names = wharf::sys::fs::list_dir(&dir).unwrap();
            assert!(names.is_empty(), "{}: {names:?}", dir.display());
        }
        let check = self.wharf(&["check"]);
        assert!(check.status.success(), "{}", check.stderr);
    }
}

/// A docker-archive in a directory: its layer's digests are nobody's concern, since it is never
/// whole.
fn bomb(dir: &Path, write: impl FnOnce(&mut dyn Write)) -> PathBuf {
    let path = dir.join("bomb");
    let layer = Layer::plain(b"another one");
    put(&path.join("config.json"), &layout::config(&[layer]));
    put(
        &path.join("manifest.json"),
        br#"[{"Config":"config.json","RepoTags":["bomb"],"Layers":["layer"]}]"#,
    );
    let mut out = BufWriter::new(File::create(path.join("layer")).unwrap());
    write(&mut out);
    out.flush().unwrap();
    path
}

fn gzip_to(out: &mut dyn Write, write: impl FnOnce(&mut dyn Write)) {
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
    write(&mut encoder);
    encoder.finish().unwrap();
}

fn zeros(out: &mut dyn Write, bytes: u64) {
    let mut zeros = std::io::repeat(0).take(bytes);
    std::io::copy(&mut zeros, out).unwrap();
}

#[test]
fn t21_gibibytes_of_zeros_stop_at_the_floor() {
    let size: u64 = if full() { 10 << 30 } else { 2 << 30 };
    let small = Small::caged("size=200m");
    let source = tempfile::tempdir().unwrap();
    let path = bomb(source.path(), |out| {
        gzip_to(out, |out| {
            let mut header = Header::new("zeros", b'0');
            header.size = 0;
            let big = |block: &mut [u8; 512]| {
                block[124..128].copy_from_slice(&[0x80, 0, 0, 0]);
                block[128..136].copy_from_slice(&size.to_be_bytes());
            };
            out.write_all(&Tar::new().changed(&header, big).0).unwrap();
            zeros(out, size + 1024);
        });
    });
    let output = small.wharf(&["load", path.to_str().unwrap()]);
    println!("{}", small.told(&output));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output.stderr.contains("MiB are free; make room"),
        "{}",
        output.stderr
    );
    assert!(peak() < MEMORY_MAX_KIB, "{} KiB", peak());
    small.assert_empty();
}

#[test]
fn t21_a_million_empty_files_stop_at_the_floor() {
    let files = if full() { 10_000_000 } else { 200_000 };
    let small = Small::caged("size=1g,nr_inodes=100k");
    let source = tempfile::tempdir().unwrap();
    let path = bomb(source.path(), |out| {
        gzip_to(out, |out| {
            for number in 0..files {
                let header = Header::new(format!("d/{number}"), b'0');
                out.write_all(&header.block()).unwrap();
            }
            zeros(out, 1024);
        });
    });
    let output = small.wharf(&["load", path.to_str().unwrap()]);
    println!("{}", small.told(&output));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output.stderr.contains("inodes are free"),
        "{}",
        output.stderr
    );
    assert!(peak() < MEMORY_MAX_KIB, "{} KiB", peak());
    small.assert_empty();
}

/// Entries without end, of one name: nothing fills up but time.
#[test]
fn t21_entries_have_a_limit() {
    let small = Small::caged("size=256m");
    let source = tempfile::tempdir().unwrap();
    let path = bomb(source.path(), |out| {
        gzip_to(out, |out| {
            let block = Header::new(".wh..wh.plnk/x", b'0').block();
            for _ in 0..=1_000_000 {
                out.write_all(&block).unwrap();
            }
            zeros(out, 1024);
        });
    });
    let output = small.wharf(&["load", path.to_str().unwrap()]);
    println!("{}", small.told(&output));
    assert!(
        output
            .stderr
            .contains("more than 1000000 entries in one layer"),
        "{}",
        output.stderr
    );
    assert!(peak() < MEMORY_MAX_KIB, "{} KiB", peak());
    small.assert_empty();
}

/// A whole image of many directories with long names, all in one directory: what is remembered of
/// each entry adds up.
#[test]
fn t21_memory_does_not_grow_with_the_entries() {
    // The names of one directory may take 20 MiB.
    let (directories, length) = if full() { (990_000, 8) } else { (40_000, 80) };
    let small = Small::new("size=20g,nr_inodes=8m");
    let source = tempfile::tempdir().unwrap();
    let plain = source.path().join("plain");
    let mut out = BufWriter::new(File::create(&plain).unwrap());
    for number in 0..directories {
        let header = Header::new(format!("d/{number}-{}", "n".repeat(length)), b'5');
        out.write_all(&header.block()).unwrap();
    }
    zeros(&mut out, 1024);
    drop(out);
    let mut hash = wharf::digest::Hashing::new(File::open(&plain).unwrap());
    std::io::copy(&mut hash, &mut std::io::sink()).unwrap();
    let diff_id = hash.finish().0.to_string();
    let path = bomb(source.path(), |out| {
        std::io::copy(&mut File::open(&plain).unwrap(), out).unwrap();
    });
    let mut layer = Layer::plain(b"");
    layer.diff_id = diff_id;
    put(&path.join("config.json"), &layout::config(&[layer]));
    let output = small.wharf(&["load", path.to_str().unwrap()]);
    assert!(output.status.success(), "{}", output.stderr);
    println!("load: peak {} KiB", peak());
    let check = small.wharf(&["check"]);
    assert!(check.status.success(), "{}", check.stderr);
    println!("check: peak {} KiB", peak());
    let removed = small.wharf(&["rm", "bomb"]);
    assert!(removed.status.success(), "{}", removed.stderr);
    println!("rm: peak {} KiB", peak());
    // Beyond what the program itself takes, less than 128 bytes for each.
    let most = (30_000 + directories * 128 / 1024).min(MEMORY_MAX_KIB);
    assert!(peak() < most, "{} KiB", peak());
    small.assert_empty();
}

/// A frame of zstd by hand: a window of `log` bits, and blocks of repeated bytes.
fn zstd_frame(log: u8, plain: &[u8], zeros: u32) -> Vec<u8> {
    const BLOCK_MAX: u32 = 128 << 10;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3];
    let header = |kind: u32, size: u32, last: u32| (size << 3 | kind << 1 | last).to_le_bytes();
    let size = u32::try_from(plain.len()).unwrap();
    frame.extend(&header(0, size, 0)[..3]);
    frame.extend(plain);
    let mut left = zeros;
    while left > 0 {
        let now = left.min(BLOCK_MAX);
        left -= now;
        frame.extend(&header(1, now, u32::from(left == 0))[..3]);
        frame.push(0);
    }
    frame
}

#[test]
fn t21_zstd_windows() {
    let small = Small::caged("size=2g");
    let source = tempfile::tempdir().unwrap();
    let size: u32 = 100 << 20;
    let mut header = Header::new("zeros", b'0');
    header.size = u64::from(size);
    for log in [26, 27, 30, 31, 41] {
        let frame = zstd_frame(log, &header.block(), size + 1024);
        let path = bomb(source.path(), |out| out.write_all(&frame).unwrap());
        let output = small.wharf(&["load", path.to_str().unwrap()]);
        println!("{}", small.told(&output));
        assert_eq!(output.status.code(), Some(1), "2^{log}");
        assert!(output.stderr.contains("memory"), "{}", output.stderr);
        small.assert_empty();
    }
    // The largest window that is accepted, and filled.
    let frame = zstd_frame(25, &header.block(), size + 1024);
    let path = bomb(source.path(), |out| out.write_all(&frame).unwrap());
    let output = small.wharf(&["load", path.to_str().unwrap()]);
    println!("{}", small.told(&output));
    assert!(
        output.stderr.contains("but the image's config says"),
        "{}",
        output.stderr
    );
    assert!(peak() < MEMORY_MAX_KIB, "{} KiB", peak());
    small.assert_empty();
}

/// As many layers as can be mounted, from a directory with a long name: a file of the lowest and
/// one of the highest are read through the overlay. One more is refused before anything is mounted.
#[test]
fn t26_layers_up_to_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("n".repeat(200)).join("m".repeat(200));
    unshare_mounts(dir.path(), Isolation::Slave).unwrap();
    let paths = Paths::system(&long);
    let store = needs::store(&paths).unwrap();
    let name: ContainerName = "many".parse().unwrap();
    let layer = |number: usize| {
        let tar = Tar::new().file(format!("f{number}"), number.to_string().as_bytes());
        Layer::plain(&tar.file("top", number.to_string().as_bytes()).end())
    };
    let image = |count: usize| {
        let layers: Vec<Layer> = (0..count).map(layer).collect();
        let file = dir.path().join("image");
        put(&file, &layout::archive(&layout::layout("x", &layers)));
        load(&store, Source::Path(file), None, &mut |_| {}).unwrap();
        store.resolve("x").unwrap().layers
    };
    for count in [128, OVERLAY_LAYERS_MAX] {
        let layers = image(count);
        assert_eq!(layers.len(), count);
        let rootfs = overlay::mount(&paths, &name, &layers, Upper::Ephemeral).unwrap();
        let read = |file: &str| wharf::sys::fs::read_to_string(&rootfs.path().join(file)).unwrap();
        assert_eq!(read("f0"), "0");
        let top = (count - 1).to_string();
        assert_eq!(read(&format!("f{top}")), top);
        assert_eq!(read("top"), top);
    }
    let layers = image(OVERLAY_LAYERS_MAX + 1);
    let runtime = paths.container_runtime(&"other".parse().unwrap());
    let other: ContainerName = "other".parse().unwrap();
    let err = overlay::mount(&paths, &other, &layers, Upper::Ephemeral).unwrap_err();
    assert_eq!(
        err.to_string(),
        "the image of container 'other' has 201 layers, more than the 200 that can be mounted"
    );
    assert!(!runtime.exists());
}
