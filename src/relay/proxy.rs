// SPDX-License-Identifier: Apache-2.0
//! The container's way to notify systemd: an allow-list between two sockets.
//!
//! systemd believes whatever comes out of the unit's cgroup. A root process in a container could
//! name any process of the host as `MAINPID=`, to be killed at the next stop, fill the fd store, or
//! put off every timeout for ever (threats L7). So the container's datagrams end here, and
//! what is harmless is said again in our own words.

use std::fmt::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::sys::socket::{self, Address, Blocking};

use super::report::{self, Entry};

/// Largest datagram that systemd reads.
const MESSAGE_MAX_BYTES: usize = 4096;

/// Datagrams passed on within [`WINDOW`]; each one wakes the service manager. More wait in the
/// container's socket, and then in its processes.
const MESSAGES_PER_WINDOW: u32 = 32;
const WINDOW: Duration = Duration::from_millis(100);

/// Longest extension that one message gets.
const EXTENSION_MAX: Duration = Duration::from_secs(5 * 60);

/// Longest time for which a start, reload or stop can be put off in all.
///
/// We do not know when one begins. But between two of them there is a time without extensions,
/// and one that is longer than [`EXTENSION_MAX`] ends any job that lives by them.
const EXTENSION_TOTAL: Duration = Duration::from_secs(60 * 60);

/// The container's socket and the manager's.
#[derive(Debug)]
pub struct Proxy<'a> {
    container: OwnedFd,
    address: Address,
    manager: Option<OwnedFd>,
    unit: &'a str,
    pending: Message,
    budget: Budget,
    window: Instant,
    passed: u32,
    refusal_reported: bool,
}

/// What poll(2) is to look for.
#[derive(Debug)]
pub struct Interest<'a> {
    /// The container's socket, if a message can be taken from it.
    pub container: Option<BorrowedFd<'a>>,
    /// The manager's socket, if there is a message that it had no room for.
    pub manager: Option<BorrowedFd<'a>>,
    /// When to come back without either.
    pub at: Option<Instant>,
}

impl<'a> Proxy<'a> {
    /// A proxy from the bound socket `container` to the manager at `address`.
    pub fn new(container: OwnedFd, address: Address, unit: &'a str) -> Self {
        Self {
            container,
            address,
            manager: None,
            unit,
            pending: Message::default(),
            budget: Budget::default(),
            window: Instant::now(),
            passed: 0,
            refusal_reported: false,
        }
    }

    /// What to wait for.
    pub fn interest(&self) -> Interest<'_> {
        let waits = !self.pending.text.is_empty();
        let pause = self.passed >= MESSAGES_PER_WINDOW;
        Interest {
            container: (!waits && !pause).then(|| self.container.as_fd()),
            manager: self.manager.as_ref().filter(|_| waits).map(|fd| fd.as_fd()),
            at: (waits || pause).then(|| self.window + WINDOW),
        }
    }

    /// Passes on what can be passed on now, without waiting.
    pub fn advance(&mut self, now: Instant) {
        if now.duration_since(self.window) >= WINDOW {
            self.window = now;
            self.passed = 0;
        }
        while self.flush() && self.passed < MESSAGES_PER_WINDOW && self.receive(now) {
            self.passed += 1;
        }
    }

    /// Takes one datagram. False if there is none.
    fn receive(&mut self, now: Instant) -> bool {
        let mut bytes = [0; MESSAGE_MAX_BYTES];
        // Without room for control messages the kernel closes descriptors that came along. That
        // is the answer that a sender of BARRIER=1 waits for, too: what it sent before is on its
        // way, and comes from us, who outlive it.
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let length = match rustix::net::recv(&self.container, &mut bytes, flags) {
            Ok((_, length)) => length,
            Err(Errno::INTR) => return true,
            Err(_) => return false,
        };
        // TRUNC: the length is the datagram's own, even if it did not fit.
        let refused = match bytes.get(..length) {
            Some(message) => filter(message, &mut self.pending.text, &mut self.budget, now),
            None => true,
        };
        if refused && !self.refusal_reported {
            self.refusal_reported = report::send(Entry::Refused, self.unit);
        }
        true
    }

    /// Sends the pending message. False if it has to wait.
    fn flush(&mut self) -> bool {
        if self.pending.text.is_empty() {
            return true;
        }
        // A manager that was replaced has a new socket at the same place: a second attempt.
        for _ in 0..2 {
            if self.manager.is_none() {
                self.manager = socket::connect_datagram(&self.address, Blocking::Never).ok();
            }
            let Some(manager) = &self.manager else {
                break;
            };
            match rustix::io::write(manager, self.pending.text.as_bytes()) {
                Ok(_) => break,
                Err(Errno::AGAIN) => return false,
                Err(_) => self.manager = None,
            }
        }
        self.pending.text.clear();
        true
    }
}

