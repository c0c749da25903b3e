// SPDX-License-Identifier: Apache-2.0
//! What is done when this process is killed in the middle of something that must not stay half
//! done.
//!
//! A pipe whose write end is ours alone, and a process that waits at the other end: a byte says
//! that all is well, the end of the file without one that we were killed. The write end can be
//! handed on through exec. Nothing else of the kernel tells a death from an exec to a bystander.

use std::os::fd::{AsFd as _, OwnedFd};

use super::Result;
use super::inherit::{self, fork_apart};

/// Held while something is half done. Dropping it says that all is well, whatever the reason;
/// only a process that ends without dropping it has been killed.
#[derive(Debug)]
pub struct Lifeline(OwnedFd);

impl Lifeline {
    /// Starts a process that does `on_death` should this one be killed.
    ///
    /// It holds no descriptor of ours, no signal but SIGKILL ends it, and it is nobody's child to
    /// wait for.
    pub fn attach(on_death: impl FnOnce()) -> Result<Self> {
        let (reader, writer) = super::fs::pipe()?;
        fork_apart(&reader, || {
            // Without it a signal for the whole unit would end the bystander as well.
            inherit::block_signals().ok();
            rustix::thread::set_name(c"wharf-lifeline").ok();
            if is_cut(&reader) {
                on_death();
            }
        })?;
        Ok(Self(writer))
    }

    /// The end that was handed on through exec.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The end, to be handed on through exec.
    pub fn as_fd(&self) -> &OwnedFd {
        &self.0
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        // EPIPE: the bystander was killed, and there is nobody to tell.
        rustix::io::write(self.0.as_fd(), b"k").ok();
    }
}

fn is_cut(reader: &OwnedFd) -> bool {
    loop {
        match rustix::io::read(reader, &mut [0; 1]) {
            Ok(length) => return length == 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::*;

    /// Whether `path` appears within `limit`.
    fn appears(path: &Path, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if path.exists() {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    #[test]
    fn only_an_end_without_a_word_is_a_death() {
        let dir = tempfile::tempdir().unwrap();
        let note = |name: &str| {
            let path = dir.path().join(name);
            let made = path.clone();
            let on_death = move || drop(std::fs::create_dir(&made));
            (path, Lifeline::attach(on_death).unwrap())
        };
        let (spared, lifeline) = note("spared");
        drop(lifeline);
        let (marked, mut lifeline) = note("marked");
        assert!(!appears(&marked, Duration::from_millis(50)));
        // What the kernel does to the descriptors of a process that is killed.
        let end = std::mem::replace(&mut lifeline.0, crate::sys::fs::open_null().unwrap());
        drop(end);
        assert!(appears(&marked, Duration::from_secs(10)));
        assert!(!spared.exists());
    }
}
