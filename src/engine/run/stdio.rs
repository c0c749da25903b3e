// SPDX-License-Identifier: Apache-2.0
//! The payload's standard streams, and the relay's ends of them.
//!
//! Named FIFOs, not a journal socket: `open("/dev/stdout")` on a socket is ENXIO, and the official
//! nginx and httpd images log that way. The read ends also go to systemd's fd store, so that what
//! was written last outlives the relay and is drained by `cleanup`.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::Context as _;

use crate::definition::{Definition, LogDriver};
use crate::runtime::Stdio;
use crate::sys;
use crate::systemd::notify::Notifier;

/// The FIFOs in the run-time directory, and the names of their read ends in systemd's fd store.
pub(crate) const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// The relay's side.
#[derive(Debug, Default)]
pub(super) struct RelayEnds {
    /// Read end of the payload's standard output.
    pub stdout: Option<OwnedFd>,
    /// Read end of its standard error.
    pub stderr: Option<OwnedFd>,
    /// Where the OCI runtime sends the terminal's master.
    pub console: Option<UnixListener>,
    /// Write end of the payload's standard input.
    pub stdin: Option<OwnedFd>,
}

/// Makes the streams of a container that systemd supervises.
pub(super) fn prepare(definition: &Definition, dir: &Path) -> anyhow::Result<(Stdio, RelayEnds)> {
    open(definition, dir).context("preparing the standard streams")
}

fn open(definition: &Definition, dir: &Path) -> anyhow::Result<(Stdio, RelayEnds)> {
    let mut ends = RelayEnds::default();
    if definition.process.tty {
        let socket = dir.join("tty");
        ends.console = Some(sys::console::listen(&socket)?);
        return Ok((Stdio::Console(socket), ends));
    }
    let stdin = if definition.process.stdin {
        let (reader, writer) = sys::fs::pipe()?;
        ends.stdin = Some(writer);
        reader
    } else {
        sys::fs::open_null()?
    };
    let streams = match definition.log.driver {
        // systemd has connected our own streams to the journal with the unit's settings.
        LogDriver::Direct => [
            stdin,
            sys::fs::duplicate(std::io::stdout().as_fd())?,
            sys::fs::duplicate(std::io::stderr().as_fd())?,
        ],
        LogDriver::Journal => {
            let stdout = sys::fs::make_fifo(&dir.join("stdout"))?;
            let stderr = sys::fs::make_fifo(&dir.join("stderr"))?;
            ends.stdout = Some(stdout.reader);
            ends.stderr = Some(stderr.reader);
            [stdin, stdout.writer, stderr.writer]
        }
    };
    Ok((Stdio::Fds(streams), ends))
}

impl RelayEnds {
    /// Gives systemd the read ends to keep, in place of those of an earlier run.
    pub(super) fn store(&self, notifier: &Notifier) -> anyhow::Result<()> {
        let ends = [&self.stdout, &self.stderr];
        for (name, end) in STREAMS.into_iter().zip(ends) {
            notifier.remove_fds(name)?;
            if let Some(end) = end {
                notifier.store_fds(name, &[end.as_fd()])?;
            }
        }
        Ok(())
    }
}
