// SPDX-License-Identifier: Apache-2.0
//! The registry client against servers that lead elsewhere (threats R10, R11): credentials
//! stay behind, and there are places where it does not go.

#![expect(clippy::too_many_lines, reason = "a test is a table of cases")]

use crate::support::registry::Reply;
use crate::support::registry_case;
use crate::support::registry_case::{
    Act, End, case, good, is_blob, run_all, wants_basic, with_token,
};
use wharf::registry::Kind::{Denied, Refused};

#[test]
fn r10_redirects_do_not_carry_credentials() {
    let refused = |words| End::Fails(Refused, words);
    run_all(&[
        case(
            "r10_blob_from_another_port",
            Act::Blob,
            End::Works,
            |world, seen| {
                if is_blob(seen) && seen.header("authorization").is_some() {
                    return Some(Reply::redirect(
                        307,
                        &format!("{}{}", world.foreign, seen.path),
                    ));
                }
                wants_basic(seen)
            },
        ),
        case(
            "r10_blob_from_another_port_with_token",
            Act::Blob,
            End::Works,
            |world, seen| {
                with_token(world, seen).or_else(|| {
                    is_blob(seen)
                        .then(|| Reply::redirect(307, &format!("{}{}", world.foreign, seen.path)))
                })
            },
        ),
        case(
            "r10_manifest_from_another_port",
            Act::Manifest,
            End::Works,
            |world, seen| {
                wants_basic(seen).or_else(|| {
                    Some(Reply::redirect(
                        302,
                        &format!("{}{}", world.foreign, seen.path),
                    ))
                })
            },
        ),
        case(
            "r10_the_other_port_wants_credentials",
            Act::Blob,
            End::Fails(Denied, "not given to another host"),
            |world, seen| {
                // The foreign server is a good registry: it has no '/401', so the script of this one
                // sends there what it would challenge itself.
                is_blob(seen).then(|| Reply::redirect(307, &format!("{}/denied", world.foreign)))
            },
        ),
        case(
            "r10_location_with_a_user",
            Act::Blob,
            refused("carries a user name"),
            |world, seen| {
                let host = world.foreign.trim_start_matches("http://").to_owned();
                is_blob(seen).then(|| Reply::redirect(307, &format!("http://alice:x@{host}/")))
            },
        ),
        case(
            "r10_there_and_back",
            Act::Blob,
            End::Fails(Denied, "status 403"),
            |world, seen| {
                // What comes back must not have credentials any more, so the registry refuses it.
                if seen.path == "/back" {
                    let has = seen.header("authorization").is_some();
                    return Some(Reply::new(if has { 200 } else { 403 }, ""));
                }
                if seen.header("authorization").is_none() {
                    return wants_basic(seen);
                }
                is_blob(seen).then(|| {
                    Reply::redirect(307, &format!("{}/back?to={}", world.foreign, world.home))
                })
            },
        ),
        case(
            "r10_push_is_redirected",
            Act::PushManifest,
            refused("redirects an upload"),
            |world, seen| {
                wants_basic(seen).or_else(|| {
                    (seen.method == "PUT")
                        .then(|| Reply::redirect(307, &format!("{}{}", world.foreign, seen.path)))
                })
            },
        ),
        case(
            "r10_upload_elsewhere",
            Act::PushBlob,
            refused("wants the upload at"),
            |world, seen| {
                if seen.method == "HEAD" && seen.header("authorization").is_some() {
                    return Some(Reply::new(404, ""));
                }
                wants_basic(seen).or_else(|| {
                    (seen.method == "POST").then(|| {
                        Reply::new(202, "").header("Location", &format!("{}/upload", world.foreign))
                    })
                })
            },
        ),
    ]);
}

#[test]
fn r11_redirects_that_are_not_followed() {
    let refused = |words| End::Fails(Refused, words);
    run_all(&[
        case(
            "r11_metadata_service",
            Act::Blob,
            refused("neighbourhood"),
            |_, seen| {
                is_blob(seen)
                    .then(|| Reply::redirect(307, "http://169.254.169.254/latest/meta-data/"))
            },
        ),
        case(
            "r11_metadata_service_as_ipv6",
            Act::Blob,
            refused("neighbourhood"),
            |_, seen| {
                is_blob(seen).then(|| Reply::redirect(307, "http://[::ffff:a9fe:a9fe]/latest/"))
            },
        ),
        case(
            "r11_link_local_ipv6",
            Act::Blob,
            refused("neighbourhood"),
            |_, seen| is_blob(seen).then(|| Reply::redirect(302, "https://[fe80::1]/")),
        ),
        case(
            "r11_this_host_as_0",
            Act::Blob,
            refused("neighbourhood"),
            |_, seen| is_blob(seen).then(|| Reply::redirect(302, "http://0.0.0.0/")),
        ),
        case(
            "r11_ftp",
            Act::Blob,
            refused("not an http or https URL"),
            |_, seen| is_blob(seen).then(|| Reply::redirect(302, "ftp://example.com/x")),
        ),
        case("r11_file", Act::Blob, refused("which is not"), |_, seen| {
            is_blob(seen).then(|| Reply::redirect(302, "file:///etc/shadow"))
        }),
        case(
            "r11_no_location",
            Act::Blob,
            refused("which is empty"),
            |_, seen| is_blob(seen).then(|| Reply::new(307, "")),
        ),
        case(
            "r11_two_locations",
            Act::Blob,
            refused("two fields"),
            |world, seen| {
                is_blob(seen).then(|| Reply::redirect(307, "/a").header("Location", &world.foreign))
            },
        ),
        case(
            "r14_redirects_for_ever",
            Act::Blob,
            refused("more than 10 times"),
            |_, seen| {
                let next = seen.nth + 1;
                (is_blob(seen) || seen.path == "/loop")
                    .then(|| Reply::redirect(307, &format!("/loop?{next}")))
            },
        ),
        case(
            "r14_10_redirects_are_followed",
            Act::Blob,
            End::Works,
            |_, seen| {
                if seen.path == "/loop" {
                    let mut at = seen.clone();
                    at.path = format!("/v2/team/app/blobs/{}", registry_case::blob_digest());
                    return Some(if seen.nth < 9 {
                        Reply::redirect(307, "/loop")
                    } else {
                        good(&at)
                    });
                }
                is_blob(seen).then(|| Reply::redirect(307, "/loop"))
            },
        ),
    ]);
}
