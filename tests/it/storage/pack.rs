// SPDX-License-Identifier: Apache-2.0
//! Packing trees: what comes out of the archive is what went in (threats F5, F7), for our
//! own extractor, for GNU tar and for Python.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use wharf::storage::member::{MemberKind, Members};
use wharf::storage::pack::{Form, Packed, pack};
use wharf::storage::{facts, layer};
use wharf::sys::command::Command;
use wharf::sys::dir::{Dir, Kind, Time, set_owner_and_mode, set_time, set_xattr};
use wharf::sys::mount::{Isolation, unshare_mounts};

/// A file capability: CAP_NET_BIND_SERVICE, permitted and effective (linux/capability.h).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

fn file(dir: &Dir, file_name: &OsStr, body: &[u8], owner: (u32, u32), mode: u32) {
    let mut file = dir.make_file(file_name).unwrap();
    file.write_all(body).unwrap();
    set_owner_and_mode(&file, owner, mode).unwrap();
}

/// Everything that a tree can hold, but what is special to overlayfs.
fn fill(top: &Path) {
    let dir = Dir::open(top).unwrap();
    set_owner_and_mode(&dir, (0, 0), 0o755).unwrap();
    dir.make_dir(name("etc")).unwrap();
    let etc = dir.open_dir(name("etc")).unwrap();
    set_owner_and_mode(&etc, (5, 6), 0o2755).unwrap();
    file(&etc, name("shadow"), b"root:*", (0, 42), 0o640);
    file(&etc, name("empty"), b"", (0, 0), 0o000);
    file(
        &etc,
        OsStr::from_bytes(b"bad\xff\nutf8\x1b"),
        b"x",
        (0, 0),
        0o644,
    );
    file(&etc, name("Grüße"), b"x", (3_000_000_000, 2_097_152), 0o644);
    file(&etc, name("512"), &[7; 512], (2_097_151, 1), 0o644);
    file(&etc, name("513"), &[8; 513], (1, 1), 0o644);
    file(&etc, name("su"), b"#!", (0, 0), 0o4755);
    let net = dir.make_file(name("net")).unwrap();
    set_owner_and_mode(&net, (1, 1), 0o6711).unwrap();
    set_xattr(&net, name("security.capability"), &CAPABILITY).unwrap();
    set_xattr(&net, name("user.binary"), b"a=\0\nb").unwrap();
    set_xattr(&etc, name("user.dir"), b"").unwrap();
    let old = Time {
        seconds: -86_400,
        nanoseconds: 250_000_000,
    };
    set_time(&net, old).unwrap();
    let late = Time {
        seconds: 10_000_000_000,
        nanoseconds: 1,
    };
    dir.make_hard_link(name("net2"), &dir, name("net")).unwrap();
    etc.make_hard_link(name("net3"), &dir, name("net")).unwrap();
    dir.make_link(name("bin"), name("usr/bin")).unwrap();
    dir.set_owner(name("bin"), 9, 9).unwrap();
    dir.set_time(name("bin"), late).unwrap();
    dir.make_link(name("far"), OsStr::new(&"x/".repeat(2000)))
        .unwrap();
    dir.make_link(name("out"), name("/etc/passwd")).unwrap();
    dir.make_node(name("fifo"), Kind::Fifo, (0, 0)).unwrap();
    dir.make_node(name("disk"), Kind::BlockDevice, (4095, 1_048_575))
        .unwrap();
    dir.make_node(name("tty"), Kind::CharDevice, (5, 1))
        .unwrap();
    dir.set_mode(name("tty"), 0o666).unwrap();
    let long = "l".repeat(255);
    let mut below = Dir::open(top).unwrap();
    for _ in 0..14 {
        below.make_dir(name(&long)).unwrap();
        below = below.open_dir(name(&long)).unwrap();
        set_owner_and_mode(&below, (0, 0), 0o1777).unwrap();
    }
    file(&below, name(&"f".repeat(200)), b"deep", (0, 0), 0o644);
    dir.make_dir(name("closed")).unwrap();
    set_time(dir.open_dir(name("closed")).unwrap(), late).unwrap();
}

fn facts_of(tree: &Path) -> String {
    let mut lines = Vec::new();
    facts::write(tree, &mut lines, &facts::Known::default()).unwrap();
    String::from_utf8(lines).unwrap()
}

/// Times of everything, which facts leave out.
fn times_of(tree: &Path) -> String {
    let mut find = Command::new("find");
    find.arg(tree)
        .args(["-mindepth", "1", "-printf", "%P %T@\\0"]);
    let mut lines: Vec<String> = String::from_utf8_lossy(&find.run().unwrap().stdout)
        .split('\0')
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines.join("\n")
}

fn packed(tree: &Path, form: Form<'_>) -> (Vec<u8>, Packed) {
    let mut archive = Vec::new();
    let done = pack(Dir::open(tree).unwrap(), form, &mut archive).unwrap();
    (archive, done)
}

