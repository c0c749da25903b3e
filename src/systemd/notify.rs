// SPDX-License-Identifier: Apache-2.0
//! What a service tells its manager (sd_notify(3)).
//!
//! A [`Notifier`] is made once, from `NOTIFY_SOCKET`, and handed to whoever has something to say;
//! nothing else reads the variable. libsystemd's `notify` looks the variable up at every call,
//! takes raw descriptors and has no barrier, so only its rules are followed here.
//!
//! Rust cannot remove a variable from the running process without `unsafe`: the variable is kept
//! from children by [`crate::sys::command`], the only place that spawns. An OCI runtime that sees
//! it would wait for the container to say READY.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Pid;

use crate::sys::socket::{self, Address, Blocking};

/// The variable that names the manager's socket.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Longest text that is sent as `STATUS=`, in bytes; systemd reads datagrams of at most 4096.
const STATUS_MAX_BYTES: usize = 2048;

/// Longest that the manager may take to read what it was sent.
pub const BARRIER_DEADLINE: Duration = Duration::from_secs(30);

/// One thing to tell the manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State<'a> {
    /// `READY=1`: the service has started.
    Ready,
    /// `STATUS=`: one line for `systemctl status`. Control characters are sent escaped.
    Status(&'a str),
    /// `MAINPID=`: this process is the service from now on.
    MainPid(Pid),
    /// `EXTEND_TIMEOUT_USEC=`: the present job may take so much longer, counted from now.
    ExtendTimeout(Duration),
}

impl State<'_> {
    fn render(&self) -> String {
        match self {
            State::Ready => "READY=1\n".to_owned(),
            // systemd splits the message with extract_first_word(), which takes one backslash off.
            State::Status(text) => format!("STATUS={}\n", one_line(text).replace('\\', r"\\")),
            State::MainPid(pid) => format!("MAINPID={pid}\n"),
            State::ExtendTimeout(by) => format!("EXTEND_TIMEOUT_USEC={}\n", by.as_micros()),
        }
    }
}

