// SPDX-License-Identifier: Apache-2.0
//! Texts with a grammar: paths, host names, image references, sysctls, command lines.
//!
//! A value that can reach a unit or another line-based file holds no control character; it is
//! refused, never stripped (threats C5, U1).

use std::path::PathBuf;
use std::str::FromStr;

use super::{EnvFile, Reload};
use crate::definition::Seccomp;
use crate::definition::problem::quote;

/// Longest path the kernel takes, with its NUL (PATH_MAX).
const PATH_MAX_BYTES: usize = 4096;
/// Longest single string of execve(2), with its NUL (MAX_ARG_STRLEN).
pub(crate) const ARGUMENT_MAX_BYTES: usize = 128 << 10;

/// Longest line for people; systemd takes lines of 1 MiB in which every '%' is doubled.
const LINE_MAX_BYTES: usize = 4096;

/// A text of one line: no control characters, and no noncharacters of Unicode, for which systemd
/// drops the whole line as not being UTF-8 (threats U7).
pub fn check_line(text: &str) -> Result<(), String> {
    let is_noncharacter = |c: char| {
        let code = u32::from(c);
        (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
    };
    match text.chars().find(|&c| c.is_control() || is_noncharacter(c)) {
        Some(c) => Err(format!(
            "control character '{}' is not allowed here",
            c.escape_default()
        )),
        None => Ok(()),
    }
}

/// A text given to a process: anything but NUL, and short enough for execve(2).
pub fn check_argument(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("a NUL character cannot be given to a process".to_owned());
    }
    if text.len() >= ARGUMENT_MAX_BYTES {
        return Err(format!(
            "{} bytes are more than the kernel gives to a process in one string (131071)",
            text.len()
        ));
    }
    Ok(())
}

/// A line for people that becomes a unit setting: not empty, no backslash at its end.
pub fn parse_line(text: &str) -> Result<String, String> {
    check_line(text)?;
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.len() > LINE_MAX_BYTES {
        return Err(format!("it is longer than {LINE_MAX_BYTES} bytes"));
    }
    if text.ends_with('\\') {
        // systemd joins such a line with the next one (threats U2).
        return Err("it must not end in a backslash".to_owned());
    }
    Ok(text.to_owned())
}

/// An absolute path without `..`, `.` or doubled slashes.
fn normalise(text: &str) -> Result<String, String> {
    check_line(text)?;
    if !text.starts_with('/') {
        return Err(format!("'{}' is not an absolute path", quote(text)));
    }
    if text.len() >= PATH_MAX_BYTES {
        return Err("the path is longer than 4095 bytes".to_owned());
    }
    let parts = text.split('/').filter(|part| !matches!(*part, "" | "."));
    let mut path = String::with_capacity(text.len());
    for part in parts {
        if part == ".." {
            return Err(format!("'{}' has a '..' in it", quote(text)));
        }
        path.push('/');
        path.push_str(part);
    }
    if path.is_empty() {
        path.push('/');
    }
    Ok(path)
}

/// A path on the host.
pub fn parse_host_path(text: &str) -> Result<PathBuf, String> {
    normalise(text).map(PathBuf::from)
}

/// A program on the host: not a directory by its spelling.
pub fn parse_program(text: &str) -> Result<PathBuf, String> {
    match normalise(text)? {
        path if path == "/" => Err("'/' is not a program".to_owned()),
        path => Ok(PathBuf::from(path)),
    }
}

/// A path in the container.
pub fn parse_container_path(text: &str) -> Result<String, String> {
    normalise(text)
}

/// Where something is mounted in the container: not the root, nor what the runtime mounts.
pub fn parse_target(text: &str) -> Result<String, String> {
    let path = normalise(text)?;
    if matches!(path.as_str(), "/" | "/dev" | "/sys") || is_proc(&path) {
        return Err(format!("nothing can be mounted on '{path}'"));
    }
    Ok(path)
}

