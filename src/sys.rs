// SPDX-License-Identifier: Apache-2.0
//! The kernel: every raw descriptor, system call and `unsafe` of the package.
//!
//! Callers get owned descriptors and an [`Error`] that prints the call with its operands.

pub mod cgroup;
pub mod command;
pub mod console;
pub mod copy;
pub mod dir;
pub mod fs;
pub mod held;
pub mod inherit;
pub mod kernel_fs;
pub mod lifeline;
pub mod mount;
pub mod pipe;
pub mod process;
pub mod prompt;
pub mod root;
pub mod socket;
pub mod terminal;

use std::io;

/// A failed system call, printed as `openat2("/x"): ENOENT: No such file or directory`.
///
/// Callers match [`Error::kind`] where "absent" or "exists" is no failure to them.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {cause}")]
pub struct Error {
    /// The call and its operands.
    pub call: String,
    /// What the kernel said. Not the error's source: it is printed here, and `{:#}` would print it
    /// again.
    pub cause: io::Error,
}

/// What most functions here return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure of `call`.
    pub fn new(call: impl Into<String>, cause: impl Into<io::Error>) -> Self {
        Self {
            call: call.into(),
            cause: cause.into(),
        }
    }

    /// The portable kind of error.
    pub fn kind(&self) -> io::ErrorKind {
        self.cause.kind()
    }

    /// Whether the operand does not exist.
    pub fn is_absent(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }
}

/// Whether an error is the machine's, such as too many open files or a broken disk, and says nothing
/// of what is stored: not that a file is absent or of another kind, nor an error of a decoder.
pub fn is_of_machine(err: &io::Error) -> bool {
    use rustix::io::Errno;
    match Errno::from_io_error(err) {
        // NXIO: a socket or a device without a driver is in its place.
        Some(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR | Errno::LOOP | Errno::NXIO) | None => {
            false
        }
        Some(_) => true,
    }
}
