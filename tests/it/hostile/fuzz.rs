// SPDX-License-Identifier: Apache-2.0
//! The fuzz targets for some seconds each, without libFuzzer: samples and mutations of them.
//!
//! The same inputs each time; `WHARF_FUZZ_SEED` and `WHARF_FUZZ_RUNS` say others and more. With
//! coverage as a guide, and for hours: `cargo +nightly fuzz run TARGET`. `WHARF_FUZZ_CORPUS=fuzz/corpus`
//! writes the samples there for it and does nothing else.

use crate::support::fuzz;
use crate::support::tar_random;
use std::path::Path;

use crate::support::tar_random::Rng;

const RUNS: u64 = 25_000;

fn number(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Bytes that mean something in one of the formats.
const PIECES: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"/",
    b"..",
    b"=",
    b"\"",
    b"\\",
    b",",
    b"-",
    b"9",
    b"18446744073709551615",
    b"{",
    b"[",
    b"]",
    b"}",
    b":",
    b"@",
    b"sha256:",
    b" ",
    b"\n",
    b"\x1b",
    b"*",
    b"null",
    b"-1",
    b"\\u0000",
    b"bytes ",
];

fn mutated(rng: &mut Rng, sample: &[u8]) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len() + 1);
        match rng.below(6) {
            0 => bytes.truncate(at),
            1 => {
                let piece = *rng.pick(PIECES);
                bytes.splice(at..at, piece.iter().copied());
            }
            2 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            3 => {
                let end = (at + rng.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + rng.below(600)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let piece = *rng.pick(PIECES);
                let end = (at + piece.len()).min(bytes.len());
                bytes.splice(at..end, piece.iter().copied());
            }
        }
    }
    bytes
}

fn run(name: &str) {
    let (_, body, samples) = fuzz::TARGETS
        .into_iter()
        .find(|(target, _, _)| *target == name)
        .unwrap_or_else(|| panic!("no target {name}"));
    let mut samples = samples();
    if let Ok(corpus) = std::env::var("WHARF_FUZZ_CORPUS") {
        if name == "tar" {
            let mut rng = Rng(1);
            samples.extend((0..200).map(|_| tar_random::archive(&mut rng)));
        }
        return write_corpus(&Path::new(&corpus).join(name), &samples);
    }
    let mut rng = Rng(number("WHARF_FUZZ_SEED", 1));
    for sample in &samples {
        body(sample);
    }
    for _ in 0..number("WHARF_FUZZ_RUNS", RUNS) {
        let sample = rng.pick(&samples).clone();
        let input = mutated(&mut rng, &sample);
        let ended = std::panic::catch_unwind(|| body(&input));
        assert!(ended.is_ok(), "{name} fails on: {}", input.escape_ascii());
    }
}

/// What libFuzzer begins with: it would not find a checksum or a bracket by itself for hours.
fn write_corpus(dir: &Path, samples: &[Vec<u8>]) {
    std::fs::create_dir_all(dir).unwrap();
    for (number, sample) in samples.iter().enumerate() {
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(dir.join(format!("sample-{number}")), sample).unwrap();
    }
}

#[test]
fn t15_tar() {
    run("tar");
    // Whole archives of all formats, and what mutations that know tar make of them.
    let mut rng = Rng(number("WHARF_FUZZ_SEED", 1));
    for _ in 0..number("WHARF_FUZZ_RUNS", RUNS) / 5 {
        fuzz::tar(&tar_random::archive(&mut rng));
    }
}

#[test]
fn t24_decode() {
    run("decode");
}

#[test]
fn r18_manifest() {
    run("manifest");
}

#[test]
fn r18_config() {
    run("config");
}

#[test]
fn r2_reference() {
    run("reference");
}

#[test]
fn r2_digest() {
    run("digest");
}

#[test]
fn r10_challenge() {
    run("challenge");
}

#[test]
fn r13_content_range() {
    run("content_range");
}
