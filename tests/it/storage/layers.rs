// SPDX-License-Identifier: Apache-2.0
//! What hostile entries of layers do to the tree and to the host (threats T1 to T14):
//! each test carries the ids of its rows.

use crate::support::layout;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use wharf::sys::command::Command;
use wharf::sys::dir::{Dir, xattr};

use crate::support::layout::{Layer, Rig, archive};
use crate::support::tar::{Header, Tar};

/// Loads a layer that must be refused with an error that holds `expected`, and leave nothing.
fn refused(tar: &[u8], expected: &str) {
    let rig = Rig::in_memory();
    let err = rig.load_layer(tar).unwrap_err();
    assert!(err.contains(expected), "'{expected}' is not in: {err}");
    rig.assert_empty(&expected);
}

fn read(path: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(path.as_ref()).unwrap()
}

fn opaque(path: &Path) -> bool {
    let dir = Dir::open(path).unwrap();
    xattr(&dir, OsStr::new("trusted.overlay.opaque"))
        .unwrap()
        .is_some_and(|value| value == b"y")
}

fn is_whiteout(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

#[test]
fn t1_names_that_lead_out() {
    let rig = Rig::in_memory();
    let canary = rig.canary();
    let absolute = canary.to_str().unwrap();
    for name in [
        "../CANARY/x",
        "/../x",
        "a/../../x",
        "..",
        "a/..",
        "../",
        "./../x",
        "../../../../../../../../tmp/x",
        &format!("..{absolute}/x"),
    ] {
        for kind in [b'0', b'1', b'2', b'3', b'5', b'6'] {
            let mut header = Header::new(name, kind);
            header.link = b"x".to_vec();
            header.device = (1, 3);
            let tar = Tar::new().file("good", b"x").entry(&header, b"").end();
            let err = rig.load_layer(&tar).unwrap_err();
            assert!(err.contains(&format!("entry '{name}'")), "{err}");
            rig.assert_empty(&name);
        }
    }
    refused(
        &Tar::new().pax(&[("path", b"../x")]).file("ok", b"").end(),
        "unpacking entry '../x'",
    );
}

#[test]
fn t2_names_are_relative_to_the_layer() {
    let rig = Rig::new();
    let tar = Tar::new()
        .dir("./")
        .file("/etc/x", b"1")
        .file("//y", b"2")
        .file("./z", b"3")
        .entry(&Header::new("w/", 0), b"")
        .file("etc/.//./v", b"4")
        .end();
    let fs = rig.load_layer(&tar).unwrap();
    for (name, body) in [("etc/x", "1"), ("y", "2"), ("z", "3"), ("etc/v", "4")] {
        assert_eq!(read(fs.join(name)), body.as_bytes(), "{name}");
    }
    assert!(fs.join("w").is_dir());
}

/// Every way of writing below every kind of link, at once and in several steps.
#[test]
fn t3_links_never_lead_out() {
    let rig = Rig::in_memory();
    let canary = rig.canary().to_str().unwrap().to_owned();
    let up = format!("{}{canary}", "../".repeat(12).trim_end_matches('/'));
    let chains: [(&str, Vec<(&str, &str)>); 9] = [
        ("l", vec![("l", &canary)]),
        ("l", vec![("l", &up)]),
        ("l", vec![("l", "..")]),
        ("l", vec![("l", "/..")]),
        ("l", vec![("l", "/")]),
        ("l", vec![("l", "/proc/self/root")]),
        ("a", vec![("b", ".."), ("a", "b")]),
        ("d/l", vec![("d/l", "../../../..")]),
        ("l", vec![("m", &canary), ("l", "m")]),
    ];
    let below = ["f", "s", "sub/t", "x/y/z"];
    let mut archives = 0;
    for (link, steps) in &chains {
        for name in below {
            // Loaded images add up, and each load checks them all.
            rig.forget();
            for operation in 0..9 {
                let mut tar = Tar::new();
                for (name, target) in steps {
                    tar = tar.symlink(name, target);
                }
                let path = format!("{link}/{name}");
                let (parent, leaf) = path.rsplit_once('/').unwrap();
                tar = match operation {
                    0 => tar.file(&path, b"evil"),
                    1 => tar.dir(&path),
                    2 => tar.symlink(&path, "/etc/passwd"),
                    3 => tar.file("h", b"x").hardlink(&path, "h"),
                    4 => tar.hardlink("stolen", &path),
                    5 => tar.node(&path, b'3', (1, 3)),
                    6 => tar.node(&path, b'6', (0, 0)),
                    7 => tar.file(format!("{parent}/.wh.{leaf}"), b""),
                    _ => tar.file(format!("{parent}/.wh..wh..opq"), b""),
                };
                // Refused or inside: the rig compares the canary either way.
                if let Ok(fs) = rig.load_layer(&tar.end()) {
                    let stolen = fs.join("stolen");
                    assert!(!stolen.exists() || read(&stolen) != b"secret", "{path}");
                }
                archives += 1;
            }
        }
    }
    assert_eq!(archives, 324);
}

#[test]
fn t3_links_inside_the_layer_work() {
    let rig = Rig::new();
    let tar = Tar::new()
        .dir("usr/bin")
        .symlink("bin", "usr/bin")
        .symlink("abs", "/usr")
        .file("bin/sh", b"1")
        .file("abs/lib", b"2")
        .file("bin/x/y", b"3")
        .hardlink("sh2", "bin/sh")
        .end();
    let fs = rig.load_layer(&tar).unwrap();
    assert_eq!(read(fs.join("usr/bin/sh")), b"1");
    assert_eq!(read(fs.join("usr/lib")), b"2");
    assert_eq!(read(fs.join("usr/bin/x/y")), b"3");
    assert_eq!(read(fs.join("sh2")), b"1");
    assert!(fs.join("bin").is_symlink());
}

#[test]
fn t4_an_entry_replaces_a_link_and_changes_nothing_behind_it() {
    let rig = Rig::in_memory();
    let canary = rig.canary();
    for kind in [b'0', b'5', b'3', b'6'] {
        let mut header = Header::new("d", kind);
        header.mode = 0o777;
        header.uid = 1000;
        header.mtime = 1;
        header.device = (1, 3);
        let tar = Tar::new()
            .symlink("d", canary.as_os_str().as_bytes())
            .entry(&header, b"")
            .end();
        let fs = rig.load_layer(&tar).unwrap();
        let made = std::fs::symlink_metadata(fs.join("d")).unwrap();
        assert!(!made.is_symlink());
        assert_eq!(
            (made.mode() & 0o7777, made.uid(), made.mtime()),
            (0o777, 1000, 1)
        );
    }
}

#[test]
fn t5_hard_links_stay_in_the_layer() {
    let rig = Rig::in_memory();
    let canary = rig.canary().join("s");
    let canary = canary.as_os_str().as_bytes();
    let out = b"../../CANARY/s";
    for target in [
        &out[..],
        canary,
        b"lower",
        b"",
        b"/",
        b".",
        b"d",
        b"w",
        b".wh.w",
    ] {
        let tar = Tar::new()
            .dir("d")
            .file(".wh.w", b"")
            .hardlink("h", target)
            .end();
        let err = rig.load_layer(&tar).unwrap_err();
        assert!(err.contains("entry 'h'"), "{err}");
        rig.assert_empty(&target);
    }
    // A link is linked, not followed.
    let tar = Tar::new().symlink("l", canary).hardlink("h", "l").end();
    let fs = rig.load_layer(&tar).unwrap();
    assert!(fs.join("h").is_symlink());
    let tar = Tar::new()
        .file("a", b"1")
        .hardlink("b", "/a")
        .hardlink("a", "b")
        .end();
    let fs = rig.load_layer(&tar).unwrap();
    assert_eq!(std::fs::metadata(fs.join("a")).unwrap().nlink(), 2);
    assert_eq!(read(fs.join("b")), b"1");
}

#[test]
fn t6_the_root_is_a_directory() {
    for name in [".", "./", "/"] {
        for kind in [b'1', b'2', b'3', b'6'] {
            let mut header = Header::new(name, kind);
            header.link = b"/etc".to_vec();
            header.device = (1, 3);
            refused(
                &Tar::new().entry(&header, b"").end(),
                "the layer's root can only be a directory",
            );
        }
    }
    refused(&Tar::new().file(".", b"x").end(), "the layer's root");
    let rig = Rig::in_memory();
    let mut header = Header::new("./", b'5');
    (header.mode, header.uid, header.mtime) = (0o1750, 7, 99);
    let fs = rig
        .load_layer(&Tar::new().entry(&header, b"").file("f", b"").end())
        .unwrap();
    let root = std::fs::metadata(&fs).unwrap();
    assert_eq!(
        (root.mode() & 0o7777, root.uid(), root.mtime()),
        (0o1750, 7, 99)
    );
}

#[test]
fn t7_whiteouts() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh..."] {
        refused(
            &Tar::new().file(name, b"").end(),
            "a whiteout that names nothing",
        );
    }
    refused(&Tar::new().file(".wh.d/f", b"").end(), "begins with '.wh.'");
    let rig = Rig::in_memory();
    let body = vec![7; 1 << 20];
    let tar = Tar::new()
        .dir("d")
        .symlink("l", "d")
        .file("l/.wh.x", b"")
        .file(".wh.big", &body)
        .file(".wh..wh.aufs", b"")
        .dir(".wh..wh.plnk")
        .file(".wh..wh.plnk/123.456", b"x")
        .file("after", b"1")
        .end();
    let fs = rig.load_layer(&tar).unwrap();
    assert!(is_whiteout(&fs.join("d/x")) && is_whiteout(&fs.join("big")));
    let mut names: Vec<_> = wharf::sys::fs::list_dir(&fs).unwrap();
    names.sort();
    assert_eq!(names, ["after", "big", "d", "l"]);
}

