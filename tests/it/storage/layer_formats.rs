// SPDX-License-Identifier: Apache-2.0
//! Odd and damaged archives of layers (threats T15 to T27): framing, numbers,
//! compression. What entries may do to the tree is in `layers.rs`.

use crate::support::layout;
use crate::support::tar;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::support::layout::{GZIP, Layer, PLAIN, Rig, ZSTD, archive};
use crate::support::tar::{Header, Tar, gzip, zstd};

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

#[test]
fn t15_sizes_and_names_are_read_one_way() {
    let file = |body: &[u8]| {
        let mut header = Header::new("f", b'0');
        header.size = body.len() as u64;
        header
    };
    // The size of an extended header counts, as POSIX has it.
    let rig = Rig::in_memory();
    let tar = Tar::new()
        .pax(&[("size", b"5")])
        .entry(&file(b""), b"12345")
        .file("g", b"g")
        .end();
    let fs = rig.load_layer(&tar).unwrap();
    assert_eq!(
        (read(fs.join("f")), read(fs.join("g"))),
        (b"12345".to_vec(), b"g".to_vec())
    );
    // A nested archive is content.
    let inner = Tar::new().file("../evil", b"x").end();
    let fs = rig.load_layer(&Tar::new().file("f", &inner).end()).unwrap();
    assert_eq!(read(fs.join("f")), inner);
    // One long name or the other.
    let fs = rig
        .load_layer(
            &Tar::new()
                .extension(b'L', b"long/name\0")
                .file("x", b"1")
                .end(),
        )
        .unwrap();
    assert_eq!(read(fs.join("long/name")), b"1");
}

#[test]
fn t15_malformed_extended_headers_are_refused() {
    let path = tar::record("path", b"a");
    for (extensions, expected) in [
        (
            vec![(b'x', path.clone()), (b'L', b"b\0".to_vec())],
            "both an extended header",
        ),
        (
            vec![(b'L', b"b\0".to_vec()), (b'x', path.clone())],
            "both an extended header",
        ),
        (
            vec![(b'x', path.clone()), (b'x', path.clone())],
            "two extended headers",
        ),
        (
            vec![(b'L', b"a\0".to_vec()), (b'L', b"b\0".to_vec())],
            "two extended headers",
        ),
        (vec![(b'L', b"a\0b".to_vec())], "holds a NUL"),
        (vec![(b'L', vec![b'a'; 20_000])], "at most 16384"),
        (vec![(b'x', vec![b'a'; 2 << 20])], "at most 1048576"),
        (vec![(b'x', b"9 path=a".to_vec())], "malformed record"),
        (vec![(b'x', b"99 path=a\n".to_vec())], "malformed record"),
        (vec![(b'x', b"path=a\n".to_vec())], "malformed record"),
        (vec![(b'x', [path.clone(), path.clone()].concat())], "twice"),
        (vec![(b'x', tar::record("size", b"-1"))], "field 'size'"),
        (
            vec![(b'x', tar::record("size", b"99999999999999999999"))],
            "field 'size'",
        ),
        (
            vec![(b'g', path.clone())],
            "a global extended header sets 'path'",
        ),
        (
            vec![(b'x', tar::record("GNU.sparse.map", b"0,1"))],
            "sparse",
        ),
    ] {
        let mut tar = Tar::new();
        for (kind, body) in &extensions {
            tar = tar.extension(*kind, body);
        }
        refused(&tar.file("f", b"x").end(), expected);
    }
    refused(
        &Tar::new().extension(b'x', &path).end(),
        "describes another member",
    );
    for kind in [b'1', b'2', b'3', b'4', b'5', b'6'] {
        let mut header = Header::new("x", kind);
        (header.size, header.device, header.link) = (512, (1, 3), b"y".to_vec());
        refused(
            &Tar::new().entry(&header, &[0; 512]).end(),
            "only files have content",
        );
    }
}

