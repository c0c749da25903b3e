// SPDX-License-Identifier: Apache-2.0
//! Where references lead: search lists, mirrors, moved and blocked registries, from wharf.toml and
//! containers-registries.conf; and pushing.

use crate::support::registry;
use crate::support::registry::{Bound, Reply, Server};
use crate::support::registry_case;
use crate::support::registry_case::{
    Act, BASIC, MANIFEST_TYPE, Machine, act, blob_digest, good, manifest, no_secret_at, reference,
};
use wharf::digest::Digest;
use wharf::registry::Kind::{NotFound, Refused, Unreachable};
use wharf::registry::Pushed;
use wharf::settings::Mirror;

fn serve() -> Server {
    Bound::new(None).serve(good)
}

fn mirror(location: &str) -> Mirror {
    Mirror {
        location: location.to_owned(),
        insecure: true,
        ..Mirror::default()
    }
}

#[test]
fn short_names_are_looked_for_in_order() {
    let mut machine = Machine::new();
    let candidates = |machine: &Machine, text: &str| -> Vec<String> {
        let found = machine.client().candidates(text).unwrap();
        found.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        candidates(&machine, "nginx"),
        ["docker.io/library/nginx:latest"]
    );
    assert_eq!(candidates(&machine, "quay.io/a/b:1"), ["quay.io/a/b:1"]);
    machine.write(
        "etc/containers/registries.conf",
        "unqualified-search-registries = [\"quay.io\", \"docker.io\"]\n",
    );
    assert_eq!(
        candidates(&machine, "a/b:2"),
        ["quay.io/a/b:2", "docker.io/a/b:2"]
    );
    machine.settings.search = Some(vec!["r.example:5000".to_owned()]);
    assert_eq!(
        candidates(&machine, "nginx"),
        ["r.example:5000/nginx:latest"]
    );
    assert_eq!(candidates(&machine, "localhost/x"), ["localhost/x:latest"]);
    machine.settings.search = Some(Vec::new());
    let err = machine.client().candidates("nginx").unwrap_err();
    assert!(
        err.to_string().contains("set 'search' in wharf.toml"),
        "{err}"
    );
    assert!(machine.client().candidates("UPPER").is_err());
}

#[test]
fn a_mirror_is_asked_first_and_passed_over_when_it_fails() {
    let (home, copy) = (serve(), serve());
    let mut machine = Machine::new();
    let settings = machine.insecure(&home.host());
    settings.mirrors = vec![mirror(&copy.host())];
    machine.log_in(&home.host());
    act(&machine.client(), &home.host(), Act::Manifest).unwrap();
    assert_eq!(
        (home.asked().len(), copy.count("GET", "/manifests/1")),
        (0, 1)
    );
    no_secret_at(&copy).unwrap();
    drop(copy);
    let client = machine.client();
    act(&client, &home.host(), Act::Manifest).unwrap();
    act(&client, &home.host(), Act::Blob).unwrap();
    // Both failures are told.
    let missing = format!("{}/team/app:2", home.host()).parse().unwrap();
    let err = client.manifest(&missing).unwrap_err();
    assert_eq!(err.kind(), NotFound);
    assert!(err.to_string().contains("; mirror '127.0.0.1:"), "{err}");
}

#[test]
fn r14_a_mirror_that_is_gone_is_not_asked_again() {
    let home = serve();
    let copy = Bound::new(None).serve(|seen| match seen.path.as_str() {
        "/v2/" => good(seen),
        _ => Reply::new(503, ""),
    });
    let mut machine = Machine::new();
    machine.insecure(&home.host()).mirrors = vec![mirror(&copy.host())];
    let client = machine.client();
    for what in [Act::Manifest, Act::Blob, Act::Manifest, Act::Blob] {
        act(&client, &home.host(), what).unwrap();
    }
    assert_eq!((copy.asked().len(), home.asked().len()), (1, 4));
}

#[test]
fn r12_a_blob_that_breaks_at_a_mirror_goes_on_at_the_registry() {
    let home = serve();
    let copy = Bound::new(None).serve(|seen| match seen.path.contains("/blobs/") {
        true => good(seen).cut(20_000),
        false => good(seen),
    });
    let mut machine = Machine::new();
    machine.insecure(&home.host()).mirrors = vec![mirror(&copy.host())];
    act(&machine.client(), &home.host(), Act::Blob).unwrap();
    assert_eq!(home.count("GET", &blob_digest().to_string()), 1);
    assert!(home.seen().last().unwrap().range().unwrap() >= 20_000);
}

