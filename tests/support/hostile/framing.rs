// SPDX-License-Identifier: Apache-2.0
//! Threats T22 to T27: what surrounds the members, and their names.

use super::{Cases, Fact, NAMINGS, Naming, Outcome, named, refused};
use crate::support::layout::{self, GZIP, Layer, PLAIN, ZSTD};
use crate::support::tar::{Header, Tar, gzip, zstd};

pub(super) fn add(cases: &mut Cases) {
    t22(cases);
    t23(cases);
    t24(cases);
    t25(cases);
    t26(cases);
    t27(cases);
}

fn t22(cases: &mut Cases) {
    let whole = Tar::new().file("f", b"1").end();
    let facts = || Outcome::Loads(vec![Fact::File("f".to_owned(), b"1".to_vec())]);
    for zeros in [512, 1024, 9728, 100_000] {
        let tar = [&whole[..], &vec![0; zeros]].concat();
        cases.add("T22", format!("{zeros} zeros"), &tar, facts());
    }
    let one_block = &whole[..whole.len() - 512];
    cases.add("T22", "one block", one_block, facts());
    for (name, tar) in [
        ("a byte", [&whole[..], b"x"].concat()),
        ("after a block", [&whole[..], &[0; 512], b"x"].concat()),
        (
            "an archive",
            [&whole[..], &Tar::new().file("h", b"2").end()].concat(),
        ),
        (
            "an archive behind one block",
            [one_block, &Tar::new().file("h", b"2").end()].concat(),
        ),
    ] {
        cases.add("T22", name, &tar, refused("goes on after its end mark"));
    }
    for split in [1, 100, 512, 700, 1536, whole.len() - 1] {
        let (first, second) = whole.split_at(split);
        let skippable = b"\x50\x2a\x4d\x18\x01\0\0\0x";
        for (blob, media_type) in [
            ([gzip(first), gzip(second)].concat(), GZIP),
            ([zstd(first), zstd(second)].concat(), ZSTD),
            (
                [&skippable[..], &zstd(first), skippable, &zstd(second)].concat(),
                ZSTD,
            ),
        ] {
            let layer = Layer::new(blob, media_type, &whole);
            cases.add_image(
                "T22",
                format!("split {split} {media_type}"),
                vec![layer],
                facts(),
            );
        }
    }
    for (packed, media_type) in [(gzip(&whole), GZIP), (zstd(&whole), ZSTD)] {
        for garbage in [&b"garbage"[..], &[0; 100], b"\x1f\x8b", b"\x28\xb5\x2f\xfd"] {
            let layer = Layer::new([&packed[..], garbage].concat(), media_type, &whole);
            let name = format!("{} behind {media_type}", garbage.escape_ascii());
            cases.add_image("T22", name, vec![layer], refused("loading layer"));
        }
    }
}

fn t23(cases: &mut Cases) {
    type Change = fn(&mut serde_json::Value);
    let other = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let changes: [(&str, Change, &str); 9] = [
        (
            "size + 1",
            |m| m["layers"][0]["size"] = (m["layers"][0]["size"].as_u64().unwrap() + 1).into(),
            "but its descriptor says",
        ),
        (
            "size - 1",
            |m| m["layers"][0]["size"] = (m["layers"][0]["size"].as_u64().unwrap() - 1).into(),
            "but its descriptor says",
        ),
        (
            "size 0",
            |m| m["layers"][0]["size"] = 0.into(),
            "but its descriptor says",
        ),
        (
            "size -1",
            |m| m["layers"][0]["size"] = (-1).into(),
            "reading a manifest",
        ),
        (
            "config size",
            |m| m["config"]["size"] = 1.into(),
            "but its descriptor says 1",
        ),
        (
            "no layers",
            |m| m["layers"] = serde_json::json!([]),
            "diff IDs",
        ),
        (
            "a layer twice",
            |m| {
                let layer = m["layers"][0].clone();
                m["layers"].as_array_mut().unwrap().push(layer);
            },
            "diff IDs",
        ),
        (
            "swapped",
            |m| m["layers"].as_array_mut().unwrap().reverse(),
            "but the image's config says",
        ),
        (
            "digest of the config",
            |m| {
                let config = m["config"].clone();
                m["layers"][0]["digest"] = config["digest"].clone();
                m["layers"][0]["size"] = config["size"].clone();
            },
            "loading layer",
        ),
    ];
    for (name, change, text) in changes {
        cases.add_image("T23", name, layout::layers(), refused(text));
        if let Some(case) = cases.list.last_mut() {
            case.change = Some(change);
        }
    }
    for index in 0..3 {
        let mut layers = layout::layers();
        layers[index].diff_id = other.to_owned();
        let name = format!("diff ID of layer {index}");
        cases.add_image("T23", name, layers, refused("but the image's config says"));
        let mut layers = layout::layers();
        layers.swap(index, (index + 1) % 3);
        let swapped: Vec<String> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let mut layers = layout::layers();
        for (layer, diff_id) in layers.iter_mut().zip(swapped) {
            layer.diff_id = diff_id;
        }
        let name = format!("diff IDs swapped at {index}");
        cases.add_image("T23", name, layers, refused("but the image's config says"));
    }
}

