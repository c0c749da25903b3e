// SPDX-License-Identifier: Apache-2.0
//! The image config: an allow-list of what an image may say about its process.
//!
//! What is not a field here does not exist for the engine: annotations, runtime options and
//! whatever comes next (threats C1). Values are checked by grammar here, once.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use super::manifest::LAYERS_MAX;
use crate::digest::Digest;
use crate::instruction::check_value;
use crate::platform::Platform;

/// What an image says about its process; all of it can be overridden by a definition.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// First words of the command line.
    pub entrypoint: Vec<String>,
    /// The words after them, unless the definition has a command.
    pub cmd: Vec<String>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// Where the process starts, an absolute path.
    pub working_dir: Option<String>,
    /// `USER[:GROUP]`, names or numbers of the container's own passwd(5) and group(5).
    pub user: Option<String>,
    /// A signal's name or number.
    pub stop_signal: Option<String>,
    /// Absolute paths that hold data.
    pub volumes: BTreeSet<String>,
    /// `PORT[/PROTOCOL]`, for people.
    pub exposed_ports: BTreeSet<String>,
    /// Labels: data, shown and never interpreted.
    pub labels: BTreeMap<String, String>,
    /// How the image would like to be probed.
    pub healthcheck: Option<Healthcheck>,
}

/// `HEALTHCHECK` of an image, as data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", SCRIPT]`.
    #[serde(deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    /// Nanoseconds between probes; 0 is the default.
    pub interval: u64,
    /// Nanoseconds one probe may take; 0 is the default.
    pub timeout: u64,
    /// Nanoseconds after the start in which failures do not count.
    pub start_period: u64,
    /// Nanoseconds between probes in that time.
    pub start_interval: u64,
    /// Failures in a row that make the container unhealthy; 0 is the default.
    pub retries: u32,
}

/// A config blob: the [`Config`], and what ties it to layers and to a platform.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigFile {
    /// What the image says about its process.
    pub config: Config,
    /// Digests of the plain layers, lowest first.
    pub diff_ids: Vec<Digest>,
    /// GOARCH of its programs.
    pub architecture: String,
    /// GOOS of its programs.
    pub os: String,
    /// Such as `v7` of `arm`.
    pub variant: Option<String>,
    /// When it was built, RFC 3339.
    pub created: Option<String>,
    /// Who built it.
    pub author: Option<String>,
    /// How it was built, the first step first.
    pub history: Vec<HistoryEntry>,
}

/// One step of how an image was built: text for people, that nothing depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HistoryEntry {
    /// When, RFC 3339.
    pub created: Option<String>,
    /// The command.
    pub created_by: Option<String>,
    /// Who did it.
    pub author: Option<String>,
    /// What they said about it.
    pub comment: Option<String>,
    /// Whether the step has no layer.
    #[serde(deserialize_with = "null_is_default")]
    pub empty_layer: bool,
}

impl ConfigFile {
    /// For which machines the image is.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
        }
    }
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(default, deserialize_with = "null_is_default")]
    config: RawConfig,
    rootfs: RawRootfs,
    architecture: String,
    #[serde(default)]
    os: String,
    variant: Option<String>,
    created: Option<String>,
    author: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    history: Vec<HistoryEntry>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(rename = "type")]
    kind: String,
    #[serde(deserialize_with = "null_is_default")]
    diff_ids: Vec<Digest>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct RawConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    labels: Option<BTreeMap<String, String>>,
    healthcheck: Option<Healthcheck>,
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Parses a config blob.
pub fn parse(bytes: &[u8]) -> anyhow::Result<ConfigFile> {
    let raw: RawFile = serde_json::from_slice(bytes).context("reading the image's config")?;
    ensure!(
        raw.rootfs.kind == "layers",
        "the image's config has a rootfs of type '{}', not 'layers'",
        raw.rootfs.kind.escape_debug()
    );
    ensure!(
        raw.rootfs.diff_ids.len() <= LAYERS_MAX,
        "the image has {} layers; at most {LAYERS_MAX} are supported",
        raw.rootfs.diff_ids.len()
    );
    Ok(ConfigFile {
        config: check(raw.config).context("reading the image's config")?,
        diff_ids: raw.rootfs.diff_ids,
        architecture: raw.architecture,
        os: raw.os,
        variant: raw.variant,
        created: raw.created,
        author: raw.author,
        history: raw.history,
    })
}

