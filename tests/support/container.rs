// SPDX-License-Identifier: Apache-2.0
//! Containers in a lab: definitions, an image to run, what systemd and wharf say about them, and
//! what must not be left of them. `#[path = "support/container.rs"] mod container;`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::lab::{Lab, Suite, source, text};
use wharf::sys::command::Command;

#[allow(
    unused_imports,
    reason = "every test binary uses a part of this module"
)]
pub(crate) use crate::support::invariants::leftovers;

/// The image of [`prepare`]: a static busybox with all its applets.
pub(crate) const IMAGE: &str = "localhost/busybox:latest";

/// Boots a lab with wharf, the busybox image, and the OCI runtime that works on the suite.
pub(crate) fn prepare(suite: Suite) -> Lab {
    let lab = Lab::up(suite);
    if suite == Suite::Bookworm {
        use_runtime(&lab, "runc"); // crun 1.8 wants CAP_SYS_RESOURCE, which not every lab has
    }
    lab.busybox_image("/var/tmp/busybox.tar", &["--name", IMAGE]);
    lab.ok("wharf image load /var/tmp/busybox.tar");
    lab
}

/// Sets the OCI runtime for containers that start from now on.
pub(crate) fn use_runtime(lab: &Lab, runtime: &str) {
    lab.write(
        "/etc/wharf/wharf.toml",
        format!("runtime = \"{runtime}\"\n"),
    );
}

/// Writes the definition of `name`. It counts for systemd after the next daemon-reload.
pub(crate) fn define(lab: &Lab, name: &str, toml: &str) {
    lab.write(&format!("/etc/wharf/containers/{name}.toml"), toml);
}

/// The unit of the container `name`.
pub(crate) fn unit(name: &str) -> String {
    format!("ctr@{name}.service")
}

/// A definition that runs `script` in busybox's shell, followed by `more`.
pub(crate) fn shell(script: &str, more: &str) -> String {
    // TOML's basic strings and JSON's agree on everything that scripts hold.
    let script = serde_json::to_string(script).unwrap();
    format!("image = \"{IMAGE}\"\ncommand = [\"/bin/sh\", \"-c\", {script}]\n{more}\n")
}

/// What `systemctl show` says about `units`: properties by unit.
pub(crate) fn show(
    lab: &Lab,
    units: &[String],
    properties: &str,
) -> BTreeMap<String, BTreeMap<String, String>> {
    let properties = format!("Id,{properties}");
    let mut command = vec!["systemctl", "show", "--property", &properties];
    command.extend(units.iter().map(String::as_str));
    let output = lab.exec(&command);
    assert!(output.status.success(), "{}", output.complaint());
    let blocks = text(&output.stdout);
    let parse = |block: &str| {
        let pairs = block.lines().filter_map(|line| line.split_once('='));
        let mut block: BTreeMap<String, String> = pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        (block.remove("Id").unwrap(), block)
    };
    blocks.trim().split("\n\n").map(parse).collect()
}

/// Runs a command that prints JSON.
pub(crate) fn json(lab: &Lab, script: &str) -> Value {
    let printed = lab.ok(script);
    serde_json::from_str(&printed).unwrap_or_else(|err| panic!("`{script}`: {err}: {printed}"))
}

/// The lines that the payload of `name` wrote in its newest run, without what wharf and systemd
/// say about it.
pub(crate) fn output(lab: &Lab, name: &str) -> String {
    lab.ok(&format!(
        "journalctl --sync; journalctl --output=cat \
         _SYSTEMD_INVOCATION_ID=$(systemctl show --value -p InvocationID ctr@{name}) \
         _TRANSPORT=stdout"
    ))
}

/// The image of [`load_nginx`]: Debian's nginx and socat, a shell, nginx's logs linked to the
/// standard streams as in the official image.
pub(crate) const NGINX: &str = "localhost/nginx:latest";

/// Makes and loads [`NGINX`] of programs of the lab. nginx listens on port 8080.
pub(crate) fn load_nginx(lab: &Lab) {
    lab.write(
        "/var/tmp/nginx/etc/nginx.conf",
        "user www-data; daemon off; pid /run/nginx.pid; error_log /var/log/nginx/error.log notice;
         worker_processes 1; events {}
         http { access_log /var/log/nginx/access.log;
                server { listen 8080; root /srv; } }",
    );
    lab.ok(
        "cd /var/tmp/nginx; mkdir -p bin dev proc sys run tmp srv var/log/nginx var/lib/nginx
         for program in /usr/sbin/nginx /usr/bin/socat; do
             cp --parents --dereference $program $(ldd $program | grep -o '/[^ ]*') .
         done
         cp /bin/busybox bin/; for applet in sh cat echo printf sleep touch; do ln -s busybox bin/$applet; done
         echo '<h1>works</h1>' >srv/index.html
         printf '%s\\n' root:x:0:0::/:/bin/sh www-data:x:33:33::/srv:/bin/false >etc/passwd
         printf '%s\\n' root:x:0: www-data:x:33: >etc/group
         ln -s /dev/stdout var/log/nginx/access.log; ln -s /dev/stderr var/log/nginx/error.log",
    );
    Command::new(source().join("tests/rig/mkimage"))
        .args(["build", "--name", NGINX, "--format", "docker-archive"])
        .args(["--cmd", r#"["/usr/sbin/nginx", "-c", "/etc/nginx.conf"]"#])
        .arg("--layer")
        .arg(lab.path("/var/tmp/nginx"))
        .arg("--output")
        .arg(lab.path("/var/tmp/nginx.tar"))
        .run()
        .unwrap();
    lab.ok("wharf image load /var/tmp/nginx.tar");
}
