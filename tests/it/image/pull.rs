// SPDX-License-Identifier: Apache-2.0
//! Pulling from a registry: what comes out, policies, platforms, what is refused (threats R1, R3, R6
//! to R9, R12, T23). Pulls that meet others are in `pull_shared.rs`.

use crate::support::layout;
use crate::support::registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wharf::definition::PullPolicy;
use wharf::engine::images::obtain::{self, Wanted};
use wharf::image::Digest;
use wharf::image::event::Event;
use wharf::image::manifest::NotRunnable;
use wharf::image::pull::{Options, Outcome};
use wharf::settings::{Registry, Settings};

use crate::support::layout::{Files, Layer, layers};
use crate::support::pull::{Content, INDEX, MANIFEST, World, layers_of, manifest_of};
use crate::support::registry::Reply;
use crate::support::tar::Tar;

fn image() -> Files {
    layout::layout("x", &layers())
}

fn other() -> Files {
    let layers = [Layer::plain(&Tar::new().file("other", b"1").end())];
    layout::layout("x", &layers)
}

#[test]
fn a_pull_brings_the_whole_image_and_asks_for_each_blob_once() {
    let world = World::new(Content::default().with("1", &image()));
    let pulled = world.pull("1").unwrap();
    assert_eq!(pulled.digest.to_string(), manifest_of(&image()));
    assert_eq!(pulled.outcome, Outcome::Pulled);
    let stored = world.rig.store.resolve(&world.name("1")).unwrap();
    assert_eq!(stored.config.cmd, ["/bin/sh"]);
    assert!(stored.layers[0].join("bin/sh").is_symlink());
    let downloads = world.downloads();
    assert_eq!(downloads.len(), 4, "{downloads:?}");
    assert!(downloads.values().all(|count| *count == 1), "{downloads:?}");
    // Again: the manifest only.
    let again = world.pull("1").unwrap();
    assert_eq!((again.outcome, again.downloaded), (Outcome::Current, 0));
    assert_eq!(world.downloads(), downloads);
    // Another image with the same base: only what is new.
    let mut more = layers();
    more.push(Layer::plain(&Tar::new().file("more", b"1").end()));
    let more = layout::layout("x", &more);
    let content = world.content.lock().unwrap().clone();
    *world.content.lock().unwrap() = content.with("2", &more);
    world.pull("2").unwrap();
    let mut new: Vec<String> = world.downloads().into_keys().collect();
    new.retain(|digest| !downloads.contains_key(digest));
    assert_eq!(new.len(), 2, "the config and one layer: {new:?}");
}