fn t24(cases: &mut Cases) {
    let whole = Tar::new().file("f", b"1").end();
    for (blob, media_type) in [
        (zstd(&whole), GZIP),
        (zstd(&whole), PLAIN),
        (gzip(&whole), ZSTD),
        (gzip(&whole), PLAIN),
        (whole.clone(), GZIP),
        (whole.clone(), ZSTD),
    ] {
        let name = format!("{media_type} for {}", blob[..2].escape_ascii());
        let layer = Layer::new(blob, media_type, &whole);
        cases.add_image("T24", name, vec![layer], refused("but it is"));
    }
    for media_type in [PLAIN, GZIP, ZSTD] {
        for (junk, text) in [
            (b"BZh91AY&SY".to_vec(), "bzip2"),
            (b"\xfd7zXZ\0\0\0".to_vec(), "xz"),
            (b"\x04\x22\x4d\x18....".to_vec(), "lz4"),
            (b"\x1f\x9d\x90....".to_vec(), "compress"),
            (b"PK\x03\x04....".to_vec(), "zip"),
            (b"\x1f\x8b\x08".to_vec(), "unexpected end"),
            (b"\x1f\x8b\x07\0\0\0\0\0\0\0\0\0".to_vec(), "loading layer"),
            (b"\x28\xb5\x2f\xfd".to_vec(), "loading layer"),
            (vec![b'j'; 2000], "checksum"),
            (Vec::new(), "unexpected end"),
        ] {
            let name = format!(
                "'{}' as {media_type}",
                junk[..junk.len().min(8)].escape_ascii()
            );
            let layer = Layer::new(junk, media_type, &whole);
            cases.add_image("T24", name, vec![layer], refused(text));
        }
    }
}

fn t25(cases: &mut Cases) {
    let whole = Tar::new()
        .dir("d")
        .pax(&[("path", b"d/long")])
        .file("x", &[1; 1500])
        .extension(b'L', b"d/gnu\0")
        .symlink("y", "z")
        .file("last", b"1")
        .end();
    let boundaries = (0..whole.len() - 512).step_by(512);
    for cut in boundaries.flat_map(|cut| [cut, cut + 1, cut + 257, cut + 511]) {
        if cut + 512 <= whole.len() - 512 {
            let name = format!("cut at {cut}");
            cases.add("T25", name, &whole[..cut], refused("unexpected end"));
        }
    }
    for (packed, media_type) in [(gzip(&whole), GZIP), (zstd(&whole), ZSTD)] {
        for cut in (1..packed.len()).step_by(packed.len() / 16) {
            let layer = Layer::new(packed[..cut].to_vec(), media_type, &whole);
            let name = format!("{media_type} cut at {cut}");
            cases.add_image("T25", name, vec![layer], refused("loading layer"));
        }
    }
}

fn t26(cases: &mut Cases) {
    let layer = |number: usize| Layer::plain(&Tar::new().file(format!("f{number}"), b"").end());
    for (count, text) in [(501, "at most 500"), (2000, "at most 500")] {
        let layers = (0..count).map(layer).collect();
        cases.add_image("T26", format!("{count} layers"), layers, refused(text));
    }
}

fn t27(cases: &mut Cases) {
    for naming in NAMINGS {
        for bytes in [
            &b"a\nb"[..],
            b"\x1b[31mred",
            b"\x1b]0;title\x07",
            b"\r\r",
            b"\t",
            b"\x7f",
            "\u{202e}txt".as_bytes(),
            "\u{85}\u{9b}".as_bytes(),
            b"\xff\xfe",
            b"half\xc3",
            b" ",
            b"-rf",
            b"%s%n",
        ] {
            let entry = Header::new(bytes, b'0');
            let tar = named(Tar::new(), naming, &entry, b"1").end();
            let facts = vec![Fact::Names(String::new(), vec![bytes.to_vec()])];
            let name = format!("'{}' {naming:?}", bytes.escape_ascii());
            cases.add("T27", name.clone(), &tar, Outcome::Loads(facts));
            let entry = Header::new([bytes, b"/.."].concat(), b'0');
            let tar = named(Tar::new(), naming, &entry, b"1").end();
            cases.add(
                "T27",
                format!("{name}/.."),
                &tar,
                refused("unpacking entry '"),
            );
            if naming == Naming::Header {
                let tar = Tar::new().hardlink("h", bytes).end();
                cases.add(
                    "T27",
                    format!("link to {name}"),
                    &tar,
                    refused("hard link to '"),
                );
            }
        }
    }
}