fn check(raw: RawConfig) -> anyhow::Result<Config> {
    let config = Config {
        entrypoint: raw.entrypoint.unwrap_or_default(),
        cmd: raw.cmd.unwrap_or_default(),
        env: raw.env.unwrap_or_default(),
        working_dir: raw.working_dir.filter(|text| !text.is_empty()),
        user: raw.user.filter(|text| !text.is_empty()),
        stop_signal: raw.stop_signal.filter(|text| !text.is_empty()),
        volumes: raw.volumes.unwrap_or_default().into_keys().collect(),
        exposed_ports: raw.exposed_ports.unwrap_or_default().into_keys().collect(),
        labels: raw.labels.unwrap_or_default(),
        healthcheck: raw.healthcheck,
    };
    for (key, words) in [("Entrypoint", &config.entrypoint), ("Cmd", &config.cmd)] {
        ensure!(
            !words.iter().any(|word| word.contains('\0')),
            "key '{key}' holds a NUL"
        );
    }
    for variable in &config.env {
        let name = variable.split('=').next().unwrap_or_default();
        ensure!(
            !variable.contains('\0') && !name.is_empty(),
            "key 'Env' holds '{}', which is not NAME=VALUE",
            variable.escape_debug()
        );
    }
    let lines = [
        ("WorkingDir", config.working_dir.iter().collect::<Vec<_>>()),
        ("User", config.user.iter().collect()),
        ("StopSignal", config.stop_signal.iter().collect()),
        ("Volumes", config.volumes.iter().collect()),
        ("ExposedPorts", config.exposed_ports.iter().collect()),
    ];
    for (key, values) in lines {
        for value in values {
            check_value(key, value)?;
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(config: &str) -> String {
        let diff_id = Digest::of(b"");
        format!(
            r#"{{"architecture":"amd64","os":"linux","config":{config},
                "rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        )
    }

    #[test]
    fn c1_only_the_allow_list_is_kept() {
        let parsed = parse(
            file(
                r#"{"Cmd":["a"],"Env":["A=b","B="],"User":"u","WorkingDir":"/w","Labels":{"run.oci.x":"y"},
                "Volumes":{"/v":{}},"ExposedPorts":{"80/tcp":{},"1-2/udp":{}},"StopSignal":"SIGRTMIN+3",
                "Annotations":{"run.oci.hooks":"x"},"HostConfig":{"Privileged":true},"Entrypoint":null,
                "Healthcheck":{"Test":["CMD","x"],"Interval":1000}}"#,
            )
            .as_bytes(),
        )
        .unwrap();
        let expected = Config {
            cmd: vec!["a".to_owned()],
            env: vec!["A=b".to_owned(), "B=".to_owned()],
            user: Some("u".to_owned()),
            working_dir: Some("/w".to_owned()),
            stop_signal: Some("SIGRTMIN+3".to_owned()),
            volumes: BTreeSet::from(["/v".to_owned()]),
            exposed_ports: BTreeSet::from(["80/tcp".to_owned(), "1-2/udp".to_owned()]),
            labels: BTreeMap::from([("run.oci.x".to_owned(), "y".to_owned())]),
            healthcheck: Some(Healthcheck {
                test: vec!["CMD".to_owned(), "x".to_owned()],
                interval: 1000,
                ..Healthcheck::default()
            }),
            ..Config::default()
        };
        assert_eq!(parsed.config, expected);
        assert_eq!(
            parse(file("null").as_bytes()).unwrap().config,
            Config::default()
        );
    }

    #[test]
    fn c9_bad_values() {
        for bad in [
            r#"{"WorkingDir":"rel"}"#,
            r#"{"WorkingDir":"/a\nb"}"#,
            r#"{"StopSignal":"SIGKILL;x"}"#,
            r#"{"ExposedPorts":{"99999/xyz":{}}}"#,
            r#"{"ExposedPorts":{"2-1":{}}}"#,
            r#"{"Volumes":{"v":{}}}"#,
            r#"{"User":"root\n"}"#,
            r#"{"Env":["=x"]}"#,
            r#"{"Env":["A=\u0000"]}"#,
            r#"{"Cmd":["\u0000"]}"#,
            r#"{"Cmd":"not a list"}"#,
            r#"{"Healthcheck":{"Interval":-1}}"#,
            r#"{"Healthcheck":{"Interval":99999999999999999999}}"#,
            r#"{"Cmd":[],"Cmd":[]}"#,
            "7",
        ] {
            assert!(parse(file(bad).as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(b"\xef\xbb\xbf{}").is_err());
        assert!(parse(b"{}").is_err());
    }
}
