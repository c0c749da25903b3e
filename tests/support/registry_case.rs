// SPDX-License-Identifier: Apache-2.0
//! What the tests of the registry client share: a registry that behaves, a client with short
//! limits, and the runner of scripted misbehaviours.
//!
//! Every case is run with stored credentials, and after it no server but the registry and its own
//! token server may have seen a byte of them.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wharf::digest::Digest;
use wharf::paths::Paths;
use wharf::reference::Reference;
use wharf::registry::{Client, Error, Kind, Limits};
use wharf::settings::{Registry as RegistrySettings, Settings};

use crate::support::registry::{Bound, Reply, Seen, Server};

pub const REPOSITORY: &str = "team/app";
pub const USER: &str = "alice";
pub const PASSWORD: &str = "s3cr3t-p4ss";
/// base64 of "alice:s3cr3t-p4ss".
pub const BASIC: &str = "Basic YWxpY2U6czNjcjN0LXA0c3M=";
pub const TOKEN: &str = "t0ken-s3cr3t";
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Short enough that a case ends within seconds, long enough for a busy machine.
pub fn limits() -> Limits {
    let ms = Duration::from_millis;
    Limits {
        resolve: ms(5000),
        connect: ms(5000),
        respond: ms(3000),
        settle: ms(3000),
        idle: ms(1000),
        pace_window: ms(1000),
        pace_bytes: 1000,
        tries: 3,
        backoff: ms(4),
        backoff_max: ms(20),
        retry_after_max: ms(1500),
        helper: ms(5000),
    }
}

pub fn manifest() -> Vec<u8> {
    format!(
        r#"{{"schemaVersion": 2, "mediaType": "{MANIFEST_TYPE}", "config": {{}}, "layers": []}}"#
    )
    .into_bytes()
}

/// 300 KB that do not repeat.
pub fn blob() -> Vec<u8> {
    let mut state = 1_u32;
    let byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(byte).take(300_000).collect()
}

pub fn blob_digest() -> Digest {
    Digest::of(&blob())
}

/// The answers of a registry that behaves: one manifest `1`, one blob, uploads.
pub fn good(seen: &Seen) -> Reply {
    let rest = seen.path.strip_prefix("/v2/team/app/");
    let blob_path = format!("blobs/{}", blob_digest());
    let manifest_path = format!("manifests/{}", Digest::of(&manifest()));
    match (seen.method.as_str(), rest) {
        (_, None) if seen.path == "/v2/" => Reply::ok("{}"),
        ("PUT", Some(path)) if path.starts_with("manifests/") => Reply::new(201, ""),
        ("POST", Some("blobs/uploads/")) => {
            Reply::new(202, "").header("Location", "/v2/team/app/blobs/uploads/1?state=x")
        }
        ("PUT", Some("blobs/uploads/1")) => Reply::new(201, ""),
        (_, Some(path)) if path == "manifests/1" || path == manifest_path => {
            let digest = Digest::of(&manifest()).to_string();
            Reply::ok(manifest())
                .header("Content-Type", MANIFEST_TYPE)
                .header("Docker-Content-Digest", &digest)
        }
        (_, Some(path)) if path == blob_path => part_of_blob(seen),
        _ => Reply::new(
            404,
            r#"{"errors": [{"code": "NAME_UNKNOWN", "message": "not here"}]}"#,
        ),
    }
}

/// The blob, or the range asked for.
pub fn part_of_blob(seen: &Seen) -> Reply {
    let blob = blob();
    match seen.range() {
        None => Reply::ok(blob).header("ETag", "\"one\""),
        Some(first) => {
            let range = format!("bytes {first}-{}/{}", blob.len() - 1, blob.len());
            Reply::new(206, blob.get(first..).unwrap_or_default())
                .header("ETag", "\"one\"")
                .header("Content-Range", &range)
        }
    }
}

/// A good registry, that also wants credentials (`/denied`) and sends back (`/back?to=`).
fn foreign_answers(seen: &Seen) -> Reply {
    match (seen.path.as_str(), seen.query.strip_prefix("to=")) {
        ("/denied", _) => challenge("https://auth.example.com/token"),
        ("/back", Some(to)) => Reply::redirect(307, &format!("{to}/back")),
        _ => good(seen),
    }
}

