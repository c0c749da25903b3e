// SPDX-License-Identifier: Apache-2.0
//! The TAR rig: archives written block by block, so that they can be wrong in every way.
//!
//! Nothing here uses the code under test or the `tar` crate; a header is 512 bytes and a checksum.

use std::io::Write as _;

/// Fields of a header; the rest is written as GNU tar and Go write it.
#[derive(Debug, Clone)]
pub struct Header {
    pub name: Vec<u8>,
    pub kind: u8,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub mtime: u64,
    pub device: (u32, u32),
}

impl Header {
    pub fn new(name: impl AsRef<[u8]>, kind: u8) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            kind,
            link: Vec::new(),
            mode: if kind == b'5' { 0o755 } else { 0o644 },
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 1_600_000_000,
            device: (0, 0),
        }
    }

    /// The block, with a right checksum.
    pub fn block(&self) -> [u8; 512] {
        let mut block = [0; 512];
        put(&mut block, 0, 100, &self.name);
        put(&mut block, 100, 8, format!("{:07o}", self.mode).as_bytes());
        put(&mut block, 108, 8, format!("{:07o}", self.uid).as_bytes());
        put(&mut block, 116, 8, format!("{:07o}", self.gid).as_bytes());
        put(
            &mut block,
            124,
            12,
            format!("{:011o}", self.size).as_bytes(),
        );
        put(
            &mut block,
            136,
            12,
            format!("{:011o}", self.mtime).as_bytes(),
        );
        block[156] = self.kind;
        put(&mut block, 157, 100, &self.link);
        put(&mut block, 257, 8, b"ustar\x0000");
        put(
            &mut block,
            329,
            8,
            format!("{:07o}", self.device.0).as_bytes(),
        );
        put(
            &mut block,
            337,
            8,
            format!("{:07o}", self.device.1).as_bytes(),
        );
        sum(&mut block);
        block
    }
}

fn put(block: &mut [u8; 512], at: usize, room: usize, bytes: &[u8]) {
    assert!(bytes.len() <= room, "field too long");
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Writes the checksum of a block whose fields were changed.
pub fn sum(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// An archive.
#[derive(Debug, Clone, Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a header and a body, padded.
    pub fn entry(mut self, header: &Header, body: &[u8]) -> Self {
        self.0.extend_from_slice(&header.block());
        self.body(body)
    }

    /// Appends a header after `change` has been at its fields; the checksum is made right again.
    pub fn changed(mut self, header: &Header, change: impl FnOnce(&mut [u8; 512])) -> Self {
        let mut block = header.block();
        change(&mut block);
        sum(&mut block);
        self.0.extend_from_slice(&block);
        self
    }

    fn body(mut self, body: &[u8]) -> Self {
        self.0.extend_from_slice(body);
        let padded = self.0.len().next_multiple_of(512);
        self.0.resize(padded, 0);
        self
    }

    pub fn file(self, name: impl AsRef<[u8]>, body: &[u8]) -> Self {
        let mut header = Header::new(name, b'0');
        header.size = body.len() as u64;
        self.entry(&header, body)
    }

    pub fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.entry(&Header::new(name, b'5'), b"")
    }

    pub fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let mut header = Header::new(name, b'2');
        header.link = target.as_ref().to_vec();
        self.entry(&header, b"")
    }

    pub fn hardlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let mut header = Header::new(name, b'1');
        header.link = target.as_ref().to_vec();
        self.entry(&header, b"")
    }

    pub fn node(self, name: impl AsRef<[u8]>, kind: u8, device: (u32, u32)) -> Self {
        let mut header = Header::new(name, kind);
        header.device = device;
        self.entry(&header, b"")
    }

    /// An extended header with these records.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let body: Vec<u8> = records.iter().flat_map(|(k, v)| record(k, v)).collect();
        self.extension(b'x', &body)
    }

    /// A header of type `kind` whose body describes the next member.
    pub fn extension(self, kind: u8, body: &[u8]) -> Self {
        let mut header = Header::new("././@LongLink", kind);
        header.size = body.len() as u64;
        self.entry(&header, body)
    }

    /// The end mark of two blocks.
    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// One record of an extended header.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}
