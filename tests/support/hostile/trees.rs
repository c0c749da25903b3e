// SPDX-License-Identifier: Apache-2.0
//! Threats T1 to T14: what entries try to do to the tree and to the host.

use super::{Cases, Fact, NAMINGS, Naming, Outcome, header, named, permutations, refused};
use crate::support::tar::{Header, Tar};

pub(super) fn add(cases: &mut Cases, canary: &str) {
    t1(cases, canary);
    t2(cases);
    t3(cases, canary);
    t4(cases, canary);
    t5(cases, canary);
    t6(cases);
    t7(cases);
    t8(cases);
    t9(cases);
    t10(cases);
    t11(cases);
    t12(cases);
    t13(cases);
    t14(cases);
}

fn t1(cases: &mut Cases, canary: &str) {
    let up = format!("..{canary}/x");
    let names = [
        "../CANARY/x",
        "/../x",
        "a/../../x",
        "..",
        "a/..",
        "../",
        "./../x",
        "a/b/../../../x",
        "../../../../../../../../tmp/x",
        &up,
    ];
    for naming in NAMINGS {
        for name in names {
            for kind in [b'0', b'1', b'2', b'3', b'5', b'6'] {
                let entry = header(name, kind, "x");
                let tar = named(Tar::new().file("x", b"good"), naming, &entry, b"").end();
                cases.add(
                    "T1",
                    format!("{name} {} {naming:?}", kind as char),
                    &tar,
                    refused(format!("entry '{name}'")),
                );
            }
        }
    }
}

fn t2(cases: &mut Cases) {
    for naming in NAMINGS {
        for (written, path) in [
            ("/e/x", "e/x"),
            ("//x", "x"),
            ("./x", "x"),
            ("x/", "x"),
            ("/./x", "x"),
            (".//x", "x"),
            ("e/./x", "e/x"),
            ("e//x//", "e/x"),
        ] {
            for kind in [b'0', 0, b'2', b'5', b'6'] {
                let tar = named(Tar::new(), naming, &header(written, kind, "to"), b"").end();
                let path = path.to_owned();
                let slash = written.ends_with('/');
                let fact = match kind {
                    b'0' | 0 if !slash => Fact::File(path, Vec::new()),
                    b'2' => Fact::Link(path, "to".to_owned()),
                    b'6' => Fact::Node(path, 0),
                    _ => Fact::Dir(path),
                };
                // Only the oldest tar wrote directories so; readers disagree about the others.
                let outcome = match kind {
                    b'0' if slash => refused("readers disagree"),
                    0 if slash && naming != Naming::Header => refused("readers disagree"),
                    _ => Outcome::Loads(vec![fact]),
                };
                cases.add(
                    "T2",
                    format!("{written} {} {naming:?}", kind as char),
                    &tar,
                    outcome,
                );
            }
        }
    }
}

/// Links that are made first, what is written through the first of them, and where that must be:
/// a directory of the layer, or nowhere.
type Chain<'a> = (&'a [(&'a str, &'a str)], &'a str, Option<&'a str>);

fn t3(cases: &mut Cases, canary: &str) {
    let up = format!("{}{canary}", "../".repeat(12).trim_end_matches('/'));
    let chains: [Chain<'_>; 16] = [
        (&[("l", canary)], "l", None),
        (&[("l", &up)], "l", None),
        (&[("m", canary), ("l", "m")], "l", None),
        (&[("m", canary), ("l", "/m")], "l", None),
        (&[("l", "/proc/self/root")], "l", None),
        (&[("l", "/proc/self/cwd")], "l", None),
        (&[("l", "l")], "l", None),
        (&[("l", "file")], "l", None),
        (&[("l", "..")], "l", Some("")),
        (&[("l", "/..")], "l", Some("")),
        (&[("l", "/")], "l", Some("")),
        (&[("l", ".")], "l", Some("")),
        (&[("b", ".."), ("a", "b")], "a", Some("")),
        (&[("d/l", "../../../..")], "d/l", Some("")),
        (&[("l", "../../sub/dir")], "l", Some("sub/dir")),
        (&[("m", "/sub"), ("l", "m/dir")], "l", Some("sub/dir")),
    ];
    for (steps, through, lands) in chains {
        for operation in 0..11 {
            let mut tar = Tar::new().file("file", b"f").dir("sub/dir");
            for (name, target) in steps {
                tar = tar.symlink(name, target);
            }
            let (tar, fact) = through_link(tar, operation, through, lands.unwrap_or_default());
            let outcome = match (operation, lands) {
                (4 | 5, _) => refused("which is not in this layer"),
                (_, None) => refused("leads to no directory of this layer"),
                (_, Some(_)) => Outcome::Loads(vec![fact]),
            };
            let name = format!("{steps:?} operation {operation}").replace(canary, "CANARY");
            cases.add("T3", name, &tar.end(), outcome);
        }
    }
}

