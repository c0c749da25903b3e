// SPDX-License-Identifier: Apache-2.0
//! Threats T15 to T20: extended headers, numbers, types, repeated names.

use super::{Cases, Fact, Outcome, header, refused};
use crate::support::tar::{Header, Tar};

pub(super) fn add(cases: &mut Cases) {
    t15(cases);
    t16(cases);
    t17(cases);
    t18(cases);
    t19(cases);
    t20(cases);
}

/// Headers before a file `f`, and words of the refusal.
type Malformed = (&'static [(u8, &'static [u8])], &'static str);

const PATH: &[u8] = b"9 path=a\n";
const SIZE: &[u8] = b"9 size=1\n";

const MALFORMED: &[Malformed] = &[
    (&[(b'x', PATH), (b'L', b"b\0")], "both an extended header"),
    (&[(b'L', b"b\0"), (b'x', PATH)], "both an extended header"),
    (&[(b'x', SIZE), (b'K', b"b\0")], "both an extended header"),
    (&[(b'x', PATH), (b'x', SIZE)], "two extended headers"),
    (&[(b'L', b"a\0"), (b'L', b"b\0")], "two extended headers"),
    (&[(b'K', b"a\0"), (b'K', b"b\0")], "two extended headers"),
    (&[(b'L', b"a\0b")], "holds a NUL"),
    (&[(b'L', b"")], "is empty"),
    (&[(b'K', b"\0")], "is empty"),
    (&[(b'L', &[b'a'; 20_000])], "at most 16384"),
    (&[(b'K', &[b'a'; 20_000])], "at most 16384"),
    (&[(b'x', &[b'a'; 2 << 20])], "at most 1048576"),
    (&[(b'g', &[b'a'; 2 << 20])], "at most 1048576"),
    (&[(b'x', b"9 path=a")], "malformed record"),
    (&[(b'x', b"99 path=a\n")], "malformed record"),
    (&[(b'x', b"8 path=a\n")], "malformed record"),
    (&[(b'x', b"09 path=a\n")], "malformed record"),
    (&[(b'x', b"path=a\n")], "malformed record"),
    (&[(b'x', b"7 path\n")], "malformed record"),
    (&[(b'x', b"5 =a\n")], "malformed record"),
    (&[(b'x', b"9 path=a\n\0\0\0")], "malformed record"),
    (&[(b'x', b"9 path=a\n9 path=b\n")], "twice"),
    (&[(b'x', b"12 path=a\0b\n")], "holds a NUL"),
    (&[(b'x', b"11 size=-1\n")], "field 'size'"),
    (&[(b'x', b"29 size=99999999999999999999\n")], "field 'size'"),
    (&[(b'g', PATH)], "a global extended header sets 'path'"),
    (&[(b'g', SIZE)], "a global extended header sets 'size'"),
];

fn t15(cases: &mut Cases) {
    for (number, (headers, text)) in MALFORMED.iter().enumerate() {
        let tar = headers
            .iter()
            .fold(Tar::new(), |tar, (kind, body)| tar.extension(*kind, body));
        let tar = tar.file("f", b"x").end();
        cases.add("T15", format!("malformed {number}"), &tar, refused(*text));
    }
    for kind in [b'1', b'2', b'3', b'4', b'5', b'6'] {
        for via_pax in [false, true] {
            let mut entry = header("x", kind, "y");
            let tar = match via_pax {
                true => Tar::new().pax(&[("size", b"512")]),
                false => {
                    entry.size = 512;
                    Tar::new()
                }
            };
            let tar = tar.entry(&entry, &[0; 512]).end();
            let name = format!("content of {} via pax: {via_pax}", kind as char);
            cases.add("T15", name, &tar, refused("only files have content"));
        }
    }
    for count in 0..4_u64 {
        // The size of the extended header counts, whatever the header says.
        let mut entry = Header::new("f", b'0');
        entry.size = count * 512;
        let tar = Tar::new().pax(&[("size", b"5")]).entry(&entry, b"12345");
        let facts = vec![
            Fact::File("f".to_owned(), b"12345".to_vec()),
            Fact::File("g".to_owned(), b"g".to_vec()),
        ];
        let name = format!("pax size 5, header {}", entry.size);
        cases.add(
            "T15",
            name,
            &tar.file("g", b"g").end(),
            Outcome::Loads(facts),
        );
    }
    let inner = Tar::new().file("../evil", b"x").end();
    let tar = Tar::new().file("f", &inner).end();
    let facts = vec![Fact::Names(String::new(), vec![b"f".to_vec()])];
    cases.add("T15", "nested", &tar, Outcome::Loads(facts));
}

