// SPDX-License-Identifier: Apache-2.0
//! The environment of the first process.
//!
//! Later ones win: defaults, the image's, `env_file`s in order, `environment`, then what wharf
//! itself must say. The result is sorted by key and checked against what execve(2) takes, so that
//! the error comes before the runtime starts (threats C8).
//!
//! An environment file holds `KEY=VALUE` lines; empty lines and those that begin with `#` are
//! skipped. A value in single quotes is taken as it is, one in double quotes with `\n`, `\r`, `\t`,
//! `\"`, `\\` and `\$` replaced, any other as it is without surrounding white space. That is what
//! Compose and systemd's `EnvironmentFile=` have in common; nothing is substituted, a `#` further
//! on is part of the value, and a line that the two would read differently (a quote that does not
//! end the line, `KEY` alone) is an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::definition::problem::quote;
use crate::definition::value::EnvFile;
use crate::sys;

/// Longest `KEY=VALUE`: execve(2) takes `MAX_ARG_STRLEN`, 128 KiB with the final NUL.
const STRING_MAX_BYTES: usize = (128 << 10) - 1;

/// Most that arguments and environment may need together: the kernel takes a quarter of the stack
/// limit, 2 MiB by default, with pointers and the auxiliary vector.
const TOTAL_MAX_BYTES: usize = (2 << 20) - (64 << 10);

/// Where programs are looked for when nobody says.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the environment is made of.
#[derive(Debug, Default)]
pub struct Sources<'a> {
    /// The image's `Env`, empty for a `rootfs`.
    pub image: &'a [String],
    /// `env_file`, parsed ([`load_files`]), in order.
    pub files: Vec<BTreeMap<String, String>>,
    /// `environment`.
    pub definition: Option<&'a BTreeMap<String, String>>,
    /// The user's home directory.
    pub home: Option<&'a str>,
    /// The host name.
    pub hostname: &'a str,
    /// `TERM`, when there is a terminal.
    pub term: Option<&'a str>,
    /// `NOTIFY_SOCKET`, when the container may notify systemd.
    pub notify_socket: Option<&'a str>,
}

/// Merges the sources to `KEY=VALUE`, sorted by key.
pub fn merge(sources: &Sources<'_>) -> anyhow::Result<Vec<String>> {
    let mut merged: BTreeMap<&str, &str> = BTreeMap::from([
        ("PATH", DEFAULT_PATH),
        ("HOME", sources.home.unwrap_or("/")),
        ("HOSTNAME", sources.hostname),
        // systemd's container interface: programs ask whether, and by whom, they are contained.
        ("container", "wharf"),
    ]);
    if let Some(term) = sources.term {
        merged.insert("TERM", term);
    }
    for entry in sources.image {
        let Some((key, value)) = entry.split_once('=') else {
            bail!(
                "the image's environment holds '{}', which has no '='",
                quote(entry)
            );
        };
        merged.insert(key, value);
    }
    let written = sources.files.iter().chain(sources.definition);
    for (key, value) in written.flatten() {
        merged.insert(key, value);
    }
    if let Some(socket) = sources.notify_socket {
        merged.insert("NOTIFY_SOCKET", socket);
    }
    for (key, value) in &merged {
        check(key, value)?;
    }
    let entries = merged
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"));
    Ok(entries.collect())
}

fn check(key: &str, value: &str) -> anyhow::Result<()> {
    if key.is_empty() || key.contains('=') {
        bail!(
            "'{}' is not the name of an environment variable",
            quote(key)
        );
    }
    if key.contains('\0') || value.contains('\0') {
        bail!(
            "the environment variable '{}' holds a NUL character",
            quote(key)
        );
    }
    let length = key.len() + 1 + value.len();
    if length > STRING_MAX_BYTES {
        bail!(
            "the environment variable '{}' has {length} bytes, more than the kernel's \
             {STRING_MAX_BYTES}",
            quote(key)
        );
    }
    Ok(())
}

