// SPDX-License-Identifier: Apache-2.0
//! `wharf cat`: the merged definition, with the place each value comes from.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use toml::Value;

use super::Context;
use super::exit::{Exit, ExitStatus};
use super::terminal::{Out, escape};
use crate::definition::load::{Effective, LoadError, load_effective};
use crate::definition::merge::Setting;
use crate::definition::problem::{Problem, serialize_path};
use crate::name::ContainerName;

/// Print the merged definition of a container, with the origin of every value
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON document instead of TOML
    #[arg(long)]
    json: bool,
    /// The container
    #[arg(value_name = "NAME")]
    name: ContainerName,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document<'d> {
    /// Version of this document; keys are added, never removed.
    schema: u32,
    /// The container.
    name: &'d ContainerName,
    /// Every file that was merged, in order.
    sources: Vec<Cow<'d, str>>,
    /// Every key and map entry that is set.
    settings: Vec<Item<'d>>,
    /// What is wrong; empty for a valid definition.
    problems: &'d [Problem],
}

#[derive(Debug, Serialize)]
struct Item<'d> {
    /// The key with its table, such as `log.driver`.
    key: String,
    /// The entry of a key that is a map, else null.
    entry: Option<&'d str>,
    /// The value as written, with `%i` replaced.
    value: &'d Value,
    /// The file that set it.
    #[serde(serialize_with = "serialize_path")]
    file: &'d Path,
    /// The line.
    line: u32,
}

/// Prints the definition. An invalid one is printed too, its problems as comments, with status 1.
///
/// # Errors
///
/// There is no such container, it is masked, or standard output cannot be written.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let effective = load_effective(paths, &args.name).map_err(|err| Exit {
        status: match err {
            LoadError::Undefined { .. } => ExitStatus::NoSuchContainer,
            LoadError::Masked { .. } | LoadError::Invalid { .. } => ExitStatus::Failure,
        },
        message: err.to_string(),
    })?;
    let mut out = Out::stdout();
    if args.json {
        let document = document(&args.name, &effective);
        out.json(&document)?;
    } else {
        let text = render(&effective);
        for line in text.lines() {
            match out.is_terminal() {
                true => out.line(&escape(line))?,
                false => out.line(line)?,
            }
        }
    }
    out.flush()?;
    Ok(if effective.problems.is_empty() {
        ExitStatus::Success
    } else {
        ExitStatus::Failure
    })
}

fn document<'d>(name: &'d ContainerName, effective: &'d Effective) -> Document<'d> {
    let item = |setting: &'d Setting| Item {
        key: match setting.table {
            "" => setting.name.to_owned(),
            table => format!("{table}.{}", setting.name),
        },
        entry: setting.part.as_deref(),
        value: &setting.value,
        file: &setting.file,
        line: setting.line,
    };
    Document {
        schema: 1,
        name,
        sources: effective
            .sources
            .iter()
            .map(|path| path.to_string_lossy())
            .collect(),
        settings: effective.settings.iter().map(item).collect(),
        problems: &effective.problems,
    }
}

/// TOML that means the same as the files together and can be read back.
fn render(effective: &Effective) -> String {
    let mut text = String::new();
    for problem in &effective.problems {
        push_line(&mut text, &format!("# wrong: {problem}"));
    }
    for source in &effective.sources {
        push_line(
            &mut text,
            &format!("# {}", escape(&source.to_string_lossy())),
        );
    }
    let top = |setting: &&Setting| setting.table.is_empty() && setting.part.is_none();
    for setting in effective.settings.iter().filter(top) {
        push_setting(&mut text, setting.name, setting);
    }
    let mut table = "";
    for setting in effective.settings.iter().filter(|setting| !top(setting)) {
        let (of_setting, name) = match &setting.part {
            Some(part) => (setting.name, part.as_str()),
            None => (setting.table, setting.name),
        };
        if of_setting != table {
            table = of_setting;
            push_line(&mut text, &format!("\n[{table}]"));
        }
        push_setting(&mut text, name, setting);
    }
    text
}

fn push_setting(text: &mut String, name: &str, setting: &Setting) {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let name = if !name.is_empty() && name.bytes().all(bare) {
        name.to_owned()
    } else {
        quote_key(name)
    };
    let file = escape(&setting.file.to_string_lossy()).into_owned();
    let value = &setting.value;
    push_line(text, &format!("{name} = {value} # {file}:{}", setting.line));
}

/// A key as a basic string, whatever it holds.
fn quote_key(name: &str) -> String {
    let mut quoted = String::from("\"");
    for c in name.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                // Writing to a string cannot fail.
                let _ignored: std::fmt::Result = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