fn t16(cases: &mut Cases) {
    let max = b"\x80\0\0\0\xff\xff\xff\xff";
    for (field, at, room) in [
        ("mode", 100, 8),
        ("uid", 108, 8),
        ("gid", 116, 8),
        ("size", 124, 12),
        ("mtime", 136, 12),
    ] {
        let mut values: Vec<Vec<u8>> = vec![
            vec![0xff; room],
            [&b"-1"[..], &vec![0; room - 2]].concat(),
            [&b"8"[..], &vec![0; room - 1]].concat(),
            [&b"0x10"[..], &vec![0; room - 4]].concat(),
            [&b"1 1"[..], &vec![0; room - 3]].concat(),
        ];
        if matches!(field, "uid" | "gid") {
            values.push(max.to_vec());
            values.push(b"\x80\0\0\x01\0\0\0\0".to_vec());
        }
        if room == 12 {
            values.push(b"\x80\0\0\0\x80\0\0\0\0\0\0\0".to_vec());
            values.push(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec());
        }
        for value in values {
            let change = |block: &mut [u8; 512]| block[at..at + room].copy_from_slice(&value);
            let tar = Tar::new().changed(&Header::new("f", b'0'), change).end();
            let name = format!("{field} {}", value.escape_ascii());
            // A member that is longer than any archive ends too soon.
            let text = format!("'{field}'");
            cases.add("T16", name, &tar, refused(text));
        }
    }
    for (key, value) in [
        ("uid", "4294967295"),
        ("gid", "4294967295"),
        ("uid", "4294967296"),
        ("uid", "-1"),
        ("uid", "0x0"),
        ("mtime", "nan"),
        ("mtime", "1e9"),
        ("mtime", "253402300799"),
        ("size", "9223372036854775807"),
        ("size", "1.5"),
    ] {
        let tar = Tar::new()
            .pax(&[(key, value.as_bytes())])
            .file("f", b"")
            .end();
        cases.add(
            "T16",
            format!("pax {key} {value}"),
            &tar,
            refused(format!("'{key}'")),
        );
    }
    for sum in [
        &b"000001\0 "[..],
        b"        ",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"-00001\0 ",
    ] {
        let mut block = Header::new("f", b'0').block();
        block[148..156].copy_from_slice(sum);
        let tar = Tar(block.to_vec()).end();
        let name = format!("checksum '{}'", sum.escape_ascii());
        cases.add("T16", name, &tar, refused("'checksum'"));
    }
}

fn t17(cases: &mut Cases) {
    let map = "0,512,".repeat(1000) + "8,8";
    for (name, records) in [
        (
            "0.0",
            vec![
                ("GNU.sparse.size", "9223372036854775807"),
                ("GNU.sparse.numblocks", "1"),
            ],
        ),
        (
            "0.1",
            vec![
                ("GNU.sparse.size", "1024"),
                ("GNU.sparse.map", map.as_str()),
            ],
        ),
        (
            "1.0",
            vec![("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")],
        ),
        ("real size", vec![("GNU.sparse.realsize", "8")]),
        ("name", vec![("GNU.sparse.name", "other")]),
    ] {
        let records: Vec<(&str, &[u8])> = records
            .iter()
            .map(|(key, value)| (*key, value.as_bytes()))
            .collect();
        let tar = Tar::new().pax(&records).file("f", b"x").end();
        cases.add(
            "T17",
            name,
            &tar,
            refused("sparse members are not supported"),
        );
    }
    for size in [0, 512, 0o7777_7777] {
        let mut entry = Header::new("f", b'S');
        entry.size = size;
        let tar = Tar::new().entry(&entry, &[0; 512]).end();
        let text = "reading the header of entry 'f': sparse members are not supported";
        cases.add("T17", format!("old GNU {size}"), &tar, refused(text));
    }
}

