// SPDX-License-Identifier: Apache-2.0
//! The registry client and TLS: whom it trusts, what it says when it does not, and what it never
//! does (threats R11, R12).

use crate::support::registry;
use crate::support::registry_case;
use std::time::Duration;

use crate::support::registry::{Authority, Bound, Reply, Server, Valid};
use crate::support::registry_case::{
    Act, Machine, act, blob, good, limits, no_secret_at, reference,
};
use wharf::registry::Kind::{self, Refused, Unreachable};

const ADDRESS: &str = "127.0.0.1";

/// A registry with TLS, whose CA the machine knows.
fn trusted(
    machine: &Machine,
    script: impl Fn(&registry::Seen) -> Reply + Send + Sync + 'static,
) -> Server {
    let authority = Authority::new();
    let server = authority.server(&authority.certify(ADDRESS, Valid::Now), None);
    let bound = Bound::new(Some(server));
    let ca = format!("etc/containers/certs.d/{}/ca.crt", bound.host());
    machine.write(&ca, &authority.pem());
    bound.serve(script)
}

fn refusal(machine: &Machine, host: &str) -> (Kind, String) {
    let err = act(&machine.client(), host, Act::Manifest).unwrap_err();
    let text = err.to_string();
    assert!(
        text.starts_with(&format!("registry '{host}', repository 'team/app': ")),
        "{text}"
    );
    (err.kind(), text)
}

#[test]
fn a_ca_of_certs_d_is_trusted() {
    let machine = Machine::new();
    let server = trusted(&machine, good);
    for what in [Act::Manifest, Act::Blob, Act::Digest] {
        act(&machine.client(), &server.host(), what).unwrap();
    }
}

#[test]
fn a_ca_of_dockers_directory_or_of_wharf_toml_is_trusted() {
    let authority = Authority::new();
    let config = authority.server(&authority.certify(ADDRESS, Valid::Now), None);
    let server = Bound::new(Some(config)).serve(good);
    let mut machine = Machine::new();
    machine.write(
        &format!("etc/docker/certs.d/{}/ca.crt", server.host()),
        &authority.pem(),
    );
    act(&machine.client(), &server.host(), Act::Manifest).unwrap();
    let mut other = Machine::new();
    other.write("ca.pem", &authority.pem());
    let ca = other.root().join("ca.pem");
    let settings = other.insecure(&server.host());
    settings.insecure = false;
    settings.ca = Some(ca);
    act(&other.client(), &server.host(), Act::Manifest).unwrap();
    machine.settings.registries.clear();
}

#[test]
fn r11_certificates_that_are_not_trusted() {
    let known = Authority::new();
    let unknown = Authority::new();
    for (what, authority, name, valid) in [
        ("r11_unknown_ca", &unknown, ADDRESS, Valid::Now),
        (
            "r11_another_host",
            &known,
            "registry.example.com",
            Valid::Now,
        ),
        ("r11_expired", &known, ADDRESS, Valid::Formerly),
    ] {
        let config = authority.server(&authority.certify(name, valid), None);
        let server = Bound::new(Some(config)).serve(good);
        let host = server.host();
        let mut machine = Machine::new();
        machine.log_in(&host);
        machine.write(
            &format!("etc/containers/certs.d/{host}/ca.crt"),
            &known.pem(),
        );
        let (kind, text) = refusal(&machine, &host);
        assert_eq!(kind, Refused, "{what}: {text}");
        let advice = format!("'/etc/containers/certs.d/{host}/ca.crt'");
        assert!(
            text.contains("is not trusted") && text.contains(&advice),
            "{what}: {text}"
        );
        assert!(server.seen().is_empty(), "{what}");
        // Configured as insecure it works.
        machine.insecure(&host);
        act(&machine.client(), &host, Act::Manifest).unwrap();
    }
}

#[test]
fn r11_no_plain_http_unless_configured() {
    let server = Bound::new(None).serve(good);
    let host = server.host();
    let machine = Machine::new();
    machine.log_in(&host);
    let (kind, text) = refusal(&machine, &host);
    assert_eq!(kind, Refused, "{text}");
    assert!(
        text.contains("does not speak TLS; set 'insecure = true'"),
        "{text}"
    );
    no_secret_at(&server).unwrap();
}

#[test]
fn r11_insecure_prefers_tls() {
    let authority = Authority::new();
    let config = authority.server(&authority.certify(ADDRESS, Valid::Now), None);
    let server = Bound::new(Some(config)).serve(good);
    let mut machine = Machine::new();
    machine.insecure(&server.host());
    act(&machine.client(), &server.host(), Act::Manifest).unwrap();
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.path.starts_with("/v2/"))
    );
}

#[test]
fn r11_no_way_from_https_to_http() {
    let plain = Bound::new(None);
    let target = plain.url();
    let plain = plain.serve(good);
    let machine = Machine::new();
    let to = target.clone();
    let server = trusted(&machine, move |seen| {
        Reply::redirect(307, &format!("{to}{}", seen.path))
    });
    let (kind, text) = refusal(&machine, &server.host());
    assert_eq!(kind, Refused, "{text}");
    assert!(
        text.contains(&format!("'{target}/")) && text.contains("not encrypted"),
        "{text}"
    );
    assert!(plain.seen().is_empty());
    // Nor for credentials.
    let machine = Machine::new();
    let server = trusted(&machine, move |_| {
        registry_case::challenge(&format!("{target}/token"))
    });
    machine.log_in(&server.host());
    let (_, text) = refusal(&machine, &server.host());
    assert!(text.contains("not encrypted"), "{text}");
    assert!(plain.seen().is_empty());
}