/// The same layer with its entries in every order: what lower layers have is hidden, what this
/// one has is not.
#[test]
fn t8_whiteouts_hide_only_lower_layers() {
    type Step = fn(Tar) -> Tar;
    let steps: [Step; 4] = [
        |tar| tar.file(".wh.d", b""),
        |tar| tar.file("d/new", b"new"),
        |tar| tar.file(".wh.f", b""),
        |tar| tar.file("f", b"new"),
    ];
    for order in 0..24 {
        let mut left: Vec<Step> = steps.to_vec();
        let (mut tar, mut code) = (Tar::new(), order);
        for base in (1..=4).rev() {
            tar = left.remove(code % base)(tar);
            code /= base;
        }
        let rig = Rig::in_memory();
        let fs = rig.load_layer(&tar.end()).unwrap();
        assert_eq!(read(fs.join("f")), b"new", "order {order}");
        assert_eq!(read(fs.join("d/new")), b"new", "order {order}");
        assert!(opaque(&fs.join("d")), "order {order}");
    }
    let rig = Rig::in_memory();
    for tar in [
        Tar::new().file("d/.wh..wh..opq", b"").file("d/x", b""),
        Tar::new().file("d/x", b"").file("d/.wh..wh..opq", b""),
        Tar::new().file(".wh.d", b"").dir("d").file("d/x", b""),
        Tar::new().dir("d").file("d/x", b"").file(".wh.d", b""),
        Tar::new()
            .dir("d")
            .file("d/.wh..wh..opq", b"")
            .dir("d")
            .file("d/x", b""),
    ] {
        let fs = rig.load_layer(&tar.end()).unwrap();
        assert!(opaque(&fs.join("d")) && fs.join("d/x").exists());
    }
}

