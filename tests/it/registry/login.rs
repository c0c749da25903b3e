// SPDX-License-Identifier: Apache-2.0
//! `wharf login` and `wharf logout` through the real binary, credential helpers included.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::support::registry::{Bound, Reply, Server};
use crate::support::registry_case::{BASIC, Machine, PASSWORD, USER, good};
use wharf::sys::command::{Command, Output};

fn serve() -> Server {
    Bound::new(None).serve(|seen| {
        if seen.header("authorization") == Some(BASIC) {
            return good(seen);
        }
        Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"rig\"")
    })
}

/// A machine that may reach the registry without TLS.
fn machine(host: &str) -> Machine {
    let machine = Machine::new();
    machine.write(
        "etc/wharf/wharf.toml",
        &format!("[[registries]]\nprefix = \"{host}\"\ninsecure = true\n"),
    );
    machine
}

fn wharf(machine: &Machine) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    command.arg("--root").arg(machine.root());
    for variable in ["REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "DOCKER_CONFIG"] {
        command.env_remove(variable);
    }
    command.env("HOME", machine.root().join("root"));
    command
}

fn log_in(machine: &Machine, host: &str, password: &str) -> Output {
    wharf(machine)
        .args(["login", "--username", USER, "--password-stdin", host])
        .stdin_bytes(format!("{password}\n").into_bytes())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        output.stderr
    )
}

fn read(path: &Path) -> String {
    String::from_utf8(std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn credentials_are_verified_kept_and_forgotten() {
    let server = serve();
    let host = server.host();
    let machine = machine(&host);
    let file = machine.root().join("etc/wharf/auth.json");
    let output = log_in(&machine, &host, "wrong");
    // As for everything that is not permitted.
    assert_eq!(output.status.code(), Some(4));
    assert!(
        text(&output).contains(&format!("wharf: registry '{host}': ")),
        "{}",
        text(&output)
    );
    assert!(!file.exists());
    let output = log_in(&machine, &host, PASSWORD);
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains(&format!("logged in to '{host}' as 'alice'")),
        "{}",
        text(&output)
    );
    assert!(!text(&output).contains(PASSWORD));
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(read(&file).contains(BASIC.strip_prefix("Basic ").unwrap()));
    let check = wharf(&machine)
        .args(["login", "--check", &host])
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", text(&check));
    let output = wharf(&machine).args(["logout", &host]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(!read(&file).contains(&host));
    let output = wharf(&machine).args(["logout", &host]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("has no credentials for"),
        "{}",
        text(&output)
    );
    let check = wharf(&machine)
        .args(["login", "--check", &host])
        .output()
        .unwrap();
    assert!(
        text(&check).contains(&format!("run 'wharf login {host}'")),
        "{}",
        text(&check)
    );
    log_in(&machine, &host, PASSWORD);
    log_in(&machine, &format!("{host}/team"), PASSWORD);
    let output = wharf(&machine).args(["logout", "--all"]).output().unwrap();
    assert_eq!(text(&output).lines().count(), 2);
    assert!(!read(&file).contains("127.0.0.1"));
}

#[test]
fn command_lines_that_are_wrong() {
    let machine = Machine::new();
    for (args, says) in [
        (&["login", "https://quay.io"][..], "without 'https://'"),
        (&["login", "quay"], "is not a registry"),
        (&["login", "quay.io/UPPER"], "is not a registry"),
        (
            &["login", "--password-stdin", "quay.io"],
            "needs --username",
        ),
        (
            &["login", "-u", "a:b", "--password-stdin", "quay.io"],
            "holds no ':'",
        ),
        (
            &["login", "-u", "a", "--password-stdin", "quay.io"],
            "the password is empty",
        ),
        (&["logout"], "required"),
        (&["logout", "--all", "quay.io"], "cannot be used with"),
    ] {
        let output = wharf(&machine).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output).contains(says), "{args:?}: {}", text(&output));
    }
}

/// A program on a PATH of its own that answers as a credential helper.
fn helper(machine: &Machine, script: &str) -> PathBuf {
    machine.write(
        "bin/docker-credential-rig",
        &format!("#!/bin/sh\n{script}\n"),
    );
    let dir = machine.root().join("bin");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.join("docker-credential-rig"), mode).unwrap();
    dir
}

fn check_with_helper(machine: &Machine, host: &str, config: &str) -> Output {
    machine.write("root/.docker/config.json", config);
    let path = format!("{}:/usr/bin:/bin", machine.root().join("bin").display());
    wharf(machine)
        .args(["login", "--check", host])
        .env("PATH", path)
        .deadline(std::time::Duration::from_secs(60))
        .output()
        .unwrap()
}

#[test]
fn helpers_are_asked() {
    let server = serve();
    let host = server.host();
    let machine = machine(&host);
    let answer = format!(
        "read server; test \"$1 $server\" = 'get {host}' || exit 9\n\
         echo '{{\"ServerURL\": \"x\", \"Username\": \"{USER}\", \"Secret\": \"{PASSWORD}\"}}'"
    );
    helper(&machine, &answer);
    for config in [
        format!(r#"{{"credHelpers": {{"{host}": "rig"}}}}"#),
        r#"{"credsStore": "rig"}"#.to_owned(),
    ] {
        let output = check_with_helper(&machine, &host, &config);
        assert!(output.status.success(), "{config}: {}", text(&output));
    }
    for (script, says) in [
        (
            "echo 'credentials not found in native keychain'; exit 1",
            "there are no credentials",
        ),
        (
            "echo no agent >&2; exit 1",
            "could not say: exit status 1: no agent",
        ),
        (
            "echo not json, but s3cr3t-p4ss",
            "is not what the protocol has",
        ),
        ("kill -9 $$", "killed by signal 9"),
        ("head -c 3000000 /dev/zero", "is not what the protocol has"),
    ] {
        helper(&machine, script);
        let output = check_with_helper(&machine, &host, r#"{"credsStore": "rig"}"#);
        // Without credentials it is the registry that refuses.
        let code = if script.contains("not found") { 4 } else { 1 };
        assert_eq!(output.status.code(), Some(code), "{script}");
        assert!(text(&output).contains(says), "{script}: {}", text(&output));
        assert!(!text(&output).contains("s3cr3t"), "{}", text(&output));
    }
    let output = check_with_helper(&machine, &host, r#"{"credsStore": "../../bin/sh"}"#);
    assert!(
        text(&output).contains("is not the name of a credential helper"),
        "{}",
        text(&output)
    );
    let output = check_with_helper(&machine, &host, r#"{"credsStore": "absent"}"#);
    assert!(
        text(&output).contains("docker-credential-absent"),
        "{}",
        text(&output)
    );
}

#[test]
fn the_file_of_the_environment_is_the_only_one() {
    let server = serve();
    let host = server.host();
    let machine = machine(&host);
    machine.log_in(&host);
    let own = machine.root().join("own.json");
    let check = |command: &mut Command| command.args(["login", "--check", &host]).output().unwrap();
    assert!(check(&mut wharf(&machine)).status.success());
    let output = check(wharf(&machine).env("REGISTRY_AUTH_FILE", &own));
    assert!(
        text(&output).contains("there are no credentials"),
        "{}",
        text(&output)
    );
    // A unit's credential comes before ours.
    let unit = machine.root().join("credentials");
    machine.write(
        "credentials/wharf.auth",
        &format!(r#"{{"auths": {{"{host}": {{"auth": "eDp5"}}}}}}"#),
    );
    let output = check(wharf(&machine).env("CREDENTIALS_DIRECTORY", &unit));
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
}
