// SPDX-License-Identifier: Apache-2.0
//! `wharf cat`: the merged definition, with the place each value comes from.

use std::fmt::Write as _;

use super::Context;
use super::exit::{Exit, ExitStatus};
use super::output;
use super::terminal::{Out, escape};
use crate::definition::kinds::Designation;
use crate::definition::load::{Effective, LoadError};
use crate::definition::merge::Setting;

/// Print a merged definition, with the origin of every value
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON document instead of TOML
    #[arg(long)]
    json: bool,
    /// The container, or KIND/NAME for a definition of another kind, such as image/web
    #[arg(value_name = "NAME")]
    name: Designation,
}

/// Prints the definition. An invalid one is printed too, its problems as comments, with status 1.
///
/// # Errors
///
/// There is no such definition, it is masked, or standard output cannot be written.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let Designation { kind, name } = &args.name;
    let effective = (kind.effective)(paths, name).map_err(|err| Exit {
        status: match err {
            LoadError::Undefined { .. } => ExitStatus::NoSuchContainer,
            LoadError::Masked { .. } | LoadError::Invalid { .. } => ExitStatus::Failure,
        },
        message: err.to_string(),
    })?;
    let mut out = Out::stdout();
    if args.json {
        let document = output::definition::Document::new(&args.name, &effective);
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