/// Whether execve(2) will take these together.
pub fn check_size(args: &[String], env: &[String]) -> anyhow::Result<()> {
    if let Some(long) = args.iter().find(|arg| arg.len() > STRING_MAX_BYTES) {
        let length = long.len();
        bail!("an argument has {length} bytes, more than the kernel's {STRING_MAX_BYTES}");
    }
    let strings = args.iter().chain(env);
    let total: usize = strings.map(|s| s.len() + 1 + size_of::<usize>()).sum();
    if total > TOTAL_MAX_BYTES {
        bail!(
            "arguments and environment have {total} bytes, more than the kernel's \
             {TOTAL_MAX_BYTES}: {} arguments, {} variables",
            args.len(),
            env.len()
        );
    }
    Ok(())
}

/// Reads environment files, in order; an optional one may be absent.
pub fn load_files(files: &[EnvFile]) -> anyhow::Result<Vec<BTreeMap<String, String>>> {
    let mut loaded = Vec::new();
    for file in files {
        match sys::fs::read_to_string(&file.path) {
            Err(err) if file.optional && err.is_absent() => {}
            other => loaded.push(parse_file(
                &file.path,
                &other.context("reading an env_file")?,
            )?),
        }
    }
    Ok(loaded)
}

fn parse_file(path: &Path, text: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = parse_line(line)
            .with_context(|| format!("{}:{}", path.display(), index.saturating_add(1)))?;
        variables.insert(key, value);
    }
    Ok(variables)
}

fn parse_line(line: &str) -> anyhow::Result<(String, String)> {
    let Some((key, value)) = line.split_once('=') else {
        bail!("'{}' has no '=', write KEY=VALUE", quote(line));
    };
    if key.is_empty() || key.contains(char::is_whitespace) {
        bail!(
            "'{}' is not the name of an environment variable",
            quote(key)
        );
    }
    let value = value.trim_start();
    let value = match value.chars().next() {
        Some(mark @ ('"' | '\'')) => unquote(mark, value.get(1..).unwrap_or_default())
            .with_context(|| format!("value of '{}'", quote(key)))?,
        Some(_) | None => value.to_owned(),
    };
    check(key, &value)?;
    Ok((key.to_owned(), value))
}

/// The text up to the closing quote, which must be the last character.
fn unquote(mark: char, text: &str) -> anyhow::Result<String> {
    let mut value = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char == mark {
            if chars.next().is_some() {
                bail!("there is text behind the closing {mark}, put the whole value in quotes");
            }
            return Ok(value);
        }
        if char != '\\' || mark == '\'' {
            value.push(char);
            continue;
        }
        match chars.next() {
            Some('n') => value.push('\n'),
            Some('r') => value.push('\r'),
            Some('t') => value.push('\t'),
            Some(escaped @ ('"' | '\\' | '$')) => value.push(escaped),
            Some(other) => {
                value.push('\\');
                value.push(other);
            }
            None => break,
        }
    }
    bail!("the closing {mark} is missing; a value must end in its line")
}

/// The value of `key` in a merged environment.
pub fn value<'a>(env: &'a [String], key: &str) -> Option<&'a str> {
    let mut values = env.iter().filter_map(|entry| entry.split_once('='));
    values.find_map(|(name, value)| (name == key).then_some(value))
}

