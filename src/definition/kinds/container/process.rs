// SPDX-License-Identifier: Apache-2.0
//! Keys of the container's first process.

use std::collections::BTreeMap;

use crate::definition::Definition;
use crate::definition::keys::{ABSOLUTE_PATH, Form, Key, Takes, push, put_some};
use crate::definition::value::text;
use crate::definition::value::{EnvFile, GroupRef, UserRef};

/// The container's first process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// `command`: replaces the image's `Cmd`.
    pub command: Option<Vec<String>>,
    /// `entrypoint`: replaces the image's `Entrypoint` and drops its `Cmd`. An empty list means
    /// no entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// `environment`. Keys hold no '=' and neither keys nor values hold NUL.
    pub environment: BTreeMap<String, String>,
    /// `env_file`: read at start, later ones win, `environment` wins over all.
    pub env_files: Vec<EnvFile>,
    /// `user`: `USER[:GROUP]`, names or numbers. Defaults to the image's, then root.
    pub user: Option<UserRef>,
    /// `group_add`: supplementary groups.
    pub group_add: Vec<GroupRef>,
    /// `working_dir`: absolute, in the container. Defaults to the image's, then `/`.
    pub working_dir: Option<String>,
    /// `tty`: a terminal for the process, its master held by the relay. Defaults to false.
    pub tty: bool,
    /// `stdin`: keep standard input open instead of /dev/null. Defaults to false.
    pub stdin: bool,
    /// `init`: run a small init as PID 1 that reaps and forwards signals. Defaults to false.
    pub init: bool,
}

pub(super) static KEYS: &[Key<Definition>] = &[
    Key {
        table: "",
        name: "command",
        takes: Takes::Command(|d, words| d.process.command = Some(words)),
        default: "the image's",
        doc: "Arguments of the entrypoint, or the program and its arguments if there is no entrypoint.",
    },
    Key {
        table: "",
        name: "entrypoint",
        takes: Takes::Command(|d, words| d.process.entrypoint = Some(words)),
        default: "the image's",
        doc: "The program and its first arguments; an empty list stands for none.",
    },
    Key {
        table: "",
        name: "environment",
        takes: Takes::Map(
            Form {
                words: "a string or number",
                pattern: "",
            },
            |d, key, value| {
                text::check_variable_name(key)?;
                text::check_argument(value)?;
                if key.len() + value.len() + 2 > text::ARGUMENT_MAX_BYTES {
                    return Err("name and value are longer than 131070 bytes together".to_owned());
                }
                d.process
                    .environment
                    .insert(key.to_owned(), value.to_owned());
                Ok(())
            },
        ),
        default: "none",
        doc: "Environment variables of the process.",
    },
    Key {
        table: "",
        name: "env_file",
        takes: Takes::Texts(
            Form {
                words: "an absolute path, with a '-' before it if the file may be absent",
                pattern: "^-?/",
            },
            |d, s| push(&mut d.process.env_files, s),
        ),
        default: "none",
        doc: "Files of KEY=VALUE lines, read at start; later ones win, environment wins over all.",
    },
    Key {
        table: "",
        name: "user",
        takes: Takes::Scalar(
            Form {
                words: "USER or USER:GROUP, names or numbers",
                pattern: "^[A-Za-z0-9_][A-Za-z0-9_.-]*\\$?(:[A-Za-z0-9_][A-Za-z0-9_.-]*\\$?)?$",
            },
            |d, s| put_some(&mut d.process.user, s),
        ),
        default: "the image's, else to root",
        doc: "The user, and the group, of the process; names are looked up in the container.",
    },
    Key {
        table: "",
        name: "group_add",
        takes: Takes::Texts(
            Form {
                words: "a group, by name or number",
                pattern: "^[A-Za-z0-9_][A-Za-z0-9_.-]*\\$?$",
            },
            |d, s| push(&mut d.process.group_add, s),
        ),
        default: "none",
        doc: "Supplementary groups; names are looked up in the container.",
    },
    Key {
        table: "",
        name: "working_dir",
        takes: Takes::Text(ABSOLUTE_PATH, |d, s| {
            d.process.working_dir = Some(text::parse_working_dir(s)?);
            Ok(())
        }),
        default: "the image's, else to /",
        doc: "The directory in the container that the process starts in.",
    },
    Key {
        table: "",
        name: "tty",
        takes: Takes::Bool(|d, on| d.process.tty = on),
        default: "false",
        doc: "Whether the process gets a terminal, held by the relay.",
    },
    Key {
        table: "",
        name: "stdin",
        takes: Takes::Bool(|d, on| d.process.stdin = on),
        default: "false",
        doc: "Whether standard input is kept open instead of being /dev/null.",
    },
    Key {
        table: "",
        name: "init",
        takes: Takes::Bool(|d, on| d.process.init = on),
        default: "false",
        doc: "Whether a small init runs as PID 1, to reap processes and pass on signals.",
    },
];
