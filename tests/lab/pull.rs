// SPDX-License-Identifier: Apache-2.0
//! Pulls by units: policies of containers, what systemd is told meanwhile, and images in advance.

use crate::support::container;
use crate::support::container::{define, prepare, use_runtime};
use crate::support::lab::{Lab, Suite, text};

/// Serves the OCI layout /srv/layout as repository `x`; every tag is its image. Blobs come at the
/// rate in /run/rate, in bytes per tenth of a second. By hand: the labs' Python is a minimal one.
const REGISTRY: &str = r#"
import socket, threading, time
def blob(digest):
    with open('/srv/layout/blobs/sha256/' + digest.removeprefix('sha256:'), 'rb') as file:
        return file.read()
def answer(path):
    name = path.rsplit('/', 1)[1]
    if not name.startswith('sha256:'):
        name = open('/srv/layout/index.json').read().split('"sha256:')[1][:64]
    body = blob(name)
    manifest = 'application/vnd.oci.image.manifest.v1+json'
    return manifest if '/manifests/' in path else 'application/octet-stream', body
def serve(connection):
    reader = connection.makefile('rb')
    # Not TLS, which is tried first.
    while (request := reader.readline()).startswith((b'GET', b'HEAD')):
        while reader.readline().strip():
            pass
        method, path = request.decode().split()[:2]
        kind, body = answer(path)
        head = f'HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n'
        connection.sendall(head.encode())
        rate = int(open('/run/rate').read()) if '/blobs/' in path else len(body)
        for at in range(0, len(body) if method == 'GET' else 0, rate):
            connection.sendall(body[at:at + rate])
            time.sleep(0.1)
    connection.shutdown(socket.SHUT_RDWR)
server = socket.create_server(('127.0.0.1', 5000))
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"#;

fn start_registry(lab: &Lab, rate: usize) {
    lab.write("/run/rate", rate.to_string());
    lab.ok("systemd-run --quiet --unit registry python3 /srv/registry.py");
    lab.wait_for("(: </dev/tcp/127.0.0.1/5000) 2>/dev/null");
}

fn with_registry(suite: Suite) -> Lab {
    let lab = prepare(suite);
    let runtime = match suite {
        Suite::Trixie => "crun",
        Suite::Bookworm => "runc",
    };
    use_runtime(&lab, runtime);
    lab.write(
        "/etc/wharf/wharf.toml.d/registry.toml",
        "[[registries]]\nprefix = \"127.0.0.1:5000\"\ninsecure = true\n",
    );
    lab.write("/srv/registry.py", REGISTRY);
    // Another compression than the image that is there, so that it has to be downloaded.
    lab.busybox_image(
        "/srv/layout",
        &["--format", "oci-dir", "--compress", "zstd"],
    );
    lab
}

fn definition(tag: &str, more: &str) -> String {
    format!(
        "image = \"127.0.0.1:5000/x:{tag}\"\ncommand = [\"/bin/sleep\", \"1000\"]\ninit = true\n\
         stop_timeout = \"1s\"\n{more}\n"
    )
}

/// The time limit of the unit is a fraction of what the download takes.
fn a_slow_pull_is_waited_for(lab: &Lab) {
    let bytes = lab.ok("du -sb /srv/layout | cut -f1").parse().unwrap_or(0) / 100;
    start_registry(lab, bytes);
    define(lab, "slow", &definition("1", "start_timeout = \"3s\""));
    lab.ok("systemctl daemon-reload; systemctl start --no-block ctr@slow");
    lab.wait_for("systemctl show -p StatusText ctr@slow | grep -q 'pulling 127.0.0.1:5000/x:1: [0-9]* of [0-9]* MiB'");
    lab.wait_for("systemctl is-active --quiet ctr@slow");
    let took = lab.ok("systemctl show -p InactiveExitTimestampMonotonic -p ActiveEnterTimestampMonotonic --value ctr@slow");
    let times: Vec<u64> = took.lines().filter_map(|line| line.parse().ok()).collect();
    let took = times.iter().max().zip(times.iter().min());
    let took = took.map_or(0, |(last, first)| last - first);
    assert!(took > 4_000_000, "the pull took {took} microseconds only");
}

fn a_failed_refresh_does_not_matter(lab: &Lab) {
    lab.ok("systemctl stop ctr@slow registry");
    for policy in ["always", "newer", "never"] {
        let more = format!("pull_policy = \"{policy}\"");
        define(lab, "slow", &definition("1", &more));
        lab.ok("systemctl daemon-reload; systemctl restart ctr@slow; journalctl --sync");
        let journal = lab.ok(
            "journalctl -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show -p InvocationID --value ctr@slow)",
        );
        let warned = journal.contains("could not be refreshed, and the one in the store is used");
        assert_eq!(warned, policy != "never", "{policy}: {journal}");
    }
    define(
        lab,
        "none",
        &definition("absent", "pull_policy = \"never\""),
    );
    define(lab, "gone", &definition("absent", ""));
    lab.ok("systemctl daemon-reload");
    for (name, words) in [
        ("none", "the pull policy is 'never'"),
        (
            "gone",
            "pulling image '127.0.0.1:5000/x:absent': registry '127.0.0.1:5000'",
        ),
    ] {
        let started = lab.sh(&format!("systemctl start ctr@{name}"));
        assert!(!started.status.success(), "{name}");
        let status = lab.property(&format!("ctr@{name}"), "StatusText");
        assert!(status.contains(words), "{status}");
    }
}

fn images_in_advance(lab: &Lab) {
    start_registry(lab, 1 << 20);
    lab.write(
        "/etc/wharf/images/pre.toml",
        "image = \"127.0.0.1:5000/x:pre\"\nwanted_by = [\"kiosk.target\"]\n",
    );
    lab.write(
        "/etc/systemd/system/kiosk.target",
        "[Unit]\nDescription=Kiosk\n",
    );
    define(
        lab,
        "kiosk",
        &definition(
            "pre",
            "pull_policy = \"never\"\n[unit]\nRequires = \"ctr-image@pre.service\"\nAfter = \"ctr-image@pre.service\"",
        ),
    );
    lab.write(
        "/etc/wharf/images/bad.toml",
        "image = \"127.0.0.1:5000/x:pre\"\nx = 1\n",
    );
    lab.ok("systemctl daemon-reload; systemctl start ctr@kiosk kiosk.target");
    assert_eq!(lab.property("ctr-image@pre", "ActiveState"), "active");
    assert_eq!(
        lab.property("ctr-image@pre", "Description"),
        "Image 127.0.0.1:5000/x:pre"
    );
    let bad = lab
        .sh("systemctl start ctr-image@bad; journalctl --sync; journalctl -o cat -u ctr-image@bad");
    let bad = text(&bad.stdout);
    assert!(
        bad.contains("/etc/wharf/images/bad.toml:2:1: unknown key 'x', see wharf-image(5)"),
        "{bad}"
    );
    lab.ok("wharf image check; systemctl stop ctr@kiosk ctr@slow registry");
}

fn all(suite: Suite) {
    let lab = with_registry(suite);
    a_slow_pull_is_waited_for(&lab);
    a_failed_refresh_does_not_matter(&lab);
    images_in_advance(&lab);
    assert_eq!(container::leftovers(&lab), "");
}

#[test]
fn pulls_on_trixie() {
    all(Suite::Trixie);
}

#[test]
fn pulls_on_bookworm() {
    all(Suite::Bookworm);
}
