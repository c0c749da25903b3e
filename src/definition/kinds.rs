// SPDX-License-Identifier: Apache-2.0
//! The kinds of definitions. A new one is a file here with a line in [`ALL`], and a file in
//! `generator/` for its units.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::definition::graph;
use crate::definition::kind::{Kind as _, KindInfo};
use crate::definition::kinds::container::Definition;
use crate::definition::kinds::image::ImageDefinition;
use crate::definition::load::check::{Checked, check};
use crate::definition::load::{Effective, LoadError, load_effective};
use crate::definition::schema::render_schema;
use crate::name::ContainerName;
use crate::paths::Paths;

pub mod container;
pub mod image;

/// What commands do with any kind.
#[derive(Debug)]
pub struct AnyKind {
    /// Names and places.
    pub info: &'static KindInfo,
    /// Reads what holds for a definition and where each of it was set.
    pub effective: fn(&Paths, &ContainerName) -> Result<Effective, LoadError>,
    /// Checks some definitions, or all of them and files that are none.
    pub check: fn(&Paths, &[ContainerName]) -> Checked,
    /// Makes the JSON Schema.
    pub schema: fn() -> Value,
}

/// Every kind; what names none means the first.
pub static ALL: [AnyKind; 2] = [
    AnyKind {
        info: Definition::INFO,
        effective: load_effective::<Definition>,
        check: |paths, names| check::<Definition>(paths, names, graph::between),
        schema: render_schema::<Definition>,
    },
    AnyKind {
        info: ImageDefinition::INFO,
        effective: load_effective::<ImageDefinition>,
        check: |paths, names| check::<ImageDefinition>(paths, names, |_, _| Vec::new()),
        schema: render_schema::<ImageDefinition>,
    },
];

/// The kind of a word.
///
/// # Errors
///
/// There is none; the message says which there are.
pub fn kind_of(word: &str) -> Result<&'static AnyKind, String> {
    let found = ALL.iter().find(|kind| kind.info.word == word);
    found.ok_or_else(|| {
        let words: Vec<_> = ALL.iter().map(|kind| kind.info.word).collect();
        format!(
            "there is no kind '{word}' of definitions; there are {}",
            words.join(", ")
        )
    })
}

/// A definition as commands take it: `NAME` for a container, or `KIND/NAME`.
#[derive(Debug, Clone)]
pub struct Designation {
    /// Its kind.
    pub kind: &'static AnyKind,
    /// Its name.
    pub name: ContainerName,
}

impl FromStr for Designation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once('/').unwrap_or(("container", text));
        let name = name.parse().map_err(|err| format!("{err}"))?;
        Ok(Self {
            kind: kind_of(kind)?,
            name,
        })
    }
}

impl fmt::Display for Designation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.info.word, self.name)
    }
}
