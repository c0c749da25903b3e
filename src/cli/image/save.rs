// SPDX-License-Identifier: Apache-2.0
//! `wharf image save`: images as an archive or a directory.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cli::Context;
use crate::cli::exit::{Exit, ExitStatus};
use crate::engine::images::archives::{self, Selection};

/// Write images to an archive or a directory, for 'image load', docker, podman and skopeo
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// References, or ids to save an image without a name
    #[arg(value_name = "REF", required = true)]
    images: Vec<String>,
    /// The archive's or the directory's name; without it, the archive goes to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What to write; only oci-archive and oci-dir keep the image's digest
    #[arg(long, value_enum, default_value_t = Format::OciArchive)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A tar archive of an OCI image layout
    OciArchive,
    /// What 'docker load' reads
    DockerArchive,
    /// An OCI image layout in a new directory
    OciDir,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let output = args
        .output
        .as_deref()
        .filter(|path| *path != Path::new("-"));
    if output.is_none() && args.format == Format::OciDir {
        return Err(Exit::usage("a directory needs a name; give one with '--output'").into());
    }
    if output.is_none() && io::stdout().is_terminal() {
        return Err(Exit::usage(
            "standard output is a terminal; redirect it or give a file with '--output'",
        )
        .into());
    }
    let images = Selection::find(paths, &args.images)?;
    let format = match args.format {
        Format::OciArchive => archives::Format::Oci,
        Format::DockerArchive => archives::Format::Docker,
        Format::OciDir => {
            let dir = output.unwrap_or(Path::new("."));
            images.write_dir(dir).with_context(|| saving(dir))?;
            return Ok(ExitStatus::Success);
        }
    };
    match output {
        Some(path) => write_file(&images, format, path).with_context(|| saving(path))?,
        None => {
            let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
            write(&images, format, file).context("saving to standard output")?;
        }
    }
    Ok(ExitStatus::Success)
}

fn saving(path: &Path) -> String {
    format!("saving to '{}'", path.display())
}

fn write(images: &Selection, format: archives::Format, file: File) -> anyhow::Result<File> {
    let mut out = BufWriter::with_capacity(1 << 18, file);
    images.write(format, &mut out)?;
    out.flush()?;
    Ok(out.into_inner()?)
}

/// The file is there as a whole or not at all; a device or a FIFO is written to as it is.
fn write_file(images: &Selection, format: archives::Format, path: &Path) -> anyhow::Result<()> {
    // A link to a file leads to where the archive belongs.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let is_special = std::fs::metadata(&path).is_ok_and(|found| !found.is_file());
    if is_special {
        let file = OpenOptions::new().write(true).open(&path)?;
        write(images, format, file)?;
        return Ok(());
    }
    let mut name = std::ffi::OsString::from(".#");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let staged = path.with_file_name(name);
    let written = || -> anyhow::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&staged)?;
        write(images, format, file)?.sync_all()?;
        Ok(std::fs::rename(&staged, &path)?)
    };
    let result = written();
    if result.is_err() {
        // The first error is the one to report.
        drop(std::fs::remove_file(&staged));
    }
    result
}
