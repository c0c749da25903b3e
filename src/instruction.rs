// SPDX-License-Identifier: Apache-2.0
//! `--change` of `wharf commit` and `wharf image import`: instructions of a Containerfile that only
//! change an image's config.
//!
//! An instruction is applied to the config document as JSON, so that what wharf does not know of a
//! config stays in it. No variable is expanded: there is no build whose variables could be meant. What
//! images themselves say is held to the same grammar of values.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context as _, anyhow, bail, ensure};
use serde_json::{Map, Value, json};

/// One instruction, such as `CMD ["nginx", "-g", "daemon off;"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `CMD`: words after the entry point.
    Cmd(Vec<String>),
    /// `ENTRYPOINT`: first words of the command line. The image's own `CMD` goes with the entry
    /// point that it was written for, unless one is given too.
    Entrypoint(Vec<String>),
    /// `ENV`: variables and their values.
    Env(Vec<(String, String)>),
    /// `EXPOSE`: `PORT[-PORT]/PROTOCOL`.
    Expose(Vec<String>),
    /// `LABEL`: keys and values.
    Label(Vec<(String, String)>),
    /// `STOPSIGNAL`: a signal's name or number.
    StopSignal(String),
    /// `USER`: `USER[:GROUP]`.
    User(String),
    /// `VOLUME`: absolute paths.
    Volume(Vec<String>),
    /// `WORKDIR`: a path; a relative one is below the working directory so far.
    WorkingDir(String),
}

/// Why a text is no instruction; whole in one line, because command line parsers print no causes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InstructionError(String);

impl FromStr for Instruction {
    type Err = InstructionError;

    fn from_str(text: &str) -> Result<Self, InstructionError> {
        parse(text.trim()).map_err(|err| InstructionError(format!("{err:#}")))
    }
}

fn parse(text: &str) -> anyhow::Result<Instruction> {
    // Podman also takes 'CMD=…'.
    let end = text.find(|c: char| c.is_whitespace() || c == '=');
    let (keyword, rest) = text.split_at(end.unwrap_or(text.len()));
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim();
    ensure!(!text.contains('\0'), "it holds a NUL");
    let one = || -> anyhow::Result<String> {
        ensure!(!rest.is_empty(), "a value is missing");
        Ok(rest.to_owned())
    };
    Ok(match keyword.to_ascii_uppercase().as_str() {
        "CMD" => Instruction::Cmd(command(rest)?),
        "ENTRYPOINT" => Instruction::Entrypoint(command(rest)?),
        "ENV" => Instruction::Env(pairs(rest)?),
        "LABEL" => Instruction::Label(pairs(rest)?),
        "EXPOSE" => Instruction::Expose(ports(rest)?),
        "VOLUME" => Instruction::Volume(volumes(rest)?),
        "STOPSIGNAL" => Instruction::StopSignal(checked("StopSignal", one()?)?),
        "USER" => Instruction::User(checked("User", one()?)?),
        "WORKDIR" => {
            let path = one()?;
            ensure!(!path.chars().any(char::is_control), "a control character");
            Instruction::WorkingDir(path)
        }
        other => bail!(
            "'{}' is none of CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR",
            other.escape_debug()
        ),
    })
}

fn checked(key: &str, value: String) -> anyhow::Result<String> {
    check_value(key, &value)?;
    Ok(value)
}

/// Checks a value of a config that must fit on a line, by the grammar of its key.
pub fn check_value(key: &str, value: &str) -> anyhow::Result<()> {
    let valid = match key {
        "WorkingDir" | "Volumes" => value.starts_with('/'),
        "StopSignal" => value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-')),
        "ExposedPorts" => is_port(value),
        _ => true,
    };
    if !valid || value.chars().any(char::is_control) {
        bail!("key '{key}' has a bad value '{}'", value.escape_debug());
    }
    Ok(())
}

/// `PORT[-PORT][/PROTOCOL]`.
fn is_port(value: &str) -> bool {
    let (ports, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    let protocol = protocol.to_ascii_lowercase();
    matches!(protocol.as_str(), "tcp" | "udp" | "sctp")
        && matches!((number(first), number(last)), (Some(a), Some(b)) if a <= b)
}

/// A JSON list of words, or a line for the container's shell.
fn command(text: &str) -> anyhow::Result<Vec<String>> {
    if text.starts_with('[') {
        return json_list(text);
    }
    Ok(match text {
        "" => Vec::new(),
        line => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()],
    })
}

fn json_list(text: &str) -> anyhow::Result<Vec<String>> {
    let list: Vec<String> = serde_json::from_str(text)
        .map_err(|err| anyhow!("it begins with '[', but is no JSON list of strings: {err}"))?;
    ensure!(!list.iter().any(|word| word.contains('\0')), "a NUL");
    Ok(list)
}