/// The directories of `PATH` in a merged environment; an empty one is `cwd`, as to execvp(3).
pub fn search_path(env: &[String], cwd: &Path) -> Vec<PathBuf> {
    let path = value(env, "PATH").unwrap_or(DEFAULT_PATH);
    path.split(':').map(|dir| cwd.join(dir)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn later_sources_win_and_the_order_is_fixed() {
        let image = strings(&["PATH=/image", "B=image", "A=image", "A=again", "E="]);
        let definition = BTreeMap::from([("C".to_owned(), "definition".to_owned())]);
        let file = |c: &str, d: &str| {
            BTreeMap::from([
                ("C".to_owned(), c.to_owned()),
                ("D".to_owned(), d.to_owned()),
            ])
        };
        let sources = Sources {
            image: &image,
            files: vec![file("one", "one"), file("two", "two")],
            definition: Some(&definition),
            home: Some("/srv"),
            hostname: "web",
            term: Some("xterm"),
            notify_socket: Some("/run/notify/notify.sock"),
        };
        let expected = [
            "A=again",
            "B=image",
            "C=definition",
            "D=two",
            "E=",
            "HOME=/srv",
            "HOSTNAME=web",
            "NOTIFY_SOCKET=/run/notify/notify.sock",
            "PATH=/image",
            "TERM=xterm",
            "container=wharf",
        ];
        assert_eq!(merge(&sources).unwrap(), expected);
        let bare = merge(&Sources::default()).unwrap();
        assert_eq!(value(&bare, "HOME"), Some("/"));
        assert_eq!(value(&bare, "TERM"), None);
        let path = search_path(&strings(&["PATH=/a::b"]), Path::new("/w"));
        assert_eq!(path, [Path::new("/a"), Path::new("/w/"), Path::new("/w/b")]);
    }

    #[test]
    fn what_execve_would_refuse_is_an_error() {
        let long = format!("K={}", "x".repeat(STRING_MAX_BYTES));
        for (entry, message) in [
            ("NOEQUALS", "has no '='"),
            ("=x", "is not the name"),
            ("A=\0", "NUL"),
            ("A\0B=x", "NUL"),
            (long.as_str(), "more than the kernel's"),
        ] {
            let image = strings(&[entry]);
            let sources = Sources {
                image: &image,
                ..Sources::default()
            };
            let err = merge(&sources).unwrap_err();
            assert!(err.to_string().contains(message), "{err}");
        }
        let many: Vec<String> = (0..1_000_000).map(|n| format!("V{n}=x")).collect();
        let err = check_size(&[], &many).unwrap_err().to_string();
        assert!(err.ends_with("0 arguments, 1000000 variables"), "{err}");
        assert!(check_size(&["x".repeat(STRING_MAX_BYTES + 1)], &[]).is_err());
        check_size(&strings(&["a"]), &strings(&["B=c"])).unwrap();
    }

    #[test]
    fn environment_file_lines() {
        for (line, value) in [
            ("A=b", "b"),
            ("  A=b c  ", "b c"),
            ("A=", ""),
            ("A= b", "b"),
            ("A=b=c", "b=c"),
            ("A=b # c", "b # c"),
            ("A=$HOME", "$HOME"),
            ("A=it's", "it's"),
            ("A='b  \\n\"'", "b  \\n\""),
            (r#"A="b\n\"\\\$\q""#, "b\n\"\\$\\q"),
            (r#"A="""#, ""),
        ] {
            let parsed = parse_line(line.trim()).unwrap();
            assert_eq!(parsed, ("A".to_owned(), value.to_owned()), "{line}");
        }
        let text = "# c\n\nA=1\nB='x' y\n";
        let err = parse_file(Path::new("/e"), text).unwrap_err();
        let message = "/e:4: value of 'B': there is text behind the closing ', put the whole value \
            in quotes";
        assert_eq!(format!("{err:#}"), message);
        for bad in ["A", "=b", "A B=c", "export A=b", "A='b", "A=\"b\\\""] {
            assert!(parse_line(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_optional_file_may_be_absent() {
        let mut file = EnvFile {
            path: PathBuf::from("/nonexistent/env"),
            optional: true,
        };
        assert!(load_files(std::slice::from_ref(&file)).unwrap().is_empty());
        file.optional = false;
        assert!(load_files(&[file]).is_err());
    }

    proptest::proptest! {
        /// What a file gives is what execve(2) takes, and a value that needs no quotes comes out
        /// as it went in, in every way to write it.
        #[test]
        fn environment_files_give_only_what_can_be_passed(text in "(?s).{0,80}") {
            if let Ok(variables) = parse_file(Path::new("/e"), &text) {
                for (key, value) in variables {
                    check(&key, &value).unwrap();
                }
            }
        }

        #[test]
        fn quoted_values_come_out_as_they_went_in(value in "[ -~&&[^'\"\\\\]]{0,20}") {
            for line in [format!("K='{value}'"), format!("K=\"{value}\"")] {
                let parsed = parse_line(&line).unwrap();
                proptest::prop_assert_eq!(&parsed.1, &value);
            }
        }
    }
}