/// What the kernel makes of it: two layers joined by overlayfs in a mount namespace of its own.
#[test]
fn t8_t9_overlayfs_agrees() {
    let rig = Rig::new();
    let lower = Tar::new()
        .file("gone", b"1")
        .file("dir/old", b"1")
        .file("replaced/old", b"1")
        .file("merged/old", b"1")
        .end();
    let upper = Tar::new()
        .file(".wh.gone", b"")
        .file("dir/.wh..wh..opq", b"")
        .file("dir/new", b"2")
        .file("replaced/new", b"2")
        .file(".wh.replaced", b"")
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.x", b"y"),
        ])
        .dir("merged")
        .file("merged/new", b"2")
        .end();
    let files = layout::layout("x", &[Layer::plain(&lower), Layer::plain(&upper)]);
    rig.load(&archive(&files)).unwrap();
    let layers = rig.store.resolve("x").unwrap().layers;
    let [lower, upper] = layers.as_slice() else {
        panic!("{layers:?}");
    };
    let target = rig.path().join("merged");
    std::fs::create_dir(&target).unwrap();
    let script = r#"mount -t overlay none -o "lowerdir=$2:$1,redirect_dir=nofollow" "$3" &&
        cd "$3" && find . ! -type d | sort"#;
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-ec", script, "sh"]);
    let output = unshare.arg(lower).arg(upper).arg(&target).run().unwrap();
    let merged = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        merged,
        "./dir/new\n./merged/new\n./merged/old\n./replaced/new\n"
    );
}

#[test]
fn t8_an_opaque_root_hides_all_lower_layers() {
    let rig = Rig::new();
    let lower = Tar::new().file("old", b"1").end();
    let upper = Tar::new().file("new", b"2").file(".wh..wh..opq", b"").end();
    let files = layout::layout("x", &[Layer::plain(&lower), Layer::plain(&upper)]);
    rig.load(&archive(&files)).unwrap();
    let layers = rig.store.resolve("x").unwrap().layers;
    assert_eq!(layers.len(), 1);
    assert!(layers[0].join("new").exists());
}

#[test]
fn t9_forged_markers() {
    refused(
        &Tar::new().node("x", b'3', (0, 0)).end(),
        "a character device 0:0",
    );
    let rig = Rig::new();
    let forged: [&str; 8] = [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "trusted.overlay.origin",
        "user.overlay.opaque",
        "user.overlay.redirect",
        "security.selinux",
        "security.ima",
    ];
    for name in forged {
        let key = format!("SCHILY.xattr.{name}");
        let tar = Tar::new()
            .pax(&[(&key, b"y"), ("SCHILY.xattr.user.mine", b"kept")])
            .dir("d")
            .end();
        let fs = rig.load_layer(&tar).unwrap();
        let dir = Dir::open(&fs.join("d")).unwrap();
        assert_eq!(xattr(&dir, OsStr::new(name)).unwrap(), None, "{name}");
        assert_eq!(
            xattr(&dir, OsStr::new("user.mine")).unwrap().unwrap(),
            b"kept"
        );
    }
}