/// A directory to start in; below /proc it could be a way out (CVE-2024-21626).
pub fn parse_working_dir(text: &str) -> Result<String, String> {
    match normalise(text)? {
        path if is_proc(&path) => Err(format!("'{path}' is below /proc")),
        path => Ok(path),
    }
}

fn is_proc(path: &str) -> bool {
    path == "/proc" || path.starts_with("/proc/")
}

/// A host name of at most 64 bytes (HOST_NAME_MAX); '_' is allowed since container names have it.
pub fn parse_hostname(text: &str) -> Result<String, String> {
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if text.len() <= 64 && text.split('.').all(label_ok) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "'{}' is not a host name of at most 64 letters, digits, '-' and '.'",
            quote(text)
        ))
    }
}

/// An image reference by its characters; the image store takes it apart.
pub fn parse_reference(text: &str) -> Result<String, String> {
    let first = text.bytes().next();
    let valid = first.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'[')
        && text.len() <= 512
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-/:@+[]".contains(&b));
    if valid {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "'{}' is not an image reference such as nginx:1 or registry.example/x@sha256:…",
            quote(text)
        ))
    }
}

/// A name of a security label or profile.
pub fn parse_label(text: &str) -> Result<String, String> {
    let valid = (1..=255).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-/:,@+".contains(&b));
    if valid {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "'{}' is not the name of a profile or label",
            quote(text)
        ))
    }
}

impl FromStr for Seccomp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "default" => Ok(Self::Default),
            "unconfined" => Ok(Self::Unconfined),
            path if path.starts_with('/') => parse_program(path).map(Self::Profile),
            _ => Err(format!(
                "'{}' is none of 'default', 'unconfined' and an absolute path",
                quote(text)
            )),
        }
    }
}

impl FromStr for EnvFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (optional, path) = match text.strip_prefix('-') {
            Some(path) => (true, path),
            None => (false, text),
        };
        let path = parse_program(path)?;
        Ok(Self { path, optional })
    }
}

impl FromStr for Reload {
    type Err = String;

    /// A signal; commands are lists, not text.
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self::Signal).map_err(|err: String| {
            if text.contains([' ', '/']) {
                format!("{err}, or a command as a list of strings")
            } else {
                err
            }
        })
    }
}

/// Prefixes and names of the sysctls that belong to a namespace of the container.
const IPC_SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Checks the name of a sysctl: one that is the container's own (threats C7).
pub fn check_sysctl_name(name: &str) -> Result<(), String> {
    let network = name.strip_prefix("net.").is_some_and(is_sysctl_part);
    let queues = name.strip_prefix("fs.mqueue.").is_some_and(is_sysctl_part);
    if network || queues || IPC_SYSCTLS.contains(&name) {
        return Ok(());
    }
    Err(format!(
        "sysctl '{}' is not the container's own, only net.*, fs.mqueue.* and kernel.{{msg*,sem,shm*}} are",
        quote(name)
    ))
}

/// Dots separate parts; '/' is for interfaces with a dot in their name, as in sysctl.d(5).
fn is_sysctl_part(text: &str) -> bool {
    text.len() <= 200
        && text.split(['.', '/']).all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        })
}

/// Checks the value of a sysctl: a runtime may join several with '+' or ',' (CVE-2022-0811).
pub fn check_sysctl_value(text: &str) -> Result<(), String> {
    let valid = (1..=1024).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b" \t._-,:/".contains(&b));
    if valid {
        Ok(())
    } else {
        Err(format!("'{}' is not a value of a sysctl", quote(text)))
    }
}

/// The name of an environment variable: anything the kernel and shells can tell from its value.
pub fn check_variable_name(name: &str) -> Result<(), String> {
    check_line(name)?;
    if name.is_empty() || name.contains('=') || name.starts_with(' ') || name.ends_with(' ') {
        return Err(format!(
            "'{}' is not the name of an environment variable",
            quote(name)
        ));
    }
    Ok(())
}