#[test]
fn the_binary_pulls_and_tells() {
    let world = World::new(Content::default().with("1", &image()));
    let output = world.command("1").run().unwrap();
    let (name, digest) = (world.name("1"), manifest_of(&image()));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("pulled {name} {digest}\n")
    );
    let output = world.command("1").arg("--quiet").run().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("{digest}\n")
    );
    let output = world.command("1").arg("--json").run().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["images"][0]["outcome"], "current");
    assert_eq!(json["images"][0]["digest"], digest.as_str());
    assert_eq!(json["images"][0]["reference"], name.as_str());
    let output = world.command("absent").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = output.stderr;
    assert!(
        text.contains("pulling '") && text.contains("repository 'x'"),
        "{text}"
    );
    let output = world
        .command("1")
        .args(["--platform", "linux/s390x"])
        .output()
        .unwrap();
    let text = output.stderr;
    assert!(text.contains("not for linux/s390x"), "{text}");
    let output = world
        .command("1")
        .args(["--platform", "x"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn policies() {
    let world = World::new(Content::default().with("1", &image()));
    let name = world.name("1");
    let requests = || world.server.seen().len();
    let err = world.pull_with(&name, PullPolicy::Never).unwrap_err();
    assert!(
        err.to_string().contains("the pull policy is 'never'"),
        "{err}"
    );
    assert_eq!(requests(), 0);
    let pulled = world.pull_with(&name, PullPolicy::Missing).unwrap();
    assert_eq!(pulled.outcome, Outcome::Pulled);
    let before = requests();
    for policy in [PullPolicy::Missing, PullPolicy::Never] {
        let pulled = world.pull_with(&name, policy).unwrap();
        assert_eq!(pulled.outcome, Outcome::Present, "{policy:?}");
    }
    assert_eq!(requests(), before);
    let pulled = world.pull_with(&name, PullPolicy::Newer).unwrap();
    assert_eq!(pulled.outcome, Outcome::Current);
    let manifests = world.server.count("GET", "manifests/1");
    assert_eq!(world.server.count("HEAD", "manifests/1"), 1);
    assert_eq!(manifests, 1, "newer asks for the digest only");
    // The tag moves.
    let content = world.content.lock().unwrap().clone();
    *world.content.lock().unwrap() = content.with("1", &other());
    let pulled = world.pull_with(&name, PullPolicy::Missing).unwrap();
    assert_eq!(pulled.digest.to_string(), manifest_of(&image()));
    let pulled = world.pull_with(&name, PullPolicy::Newer).unwrap();
    assert_eq!(pulled.digest.to_string(), manifest_of(&other()));
    assert_eq!(pulled.outcome, Outcome::Pulled);
    // A container may run the old one.
    world.rig.store.resolve(&manifest_of(&image())).unwrap();
    // Missing brings what was damaged since.
    let layer = world
        .rig
        .store
        .resolve(&name)
        .unwrap()
        .layers
        .pop()
        .unwrap();
    std::fs::remove_dir_all(layer.parent().unwrap()).unwrap();
    world.pull_with(&name, PullPolicy::Missing).unwrap();
    world.rig.store.resolve(&name).unwrap();
}

#[test]
fn the_policy_of_the_machine_is_asked_before_any_registry() {
    let world = World::new(Content::default().with("1", &image()));
    let file = world.rig.root().join("etc/containers/policy.json");
    let host = world.server.host();
    let accept = r#"[{"type": "insecureAcceptAnything"}]"#;
    let set = |text: &str| layout::put(&file, text.as_bytes());
    for (policy, says) in [
        (
            r#"{"default": [{"type": "reject"}]}"#.to_owned(),
            "rejects images that it does not name",
        ),
        (
            format!(
                r#"{{"default": {accept}, "transports": {{"docker": {{"{host}/x": [{{"type": "signedBy"}}]}}}}}}"#
            ),
            "cannot verify yet",
        ),
        ("{".to_owned(), "reading the policy"),
    ] {
        set(&policy);
        let output = world.command("1").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{policy}");
        let said = &output.stderr;
        assert!(
            said.contains(&format!("registry '{host}', repository 'x': ")) && said.contains(says),
            "{said}"
        );
    }
    assert_eq!(world.server.seen().len(), 0);
    set(&format!(
        r#"{{"default": [{{"type": "reject"}}], "transports": {{"docker": {{"{host}": {accept}}}}}}}"#
    ));
    world.pull("1").unwrap();
}

fn entry(files: &Files, platform: &str) -> serde_json::Value {
    let digest = manifest_of(files);
    let body = &files[&format!("blobs/{}", digest.replace(':', "/"))];
    let mut entry = layout::descriptor(MANIFEST, body);
    let mut words = platform.split('/');
    entry["platform"] = serde_json::json!({
        "os": words.next().unwrap(), "architecture": words.next().unwrap(),
    });
    if let Some(variant) = words.next() {
        entry["platform"]["variant"] = variant.into();
    }
    entry
}

#[test]
fn other_ways_to_a_name_keep_the_index_that_a_pull_learnt() {
    let local = wharf::platform::Platform::local().to_string();
    let mut content = Content::default().with("a", &image());
    let entries = [entry(&image(), &local)];
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    let top = content.tag("1", &index);
    content.tag("2", &index);
    let world = World::new(content);
    world.pull("1").unwrap();
    // The same image by an archive, and by another name.
    let files = layout::layout(&world.name("1"), &layers());
    world.rig.load(&layout::archive(&files)).unwrap();
    let digest = manifest_of(&image()).parse().unwrap();
    let (writer, name) = (world.rig.store.write().unwrap(), world.name("2"));
    writer
        .set_reference(&name.parse().unwrap(), &digest)
        .unwrap();
    drop(writer);
    for record in world.rig.store.records().unwrap() {
        assert_eq!(record.index.unwrap().to_string(), top, "{record:?}");
    }
    let asked = world.server.count("GET", "manifests/");
    for tag in ["1", "2"] {
        let name = world.name(tag);
        let newer = world.pull_with(&name, PullPolicy::Newer).unwrap();
        assert_eq!(newer.outcome, Outcome::Current);
    }
    assert_eq!(world.server.count("GET", "manifests/"), asked);
}

#[test]
fn work_that_downloads_nothing_gives_signs_of_life() {
    let many = (0..10_000).fold(Tar::new(), |tar, number| {
        tar.file(format!("f{number}"), b"")
    });
    let files = layout::layout("x", &[Layer::plain(&many.end())]);
    let world = World::new(Content::default().with("1", &files));
    let (pulled, events) = world.run(&world.name("1"), &Options::default());
    pulled.unwrap();
    // The walk over what was unpacked.
    let walking = |event: &Event| matches!(event, Event::Progress { bytes: 0, .. });
    assert!(events.iter().any(walking));
    let last = events.iter().rposition(walking).unwrap();
    let downloaded = |event: &Event| matches!(event, Event::Progress { bytes: 1.., .. });
    assert!(events.iter().rposition(downloaded).unwrap() < last);
    // Unpacking what is stored.
    let tree = world.rig.store.resolve(&world.name("1")).unwrap().layers;
    std::fs::remove_dir_all(tree[0].parent().unwrap()).unwrap();
    let (pulled, events) = world.run(&world.name("1"), &Options::default());
    assert_eq!(pulled.unwrap().downloaded, 0);
    let alive = events
        .iter()
        .filter(|event| **event == Event::Alive)
        .count();
    assert!(alive > 10, "{alive}");
    assert!(!events.iter().any(downloaded));
}

#[test]
fn sizes_that_overflow_are_an_error() {
    let files = layout::layout_with("x", &layers(), |manifest| {
        for layer in manifest["layers"].as_array_mut().unwrap() {
            layer["size"] = u64::MAX.into();
        }
    });
    let world = World::new(Content::default().with("1", &files));
    let err = format!("{:#}", world.pull("1").unwrap_err());
    assert!(err.contains("the image needs about"), "{err}");
}

#[test]
fn r7_r8_the_way_to_our_manifest_is_read_and_no_other() {
    let local = wharf::platform::Platform::local().to_string();
    let (ours, foreign) = (image(), other());
    let mut content = Content::default().with("a", &ours).with("b", &foreign);
    let entries = [
        entry(&foreign, "unknown/unknown"),
        entry(&foreign, "linux/mips64le"),
        entry(&foreign, "windows/amd64"),
        entry(&ours, &local),
    ];
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    let top = content.tag("1", &index);
    let none =
        serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": &entries[..3]});
    content.tag("none", &none);
    // Nested as deep as is allowed, and once more.
    let mut body = index.to_string();
    for depth in 2..=4 {
        let entry = layout::descriptor(INDEX, body.as_bytes());
        let index =
            serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        content.tag(&format!("deep{depth}"), &index);
        body = index.to_string();
    }
    let world = World::new(content);
    let pulled = world.pull("1").unwrap();
    assert_eq!(pulled.digest.to_string(), manifest_of(&ours));
    assert_eq!(world.server.count("GET", &manifest_of(&foreign)), 0);
    // What people pin is the index.
    let pinned = format!("{}/x@{top}", world.server.host());
    world.pull_with(&pinned, PullPolicy::Always).unwrap();
    let seen = world.server.seen().len();
    world.pull_with(&pinned, PullPolicy::Missing).unwrap();
    assert_eq!(
        world.rig.store.resolve(&pinned).unwrap().digest,
        pulled.digest
    );
    assert_eq!(world.server.seen().len(), seen);
    let newer = world
        .pull_with(&world.name("1"), PullPolicy::Newer)
        .unwrap();
    assert_eq!(newer.outcome, Outcome::Current);
    world.pull("deep2").unwrap();
    world.pull("deep3").unwrap();
    let err = format!("{:#}", world.pull("deep4").unwrap_err());
    assert!(err.contains("nested more than 3 deep"), "{err}");
    let err = format!("{:#}", world.pull("none").unwrap_err());
    assert!(
        err.ends_with("there is linux/mips64le, windows/amd64"),
        "{err}"
    );
    let options = Options {
        policy: PullPolicy::Always,
        platform: Some("linux/mips64le".parse().unwrap()),
    };
    // Its config says what machine it really is for.
    let err = world.run(&world.name("1"), &options).0.unwrap_err();
    assert!(
        format!("{err:#}").contains("not for linux/mips64le"),
        "{err:#}"
    );
}

/// A name that got another image leaves the old one its pin: the digest of the index.
#[test]
fn r8_the_digest_of_an_index_outlives_its_tag() {
    let local = wharf::platform::Platform::local().to_string();
    let (first, second) = (image(), other());
    let mut content = Content::default().with("a", &first).with("b", &second);
    let index = |files: &Files| {
        let entries = [entry(files, &local)];
        serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    };
    let old = content.tag("1", &index(&first));
    let world = World::new(content);
    world.pull("1").unwrap();
    let new = world.content.lock().unwrap().tag("1", &index(&second));
    world.pull("1").unwrap();
    for (digest, files) in [(old, first), (new, second)] {
        let pinned = format!("{}/x@{digest}", world.server.host());
        let found = world.rig.store.resolve(&pinned).unwrap();
        assert_eq!(found.digest.to_string(), manifest_of(&files));
    }
}

/// A container starts with the image it has, soon, when its registry is ill.
#[test]
fn a_refresh_that_nobody_needs_is_tried_once() {
    let healthy = Arc::new(AtomicBool::new(true));
    let is_healthy = Arc::clone(&healthy);
    let world = World::scripted(Content::default().with("1", &image()), move |_, _| {
        let healthy = is_healthy.load(Ordering::Relaxed);
        (!healthy).then(|| Reply::new(503, "later"))
    });
    let settings = Settings {
        registries: vec![Registry {
            prefix: world.server.host(),
            insecure: true,
            ..Registry::default()
        }],
        ..Settings::default()
    };
    let obtain = || {
        let image = world.name("1");
        let policy = PullPolicy::Always;
        let wanted = Wanted {
            image: &image,
            policy,
        };
        obtain::obtain(&world.rig.paths, &settings, wanted, None)
    };
    obtain().unwrap();
    let before = world.server.seen().len();
    healthy.store(false, Ordering::Relaxed);
    assert_eq!(obtain().unwrap().digest.to_string(), manifest_of(&image()));
    assert_eq!(world.server.seen().len(), before + 1);
}

#[test]
fn r9_what_cannot_be_run_has_an_exit_status_of_its_own() {
    let mut content = Content::default();
    let blob = content.add(b"{}");
    let part =
        |media_type: &str| serde_json::json!({"mediaType": media_type, "digest": blob, "size": 2});
    let helm = "application/vnd.cncf.helm.config.v1+json";
    let config = "application/vnd.oci.image.config.v1+json";
    let layer = "application/vnd.oci.image.layer.v1.tar";
    let documents = [
        serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": part(helm), "layers": []}),
        serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": part("application/vnd.oci.empty.v1+json"), "layers": []}),
        serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "text/x",
            "config": part(config), "layers": []}),
        serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": part(config),
            "layers": [part("application/vnd.cncf.helm.chart.content.v1.tar+gzip")]}),
        serde_json::json!({"schemaVersion": 1, "name": "x", "tag": "1",
            "fsLayers": [{"blobSum": blob}], "history": []}),
    ];
    for (index, document) in documents.iter().enumerate() {
        content.tag(&index.to_string(), document);
    }
    // Both a manifest and an index (threats R6).
    let both = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": part(config),
        "layers": [part(layer)], "manifests": []});
    content.tag("both", &both);
    let world = World::new(content);
    for tag in 0..documents.len() {
        let err = world.pull(&tag.to_string()).unwrap_err();
        let runnable = err.downcast_ref::<NotRunnable>();
        assert!(runnable.is_some(), "{tag}: {err:#}");
        let output = world.command(&tag.to_string()).output().unwrap();
        assert_eq!(output.status.code(), Some(6), "{tag}");
        world.rig.assert_empty(&tag);
    }
    let err = world.pull("both").unwrap_err();
    assert!(
        format!("{err:#}").contains("both a manifest and an index"),
        "{err:#}"
    );
}

