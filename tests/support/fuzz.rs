// SPDX-License-Identifier: Apache-2.0
//! What is done with arbitrary bytes: the bodies of the fuzz targets, and valid samples to begin with.
//!
//! `fuzz/` runs them under libFuzzer, `tests/it/hostile/fuzz.rs` for some seconds with each run of the
//! tests. Besides not panicking, each says what must hold of what is accepted.

use std::io::Read as _;

use wharf::image::{Digest, Reference, config, manifest};
use wharf::registry::challenge::Challenge;
use wharf::registry::range::ContentRange;
use wharf::storage::decode;
use wharf::storage::member::{Member, Members, printable};

/// A body, and samples that it accepts.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

pub const TARGETS: [Target; 8] = [
    ("tar", tar, tar_samples),
    ("decode", decoded, decode_samples),
    ("manifest", manifest, manifest_samples),
    ("config", config, config_samples),
    ("reference", reference, reference_samples),
    ("digest", digest, digest_samples),
    ("challenge", challenge, challenge_samples),
    ("content_range", content_range, content_range_samples),
];

fn members(bytes: &[u8]) -> anyhow::Result<Vec<Member>> {
    let mut members = Members::new(bytes);
    let mut list = Vec::new();
    while let Some(member) = members.read_next()? {
        list.push(member);
    }
    members.drain()?;
    Ok(list)
}

pub fn tar(bytes: &[u8]) {
    let Ok(list) = members(bytes) else {
        return;
    };
    for member in &list {
        assert!(!member.path.contains(&0) && !member.link.contains(&0));
        assert!(member.mode <= 0o7777);
        let end = member.offset.checked_add(member.size).unwrap();
        assert!(end <= bytes.len() as u64, "{member:?}");
        assert!(!printable(&member.path).chars().any(char::is_control));
    }
    // With seeking, the same.
    let mut seeking = Members::new(std::io::Cursor::new(bytes));
    for member in &list {
        assert_eq!(seeking.seek_next().unwrap().as_ref(), Some(member));
    }
    assert_eq!(seeking.seek_next().unwrap(), None);
}

pub fn decoded(bytes: &[u8]) {
    // Bombs are no news here.
    const PLAIN_MAX: u64 = 4 << 20;
    if let Ok(decoder) = decode::decode(bytes) {
        let mut plain = Vec::new();
        drop(decoder.take(PLAIN_MAX).read_to_end(&mut plain));
    }
}

pub fn manifest(bytes: &[u8]) {
    match manifest::parse(bytes) {
        Ok(manifest::Document::Manifest(parsed)) => {
            assert!(parsed.layers.len() <= manifest::LAYERS_MAX);
            let again = manifest::parse(&serde_json::to_vec(&parsed).unwrap()).unwrap();
            let manifest::Document::Manifest(again) = again else {
                panic!("{again:?}");
            };
            assert_eq!(again.layers, parsed.layers);
            assert_eq!(again.config, parsed.config);
        }
        Ok(manifest::Document::Index(manifests)) => {
            assert!(manifests.len() <= 1000);
        }
        Err(err) => assert_printable(&format!("{err:#}")),
    }
}

pub fn config(bytes: &[u8]) {
    let file = match config::parse(bytes) {
        Ok(file) => file,
        Err(err) => return assert_printable(&format!("{err:#}")),
    };
    let config = file.config;
    let lines = config.user.iter().chain(&config.working_dir);
    for value in lines.chain(&config.volumes).chain(&config.stop_signal) {
        assert!(!value.chars().any(char::is_control), "{value:?}");
    }
    assert!(config.volumes.iter().all(|path| path.starts_with('/')));
    assert!(!config.env.iter().any(|variable| variable.contains('\0')));
}

pub fn reference(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match text.parse::<Reference>() {
        Ok(reference) => {
            let full = reference.to_string();
            assert_eq!(full.parse::<Reference>().unwrap(), reference);
            assert_eq!(
                reference.familiar().parse::<Reference>().unwrap(),
                reference
            );
            assert!(full.is_ascii(), "{full}");
            let bad = |part: &str| matches!(part, "" | "." | "..");
            assert!(!reference.repository().split('/').any(bad), "{full}");
        }
        Err(err) => assert_printable(&err.to_string()),
    }
}