#[test]
fn r12_a_mirror_that_fails_for_good_amid_a_blob_is_left_there() {
    type Second = fn(&registry::Seen) -> Reply;
    let seconds: [(&str, Second); 6] = [
        ("404", |_| Reply::new(404, "")),
        ("403", |_| Reply::new(403, "")),
        ("503", |_| Reply::new(503, "")),
        ("401", |_| {
            registry_case::challenge("https://auth.example.com/token")
        }),
        ("other bytes", |_| Reply::ok(vec![7; 300_000])),
        ("another length", |_| Reply::ok("short")),
    ];
    for (what, second) in seconds {
        let home = serve();
        // Two of them: the first gives 20,000 bytes, the second 30,000 more.
        let dying = |cut: usize| {
            Bound::new(None).serve(
                move |seen| match (seen.path.contains("/blobs/"), seen.nth) {
                    (true, 0) => good(seen).cut(cut),
                    (true, _) => second(seen),
                    (false, _) => good(seen),
                },
            )
        };
        let copies = [dying(20_000), dying(30_000)];
        let mut machine = Machine::new();
        machine.insecure(&home.host()).mirrors =
            copies.iter().map(|copy| mirror(&copy.host())).collect();
        act(&machine.client(), &home.host(), Act::Blob)
            .unwrap_or_else(|err| panic!("{what}: {err}"));
        let ranges: Vec<_> = home.asked().iter().map(registry::Seen::range).collect();
        assert_eq!(ranges, [Some(50_000)], "{what}: only the rest");
        assert_eq!(copies[1].asked()[0].range(), Some(20_000), "{what}");
    }
}

#[test]
fn r12_a_mirror_that_goes_away_amid_a_blob_and_everybody_with_it() {
    use std::io::Read as _;
    let home = Bound::new(None).serve(|seen| match seen.path.contains("/blobs/") {
        true => Reply::new(503, ""),
        false => good(seen),
    });
    let copy = Bound::new(None).serve(|seen| match seen.path.contains("/blobs/") {
        true if seen.nth == 0 => good(seen).cut(20_000),
        true => Reply::new(403, ""),
        false => good(seen),
    });
    let mut machine = Machine::new();
    machine.insecure(&home.host()).mirrors = vec![mirror(&copy.host())];
    let mut blob = machine
        .client()
        .blob(&reference(&home.host()), &blob_digest(), 300_000)
        .unwrap();
    let err = blob.read_to_end(&mut Vec::new()).unwrap_err().to_string();
    assert!(
        err.contains("broke off after 20000 of 300000 bytes"),
        "{err}"
    );
    assert!(
        err.contains(&format!("; mirror '{}': ", copy.host())),
        "{err}"
    );
    // A mirror has one try, of which nothing is said.
    assert!(!err.contains("(1 tries)"), "{err}");
}

#[test]
fn mirrors_for_digests_only() {
    let (home, copy) = (serve(), serve());
    let mut machine = Machine::new();
    let mut only = mirror(&copy.host());
    only.digest_only = true;
    machine.insecure(&home.host()).mirrors = vec![only];
    act(&machine.client(), &home.host(), Act::Manifest).unwrap();
    assert_eq!(copy.asked().len(), 0);
    act(&machine.client(), &home.host(), Act::ManifestByDigest).unwrap();
    assert_eq!(
        (home.count("GET", "/manifests/1"), home.asked().len()),
        (1, 1)
    );
    assert!(!copy.seen().is_empty());
}