#[test]
fn r6_a_registry_that_calls_it_something_else_is_refused() {
    let world = World::scripted(Content::default().with("1", &image()), |content, seen| {
        let manifest = seen.path.contains("/manifests/");
        manifest.then(|| content.reply(seen).instead("Content-Type", Some(INDEX)))
    });
    let err = world.pull("1").unwrap_err();
    assert!(
        format!("{err:#}").contains("it sent a manifest of"),
        "{err:#}"
    );
    world.rig.assert_empty(&"type");
}

#[test]
fn t23_r3_nothing_is_visible_until_all_agrees() {
    let other = Digest::of(b"other").to_string();
    type Change = Box<dyn Fn(&mut serde_json::Value)>;
    let mut changes: Vec<Change> = vec![
        Box::new(|m| m["layers"].as_array_mut().unwrap().swap(0, 1)),
        Box::new(|m| drop(m["layers"].as_array_mut().unwrap().pop())),
        Box::new(|m| m["config"]["size"] = (m["config"]["size"].as_u64().unwrap() + 1).into()),
        Box::new(|m| m["config"]["size"] = (1_u64 << 40).into()),
    ];
    for layer in 0..3 {
        for difference in [-1, 1] {
            changes.push(Box::new(move |m| {
                let size = m["layers"][layer]["size"].as_i64().unwrap();
                m["layers"][layer]["size"] = (size + difference).into();
            }));
        }
        let other = other.clone();
        changes.push(Box::new(move |m| {
            m["layers"][layer]["digest"] = other.clone().into();
        }));
    }
    let mut content = Content::default();
    for (index, change) in changes.iter().enumerate() {
        content = content.with(
            &index.to_string(),
            &layout::layout_with("x", &layers(), change),
        );
    }
    // A diff ID that the content does not have.
    for layer in 0..3 {
        let mut wrong = layers();
        wrong[layer].diff_id.clone_from(&other);
        content = content.with(&format!("diff{layer}"), &layout::layout("x", &wrong));
    }
    let content = content.with("whole", &image());
    let world = World::new(content.clone());
    for tag in content.tags.keys() {
        if tag != "whole" {
            world.pull(tag).unwrap_err();
            world.rig.assert_empty(tag);
        }
    }
    world.pull("whole").unwrap();
}

