// SPDX-License-Identifier: Apache-2.0
//! What a process is: signals, users, capabilities, resource limits.
//!
//! Strict grammars: what is out of range is an error and never wraps round to root
//! (threats C3).

use std::str::FromStr;

use super::{Capability, GroupRef, IdOrName, Rlimit, Signal, Ulimit, UserRef};
use crate::definition::CapabilitySet;
use crate::definition::problem::quote;

/// SIGRTMIN of glibc; the kernel's own is 32, and the C library keeps the first for itself.
const SIGRTMIN: i32 = 34;
/// SIGRTMAX is SIGRTMIN + 30.
const REAL_TIME_MAX: i32 = 30;

impl FromStr for Signal {
    type Err = String;

    /// A name with or without `SIG`, in either case, a number, `SIGRTMIN+N` or `SIGRTMAX-N`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "'{}' is not a signal, write a name such as SIGTERM or SIGRTMIN+3",
                quote(text)
            )
        };
        if text.len() > 16 {
            return Err(bad());
        }
        if let Some(number) = parse_digits(text) {
            let number = i32::try_from(number).map_err(|_| bad())?;
            return Self::from_number(number).ok_or_else(bad);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let from_lowest = name
            .strip_prefix("RTMIN")
            .map(|rest| (SIGRTMIN, '+', 1, rest));
        let from_highest = || {
            Some((
                SIGRTMIN + REAL_TIME_MAX,
                '-',
                -1,
                name.strip_prefix("RTMAX")?,
            ))
        };
        if let Some((base, sign, direction, rest)) = from_lowest.or_else(from_highest) {
            let offset = match rest.strip_prefix(sign) {
                Some(digits) => parse_digits(digits).ok_or_else(bad)?,
                None if rest.is_empty() => 0,
                None => return Err(bad()),
            };
            let offset = i32::try_from(offset).map_err(|_| bad())?;
            if offset > REAL_TIME_MAX {
                return Err(bad());
            }
            return Self::from_number(base + direction * offset).ok_or_else(bad);
        }
        let known = nix::sys::signal::Signal::from_str(&format!("SIG{name}"));
        known
            .map(|signal| Self::from_number(signal as i32))
            .ok()
            .flatten()
            .ok_or_else(bad)
    }
}

impl Signal {
    /// The signal of that number on this architecture.
    pub fn from_number(number: i32) -> Option<Self> {
        let name = match number - SIGRTMIN {
            0 => "SIGRTMIN".to_owned(),
            offset @ 1..=REAL_TIME_MAX => format!("SIGRTMIN+{offset}"),
            _ => nix::sys::signal::Signal::try_from(number)
                .ok()?
                .as_str()
                .to_owned(),
        };
        Some(Self { name, number })
    }
}

/// A decimal number without sign or leading zeros.
fn parse_digits(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (canonical && digits).then(|| text.parse().ok()).flatten()
}

impl FromStr for IdOrName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.bytes().next().is_some_and(|b| b.is_ascii_digit()) {
            return match parse_digits(text) {
                // 4294967295 is (uid_t) -1, "leave unchanged" to chown(2) and setresuid(2).
                Some(id) if id < u64::from(u32::MAX) => u32::try_from(id)
                    .map(Self::Id)
                    .map_err(|_| format!("'{}' is out of range", quote(text))),
                _ => Err(format!(
                    "'{}' is not an id, write a number from 0 to 4294967294 or a name",
                    quote(text)
                )),
            };
        }
        let stem = text.strip_suffix('$').unwrap_or(text);
        let first = stem.bytes().next();
        let valid = first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && stem.len() <= 32
            && stem
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if valid {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(format!(
                "'{}' is neither a number nor a name of letters, digits, '_', '.' and '-'",
                quote(text)
            ))
        }
    }
}

impl FromStr for UserRef {
    type Err = String;

    /// `USER` or `USER:GROUP`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        Ok(Self {
            user: user.parse()?,
            group: group.map(str::parse).transpose()?,
        })
    }
}

impl FromStr for GroupRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

/// Every capability of capabilities(7), without `CAP_`, in the order of their numbers.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Capability {
    /// Every capability this version knows, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        CAPABILITIES.iter().map(|name| Self(format!("CAP_{name}")))
    }
}

impl FromStr for Capability {
    type Err = String;

    /// A name of capabilities(7), `CAP_` optional, in either case.
    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if CAPABILITIES.contains(&name) {
            return Ok(Self(format!("CAP_{name}")));
        }
        let nearest = super::nearest(name, CAPABILITIES);
        Err(match nearest {
            Some(near) => format!(
                "'{}' is not a capability, did you mean '{near}'?",
                quote(text)
            ),
            None => format!("'{}' is not a capability of capabilities(7)", quote(text)),
        })
    }
}

impl CapabilitySet {
    /// Adds a capability by name, or `ALL`.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), String> {
        if text.eq_ignore_ascii_case("ALL") {
            *self = Self::All;
            return Ok(());
        }
        let capability: Capability = text.parse()?;
        match self {
            Self::Named(named) if !named.contains(&capability) => named.push(capability),
            Self::Named(_) | Self::All => {}
        }
        Ok(())
    }
}