#[test]
fn r11_a_redirect_to_another_host_is_verified_by_its_own_rules() {
    let unknown = Authority::new();
    let config = unknown.server(&unknown.certify(ADDRESS, Valid::Now), None);
    let elsewhere = Bound::new(Some(config));
    let to = elsewhere.url();
    let elsewhere = elsewhere.serve(good);
    // The registry is insecure, what it redirects to is not.
    let mut machine = Machine::new();
    let server = Bound::new(None).serve(move |seen| {
        if seen.path == "/v2/" {
            return good(seen);
        }
        Reply::redirect(307, &format!("{to}{}", seen.path))
    });
    machine.insecure(&server.host());
    let (kind, text) = refusal(&machine, &server.host());
    assert_eq!(kind, Refused, "{text}");
    assert!(text.contains("is not trusted"), "{text}");
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn a_client_certificate_is_shown_to_who_asks() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let config = servers.server(&servers.certify(ADDRESS, Valid::Now), Some(&clients));
    let server = Bound::new(Some(config)).serve(good);
    let host = server.host();
    let machine = Machine::new();
    let dir = format!("etc/containers/certs.d/{host}");
    machine.write(&format!("{dir}/ca.crt"), &servers.pem());
    let (kind, text) = refusal(&machine, &host);
    assert!(kind == Refused || kind == Unreachable, "{text}");
    let certified = clients.certify("client", Valid::Now);
    machine.write(&format!("{dir}/client.cert"), &certified.certificate.pem());
    let (_, text) = refusal(&machine, &host);
    assert!(text.contains("has no key"), "{text}");
    machine.write(
        &format!("{dir}/client.key"),
        &servers.certify("x", Valid::Now).key.serialize_pem(),
    );
    let (kind, text) = refusal(&machine, &host);
    assert_eq!(kind, Refused, "{text}");
    assert!(
        text.contains("client.cert") && text.contains("client.key"),
        "{text}"
    );
    machine.write(&format!("{dir}/client.key"), &certified.key.serialize_pem());
    act(&machine.client(), &host, Act::Manifest).unwrap();
    machine.write(&format!("{dir}/ca.crt"), "no certificate");
    let (_, text) = refusal(&machine, &host);
    assert!(text.contains("holds no certificate"), "{text}");
}

#[test]
fn r10_another_host_is_asked_for_tokens_of_nobody_only() {
    let authority = Authority::new();
    let config = authority.server(&authority.certify(ADDRESS, Valid::Now), None);
    let realm = Bound::new(Some(config));
    let url = format!("{}/token", realm.url());
    let realm = realm.serve(|_| Reply::ok(r#"{"token": "anonymous"}"#));
    let server = Bound::new(None).serve(move |seen| match seen.header("authorization") {
        Some("Bearer anonymous") => good(seen),
        _ => registry_case::challenge(&url),
    });
    let mut machine = Machine::new();
    let ca = format!("etc/containers/certs.d/{}/ca.crt", realm.host());
    machine.write(&ca, &authority.pem());
    machine.insecure(&server.host());
    act(&machine.client(), &server.host(), Act::Blob).unwrap();
    assert_eq!(realm.seen().len(), 1);
    no_secret_at(&realm).unwrap();
    machine.log_in(&server.host());
    let (kind, text) = refusal(&machine, &server.host());
    assert_eq!(kind, Refused, "{text}");
    assert!(text.contains("token_realm"), "{text}");
    assert_eq!(realm.seen().len(), 1);
}

#[test]
fn r12_one_record_that_crawls_is_noticed_below_tls() {
    let machine = Machine::new();
    let server = trusted(&machine, |seen| {
        if !seen.path.contains("/blobs/") {
            return good(seen);
        }
        // The first record is 16 KiB long: 40 bytes at a time it takes 20 s, and nothing above TLS
        // sees a byte of it before.
        Reply::ok(blob()).drip_below_tls(40, Duration::from_millis(50))
    });
    assert!(Duration::from_millis(50) < limits().idle);
    let err = act(&machine.client(), &server.host(), Act::Blob).unwrap_err();
    assert_eq!(err.kind(), Unreachable, "{err}");
    assert!(err.to_string().contains("is too slow"), "{err}");
}

#[test]
fn r12_a_cut_inside_tls_is_resumed() {
    let machine = Machine::new();
    let server = trusted(&machine, |seen| {
        match (seen.path.contains("/blobs/"), seen.nth) {
            (true, 0 | 1) => good(seen).cut(40_000),
            _ => good(seen),
        }
    });
    act(&machine.client(), &server.host(), Act::Blob).unwrap();
    assert_eq!(server.seen().last().unwrap().range(), Some(80_000));
}

#[test]
fn the_registry_of_an_unusable_configuration_is_named() {
    let machine = Machine::new();
    machine.write(
        "etc/containers/registries.conf",
        "[[registry]]\nprefix = 1\n",
    );
    let err = machine
        .client()
        .manifest(&reference("quay.io"))
        .unwrap_err();
    assert_eq!(err.kind(), Refused);
    let text = err.to_string();
    assert!(
        text.contains("registry 'quay.io'") && text.contains("registries.conf:2:"),
        "{text}"
    );
}
