// SPDX-License-Identifier: Apache-2.0
//! Random tar archives: valid ones of every format, and mutations of them.
//!
//! The same seed gives the same archives. Mutations keep checksums right where they can, so that
//! what a reader disagrees about is reached.

use crate::support::tar::{self, Header, Tar};

/// SplitMix64: small, and the same everywhere.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

const NAMES: &[&[u8]] = &[
    b"a",
    b"etc/passwd",
    b"./x",
    b"/abs",
    b"d/",
    b"usr/share/doc/",
    "\u{e4}\u{6f22}".as_bytes(),
    b"\xff\xfe",
    b"with space",
    b"new\nline",
    b"quo\"te\\",
    b"tab\t",
    b"..",
    b"a//b",
    b"=",
    b"12 path=evil\n",
];

fn name(rng: &mut Rng) -> Vec<u8> {
    if rng.one_in(4) {
        let length = 1 + rng.below(230);
        return (0..length).map(|_| *rng.pick(b"abc/def.")).collect();
    }
    rng.pick(NAMES).to_vec()
}

/// An archive, mutated about as often as not.
pub fn archive(rng: &mut Rng) -> Vec<u8> {
    let members = 1 + rng.below(5);
    let mut tar = Tar::new();
    for _ in 0..members {
        tar = member(rng, tar);
    }
    let mut bytes = tar.end();
    if rng.one_in(4) {
        bytes.resize(bytes.len().next_multiple_of(10_240), 0);
    }
    if rng.one_in(2) {
        for _ in 0..=rng.below(3) {
            mutate(rng, &mut bytes);
        }
    }
    bytes
}

fn member(rng: &mut Rng, tar: Tar) -> Tar {
    let kind = *rng.pick(b"00000\x0071234556");
    let mut path = name(rng);
    // A file's name does not end so; the mutations see to the odd ones.
    while matches!(kind, b'0' | 0 | b'7') && path.last() == Some(&b'/') {
        path.pop();
    }
    let mut header = Header::new("", kind);
    header.mode = u32::try_from(rng.below(0o10000)).unwrap();
    header.uid = rng.below(70_000) as u64;
    header.gid = rng.below(70_000) as u64;
    header.mtime = rng.next() % 0x8000_0000;
    if matches!(kind, b'3' | b'4') {
        header.device = (1, 3);
    }
    let link = match kind {
        b'1' | b'2' => name(rng),
        _ => Vec::new(),
    };
    let body: Vec<u8> = match kind {
        b'0' | 0 | b'7' => vec![b'b'; rng.below(1300)],
        _ => Vec::new(),
    };
    header.size = body.len() as u64;
    let tar = match rng.below(4) {
        0 => pax_member(rng, tar, (&mut header, path, link)),
        1 => gnu_member(rng, tar, (&mut header, path, link)),
        _ => ustar_member(rng, tar, (&mut header, path, link)),
    };
    let before = tar.0.len();
    let mut tar = tar.entry(&header, &body);
    let block: &mut [u8; 512] = (&mut tar.0[before..before + 512]).try_into().unwrap();
    format_of(rng, block, kind);
    tar
}

/// Fields that differ between formats, and that no reader takes for something else.
fn format_of(rng: &mut Rng, block: &mut [u8; 512], kind: u8) {
    match rng.below(8) {
        0 => block[257..265].copy_from_slice(b"ustar  \0"),
        // V7 knows no devices, and no magic.
        1 if !matches!(kind, b'3' | b'4') && block[345] == 0 => block[257..265].fill(0),
        2 => block[265..269].copy_from_slice(b"root"),
        3 => {
            let uid = rng.next() % 0xffff_fffe;
            block[108..112].copy_from_slice(&[0x80, 0, 0, 0]);
            block[112..116].copy_from_slice(&u32::try_from(uid).unwrap().to_be_bytes());
        }
        // A prefix, as ustar has it.
        4 if &block[257..265] == b"ustar\x0000" && !matches!(block[0], 0 | b'/') => {
            block[345..350].copy_from_slice(b"pre/f");
        }
        _ => {}
    }
    tar::sum(block);
}

fn ustar_member(
    _rng: &mut Rng,
    tar: Tar,
    (header, mut path, mut link): (&mut Header, Vec<u8>, Vec<u8>),
) -> Tar {
    path.truncate(100);
    link.truncate(100);
    (header.name, header.link) = (path, link);
    if matches!(header.kind, b'0' | 0 | b'7') {
        while header.name.last() == Some(&b'/') {
            header.name.pop();
        }
    }
    tar
}

fn gnu_member(
    rng: &mut Rng,
    mut tar: Tar,
    (header, path, link): (&mut Header, Vec<u8>, Vec<u8>),
) -> Tar {
    let end: &[u8] = if rng.one_in(8) { b"" } else { b"\0" };
    header.name = path.iter().copied().take(100).collect();
    header.link = link.iter().copied().take(100).collect();
    let mut long = vec![(b'L', path)];
    if !link.is_empty() {
        long.push((b'K', link));
    }
    if rng.one_in(2) {
        long.reverse();
    }
    for (kind, name) in long {
        tar = tar.extension(kind, &[&name[..], end].concat());
    }
    tar
}