/// `KEY=VALUE…`, or `KEY VALUE` with the rest of the line for a value.
fn pairs(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    let first = text.split(char::is_whitespace).next().unwrap_or_default();
    if !first.contains('=') {
        let (key, value) = text
            .split_once(char::is_whitespace)
            .context("it needs KEY=VALUE")?;
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    words(text)?
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            Some(_) | None => bail!("'{}' is not KEY=VALUE", word.escape_debug()),
        })
        .collect()
}

fn ports(text: &str) -> anyhow::Result<Vec<String>> {
    let ports = words(text)?;
    ensure!(!ports.is_empty(), "a port is missing");
    let full = |port: String| match port.contains('/') {
        true => port.to_ascii_lowercase(),
        false => format!("{port}/tcp"),
    };
    ports
        .into_iter()
        .map(|port| checked("ExposedPorts", full(port)))
        .collect()
}

fn volumes(text: &str) -> anyhow::Result<Vec<String>> {
    let paths = match text.starts_with('[') {
        true => json_list(text)?,
        false => words(text)?,
    };
    ensure!(!paths.is_empty(), "a path is missing");
    paths
        .into_iter()
        .map(|path| checked("Volumes", path))
        .collect()
}

/// Splits at blanks. Quotes keep blanks, a backslash keeps the character behind it; between single
/// quotes a backslash is one.
fn words(text: &str) -> anyhow::Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = rest.next().context("it ends with a backslash")?;
                word.get_or_insert_default().push(next);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    ensure!(quote.is_none(), "a quote is not closed");
    words.extend(word);
    Ok(words)
}

/// Applies instructions, in order, to a config document.
///
/// # Errors
///
/// The document is no config, or is none any more.
pub fn apply(
    instructions: &[Instruction],
    document: &mut Map<String, Value>,
) -> anyhow::Result<()> {
    let slot = document.entry("config").or_insert(Value::Null);
    if slot.is_null() {
        *slot = json!({});
    }
    let config = slot
        .as_object_mut()
        .context("the key 'config' of the image's config is no object")?;
    let is_cmd = |instruction: &Instruction| matches!(instruction, Instruction::Cmd(_));
    let has_cmd = instructions.iter().any(is_cmd);
    for instruction in instructions {
        match instruction {
            Instruction::Cmd(words) => set(config, "Cmd", json!(words)),
            Instruction::Entrypoint(words) => {
                set(config, "Entrypoint", json!(words));
                if !has_cmd {
                    config.remove("Cmd");
                }
            }
            Instruction::Env(variables) => set_variables(config, variables)?,
            Instruction::Label(labels) => {
                let labels = labels.iter().map(|(key, value)| (key, json!(value)));
                insert(config, "Labels", labels)?;
            }
            Instruction::Expose(ports) => {
                let ports = ports.iter().map(|port| (port, json!({})));
                insert(config, "ExposedPorts", ports)?;
            }
            Instruction::Volume(paths) => {
                insert(
                    config,
                    "Volumes",
                    paths.iter().map(|path| (path, json!({}))),
                )?;
            }
            Instruction::StopSignal(signal) => set(config, "StopSignal", json!(signal)),
            Instruction::User(user) => set(config, "User", json!(user)),
            Instruction::WorkingDir(path) => {
                let so_far = config.get("WorkingDir").and_then(Value::as_str);
                let joined = match (path.strip_prefix('/'), so_far) {
                    (Some(_), _) => path.clone(),
                    (None, None | Some("")) => format!("/{path}"),
                    (None, Some(dir)) => format!("{}/{path}", dir.trim_end_matches('/')),
                };
                set(config, "WorkingDir", json!(joined));
            }
        }
    }
    Ok(())
}

fn set(config: &mut Map<String, Value>, key: &str, value: Value) {
    config.insert(key.to_owned(), value);
}

/// Replaces variables where they are, and appends new ones.
fn set_variables(
    config: &mut Map<String, Value>,
    variables: &[(String, String)],
) -> anyhow::Result<()> {
    let mut env: Vec<String> = match config.get("Env") {
        None | Some(Value::Null) => Vec::new(),
        Some(list) => serde_json::from_value(list.clone()).context("reading the image's 'Env'")?,
    };
    for (name, value) in variables {
        let prefix = format!("{name}=");
        let variable = format!("{prefix}{value}");
        match env.iter_mut().find(|old| old.starts_with(&prefix)) {
            Some(old) => *old = variable,
            None => env.push(variable),
        }
    }
    set(config, "Env", json!(env));
    Ok(())
}