#[test]
fn t23_one_wrong_bit_in_a_blob() {
    for (nth, digest) in layers_of(&image()).iter().enumerate() {
        let mut content = Content::default().with("1", &image());
        let blob = content.blobs.get_mut(digest).unwrap();
        let middle = blob.len() / 2;
        blob[middle] ^= 1;
        let world = World::new(content);
        let err = world.pull("1").unwrap_err();
        assert!(format!("{err:#}").contains(digest), "{nth}: {err:#}");
        world.rig.assert_empty(&nth);
        // The registry was repaired.
        *world.content.lock().unwrap() = Content::default().with("1", &image());
        world.pull("1").unwrap();
    }
}

#[test]
fn r12_a_broken_download_is_taken_up_where_it_broke() {
    let mut random = 7_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        random.to_be_bytes()[0]
    })
    .take(3 << 20)
    .collect();
    let big = Layer::plain(&Tar::new().file("noise", &noise).end());
    let files = layout::layout("x", &[big]);
    let world = World::scripted(Content::default().with("1", &files), |content, seen| {
        let first = seen.path.contains("/blobs/") && seen.range().is_none_or(|at| at < 2 << 20);
        first.then(|| content.reply(seen).cut(1 << 20))
    });
    let pulled = world.pull("1").unwrap();
    assert_eq!(pulled.digest.to_string(), manifest_of(&files));
    let seen = world.server.seen();
    let ranges = seen
        .iter()
        .filter_map(registry::Seen::range)
        .collect::<Vec<_>>();
    assert_eq!(ranges, [1 << 20, 2 << 20]);
}

