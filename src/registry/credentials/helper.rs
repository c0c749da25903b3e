// SPDX-License-Identifier: Apache-2.0
//! Credential helpers: `docker-credential-NAME get`, as Docker and Podman run them.

use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use serde::Deserialize;

use super::Credentials;
use crate::sys::command::Command;

/// What helpers say, by the protocol, when they have nothing.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The user name that stands for an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// Asks the helper `name` for the credentials of `server`.
pub(super) fn get(
    name: &str,
    server: &str,
    deadline: Duration,
) -> anyhow::Result<Option<Credentials>> {
    // A name, never a path: the file must not say which program runs.
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    ensure!(
        !name.is_empty() && name.chars().all(is_name),
        "'{}' is not the name of a credential helper",
        name.escape_debug()
    );
    let program = format!("docker-credential-{name}");
    let output = Command::new(&program)
        .arg("get")
        .stdin_bytes(server.as_bytes().to_vec())
        .deadline(deadline)
        .output()
        .with_context(|| format!("asking the credential helper '{name}'"))?;
    if !output.status.success() {
        // By the protocol the reason is on standard output.
        if String::from_utf8_lossy(&output.stdout).contains(NOT_FOUND) {
            return Ok(None);
        }
        return Err(anyhow!(
            "the credential helper '{program}' could not say: {}; run '{program} get' by hand",
            output.complaint().escape_debug()
        ));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|_| anyhow!("the answer of '{program}' is not what the protocol has"))?;
    Ok(match (answer.user.as_str(), answer.secret) {
        (_, secret) if secret.is_empty() => None,
        (TOKEN_USER, secret) => Some(Credentials::IdentityToken(secret)),
        (_, secret) => Some(Credentials::Password {
            user: answer.user,
            password: secret,
        }),
    })
}