fn keep_all(_: &[u8], _: wharf::sys::dir::Entry) -> anyhow::Result<bool> {
    Ok(false)
}

#[test]
fn f7_our_extractor_gives_the_tree_back() {
    let tmp = tempfile::tempdir().unwrap();
    let tree = tmp.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    fill(&tree);
    let (archive, done) = packed(&tree, Form::Layer(&mut keep_all));
    assert_eq!(done.warnings.count, 0, "{:?}", done.warnings);
    let (again, _) = packed(&tree, Form::Layer(&mut keep_all));
    assert!(archive == again, "the same tree gives the same bytes");
    let staging = tmp.path().join("layer");
    std::fs::create_dir(&staging).unwrap();
    let unpacked = layer::unpack(archive.as_slice(), &staging).unwrap();
    assert_eq!(
        (unpacked.notes.replaced, unpacked.notes.dropped_xattrs),
        (0, 0)
    );
    assert_eq!(facts_of(&tree), facts_of(&staging.join("fs")));
    assert_eq!(times_of(&tree), times_of(&staging.join("fs")));
    let (third, _) = packed(&staging.join("fs"), Form::Layer(&mut keep_all));
    assert!(archive == third, "what was unpacked gives the same bytes");
}

#[test]
fn f7_gnu_tar_gives_the_tree_back() {
    let tmp = tempfile::tempdir().unwrap();
    let tree = tmp.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    fill(&tree);
    let (archive, _) = packed(&tree, Form::Tree);
    let stored = tmp.path().join("tree.tar");
    std::fs::File::create(&stored)
        .unwrap()
        .write_all(&archive)
        .unwrap();
    let out = tmp.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let mut tar = Command::new("tar");
    tar.args([
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--warning=no-timestamp",
        "-xpf",
    ]);
    let said = tar.arg(&stored).arg("-C").arg(&out).run().unwrap();
    assert_eq!(said.stderr, "", "GNU tar has nothing to say");
    let without_top = |text: String| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(without_top(facts_of(&tree)), without_top(facts_of(&out)));
    assert_eq!(times_of(&tree), times_of(&out));
    let script = "import sys, tarfile\n\
                  print(sum(1 for m in tarfile.open(sys.argv[1], errors='surrogateescape')))";
    let mut python = Command::new("python3");
    let counted = python.args(["-c", script]).arg(&stored).run().unwrap();
    let members = facts_of(&tree).lines().count() - 1;
    assert_eq!(
        String::from_utf8(counted.stdout).unwrap(),
        format!("{members}\n")
    );
}

#[test]
fn f7_whiteouts_and_opaque_directories() {
    let tmp = tempfile::tempdir().unwrap();
    let tree = tmp.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    let dir = Dir::open(&tree).unwrap();
    dir.make_dir(name("new")).unwrap();
    let new = dir.open_dir(name("new")).unwrap();
    set_xattr(&new, name("trusted.overlay.opaque"), b"y").unwrap();
    set_xattr(&new, name("trusted.overlay.impure"), b"y").unwrap();
    set_xattr(&new, name("trusted.overlay.overlay.opaque"), b"y").unwrap();
    file(&new, name("f"), b"x", (0, 0), 0o644);
    for gone in ["gone", "new2"] {
        dir.make_node(name(gone), Kind::CharDevice, (0, 0)).unwrap();
        dir.set_mode(name(gone), 0).unwrap();
    }
    dir.make_hard_link(name("shared"), &dir, name("gone"))
        .unwrap();
    let (archive, _) = packed(&tree, Form::Layer(&mut keep_all));
    let mut members = Members::new(archive.as_slice());
    let mut names = Vec::new();
    while let Some(member) = members.read_next().unwrap() {
        names.push(String::from_utf8(member.path).unwrap());
    }
    let expected = [
        "./",
        ".wh.gone",
        "new/",
        "new/.wh..wh..opq",
        "new/f",
        ".wh.new2",
        ".wh.shared",
    ];
    assert_eq!(names, expected);
    let staging = tmp.path().join("layer");
    std::fs::create_dir(&staging).unwrap();
    layer::unpack(archive.as_slice(), &staging).unwrap();
    let kept = |text: String| -> Vec<String> {
        let fields = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        // The modes of whiteouts mean nothing.
        let lines = text.lines().map(fields);
        lines
            .map(|mut f| {
                f[1] = if f[0] == "c" {
                    "-".to_owned()
                } else {
                    f[1].clone()
                };
                f.join(" ")
            })
            .skip(1)
            .collect()
    };
    assert_eq!(kept(facts_of(&tree)), kept(facts_of(&staging.join("fs"))));
}