#[test]
fn t10_repeated_opaque_markers_cost_linear_time() {
    let rig = Rig::in_memory();
    let layer = |name: &dyn Fn(u32) -> String| {
        let mut tar = Tar::new();
        for i in 0..4_000 {
            tar = tar.file(format!("d/{i}"), b"");
        }
        for i in 0..8_000 {
            tar = tar.file(name(i), b"");
        }
        tar.end()
    };
    let timed = |tar: &[u8]| {
        let start = std::time::Instant::now();
        rig.load_layer(tar).unwrap();
        start.elapsed()
    };
    let plain = timed(&layer(&|i| format!("d/f{i}")));
    let markers = timed(&layer(&|_| "d/.wh..wh..opq".to_owned()));
    assert!(markers < 3 * plain, "{markers:?} against {plain:?}");
}

#[test]
fn t11_device_numbers() {
    let rig = Rig::new();
    let fs = rig
        .load_layer(
            &Tar::new()
                .node("b", b'4', (8, 0))
                .node("c", b'3', (1, 1))
                .node("p", b'6', (0, 0))
                .end(),
        )
        .unwrap();
    let rdev = |name: &str| std::fs::symlink_metadata(fs.join(name)).unwrap().rdev();
    assert_eq!((rdev("b"), rdev("c")), (0x800, 0x101));
    refused(
        &Tar::new().node("x", b'3', (4096, 0)).end(),
        "field 'devmajor'",
    );
    refused(
        &Tar::new().node("x", b'4', (0, 1 << 20)).end(),
        "field 'devminor'",
    );
    let huge = |block: &mut [u8; 512]| block[329..337].copy_from_slice(b"\x80\0\0\x02\0\0\0\0");
    refused(
        &Tar::new().changed(&Header::new("x", b'3'), huge).end(),
        "field 'devmajor'",
    );
}

#[test]
fn t12_modes_and_capabilities_survive_and_the_store_is_closed() {
    let rig = Rig::new();
    // VFS_CAP_REVISION_2, cap_net_bind_service.
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut setuid = Header::new("su", b'0');
    (setuid.mode, setuid.uid, setuid.gid) = (0o6755, 0, 5);
    let mut open = Header::new("open", b'5');
    open.mode = 0o1777;
    let tar = Tar::new()
        .pax(&[("SCHILY.xattr.security.capability", capability)])
        .entry(&setuid, b"")
        .entry(&open, b"")
        .end();
    let fs = rig.load_layer(&tar).unwrap();
    let su = std::fs::metadata(fs.join("su")).unwrap();
    assert_eq!((su.mode() & 0o7777, su.uid(), su.gid()), (0o6755, 0, 5));
    let file = std::fs::File::open(fs.join("su")).unwrap();
    let stored = xattr(&file, OsStr::new("security.capability")).unwrap();
    assert_eq!(stored.unwrap(), capability);
    assert_eq!(
        std::fs::metadata(fs.join("open")).unwrap().mode() & 0o7777,
        0o1777
    );
    for dir in [rig.paths.images(), rig.paths.layers()] {
        assert_eq!(std::fs::metadata(dir).unwrap().mode() & 0o777, 0o700);
    }
    std::fs::set_permissions(
        rig.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let mut other = Command::new("setpriv");
    other.args(["--reuid=65534", "--regid=65534", "--clear-groups", "ls"]);
    assert!(
        other
            .arg(&fs)
            .run()
            .unwrap_err()
            .to_string()
            .contains("ermission")
    );
}

#[test]
fn t14_long_and_deep_names() {
    let long = "c".repeat(256);
    refused(
        &Tar::new()
            .pax(&[("path", long.as_bytes())])
            .file("x", b"")
            .end(),
        "longer than 255 bytes",
    );
    let path = "abcd/".repeat(1000) + "f";
    refused(
        &Tar::new()
            .pax(&[("path", path.as_bytes())])
            .file("x", b"")
            .end(),
        "longer than 4000 bytes",
    );
    let deep = "d/".repeat(1900) + "f";
    refused(
        &Tar::new()
            .pax(&[("path", deep.as_bytes())])
            .file("x", b"")
            .end(),
        "more than 512 components",
    );
    let rig = Rig::new();
    let deep = "d/".repeat(511) + "f";
    let tar = Tar::new()
        .pax(&[("path", deep.as_bytes())])
        .file("x", b"1")
        .end();
    let fs = rig.load_layer(&tar).unwrap();
    assert_eq!(read(fs.join(deep)), b"1");
}
