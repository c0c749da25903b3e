// SPDX-License-Identifier: Apache-2.0
//! A registry on loopback that keeps what is pushed to it and gives it back: the part of the
//! distribution specification that push and pull need, strict about digests.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use wharf::image::Digest;

use crate::support::layout::put;
use crate::support::registry::{Bound, Reply, Seen, Server};

/// Content by repository and name: a digest, or a tag of a manifest.
type Kept = BTreeMap<(String, String), (String, Vec<u8>)>;

pub struct Hub {
    pub server: Server,
    kept: Arc<Mutex<Kept>>,
}

impl Hub {
    pub fn new() -> Self {
        Self::with(|_| None)
    }

    /// A registry that answers otherwise where `otherwise` says so.
    pub fn with(otherwise: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let kept = Arc::new(Mutex::new(Kept::new()));
        let inside = Arc::clone(&kept);
        let server = Bound::new(None).serve(move |seen| {
            let other = otherwise(seen);
            other.unwrap_or_else(|| answer(&mut inside.lock().unwrap(), seen))
        });
        Self { server, kept }
    }

    pub fn host(&self) -> String {
        self.server.host()
    }

    /// Lets wharf below `root` use it without TLS.
    pub fn allow(&self, root: &Path) {
        let text = format!(
            "[[registries]]\nprefix = \"{}\"\ninsecure = true\n",
            self.host()
        );
        put(
            &root.join("etc/wharf/wharf.toml.d/hub.toml"),
            text.as_bytes(),
        );
    }

    pub fn get(&self, repository: &str, name: &str) -> Option<(String, Vec<u8>)> {
        let key = (repository.to_owned(), name.to_owned());
        self.kept.lock().unwrap().get(&key).cloned()
    }

    pub fn forget(&self, repository: &str, name: &str) {
        let key = (repository.to_owned(), name.to_owned());
        self.kept.lock().unwrap().remove(&key).unwrap();
    }

    /// Methods and paths of all requests for content so far.
    pub fn requests(&self) -> Vec<String> {
        let seen = self.server.seen();
        let content = seen.iter().filter(|seen| seen.path != "/v2/");
        let line = |seen: &Seen| format!("{} {}", seen.method, seen.path);
        content.map(line).collect()
    }
}

fn answer(kept: &mut Kept, seen: &Seen) -> Reply {
    let path = seen.path.strip_prefix("/v2/").unwrap_or_default();
    let found = ["/blobs/uploads/", "/blobs/", "/manifests/"]
        .into_iter()
        .find_map(|kind| {
            let (repository, name) = path.split_once(kind)?;
            Some((repository.to_owned(), kind, name.to_owned()))
        });
    let Some((repository, kind, name)) = found else {
        return Reply::new(404, "");
    };
    match (seen.method.as_str(), kind) {
        ("POST", "/blobs/uploads/") => {
            let mount = parameter(seen, "mount").zip(parameter(seen, "from"));
            let stored = mount.and_then(|(digest, from)| {
                let blob = kept.get(&(from, digest.clone()))?.clone();
                Some((digest, blob))
            });
            match stored {
                Some((digest, blob)) => {
                    kept.insert((repository, digest), blob);
                    Reply::new(201, "")
                }
                None => {
                    let location = format!("/v2/{repository}/blobs/uploads/1");
                    Reply::new(202, "").header("Location", &location)
                }
            }
        }
        ("PUT", "/blobs/uploads/") => {
            let digest = parameter(seen, "digest").unwrap();
            if Digest::of(&seen.body).to_string() != digest {
                return Reply::new(400, r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
            }
            kept.insert((repository, digest), (String::new(), seen.body.clone()));
            Reply::new(201, "")
        }
        ("PUT", "/manifests/") => put_manifest(kept, seen, &repository, name),
        ("GET" | "HEAD", _) => match kept.get(&(repository, name)) {
            Some((media_type, body)) => {
                let digest = Digest::of(body).to_string();
                let reply = Reply::ok(body.clone()).header("Docker-Content-Digest", &digest);
                match media_type.as_str() {
                    "" => reply,
                    media_type => reply.header("Content-Type", media_type),
                }
            }
            None => Reply::new(404, r#"{"errors":[{"code":"NOT_FOUND"}]}"#),
        },
        _ => Reply::new(405, ""),
    }
}

/// Refuses a manifest whose blobs are not there, as real registries do.
fn put_manifest(kept: &mut Kept, seen: &Seen, repository: &str, name: String) -> Reply {
    let manifest: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    for descriptor in layers.iter().chain([&manifest["config"]]) {
        let digest = descriptor["digest"].as_str().unwrap().to_owned();
        if !kept.contains_key(&(repository.to_owned(), digest)) {
            return Reply::new(404, r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#);
        }
    }
    let media_type = seen.header("content-type").unwrap_or_default().to_owned();
    let digest = Digest::of(&seen.body).to_string();
    for name in [name, digest.clone()] {
        let value = (media_type.clone(), seen.body.clone());
        kept.insert((repository.to_owned(), name), value);
    }
    Reply::new(201, "").header("Docker-Content-Digest", &digest)
}

fn parameter(seen: &Seen, key: &str) -> Option<String> {
    let value = seen
        .query
        .split('&')
        .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.replace("%3A", ":").replace("%2F", "/"))
}
