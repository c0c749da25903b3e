// SPDX-License-Identifier: Apache-2.0
//! The registry client against connections that break, stall, crawl or come back with something
//! else (threats R3, R12 to R14).

#![expect(clippy::too_many_lines, reason = "a test is a table of cases")]

use crate::support::registry_case;
use std::time::{Duration, Instant};

use crate::support::registry::{Bound, Reply, Seen, Transfer};
use crate::support::registry_case::{
    Act, End, Machine, act, blob, case, good, is_blob, part_of_blob, run_all,
};
use wharf::registry::Kind::{Refused, Unreachable};

/// The first answer breaks off in the middle; `then` makes the ones after it.
fn after_a_cut(seen: &Seen, then: impl Fn(&Seen) -> Reply) -> Option<Reply> {
    if !is_blob(seen) {
        return None;
    }
    Some(match seen.nth {
        0 => part_of_blob(seen).cut(100_000),
        _ => then(seen),
    })
}

fn whole(seen: &Seen) -> Reply {
    let mut whole = seen.clone();
    whole.headers.retain(|(name, _)| name != "range");
    part_of_blob(&whole)
}

#[test]
fn r3_r12_lengths_that_are_wrong() {
    let refused = |words| End::Fails(Refused, words);
    run_all(&[
        case(
            "r12_one_byte_less_is_declared",
            Act::Blob,
            refused("where 300000 are to come"),
            |_, seen| {
                let bytes = blob();
                is_blob(seen).then(|| Reply::ok(&bytes[..299_999]))
            },
        ),
        case(
            "r12_one_byte_more_is_declared",
            Act::Blob,
            refused("where 300000 are to come"),
            |_, seen| is_blob(seen).then(|| Reply::ok([blob(), vec![0]].concat())),
        ),
        case(
            "r3_2_63_bytes_are_declared",
            Act::Blob,
            refused("where 300000 are to come"),
            |_, seen| is_blob(seen).then(|| Reply::ok(blob()).length("9223372036854775808")),
        ),
        case(
            "r3_more_in_chunks",
            Act::Blob,
            refused("more than the 300000 bytes"),
            |_, seen| {
                is_blob(seen)
                    .then(|| Reply::ok([blob(), vec![0]].concat()).transfer(Transfer::Chunked))
            },
        ),
        case(
            "r3_endless_blob",
            Act::Blob,
            refused("more than the 300000 bytes"),
            |_, seen| is_blob(seen).then(|| Reply::ok(blob()).transfer(Transfer::Endless)),
        ),
        case("r12_chunked", Act::Blob, End::Works, |_, seen| {
            is_blob(seen).then(|| Reply::ok(blob()).transfer(Transfer::Chunked))
        }),
        case(
            "r12_until_the_end_of_the_connection",
            Act::Blob,
            End::Works,
            |_, seen| is_blob(seen).then(|| Reply::ok(blob()).transfer(Transfer::Close)),
        ),
        case(
            "r12_less_until_the_end_of_the_connection",
            Act::Blob,
            End::Fails(Unreachable, "broke off after 200000 of 300000 bytes"),
            |_, seen| {
                is_blob(seen).then(|| Reply::ok(&blob()[..200_000]).transfer(Transfer::Close))
            },
        ),
        case(
            "r12_bad_chunk",
            Act::Blob,
            refused("does not answer as a registry"),
            |_, seen| {
                is_blob(seen).then(|| {
                    Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
                })
            },
        ),
        case(
            "r12_manifest_breaks_off_once",
            Act::Manifest,
            End::Works,
            |_, seen| {
                let is_first = seen.path.ends_with("/manifests/1") && seen.nth == 0;
                is_first.then(|| good(seen).cut(20))
            },
        ),
        case(
            "r12_manifest_always_breaks_off",
            Act::Manifest,
            End::Fails(Unreachable, "(3 tries)"),
            |_, seen| {
                seen.path
                    .ends_with("/manifests/1")
                    .then(|| good(seen).cut(20))
            },
        ),
        case(
            "r12_closed_without_an_answer",
            Act::Blob,
            End::Works,
            |_, seen| (is_blob(seen) && seen.nth < 2).then(|| Reply::raw("")),
        ),
        case(
            "r12_always_closed_without_an_answer",
            Act::Blob,
            End::Fails(Unreachable, "(3 tries)"),
            |_, seen| is_blob(seen).then(|| Reply::raw("")),
        ),
    ]);
}