/// Writes `operation` below the link `through`, which leads to `lands`.
fn through_link(tar: Tar, operation: u32, through: &str, lands: &str) -> (Tar, Fact) {
    let at = |leaf: &str| match lands {
        "" => leaf.to_owned(),
        dir => format!("{dir}/{leaf}"),
    };
    let path = format!("{through}/n");
    match operation {
        0 => (tar.file(path, b"1"), Fact::File(at("n"), b"1".to_vec())),
        1 => (tar.dir(path), Fact::Dir(at("n"))),
        2 => {
            let fact = Fact::Link(at("n"), "/etc/passwd".to_owned());
            (tar.symlink(path, "/etc/passwd"), fact)
        }
        3 => (
            tar.hardlink(path, "file"),
            Fact::File(at("n"), b"f".to_vec()),
        ),
        // What is at the other end on the host must not get a name here.
        4 => (
            tar.hardlink("h", format!("{through}/s")),
            Fact::Absent(at("h")),
        ),
        5 => (
            tar.hardlink("h", format!("{through}/sub/t")),
            Fact::Absent(at("h")),
        ),
        6 => (tar.node(path, b'3', (1, 3)), Fact::Node(at("n"), 0x103)),
        7 => (tar.node(path, b'6', (0, 0)), Fact::Node(at("n"), 0)),
        8 => (
            tar.file(format!("{through}/.wh.n"), b""),
            Fact::Whiteout(at("n")),
        ),
        9 => (
            tar.file(format!("{through}/.wh..wh..opq"), b""),
            Fact::Opaque(lands.to_owned()),
        ),
        _ => (
            tar.file(format!("{through}/x/y/z"), b"1"),
            Fact::File(at("x/y/z"), b"1".to_vec()),
        ),
    }
}

fn t4(cases: &mut Cases, canary: &str) {
    for target in [canary, "other", "/", "nowhere"] {
        for written in ["d", "./d", "/d"] {
            for kind in [b'0', b'1', b'2', b'3', b'5', b'6'] {
                let mut entry = header(written, kind, "other/f");
                (entry.mode, entry.uid, entry.gid, entry.mtime) = (0o777, 1000, 1000, 1);
                let tar = Tar::new().file("other/f", b"1").symlink("d", target);
                let tar = tar.entry(&entry, b"").end();
                let path = "d".to_owned();
                let mut facts = vec![match kind {
                    b'0' => Fact::File(path, Vec::new()),
                    b'1' => Fact::File(path, b"1".to_vec()),
                    b'2' => Fact::Link(path, "other/f".to_owned()),
                    b'5' => Fact::Dir(path),
                    b'3' => Fact::Node(path, 0x103),
                    _ => Fact::Node(path, 0),
                }];
                // Nothing behind the link was changed.
                facts.push(Fact::Mode("other".to_owned(), 0o755));
                if !matches!(kind, b'1' | b'2') {
                    facts.push(Fact::Mode("d".to_owned(), 0o777));
                }
                let name = format!("{target} {written} {}", kind as char);
                cases.add("T4", name, &tar, Outcome::Loads(facts));
            }
        }
    }
}