/// The key of a label or annotation.
pub fn check_label_name(name: &str) -> Result<(), String> {
    check_line(name)?;
    if name.trim().is_empty() || name.contains('=') || name.len() > 1024 {
        return Err(format!("'{}' is not the key of a label", quote(name)));
    }
    Ok(())
}

/// Splits a command line as a shell does, without expanding anything: blanks separate, single
/// quotes keep all, double quotes keep all but a backslash before `"`, `\`, `$` and `` ` ``, and
/// outside of quotes a backslash keeps the next character.
pub fn split_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                read_quoted(&mut chars, word, Quote::Single)?;
            }
            '"' => {
                let word = word.get_or_insert_default();
                read_quoted(&mut chars, word, Quote::Double)?;
            }
            '\\' => match chars.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err("the command line ends in a backslash".to_owned()),
            },
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[derive(Clone, Copy)]
enum Quote {
    Single,
    Double,
}

fn read_quoted(chars: &mut std::str::Chars, word: &mut String, quote: Quote) -> Result<(), String> {
    let unclosed = || "a quote in the command line is not closed".to_owned();
    loop {
        match (chars.next().ok_or_else(unclosed)?, quote) {
            ('\'', Quote::Single) | ('"', Quote::Double) => return Ok(()),
            ('\\', Quote::Double) => match chars.next().ok_or_else(unclosed)? {
                kept @ ('"' | '\\' | '$' | '`') => word.push(kept),
                other => word.extend(['\\', other]),
            },
            (c, Quote::Single | Quote::Double) => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_normal() {
        assert_eq!(parse_host_path("//a/./b//").unwrap(), PathBuf::from("/a/b"));
        assert_eq!(parse_container_path("/").unwrap(), "/");
        for bad in ["", "a", "./a", "/a/../b", "/..", "/a\nb", "/a\0"] {
            assert!(parse_host_path(bad).is_err(), "{bad:?}");
        }
        for bad in ["/", "//.", "/proc", "/proc/self/fd/7", "/dev", "/sys/"] {
            assert!(parse_target(bad).is_err(), "{bad:?}");
        }
        assert!(parse_target("/process").is_ok());
        assert!(parse_working_dir("/proc/self/fd/7").is_err());
    }

    /// Threats C6, C7.
    #[test]
    fn names_and_sysctls() {
        for good in ["web", "a.b-c", "web_1"] {
            assert!(parse_hostname(good).is_ok(), "{good}");
        }
        let long = "a".repeat(65);
        for bad in ["", "-a", "a-", "a..b", "a\n", "a b", "é", &long] {
            assert!(parse_hostname(bad).is_err(), "{bad:?}");
        }
        for good in [
            "net.core.somaxconn",
            "kernel.sem",
            "fs.mqueue.msg_max",
            "net.ipv4.conf.eth0/1.forwarding",
        ] {
            assert!(check_sysctl_name(good).is_ok(), "{good}");
        }
        for bad in [
            "kernel.core_pattern",
            "net.",
            "net..x",
            "net./../x",
            "kernel.shm_rmid_forced+x",
            "vm.swappiness",
            "",
        ] {
            assert!(check_sysctl_name(bad).is_err(), "{bad}");
        }
        assert!(check_sysctl_value("1+kernel.core_pattern=|/x").is_err());
        assert!(check_sysctl_value("4096 87380\t6291456").is_ok());
    }

    #[test]
    fn command_lines() {
        for (text, expected) in [
            ("", &[][..]),
            ("nginx -g 'daemon off;'", &["nginx", "-g", "daemon off;"]),
            (r#"a "b c" d\ e"#, &["a", "b c", "d e"]),
            (r#""\"\x" ''"#, &["\"\\x", ""]),
            ("a'b'\"c\"", &["abc"]),
        ] {
            assert_eq!(split_words(text).unwrap(), expected, "{text}");
        }
        for bad in ["'a", "\"a", "a\\", "\"a\\"] {
            assert!(split_words(bad).is_err(), "{bad}");
        }
    }
}
