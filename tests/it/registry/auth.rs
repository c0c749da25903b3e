// SPDX-License-Identifier: Apache-2.0
//! The registry client against servers that are after credentials
//! (threats R10): what is asserted is what other hosts have recorded.

use crate::support::registry;
use crate::support::registry::{Bound, Reply, Seen};
use crate::support::registry_case;
use crate::support::registry_case::{
    Act, BASIC, End, Machine, PASSWORD, TOKEN, USER, World, act, case, challenge, good,
    no_secret_at, reference, run_all, wants_basic, wants_token, with_token,
};
use wharf::registry::Kind::{Denied, Refused, Unreachable};
use wharf::registry::credentials::Credentials;

#[test]
fn those_who_may_see_credentials() {
    run_all(&[
        case("basic", Act::Manifest, End::Works, |_, seen| {
            wants_basic(seen)
        }),
        case("basic blob", Act::Blob, End::Works, |_, seen| {
            wants_basic(seen)
        }),
        case("token", Act::Manifest, End::Works, with_token),
        case("token blob", Act::Blob, End::Works, with_token),
        case(
            "token and basic",
            Act::Manifest,
            End::Works,
            |world, seen| {
                with_token(world, seen)
                    .map(|reply| reply.header("WWW-Authenticate", "Basic realm=x"))
            },
        ),
        case(
            "basic after what is not known",
            Act::Manifest,
            End::Works,
            |_, seen| {
                (seen.header("authorization") != Some(BASIC)).then(|| {
                    Reply::new(401, "")
                        .header("WWW-Authenticate", "Negotiate abc=, Basic realm=\"x\"")
                })
            },
        ),
    ]);
}

#[test]
fn r10_token_servers_elsewhere() {
    let refused = |words| End::Fails(Refused, words);
    run_all(&[
        case(
            "r10_realm_on_another_port",
            Act::Manifest,
            refused("token_realm = \"127.0.0.1\""),
            |world, seen| {
                // Encrypted or not does not matter for a port of this machine.
                wants_token(
                    seen,
                    &format!("{}/token", world.foreign.replace("http:", "https:")),
                )
            },
        ),
        case(
            "r10_realm_without_tls",
            Act::Manifest,
            refused("not encrypted"),
            |_, seen| wants_token(seen, "http://auth.example.com/token"),
        ),
        case(
            "r10_realm_of_another_host",
            Act::Manifest,
            refused("token_realm = \"auth.example.com\""),
            |_, seen| wants_token(seen, "https://auth.example.com/token"),
        ),
        case(
            "r10_realm_with_a_user",
            Act::Manifest,
            refused("carries a user name"),
            |_, seen| wants_token(seen, "https://alice@auth.example.com/token"),
        ),
        case(
            "r10_realm_is_a_file",
            Act::Manifest,
            refused("which is not"),
            |_, seen| wants_token(seen, "file:///etc/shadow"),
        ),
        case(
            "r10_realm_is_missing",
            Act::Manifest,
            refused("is not a URL"),
            |_, seen| {
                let has = seen.header("authorization").is_some();
                (!has)
                    .then(|| Reply::new(401, "").header("WWW-Authenticate", "Bearer service=\"x\""))
            },
        ),
        case(
            "r10_realm_is_a_metadata_service",
            Act::Manifest,
            refused("neighbourhood"),
            |_, seen| wants_token(seen, "https://169.254.169.254/latest/meta-data/"),
        ),
        case(
            "r10_token_server_redirects_elsewhere",
            Act::Manifest,
            refused("not what the protocol has"),
            |world, seen| {
                if seen.path == "/token" {
                    return Some(Reply::redirect(
                        307,
                        &format!(
                            "{}/v2/team/app/blobs/{}",
                            world.foreign,
                            registry_case::blob_digest()
                        ),
                    ));
                }
                with_token(world, seen)
            },
        ),
    ]);
}