#[test]
fn registries_conf_says_the_same() {
    let (home, copy) = (serve(), serve());
    let machine = Machine::new();
    let conf = format!(
        "short-name-mode = \"enforcing\"\n\
         [[registry]]\nprefix = \"moved.example/old\"\nlocation = \"{}/team\"\ninsecure = true\n\
         [[registry.mirror]]\nlocation = \"{}/team\"\ninsecure = true\npull-from-mirror = \"digest-only\"\n\
         [[registry]]\nprefix = \"*.blocked.example\"\nblocked = true\n\
         [[registry]]\nlocation = \"later.example\"\nblocked = true\n",
        home.host(),
        copy.host()
    );
    machine.write("etc/containers/registries.conf", &conf);
    machine.write(
        "etc/containers/registries.conf.d/10.conf",
        "[[registry]]\nlocation = \"later.example\"\n",
    );
    let fetched = machine
        .client()
        .manifest(&"moved.example/old/app:1".parse().unwrap())
        .unwrap();
    assert_eq!(fetched.bytes, manifest());
    assert_eq!(
        (
            home.count("GET", "/v2/team/app/manifests/1"),
            copy.asked().len()
        ),
        (1, 0)
    );
    let pinned = format!("moved.example/old/app@{}", Digest::of(&manifest()));
    machine.client().manifest(&pinned.parse().unwrap()).unwrap();
    assert!(copy.count("GET", "") > 0);
    let err = machine
        .client()
        .manifest(&"a.blocked.example:5000/x:1".parse().unwrap())
        .unwrap_err();
    assert_eq!(err.kind(), Refused);
    assert!(err.to_string().contains("it is blocked by '/"), "{err}");
    assert!(err.to_string().contains("registries.conf'"), "{err}");
    // wharf.toml comes first.
    let mut machine = machine;
    machine.settings.registries.push(wharf::settings::Registry {
        prefix: "moved.example".to_owned(),
        blocked: true,
        ..Default::default()
    });
    let err = machine
        .client()
        .manifest(&"moved.example/old/app:1".parse().unwrap())
        .unwrap_err();
    assert!(
        err.to_string()
            .contains("blocked by wharf.toml; remove 'blocked'"),
        "{err}"
    );
}

#[test]
fn configuration_that_cannot_be_used() {
    for (conf, says) in [
        ("[registries.search]\nregistries = [\"x\"]\n", "version 1"),
        (
            "[[registry]]\nblocked = true\n",
            "without prefix and location",
        ),
        (
            "[[registry]]\nlocation = \"a.b\"\n[[registry.mirror]]\nlocation = \"c.d\"\npull-from-mirror = \"x\"\n",
            "pull-from-mirror",
        ),
        (
            "[[registry]]\nprefix = \"a.example\"\nlocation = \"b.example/../x\"\n",
            "mend its 'location'",
        ),
        (
            "[[registry]]\nprefix = \"a.example\"\nlocation = \"user@b.example\"\n",
            "mend its 'location'",
        ),
        ("[[registry", "registries.conf:1:"),
    ] {
        let machine = Machine::new();
        machine.write("etc/containers/registries.conf", conf);
        let err = machine
            .client()
            .manifest(&"a.example/x:1".parse().unwrap())
            .unwrap_err();
        assert_eq!(err.kind(), Refused, "{conf}");
        assert!(err.to_string().contains(says), "{conf}: {err}");
    }
}

#[test]
fn credentials_of_a_path_are_for_the_path() {
    let home = Bound::new(None).serve(|seen| {
        let needs = if seen.path.starts_with("/v2/team/") {
            BASIC
        } else {
            "Basic Ym9iOng="
        };
        if seen.header("authorization") == Some(needs) {
            return Reply::ok("{}").header("Content-Type", MANIFEST_TYPE);
        }
        Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\"")
    });
    let host = home.host();
    let mut machine = Machine::new();
    machine.insecure(&host);
    let auth = BASIC.strip_prefix("Basic ").unwrap();
    machine.write(
        "run/containers/0/auth.json",
        &format!(r#"{{"auths": {{"{host}": {{"auth": "Ym9iOng="}}, "{host}/team": {{"auth": "{auth}"}}}}}}"#),
    );
    let client = machine.client();
    client.manifest(&reference(&host)).unwrap();
    client
        .manifest(&format!("{host}/other:1").parse().unwrap())
        .unwrap();
    machine.write("etc/wharf/auth.json", "{ not json, but s3cr3t-p4ss");
    let err = machine.client().manifest(&reference(&host)).unwrap_err();
    assert_eq!(err.kind(), Refused);
    assert!(
        err.to_string()
            .contains("etc/wharf/auth.json' is not a file of credentials"),
        "{err}"
    );
    assert!(!err.to_string().contains("s3cr3t"), "{err}");
}

