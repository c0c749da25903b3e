// SPDX-License-Identifier: Apache-2.0
//! `wharf cp` on plain directories in a container's place: its rules, and what a hostile tree may
//! try (threats F1, F3, F4). `WHARF_RACE_ROUNDS` sets the rounds of the race, 100,000 for all.

use crate::support::tar;
use std::ffi::OsStr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{RenameFlags, renameat_with};
use wharf::engine::files::copy::{Links, Side, copy, pack, unpack};
use wharf::storage::member::{MemberKind, Members};
use wharf::storage::place::Keep;
use wharf::storage::walk::Warnings;
use wharf::sys::command::Command;
use wharf::sys::dir::{Dir, Kind, set_owner_and_mode, set_xattr};
use wharf::sys::mount::{Isolation, unshare_mounts};
use wharf::sys::root::Root;

use crate::support::layout::{put, tree};
use crate::support::tar::Tar;

const PLAIN: Keep = Keep::Content { uid: 0, gid: 0 };

/// A container's root and a directory of the host, with a canary beside them.
struct Rig {
    dir: tempfile::TempDir,
    container: Root,
    host: Root,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for made in ["container", "host", "CANARY"] {
            std::fs::create_dir(dir.path().join(made)).unwrap();
        }
        put(&dir.path().join("CANARY/secret"), b"secret");
        let open = |name: &str| Root::open(&dir.path().join(name)).unwrap();
        Self {
            container: open("container"),
            host: open("host"),
            dir,
        }
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.dir.path().join("container").join(path)
    }

    fn outside(&self, path: &str) -> PathBuf {
        self.dir.path().join("host").join(path)
    }

    fn canary(&self) -> PathBuf {
        self.dir.path().join("CANARY")
    }

    fn out(&self, from: &str, to: &str, keep: Keep) -> anyhow::Result<Warnings> {
        copy(
            &side(&self.container, from),
            &side(&self.host, to),
            Links::Keep,
            keep,
        )
    }

    fn put_in(&self, from: &str, to: &str, keep: Keep) -> anyhow::Result<Warnings> {
        copy(
            &side(&self.host, from),
            &side(&self.container, to),
            Links::Keep,
            keep,
        )
    }
}

fn side<'a>(root: &'a Root, path: &'a str) -> Side<'a> {
    Side {
        root,
        path: OsStr::new(path),
        whose: "the test",
    }
}