#[test]
fn t16_numbers_out_of_range() {
    let header = Header::new("f", b'0');
    let change = |at: usize, bytes: &'static [u8]| {
        move |block: &mut [u8; 512]| block[at..at + bytes.len()].copy_from_slice(bytes)
    };
    for (at, bytes, field) in [
        (108, &b"\x80\0\0\0\xff\xff\xff\xff"[..], "uid"),
        (116, b"\x80\0\0\0\xff\xff\xff\xff", "gid"),
        (108, b"\x80\0\0\x01\0\0\0\0", "uid"),
        (108, b"\xff\xff\xff\xff\xff\xff\xff\xff", "uid"),
        (
            124,
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            "size",
        ),
        (124, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", "size"),
        (124, b"00000000x00\0", "size"),
        (100, b"-000644\0", "mode"),
        (
            136,
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            "mtime",
        ),
        // Year 9999.
        (136, b"\x80\0\0\0\0\0\0\x3a\xff\xf4\x41\x7f", "mtime"),
    ] {
        refused(
            &Tar::new().changed(&header, change(at, bytes)).end(),
            &format!("'{field}'"),
        );
    }
    for (key, value) in [
        ("uid", &b"4294967295"[..]),
        ("gid", b"4294967295"),
        ("uid", b"-1"),
        ("mtime", b"nan"),
        ("mtime", b"253402300799"),
    ] {
        refused(
            &Tar::new().pax(&[(key, value)]).file("f", b"").end(),
            &format!("'{key}'"),
        );
    }
    let mut block = header.block();
    block[148..156].copy_from_slice(b"000001\0 ");
    let tar = Tar(block.to_vec()).end();
    refused(&tar, "'checksum'");
    let rig = Rig::in_memory();
    let big =
        |block: &mut [u8; 512]| block[108..116].copy_from_slice(b"\x80\0\0\0\xff\xff\xff\xfe");
    let fs = rig
        .load_layer(&Tar::new().changed(&header, big).end())
        .unwrap();
    assert_eq!(
        std::fs::metadata(fs.join("f")).unwrap().uid(),
        4_294_967_294
    );
}

#[test]
fn t18_the_last_entry_of_a_name_wins() {
    let rig = Rig::new();
    let fs = rig
        .load_layer(&Tar::new().file("f", b"one").file("f", b"two").end())
        .unwrap();
    assert_eq!(read(fs.join("f")), b"two");
    let fs = rig
        .load_layer(&Tar::new().file("x", b"").dir("x").file("x/y", b"1").end())
        .unwrap();
    assert_eq!(read(fs.join("x/y")), b"1");
    let fs = rig
        .load_layer(&Tar::new().file("x/y/z", b"").file("x", b"2").end())
        .unwrap();
    assert_eq!(read(fs.join("x")), b"2");
    let tar = Tar::new()
        .file("a", b"old")
        .hardlink("h", "a")
        .file("a", b"new")
        .end();
    let fs = rig.load_layer(&tar).unwrap();
    assert_eq!(
        (read(fs.join("h")), read(fs.join("a"))),
        (b"old".to_vec(), b"new".to_vec())
    );
    // A directory that was replaced is not written through its old self.
    let tar = Tar::new()
        .file("d/a", b"1")
        .symlink("d", "e")
        .file("e/b", b"2")
        .file("d/c", b"3")
        .end();
    let fs = rig.load_layer(&tar).unwrap();
    assert_eq!(read(fs.join("e/c")), b"3");
    assert!(!fs.join("e/a").exists());
}

#[test]
fn t19_parents_are_made() {
    let rig = Rig::new();
    let fs = rig
        .load_layer(
            &Tar::new()
                .file("n", b"file")
                .file("n/foo/bar", b"1")
                .file("m/o/p", b"2")
                .end(),
        )
        .unwrap();
    assert_eq!(read(fs.join("n/foo/bar")), b"1");
    for dir in ["n", "n/foo", "m", "m/o"] {
        let m = std::fs::metadata(fs.join(dir)).unwrap();
        assert_eq!(
            (m.mode() & 0o7777, m.uid(), m.gid()),
            (0o755, 0, 0),
            "{dir}"
        );
    }
    refused(
        &Tar::new().symlink("l", "nowhere").file("l/f", b"").end(),
        "leads to no directory of this layer",
    );
}

#[test]
fn t17_t20_types() {
    let rig = Rig::in_memory();
    let comment = tar::record("comment", b"from git");
    let tar = Tar::new()
        .extension(b'g', &comment)
        .entry(&Header::new("label", b'V'), b"")
        .entry(&Header::new("seven", b'7'), b"")
        .entry(&Header::new("old", 0), b"")
        .end();
    let fs = rig.load_layer(&tar).unwrap();
    assert_eq!(wharf::sys::fs::list_dir(&fs).unwrap(), ["old", "seven"]);
    for kind in [b'S', b'M', b'D', b'A', b'X', b'8', b'z', 0xff] {
        refused(
            &Tar::new().entry(&Header::new("odd", kind), b"").end(),
            "reading the header of entry 'odd'",
        );
    }
}

