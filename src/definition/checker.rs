// SPDX-License-Identifier: Apache-2.0
//! How a kind reports what is wrong between several keys of one definition.

use std::path::Path;

use crate::definition::merge::Merged;
use crate::definition::problem::{Problem, Problems, escape};

/// Reports what is wrong between keys.
#[derive(Debug)]
pub struct Checker<'c, 'e, D: 'static> {
    /// The file that defines it, drop-ins aside.
    pub(crate) base: Option<&'c Path>,
    /// What the files set.
    pub(crate) merged: &'c Merged<'e, D>,
    /// What is wrong.
    pub(crate) problems: &'c mut Problems,
}

impl<D> Checker<'_, '_, D> {
    /// Reports `message` at a key; it may name the place of another with [`Self::place`].
    pub(crate) fn report(&mut self, table: &'static str, name: &'static str, message: &str) {
        if let Some(entry) = self.merged.get(table, name) {
            let path = entry.key.path();
            self.problems.push(entry.source, entry.key_at, &path, || {
                format!("{path}: {message}")
            });
        }
    }

    /// `KEY (FILE:LINE)`, for messages.
    pub(crate) fn place(&self, table: &'static str, name: &'static str) -> String {
        match self.merged.get(table, name) {
            Some(entry) => format!(
                "{} ({}:{})",
                entry.key.path(),
                escape(&entry.source.path().to_string_lossy()),
                entry.source.line(entry.key_at)
            ),
            None => name.to_owned(),
        }
    }

    /// Reports that a key which has to be there is not. With something else wrong, it may be there
    /// and only be misspelt, so then nothing is said.
    pub(crate) fn report_missing(&mut self, key: &str, message: &str) {
        if let (true, Some(base)) = (self.problems.is_empty(), self.base) {
            let mut problem = Problem::of_file(base, message);
            key.clone_into(&mut problem.key);
            self.problems.add(problem);
        }
    }
}