#[test]
fn r10_challenges_that_are_none() {
    let fails = |kind, words| End::Fails(kind, words);
    run_all(&[
        case(
            "r10_no_challenge",
            Act::Manifest,
            fails(Denied, "it does not say how"),
            |_, _| Some(Reply::new(401, "")),
        ),
        case(
            "r10_unknown_scheme",
            Act::Manifest,
            fails(Denied, "(digest)"),
            |_, _| {
                Some(Reply::new(401, "").header("WWW-Authenticate", "Digest realm=\"x\", qop=auth"))
            },
        ),
        case(
            "r10_unclosed_quote",
            Act::Manifest,
            fails(Refused, "cannot be understood"),
            |world, _| {
                Some(Reply::new(401, "").header(
                    "WWW-Authenticate",
                    &format!("Bearer realm=\"{}/token", world.home),
                ))
            },
        ),
        case(
            "r10_realm_twice",
            Act::Manifest,
            fails(Refused, "cannot be understood"),
            |world, _| {
                let field = format!(
                    "Bearer realm=\"{}/token\", realm=\"{}/token\"",
                    world.home, world.foreign
                );
                Some(Reply::new(401, "").header("WWW-Authenticate", &field))
            },
        ),
        case(
            "r10_9_KiB_challenge",
            Act::Manifest,
            fails(Refused, "cannot be understood"),
            |_, _| {
                Some(Reply::new(401, "").header(
                    "WWW-Authenticate",
                    &format!("Basic realm=\"{}\"", "x".repeat(9000)),
                ))
            },
        ),
        case(
            "r10_challenge_is_not_text",
            Act::Manifest,
            fails(Refused, "cannot be understood"),
            |_, _| {
                Some(Reply::raw(b"HTTP/1.1 401 x\r\nWWW-Authenticate: Basic realm=\"\xff\"\r\nContent-Length: 0\r\n\r\n".to_vec()))
            },
        ),
        case(
            "r14_401_for_ever_basic",
            Act::Manifest,
            fails(Denied, "wharf login 127.0.0.1"),
            |_, _| Some(Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"rig\"")),
        ),
        case(
            "r14_401_for_ever_token",
            Act::Manifest,
            fails(Denied, "wharf login 127.0.0.1"),
            |world, seen| {
                if seen.path == "/token" {
                    return with_token(world, seen);
                }
                Some(challenge(&format!("{}/token", world.home)))
            },
        ),
    ]);
}

/// What the token server says, when the registry asks for one.
fn token_says(world: &World, seen: &Seen, reply: Reply) -> Option<Reply> {
    if seen.path == "/token" {
        return Some(reply);
    }
    with_token(world, seen)
}

