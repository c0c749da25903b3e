// SPDX-License-Identifier: Apache-2.0
//! Where an archive or an artifact goes: standard output, which must not be a terminal, or a file
//! that is there as a whole or not at all.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::exit::Exit;

/// What makes the archive.
pub(super) type Make<'a, T> = &'a mut dyn FnMut(&mut dyn Write) -> anyhow::Result<T>;

/// Gives `make` what `--output` names; without it, or with `-`, that is standard output.
pub(super) fn write<T>(output: Option<&Path>, make: Make<'_, T>) -> anyhow::Result<T> {
    match output.filter(|path| *path != Path::new("-")) {
        None => to_stdout(make),
        Some(path) => to_file(path, make).with_context(|| format!("writing '{}'", path.display())),
    }
}

/// As [`write()`] without a file.
pub(super) fn to_stdout<T>(make: Make<'_, T>) -> anyhow::Result<T> {
    if io::stdout().is_terminal() {
        return Err(Exit::usage(
            "standard output is a terminal, which this is nothing for; redirect it or name a file",
        )
        .into());
    }
    fill(File::from(io::stdout().as_fd().try_clone_to_owned()?), make).map(|(made, _)| made)
}

fn fill<T>(file: File, make: Make<'_, T>) -> anyhow::Result<(T, File)> {
    let mut out = BufWriter::with_capacity(1 << 18, file);
    let made = make(&mut out)?;
    out.flush()?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok((made, file))
}

fn to_file<T>(path: &Path, make: Make<'_, T>) -> anyhow::Result<T> {
    // A link to a file leads to where the archive belongs.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    // A device or a FIFO is written to as it is.
    if std::fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
        let file = OpenOptions::new().write(true).open(&path)?;
        return fill(file, make).map(|(made, _)| made);
    }
    let staged = staged_name(&path);
    let mut written = || -> anyhow::Result<T> {
        // Files of a container may be secret, and its archive is as secret as they are.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&staged)?;
        let (made, file) = fill(file, make)?;
        file.sync_all()?;
        std::fs::rename(&staged, &path)?;
        Ok(made)
    };
    let result = written();
    if result.is_err() {
        // The first error is the one to report.
        drop(std::fs::remove_file(&staged));
    }
    result
}

fn staged_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(".#");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    path.with_file_name(name)
}
