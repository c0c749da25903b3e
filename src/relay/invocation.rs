// SPDX-License-Identifier: Apache-2.0
//! The relay's command line: written by the engine, read by the relay, one type for both.
//!
//! The table in [`crate::relay`] says what each option is.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::sys::inherit::{self, Taken};
use crate::sys::lifeline::Lifeline;
use crate::sys::pipe;

/// What the relay is to do, and the descriptors to do it with.
#[derive(Debug)]
pub struct Invocation {
    /// The container's unit, such as `ctr@web.service`.
    pub unit: String,
    /// `SYSLOG_IDENTIFIER=` of the container's lines.
    pub identifier: String,
    /// Pidfd of the container's init.
    pub main: OwnedFd,
    /// Read end of the FIFO that is the container's standard output.
    pub stdout: Option<OwnedFd>,
    /// Read end of the FIFO that is the container's standard error.
    pub stderr: Option<OwnedFd>,
    /// Master of the container's pseudo-terminal.
    pub console: Option<OwnedFd>,
    /// Write end of the container's standard input.
    pub stdin: Option<OwnedFd>,
    /// The socket on which the container notifies, and where to pass it on.
    pub notify: Option<Notify>,
    /// Held until the relay works: should it be killed before, the container is.
    pub lifeline: Option<Lifeline>,
    /// Priority of standard error's lines, 0 to 7.
    pub stderr_priority: u8,
}

/// The two ends of the notify proxy.
#[derive(Debug)]
pub struct Notify {
    /// Bound datagram socket.
    pub socket: OwnedFd,
    /// The service manager's address, as `NOTIFY_SOCKET` writes it.
    pub manager: String,
}

impl Invocation {
    /// Becomes the relay at `program`. Returns only if that cannot be done.
    ///
    /// The environment is left behind: the relay reads none of it, and what the service manager
    /// put there is for nobody else.
    pub fn exec(&self, program: &Path) -> anyhow::Error {
        match self.command(program) {
            Ok(mut command) => anyhow::Error::new(command.exec())
                .context(format!("becoming the relay '{}'", program.display())),
            Err(err) => err,
        }
    }

    /// The command that runs the relay. Our descriptors are inheritable from here on.
    pub fn command(&self, program: &Path) -> anyhow::Result<Command> {
        let mut command = Command::new(program);
        command.env_clear();
        command.args(["--unit", &self.unit, "--identifier", &self.identifier]);
        command.args(["--stderr-priority", &self.stderr_priority.to_string()]);
        let socket = self.notify.as_ref().map(|notify| &notify.socket);
        let descriptors = [
            ("--main", Some(&self.main)),
            ("--stdout", self.stdout.as_ref()),
            ("--stderr", self.stderr.as_ref()),
            ("--console", self.console.as_ref()),
            ("--stdin", self.stdin.as_ref()),
            ("--notify", socket),
            ("--lifeline", self.lifeline.as_ref().map(Lifeline::as_fd)),
        ];
        for (option, fd) in descriptors {
            if let Some(fd) = fd {
                let number = inherit::keep_on_exec(fd)
                    .with_context(|| format!("handing '{option}' to the relay"))?;
                command.arg(option).arg(number.to_string());
            }
        }
        if let Some(notify) = &self.notify {
            command.args(["--manager", &notify.manager]);
        }
        Ok(command)
    }

    /// Reads the command line, takes the descriptors it names and closes all others.
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<Self> {
        let words = Words::read(arguments)?;
        let manager = words.text("--manager");
        anyhow::ensure!(
            manager.is_some() == words.text("--notify").is_some(),
            "'--notify' and '--manager' are given together"
        );
        let mut taken = Taken::default();
        let mut take = |option| words.descriptor(option, &mut taken);
        let main = take("--main")?;
        let invocation = Self {
            unit: words.text("--unit").context("missing '--unit'")?.to_owned(),
            identifier: words
                .text("--identifier")
                .context("missing '--identifier'")?
                .to_owned(),
            main: main.context("missing '--main'")?,
            stdout: take("--stdout")?,
            stderr: take("--stderr")?,
            console: take("--console")?,
            stdin: take("--stdin")?,
            notify: take("--notify")?
                .zip(manager)
                .map(|(socket, manager)| Notify {
                    socket,
                    manager: manager.to_owned(),
                }),
            lifeline: take("--lifeline")?.map(Lifeline::from_fd),
            stderr_priority: words.priority("--stderr-priority")?,
        };
        invocation.check()?;
        taken.close_others().context("closing other descriptors")?;
        Ok(invocation)
    }

