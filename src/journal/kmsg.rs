// SPDX-License-Identifier: Apache-2.0
//! The log of generators, which run before the journal does (systemd.generator(7), "Notes").
//!
//! In the system manager that is the kernel's ring buffer, which journald reads once it is up; in
//! a user manager and in a person's shell it is standard error. Nothing here can fail: there is
//! nobody left to tell.

use std::fs::{File, OpenOptions};
use std::io::Write as _;

/// The kernel refuses records longer than 1024 bytes less its own prefix (`LOG_LINE_MAX`).
const RECORD_MAX_BYTES: usize = 900;

/// The kernel drops what one process writes beyond ten records in five seconds
/// (`printk_devkmsg`); the last one is ours to say how many there were.
const RECORDS_MAX: usize = 9;

/// How much it matters, as in syslog(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something that was asked for is not done.
    Error,
    /// Something was left out, and the rest is done.
    Warning,
}

impl Severity {
    fn number(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warning => 4,
        }
    }
}

/// Where log lines go.
#[derive(Debug)]
pub struct Log {
    /// The kernel's ring buffer, or standard error when there is none.
    kmsg: Option<File>,
    records: usize,
}

impl Log {
    /// The ring buffer; standard error in a container that has none.
    pub fn kernel() -> Self {
        Self {
            kmsg: OpenOptions::new().write(true).open("/dev/kmsg").ok(),
            records: 0,
        }
    }

    /// Standard error.
    pub fn stderr() -> Self {
        Self {
            kmsg: None,
            records: 0,
        }
    }

    /// Writes one line. Control characters are shown escaped: the text may quote a file.
    pub fn line(&mut self, severity: Severity, text: &str) {
        let text: String = text
            .chars()
            .map(|c| match c {
                c if c.is_control() => c.escape_default().to_string(),
                c => c.to_string(),
            })
            .collect();
        self.records += 1;
        match &mut self.kmsg {
            Some(_) if self.records > RECORDS_MAX => {}
            Some(kmsg) => {
                let pid = std::process::id();
                let priority = 24 + severity.number();
                let record = format!("<{priority}>wharf-generator[{pid}]: {text}");
                // A cut character is better than a lost record.
                let bytes = record.as_bytes();
                drop(kmsg.write_all(bytes.get(..RECORD_MAX_BYTES).unwrap_or(bytes)));
            }
            None => drop(writeln!(std::io::stderr(), "wharf-generator: {text}")),
        }
    }

    /// Says what the kernel would have dropped.
    pub fn finish(mut self) {
        let lost = self.records.saturating_sub(RECORDS_MAX);
        if lost > 0 && self.kmsg.is_some() {
            self.records = 0;
            let text = format!("{lost} more problems, see them all with 'wharf check'");
            self.line(Severity::Warning, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::*;

    #[test]
    fn records_are_bounded_in_length_and_number() {
        let mut file = tempfile::tempfile().unwrap();
        let mut log = Log {
            kmsg: Some(file.try_clone().unwrap()),
            records: 0,
        };
        log.line(Severity::Error, &"ä\n".repeat(1000));
        for _ in 0..14 {
            log.line(Severity::Warning, "x");
        }
        log.finish();
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let records: Vec<&str> = text.split("<2").filter(|r| !r.is_empty()).collect();
        assert_eq!(records.len(), RECORDS_MAX + 1, "{text}");
        assert!(bytes.len() < 2 * RECORD_MAX_BYTES, "{text}");
        assert!(records[0].starts_with("7>wharf-generator["), "{text}");
        assert!(!text.contains('\n'));
        assert!(text.ends_with("6 more problems, see them all with 'wharf check'"));
    }
}
