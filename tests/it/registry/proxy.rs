// SPDX-License-Identifier: Apache-2.0
//! Registries through an HTTP proxy, which the environment names: only the real binary has one of
//! its own.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::support::registry::{Authority, Bound, Reply, Valid};
use crate::support::registry_case::{BASIC, Machine, good, no_secret_at};
use wharf::sys::command::{Command, Output};

/// A name that nobody can resolve.
const NAME: &str = "registry.rig.invalid";

/// A proxy that connects everything to `target`; tells the first lines of what it is sent.
fn proxy(target: String) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, target, sender) = (client.unwrap(), target.clone(), sender.clone());
            thread::spawn(move || tunnel(client, &target, &|line| sender.send(line).unwrap()));
        }
    });
    (format!("http://{address}"), receiver)
}

fn tunnel(client: TcpStream, target: &str, tell: &dyn Fn(String)) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut first = String::new();
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 2 {
        if first.is_empty() {
            first = line.trim_end().to_owned();
        }
        line.clear();
    }
    tell(first);
    let mut client = client;
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
    let server = TcpStream::connect(target).unwrap();
    let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client);
    thread::spawn(move || drop(io::copy(&mut from_server, &mut to_client)));
    let mut server = server;
    drop(io::copy(&mut reader, &mut server));
}

fn check(machine: &Machine, host: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    command.arg("--root").arg(machine.root());
    command.args(["login", "--check", host]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.env_remove("REGISTRY_AUTH_FILE");
    for (name, value) in variables {
        command.env(name, value);
    }
    command.output().unwrap()
}

#[test]
fn a_proxy_is_asked_for_a_tunnel_and_sees_no_secret() {
    let authority = Authority::new();
    let config = authority.server(&authority.certify(NAME, Valid::Now), None);
    let server = Bound::new(Some(config)).serve(|seen| {
        if seen.header("authorization") == Some(BASIC) {
            return good(seen);
        }
        Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"rig\"")
    });
    let machine = Machine::new();
    machine.write(
        &format!("etc/containers/certs.d/{NAME}/ca.crt"),
        &authority.pem(),
    );
    machine.log_in(NAME);
    let (url, asked) = proxy(server.host());
    let output = check(&machine, NAME, &[("HTTPS_PROXY", &url)]);
    assert!(output.status.success(), "{}", output.stderr);
    assert_eq!(
        asked.recv().unwrap(),
        format!("CONNECT {NAME}:443 HTTP/1.1")
    );
    let output = check(
        &machine,
        NAME,
        &[("HTTPS_PROXY", &url), ("NO_PROXY", ".rig.invalid")],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output.stderr.contains("cannot be reached"),
        "{}",
        output.stderr
    );
    let output = check(&machine, NAME, &[("ALL_PROXY", "socks5://127.0.0.1:1")]);
    assert!(
        output
            .stderr
            .contains("SOCKS proxy, which is not supported"),
        "{}",
        output.stderr
    );
}

#[test]
fn this_machine_is_reached_without_a_proxy() {
    let server = Bound::new(None).serve(|seen| {
        if seen.header("authorization") == Some(BASIC) {
            return good(seen);
        }
        Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"rig\"")
    });
    let other = Bound::new(None).serve(good);
    let machine = Machine::new();
    let conf = format!(
        "[[registries]]\nprefix = \"{}\"\ninsecure = true\n",
        server.host()
    );
    machine.write("etc/wharf/wharf.toml", &conf);
    machine.log_in(&server.host());
    let url = format!("http://{}", other.host());
    let variables = [("HTTPS_PROXY", url.as_str()), ("http_proxy", url.as_str())];
    let output = check(&machine, &server.host(), &variables);
    assert!(output.status.success(), "{}", output.stderr);
    assert!(other.seen().is_empty());
    no_secret_at(&other).unwrap();
}