/// `text` with control characters escaped, cut to [`STATUS_MAX_BYTES`]: a newline would begin the
/// next assignment, and could be `MAINPID=` (threats L7).
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(STATUS_MAX_BYTES));
    for character in text.chars() {
        if line.len() + character.len_utf8() > STATUS_MAX_BYTES - '…'.len_utf8() {
            line.push('…');
            break;
        }
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// The way to the service manager.
#[derive(Debug)]
pub struct Notifier {
    address: Address,
    text: String,
    socket: OwnedFd,
}

impl Notifier {
    /// The manager that started this process, or `None` if none asked to be told.
    pub fn from_env() -> anyhow::Result<Option<Self>> {
        match std::env::var(NOTIFY_SOCKET) {
            Ok(text) => Self::open(&text).map(Some),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(err @ std::env::VarError::NotUnicode(_)) => {
                Err(err).with_context(|| format!("reading '${NOTIFY_SOCKET}'"))
            }
        }
    }

    /// The manager that listens on `text`: `/path`, or `@name` in the abstract namespace.
    pub fn open(text: &str) -> anyhow::Result<Self> {
        let opening = || format!("opening notify socket '{}'", text.escape_debug());
        Ok(Self {
            address: Address::parse(text).with_context(opening)?,
            text: text.to_owned(),
            socket: socket::datagram(Blocking::Wait).with_context(opening)?,
        })
    }

    /// The address as `NOTIFY_SOCKET` wrote it, for a program of ours that notifies later.
    pub fn address(&self) -> &str {
        &self.text
    }

    /// Tells the manager `states`, in one message.
    pub fn send(&self, states: &[State<'_>]) -> anyhow::Result<()> {
        let message: String = states.iter().map(State::render).collect();
        self.send_raw(&message, &[])
    }

    /// `STATUS=text`.
    pub fn status(&self, text: &str) -> anyhow::Result<()> {
        self.send(&[State::Status(text)])
    }

    /// `MAINPID=pid`. Follow it by [`Self::barrier`] before anything that may end this process or
    /// `pid`: systemd looks the sender's unit up when it reads, not when we send.
    pub fn main_pid(&self, pid: Pid) -> anyhow::Result<()> {
        self.send(&[State::MainPid(pid)])
    }

    /// Puts `fds` into the unit's fd store under `name`; `FileDescriptorStoreMax=` must allow it.
    ///
    /// `FDPOLL=0`: systemd would otherwise drop a FIFO's read end as soon as its last writer is
    /// gone, which is when we need it.
    pub fn store_fds(&self, name: &str, fds: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
        check_fd_name(name)?;
        self.send_raw(&format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}\n"), fds)
    }

    /// Takes every descriptor called `name` out of the unit's fd store.
    pub fn remove_fds(&self, name: &str) -> anyhow::Result<()> {
        check_fd_name(name)?;
        self.send_raw(&format!("FDSTOREREMOVE=1\nFDNAME={name}\n"), &[])
    }

    /// Waits until the manager has acted on everything sent so far (sd_notify_barrier(3)).
    ///
    /// The manager closes the write end of a pipe it gets; a read end that does not hang up
    /// within `deadline` is an error.
    pub fn barrier(&self, deadline: Duration) -> anyhow::Result<()> {
        let waiting = || "waiting for the service manager to read our notifications";
        let flags = rustix::pipe::PipeFlags::CLOEXEC;
        let (reader, writer) = rustix::pipe::pipe_with(flags).with_context(waiting)?;
        // BARRIER=1 must be alone in its message.
        self.send_raw("BARRIER=1", &[writer.as_fd()])?;
        drop(writer);
        wait_for_hang_up(reader.as_fd(), deadline).with_context(waiting)
    }

    fn send_raw(&self, message: &str, fds: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
        socket::send_to(self.socket.as_fd(), &self.address, message.as_bytes(), fds).with_context(
            || {
                let first = message.lines().next().unwrap_or_default();
                format!("sending '{first}' to the service manager")
            },
        )
    }
}

/// systemd's rule for FDNAME=: at most 255 printable ASCII characters without ':'.
fn check_fd_name(name: &str) -> anyhow::Result<()> {
    let printable = |b: u8| (b' '..=b'~').contains(&b) && b != b':';
    anyhow::ensure!(
        !name.is_empty() && name.len() <= 255 && name.bytes().all(printable),
        "'{}' cannot name a stored descriptor: it must be printable ASCII without ':'",
        name.escape_debug()
    );
    Ok(())
}

fn wait_for_hang_up(fd: BorrowedFd<'_>, deadline: Duration) -> io::Result<()> {
    let end = Instant::now() + deadline;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        // No events asked for: a hang-up is always reported.
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(0) => {
                let seconds = deadline.as_secs_f64();
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer within {seconds} s"),
                ));
            }
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    fn manager() -> (tempfile::TempDir, UnixDatagram, Notifier) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::open(path.to_str().unwrap()).unwrap();
        (dir, socket, notifier)
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 8192];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn states_are_sent_in_one_message() {
        let (_dir, socket, notifier) = manager();
        let states = [
            State::MainPid(Pid::from_raw(42).unwrap()),
            State::ExtendTimeout(Duration::from_millis(1500)),
            State::Ready,
        ];
        notifier.send(&states).unwrap();
        assert_eq!(
            received(&socket),
            "MAINPID=42\nEXTEND_TIMEOUT_USEC=1500000\nREADY=1\n"
        );
    }

    #[test]
    fn a_status_stays_one_line_and_fits() {
        let (_dir, socket, notifier) = manager();
        notifier.status("a\nMAINPID=1\x1b[2J\0").unwrap();
        assert_eq!(
            received(&socket),
            r"STATUS=a\\nMAINPID=1\\u{1b}[2J\\u{0}".to_owned() + "\n"
        );
        notifier.status(&"ö".repeat(5000)).unwrap();
        let long = received(&socket);
        assert!(
            long.len() < 2100 && long.ends_with("ö…\n"),
            "{}",
            long.len()
        );
    }

    #[test]
    fn descriptors_are_stored_by_name() {
        let (_dir, socket, notifier) = manager();
        notifier.store_fds("stdout", &[socket.as_fd()]).unwrap();
        assert_eq!(received(&socket), "FDSTORE=1\nFDPOLL=0\nFDNAME=stdout\n");
        notifier.remove_fds("stdout").unwrap();
        assert_eq!(received(&socket), "FDSTOREREMOVE=1\nFDNAME=stdout\n");
        for bad in ["", "a:b", "a\nMAINPID=1", "é"] {
            assert!(notifier.remove_fds(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_barrier_ends_when_the_manager_has_read_it_or_in_time() {
        let (_dir, socket, notifier) = manager();
        let silent = notifier.barrier(Duration::from_millis(30)).unwrap_err();
        assert!(format!("{silent:#}").contains("no answer within 0.03 s"));
        // Receiving without room for descriptors closes them, as acting on the barrier does.
        let reader = std::thread::spawn(move || (received(&socket), received(&socket)));
        notifier.barrier(Duration::from_secs(10)).unwrap();
        let messages = reader.join().unwrap();
        assert_eq!(messages, ("BARRIER=1".to_owned(), "BARRIER=1".to_owned()));
    }

    #[test]
    fn abstract_addresses_work() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("wharf-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier::open(&format!("@{name}")).unwrap();
        notifier.send(&[State::Ready]).unwrap();
        assert_eq!(received(&socket), "READY=1\n");
    }
}