#[test]
fn a_short_name_is_looked_for_on_the_registries_of_the_list() {
    let world = World::new(Content::default().with("1", &image()));
    let text = format!(
        "search = [\"{0}\"]\n[[registries]]\nprefix = \"{0}\"\ninsecure = true\n",
        world.server.host()
    );
    layout::put(
        &world.rig.root().join("etc/wharf/wharf.toml"),
        text.as_bytes(),
    );
    let settings = Settings::load(&world.rig.paths).unwrap();
    let client = wharf::registry::Client::new(&world.rig.paths, &settings).unwrap();
    let world = World { client, ..world };
    let (pulled, events) = world.run("x:1", &Options::default());
    let name: wharf::image::Reference = world.name("1").parse().unwrap();
    assert_eq!(pulled.unwrap().reference, name);
    assert!(events.contains(&Event::Found(name.clone())), "{events:?}");
    // And found there the next time.
    let seen = world.server.seen().len();
    let (pulled, _) = world.run("x:1", &Options::default());
    assert_eq!(pulled.unwrap().outcome, Outcome::Present);
    assert_eq!(world.server.seen().len(), seen);
    let err = world.pull_with("y:1", PullPolicy::Missing).unwrap_err();
    assert!(format!("{err:#}").contains("repository 'y'"), "{err:#}");
}