/// A challenge for `realm`.
pub fn challenge(realm: &str) -> Reply {
    let field = format!("Bearer realm=\"{realm}\",service=\"rig\"");
    Reply::new(
        401,
        r#"{"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]}"#,
    )
    .header("WWW-Authenticate", &field)
}

/// A machine: configuration in a directory of its own.
pub struct Machine {
    dir: tempfile::TempDir,
    pub settings: Settings,
    pub limits: Limits,
}

impl Machine {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            settings: Settings::default(),
            limits: limits(),
        }
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn paths(&self) -> Paths {
        Paths::system(self.dir.path())
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a file of a test")]
        std::fs::write(path, text).unwrap();
    }

    /// The registry may be reached without TLS.
    pub fn insecure(&mut self, host: &str) -> &mut RegistrySettings {
        self.settings.registries.push(RegistrySettings {
            prefix: host.to_owned(),
            insecure: true,
            ..RegistrySettings::default()
        });
        self.settings.registries.last_mut().unwrap()
    }

    pub fn log_in(&self, host: &str) {
        let auth = BASIC.strip_prefix("Basic ").unwrap();
        let json = format!(r#"{{"auths": {{"{host}": {{"auth": "{auth}"}}}}}}"#);
        self.write("etc/wharf/auth.json", &json);
    }

    pub fn client(&self) -> Client {
        Client::with_limits(&self.paths(), &self.settings, self.limits)
    }
}

/// What is asked of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Manifest,
    ManifestByDigest,
    Digest,
    Blob,
    PushBlob,
    PushManifest,
}

pub fn reference(host: &str) -> Reference {
    format!("{host}/{REPOSITORY}:1").parse().unwrap()
}

/// Does it, and reads to the end.
pub fn act(client: &Client, host: &str, act: Act) -> Result<(), Error> {
    let reference = reference(host);
    match act {
        Act::Manifest => {
            let fetched = client.manifest(&reference)?;
            assert_eq!(fetched.bytes, manifest());
            assert_eq!(fetched.digest, Digest::of(&manifest()));
            Ok(())
        }
        Act::ManifestByDigest => {
            let pinned = format!("{host}/{REPOSITORY}@{}", Digest::of(&manifest()));
            let fetched = client.manifest(&pinned.parse().unwrap())?;
            assert_eq!(fetched.bytes, manifest());
            Ok(())
        }
        Act::Digest => client.digest(&reference).map(|digest| {
            assert_eq!(digest, Digest::of(&manifest()));
        }),
        Act::Blob => {
            let expected = blob();
            let size = expected.len() as u64;
            let mut reader = client.blob(&reference, &blob_digest(), size)?;
            let mut bytes = Vec::new();
            match reader.read_to_end(&mut bytes) {
                Ok(_) => assert!(bytes == expected, "the blob has other bytes"),
                Err(err) => {
                    let told = Error::of_read(&err).cloned();
                    return Err(told.unwrap_or_else(|| panic!("no error of ours: {err}")));
                }
            }
            Ok(())
        }
        Act::PushBlob => {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("blob");
            #[expect(clippy::disallowed_methods, reason = "a file of a test")]
            std::fs::write(&file, blob()).unwrap();
            client
                .push_blob(&reference, &blob_digest(), &file)
                .map(drop)
        }
        Act::PushManifest => client.push_manifest(&reference, MANIFEST_TYPE, &manifest()),
    }
}