fn push(machine: &Machine, host: &str) -> Result<Pushed, wharf::registry::Error> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("blob");
    #[expect(clippy::disallowed_methods, reason = "a file of a test")]
    std::fs::write(&file, registry_case::blob()).unwrap();
    let client = machine.client();
    let other = format!("{host}/other/app:1").parse().unwrap();
    client.note_blob(&other, &blob_digest());
    client.push_blob(&reference(host), &blob_digest(), &file)
}

#[test]
fn blobs_are_pushed_unless_they_are_there_or_can_be_mounted() {
    let mut machine = Machine::new();
    let home = serve();
    machine.insecure(&home.host());
    assert_eq!(push(&machine, &home.host()).unwrap(), Pushed::Present);
    let home = Bound::new(None).serve(|seen| match seen.method.as_str() {
        "HEAD" => Reply::new(404, ""),
        "POST" => Reply::new(201, ""),
        _ => good(seen),
    });
    machine.insecure(&home.host());
    assert_eq!(push(&machine, &home.host()).unwrap(), Pushed::Mounted);
    let query = format!("mount=sha256%3A{}&from=other%2Fapp", blob_digest().hex());
    assert_eq!(home.seen().last().unwrap().query, query);
    let home = Bound::new(None).serve(|seen| match (seen.method.as_str(), seen.nth) {
        ("HEAD", _) => Reply::new(404, ""),
        // The first upload fails, and is begun anew.
        ("PUT", 0) => Reply::new(502, ""),
        _ => good(seen),
    });
    machine.insecure(&home.host());
    assert_eq!(push(&machine, &home.host()).unwrap(), Pushed::Uploaded);
    assert_eq!(home.count("POST", "/blobs/uploads/"), 2);
    let seen = home.seen();
    let put = seen.last().unwrap();
    assert!(put.body == registry_case::blob(), "other bytes were sent");
    assert_eq!(
        put.query,
        format!("state=x&digest=sha256%3A{}", blob_digest().hex())
    );
    assert_eq!(put.header("content-length"), Some("300000"));
}

#[test]
fn r1_pushes_that_end_otherwise() {
    for (what, script, kind, says) in [
        (
            "location is missing",
            (|seen| match seen.method.as_str() {
                "HEAD" => Reply::new(404, ""),
                _ => Reply::new(202, ""),
            }) as fn(&registry::Seen) -> Reply,
            Refused,
            "which is empty",
        ),
        (
            "another digest",
            |seen| match seen.method.as_str() {
                "HEAD" => Reply::new(404, ""),
                "PUT" => Reply::new(201, "").header("Docker-Content-Digest", "sha256:00"),
                _ => good(seen),
            },
            Refused,
            "says that it has 'sha256:00'",
        ),
        (
            "refused by the registry",
            |seen| match seen.method.as_str() {
                "HEAD" => Reply::new(404, ""),
                "PUT" => Reply::new(
                    400,
                    r#"{"errors": [{"code": "DIGEST_INVALID", "message": "no"}]}"#,
                ),
                _ => good(seen),
            },
            Refused,
            "DIGEST_INVALID no",
        ),
        (
            "storage is full",
            |seen| match seen.method.as_str() {
                "HEAD" => Reply::new(404, ""),
                "PUT" => Reply::new(503, ""),
                _ => good(seen),
            },
            Unreachable,
            "(3 tries)",
        ),
        (
            "not permitted",
            |seen| match seen.method.as_str() {
                "HEAD" => Reply::new(404, ""),
                _ => Reply::new(403, ""),
            },
            wharf::registry::Kind::Denied,
            "wharf login",
        ),
    ] {
        let home = Bound::new(None).serve(script);
        let mut machine = Machine::new();
        machine.insecure(&home.host());
        let err = push(&machine, &home.host()).unwrap_err();
        assert_eq!(err.kind(), kind, "{what}: {err}");
        assert!(err.to_string().contains(says), "{what}: {err}");
    }
}

#[test]
fn a_manifest_is_pushed_as_it_is() {
    let home = serve();
    let mut machine = Machine::new();
    machine.insecure(&home.host());
    act(&machine.client(), &home.host(), Act::PushManifest).unwrap();
    let seen = home.seen();
    let put = seen.last().unwrap();
    assert_eq!(
        (put.path.as_str(), &put.body),
        ("/v2/team/app/manifests/1", &manifest())
    );
    assert_eq!(put.header("content-type"), Some(MANIFEST_TYPE));
}
