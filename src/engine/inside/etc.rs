// SPDX-License-Identifier: Apache-2.0
//! Contents of the container's /etc/hostname, /etc/hosts and /etc/resolv.conf.
//!
//! Text in, text out; only [`load_resolv_conf`] reads, and only [`write()`] writes. Every value that
//! goes into a line is checked first and refused, never repaired, when it holds what would begin
//! another line (threats C5, C6).

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::definition::{Definition, Network};
use crate::name::ContainerName;
use crate::sys;
use crate::sys::fs::Durability;

/// Longest host name: `HOST_NAME_MAX` of Linux.
const HOSTNAME_MAX_BYTES: usize = 64;

/// Longest label between two dots (RFC 1035).
const LABEL_MAX_BYTES: usize = 63;

/// Where systemd-resolved keeps the servers it really asks (systemd-resolved.service(8)).
const RESOLVED_UPLINKS: &str = "run/systemd/resolve/resolv.conf";

/// Writes resolv.conf, hosts and hostname, which are bound into the container, to `dir`.
pub fn write(definition: &Definition, hostname: &str, dir: &Path) -> anyhow::Result<()> {
    let network = definition.network;
    let hosts = match sys::fs::read_to_string(Path::new("/etc/hosts")) {
        Err(err) if err.is_absent() => String::new(),
        other => other?,
    };
    let files = [
        ("hostname", render_hostname(hostname)?),
        (
            "hosts",
            render_hosts(hostname, definition.domainname.as_deref(), network, &hosts)?,
        ),
        ("resolv.conf", load_resolv_conf(Path::new("/"), network)?),
    ];
    for (name, text) in files {
        sys::fs::write_atomic(&dir.join(name), text.as_bytes(), 0o644, Durability::Memory)?;
    }
    Ok(())
}

/// The host name of a container whose definition gives none: its name, with `@` and `_`, which
/// host names do not have, as `-`.
pub fn default_hostname(name: &ContainerName) -> String {
    let replaced = name.as_str().replace(['@', '_'], "-");
    let labels = replaced.split('.').map(|label| label.trim_matches('-'));
    let labels: Vec<&str> = labels.filter(|label| !label.is_empty()).collect();
    labels.join(".")
}

/// Whether `hostname` is one (hostname(7)): labels of letters, digits and inner `-`, joined by dots.
pub fn check_hostname(hostname: &str) -> anyhow::Result<()> {
    let sound = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let length = (1..=LABEL_MAX_BYTES).contains(&label.len());
        length && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inner)
    };
    if hostname.len() <= HOSTNAME_MAX_BYTES && hostname.split('.').all(sound) {
        return Ok(());
    }
    bail!(
        "'{}' is not a host name: at most 64 letters, digits, '-' inside and '.' between",
        hostname.escape_debug()
    );
}

/// /etc/hostname.
pub fn render_hostname(hostname: &str) -> anyhow::Result<String> {
    check_hostname(hostname)?;
    Ok(format!("{hostname}\n"))
}

/// /etc/hosts: with the host's network the host's own lines, as names there mean what they mean on
/// the host; else loopback alone. The container's name resolves in any case.
pub fn render_hosts(
    hostname: &str,
    domain: Option<&str>,
    network: Network,
    host: &str,
) -> anyhow::Result<String> {
    check_hostname(hostname)?;
    let mut text = match network {
        Network::Host => {
            check_lines(host).context("copying the host's /etc/hosts")?;
            let mut text = host.to_owned();
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text
        }
        Network::None | Network::Private => "127.0.0.1\tlocalhost\n\
             ::1\tlocalhost ip6-localhost ip6-loopback\n\
             ff02::1\tip6-allnodes\n\
             ff02::2\tip6-allrouters\n"
            .to_owned(),
    };
    // The short name too, as `hostname -s` has it.
    let names = match (hostname.split_once('.'), domain) {
        (Some((short, _)), _) => format!("{hostname} {short}"),
        (None, Some(domain)) => format!("{hostname}.{domain} {hostname}"),
        (None, None) => hostname.to_owned(),
    };
    text.push_str(&format!("127.0.0.1\t{names}\n"));
    Ok(text)
}

/// /etc/resolv.conf from the text of the host's: none without a network, the host's as it is with
/// the host's network, else its servers without those on the host's loopback, which is not the
/// container's.
fn render_resolv_conf(network: Network, host: &str) -> anyhow::Result<String> {
    check_lines(host).context("copying the host's resolv.conf")?;
    match network {
        Network::None => Ok(String::new()),
        Network::Host => Ok(host.to_owned()),
        Network::Private => {
            let lines = host.lines().filter(|line| !is_loopback_server(line));
            Ok(lines.flat_map(|line| [line, "\n"]).collect())
        }
    }
}

/// The container's /etc/resolv.conf, made from the host's below `root` (`/` in real use):
/// systemd-resolved's own when the host's names only its stub, which listens on the host's
/// loopback. An absent file is an empty one, as to resolver(3).
pub fn load_resolv_conf(root: &Path, network: Network) -> anyhow::Result<String> {
    match network {
        Network::None => Ok(String::new()),
        Network::Private | Network::Host => {
            render_resolv_conf(network, &host_resolv_conf(root, network)?)
        }
    }
}