fn text(path: &Path) -> String {
    String::from_utf8(std::fs::read(path).unwrap()).unwrap()
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_a_slash_at_the_end_means() {
    // Source, destination, and what is where afterwards; none for a refusal.
    for (from, to, expected) in [
        ("/file", "/new", Some("new")),
        ("/file", "/dir", Some("dir/file")),
        ("/file", "/dir/", Some("dir/file")),
        ("/file", "/dir/.", Some("dir/file")),
        ("/file", "/there", Some("there")),
        ("file", "dir/new", Some("dir/new")),
        ("/file", "/none/", None),
        ("/file", "/none/new", None),
        ("/file", "/there/", None),
        ("/file", "/there/new", None),
        ("/file/", "/new", None),
        ("/file/.", "/new", None),
        ("/none", "/new", None),
        ("/tree", "/new", Some("new/leaf")),
        ("/tree", "/new/", Some("new/leaf")),
        ("/tree/", "/dir", Some("dir/tree/leaf")),
        ("/tree", "/dir", Some("dir/tree/leaf")),
        ("/tree/.", "/dir", Some("dir/leaf")),
        ("/tree/.", "/new", Some("new/leaf")),
        ("/tree", "/there", None),
        ("/tree", "/none/new", None),
        ("/to-tree/", "/dir", Some("dir/to-tree/leaf")),
        ("/to-tree/.", "/dir", Some("dir/leaf")),
        ("/file", "/to-dir", Some("dir/file")),
        ("/file", "/to-there", Some("there")),
        ("/file", "/to-none", Some("dir/made")),
        ("/file", "/up", Some("file")),
        ("/tree/..", "/dir", None),
        ("/file", "/loop", None),
    ] {
        let rig = Rig::new();
        put(&rig.outside("file"), b"new");
        put(&rig.outside("tree/leaf"), b"new");
        symlink("tree", rig.outside("to-tree")).unwrap();
        std::fs::create_dir(rig.inside("dir")).unwrap();
        put(&rig.inside("there"), b"old");
        symlink("/dir", rig.inside("to-dir")).unwrap();
        symlink("/there", rig.inside("to-there")).unwrap();
        symlink("dir/made", rig.inside("to-none")).unwrap();
        symlink("dir/..", rig.inside("up")).unwrap();
        symlink("loop", rig.inside("loop")).unwrap();
        let before = tree(&rig.inside(""));
        let done = rig.put_in(from, to, PLAIN);
        match expected {
            Some(path) => {
                done.unwrap_or_else(|err| panic!("{from} {to}: {err:#}"));
                assert_eq!(text(&rig.inside(path)), "new", "{from} {to}");
            }
            None => {
                assert!(done.is_err(), "{from} {to}");
                assert_eq!(before, tree(&rig.inside("")), "{from} {to}");
            }
        }
    }
}

#[test]
fn links_are_copied_or_followed() {
    let rig = Rig::new();
    put(&rig.inside("file"), b"x");
    symlink("/file", rig.inside("link")).unwrap();
    rig.out("/link", "/", PLAIN).unwrap();
    assert_eq!(
        std::fs::read_link(rig.outside("link")).unwrap(),
        Path::new("/file")
    );
    let (from, to) = (side(&rig.container, "/link"), side(&rig.host, "/followed"));
    copy(&from, &to, Links::Follow, PLAIN).unwrap();
    assert_eq!(text(&rig.outside("followed")), "x");
    // A destination that is a link is replaced when it is below the one that was named.
    let canary = rig.canary().join("secret");
    std::fs::create_dir(rig.inside("d")).unwrap();
    put(&rig.inside("d/f"), b"new");
    std::fs::create_dir(rig.outside("d")).unwrap();
    symlink(&canary, rig.outside("d/f")).unwrap();
    rig.out("/d", "/", PLAIN).unwrap();
    assert!(!rig.outside("d/f").is_symlink());
    assert_eq!(
        (text(&rig.outside("d/f")), text(&canary)),
        ("new".into(), "secret".into())
    );
}

#[test]
fn owners_modes_and_attributes() {
    let rig = Rig::new();
    put(&rig.inside("d/su"), b"x");
    let dir = Dir::open(&rig.inside("d")).unwrap();
    let su = dir.open_file("su".as_ref()).unwrap();
    set_owner_and_mode(&su, (7, 8), 0o4755).unwrap();
    set_xattr(&su, "user.x".as_ref(), b"y").unwrap();
    set_owner_and_mode(&dir, (7, 8), 0o2750).unwrap();
    dir.make_hard_link("again".as_ref(), &dir, "su".as_ref())
        .unwrap();
    let facts = |path: &Path| {
        let m = std::fs::metadata(path).unwrap();
        (m.uid(), m.gid(), m.mode() & 0o7777)
    };
    rig.out("/d", "/plain", Keep::Content { uid: 1, gid: 2 })
        .unwrap();
    assert_eq!(facts(&rig.outside("plain")), (1, 2, 0o750));
    assert_eq!(facts(&rig.outside("plain/su")), (1, 2, 0o755));
    rig.out("/d", "/all", Keep::All).unwrap();
    assert_eq!(facts(&rig.outside("all")), (7, 8, 0o2750));
    assert_eq!(facts(&rig.outside("all/su")), (7, 8, 0o4755));
    let all = Dir::open(&rig.outside("all")).unwrap();
    let copied = all.open_file("su".as_ref()).unwrap();
    let value = wharf::sys::dir::xattr(&copied, "user.x".as_ref()).unwrap();
    assert_eq!(value.as_deref(), Some(&b"y"[..]));
    let inode = |name: &str| std::fs::metadata(rig.outside(name)).unwrap().ino();
    assert_eq!(inode("all/su"), inode("all/again"));
    let time = |path: &Path| {
        let m = std::fs::metadata(path).unwrap();
        (m.mtime(), m.mtime_nsec())
    };
    for (from, to) in [("d", "plain"), ("d/su", "plain/su"), ("d", "all")] {
        assert_eq!(time(&rig.inside(from)), time(&rig.outside(to)), "{to}");
    }
    // A directory that is there keeps what it is.
    rig.out("/d/.", "/plain", Keep::Content { uid: 3, gid: 3 })
        .unwrap();
    assert_eq!(facts(&rig.outside("plain")), (1, 2, 0o750));
    assert_eq!(facts(&rig.outside("plain/su")), (3, 3, 0o755));
}

#[test]
fn a_hard_link_to_another_mount_becomes_a_copy() {
    let mut rig = Rig::new();
    put(&rig.inside("d/a/su"), b"text");
    std::fs::create_dir(rig.inside("d/b")).unwrap();
    std::fs::hard_link(rig.inside("d/a/su"), rig.inside("d/b/again")).unwrap();
    symlink("x", rig.inside("d/a/link")).unwrap();
    std::fs::hard_link(rig.inside("d/a/link"), rig.inside("d/c")).unwrap();
    let su = Dir::open(&rig.inside("d/a")).unwrap();
    let su = su.open_file("su".as_ref()).unwrap();
    set_owner_and_mode(&su, (7, 8), 0o4755).unwrap();
    std::fs::create_dir_all(rig.outside("d/b")).unwrap();
    unshare_mounts(&rig.outside("d/b"), Isolation::Slave).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "tmpfs"]).arg(rig.outside("d/b"));
    mount.run().unwrap();
    // The one that was opened is in the namespace before.
    rig.host = Root::open(&rig.outside("")).unwrap();
    let mut archive = Vec::new();
    pack(&side(&rig.container, "/d"), Links::Keep, &mut archive).unwrap();
    for stream in [false, true] {
        let warnings = match stream {
            true => unpack(archive.as_slice(), &side(&rig.host, "/")).unwrap(),
            false => rig.out("/d", "/", Keep::All).unwrap(),
        };
        let said = ["'d/b/again' cannot be a hard link there, copying it"];
        assert_eq!(warnings.texts, said, "{stream}");
        let copied = std::fs::metadata(rig.outside("d/b/again")).unwrap();
        assert_eq!(
            (copied.uid(), copied.gid(), copied.mode() & 0o7777),
            (7, 8, 0o4755)
        );
        assert_eq!(text(&rig.outside("d/b/again")), "text");
        assert_eq!(copied.mtime(), su.metadata().unwrap().mtime());
        // Where it can be one it is.
        let inode = |path: &str| std::fs::symlink_metadata(rig.outside(path)).unwrap().ino();
        assert_eq!(inode("d/a/link"), inode("d/c"));
    }
}

