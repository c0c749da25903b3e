// SPDX-License-Identifier: Apache-2.0
//! JSON of `check` and `cat`.

use std::borrow::Cow;
use std::path::Path;

use serde::Serialize;
use toml::Value;

use crate::definition::kinds::Designation;
use crate::definition::load::Effective;
use crate::definition::merge::Setting;
use crate::definition::problem::{Problem, serialize_path};
use crate::engine::view::check::Report;
use crate::name::ContainerName;

/// What `check --json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Checked<'r> {
    /// Version of this document; keys are added, never removed.
    schema: u32,
    /// Containers that were looked at, sorted.
    checked: Vec<&'r ContainerName>,
    /// Definitions of all kinds that were looked at.
    definitions: Vec<Name<'r>>,
    /// What is wrong, files in the order they are merged in.
    problems: &'r [Problem],
}

/// A definition's name.
#[derive(Debug, Serialize)]
struct Name<'r> {
    /// The word of its kind.
    kind: &'static str,
    /// Its name.
    name: &'r ContainerName,
}

impl<'r> Checked<'r> {
    pub(crate) fn new(report: &'r Report) -> Self {
        let definitions = report.checked.iter();
        let definitions = definitions.map(|(kind, name)| Name { kind, name });
        let containers = report.checked.iter();
        let containers = containers.filter(|(kind, _)| *kind == "container");
        Self {
            schema: super::SCHEMA,
            checked: containers.map(|(_, name)| name).collect(),
            definitions: definitions.collect(),
            problems: &report.problems,
        }
    }
}

/// What `cat --json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'d> {
    /// Version of this document; keys are added, never removed.
    schema: u32,
    /// The word of the definition's kind.
    kind: &'static str,
    /// Its name.
    name: &'d ContainerName,
    /// Every file that was merged, in order.
    sources: Vec<Cow<'d, str>>,
    /// Every key and map entry that is set.
    settings: Vec<Item<'d>>,
    /// What is wrong; empty for a valid definition.
    problems: &'d [Problem],
}

/// A key or map entry that is set.
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

impl<'d> Document<'d> {
    pub(crate) fn new(definition: &'d Designation, effective: &'d Effective) -> Self {
        let sources = effective.sources.iter().map(|path| path.to_string_lossy());
        Self {
            schema: super::SCHEMA,
            kind: definition.kind.info.word,
            name: &definition.name,
            sources: sources.collect(),
            settings: effective.settings.iter().map(Item::new).collect(),
            problems: &effective.problems,
        }
    }
}

impl<'d> Item<'d> {
    fn new(setting: &'d Setting) -> Self {
        Self {
            key: match setting.table {
                "" => setting.name.to_owned(),
                table => format!("{table}.{}", setting.name),
            },
            entry: setting.part.as_deref(),
            value: &setting.value,
            file: &setting.file,
            line: setting.line,
        }
    }
}