/// The limits of getrlimit(2) by Compose's names.
pub(crate) const RLIMITS: [(&str, &str); 16] = [
    ("as", "RLIMIT_AS"),
    ("core", "RLIMIT_CORE"),
    ("cpu", "RLIMIT_CPU"),
    ("data", "RLIMIT_DATA"),
    ("fsize", "RLIMIT_FSIZE"),
    ("locks", "RLIMIT_LOCKS"),
    ("memlock", "RLIMIT_MEMLOCK"),
    ("msgqueue", "RLIMIT_MSGQUEUE"),
    ("nice", "RLIMIT_NICE"),
    ("nofile", "RLIMIT_NOFILE"),
    ("nproc", "RLIMIT_NPROC"),
    ("rss", "RLIMIT_RSS"),
    ("rtprio", "RLIMIT_RTPRIO"),
    ("rttime", "RLIMIT_RTTIME"),
    ("sigpending", "RLIMIT_SIGPENDING"),
    ("stack", "RLIMIT_STACK"),
];

impl FromStr for Rlimit {
    type Err = String;

    /// Compose's name, such as `nofile`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, oci)) = RLIMITS.iter().find(|(name, _)| *name == text) {
            return Ok(Self((*oci).to_owned()));
        }
        Err(
            match super::nearest(text, RLIMITS.iter().map(|&(name, _)| name)) {
                Some(near) => format!("'{}' is not a limit, did you mean '{near}'?", quote(text)),
                None => format!("'{}' is not a limit of getrlimit(2)", quote(text)),
            },
        )
    }
}

impl FromStr for Ulimit {
    type Err = String;

    /// `LIMIT` or `SOFT:HARD`; `infinity` or -1 for none.
    fn from_str(text: &str) -> Result<Self, String> {
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        let parse = |part: &str| match part {
            "infinity" | "-1" => Some(u64::MAX),
            _ => parse_digits(part),
        };
        let (Some(soft), Some(hard)) = (parse(soft), parse(hard)) else {
            return Err(format!(
                "'{}' is not a limit, write a number, SOFT:HARD or infinity",
                quote(text)
            ));
        };
        if soft > hard {
            return Err("the soft limit is above the hard limit".to_owned());
        }
        Ok(Self { soft, hard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        for (text, name, number) in [
            ("SIGTERM", "SIGTERM", 15),
            ("hup", "SIGHUP", 1),
            ("9", "SIGKILL", 9),
            ("SIGRTMIN+3", "SIGRTMIN+3", 37),
            ("RTMIN", "SIGRTMIN", 34),
            ("64", "SIGRTMIN+30", 64),
            ("RTMAX", "SIGRTMIN+30", 64),
            ("SIGRTMAX-1", "SIGRTMIN+29", 63),
        ] {
            let signal: Signal = text.parse().unwrap();
            assert_eq!(
                (signal.name.as_str(), signal.number),
                (name, number),
                "{text}"
            );
        }
        for bad in [
            "",
            "0",
            "65",
            "-1",
            "33",
            "SIGKILL;x",
            "SIGSIGTERM",
            "SIGRTMIN+31",
            "SIGRTMIN-1",
            "SIGRTMAX-31",
            "SIGRTMAX+1",
            "SIGRTMIN+",
            "015",
            "SIGRTMIN+99999999999999999999",
        ] {
            assert!(bad.parse::<Signal>().is_err(), "{bad}");
        }
    }

    /// Threats C3.
    #[test]
    fn users_are_never_root_by_accident() {
        for good in [
            "0",
            "1000",
            "4294967294",
            "root",
            "www-data:33",
            "_x:y.z",
            "host$",
        ] {
            assert!(good.parse::<UserRef>().is_ok(), "{good}");
        }
        for bad in [
            "",
            ":",
            "root:",
            ":0",
            " root",
            "root ",
            "-1",
            "+1",
            "0x0",
            "00",
            "1e3",
            "4294967295",
            "4294967296",
            "1000:99999999999",
            "1:2:3",
            "a b",
            "a\nb",
            "١",
            "99999999999999999999999",
        ] {
            assert!(bad.parse::<UserRef>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn capabilities_and_limits() {
        assert_eq!(
            "net_admin".parse::<Capability>().unwrap().name(),
            "CAP_NET_ADMIN"
        );
        assert!("CAP_CAP_KILL".parse::<Capability>().is_err());
        assert_eq!(Capability::all().count(), 41);
        assert_eq!(
            "NETADMIN".parse::<Capability>().unwrap_err(),
            "'NETADMIN' is not a capability, did you mean 'NET_ADMIN'?"
        );
        assert_eq!(
            "1:infinity".parse(),
            Ok(Ulimit {
                soft: 1,
                hard: u64::MAX
            })
        );
        for bad in ["", "2:1", "-2", "1:", "x", "99999999999999999999"] {
            assert!(bad.parse::<Ulimit>().is_err(), "{bad}");
        }
    }
}
