// SPDX-License-Identifier: Apache-2.0
//! Against Debian's docker-registry, with and without TLS and a password: what skopeo pushes is
//! pulled and run, what wharf pushes is taken by skopeo and podman, and digests stay the same.
//!
//! tests/rig/registries.sh starts the registries; its header says which port is which.

use crate::support::container::{define, json, leftovers, prepare};
use crate::support::lab::{Lab, Suite, source, text};
use wharf::sys::command::Command;

const PLAIN: &str = "registry.test:5000";
const TLS: &str = "registry.test:5001";
const PASSWORD: &str = "registry.test:5002";

/// Starts the registries and puts busybox as `bb:1` into each of them, with skopeo.
fn start_registries(lab: &Lab) {
    lab.write(
        "/root/registries.sh",
        std::fs::read(source().join("tests/rig/registries.sh")).unwrap(),
    );
    lab.ok("bash /root/registries.sh");
    for (registry, options) in [
        (PLAIN, "--dest-tls-verify=false"),
        (TLS, "--dest-cert-dir=/etc/registries"),
        (
            PASSWORD,
            "--dest-cert-dir=/etc/registries --dest-creds=ann:secret",
        ),
    ] {
        lab.ok(&format!(
            "skopeo copy -q {options} oci-archive:/var/tmp/busybox.tar docker://{registry}/bb:1"
        ));
    }
}

/// Tells everybody how the registries are to be reached; without a password.
fn configure(lab: &Lab) {
    lab.write(
        "/etc/containers/registries.conf.d/plain.conf",
        format!("[[registry]]\nlocation = \"{PLAIN}\"\ninsecure = true\n"),
    );
    for registry in [TLS, PASSWORD] {
        lab.ok(&format!(
            "mkdir -p /etc/containers/certs.d/{registry}; \
             cp /etc/registries/ca.crt /etc/containers/certs.d/{registry}/ca.crt"
        ));
    }
}

/// What a command that must not succeed says.
fn complaint(lab: &Lab, script: &str) -> String {
    let output = lab.sh(script);
    assert!(!output.status.success(), "`{script}` succeeded");
    output.stderr
}

/// The manifest's digest in a registry, as skopeo sees it.
fn digest_of(lab: &Lab, image: &str) -> String {
    lab.ok(&format!(
        "skopeo inspect --creds ann:secret --format '{{{{.Digest}}}}' docker://{image}"
    ))
}

fn registry(suite: Suite) {
    let lab = prepare(suite);
    start_registries(&lab);

    // Nothing is trusted that nobody has configured, and the error says what to configure.
    let plain = complaint(&lab, &format!("wharf image pull {PLAIN}/bb:1"));
    assert!(
        plain.contains(PLAIN) && plain.contains("insecure"),
        "{plain}"
    );
    let tls = complaint(&lab, &format!("wharf image pull {TLS}/bb:1"));
    assert!(tls.contains(TLS) && tls.contains("certs.d"), "{tls}");
    configure(&lab);
    let denied = complaint(&lab, &format!("wharf image pull {PASSWORD}/bb:1"));
    assert!(denied.contains("wharf login"), "{denied}");
    let absent = complaint(&lab, &format!("wharf image pull {TLS}/bb:2"));
    assert!(absent.contains("bb:2"), "{absent}");
    let wrong = complaint(
        &lab,
        &format!("echo wrong | wharf login -u ann --password-stdin {PASSWORD}"),
    );
    assert!(wrong.contains(PASSWORD), "{wrong}");
    lab.ok(&format!(
        "echo secret | wharf login -u ann --password-stdin {PASSWORD}"
    ));

    // Pushed by skopeo, pulled by wharf.
    for registry in [PLAIN, TLS, PASSWORD] {
        let image = format!("{registry}/bb:1");
        lab.ok(&format!("wharf image pull {image}"));
        let inspected = json(&lab, &format!("wharf image inspect {image}"));
        assert_eq!(
            inspected["images"][0]["digest"],
            digest_of(&lab, &image),
            "{image}"
        );
    }

    // A unit pulls what it lacks, with the same credentials.
    lab.ok(&format!("wharf image rm {PASSWORD}/bb:1"));
    let run =
        "command = [\"sh\", \"-c\", \"echo from the registry; exec sleep 1000\"]\ninit = true\n";
    define(&lab, "web", &format!("image = \"{PASSWORD}/bb:1\"\n{run}"));
    lab.ok("systemctl daemon-reload; systemctl start ctr@web");
    lab.wait_for("journalctl -u ctr@web | grep -q 'from the registry'");
    lab.ok("systemctl stop ctr@web");
    // A registry that is away hurts nobody who has the image.
    lab.ok("systemctl stop registry-5002");
    define(
        &lab,
        "web",
        &format!("image = \"{PASSWORD}/bb:1\"\npull_policy = \"always\"\n{run}"),
    );
    lab.ok("systemctl daemon-reload; systemctl start ctr@web; systemctl stop ctr@web");
    let journal = lab.ok("journalctl -u ctr@web");
    assert!(journal.contains(PASSWORD), "{journal}");
    lab.ok("systemctl reset-failed registry-5002 2>/dev/null || true; \
            systemd-run --quiet --unit registry-again docker-registry serve /etc/registries/5002.yml");
    lab.wait_for("(: </dev/tcp/127.0.0.1/5002) 2>/dev/null");

    // Pushed by wharf, taken by others.
    for registry in [PLAIN, TLS, PASSWORD] {
        let pushed = format!("{registry}/pushed:1");
        lab.ok(&format!("wharf image push {PLAIN}/bb:1 {pushed}"));
        assert_eq!(
            digest_of(&lab, &pushed),
            digest_of(&lab, &format!("{PLAIN}/bb:1")),
            "{pushed}"
        );
        lab.ok(&format!(
            "skopeo copy -q --src-creds ann:secret docker://{pushed} oci-archive:/var/tmp/back.tar; \
             rm /var/tmp/back.tar"
        ));
    }
    lab.ok(&format!(
        "podman pull -q --creds ann:secret {PASSWORD}/pushed:1; \
         podman image inspect --format '{{{{.Digest}}}}' {PASSWORD}/pushed:1"
    ));
    // What 'save' writes is the same for skopeo.
    lab.ok(&format!(
        "wharf image save -o /var/tmp/saved.tar {PLAIN}/bb:1"
    ));
    let saved = lab.ok("skopeo inspect --format '{{.Digest}}' oci-archive:/var/tmp/saved.tar");
    assert_eq!(saved, digest_of(&lab, &format!("{PLAIN}/bb:1")));

    lab.ok(&format!("wharf logout {PASSWORD}"));
    complaint(
        &lab,
        &format!("wharf image pull --policy always {PASSWORD}/pushed:1"),
    );
    lab.ok("wharf image check");
    assert_eq!(leftovers(&lab), "");
}