fn t5(cases: &mut Cases, canary: &str) {
    let absolute = format!("{canary}/s");
    for naming in NAMINGS {
        for target in [
            "../../CANARY/s",
            "../s",
            "a/../../s",
            &absolute,
            "out/s",
            "bin/busybox",
            "",
            "/",
            ".",
            "d",
            "w",
            ".wh.w",
            "h",
        ] {
            let tar = Tar::new()
                .dir("d")
                .file(".wh.w", b"")
                .symlink("out", canary);
            let tar = named(tar, naming, &header("h", b'1', target), b"").end();
            let name = format!("{target} {naming:?}");
            cases.add("T5", name, &tar, refused("entry 'h'"));
        }
        // A link is linked, never followed.
        let tar = Tar::new().symlink("l", canary);
        let tar = named(tar, naming, &header("h", b'1', "l"), b"").end();
        let facts = vec![Fact::Link("h".to_owned(), canary.to_owned())];
        cases.add(
            "T5",
            format!("to a link {naming:?}"),
            &tar,
            Outcome::Loads(facts),
        );
    }
}

fn t6(cases: &mut Cases) {
    for name in [".", "./", "/", "//", "./.", "././"] {
        for kind in [b'1', b'2', b'3', b'4', b'6', b'0'] {
            let body: &[u8] = if kind == b'0' { b"content" } else { b"" };
            let tar = named(
                Tar::new(),
                Naming::Header,
                &header(name, kind, "/etc"),
                body,
            );
            // A file with content whose name ends in '/' is refused as it is read.
            let text = if kind == b'0' && name.ends_with('/') {
                format!("reading the header of entry '{name}'")
            } else {
                format!("unpacking entry '{name}': the layer's root can only be a directory")
            };
            let name = format!("{name} {}", kind as char);
            cases.add("T6", name, &tar.end(), refused(text));
        }
    }
    for mode in [0o700, 0o1777, 0o2755, 0o000] {
        let mut root = Header::new("./", b'5');
        root.mode = mode;
        let tar = Tar::new().entry(&root, b"").file("f", b"1").end();
        let facts = vec![Fact::Mode(String::new(), mode)];
        cases.add("T6", format!("mode {mode:o}"), &tar, Outcome::Loads(facts));
    }
}

fn t7(cases: &mut Cases) {
    for dir in ["", "d/", "./d/", "d/e/", "l/"] {
        for name in [".wh.", ".wh..", ".wh..."] {
            let tar = Tar::new().symlink("l", "d").dir("d");
            let tar = tar.file(format!("{dir}{name}"), b"").end();
            let text = format!("unpacking entry '{dir}{name}': a whiteout that names nothing");
            cases.add("T7", format!("{dir}{name}"), &tar, refused(text));
        }
        for kind in [b'0', b'2', b'5', b'6'] {
            let tar = Tar::new().symlink("l", "d").dir("d");
            let tar = tar.entry(&header(format!("{dir}.wh.gone"), kind, "x"), b"");
            let at = dir.replace("./", "").replace("l/", "d/");
            let facts = vec![Fact::Whiteout(format!("{at}gone"))];
            let name = format!("{dir}.wh.gone {}", kind as char);
            cases.add("T7", name, &tar.end(), Outcome::Loads(facts));
        }
    }
    for name in [".wh.d/f", "a/.wh.d/f", ".wh..wh..opq/f", ".wh./f"] {
        let tar = Tar::new().file(name, b"1").end();
        // A directory named like the opaque marker is AUFS's, as all that begin so.
        let outcome = match name {
            ".wh..wh..opq/f" => Outcome::Loads(vec![Fact::Names(String::new(), vec![])]),
            _ => refused("begins with '.wh.'"),
        };
        cases.add("T7", name, &tar, outcome);
    }
    for name in [
        ".wh..wh.plnk",
        ".wh..wh.aufs",
        ".wh..wh.orph",
        ".wh..wh.plnk/1.2",
    ] {
        let tar = Tar::new().file(name, b"").file("after", b"1").end();
        let facts = vec![Fact::Names(String::new(), vec![b"after".to_vec()])];
        cases.add("T7", name, &tar, Outcome::Loads(facts));
    }
    let tar = Tar::new()
        .file(".wh.big", &vec![7; 1 << 20])
        .file("after", b"1");
    let facts = vec![
        Fact::Whiteout("big".to_owned()),
        Fact::File("after".to_owned(), b"1".to_vec()),
    ];
    cases.add("T7", "with a body", &tar.end(), Outcome::Loads(facts));
}

