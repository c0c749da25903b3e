// SPDX-License-Identifier: Apache-2.0
//! `wharf image push` through the real binary, to a registry that keeps what it gets.

use crate::support::layout;
use serde_json::Value;
use wharf::image::Digest;

use crate::support::hub::Hub;
use crate::support::image_cli::{ok, run};
use crate::support::layout::{Layer, Rig, archive, layers};
use crate::support::registry::Reply;
use crate::support::tar::Tar;

/// Ten layers, one of them twice.
fn many() -> Vec<Layer> {
    let mut all = layers();
    for index in 0..6 {
        let body = index.to_string().repeat(10_000).into_bytes();
        all.push(Layer::plain(
            &Tar::new().file(format!("f{index}"), &body).end(),
        ));
    }
    all.push(all[2].clone());
    all
}

#[test]
fn what_is_pushed_is_pulled_with_the_same_digest() {
    let (rig, hub) = (Rig::in_memory(), Hub::new());
    let root = rig.root();
    hub.allow(&root);
    let name = format!("{}/team/app:1", hub.host());
    let loaded = rig.load(&archive(&layout::layout(&name, &many()))).unwrap();
    let digest = loaded[0].digest.to_string();
    let output = run(&root, &["push", &name]);
    assert!(output.status.success(), "{}", output.stderr);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, format!("pushed {name} {digest}\n"));
    // A line for each blob: nine layers, and the config.
    assert_eq!(output.stderr.lines().count(), 10, "{}", output.stderr);
    assert!(output.stderr.contains(": sent, "), "{}", output.stderr);
    let (media_type, bytes) = hub.get("team/app", "1").unwrap();
    assert_eq!(media_type, "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(Digest::of(&bytes).to_string(), digest);
    // The manifest comes when everything else is there.
    let requests = hub.requests();
    let manifest = requests
        .iter()
        .position(|r| r == "PUT /v2/team/app/manifests/1");
    let last_blob = requests
        .iter()
        .rposition(|r| r.starts_with("PUT /v2/team/app/blobs/"));
    assert!(manifest > last_blob, "{requests:?}");
    // Again, nothing is sent but the manifest.
    let output = run(&root, &["push", "--json", &name]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let blobs = report["blobs"].as_array().unwrap();
    assert_eq!(blobs.len(), 10);
    assert!(
        blobs.iter().all(|blob| blob["result"] == "present"),
        "{report}"
    );
    assert_eq!(hub.server.count("PUT", "/manifests/1"), 2);
    // To another repository: the registry has the blobs.
    let other = format!("{}/other/app:2", hub.host());
    let output = run(&root, &["push", "--json", "--quiet", &name, &other]);
    assert_eq!(output.stderr, "");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let blobs = report["blobs"].as_array().unwrap();
    assert!(
        blobs.iter().all(|blob| blob["result"] == "mounted"),
        "{report}"
    );
    // The way back.
    let back = Rig::in_memory();
    hub.allow(&back.root());
    ok(&back.root(), &["pull", "--quiet", &other]);
    let image = back.store.resolve(&other).unwrap();
    assert_eq!(image.digest.to_string(), digest);
    assert_eq!(image.layers.len(), 10);
    back.assert_clean(&"pulled");
}

#[test]
fn an_id_needs_a_place_and_a_digest_must_be_the_images() {
    let (rig, hub) = (Rig::in_memory(), Hub::new());
    let root = rig.root();
    hub.allow(&root);
    let loaded = rig.load(&archive(&layout::layout("x", &layers()))).unwrap();
    let id = loaded[0].digest.to_string();
    assert_eq!(run(&root, &["push", &id]).status.code(), Some(2));
    let wrong = format!("{}/x@{}", hub.host(), Digest::of(b"other"));
    assert_eq!(run(&root, &["push", &id, &wrong]).status.code(), Some(2));
    let right = format!("{}/x@{id}", hub.host());
    ok(&root, &["push", &id, &right]);
    assert!(hub.get("x", &id).is_some());
}

#[test]
fn a_push_that_fails_says_where_and_leaves_no_image() {
    let hub = Hub::with(|seen| {
        let refused = seen.method == "PUT" && seen.path.contains("/uploads/");
        refused.then(|| {
            Reply::new(
                403,
                r#"{"errors":[{"code":"DENIED","message":"read-only"}]}"#,
            )
        })
    });
    let rig = Rig::in_memory();
    let root = rig.root();
    hub.allow(&root);
    let name = format!("{}/app:1", hub.host());
    rig.load(&archive(&layout::layout(&name, &many()))).unwrap();
    let output = run(&root, &["push", &name]);
    assert_eq!(output.status.code(), Some(4));
    for part in [
        "pushing to",
        &hub.host(),
        "sending blob 'sha256:",
        "repository 'app'",
    ] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    assert!(hub.get("app", "1").is_none());
    // A store that lost a blob sends nothing wrong.
    let hub = Hub::new();
    hub.allow(&root);
    let name = format!("{}/app:1", hub.host());
    ok(&root, &["tag", &loaded_id(&rig), &name]);
    let (_, digest) = rig.store.find(&name).unwrap();
    let layer = rig.store.documents(&digest).unwrap().manifest.layers[4].digest;
    let path = rig.store.blob_path(&layer);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[600] ^= 1;
    layout::put(&path, &bytes);
    let output = run(&root, &["push", &name]);
    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    assert!(hub.get("app", "1").is_none());
}

fn loaded_id(rig: &Rig) -> String {
    rig.store.records().unwrap()[0].digest.to_string()
}