#[test]
fn r4_r10_tokens_that_are_none() {
    let fails = |kind, words| End::Fails(kind, words);
    run_all(&[
        case(
            "r10_token_with_a_line_feed",
            Act::Manifest,
            fails(Refused, "cannot be sent"),
            |world, seen| token_says(world, seen, Reply::ok(r#"{"token": "a\r\nX-Evil: b"}"#)),
        ),
        case(
            "r4_long_token",
            Act::Manifest,
            fails(Refused, "cannot be sent"),
            |world, seen| {
                token_says(
                    world,
                    seen,
                    Reply::ok(format!(r#"{{"token": "{}"}}"#, "a".repeat(100_000))),
                )
            },
        ),
        case(
            "r4_endless_token",
            Act::Manifest,
            fails(Refused, "more than 1048576 bytes"),
            |world, seen| {
                token_says(
                    world,
                    seen,
                    Reply::ok(vec![b'a'; 1 << 16]).transfer(registry::Transfer::Endless),
                )
            },
        ),
        case(
            "r4_token_of_1_GiB_is_declared",
            Act::Manifest,
            fails(Refused, "more than 1048576 bytes"),
            |world, seen| token_says(world, seen, Reply::ok("{").length("1073741824")),
        ),
        case(
            "r10_answer_without_a_token",
            Act::Manifest,
            fails(Refused, "without a token"),
            |world, seen| token_says(world, seen, Reply::ok("{}")),
        ),
        case(
            "r10_answer_is_a_page",
            Act::Manifest,
            fails(Refused, "not what the protocol has"),
            |world, seen| token_says(world, seen, Reply::ok("<html>")),
        ),
        case(
            "r10_token_server_knows_us_not",
            Act::Manifest,
            fails(Denied, "does not take the stored credentials"),
            |world, seen| token_says(world, seen, Reply::new(401, "")),
        ),
        case(
            "r10_token_server_is_gone",
            Act::Manifest,
            fails(Denied, "status 403"),
            |world, seen| token_says(world, seen, Reply::new(403, "")),
        ),
        case(
            "r14_token_server_in_trouble",
            Act::Manifest,
            fails(Unreachable, "(3 tries)"),
            |world, seen| token_says(world, seen, Reply::new(503, "")),
        ),
    ]);
}

#[test]
fn r10_identity_tokens_are_for_their_server() {
    let (home, foreign) = (Bound::new(None), Bound::new(None));
    let mut machine = Machine::new();
    machine.insecure(&home.host());
    let entry = format!(
        r#"{{"auths": {{"{}": {{"identitytoken": "{PASSWORD}"}}}}}}"#,
        home.host()
    );
    machine.write("etc/wharf/auth.json", &entry);
    let (host, foreign_url) = (home.host(), foreign.url());
    let foreign = foreign.serve(good);
    let realm = format!("{}/token", home.url());
    let home = home.serve(move |seen| {
        if seen.path == "/token" {
            assert_eq!(seen.method, "POST");
            let body = String::from_utf8_lossy(&seen.body);
            assert!(body.contains("grant_type=refresh_token"), "{body}");
            assert!(
                body.contains(&format!("refresh_token={PASSWORD}")),
                "{body}"
            );
            return Reply::ok(format!(r#"{{"access_token": "{TOKEN}"}}"#));
        }
        if seen.path.contains("/other/") {
            return challenge(&format!("{foreign_url}/token"));
        }
        wants_token(seen, &realm).unwrap_or_else(|| good(seen))
    });
    act(&machine.client(), &host, Act::Manifest).unwrap();
    assert_eq!(home.count("POST", "/token"), 1);
    let other = format!("{host}/other/app:1").parse().unwrap();
    let err = machine.client().manifest(&other).unwrap_err();
    assert_eq!(err.kind(), Refused, "{err}");
    no_secret_at(&foreign).unwrap();
}

#[test]
fn a_configured_realm_is_trusted_and_a_token_is_used_again() {
    let (home, realm) = (Bound::new(None), Bound::new(None));
    let mut machine = Machine::new();
    machine.insecure(&home.host()).token_realm = Some(realm.host());
    machine.log_in(&home.host());
    let url = format!("{}/token", realm.url());
    let realm = realm.serve(|seen| {
        assert_eq!(
            seen.query,
            "service=rig&scope=repository%3Ateam%2Fapp%3Apull"
        );
        Reply::ok(format!(r#"{{"token": "{TOKEN}", "expires_in": 300}}"#))
    });
    let host = home.host();
    let home = home.serve(move |seen| wants_token(seen, &url).unwrap_or_else(|| good(seen)));
    let client = machine.client();
    for what in [Act::Manifest, Act::Blob, Act::Manifest] {
        act(&client, &host, what).unwrap();
    }
    assert_eq!(realm.seen().len(), 1);
    assert_eq!(realm.seen()[0].header("authorization"), Some(BASIC));
    // Only the first request is answered with a challenge.
    assert_eq!(home.asked().len(), 4);
}

#[test]
fn r14_a_token_that_ran_out_is_renewed_once() {
    let home = Bound::new(None);
    let mut machine = Machine::new();
    machine.insecure(&home.host());
    let (host, realm) = (home.host(), format!("{}/token", home.url()));
    let home = home.serve(move |seen| {
        if seen.path == "/token" {
            return Reply::ok(format!(
                r#"{{"token": "t{}", "expires_in": 300}}"#,
                seen.nth
            ));
        }
        // The first token is good for one request.
        let good_token = if seen.nth < 2 {
            "Bearer t0"
        } else {
            "Bearer t1"
        };
        if seen.header("authorization") == Some(good_token) {
            good(seen)
        } else {
            challenge(&realm)
        }
    });
    let client = machine.client();
    act(&client, &host, Act::Manifest).unwrap();
    act(&client, &host, Act::Manifest).unwrap();
    assert_eq!(home.count("GET", "/token"), 2);
}

#[test]
fn login_is_verified_and_basic_is_not_sent_unasked() {
    let home = Bound::new(None);
    let mut machine = Machine::new();
    machine.insecure(&home.host());
    let host = home.host();
    let home = home.serve(|seen| wants_basic(seen).unwrap_or_else(|| good(seen)));
    let with = |password: &str| Credentials::Password {
        user: USER.to_owned(),
        password: password.to_owned(),
    };
    let client = machine.client();
    client.verify(&host, &with(PASSWORD)).unwrap();
    assert_eq!(
        client.verify(&host, &with("wrong")).unwrap_err().kind(),
        Denied
    );
    // Each log-in asked without, once to find out about TLS, once to be told what it wants.
    let asked = home
        .seen()
        .iter()
        .filter(|seen| seen.header("authorization").is_none())
        .count();
    assert_eq!(asked, 4);
    let err = client.manifest(&reference(&host)).unwrap_err();
    assert_eq!(err.kind(), Denied);
    assert!(
        err.to_string()
            .contains(&format!("run 'wharf login {host}'")),
        "{err}"
    );
}
