// SPDX-License-Identifier: Apache-2.0
//! Images on a running system: what containers and mounts keep, what the timer collects, and what
//! podman and skopeo make of saved images.

use crate::support::container::{IMAGE, define, json, leftovers, prepare, shell};
use crate::support::lab;
use crate::support::lab::{Lab, Suite};

const REFERENCE: &str = "/var/lib/wharf/images/references/localhost%2fbusybox:latest";

/// What a command that must not succeed says.
fn complaint(lab: &Lab, script: &str) -> String {
    let output = lab.sh(script);
    assert!(!output.status.success(), "`{script}` succeeded");
    output.stderr
}

fn has_image(lab: &Lab, name: &str) -> bool {
    lab.sh(&format!("wharf image inspect {name}"))
        .status
        .success()
}

fn keeping(suite: Suite) {
    let lab = prepare(suite);
    define(&lab, "web", &shell("exec sleep 1000", "init = true"));
    lab.ok(&format!(
        "touch -d '30 days ago' {REFERENCE}; systemctl daemon-reload"
    ));
    lab.ok("systemctl start ctr@web");
    // A start is a use.
    lab.ok(&format!("test -n \"$(find {REFERENCE} -mmin -5)\""));
    let inspected = json(&lab, "wharf image inspect localhost/busybox");
    assert_eq!(inspected["images"][0]["in_use"][0]["running"], "web");
    for script in [
        format!("wharf image rm {IMAGE}"),
        format!(
            "wharf image rm --force {}",
            inspected["images"][0]["digest"]
        ),
    ] {
        let said = complaint(&lab, &script);
        assert!(said.contains("in use (container 'web' runs it)"), "{said}");
    }
    lab.ok("wharf image prune --all; wharf image gc; wharf exec web true 2>/dev/null || true");
    assert_eq!(lab.property("ctr@web.service", "ActiveState"), "active");
    // Stopped, it is what the definition needs, and what a roll-back needs after that.
    lab.ok("systemctl stop ctr@web; wharf image prune --all");
    assert!(has_image(&lab, IMAGE));
    define(&lab, "web", "image = \"localhost/next\"\n");
    lab.ok("wharf image prune --all");
    assert!(has_image(&lab, IMAGE));
    lab.ok("rm /etc/wharf/containers/web.toml; wharf image prune --all");
    assert!(!has_image(&lab, IMAGE));
    assert_eq!(lab.ok("ls /var/lib/wharf/layers /var/lib/wharf/images/blobs/sha256 | grep -c '^[0-9a-f]' || true"), "0");
    lab.ok("systemctl daemon-reload");
    assert_eq!(leftovers(&lab), "");
}

#[test]
fn trixie_keeps_what_containers_need() {
    keeping(Suite::Trixie);
}

#[test]
fn bookworm_keeps_what_containers_need() {
    keeping(Suite::Bookworm);
}

#[test]
fn the_timer_collects_and_leaves_what_is_mounted() {
    let lab = prepare(Suite::Trixie);
    let state = lab.sh("systemctl is-enabled wharf-gc.timer");
    assert_eq!(lab::text(&state.stdout).trim(), "disabled");
    lab.ok("systemctl enable --now wharf-gc.timer");
    assert_eq!(lab.property("wharf-gc.timer", "ActiveState"), "active");
    lab.ok(&format!(
        "tar -C /usr/lib -c os-release | wharf image import - localhost/small; \
         touch -d '30 days ago' {REFERENCE} /var/lib/wharf/images/references/*small*"
    ));
    lab.write("/etc/wharf/wharf.toml", "[images]\nbudget = \"1\"\n");
    // In another mount namespace, as services that are confined are.
    let mounted = lab.ok("wharf image mount localhost/small");
    lab.ok(&format!("test -e {mounted}/os-release"));
    lab.ok("systemctl start wharf-gc.service");
    assert_eq!(lab.property("wharf-gc.service", "Result"), "success");
    let journal = lab.ok("journalctl -u wharf-gc.service -o cat");
    assert!(
        journal.contains("removed localhost/busybox:latest"),
        "{journal}"
    );
    assert!(!has_image(&lab, IMAGE) && has_image(&lab, "localhost/small"));
    lab.ok(&format!("test -e {mounted}/os-release"));
    let said = complaint(&lab, "wharf image rm localhost/small");
    assert!(said.contains("in use"), "{said}");
    lab.ok("wharf image unmount localhost/small; systemctl start wharf-gc.service");
    assert!(!has_image(&lab, "localhost/small"));
    lab.ok("systemctl disable --now wharf-gc.timer");
    assert_eq!(leftovers(&lab), "");
}

#[test]
fn podman_and_skopeo_read_what_is_saved() {
    let lab = prepare(Suite::Trixie);
    let image = &json(&lab, &format!("wharf image inspect {IMAGE}"))["images"][0];
    let (digest, id) = (
        image["digest"].as_str().unwrap(),
        image["id"].as_str().unwrap(),
    );
    let id = id.strip_prefix("sha256:").unwrap();
    lab.ok(&format!(
        "cd /var/tmp; wharf image save -o oci.tar {IMAGE}; \
         wharf image save --format docker-archive {IMAGE} >docker.tar; \
         wharf image save --format oci-dir -o dir {IMAGE}"
    ));
    for source in ["oci-archive:/var/tmp/oci.tar", "oci:/var/tmp/dir"] {
        let seen = lab.ok(&format!(
            "skopeo inspect --format '{{{{.Digest}}}}' {source}"
        ));
        assert_eq!(seen, digest, "{source}");
    }
    for file in ["oci.tar", "docker.tar"] {
        let said = lab.ok(&format!("podman load -q -i /var/tmp/{file}"));
        assert!(said.contains(IMAGE), "{file}: {said}");
        let seen = lab.ok(&format!(
            "podman image inspect --format '{{{{.Id}}}}' {IMAGE}"
        ));
        assert_eq!(seen, id, "{file}");
        lab.ok(&format!("podman rmi -f {IMAGE}"));
    }
    // And back: what skopeo makes of it is the same image.
    lab.ok(&format!(
        "skopeo copy -q oci-archive:/var/tmp/oci.tar:{IMAGE} oci-archive:/var/tmp/back.tar:localhost/back; \
         wharf image load /var/tmp/back.tar"
    ));
    let back = &json(&lab, "wharf image inspect localhost/back")["images"][0];
    assert_eq!(back["digest"], digest);
    // An imported file system runs.
    lab.ok(
        "mkdir -p /var/tmp/root/bin; cp /bin/busybox /var/tmp/root/bin/sh; \
         tar -C /var/tmp/root -c . | wharf image import \
         --change 'ENTRYPOINT [\"/bin/sh\", \"-c\", \"echo I was imported\"]' - localhost/imported",
    );
    define(
        &lab,
        "imported",
        "image = \"localhost/imported\"\ntype = \"oneshot\"\n",
    );
    lab.ok("systemctl daemon-reload; systemctl start ctr@imported");
    lab.wait_for("journalctl -u ctr@imported -o cat | grep -qx 'I was imported'");
    lab.ok("wharf image check");
    assert_eq!(leftovers(&lab), "");
}