fn host_resolv_conf(root: &Path, network: Network) -> anyhow::Result<String> {
    let text = read_or_empty(&root.join("etc/resolv.conf"))?;
    let mut servers = text
        .lines()
        .filter(|line| server(line).is_some())
        .peekable();
    let only_stub = servers.peek().is_some() && servers.all(is_loopback_server);
    match network {
        Network::Private if only_stub => {
            let uplinks = read_or_empty(&root.join(RESOLVED_UPLINKS))?;
            Ok(if uplinks.is_empty() { text } else { uplinks })
        }
        Network::Private | Network::Host | Network::None => Ok(text),
    }
}

fn read_or_empty(path: &Path) -> anyhow::Result<String> {
    match sys::fs::read_to_string(path) {
        Err(err) if err.is_absent() => Ok(String::new()),
        other => other.context("reading the host's name servers"),
    }
}

/// The address of a `nameserver` line.
fn server(line: &str) -> Option<&str> {
    let mut words = line.split_ascii_whitespace();
    (words.next() == Some("nameserver")).then(|| words.next())?
}

fn is_loopback_server(line: &str) -> bool {
    let address = server(line).and_then(|text| text.parse::<std::net::IpAddr>().ok());
    address.is_some_and(|address| address.is_loopback())
}

/// A line feed ends a line and a tab is white space; any other control character is neither.
fn check_lines(text: &str) -> anyhow::Result<()> {
    for (index, line) in text.lines().enumerate() {
        if line.chars().any(|char| char.is_control() && char != '\t') {
            bail!("line {} holds a control character", index.saturating_add(1));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::{Durability, ensure_dir, write_atomic};

    #[test]
    fn host_names() {
        for (name, expected) in [
            ("web", "web"),
            ("web@blue", "web-blue"),
            ("my_app.v1", "my-app.v1"),
            ("a-.b..c_", "a.b.c"),
        ] {
            let hostname = default_hostname(&name.parse().unwrap());
            assert_eq!(hostname, expected);
            check_hostname(&hostname).unwrap();
        }
        let long = "a".repeat(65);
        for bad in [
            "",
            "-a",
            "a-",
            "a..b",
            ".a",
            "a_b",
            "a\nb",
            "a b",
            "ä",
            long.as_str(),
        ] {
            assert!(render_hostname(bad).is_err(), "{bad:?}");
            assert!(
                render_hosts(bad, None, Network::None, "").is_err(),
                "{bad:?}"
            );
        }
        assert_eq!(render_hostname("web").unwrap(), "web\n");
    }

    #[test]
    fn hosts_are_the_hosts_only_with_its_network() {
        let host = "10.0.0.1 bank";
        let shared = render_hosts("web.example.org", Some("lab"), Network::Host, host).unwrap();
        assert_eq!(shared, "10.0.0.1 bank\n127.0.0.1\tweb.example.org web\n");
        let own = render_hosts("web", None, Network::Private, host).unwrap();
        assert!(
            !own.contains("bank") && own.ends_with("127.0.0.1\tweb\n"),
            "{own}"
        );
        let in_domain = render_hosts("web", Some("lab.example"), Network::None, host).unwrap();
        assert!(
            in_domain.ends_with("127.0.0.1\tweb.lab.example web\n"),
            "{in_domain}"
        );
        assert!(render_hosts("web", None, Network::Host, "1.2.3.4 a\r1.2.3.4 bank\n").is_err());
    }

    #[test]
    fn resolv_conf_follows_the_network() {
        let host = "# c\nnameserver 127.0.0.53\nnameserver\t10.0.0.1\nnameserver ::1\nsearch a b\n";
        assert_eq!(render_resolv_conf(Network::None, host).unwrap(), "");
        assert_eq!(render_resolv_conf(Network::Host, host).unwrap(), host);
        assert_eq!(
            render_resolv_conf(Network::Private, host).unwrap(),
            "# c\nnameserver\t10.0.0.1\nsearch a b\n"
        );
        for bad in [
            "search a\rnameserver 6.6.6.6\n",
            "search \0\n",
            "search \u{1b}[2J\n",
        ] {
            assert!(
                render_resolv_conf(Network::Private, bad).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn the_stub_of_systemd_resolved_is_looked_through() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            ensure_dir(path.parent().unwrap(), 0o755).unwrap();
            write_atomic(&path, text.as_bytes(), 0o644, Durability::Memory).unwrap();
        };
        let load = |network| load_resolv_conf(root.path(), network).unwrap();
        assert_eq!(load(Network::Private), "");
        let stub = "nameserver 127.0.0.53\noptions edns0\n";
        put("etc/resolv.conf", stub);
        assert_eq!(load(Network::Private), "options edns0\n");
        put(RESOLVED_UPLINKS, "nameserver 10.0.0.1\n");
        assert_eq!(load(Network::Private), "nameserver 10.0.0.1\n");
        assert_eq!(load(Network::Host), stub);
        put("etc/resolv.conf", "nameserver 10.0.0.9\n");
        assert_eq!(load(Network::Private), "nameserver 10.0.0.9\n");
        assert_eq!(load(Network::None), "");
        put("etc/resolv.conf", "search a\rnameserver 6.6.6.6\n");
        assert!(load_resolv_conf(root.path(), Network::Private).is_err());
    }
}