/// Room for one message, made once.
#[derive(Debug)]
struct Message {
    text: String,
}

impl Default for Message {
    fn default() -> Self {
        Self {
            text: String::with_capacity(MESSAGE_MAX_BYTES + 1),
        }
    }
}

/// How long the present job may still be put off.
#[derive(Debug, Default)]
struct Budget {
    /// The first and the last extension of this job.
    granted: Option<(Instant, Instant)>,
}

impl Budget {
    /// What of `wanted` is granted at `now`; `None` when the total is used up.
    fn grant(&mut self, wanted: Duration, now: Instant) -> Option<Duration> {
        let first = match self.granted {
            Some((first, last)) if now.duration_since(last) <= EXTENSION_MAX => first,
            Some(_) | None => now,
        };
        let left = (first + EXTENSION_TOTAL).checked_duration_since(now)?;
        let granted = wanted.min(EXTENSION_MAX).min(left);
        if granted.is_zero() {
            return None;
        }
        self.granted = Some((first, now));
        Some(granted)
    }
}

/// Appends to `out` what of `message` may be passed on, and returns whether anything may not.
fn filter(message: &[u8], out: &mut String, budget: &mut Budget, now: Instant) -> bool {
    let mut refused = false;
    for line in message.split(|byte| *byte == b'\n') {
        // An acknowledgement is all that BARRIER=1 wants, see Proxy::receive.
        if line.is_empty() || line == b"BARRIER=1" {
            continue;
        }
        let passed = std::str::from_utf8(line)
            .ok()
            .and_then(|line| line.split_once('='))
            .and_then(|(key, value)| pass(key, value, out, budget, now));
        refused |= passed.is_none();
    }
    refused
}