#[test]
fn trixie_pulls_and_pushes() {
    registry(Suite::Trixie);
}

#[test]
fn bookworm_pulls_and_pushes() {
    registry(Suite::Bookworm);
}

/// Runs mkimage; paths in `layers` are the lab's.
fn build(lab: &Lab, name: &str, layers: &[String], output: &str) {
    Command::new(source().join("tests/rig/mkimage"))
        .args(["build", "--name", name])
        .args(
            layers
                .iter()
                .flat_map(|layer| ["--layer".into(), lab.path(layer).into_os_string()]),
        )
        .arg("--output")
        .arg(lab.path(output))
        .run()
        .unwrap();
}

/// One image of 120 layers, and one whose only layer is Debian's /usr and more, 415 MB.
#[test]
fn many_layers_and_a_big_one() {
    let lab = prepare(Suite::Trixie);
    start_registries(&lab);
    configure(&lab);
    lab.ok(
        "mkdir -p /var/tmp/many/1/bin /var/tmp/many/1/proc /var/tmp/many/1/sys /var/tmp/many/1/dev
         cd /var/tmp/many; cp /bin/busybox 1/bin/; for a in sh cat ls wc; do ln -s busybox 1/bin/$a; done
         for i in $(seq 2 120); do mkdir -p $i/n; echo $i >$i/n/$i; echo $i >$i/newest; done",
    );
    let layers: Vec<String> = (1..=120).map(|n| format!("/var/tmp/many/{n}")).collect();
    build(&lab, "localhost/many:1", &layers, "/var/tmp/many.tar");
    // Merged /usr needs its links; the copy brings the layer to 415 MB.
    lab.ok("cd /; du -sm usr; cp usr/bin/podman /usr/lib/podman-again
         tar -cf /var/tmp/usr-layer.tar --sort=name bin lib lib64 usr
         size=$(stat -c %s /var/tmp/usr-layer.tar); missing=$((415000000 - size))
         if ((missing > 0)); then
             mkdir -p /var/tmp/pad/srv; head -c $missing /dev/urandom >/var/tmp/pad/srv/pad
             tar -rf /var/tmp/usr-layer.tar -C /var/tmp/pad srv
         fi");
    build(
        &lab,
        "localhost/usr:1",
        &["/var/tmp/usr-layer.tar".to_owned()],
        "/var/tmp/usr.tar",
    );
    for (name, command, expected) in [
        (
            "many",
            "[\"sh\", \"-c\", \"ls /n | wc -l; cat /newest\"]",
            "119\n120",
        ),
        (
            "usr",
            "[\"/usr/bin/sha256sum\", \"/usr/bin/sha256sum\"]",
            "/usr/bin/sha256sum",
        ),
    ] {
        let image = format!("{TLS}/{name}:1");
        lab.ok(&format!(
            "skopeo copy -q oci-archive:/var/tmp/{name}.tar docker://{image}; rm /var/tmp/{name}.tar"
        ));
        define(
            &lab,
            name,
            &format!("image = \"{image}\"\ncommand = {command}\ntype = \"oneshot\"\n"),
        );
        lab.ok(&format!(
            "systemctl daemon-reload; systemctl start ctr@{name}"
        ));
        let output = lab.ok(&format!("wharf logs {name}"));
        assert!(output.contains(expected), "{name}: {output}");
    }
    let listed = text(&lab.exec(&["wharf", "image", "check"]).stdout);
    assert!(listed.contains("0 problems"), "{listed}");
    assert_eq!(leftovers(&lab), "");
}