fn t8(cases: &mut Cases) {
    type Step = fn(Tar) -> Tar;
    let whiteouts: [Step; 4] = [
        |tar| tar.file(".wh.d", b""),
        |tar| tar.file("d/new", b"new"),
        |tar| tar.file(".wh.f", b""),
        |tar| tar.file("f", b"new"),
    ];
    let opaque: [Step; 4] = [
        |tar| tar.file("d/.wh..wh..opq", b""),
        |tar| tar.file("d/new", b"new"),
        |tar| tar.dir("d"),
        |tar| tar.file("f", b"new"),
    ];
    for (what, steps) in [("whiteouts", whiteouts), ("opaque", opaque)] {
        for (order, steps) in permutations(&steps).into_iter().enumerate() {
            let tar = steps.iter().fold(Tar::new(), |tar, step| step(tar)).end();
            let facts = vec![
                Fact::File("f".to_owned(), b"new".to_vec()),
                Fact::File("d/new".to_owned(), b"new".to_vec()),
                Fact::Opaque("d".to_owned()),
            ];
            let name = format!("{what}, order {order}");
            cases.add("T8", name, &tar, Outcome::Loads(facts));
        }
    }
}

fn t9(cases: &mut Cases) {
    for naming in NAMINGS {
        for name in ["x", "d/x", "./x"] {
            let entry = Header::new(name, b'3');
            let tar = named(Tar::new(), naming, &entry, b"").end();
            let text = format!("unpacking entry '{name}': a character device 0:0");
            cases.add("T9", format!("{name} {naming:?}"), &tar, refused(text));
        }
    }
    for name in [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "trusted.overlay.origin",
        "trusted.overlay.overlay.opaque",
        "user.overlay.opaque",
        "user.overlay.redirect",
        "user.overlay.whiteout",
        "trusted.other",
    ] {
        for kind in [b'0', b'5'] {
            let key = format!("SCHILY.xattr.{name}");
            let tar = Tar::new().pax(&[(&key, b"y")]);
            let tar = tar.entry(&Header::new("e", kind), b"").end();
            let facts = vec![Fact::NoXattr("e".to_owned(), name.to_owned())];
            let name = format!("{name} {}", kind as char);
            cases.add("T9", name, &tar, Outcome::Loads(facts));
        }
    }
}

fn t10(cases: &mut Cases) {
    let mut tar = Tar::new();
    for number in 0..500 {
        tar = tar.file(format!("d/{number}"), b"");
        tar = tar.file("d/.wh..wh..opq", b"");
    }
    let facts = vec![
        Fact::Opaque("d".to_owned()),
        Fact::File("d/499".to_owned(), Vec::new()),
    ];
    cases.add("T10", "500 markers", &tar.end(), Outcome::Loads(facts));
}

fn t11(cases: &mut Cases) {
    for (kind, device, rdev) in [
        (b'4', (8, 0), 0x800),
        (b'3', (1, 1), 0x101),
        (b'4', (0, 1), 1),
        (b'3', (4095, 0xfffff), 0xffff_ffff),
        (b'6', (8, 1), 0),
    ] {
        let tar = Tar::new().node("n", kind, device).end();
        let facts = vec![Fact::Node("n".to_owned(), rdev)];
        let name = format!("{} {device:?}", kind as char);
        cases.add("T11", name, &tar, Outcome::Loads(facts));
    }
    for (field, at) in [("devmajor", 329), ("devminor", 337)] {
        for value in [
            &b"7777777\0"[..],
            b"\x80\0\0\x02\0\0\0\0",
            b"\xff\xff\xff\xff\xff\xff\xff\xff",
            b"-1     \0",
            b"9      \0",
            b"0x1\0\0\0\0\0",
        ] {
            for kind in [b'3', b'4'] {
                let change = |block: &mut [u8; 512]| block[at..at + 8].copy_from_slice(value);
                let tar = Tar::new().changed(&header("n", kind, ""), change).end();
                let name = format!("{field} '{}' {}", value.escape_ascii(), kind as char);
                cases.add("T11", name, &tar, refused(format!("field '{field}'")));
            }
        }
    }
}