fn t18(cases: &mut Cases) {
    for first in [b'0', b'1', b'2', b'3', b'5', b'6'] {
        for last in [b'0', b'1', b'2', b'3', b'5', b'6'] {
            for between in [false, true] {
                let mut tar = Tar::new().file("other", b"o");
                tar = tar.entry(&header("n", first, "other"), b"");
                if between {
                    tar = tar.file("between", b"");
                }
                if first == b'5' {
                    tar = tar.file("n/inside", b"");
                }
                let tar = tar.entry(&header("n", last, "other"), b"").end();
                let path = "n".to_owned();
                let mut facts = vec![match last {
                    b'0' => Fact::File(path, Vec::new()),
                    b'1' => Fact::File(path, b"o".to_vec()),
                    b'2' => Fact::Link(path, "other".to_owned()),
                    b'3' => Fact::Node(path, 0x103),
                    b'5' => Fact::Dir(path),
                    _ => Fact::Node(path, 0),
                }];
                // What another name leads to does not change with it.
                facts.push(Fact::File("other".to_owned(), b"o".to_vec()));
                if first == b'5' && last == b'5' {
                    facts.push(Fact::File("n/inside".to_owned(), Vec::new()));
                }
                let name = format!("{} {} {between}", first as char, last as char);
                cases.add("T18", name, &tar, Outcome::Loads(facts));
            }
        }
    }
}

fn t19(cases: &mut Cases) {
    for kind in [b'0', b'1', b'3', b'4', b'6'] {
        let tar = Tar::new().file("other", b"o");
        let tar = tar.entry(&header("n", kind, "other"), b"");
        let tar = tar.file("n/foo/bar", b"1").end();
        let facts = vec![
            Fact::Mode("n".to_owned(), 0o755),
            Fact::Mode("n/foo".to_owned(), 0o755),
            Fact::File("n/foo/bar".to_owned(), b"1".to_vec()),
        ];
        cases.add(
            "T19",
            format!("over {}", kind as char),
            &tar,
            Outcome::Loads(facts),
        );
    }
    for kind in [b'0', b'1', b'2', b'3', b'5', b'6'] {
        let tar = Tar::new().file("other", b"o");
        let tar = tar.entry(&header("m/o/p", kind, "other"), b"").end();
        let facts = vec![
            Fact::Mode("m".to_owned(), 0o755),
            Fact::Mode("m/o".to_owned(), 0o755),
        ];
        cases.add(
            "T19",
            format!("missing of {}", kind as char),
            &tar,
            Outcome::Loads(facts),
        );
        let tar = Tar::new().file("other", b"o").symlink("l", "nowhere");
        let tar = tar.entry(&header("l/f", kind, "other"), b"").end();
        let name = format!("dangling {}", kind as char);
        cases.add("T19", name, &tar, refused("unpacking entry 'l/f'"));
    }
}

fn t20(cases: &mut Cases) {
    for kind in (b'!'..=b'~').chain([0x80, 0xff, 1]) {
        let outcome = match kind {
            // Sparse members are a row of their own (threats T17).
            b'0'..=b'6' | b'L' | b'K' | b'x' | b'g' | b'S' => continue,
            b'7' => Outcome::Loads(vec![Fact::File("odd".to_owned(), Vec::new())]),
            b'V' => Outcome::Loads(vec![Fact::Names(String::new(), Vec::new())]),
            _ => refused("reading the header of entry 'odd': unknown type"),
        };
        let tar = Tar::new().entry(&header("odd", kind, ""), b"").end();
        cases.add("T20", format!("type {kind:#x}"), &tar, outcome);
    }
}
