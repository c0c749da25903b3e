// SPDX-License-Identifier: Apache-2.0
//! A registry on loopback with one image, `x`, that can be replaced. It behaves; what it serves need
//! not.

use std::sync::{Arc, Mutex, PoisonError};

use crate::support::layout::Files;
use crate::support::registry::{Bound, Reply, Seen, Server};

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

pub struct Registry {
    server: Server,
    files: Arc<Mutex<Files>>,
}

impl Registry {
    pub fn new() -> Self {
        let files: Arc<Mutex<Files>> = Arc::default();
        let served = Arc::clone(&files);
        let server = Bound::new(None).serve(move |seen| {
            let files = served.lock().unwrap_or_else(PoisonError::into_inner);
            answer(&files, seen)
        });
        Self { server, files }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// The files of an OCI layout, whose first image it is.
    pub fn offer(&self, files: Files) {
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = files;
    }
}

fn answer(files: &Files, seen: &Seen) -> Reply {
    let absent = || Reply::new(404, "");
    let rest = seen.path.strip_prefix("/v2/x/").unwrap_or_default();
    let blob = |digest: &str| files.get(&format!("blobs/{}", digest.replace(':', "/")));
    if let Some(digest) = rest.strip_prefix("blobs/") {
        return blob(digest).map_or_else(absent, |bytes| Reply::ok(bytes.clone()));
    }
    let index: serde_json::Value = match files.get("index.json") {
        Some(index) => serde_json::from_slice(index).unwrap(),
        None => return absent(),
    };
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let is_manifest = rest == "manifests/latest" || rest == format!("manifests/{digest}");
    match blob(digest) {
        Some(manifest) if is_manifest => Reply::ok(manifest.clone())
            .header("Content-Type", MANIFEST_TYPE)
            .header("Docker-Content-Digest", digest),
        _ => absent(),
    }
}