#[test]
fn r12_r13_what_comes_after_a_cut() {
    let refused = |words| End::Fails(Refused, words);
    run_all(&[
        case("r12_resumed", Act::Blob, End::Works, |_, seen| {
            after_a_cut(seen, part_of_blob)
        }),
        case("r12_cut_twice", Act::Blob, End::Works, |_, seen| {
            after_a_cut(seen, |seen| match seen.nth {
                1 => part_of_blob(seen).cut(50_000),
                _ => part_of_blob(seen),
            })
        }),
        case(
            "r12_cut_again_and_again",
            Act::Blob,
            End::Fails(Unreachable, "broke off after 130000 of 300000 bytes"),
            |_, seen| after_a_cut(seen, |seen| part_of_blob(seen).cut(15_000)),
        ),
        case("r13_range_is_ignored", Act::Blob, End::Works, |_, seen| {
            after_a_cut(seen, whole)
        }),
        case(
            "r13_range_is_ignored_and_the_bytes_are_others",
            Act::Blob,
            refused("other bytes"),
            |_, seen| {
                after_a_cut(seen, |_| {
                    let mut other = blob();
                    other[50_000] ^= 1;
                    Reply::ok(other)
                })
            },
        ),
        case(
            "r13_range_is_ignored_and_cut_again",
            Act::Blob,
            End::Works,
            |_, seen| {
                after_a_cut(seen, |seen| match seen.nth {
                    1 => whole(seen).cut(60_000),
                    _ => whole(seen),
                })
            },
        ),
        case("r13_another_range", Act::Blob, End::Works, |_, seen| {
            after_a_cut(seen, |seen| match seen.range() {
                Some(_) => Reply::new(206, &blob()[100_001..])
                    .header("Content-Range", "bytes 100001-299999/300000"),
                None => whole(seen),
            })
        }),
        case(
            "r13_range_from_zero_as_206",
            Act::Blob,
            End::Works,
            |_, seen| {
                after_a_cut(seen, |seen| match seen.range() {
                    Some(_) => {
                        Reply::new(206, blob()).header("Content-Range", "bytes 0-299999/300000")
                    }
                    None => whole(seen),
                })
            },
        ),
        case("r13_no_content_range", Act::Blob, End::Works, |_, seen| {
            after_a_cut(seen, |seen| {
                part_of_blob(seen).instead("Content-Range", None)
            })
        }),
        case(
            "r13_two_content_ranges",
            Act::Blob,
            End::Works,
            |_, seen| {
                after_a_cut(seen, |seen| match seen.range() {
                    Some(_) => part_of_blob(seen).header("Content-Range", "bytes 0-1/300000"),
                    None => whole(seen),
                })
            },
        ),
        case("r13_another_total", Act::Blob, End::Works, |_, seen| {
            after_a_cut(seen, |seen| {
                part_of_blob(seen).instead("Content-Range", Some("bytes 100000-299999/300001"))
            })
        }),
        case(
            "r13_content_range_of_words",
            Act::Blob,
            End::Works,
            |_, seen| {
                after_a_cut(seen, |seen| {
                    part_of_blob(seen).instead("Content-Range", Some("bytes all/some"))
                })
            },
        ),
        case("r13_etag_has_changed", Act::Blob, End::Works, |_, seen| {
            after_a_cut(seen, |seen| {
                part_of_blob(seen).instead("ETag", Some("\"two\""))
            })
        }),
        case(
            "r13_etag_and_bytes_have_changed",
            Act::Blob,
            refused("other bytes"),
            |_, seen| {
                after_a_cut(seen, |seen| {
                    let other: Vec<u8> = blob().iter().map(|byte| !byte).collect();
                    match seen.range() {
                        Some(first) => Reply::new(206, &other[first..])
                            .header("ETag", "\"two\"")
                            .header("Content-Range", &format!("bytes {first}-299999/300000")),
                        None => Reply::ok(other).header("ETag", "\"two\""),
                    }
                })
            },
        ),
        case(
            "r13_range_not_satisfiable",
            Act::Blob,
            End::Works,
            |_, seen| {
                after_a_cut(seen, |seen| match seen.range() {
                    Some(_) => Reply::new(416, "").header("Content-Range", "bytes */300000"),
                    None => whole(seen),
                })
            },
        ),
        case(
            "r13_gone_after_the_cut",
            Act::Blob,
            End::Fails(wharf::registry::Kind::NotFound, "there is no blob"),
            |_, seen| after_a_cut(seen, |_| Reply::new(404, "")),
        ),
        case(
            "r14_in_trouble_after_the_cut",
            Act::Blob,
            End::Works,
            |_, seen| {
                after_a_cut(seen, |seen| match seen.nth {
                    1 => Reply::new(503, ""),
                    _ => part_of_blob(seen),
                })
            },
        ),
    ]);
}