fn insert<'a>(
    config: &mut Map<String, Value>,
    key: &str,
    values: impl Iterator<Item = (&'a String, Value)>,
) -> anyhow::Result<()> {
    let mut all: BTreeMap<String, Value> = match config.get(key) {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(old) => serde_json::from_value(old.clone())
            .with_context(|| format!("reading the image's '{key}'"))?,
    };
    all.extend(values.map(|(name, value)| (name.clone(), value)));
    set(config, key, json!(all));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn grammar() {
        use Instruction as I;
        for (text, expected) in [
            (r#"CMD ["a", "b c"]"#, I::Cmd(list(&["a", "b c"]))),
            (
                "cmd echo $HOME",
                I::Cmd(list(&["/bin/sh", "-c", "echo $HOME"])),
            ),
            ("CMD=/bin/sh", I::Cmd(list(&["/bin/sh", "-c", "/bin/sh"]))),
            ("CMD", I::Cmd(Vec::new())),
            ("ENTRYPOINT []", I::Entrypoint(Vec::new())),
            ("ENV A=b", I::Env(vec![pair("A", "b")])),
            ("ENV=A=b", I::Env(vec![pair("A", "b")])),
            (
                r#"ENV A="b c" D=e\ f G='h\' I="#,
                I::Env(vec![
                    pair("A", "b c"),
                    pair("D", "e f"),
                    pair("G", r"h\"),
                    pair("I", ""),
                ]),
            ),
            ("ENV A b  c ", I::Env(vec![pair("A", "b  c")])),
            ("LABEL x.y=\"z=1\"", I::Label(vec![pair("x.y", "z=1")])),
            (
                "EXPOSE 80 443/UDP 1-2/tcp",
                I::Expose(list(&["80/tcp", "443/udp", "1-2/tcp"])),
            ),
            (r#"VOLUME ["/a b", "/c"]"#, I::Volume(list(&["/a b", "/c"]))),
            ("VOLUME /a /b", I::Volume(list(&["/a", "/b"]))),
            (
                "STOPSIGNAL SIGRTMIN+3",
                I::StopSignal("SIGRTMIN+3".to_owned()),
            ),
            ("USER 1000:1000", I::User("1000:1000".to_owned())),
            ("\tWORKDIR\t/srv ", I::WorkingDir("/srv".to_owned())),
        ] {
            assert_eq!(text.parse::<I>().unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_instruction_is_refused() {
        for text in [
            "",
            "RUN x",
            "CMDx y",
            "CMD [1]",
            "CMD ['a']",
            r#"ENTRYPOINT ["a""#,
            "ENV",
            "ENV A",
            "ENV =b",
            "ENV A=b c",
            r#"ENV A="b"#,
            r"ENV A=b\",
            "EXPOSE",
            "EXPOSE 0x1",
            "EXPOSE 99999/xyz",
            "VOLUME",
            "VOLUME rel",
            "STOPSIGNAL SIGKILL;x",
            "USER",
            "USER a\nb",
            "WORKDIR",
            "WORKDIR /a\x1bb",
            "CMD a\0b",
            r#"CMD ["\u0000"]"#,
        ] {
            assert!(text.parse::<Instruction>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn applying_keeps_what_is_unknown() {
        let mut document: Map<String, Value> = serde_json::from_value(json!({
            "architecture": "amd64", "x-unknown": 1,
            "config": {"Env": ["PATH=/bin", "A=1"], "Cmd": ["old"], "Unknown": true,
                       "WorkingDir": "/srv/", "Labels": null, "ExposedPorts": {"80/tcp": {}}},
        }))
        .unwrap();
        let changes: Vec<Instruction> = [
            "ENV A=2 B=3",
            "ENTRYPOINT [\"/init\"]",
            "LABEL a=b",
            "EXPOSE 53/udp",
            "VOLUME /data",
            "WORKDIR www",
            "USER www",
            "STOPSIGNAL QUIT",
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        apply(&changes, &mut document).unwrap();
        let expected = json!({
            "architecture": "amd64", "x-unknown": 1,
            "config": {"Env": ["PATH=/bin", "A=2", "B=3"], "Entrypoint": ["/init"], "Unknown": true,
                       "WorkingDir": "/srv/www", "Labels": {"a": "b"}, "User": "www",
                       "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/data": {}},
                       "StopSignal": "QUIT"},
        });
        assert_eq!(Value::Object(document.clone()), expected);
        let both = ["ENTRYPOINT a", "CMD [\"b\"]"].map(|text| text.parse().unwrap());
        apply(&both, &mut document).unwrap();
        assert_eq!(document["config"]["Cmd"], json!(["b"]));
        let mut empty = Map::new();
        apply(&both, &mut empty).unwrap();
        assert_eq!(empty["config"]["Cmd"], json!(["b"]));
    }
}
