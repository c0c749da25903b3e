// SPDX-License-Identifier: Apache-2.0
//! Reading a program's standard output while it runs.
//!
//! For output without bound, such as a followed journal. The program is killed when the stream is
//! dropped before its end.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdout, Stdio};
use std::thread::JoinHandle;

use super::super::{Error, Result};
use super::{Command, OUTPUT_MAX_BYTES, Output, kill_group};

/// A running program, read from its standard output.
#[derive(Debug)]
pub struct Stream {
    call: String,
    child: Child,
    stdout: ChildStdout,
    stderr: Option<JoinHandle<Vec<u8>>>,
    ended: bool,
}

impl Command {
    /// Starts the program.
    pub fn stream(&mut self) -> Result<Stream> {
        let call = format!("exec({:?})", self.describe());
        tracing::debug!("running {}", self.describe());
        self.inner.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.unblock_signals();
        #[expect(clippy::disallowed_methods, reason = "this is the module that spawns")]
        let mut child = self.inner.spawn().map_err(|err| Error::new(&call, err))?;
        let stderr = child
            .stderr
            .take()
            .map(|pipe| std::thread::spawn(move || read_bounded(OwnedFd::from(pipe))));
        match child.stdout.take() {
            Some(stdout) => Ok(Stream {
                call,
                child,
                stdout,
                stderr,
                ended: false,
            }),
            None => Err(Error::new(call, io::Error::other("no standard output"))),
        }
    }
}

impl Stream {
    /// Waits for the program's end; an exit status other than 0 is an error that quotes its last
    /// words. Whoever calls this has read standard output to its end.
    pub fn finish(mut self) -> Result<()> {
        let status = self
            .child
            .wait()
            .map_err(|err| Error::new(&self.call, err))?;
        self.ended = true;
        let stderr = self.stderr.take().and_then(|thread| thread.join().ok());
        let output = Output {
            status,
            stdout: Vec::new(),
            stderr: String::from_utf8_lossy(&stderr.unwrap_or_default()).into_owned(),
        };
        if output.status.success() {
            return Ok(());
        }
        Err(Error::new(&self.call, io::Error::other(output.complaint())))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stdout.read(buffer)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.ended {
            drop(kill_group(&mut self.child, None));
        }
    }
}

/// Reads to the end and keeps the first [`OUTPUT_MAX_BYTES`].
fn read_bounded(fd: OwnedFd) -> Vec<u8> {
    let mut file = std::fs::File::from(fd);
    let mut bytes = Vec::new();
    // What could be read before an error is what there is to show.
    drop(
        (&mut file)
            .take(OUTPUT_MAX_BYTES as u64)
            .read_to_end(&mut bytes),
    );
    drop(io::copy(&mut file, &mut io::sink()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Stream {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stream().unwrap()
    }

    #[test]
    fn a_stream_is_read_while_the_program_runs() {
        let mut stream = sh("echo one; exec sleep 100");
        let mut buffer = [0; 4];
        stream.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"one\n");
        let pid = stream.child.id();
        drop(stream);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_failed_program_is_quoted() {
        let mut stream = sh("echo no journal >&2; exit 1");
        io::copy(&mut stream, &mut io::sink()).unwrap();
        let err = stream.finish().unwrap_err().to_string();
        assert!(err.ends_with("exit status 1: no journal"), "{err}");
    }
}