/// How a case must end.
#[derive(Debug, Clone, Copy)]
pub enum End {
    Works,
    /// This kind of error, whose text holds this.
    Fails(Kind, &'static str),
}

/// The registry, and a server that has no business with its credentials.
pub struct World {
    pub home: String,
    pub foreign: String,
}

/// What the registry says, other than a good one.
pub type Script = fn(&World, &Seen) -> Option<Reply>;

/// One misbehaviour.
pub struct Case {
    /// The id of the row in docs/threats.md, and what happens.
    pub name: &'static str,
    pub act: Act,
    pub script: Script,
    pub end: End,
}

pub fn case(name: &'static str, act: Act, end: End, script: Script) -> Case {
    Case {
        name,
        act,
        script,
        end,
    }
}

pub fn is_blob(seen: &Seen) -> bool {
    seen.path.contains("/blobs/sha256:") && seen.method == "GET"
}

/// A registry that wants a bearer token from `realm`.
pub fn wants_token(seen: &Seen, realm: &str) -> Option<Reply> {
    let has = seen.header("authorization") == Some(&format!("Bearer {TOKEN}"));
    (!has && seen.path.starts_with("/v2/")).then(|| challenge(realm))
}

/// The same, with a token server on the registry itself.
pub fn with_token(world: &World, seen: &Seen) -> Option<Reply> {
    if seen.path == "/token" {
        let is_known = seen.header("authorization") == Some(BASIC);
        let status = if is_known { 200 } else { 401 };
        return Some(Reply::new(status, format!(r#"{{"token": "{TOKEN}"}}"#)));
    }
    wants_token(seen, &format!("{}/token", world.home))
}

pub fn wants_basic(seen: &Seen) -> Option<Reply> {
    (seen.header("authorization") != Some(BASIC))
        .then(|| Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"rig\""))
}

/// Longest a case may take, on a machine that does other things too.
const CASE_MAX: Duration = Duration::from_secs(30);

/// Runs a case; what is wrong with it is its text.
pub fn run(case: &Case) -> Result<(), String> {
    let (home, foreign) = (Bound::new(None), Bound::new(None));
    let world = Arc::new(World {
        home: home.url(),
        foreign: foreign.url(),
    });
    let script = case.script;
    let at_home = Arc::clone(&world);
    let home = home.serve(move |seen| script(&at_home, seen).unwrap_or_else(|| good(seen)));
    let foreign = foreign.serve(foreign_answers);
    let mut machine = Machine::new();
    machine.insecure(&home.host());
    machine.log_in(&home.host());
    let start = Instant::now();
    let result = act(&machine.client(), &home.host(), case.act);
    let took = start.elapsed();
    judge(case, result, &home.host())?;
    no_secret_at(&foreign)?;
    if took > CASE_MAX {
        return Err(format!("took {took:?}"));
    }
    Ok(())
}

pub fn judge(case: &Case, result: Result<(), Error>, host: &str) -> Result<(), String> {
    match (case.end, result) {
        (End::Works, Ok(())) => Ok(()),
        (End::Works, Err(err)) => Err(format!("failed: {err}")),
        (End::Fails(..), Ok(())) => Err("worked".to_owned()),
        (End::Fails(kind, words), Err(err)) => {
            let text = err.to_string();
            let start = format!("registry '{host}', repository '{REPOSITORY}': ");
            if !text.starts_with(&start) {
                return Err(format!("names no registry and repository: {text}"));
            }
            if err.kind() != kind || !text.contains(words) {
                return Err(format!("{:?}: {text}", err.kind()));
            }
            // A fact, and what to do or what was done about it.
            if !text.contains(';') {
                return Err(format!("says not what to do: {text}"));
            }
            if text.len() > 1200 || text.chars().any(char::is_control) {
                return Err(format!("not one short line: {text:?}"));
            }
            Ok(())
        }
    }
}

/// No byte of a credential may have reached this server.
pub fn no_secret_at(server: &Server) -> Result<(), String> {
    for seen in server.seen().iter() {
        let text = seen.text();
        let basic = BASIC.strip_prefix("Basic ").unwrap_or_default();
        for secret in [PASSWORD, basic, TOKEN, "authorization"] {
            if text.contains(secret) {
                return Err(format!("a foreign host saw '{secret}': {text}"));
            }
        }
    }
    Ok(())
}

/// Runs all, several at a time, and tells every one that is wrong.
pub fn run_all(cases: &[Case]) {
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = cases
            .iter()
            .map(|case| (case.name, scope.spawn(move || run(case))))
            .collect();
        let outcome = |(name, thread): (&str, std::thread::ScopedJoinHandle<'_, _>)| {
            let result = thread.join().unwrap_or_else(|_| Err("panicked".to_owned()));
            result.err().map(|why| format!("{name}: {why}"))
        };
        threads.into_iter().filter_map(outcome).collect()
    });
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