#[test]
fn r13_a_range_is_asked_for_with_the_tag_of_what_was_given() {
    let home = Bound::new(None);
    let mut machine = Machine::new();
    machine.insecure(&home.host());
    let host = home.host();
    let home = home.serve(|seen| after_a_cut(seen, part_of_blob).unwrap_or_else(|| good(seen)));
    act(&machine.client(), &host, Act::Blob).unwrap();
    let seen = home.asked();
    let second = &seen[1];
    assert_eq!(second.header("range"), Some("bytes=100000-"));
    assert_eq!(second.header("if-range"), Some("\"one\""));
    assert_eq!(seen.len(), 2);
}

#[test]
fn r12_servers_that_stall_or_crawl() {
    let ms = Duration::from_millis;
    let fails = |words| End::Fails(Unreachable, words);
    // Each of them sends something before long, for ever.
    assert!(ms(50) < registry_case::limits().idle);
    run_all(&[
        case(
            "r12_no_answer",
            Act::Manifest,
            fails("no answer in time"),
            |_, seen| {
                seen.path
                    .contains("manifests")
                    .then(|| good(seen).delay(Duration::from_secs(5)))
            },
        ),
        case(
            "r12_header_crawls",
            Act::Manifest,
            fails("is too slow"),
            |_, seen| {
                seen.path
                    .contains("manifests")
                    .then(|| good(seen).drip(1, Duration::from_millis(50)))
            },
        ),
        case(
            "r12_body_crawls",
            Act::Blob,
            fails("less than 1000 bytes"),
            |_, seen| {
                is_blob(seen).then(|| {
                    // The header at once, and then 400 bytes a second.
                    let head = "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n";
                    Reply::raw([head.as_bytes(), &blob()].concat())
                        .drip(20, Duration::from_millis(50))
                })
            },
        ),
        case(
            "r12_body_stalls",
            Act::Blob,
            fails("broke off after"),
            |_, seen| {
                is_blob(seen).then(|| {
                    let head = "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n";
                    Reply::raw([head.as_bytes(), &blob()[..100]].concat())
                        .drip(200, Duration::from_secs(4))
                })
            },
        ),
        // Ten times as fast as the pace asks, and nearly nothing of it is content.
        case(
            "r12_chunks_of_one_byte",
            Act::Blob,
            fails("bytes of content in"),
            |_, seen| {
                is_blob(seen).then(|| {
                    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                    let chunks = blob().into_iter().flat_map(|byte| {
                        [b"1;xxxxxxxxxxxxxxxxxx\r\n".as_slice(), &[byte], b"\r\n"].concat()
                    });
                    Reply::raw([head, chunks.collect()].concat())
                        .drip(500, Duration::from_millis(50))
                })
            },
        ),
        case(
            "r12_trailers_that_crawl",
            Act::Blob,
            fails("bytes of content in"),
            |_, seen| {
                is_blob(seen).then(|| {
                    let head =
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n";
                    Reply::raw([head, &"x: yy\r\n".repeat(100_000)].concat())
                        .drip(500, Duration::from_millis(50))
                })
            },
        ),
        case(
            "r12_trailers_without_end",
            Act::Blob,
            fails("bytes without any content"),
            |_, seen| {
                is_blob(seen).then(|| {
                    let head =
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n";
                    Reply::raw([head, &"x: yy\r\n".repeat(1_000_000)].concat())
                })
            },
        ),
        case(
            "r12_token_crawls",
            Act::Manifest,
            fails("is too slow"),
            |world, seen| {
                if seen.path == "/token" {
                    return Some(Reply::ok(r#"{"token": "x"}"#).drip(1, Duration::from_millis(50)));
                }
                Some(registry_case::challenge(&format!("{}/token", world.home)))
            },
        ),
    ]);
}

#[test]
fn r14_servers_in_trouble() {
    let fails = |words| End::Fails(Unreachable, words);
    run_all(&[
        case("r14_500_once", Act::Manifest, End::Works, |_, seen| {
            (seen.path.contains("manifests") && seen.nth == 0).then(|| Reply::new(500, ""))
        }),
        case(
            "r14_503_for_ever",
            Act::Manifest,
            fails("status 503"),
            |_, seen| {
                seen.path
                    .contains("manifests")
                    .then(|| Reply::new(503, "<html>"))
            },
        ),
        case(
            "r14_502_for_ever",
            Act::Blob,
            fails("(3 tries)"),
            |_, seen| is_blob(seen).then(|| Reply::new(502, "")),
        ),
        case(
            "r14_429_once_with_seconds",
            Act::Manifest,
            End::Works,
            |_, seen| {
                let is_first = seen.path.contains("manifests") && seen.nth == 0;
                is_first.then(|| Reply::new(429, "").header("Retry-After", "1"))
            },
        ),
        case(
            "r14_429_for_ever",
            Act::Manifest,
            fails("too many requests"),
            |_, seen| {
                seen.path
                    .contains("manifests")
                    .then(|| Reply::new(429, "").header("Retry-After", "0"))
            },
        ),
        case(
            "r14_429_for_30_years",
            Act::Manifest,
            fails("left alone for 1000000000 s"),
            |_, seen| {
                seen.path
                    .contains("manifests")
                    .then(|| Reply::new(429, "").header("Retry-After", "1000000000"))
            },
        ),
        case(
            "r14_date_in_the_far_future",
            Act::Manifest,
            fails("left alone for"),
            |_, seen| {
                let date = "Fri, 31 Dec 2100 23:59:59 GMT";
                seen.path
                    .contains("manifests")
                    .then(|| Reply::new(503, "").header("Retry-After", date))
            },
        ),
        case(
            "r14_date_in_the_past",
            Act::Manifest,
            End::Works,
            |_, seen| {
                let date = "Sun, 06 Nov 1994 08:49:37 GMT";
                let is_first = seen.path.contains("manifests") && seen.nth == 0;
                is_first.then(|| Reply::new(503, "").header("Retry-After", date))
            },
        ),
        case(
            "r14_retry_after_of_words",
            Act::Manifest,
            fails("(3 tries)"),
            |_, seen| {
                seen.path
                    .contains("manifests")
                    .then(|| Reply::new(503, "").header("Retry-After", "-1 soon"))
            },
        ),
        case(
            "r14_retry_after_twice",
            Act::Manifest,
            End::Fails(Refused, "two fields"),
            |_, seen| {
                seen.path.contains("manifests").then(|| {
                    Reply::new(503, "")
                        .header("Retry-After", "0")
                        .header("Retry-After", "1")
                })
            },
        ),
    ]);
}

#[test]
fn r14_a_server_is_waited_for_as_long_as_it_asks() {
    let home = Bound::new(None);
    let mut machine = Machine::new();
    machine.insecure(&home.host());
    let host = home.host();
    let home = home.serve(|seen| match seen.nth {
        _ if seen.path == "/v2/" => good(seen),
        0 => Reply::new(429, "").header("Retry-After", "1"),
        _ => good(seen),
    });
    let start = Instant::now();
    act(&machine.client(), &host, Act::Manifest).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(home.asked().len(), 2);
}

#[test]
fn r12_a_slow_reader_is_not_a_slow_server() {
    use std::io::Read as _;
    let home = Bound::new(None);
    let mut machine = Machine::new();
    machine.insecure(&home.host());
    let host = home.host();
    let _home = home.serve(good);
    let client = machine.client();
    let reference = registry_case::reference(&host);
    let mut reader = client
        .blob(&reference, &registry_case::blob_digest(), 300_000)
        .unwrap();
    let mut start = vec![0; 1000];
    reader.read_exact(&mut start).unwrap();
    // Longer than the idle limit and the window of the pace together.
    let limits = registry_case::limits();
    let (_keep, wait) = std::sync::mpsc::channel::<()>();
    wait.recv_timeout(limits.idle + limits.pace_window)
        .unwrap_err();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 299_000);
}

#[test]
fn r12_three_readers_at_once() {
    let home = Bound::new(None);
    let mut machine = Machine::new();
    machine.insecure(&home.host());
    let host = home.host();
    let _home = home.serve(|seen| after_a_cut(seen, part_of_blob).unwrap_or_else(|| good(seen)));
    let client = machine.client();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..5 {
                    act(&client, &host, Act::Blob).unwrap();
                }
            });
        }
    });
}
