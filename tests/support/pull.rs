// SPDX-License-Identifier: Apache-2.0
//! A registry that serves layouts, a store that pulls from it, and the two together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wharf::definition::PullPolicy;
use wharf::image::Digest;
use wharf::image::event::Event;
use wharf::image::pull::{self, Options, Pulled};
use wharf::registry::{Client, Limits};
use wharf::settings::{Registry as RegistrySettings, Settings};
use wharf::sys::command::Command;

use crate::support::layout::{Files, Rig, put};
use crate::support::registry::{Bound, Reply, Seen, Server};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a registry holds.
#[derive(Debug, Clone, Default)]
pub struct Content {
    /// Tags of the repository `x`, with the digest that they lead to.
    pub tags: BTreeMap<String, String>,
    /// Manifests, indexes and other blobs, by digest.
    pub blobs: BTreeMap<String, Vec<u8>>,
}

impl Content {
    /// The image of a layout under a tag.
    pub fn with(mut self, tag: &str, files: &Files) -> Self {
        self.tags.insert(tag.to_owned(), manifest_of(files));
        for (name, body) in files {
            if name.starts_with("blobs/") {
                self.add(body);
            }
        }
        self
    }

    pub fn add(&mut self, blob: &[u8]) -> String {
        let digest = Digest::of(blob).to_string();
        self.blobs.insert(digest.clone(), blob.to_vec());
        digest
    }

    /// A document under a tag.
    pub fn tag(&mut self, tag: &str, document: &serde_json::Value) -> String {
        let digest = self.add(document.to_string().as_bytes());
        self.tags.insert(tag.to_owned(), digest.clone());
        digest
    }

    pub fn reply(&self, seen: &Seen) -> Reply {
        let absent = || Reply::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#);
        let Some(path) = seen.path.strip_prefix("/v2/x/") else {
            return if seen.path == "/v2/" {
                Reply::ok("{}")
            } else {
                absent()
            };
        };
        if let Some(reference) = path.strip_prefix("manifests/") {
            let digest = self.tags.get(reference).map_or(reference, String::as_str);
            let Some(body) = self.blobs.get(digest) else {
                return absent();
            };
            let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
            let media_type = document["mediaType"].as_str().unwrap_or(MANIFEST);
            return Reply::ok(body.clone())
                .header("Content-Type", media_type)
                .header("Docker-Content-Digest", digest);
        }
        let digest = path.strip_prefix("blobs/").unwrap_or_default();
        let Some(body) = self.blobs.get(digest) else {
            return absent();
        };
        match seen.range() {
            None => Reply::ok(body.clone()).header("ETag", "\"one\""),
            Some(first) => Reply::new(206, body.get(first..).unwrap_or_default())
                .header("ETag", "\"one\"")
                .header(
                    "Content-Range",
                    &format!("bytes {first}-{}/{}", body.len() - 1, body.len()),
                ),
        }
    }
}

/// The digest of a layout's manifest.
pub fn manifest_of(files: &Files) -> String {
    let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
    index["manifests"][0]["digest"].as_str().unwrap().to_owned()
}

/// The digests of a layout's layers.
pub fn layers_of(files: &Files) -> Vec<String> {
    let manifest = &files[&format!("blobs/{}", manifest_of(files).replace(':', "/"))];
    let manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    let digest = |layer: &serde_json::Value| layer["digest"].as_str().unwrap().to_owned();
    layers.iter().map(digest).collect()
}

/// A store and a registry.
pub struct World {
    pub rig: Rig,
    pub server: Server,
    pub content: Arc<Mutex<Content>>,
    pub client: Client,
}

impl World {
    pub fn new(content: Content) -> Self {
        Self::scripted(content, |_, _| None)
    }

    /// With answers other than the good ones.
    pub fn scripted(
        content: Content,
        script: impl Fn(&Content, &Seen) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let content = Arc::new(Mutex::new(content));
        let served = Arc::clone(&content);
        let server = Bound::new(None).serve(move |seen| {
            let content = served.lock().unwrap().clone();
            script(&content, seen).unwrap_or_else(|| content.reply(seen))
        });
        let rig = Rig::in_memory();
        let settings = Settings {
            registries: vec![RegistrySettings {
                prefix: server.host(),
                insecure: true,
                ..RegistrySettings::default()
            }],
            ..Settings::default()
        };
        let text = format!(
            "[[registries]]\nprefix = \"{}\"\ninsecure = true\n",
            server.host()
        );
        put(&rig.root().join("etc/wharf/wharf.toml"), text.as_bytes());
        let limits = Limits {
            tries: 3,
            backoff: Duration::from_millis(4),
            ..Limits::default()
        };
        let client = Client::with_limits(&rig.paths, &settings, limits);
        Self {
            rig,
            server,
            content,
            client,
        }
    }

    /// `HOST/x:TAG`.
    pub fn name(&self, tag: &str) -> String {
        format!("{}/x:{tag}", self.server.host())
    }

    pub fn pull(&self, tag: &str) -> anyhow::Result<Pulled> {
        self.pull_with(&self.name(tag), PullPolicy::Always)
    }

    pub fn pull_with(&self, name: &str, policy: PullPolicy) -> anyhow::Result<Pulled> {
        let options = Options {
            policy,
            platform: None,
        };
        self.run(name, &options).0
    }

    /// Pulls, and tells what it told.
    pub fn run(&self, name: &str, options: &Options) -> (anyhow::Result<Pulled>, Vec<Event>) {
        let events = Mutex::new(Vec::new());
        let pulled = pull::pull(&self.rig.store, &self.client, name, options, &|event| {
            events.lock().unwrap().push(event);
        });
        let error = pulled.as_ref().map_err(|err| format!("{err:#}")).err();
        self.rig.assert_clean(&error);
        (pulled, events.into_inner().unwrap())
    }

    /// A pull by the real program.
    pub fn command(&self, tag: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
        command.arg("--root").arg(self.rig.root());
        command.args(["image", "pull", &self.name(tag)]);
        command
    }

    /// How often each blob was asked for, in whole.
    pub fn downloads(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for seen in self.server.seen().iter() {
            if seen.method == "GET"
                && let Some((_, digest)) = seen.path.split_once("/blobs/")
            {
                *counts.entry(digest.to_owned()).or_insert(0) += 1;
            }
        }
        counts
    }
}
