// SPDX-License-Identifier: Apache-2.0
//! What a verb reads where its file is `-`: standard input, which must not be a terminal.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;

use super::exit::Exit;

/// Standard input as a file; `instead` says what to do when it is a terminal.
///
/// # Errors
///
/// It is a terminal.
pub(super) fn stdin(instead: &str) -> anyhow::Result<File> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Exit::usage(format!("standard input is a terminal; {instead}")).into());
    }
    Ok(File::from(stdin.as_fd().try_clone_to_owned()?))
}