#[test]
fn f7_what_a_layer_cannot_say_is_refused() {
    let refused = |make: &dyn Fn(&Dir)| {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Dir::open(tmp.path()).unwrap();
        make(&dir);
        let form = Form::Layer(&mut keep_all);
        let err = pack(Dir::open(tmp.path()).unwrap(), form, &mut Vec::new()).unwrap_err();
        format!("{err:#}")
    };
    let err = refused(&|dir| drop(dir.make_file(name(".wh.x")).unwrap()));
    assert!(err.contains("'.wh.x' cannot be in an image"), "{err}");
    let err = refused(&|dir| dir.make_dir(name(".wh..wh..opq")).unwrap());
    assert!(err.contains("cannot be in an image"), "{err}");
    let err = refused(&|dir| {
        dir.make_node(name(&"n".repeat(252)), Kind::CharDevice, (0, 0))
            .unwrap();
    });
    assert!(err.contains("too long for an image"), "{err}");
    let err = refused(&|dir| {
        dir.make_dir(name("d")).unwrap();
        let made = dir.open_dir(name("d")).unwrap();
        set_xattr(&made, name("trusted.overlay.redirect"), b"/e").unwrap();
    });
    assert!(err.contains("trusted.overlay.redirect"), "{err}");
}

#[test]
fn f7_sockets_are_left_out_with_a_word() {
    let tmp = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tmp.path().join("s")).unwrap();
    let (archive, done) = packed(tmp.path(), Form::Tree);
    assert_eq!(done.warnings.texts, ["'s' is a socket, leaving it out"]);
    assert_eq!(archive, [0; 1024]);
}

#[test]
fn t21_attributes_that_no_archive_has_room_for_are_refused() {
    let tmp = tempfile::tempdir().unwrap();
    // tmpfs keeps as many as there is room for; ext4 a block of them.
    unshare_mounts(tmp.path(), Isolation::Slave).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "tmpfs"]).arg(tmp.path());
    mount.run().unwrap();
    let dir = Dir::open(tmp.path()).unwrap();
    let file = dir.make_file(name("f")).unwrap();
    let set = |number: u32| {
        let key = format!("user.{number:02}");
        set_xattr(&file, name(&key), &[b'x'; 60_000]).unwrap();
    };
    (0..17).for_each(set);
    let (archive, _) = packed(tmp.path(), Form::Tree);
    let member = Members::new(archive.as_slice()).read_next().unwrap();
    assert_eq!(member.unwrap().xattrs.len(), 17);
    set(17);
    let mut out = Vec::new();
    let err = pack(Dir::open(tmp.path()).unwrap(), Form::Tree, &mut out).unwrap_err();
    assert_eq!(
        format!("{err:#}"),
        "reading 'f': its extended attributes take more than 1 MiB; remove some of them"
    );
}

/// Tells the others to stop, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn f5_a_tree_that_changes_gives_a_whole_archive() {
    let tmp = tempfile::tempdir().unwrap();
    let top = tmp.path().to_owned();
    let stop = AtomicBool::new(false);
    let (mut rounds, mut warned) = (0_u32, 0_u64);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let dir = Dir::open(&top).unwrap();
            for turn in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // Vanishes, comes back as something else, shrinks, grows, is renamed.
                let own = name("a");
                match turn % 4 {
                    0 => dir.make_dir(own).unwrap(),
                    1 => dir.make_node(own, Kind::Fifo, (0, 0)).unwrap(),
                    2 => dir.make_link(own, name("/etc/passwd")).unwrap(),
                    _ => drop(dir.make_file(own).unwrap()),
                }
                dir.rename(own, &dir, name("b")).unwrap();
                dir.remove_tree(name("b")).unwrap();
            }
        });
        scope.spawn(|| {
            let body = vec![7; 3 << 20];
            let path = top.join("size");
            while !stop.load(Ordering::Relaxed) {
                let file = std::fs::OpenOptions::new()
                    .create(true)
                    .truncate(true)
                    .write(true)
                    .open(&path)
                    .unwrap();
                file.write_all_at(&body, 0).unwrap();
            }
        });
        let _stop = Stop(&stop);
        while rounds < 300 || warned == 0 {
            let (archive, done) = packed(&top, Form::Tree);
            warned += done.warnings.count;
            let mut members = Members::new(archive.as_slice());
            let mut count = 0;
            while let Some(member) = members.read_next().unwrap() {
                assert!(
                    ["a", "b", "size"]
                        .iter()
                        .any(|n| member.path.starts_with(n.as_bytes()))
                );
                let is_passwd =
                    member.kind == MemberKind::File && member.path != b"size" && member.size > 0;
                assert!(!is_passwd, "a link was followed");
                count += 1;
            }
            members.drain().unwrap();
            assert_eq!(count, done.entries);
            rounds += 1;
            assert!(rounds < 100_000, "nothing changed while it was read");
        }
    });
}