fn pax_member(
    rng: &mut Rng,
    tar: Tar,
    (header, path, link): (&mut Header, Vec<u8>, Vec<u8>),
) -> Tar {
    let mut records = vec![("path", path)];
    if !link.is_empty() {
        records.push(("linkpath", link));
    }
    header.name = b"short".to_vec();
    for key in ["uid", "gid"] {
        if rng.one_in(4) {
            records.push((key, (rng.next() % 0xffff_ffff).to_string().into_bytes()));
        }
    }
    if rng.one_in(3) {
        let sign = if rng.one_in(8) { "-" } else { "" };
        let fraction = rng.pick(&["", ".5", ".123456789", ".0", ".000000001"]);
        let seconds = rng.next() % 0x7fff_ffff;
        records.push(("mtime", format!("{sign}{seconds}{fraction}").into_bytes()));
    }
    if rng.one_in(3) {
        records.push(("size", header.size.to_string().into_bytes()));
        header.size = *rng.pick(&[header.size, 0, 512, 77]);
    }
    if rng.one_in(5) {
        records.push(("SCHILY.xattr.user.x", b"a=b\nc".to_vec()));
    }
    if rng.one_in(6) {
        records.push(("comment", b"c".to_vec()));
    }
    if rng.one_in(8) {
        records.push(("atime", b"1.5".to_vec()));
    }
    let tar = if rng.one_in(10) {
        tar.extension(b'g', &tar::record("comment", b"0123456789abcdef"))
    } else {
        tar
    };
    let start = rng.below(records.len());
    records.rotate_left(start);
    let body: Vec<u8> = records
        .iter()
        .flat_map(|(key, value)| tar::record(key, value))
        .collect();
    tar.extension(b'x', &body)
}

/// Texts that readers of numbers may disagree about.
const NUMBERS: &[&[u8]] = &[
    b"0000644\0",
    b"    644 ",
    b"644     ",
    b"        ",
    b"\0\0\0\0\0\0\0\0",
    b"\x000000644",
    b"\0 644   ",
    b"64 4    ",
    b"0o644   ",
    b"6_4_4   ",
    b"+644    ",
    b"-1      ",
    b"644\0garb",
    b"644\t    ",
    b"00000009",
    b"\x80\0\0\0\0\0\x01\0",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x80\xff\xff\xff\xff\xff\xff\xff",
    b"\xc0\0\0\0\0\0\0\x01",
    b"AAAAAAA=",
];

const MAGICS: &[&[u8]] = &[
    b"ustar\x0000",
    b"ustar  \0",
    b"ustar\0\0\0",
    b"\0\0\0\0\0\0\0\0",
    b"USTAR\x0000",
    b"ustar\x0001",
];

const PREFIXES: &[&[u8]] = &[b"p", b"pre/fix/", b"\0p", b"\xff", b"../.."];

fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let blocks = bytes.len() / 512;
    if blocks == 0 {
        return;
    }
    let at = rng.below(blocks) * 512;
    match rng.below(13) {
        0 => bytes.truncate(rng.below(bytes.len())),
        1 => {
            let other = archive_of_one(rng);
            let here = if rng.one_in(2) { bytes.len() } else { at };
            bytes.splice(here..here, other);
        }
        2 => {
            let block = bytes[at..at + 512].to_vec();
            bytes.splice(at..at, block);
        }
        3 => {
            bytes.drain(at..at + 512);
        }
        4 => {
            bytes.splice(at..at, [0; 512]);
        }
        5 => {
            let place = at + rng.below(512);
            bytes[place] ^= 1 << rng.below(8);
        }
        6 => change(rng, bytes, |rng, block| {
            block[156] = *rng.pick(b"01234567xgLKVSDMAN\0 z");
        }),
        7 | 8 => change(rng, bytes, |rng, block| {
            let field = *rng.pick(&[100, 108, 116, 124, 128, 136, 140, 148, 329, 337]);
            let text = rng.pick(NUMBERS);
            block[field..field + 8].copy_from_slice(text);
        }),
        9 => change(rng, bytes, |rng, block| {
            let magic = rng.pick(MAGICS);
            block[257..265].copy_from_slice(magic);
        }),
        10 => change(rng, bytes, |rng, block| {
            let text = rng.pick(PREFIXES);
            block[345..345 + text.len()].copy_from_slice(text);
        }),
        11 => change(rng, bytes, |rng, block| {
            let place = rng.below(512);
            block[place] = u8::try_from(rng.next() & 0xff).unwrap();
        }),
        _ => {
            // Inside bodies: records of extended headers, long names.
            let place = at + rng.below(40);
            bytes[place] = *rng.pick(b"0123456789 =\n\0/a\xff");
        }
    }
}

fn archive_of_one(rng: &mut Rng) -> Vec<u8> {
    let tar = member(rng, Tar::new());
    if rng.one_in(2) { tar.end() } else { tar.0 }
}

/// Changes one block that looks like a header, and makes its checksum right again.
fn change(rng: &mut Rng, bytes: &mut [u8], change: impl FnOnce(&mut Rng, &mut [u8; 512])) {
    let headers: Vec<usize> = (0..bytes.len() / 512)
        .map(|block| block * 512)
        .filter(|at| bytes[at + 148..at + 154].iter().all(|b| b.is_ascii_digit()))
        .collect();
    if headers.is_empty() {
        return;
    }
    let at = *rng.pick(&headers);
    let block: &mut [u8; 512] = (&mut bytes[at..at + 512]).try_into().unwrap();
    let sum = block[148..156].to_vec();
    change(rng, block);
    // What was done to the checksum itself stays.
    if block[148..156] == sum[..] {
        tar::sum(block);
    }
}