    fn check(&self) -> anyhow::Result<()> {
        for (option, fd) in [("--stdout", &self.stdout), ("--stderr", &self.stderr)] {
            if let Some(fd) = fd {
                anyhow::ensure!(pipe::is_pipe(fd.as_fd()), "'{option}' is not a FIFO");
            }
        }
        if let Some(console) = &self.console {
            anyhow::ensure!(
                rustix::termios::isatty(console),
                "'--console' is not a terminal"
            );
        }
        if let Some(notify) = &self.notify {
            let kind = rustix::net::sockopt::socket_type(&notify.socket);
            anyhow::ensure!(
                kind == Ok(rustix::net::SocketType::DGRAM),
                "'--notify' is not a datagram socket"
            );
        }
        Ok(())
    }
}

const OPTIONS: [&str; 11] = [
    "--unit",
    "--identifier",
    "--main",
    "--stdout",
    "--stderr",
    "--console",
    "--stdin",
    "--notify",
    "--manager",
    "--lifeline",
    "--stderr-priority",
];

/// The words of a command line: an option and its value, each option at most once.
struct Words([Option<String>; OPTIONS.len()]);

impl Words {
    fn read(mut arguments: impl Iterator<Item = OsString>) -> anyhow::Result<Self> {
        let mut words = Self(Default::default());
        while let Some(option) = arguments.next() {
            let option = option.to_string_lossy();
            let slot = OPTIONS
                .iter()
                .position(|known| *known == option)
                .and_then(|index| words.0.get_mut(index))
                .with_context(|| format!("unknown option '{}'", option.escape_debug()))?;
            anyhow::ensure!(slot.is_none(), "'{option}' is given twice");
            let value = arguments
                .next()
                .and_then(|value| value.into_string().ok())
                .with_context(|| format!("'{option}' needs a value"))?;
            *slot = Some(value);
        }
        Ok(words)
    }

    fn text(&self, option: &str) -> Option<&str> {
        let index = OPTIONS.iter().position(|known| *known == option)?;
        self.0.get(index)?.as_deref()
    }

    fn descriptor(
        &self,
        option: &'static str,
        taken: &mut Taken,
    ) -> anyhow::Result<Option<OwnedFd>> {
        let Some(text) = self.text(option) else {
            return Ok(None);
        };
        let number = text
            .parse()
            .with_context(|| format!("'{option}' takes the number of a descriptor"))?;
        let fd = taken.take(number);
        fd.map(Some).with_context(|| format!("taking '{option}'"))
    }

    fn priority(&self, option: &'static str) -> anyhow::Result<u8> {
        match self.text(option).map(str::parse) {
            None => Ok(6),
            Some(Ok(priority @ 0..=7)) => Ok(priority),
            Some(_) => anyhow::bail!("'{option}' takes 0 to 7"),
        }
    }
}

/// Writes `message` to standard error, which systemd connects to the journal.
///
/// Nobody is left to tell when that fails.
pub(super) fn complain(message: &str) {
    writeln!(io::stderr(), "wharf-relay: {message}").ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> String {
        let words = line.split_whitespace().map(OsString::from);
        match Invocation::parse(words) {
            Ok(invocation) => format!("{invocation:?}"),
            Err(err) => format!("{err:#}"),
        }
    }

    #[test]
    fn bad_command_lines_are_named() {
        for (line, expected) in [
            ("--frob 1", "unknown option '--frob'"),
            ("--unit", "'--unit' needs a value"),
            ("--unit a --unit b", "'--unit' is given twice"),
            ("--unit a --identifier a", "missing '--main'"),
            (
                "--main x",
                "'--main' takes the number of a descriptor: invalid digit found in string",
            ),
            (
                "--notify 7",
                "'--notify' and '--manager' are given together",
            ),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
        for reserved in ["--main 2", "--main -7"] {
            assert!(parse(reserved).contains("must be 3 or more"), "{reserved}");
        }
        assert!(parse("--main 99999").contains("Bad file descriptor"));
    }
}