#[test]
fn a_directory_is_not_copied_into_itself() {
    let rig = Rig::new();
    put(&rig.inside("d/f"), b"x");
    let (from, to) = (side(&rig.container, "/d"), side(&rig.container, "/d"));
    let err = copy(&from, &to, Links::Keep, PLAIN).unwrap_err();
    assert!(format!("{err:#}").contains("into itself"), "{err:#}");
    let to = side(&rig.container, "/e");
    copy(&from, &to, Links::Keep, PLAIN).unwrap();
    assert_eq!(names(&rig.inside("e")), ["f"]);
}

#[test]
fn k1_what_a_killed_copy_left_is_removed_by_the_next() {
    let rig = Rig::new();
    put(&rig.outside("d/file"), b"x");
    // Of a process that is not there, of one that had this one's PID, of one that is there, and of
    // nobody.
    let own = format!(".wharf-cp-{}-1", std::process::id());
    for name in [
        ".wharf-cp-2147483647-1",
        &own,
        ".wharf-cp-1-1",
        ".wharf-cp-x",
    ] {
        put(&rig.inside("d").join(name), b"half");
    }
    rig.put_in("/d", "/", PLAIN).unwrap();
    assert_eq!(
        names(&rig.inside("d")),
        [".wharf-cp-1-1", ".wharf-cp-x", "file"]
    );
}

