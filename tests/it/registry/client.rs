// SPDX-License-Identifier: Apache-2.0
//! The registry client against scripted servers: manifests that are not what they should be, and
//! bodies without end (threats R1 to R6).

#![expect(clippy::too_many_lines, reason = "a test is a table of cases")]

use crate::support::registry::{Bound, Reply, Seen, Transfer};
use crate::support::registry_case;
use crate::support::registry_case::{
    Act, End, Machine, act, case, good, manifest, reference, run_all,
};
use wharf::digest::Digest;
use wharf::registry::Kind::{Denied, NotFound, Refused, Unreachable};

const DIGEST: &str = "Docker-Content-Digest";

/// The good manifest with something else about it, when a manifest is asked for.
fn altered(seen: &Seen, alter: impl Fn(Reply) -> Reply) -> Option<Reply> {
    let is_manifest = seen.method == "GET" && seen.path.contains("/manifests/");
    is_manifest.then(|| alter(good(seen)))
}

fn says_digest(seen: &Seen, digest: &str) -> Option<Reply> {
    altered(seen, |reply| reply.instead(DIGEST, Some(digest)))
}

fn sends(seen: &Seen, body: &str) -> Option<Reply> {
    altered(seen, |_| {
        Reply::ok(body).header("Content-Type", registry_case::MANIFEST_TYPE)
    })
}

#[test]
fn a_good_registry_gives_what_it_has() {
    run_all(&[
        case("manifest", Act::Manifest, End::Works, |_, _| None),
        case("by digest", Act::ManifestByDigest, End::Works, |_, _| None),
        case("digest", Act::Digest, End::Works, |_, _| None),
        case("blob", Act::Blob, End::Works, |_, _| None),
        case(
            "push blob",
            Act::PushBlob,
            End::Fails(NotFound, "no"),
            |_, seen| {
                // Everything is there but the blob that is pushed, until it is.
                (seen.method == "PUT")
                    .then(|| Reply::new(404, ""))
                    .or_else(|| (seen.method == "HEAD").then(|| Reply::new(404, "")))
            },
        ),
        case("chunked", Act::Manifest, End::Works, |_, seen| {
            altered(seen, |reply| reply.transfer(Transfer::Chunked))
        }),
        case("until the end", Act::Manifest, End::Works, |_, seen| {
            altered(seen, |reply| reply.transfer(Transfer::Close))
        }),
        case("no digest field", Act::Manifest, End::Works, |_, seen| {
            altered(seen, |reply| reply.instead(DIGEST, None))
        }),
        case(
            "HEAD is not supported",
            Act::Digest,
            End::Works,
            |_, seen| (seen.method == "HEAD").then(|| Reply::new(405, "")),
        ),
        case(
            "HEAD without a digest",
            Act::Digest,
            End::Works,
            |_, seen| (seen.method == "HEAD").then(|| good(seen).instead(DIGEST, None)),
        ),
    ]);
}

