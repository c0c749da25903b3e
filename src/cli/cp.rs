// SPDX-License-Identifier: Apache-2.0
//! `wharf cp`: files into containers and out of them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::exit::{Exit, ExitStatus};
use super::{Context, infile, jobs, outfile};
use crate::engine::files::copy::{self, Links};
use crate::engine::files::transfer::{self, End, Owners};

const EXAMPLES: &str = "\
Examples:
  wharf cp nginx.conf web:/etc/nginx/       into a directory
  wharf cp web:/var/log/. logs              what is in a directory
  wharf cp web:/srv - | gzip >srv.tar.gz    as a tar stream";

/// Copy files into a container, out of one, or between two
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// NAME:PATH in a container, a path of the host, or '-' for a tar stream. 'DIR/.' is what is in
    /// DIR
    #[arg(value_name = "SOURCE")]
    source: OsString,
    /// As SOURCE. A directory gets the source in it; else it is what the source will be called
    #[arg(value_name = "DESTINATION")]
    destination: OsString,
    /// Keep owners, setuid bits and extended attributes, copy devices and FIFOs
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link leads to, if SOURCE is one
    #[arg(short = 'L', long)]
    follow_link: bool,
}

/// Copies.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let links = match args.follow_link {
        true => Links::Follow,
        false => Links::Keep,
    };
    let owners = match args.archive {
        true => Owners::Archive,
        false => Owners::Caller,
    };
    let ends = (parse(&args.source)?, parse(&args.destination)?);
    let warnings = match ends {
        (Some(End::Host(_)), Some(End::Host(_)))
        | (None, Some(End::Host(_)) | None)
        | (Some(End::Host(_)), None) => {
            return Err(Exit::usage("one of the two must be in a container: NAME:PATH").into());
        }
        (Some(from), Some(to)) => transfer::copy(paths, &from, &to, links, owners),
        (Some(from), None) => {
            outfile::to_stdout(&mut |out| transfer::send(paths, &from, links, out))
        }
        (None, Some(to)) => transfer::receive(paths, infile::stdin("redirect it")?, &to),
    };
    let warnings = warnings.map_err(|err| match copy::is_read_only(&err) {
        true => err.context("the destination is mounted read-only"),
        false => err,
    })?;
    jobs::warn(&warnings.texts, warnings.count);
    Ok(ExitStatus::Success)
}

/// An end as it was written; none for a stream. A path of the host with a ':' in it needs a '/' or a
/// '.' at its beginning.
fn parse(text: &OsStr) -> Result<Option<End>, Exit> {
    let bytes = text.as_bytes();
    if bytes == b"-" {
        return Ok(None);
    }
    let colon = bytes.iter().position(|byte| *byte == b':');
    let colon = colon.filter(|_| !bytes.starts_with(b"/") && !bytes.starts_with(b"."));
    let Some((name, path)) = colon.and_then(|at| bytes.split_at_checked(at)) else {
        return Ok(Some(End::Host(text.to_owned())));
    };
    let path = OsStr::from_bytes(path.get(1..).unwrap_or_default());
    let name = String::from_utf8_lossy(name);
    match name.parse() {
        Ok(name) => Ok(Some(End::Container(name, path.to_owned()))),
        Err(err) => Err(Exit::usage(format!(
            "{err}; write './{}' for a file of the host",
            text.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        let container = |name: &str, path: &str| {
            Some(End::Container(name.parse().unwrap(), OsString::from(path)))
        };
        let host = |path: &str| Some(End::Host(OsString::from(path)));
        for (text, expected) in [
            ("-", None),
            ("web:/etc", container("web", "/etc")),
            ("web:", container("web", "")),
            ("web:a:b", container("web", "a:b")),
            ("./web:/etc", host("./web:/etc")),
            ("/web:/etc", host("/web:/etc")),
            ("../web:x", host("../web:x")),
            ("file", host("file")),
            ("", host("")),
        ] {
            assert_eq!(parse(OsStr::new(text)).unwrap(), expected, "{text}");
        }
        for text in [":x", "-rf:x", "a b:x", "a/b:c"] {
            assert!(parse(OsStr::new(text)).is_err(), "{text}");
        }
    }
}