#[test]
fn t14_deep_trees() {
    let rig = Rig::new();
    let mut dir = Dir::open(&rig.inside("")).unwrap();
    for _ in 0..500 {
        dir.make_dir("deep".as_ref()).unwrap();
        dir = dir.open_dir("deep".as_ref()).unwrap();
    }
    dir.make_file("leaf".as_ref()).unwrap();
    wharf::sys::process::raise_open_files().unwrap();
    rig.out("/deep", "/", Keep::All).unwrap();
    let copied = rig.outside(&format!("{}leaf", "deep/".repeat(500)));
    assert!(copied.is_file());
    let mut archive = Vec::new();
    pack(&side(&rig.container, "/deep"), Links::Keep, &mut archive).unwrap();
    unpack(archive.as_slice(), &side(&rig.host, "/again")).unwrap_err();
    std::fs::create_dir(rig.outside("again")).unwrap();
    unpack(archive.as_slice(), &side(&rig.host, "/again")).unwrap();
    assert!(
        rig.outside("again")
            .join("deep/".repeat(500))
            .join("leaf")
            .is_file()
    );
}

#[test]
fn f3_special_files_never_block() {
    let begin = Instant::now();
    let rig = Rig::new();
    std::fs::create_dir(rig.inside("d")).unwrap();
    let dir = Dir::open(&rig.inside("d")).unwrap();
    dir.make_node("fifo".as_ref(), Kind::Fifo, (0, 0)).unwrap();
    dir.make_node("tty".as_ref(), Kind::CharDevice, (5, 0))
        .unwrap();
    dir.make_node("zero".as_ref(), Kind::CharDevice, (1, 5))
        .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(rig.inside("d/socket")).unwrap();
    let sparse = dir.make_file("sparse".as_ref()).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let warnings = rig.out("/d", "/plain", PLAIN).unwrap();
    assert_eq!(warnings.count, 4, "{warnings:?}");
    assert_eq!(names(&rig.outside("plain")), ["sparse"]);
    let copied = std::fs::metadata(rig.outside("plain/sparse")).unwrap();
    assert_eq!(copied.len(), 1 << 40);
    assert!(copied.blocks() < 100);
    rig.out("/d", "/all", Keep::All).unwrap();
    assert_eq!(
        names(&rig.outside("all")),
        ["fifo", "sparse", "tty", "zero"]
    );
    let kind = std::fs::metadata(rig.outside("all/zero")).unwrap();
    assert!(kind.file_type().is_char_device() && kind.rdev() == rustix::fs::makedev(1, 5));
    for path in ["/d/fifo", "/d/zero", "/d/socket"] {
        assert!(rig.out(path, "/", PLAIN).is_err(), "{path}");
    }
    // What the kernel shows has no size and may wait for ever.
    let host = Root::open(Path::new("/")).unwrap();
    for path in ["/proc/self/mem", "/proc/kmsg", "/proc/1", "/sys/kernel"] {
        let to = side(&rig.host, "/");
        let err = copy(&side(&host, path), &to, Links::Keep, PLAIN).unwrap_err();
        assert!(!format!("{err:#}").is_empty(), "{path}");
    }
    let err = copy(
        &side(&rig.container, "/d/sparse"),
        &side(&host, "/proc/sys"),
        Links::Keep,
        PLAIN,
    );
    assert!(format!("{:#}", err.unwrap_err()).contains("shows something of the kernel"));
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn f4_a_stream_stays_below_its_destination() {
    let rig = Rig::new();
    let before = tree(&rig.canary());
    let canary = rig.canary().to_str().unwrap().to_owned();
    let archives = [
        Tar::new().file("../CANARY/x", b"x").end(),
        Tar::new().file("d/../../CANARY/x", b"x").end(),
        Tar::new().symlink("l", &canary).file("l/x", b"x").end(),
        Tar::new().symlink("l", &canary).dir("l").end(),
        Tar::new().symlink("l", &canary).dir("l/sub").end(),
        Tar::new().hardlink("h", format!("{canary}/secret")).end(),
        Tar::new().hardlink("h", "../CANARY/secret").end(),
        Tar::new()
            .symlink("l", &canary)
            .hardlink("h", "l/secret")
            .end(),
        Tar::new().file("there/x", b"x").end(),
        Tar::new().dir("there").end(),
        b"no archive at all".to_vec(),
        Tar::new().file("cut", b"x").0,
    ];
    for (index, archive) in archives.iter().enumerate() {
        // There from the beginning, on the host's side.
        drop(std::fs::remove_file(rig.outside("there")));
        symlink(&canary, rig.outside("there")).unwrap();
        let done = unpack(archive.as_slice(), &side(&rig.host, "/"));
        assert!(done.is_err(), "{index}");
        assert_eq!(before, tree(&rig.canary()), "{index}");
    }
    let good = Tar::new()
        .file("a/.wh.b", b"x")
        .hardlink("a/c", "a/.wh.b")
        .symlink("there", "a")
        .node("p", b'6', (0, 0))
        .end();
    let compressed = tar::gzip(&good);
    for archive in [good, compressed] {
        unpack(archive.as_slice(), &side(&rig.host, "/.")).unwrap();
    }
    assert_eq!(std::fs::metadata(rig.outside("a/c")).unwrap().nlink(), 2);
    assert_eq!(
        std::fs::read_link(rig.outside("there")).unwrap(),
        Path::new("a")
    );
    assert_eq!(before, tree(&rig.canary()));
}

#[test]
fn a_stream_has_what_a_copy_has() {
    let rig = Rig::new();
    put(&rig.inside("d/sub/f"), b"x");
    symlink("f", rig.inside("d/sub/l")).unwrap();
    let streamed = |path: &str| {
        let mut archive = Vec::new();
        pack(&side(&rig.container, path), Links::Keep, &mut archive).unwrap();
        let mut members = Members::new(archive.as_slice());
        let mut names = Vec::new();
        while let Some(member) = members.read_next().unwrap() {
            names.push(String::from_utf8(member.path).unwrap());
        }
        (archive, names)
    };
    assert_eq!(streamed("/d").1, ["d/", "d/sub/", "d/sub/f", "d/sub/l"]);
    assert_eq!(streamed("/d/.").1, ["sub/", "sub/f", "sub/l"]);
    assert_eq!(streamed("/d/sub/f").1, ["f"]);
    assert_eq!(streamed("/d/sub/l").1, ["l"]);
    unpack(streamed("/d").0.as_slice(), &side(&rig.host, "/")).unwrap();
    assert_eq!(text(&rig.outside("d/sub/f")), "x");
    assert!(rig.outside("d/sub/l").is_symlink());
}

fn rounds() -> u64 {
    let asked = std::env::var("WHARF_RACE_ROUNDS").ok();
    asked.map_or(4000, |text| text.parse().unwrap())
}

/// Swaps two names of a directory, whatever that is called meanwhile, until it is told to stop.
fn swap(dir: &Dir, (a, b): (&str, &str), (stop, swaps): (&AtomicBool, &AtomicU64)) {
    while !stop.load(Ordering::Relaxed) {
        renameat_with(dir, a, dir, b, RenameFlags::EXCHANGE).unwrap();
        swaps.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tells the others to stop, also when a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A container whose `d/mid` and `d/mid/file` are swapped with links to the canary all the time.
fn race(act: impl Fn(&Rig, u64)) {
    let rig = Rig::new();
    let before = tree(&rig.canary());
    put(&rig.inside("d/mid/file"), b"harmless");
    put(&rig.inside("d/mid/sub/leaf"), b"harmless");
    symlink(rig.canary(), rig.inside("d/link")).unwrap();
    symlink("../../CANARY", rig.inside("up")).unwrap();
    symlink(rig.canary().join("secret"), rig.inside("to-secret")).unwrap();
    put(&rig.inside("secret"), b"inside");
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let open = |path: &str| Dir::open(&rig.inside(path)).unwrap();
    let (inner, outer) = (&open("d"), &open(""));
    std::thread::scope(|scope| {
        let told = (&stop, &swaps);
        scope.spawn(move || swap(inner, ("mid", "link"), told));
        scope.spawn(move || swap(outer, ("d", "up"), told));
        let _stop = Stop(&stop);
        for round in 0..rounds() {
            act(&rig, round);
        }
    });
    assert!(
        swaps.load(Ordering::Relaxed) > rounds() / 10,
        "too few swaps"
    );
    assert_eq!(before, tree(&rig.canary()), "the canary is untouched");
}

#[test]
fn f1_copying_out_of_a_tree_that_swaps_links_in() {
    let worked = AtomicU64::new(0);
    race(|rig, round| {
        let to = rig.outside("out");
        let path = match round % 4 {
            0 => "/d",
            1 => "/d/mid/file",
            2 => "/d/mid/.",
            _ => "/d/mid",
        };
        let keep = if round % 2 == 0 { PLAIN } else { Keep::All };
        if rig.out(path, "/out", keep).is_ok() {
            worked.fetch_add(1, Ordering::Relaxed);
        }
        // Nothing of the canary came out, through whatever was a link at that moment.
        if to.symlink_metadata().is_ok() {
            for (path, line) in tree(&to) {
                let leaked = path.is_file() && !path.is_symlink() && text(&path) == "secret";
                assert!(!leaked, "{}: {line}", path.display());
            }
            let host = Dir::open(&rig.outside("")).unwrap();
            host.remove_tree("out".as_ref()).unwrap();
        }
    });
    println!(
        "{} of {} copies worked",
        worked.load(Ordering::Relaxed),
        rounds()
    );
    assert!(worked.load(Ordering::Relaxed) > 0);
}

#[test]
fn f1_copying_into_a_tree_that_swaps_links_in() {
    let worked = AtomicU64::new(0);
    race(|rig, round| {
        if round == 0 {
            put(&rig.outside("tree/mid/file"), b"from the host");
            put(&rig.outside("tree/mid/sub/new"), b"from the host");
            put(&rig.outside("secret"), b"from the host");
        }
        let (from, to) = match round % 4 {
            0 => ("/tree/.", "/d"),
            1 => ("/secret", "/d/mid"),
            2 => ("/secret", "/d/mid/file"),
            _ => ("/tree/mid/.", "/d/mid/"),
        };
        let keep = if round % 2 == 0 { PLAIN } else { Keep::All };
        if rig.put_in(from, to, keep).is_ok() {
            worked.fetch_add(1, Ordering::Relaxed);
        }
        if round % 5 == 0 {
            let archive = Tar::new()
                .dir("mid")
                .file("mid/secret", b"tar")
                .symlink("mid/x", "/")
                .end();
            drop(unpack(archive.as_slice(), &side(&rig.container, "/d")));
        }
    });
    println!(
        "{} of {} copies worked",
        worked.load(Ordering::Relaxed),
        rounds()
    );
    assert!(worked.load(Ordering::Relaxed) > 0);
}

#[test]
fn f1_packing_a_tree_that_swaps_links_in() {
    race(|rig, _| {
        let mut archive = Vec::new();
        if pack(&side(&rig.container, "/d"), Links::Keep, &mut archive).is_err() {
            return;
        }
        let mut members = Members::new(archive.as_slice());
        while let Some(member) = members.read_next().unwrap() {
            let leaked = member.kind == MemberKind::File && member.path.ends_with(b"secret");
            assert!(!leaked, "{}", String::from_utf8_lossy(&member.path));
        }
    });
}
