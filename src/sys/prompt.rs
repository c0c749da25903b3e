// SPDX-License-Identifier: Apache-2.0
//! Asking a person at the controlling terminal, also for what must not be seen.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios};

use super::{Error, Result};

/// Longest answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Whether the answer is shown while it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// As usual.
    On,
    /// For secrets.
    Off,
}

/// The controlling terminal, whatever standard input is.
#[derive(Debug)]
pub struct Terminal(File);

/// Puts the terminal back as it was.
struct Restore<'t> {
    terminal: &'t File,
    before: Termios,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        // It may be gone, and then there is nothing to restore.
        rustix::termios::tcsetattr(self.terminal, OptionalActions::Flush, &self.before).ok();
    }
}

impl Terminal {
    /// Opens /dev/tty.
    pub fn open() -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/tty");
        file.map(Self)
            .map_err(|err| Error::new("open(\"/dev/tty\")", err))
    }

    /// Asks, and reads one line.
    ///
    /// # Errors
    ///
    /// `Interrupted` for Ctrl-C, `UnexpectedEof` for Ctrl-D on an empty line.
    pub fn ask(&mut self, question: &str, echo: Echo) -> Result<String> {
        let failed = |err: io::Error| Error::new("read(\"/dev/tty\")", err);
        let restore = match echo {
            Echo::On => None,
            Echo::Off => Some(self.silence()?),
        };
        let mut terminal = &self.0;
        terminal.write_all(question.as_bytes()).map_err(failed)?;
        let answer = read_line(terminal, echo);
        drop(restore);
        if echo == Echo::Off {
            // The line feed was not shown either.
            terminal.write_all(b"\n").map_err(failed)?;
        }
        let answer = answer.map_err(failed)?;
        String::from_utf8(answer)
            .map_err(|_| failed(io::Error::new(io::ErrorKind::InvalidData, "not UTF-8")))
    }

    /// Turns echo off, and signals too: a Ctrl-C that killed us would leave it off.
    fn silence(&self) -> Result<Restore<'_>> {
        let failed = |errno| Error::new("tcsetattr(\"/dev/tty\")", errno);
        let before = rustix::termios::tcgetattr(&self.0).map_err(failed)?;
        let mut silent = before.clone();
        silent.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        // What was typed before the question is no answer to it.
        rustix::termios::tcsetattr(&self.0, OptionalActions::Flush, &silent).map_err(failed)?;
        Ok(Restore {
            terminal: &self.0,
            before,
        })
    }
}

/// Reads up to the end of a line; without echo the terminal gives single keys, and the ones that
/// edit are ours to follow.
fn read_line(mut from: &File, echo: Echo) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        if from.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match (byte[0], echo) {
            (b'\n' | b'\r', _) => return Ok(line),
            (0x03, Echo::Off) => return Err(io::ErrorKind::Interrupted.into()),
            (0x04, Echo::Off) if line.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            (0x7f | 0x08, Echo::Off) => {
                // A character can be several bytes.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            (0x15, Echo::Off) => line.clear(),
            (byte, _) if line.len() < ANSWER_BYTES_MAX => line.push(byte),
            _ => return Err(io::ErrorKind::FileTooLarge.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    /// A terminal, and who types at it.
    fn rig() -> (File, Terminal) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = std::path::Path::new(name.to_str().unwrap());
        let mut options = OpenOptions::new();
        let options = std::os::unix::fs::OpenOptionsExt::custom_flags(
            options.read(true).write(true),
            libc::O_NOCTTY,
        );
        (master.into(), Terminal(options.open(path).unwrap()))
    }

    fn ask(typed: &[u8], echo: Echo) -> (Result<String>, String) {
        let (mut master, mut terminal) = rig();
        let mut shown = vec![0; 1024];
        let answer = std::thread::scope(|scope| {
            let thread = scope.spawn(move || terminal.ask("Password: ", echo));
            // The question comes when the terminal is ready.
            let n = master.read(&mut shown).unwrap();
            shown.truncate(n);
            master.write_all(typed).unwrap();
            let answer = thread.join().unwrap();
            let mut rest = vec![0; 1024];
            let n = master.read(&mut rest).unwrap_or(0);
            shown.extend_from_slice(&rest[..n]);
            answer
        });
        (answer, String::from_utf8(shown).unwrap())
    }

    #[test]
    fn a_secret_is_not_shown() {
        let (answer, shown) = ask("s3cr\u{e9}\x7fet\n".as_bytes(), Echo::Off);
        assert_eq!(answer.unwrap(), "s3cret");
        assert_eq!(shown.trim_end(), "Password:");
        let (answer, shown) = ask(b"alice\n", Echo::On);
        assert_eq!(answer.unwrap(), "alice");
        assert!(shown.contains("alice"), "{shown:?}");
    }

    #[test]
    fn keys_that_end_the_question() {
        let (answer, _) = ask(b"s3c\x03", Echo::Off);
        assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::Interrupted);
        let (answer, _) = ask(b"\x04", Echo::Off);
        assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (answer, _) = ask(b"wrong\x15right\r", Echo::Off);
        assert_eq!(answer.unwrap(), "right");
    }
}