#[test]
fn r1_r2_digests_that_lie() {
    let refused = |words| End::Fails(Refused, words);
    run_all(&[
        case(
            "r1_lying_digest_field",
            Act::Manifest,
            refused("was to be sent"),
            |_, seen| says_digest(seen, &Digest::of(b"x").to_string()),
        ),
        case(
            "r1_other_manifest_for_a_digest",
            Act::ManifestByDigest,
            refused("was to be sent"),
            |_, seen| sends(seen, r#"{"schemaVersion": 2}"#),
        ),
        case(
            "r1_other_manifest_under_its_own_digest",
            Act::ManifestByDigest,
            refused("was to be sent"),
            |_, seen| {
                let other = r#"{"schemaVersion": 2}"#;
                let digest = Digest::of(other.as_bytes()).to_string();
                sends(seen, other).map(|reply| reply.header(DIGEST, &digest))
            },
        ),
        case(
            "r1_one_space_more",
            Act::ManifestByDigest,
            refused("was to be sent"),
            |_, seen| {
                let text = String::from_utf8(manifest()).unwrap();
                sends(seen, &format!("{text} "))
            },
        ),
        case(
            "r1_right_manifest_lying_field",
            Act::ManifestByDigest,
            refused("was to be sent"),
            |_, seen| says_digest(seen, &Digest::of(b"x").to_string()),
        ),
        case(
            "r2_path_as_digest",
            Act::Manifest,
            refused("which is none"),
            |_, seen| says_digest(seen, "sha256:../../../../etc/passwd"),
        ),
        case(
            "r2_upper_case",
            Act::Manifest,
            refused("which is none"),
            |_, seen| says_digest(seen, &Digest::of(&manifest()).to_string().to_uppercase()),
        ),
        case(
            "r2_63_digits",
            Act::Manifest,
            refused("which is none"),
            |_, seen| says_digest(seen, &Digest::of(&manifest()).to_string()[..70]),
        ),
        case(
            "r2_md5",
            Act::Manifest,
            refused("which is none"),
            |_, seen| says_digest(seen, "md5:d41d8cd98f00b204e9800998ecf8427e"),
        ),
        case(
            "r2_two_digests",
            Act::Manifest,
            refused("two fields"),
            |_, seen| {
                altered(seen, |reply| {
                    reply.header(DIGEST, &Digest::of(b"x").to_string())
                })
            },
        ),
        case(
            "r2_bytes_as_digest",
            Act::Manifest,
            refused("not text"),
            |_, seen| {
                altered(seen, |_| {
                    Reply::raw(b"HTTP/1.1 200 OK\r\nDocker-Content-Digest: \xff\xfe\r\nContent-Length: 2\r\n\r\n{}".to_vec())
                })
            },
        ),
        case(
            "r2_head_digest_is_none",
            Act::Digest,
            refused("which is none"),
            |_, seen| {
                (seen.method == "HEAD").then(|| good(seen).instead(DIGEST, Some("sha256:zz")))
            },
        ),
    ]);
}

#[test]
fn r3_r4_bodies_without_end() {
    let refused = |words| End::Fails(Refused, words);
    let before = peak_memory();
    run_all(&[
        case(
            "r3_endless_manifest",
            Act::Manifest,
            refused("more than 4194304 bytes"),
            |_, seen| {
                sends(seen, &" ".repeat(1 << 16)).map(|reply| reply.transfer(Transfer::Endless))
            },
        ),
        case(
            "r4_5_MiB_manifest",
            Act::Manifest,
            refused("more than 4194304 bytes"),
            |_, seen| sends(seen, &" ".repeat(5 << 20)),
        ),
        case(
            "r4_5_MiB_manifest_in_chunks",
            Act::Manifest,
            refused("more than 4194304 bytes"),
            |_, seen| {
                sends(seen, &" ".repeat(5 << 20)).map(|reply| reply.transfer(Transfer::Chunked))
            },
        ),
        case(
            "r4_manifest_of_1_EiB_is_declared",
            Act::Manifest,
            refused("more than 4194304 bytes"),
            |_, seen| altered(seen, |reply| reply.length("1152921504606846976")),
        ),
        case(
            "r3_negative_length",
            Act::Manifest,
            refused("does not answer as a registry"),
            |_, seen| altered(seen, |reply| reply.length("-1")),
        ),
        case(
            "r3_length_of_2_64",
            Act::Manifest,
            refused("does not answer as a registry"),
            |_, seen| altered(seen, |reply| reply.length("18446744073709551616")),
        ),
        case(
            "r4_endless_error_page",
            Act::Manifest,
            End::Fails(NotFound, "no manifest '1'"),
            |_, seen| {
                altered(seen, |_| {
                    Reply::new(404, vec![b'x'; 1 << 16]).transfer(Transfer::Endless)
                })
            },
        ),
        case(
            "r4_endless_error_page_of_a_broken_server",
            Act::Manifest,
            End::Fails(Unreachable, "status 503"),
            |_, seen| {
                altered(seen, |_| {
                    Reply::new(503, vec![b'x'; 1 << 16]).transfer(Transfer::Endless)
                })
            },
        ),
        case(
            "r4_endless_page_for_403",
            Act::Manifest,
            End::Fails(Denied, "status 403"),
            |_, seen| {
                altered(seen, |_| {
                    Reply::new(403, vec![b'x'; 1 << 16]).transfer(Transfer::Endless)
                })
            },
        ),
        case(
            "r4_error_text_with_escape_sequences",
            Act::Manifest,
            End::Fails(Denied, "\\u{1b}[2J"),
            |_, seen| {
                altered(seen, |_| {
                    Reply::new(
                        403,
                        r#"{"errors": [{"code": "A", "message": "\u001b[2J\r\nfake: ok\u202e"}]}"#,
                    )
                })
            },
        ),
        case(
            "r4_long_error_text",
            Act::Manifest,
            End::Fails(Denied, "…"),
            |_, seen| {
                let text = format!(
                    r#"{{"errors": [{{"code": "A", "message": "{}"}}]}}"#,
                    "long ".repeat(5000)
                );
                altered(seen, |_| Reply::new(403, text.clone()))
            },
        ),
        case(
            "r4_1_MiB_of_header",
            Act::Manifest,
            refused("does not answer as a registry"),
            |_, seen| altered(seen, |reply| reply.header("X-Long", &"x".repeat(1 << 20))),
        ),
        case(
            "r4_10000_fields",
            Act::Manifest,
            refused("does not answer as a registry"),
            |_, seen| {
                altered(seen, |reply| {
                    (0..10_000).fold(reply, |reply, n| reply.header("X-Many", &n.to_string()))
                })
            },
        ),
    ]);
    let grown = peak_memory().saturating_sub(before);
    assert!(
        grown < 160 << 10,
        "R4: the peak grew by {grown} KiB with servers that sent up to it"
    );
}

/// VmHWM of this process, servers included, in KiB.
fn peak_memory() -> u64 {
    let status = std::fs::read("/proc/self/status").unwrap();
    let status = String::from_utf8(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

#[test]
fn r5_r6_documents_that_are_two_things() {
    let refused = |words| End::Fails(Refused, words);
    run_all(&[
        case(
            "r6_other_content_type",
            Act::Manifest,
            refused("tell the registry's operator"),
            |_, seen| {
                altered(seen, |reply| {
                    reply.instead(
                        "Content-Type",
                        Some("application/vnd.oci.image.index.v1+json"),
                    )
                })
            },
        ),
        case(
            "r6_layers_and_manifests",
            Act::Manifest,
            refused("both a manifest and an index"),
            |_, seen| {
                sends(
                    seen,
                    r#"{"schemaVersion": 2, "layers": [], "manifests": []}"#,
                )
            },
        ),
        case(
            "r6_two_content_types",
            Act::Manifest,
            refused("two fields"),
            |_, seen| {
                altered(seen, |reply| {
                    reply.header("Content-Type", "application/json")
                })
            },
        ),
        case(
            "r5_layers_twice",
            Act::Manifest,
            refused("not one"),
            |_, seen| sends(seen, r#"{"schemaVersion": 2, "layers": [], "layers": [1]}"#),
        ),
        case(
            "r5_byte_order_mark",
            Act::Manifest,
            refused("not one"),
            |_, seen| sends(seen, "\u{feff}{}"),
        ),
        case(
            "r5_half_a_document",
            Act::Manifest,
            refused("not one"),
            |_, seen| sends(seen, r#"{"schemaVersion": 2, "#),
        ),
        case(
            "r5_not_utf8",
            Act::Manifest,
            refused("not one"),
            |_, seen| altered(seen, |_| Reply::ok(b"{\"mediaType\": \"\xff\"}".to_vec())),
        ),
        case(
            "r6_page_for_browsers",
            Act::Manifest,
            refused("not one"),
            |_, seen| {
                altered(seen, |_| {
                    Reply::ok("<html>Sign in to the Wi-Fi</html>")
                        .header("Content-Type", "text/html")
                })
            },
        ),
        case(
            "r6_nothing_at_all",
            Act::Manifest,
            refused("not one"),
            |_, seen| altered(seen, |_| Reply::ok("")),
        ),
    ]);
}

#[test]
fn servers_that_are_no_registries() {
    let refused = |words| End::Fails(Refused, words);
    run_all(&[
        case(
            "r12_no_http",
            Act::Manifest,
            refused("does not answer as a registry"),
            |_, seen| altered(seen, |_| Reply::raw("SSH-2.0-OpenSSH_10.0\r\n")),
        ),
        case(
            "r12_status_that_is_none",
            Act::Manifest,
            refused("does not answer as a registry"),
            |_, seen| altered(seen, |_| Reply::raw("HTTP/1.1 999999 x\r\n\r\n")),
        ),
        case(
            "r12_partial_content_unasked",
            Act::Manifest,
            refused("status 206"),
            |_, seen| altered(seen, |_| Reply::new(206, "{}")),
        ),
        case(
            "r12_no_content",
            Act::Manifest,
            refused("status 204"),
            |_, seen| altered(seen, |_| Reply::raw("HTTP/1.1 204 No\r\n\r\n")),
        ),
        case(
            "r12_not_modified",
            Act::Blob,
            refused("status 304"),
            |_, seen| {
                seen.path
                    .contains("/blobs/")
                    .then(|| Reply::raw("HTTP/1.1 304 No\r\n\r\n"))
            },
        ),
        case(
            "r12_teapot",
            Act::Manifest,
            refused("status 418"),
            |_, seen| altered(seen, |_| Reply::new(418, "short and stout")),
        ),
        case(
            "r12_blob_is_gone",
            Act::Blob,
            End::Fails(NotFound, "not whole there"),
            |_, seen| seen.path.contains("/blobs/").then(|| Reply::new(404, "")),
        ),
    ]);
}

#[test]
fn nobody_there() {
    let bound = Bound::new(None);
    let host = bound.host();
    drop(bound);
    let mut machine = Machine::new();
    machine.insecure(&host);
    let err = machine.client().manifest(&reference(&host)).unwrap_err();
    assert_eq!(err.kind(), Unreachable);
    let text = err.to_string();
    assert!(
        text.contains("cannot be reached") && text.contains("(3 tries)"),
        "{text}"
    );
    assert!(act(&machine.client(), &host, Act::Blob).is_err());
}