pub fn digest(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match text.parse::<Digest>() {
        Ok(digest) => {
            assert_eq!(digest.to_string(), text);
            assert!(digest.hex().bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
        Err(err) => assert_printable(&err.to_string()),
    }
}

pub fn challenge(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    if let Err(err) = Challenge::parse_all(text) {
        assert_printable(&err.to_string());
    }
}

pub fn content_range(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    if let Some(range) = ContentRange::parse(text) {
        assert!(range.first <= range.last, "{range:?}");
        assert!(
            range.total.is_none_or(|total| range.last < total),
            "{range:?}"
        );
    }
}

fn assert_printable(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

fn tar_samples() -> Vec<Vec<u8>> {
    let mut archive = ::tar::Builder::new(Vec::new());
    for (name, kind) in [("f", b'0'), ("d/", b'5'), ("l", b'2'), ("h", b'1')] {
        let mut header = ::tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_entry_type(::tar::EntryType::new(kind));
        header.set_mode(0o644);
        header.set_size(if kind == b'0' { 5 } else { 0 });
        if matches!(kind, b'1' | b'2') {
            header.set_link_name("f").unwrap();
        }
        header.set_cksum();
        let body: &[u8] = if kind == b'0' { b"12345" } else { b"" };
        archive.append(&header, body).unwrap();
    }
    let mut header = ::tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    let long = "long/".repeat(40) + "name";
    archive.append_data(&mut header, long, &b""[..]).unwrap();
    vec![archive.into_inner().unwrap(), vec![0; 1024]]
}

fn decode_samples() -> Vec<Vec<u8>> {
    let plain = b"some content ".repeat(20);
    vec![
        zstd::stream::encode_all(&plain[..], 1).unwrap(),
        [
            &b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01\x05\0\xfa\xffhello"[..],
            b"\x86\xa6\x106\x05\0\0\0",
        ]
        .concat(),
        plain,
    ]
}

fn manifest_samples() -> Vec<Vec<u8>> {
    let digest = Digest::of(b"");
    let descriptor = |kind: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":7}}"#
        )
    };
    let config = descriptor("config.v1+json");
    let layer = descriptor("layer.v1.tar+gzip");
    let child = descriptor("manifest.v1+json");
    let child = child.replace('}', r#","platform":{"os":"linux","architecture":"amd64"}}"#);
    vec![
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer},{layer}]}}"#)
            .into_bytes(),
        format!(r#"{{"schemaVersion":2,"manifests":[{child},{child}]}}"#).into_bytes(),
    ]
}

fn config_samples() -> Vec<Vec<u8>> {
    let digest = Digest::of(b"");
    let text = format!(
        r#"{{"architecture":"amd64","os":"linux","created":"2020-01-01T00:00:00Z","config":{{
        "Cmd":["a"],"Entrypoint":["b"],"Env":["A=b"],"User":"u:g","WorkingDir":"/w","StopSignal":"SIGTERM",
        "Labels":{{"k":"v"}},"Volumes":{{"/v":{{}}}},"ExposedPorts":{{"80/tcp":{{}}}},
        "Healthcheck":{{"Test":["CMD","x"],"Interval":1000}}}},
        "rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
    );
    vec![text.into_bytes()]
}

fn reference_samples() -> Vec<Vec<u8>> {
    let digest = Digest::of(b"");
    let with_digest = format!("quay.io:5000/a/b_c/d-e:v1.2@{digest}");
    let long = format!("a/{}", "b".repeat(240));
    [
        "nginx",
        "localhost/x:1",
        "[::1]:5000/a/b",
        "a.b/c__d@x",
        "docker.io/a.b/c",
        &with_digest,
        &long,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn digest_samples() -> Vec<Vec<u8>> {
    vec![Digest::of(b"x").to_string().into_bytes()]
}

fn challenge_samples() -> Vec<Vec<u8>> {
    [
        r#"Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull""#,
        r#"Basic realm="a \"quoted\" one", Negotiate abc=="#,
        "Bearer realm=x,error=y",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn content_range_samples() -> Vec<Vec<u8>> {
    [
        "bytes 0-9/10",
        "bytes 5-18446744073709551614/*",
        "bytes */10",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