#[test]
fn t22_every_byte_counts() {
    let rig = Rig::in_memory();
    let whole = Tar::new().file("f", b"1").end();
    let one_block = whole[..whole.len() - 512].to_vec();
    let padded = [&whole[..], &[0; 10_240]].concat();
    for tar in [&one_block, &padded] {
        rig.load_layer(tar).unwrap();
    }
    refused(&[&whole[..], b"x"].concat(), "goes on after its end mark");
    refused(
        &[&one_block[..], &Tar::new().file("hidden", b"2").end()].concat(),
        "goes on after its end mark",
    );
    let (first, second) = whole.split_at(700);
    let members = [gzip(first), gzip(second)].concat();
    let frames = [
        &b"\x50\x2a\x4d\x18\x01\0\0\0x"[..],
        &zstd(first),
        &zstd(second),
    ]
    .concat();
    for (blob, media_type) in [(members, GZIP), (frames, ZSTD)] {
        let files = layout::layout("x", &[Layer::new(blob, media_type, &whole)]);
        rig.load(&archive(&files)).unwrap();
    }
    for blob in [
        [&gzip(&whole)[..], b"garbage"].concat(),
        [&gzip(&whole)[..], &[0; 100]].concat(),
    ] {
        let rig = Rig::in_memory();
        let files = layout::layout("x", &[Layer::new(blob, GZIP, &whole)]);
        rig.load(&archive(&files)).unwrap_err();
        rig.assert_empty(&"garbage");
    }
}

#[test]
fn t24_formats() {
    let whole = Tar::new().file("f", b"1").end();
    let loads = |blob: &[u8], media_type| {
        let rig = Rig::in_memory();
        let files = layout::layout("x", &[Layer::new(blob.to_vec(), media_type, &whole)]);
        let loaded = rig.load(&archive(&files));
        if loaded.is_err() {
            rig.assert_empty(&media_type);
        }
        loaded.map_err(|err| format!("{err:#}"))
    };
    loads(&whole, PLAIN).unwrap();
    loads(&gzip(&whole), GZIP).unwrap();
    loads(&zstd(&whole), ZSTD).unwrap();
    for (blob, media_type) in [
        (zstd(&whole), GZIP),
        (gzip(&whole), ZSTD),
        (gzip(&whole), PLAIN),
        (whole.clone(), GZIP),
    ] {
        let err = loads(&blob, media_type).unwrap_err();
        assert!(err.contains("but it is"), "{err}");
    }
    for (junk, expected) in [
        (b"BZh91AY&SY".to_vec(), "bzip2"),
        (b"\xfd7zXZ\0\0\0".to_vec(), "xz"),
        (b"\x04\x22\x4d\x18....".to_vec(), "lz4"),
        (vec![b'j'; 2000], "checksum"),
        (b"\x1f\x8b\x08".to_vec(), "unexpected end"),
        (b"\x28\xb5\x2f\xfd".to_vec(), ""),
        (Vec::new(), "unexpected end"),
        (gzip(b""), "unexpected end"),
    ] {
        let err = loads(&junk, GZIP).unwrap_err();
        assert!(err.contains(expected), "{err}");
    }
}

#[test]
fn t25_an_archive_cut_anywhere() {
    let rig = Rig::in_memory();
    let whole = Tar::new()
        .dir("d")
        .pax(&[("path", b"d/long")])
        .file("x", &[1; 1500])
        .extension(b'L', b"d/gnu\0")
        .symlink("y", "z")
        .file("last", b"1")
        .end();
    let mut cuts: Vec<usize> = (0..whole.len() - 512).step_by(512).collect();
    cuts.extend([1, 100, 511, 513, 1535, 2049, whole.len() - 513]);
    for cut in cuts {
        let err = rig.load_layer(&whole[..cut]).unwrap_err();
        assert!(err.contains("unexpected end"), "{cut}: {err}");
        rig.assert_empty(&cut);
    }
    let compressed = gzip(&whole);
    for cut in 0..compressed.len() {
        let layer = Layer::new(compressed[..cut].to_vec(), GZIP, &whole);
        rig.load(&archive(&layout::layout("x", &[layer])))
            .unwrap_err();
    }
    rig.assert_empty(&"gzip");
}

#[test]
fn t27_names_are_kept_and_printed_escaped() {
    let rig = Rig::new();
    let names: [&[u8]; 4] = [
        b"a\nb",
        b"\x1b[31mred",
        "\u{202e}txt".as_bytes(),
        b"\xff\xfe",
    ];
    for name in names {
        let tar = Tar::new().file(name, b"1").end();
        let fs = rig.load_layer(&tar).unwrap();
        assert_eq!(
            wharf::sys::fs::list_dir(&fs).unwrap(),
            [OsStr::from_bytes(name)]
        );
        let tar = Tar::new().file([name, b"/.."].concat(), b"1").end();
        let err = rig.load_layer(&tar).unwrap_err();
        assert!(
            !err.chars().any(|c| c.is_control() || c == '\u{202e}'),
            "{err}"
        );
    }
}