/// Appends `key=value` if it is on the list, as we would write it.
fn pass(key: &str, value: &str, out: &mut String, budget: &mut Budget, now: Instant) -> Option<()> {
    match (key, value) {
        ("READY" | "RELOADING" | "STOPPING" | "WATCHDOG", "1") | ("WATCHDOG", "trigger") => {
            writeln!(out, "{key}={value}").ok()
        }
        ("MONOTONIC_USEC", _) => writeln!(out, "MONOTONIC_USEC={}", number(value)?).ok(),
        ("EXTEND_TIMEOUT_USEC", _) => {
            let wanted = Duration::from_micros(number(value)?);
            let granted = budget.grant(wanted, now)?;
            writeln!(out, "EXTEND_TIMEOUT_USEC={}", granted.as_micros()).ok()
        }
        ("STATUS", _) => {
            out.push_str("STATUS=");
            // For a terminal: `systemctl status` prints it.
            out.extend(value.chars().map(|c| if c.is_control() { ' ' } else { c }));
            out.push('\n');
            Some(())
        }
        _ => None,
    }
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn only_the_list_is_passed_on() {
        let now = Instant::now();
        for (message, expected, refused) in [
            ("READY=1", "READY=1\n", false),
            ("READY=1\nSTATUS=up\n", "READY=1\nSTATUS=up\n", false),
            ("READY=0", "", true),
            ("MAINPID=1", "", true),
            (
                "READY=1\nMAINPID=1\nWATCHDOG=1",
                "READY=1\nWATCHDOG=1\n",
                true,
            ),
            ("FDSTORE=1\nFDNAME=x", "", true),
            ("FDSTOREREMOVE=1", "", true),
            ("BARRIER=1", "", false),
            ("WATCHDOG=trigger", "WATCHDOG=trigger\n", false),
            ("WATCHDOG_USEC=1", "", true),
            (
                "RELOADING=1\nMONOTONIC_USEC=77",
                "RELOADING=1\nMONOTONIC_USEC=77\n",
                false,
            ),
            ("MONOTONIC_USEC=+77", "", true),
            ("MONOTONIC_USEC=", "", true),
            (
                "STATUS=a\x1b]0;x\x07b\rc\u{85}",
                "STATUS=a ]0;x b c \n",
                false,
            ),
            ("ERRNO=2", "", true),
            ("X_WHARF=1", "", true),
            ("READY", "", true),
            ("", "", false),
            (
                "EXTEND_TIMEOUT_USEC=1000",
                "EXTEND_TIMEOUT_USEC=1000\n",
                false,
            ),
            (
                "EXTEND_TIMEOUT_USEC=18446744073709551615",
                "EXTEND_TIMEOUT_USEC=300000000\n",
                false,
            ),
            ("EXTEND_TIMEOUT_USEC=99999999999999999999", "", true),
        ] {
            let mut out = String::new();
            let was = filter(message.as_bytes(), &mut out, &mut Budget::default(), now);
            assert_eq!((out.as_str(), was), (expected, refused), "{message:?}");
        }
        let mut out = String::new();
        assert!(filter(
            b"STATUS=\xff\nREADY=1",
            &mut out,
            &mut Budget::default(),
            now
        ));
        assert_eq!(out, "READY=1\n");
    }

    #[test]
    fn timeouts_cannot_be_put_off_for_ever() {
        let start = Instant::now();
        let mut budget = Budget::default();
        let minute = Duration::from_secs(60);
        let mut last = None;
        for minutes in 0..1000 {
            let now = start + minute * minutes;
            if let Some(granted) = budget.grant(Duration::MAX, now) {
                last = Some(now + granted);
            } else {
                break;
            }
        }
        assert_eq!(last, Some(start + EXTENSION_TOTAL));
        // A job of its own, later.
        let later = start + EXTENSION_TOTAL + EXTENSION_MAX;
        assert_eq!(budget.grant(minute, later), Some(minute));
    }

    fn proxy(dir: &std::path::Path) -> (Proxy<'static>, UnixDatagram, UnixDatagram) {
        let manager = UnixDatagram::bind(dir.join("manager")).unwrap();
        manager.set_nonblocking(true).unwrap();
        let inside = UnixDatagram::bind(dir.join("inside")).unwrap();
        let container = UnixDatagram::unbound().unwrap();
        container.connect(dir.join("inside")).unwrap();
        let address = Address::from_path(&dir.join("manager")).unwrap();
        let mut proxy = Proxy::new(inside.into(), address, "ctr@web.service");
        // There may be no journal where unit tests run; the entry has tests of its own.
        proxy.refusal_reported = true;
        (proxy, container, manager)
    }

    fn received(socket: &UnixDatagram) -> Option<String> {
        let mut bytes = [0; 8192];
        let length = socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    #[test]
    fn datagrams_pass_and_descriptors_and_giants_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let (mut proxy, container, manager) = proxy(dir.path());
        container.send(&[b'x'; 100_000]).unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let inside = Address::from_path(&dir.path().join("inside")).unwrap();
        socket::send_to(container.as_fd(), &inside, b"BARRIER=1", &[writer.as_fd()]).unwrap();
        drop(writer);
        container.send(b"MAINPID=1").unwrap();
        container.send(b"READY=1").unwrap();
        proxy.advance(Instant::now());
        assert_eq!(received(&manager).as_deref(), Some("READY=1\n"));
        assert_eq!(received(&manager), None);
        // End of file: nobody holds the writer that went with the barrier.
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0));
    }

    #[test]
    fn a_flood_waits_and_a_full_manager_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut proxy, container, manager) = proxy(dir.path());
        container.set_nonblocking(true).unwrap();
        let (mut sent, mut seen) = (0, 0);
        let mut now = Instant::now();
        for _ in 0..200 {
            while container.send(format!("STATUS={sent}").as_bytes()).is_ok() {
                sent += 1;
            }
            let before = proxy.passed;
            proxy.advance(now);
            assert!(before <= MESSAGES_PER_WINDOW && proxy.passed <= MESSAGES_PER_WINDOW);
            // The manager reads every other time only, so that its queue is full now and then.
            now += WINDOW / 2;
            if seen % 2 == 0 || !proxy.pending.text.is_empty() {
                while let Some(text) = received(&manager) {
                    assert_eq!(text, format!("STATUS={seen}\n"));
                    seen += 1;
                }
            }
        }
        assert!(seen > 500, "{seen}");
    }
}