fn t12(cases: &mut Cases) {
    for mode in [
        0o4755, 0o2755, 0o6755, 0o1777, 0o7777, 0, 0o777, 0o600, 0o4000,
    ] {
        for kind in [b'0', b'5', b'6', b'3'] {
            for uid in [0, 65534] {
                let mut entry = header("e", kind, "");
                (entry.mode, entry.uid, entry.gid) = (mode, uid, uid);
                let tar = Tar::new().entry(&entry, b"").end();
                let facts = vec![Fact::Mode("e".to_owned(), mode)];
                let name = format!("{mode:o} {} of {uid}", kind as char);
                cases.add("T12", name, &tar, Outcome::Loads(facts));
            }
        }
    }
}

fn t13(cases: &mut Cases) {
    let long = format!("user.{}", "n".repeat(300));
    let huge = vec![b'v'; 128 << 10];
    for (name, value) in [
        ("", &b"v"[..]),
        ("user.", b"v"),
        ("nonamespace", b"v"),
        (&long, b"v"),
        ("user.huge", &huge),
        ("system.posix_acl_access", b"\xff\xff"),
        ("system.posix_acl_default", b"\x02\0\0\0"),
        ("security.selinux", b"x"),
        ("security.ima", b"\x03"),
        ("security.evm", b"\x03"),
        ("security.apparmor", b"x"),
        ("trusted.x", b"v"),
        ("com.apple.quarantine", b"v"),
    ] {
        for kind in [b'0', b'5', b'2', b'6'] {
            let key = format!("SCHILY.xattr.{name}");
            let tar = Tar::new().pax(&[(&key, value)]);
            let tar = tar.entry(&header("e", kind, "x"), b"").end();
            let facts = match kind {
                b'0' | b'5' => vec![Fact::NoXattr("e".to_owned(), name.to_owned())],
                b'2' => vec![Fact::Link("e".to_owned(), "x".to_owned())],
                _ => vec![Fact::Node("e".to_owned(), 0)],
            };
            let shown: String = name.chars().take(30).collect();
            let name = format!("'{shown}' {}", kind as char);
            cases.add("T13", name, &tar, Outcome::Loads(facts));
        }
    }
}

fn t14(cases: &mut Cases) {
    let slashes = |count: usize, last: &str| "d/".repeat(count) + last;
    for naming in [Naming::Pax, Naming::Gnu] {
        for (what, path, text) in [
            ("component of 255", "c".repeat(255), None),
            (
                "component of 256",
                "c".repeat(256),
                Some("longer than 255 bytes"),
            ),
            (
                "parent of 256",
                format!("{}/f", "c".repeat(256)),
                Some("longer than 255 bytes"),
            ),
            ("512 components", slashes(511, "f"), None),
            (
                "513 components",
                slashes(512, "f"),
                Some("more than 512 components"),
            ),
            (
                "1900 components",
                slashes(1900, "f"),
                Some("more than 512 components"),
            ),
            (
                "5000 bytes",
                "abcd/".repeat(1000) + "f",
                Some("longer than 4000 bytes"),
            ),
            (
                "4001 bytes",
                format!("{}f", "abcdefghi/".repeat(400)),
                Some("longer than 4000 bytes"),
            ),
            (
                "4000 bytes",
                format!("{}fghijklmno", "abcdefghi/".repeat(399)),
                None,
            ),
        ] {
            for kind in [b'0', b'5', b'2'] {
                let entry = header(&path, kind, "x");
                let tar = named(Tar::new(), naming, &entry, b"").end();
                // Longer than what the test itself can open by path.
                let seen: String = path.split_inclusive('/').take(20).collect();
                let fact = match kind {
                    _ if path.len() > 2000 => Fact::Dir(seen),
                    b'0' => Fact::File(path.clone(), Vec::new()),
                    b'5' => Fact::Dir(path.clone()),
                    _ => Fact::Link(path.clone(), "x".to_owned()),
                };
                let outcome = match text {
                    Some(text) => refused(text),
                    None => Outcome::Loads(vec![fact]),
                };
                cases.add(
                    "T14",
                    format!("{what} {} {naming:?}", kind as char),
                    &tar,
                    outcome,
                );
            }
        }
    }
}
