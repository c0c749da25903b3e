// SPDX-License-Identifier: Apache-2.0
//! Short forms that have colons: volumes, tmpfs, devices, I/O limits, log rates.
//!
//! Paths in them cannot hold a colon; there is no way to escape one, as in Compose.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::quantity::parse_positive_duration;
use super::text::{parse_host_path, parse_program, parse_target};
use super::{Bytes, DevicePath, IoLimit, IoLimitKind};
use crate::definition::problem::quote;
use crate::definition::{
    Device, MountFlag, Pids, Propagation, RateLimit, Tmpfs, Unmask, Volume, VolumeSource,
};
use crate::name::ContainerName;

impl FromStr for Volume {
    type Err = String;

    /// `TARGET`, `SOURCE:TARGET` or `SOURCE:TARGET:OPTION,…`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        let (first, target, options) = (parts.next().unwrap_or(""), parts.next(), parts.next());
        let (source, target) = match target {
            None => (VolumeSource::Anonymous, first),
            Some(target) => (first.parse()?, target),
        };
        let mut volume = Self {
            source,
            target: parse_target(target)?,
            read_only: false,
            propagation: Propagation::default(),
            flags: Vec::new(),
            chown: false,
            idmap: false,
        };
        for option in options.into_iter().flat_map(|options| options.split(',')) {
            volume.set_option(option)?;
        }
        Ok(volume)
    }
}

impl Volume {
    fn set_option(&mut self, option: &str) -> Result<(), String> {
        let mut propagate = |propagation| self.propagation = propagation;
        match option {
            "rw" => self.read_only = false,
            "ro" => self.read_only = true,
            "private" => propagate(Propagation::Private),
            "rprivate" => propagate(Propagation::Rprivate),
            "shared" => propagate(Propagation::Shared),
            "rshared" => propagate(Propagation::Rshared),
            "slave" => propagate(Propagation::Slave),
            "rslave" => propagate(Propagation::Rslave),
            "nosuid" => self.flags.push(MountFlag::Nosuid),
            "noexec" => self.flags.push(MountFlag::Noexec),
            "nodev" => self.flags.push(MountFlag::Nodev),
            "U" => self.chown = true,
            "idmap" => self.idmap = true,
            "z" | "Z" => {
                return Err(format!(
                    "option '{option}' (SELinux relabelling) is not supported yet"
                ));
            }
            _ => {
                return Err(format!(
                    "'{}' is not an option of a volume, known are ro, rw, nosuid, noexec, nodev, \
                     U, idmap and [r]private, [r]shared, [r]slave",
                    quote(option)
                ));
            }
        }
        Ok(())
    }
}

impl FromStr for VolumeSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return parse_host_path(text).map(Self::Bind);
        }
        if text.starts_with(['.', '~']) {
            return Err(format!(
                "'{}' is relative to nothing, write an absolute path or the name of a volume",
                quote(text)
            ));
        }
        match text.parse::<ContainerName>() {
            Ok(name) if name.instance().is_none() => Ok(Self::Named(text.to_owned())),
            _ => Err(format!(
                "'{}' is neither an absolute path nor the name of a volume",
                quote(text)
            )),
        }
    }
}

impl FromStr for Tmpfs {
    type Err = String;

    /// `TARGET` or `TARGET:OPTION,…`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let mut tmpfs = Self {
            target: parse_target(target)?,
            size: None,
            mode: 0o1777,
            read_only: false,
            noexec: false,
        };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("size", size)) => tmpfs.size = Some(size.parse()?),
                Some(("mode", mode)) => tmpfs.mode = parse_mode(mode)?,
                Some(_) => return Err(unknown_tmpfs_option(option)),
                None => match option {
                    "ro" => tmpfs.read_only = true,
                    "rw" => tmpfs.read_only = false,
                    "noexec" => tmpfs.noexec = true,
                    "exec" => tmpfs.noexec = false,
                    // Always on.
                    "nosuid" | "nodev" => {}
                    _ => return Err(unknown_tmpfs_option(option)),
                },
            }
        }
        Ok(tmpfs)
    }
}

fn unknown_tmpfs_option(option: &str) -> String {
    format!(
        "'{}' is not an option of a tmpfs, known are size=, mode=, ro, rw, exec, noexec",
        quote(option)
    )
}

fn parse_mode(text: &str) -> Result<u32, String> {
    let octal = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|&mode| octal && mode <= 0o7777)
        .ok_or_else(|| format!("'{}' is not an octal mode such as 1777", quote(text)))
}

impl FromStr for DevicePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = parse_program(text)?;
        if path.starts_with("/dev") && path != Path::new("/dev") {
            Ok(Self(path))
        } else {
            Err(format!("'{}' is not a path below /dev", quote(text)))
        }
    }
}

impl FromStr for Device {
    type Err = String;

    /// `HOST`, `HOST:TARGET` or `HOST:TARGET:PERMISSIONS`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        let (host, target, permissions) = (parts.next().unwrap_or(""), parts.next(), parts.next());
        let source: DevicePath = host.parse()?;
        let target = match target {
            Some(target) => parse_target(target)?,
            None => source.0.to_string_lossy().into_owned(),
        };
        let permissions = permissions.unwrap_or("rwm");
        let all_known = permissions.bytes().all(|b| b"rwm".contains(&b));
        let repeated = "rwm".chars().any(|c| permissions.matches(c).count() > 1);
        if permissions.is_empty() || !all_known || repeated {
            return Err(format!(
                "'{}' is not a set of 'r', 'w' and 'm'",
                quote(permissions)
            ));
        }
        Ok(Self {
            source,
            target,
            permissions: permissions.to_owned(),
        })
    }
}

impl Unmask {
    /// Adds a path, or all of them.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), String> {
        if text == "ALL" {
            *self = Self::All;
            return Ok(());
        }
        let path = super::text::parse_container_path(text)?;
        match self {
            Self::Paths(paths) => paths.push(path),
            Self::All => {}
        }
        Ok(())
    }
}

impl IoLimit {
    /// Parses `DEVICE:LIMIT`, the limit a size or a number of operations a second.
    pub(crate) fn parse(kind: IoLimitKind, text: &str) -> Result<Self, String> {
        let Some((device, limit)) = text.rsplit_once(':') else {
            return Err(format!(
                "'{}' is not DEVICE:LIMIT such as /dev/sda:10M",
                quote(text)
            ));
        };
        let device: PathBuf = parse_host_path(device)?;
        let Bytes(limit) = limit.parse()?;
        if limit == 0 {
            return Err("a limit of 0 would stop all input and output".to_owned());
        }
        Ok(Self {
            kind,
            device,
            limit,
        })
    }
}

impl FromStr for Pids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "infinity" {
            return Ok(Self::Infinity);
        }
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // The kernel's PID_MAX_LIMIT.
        let max = text.parse().ok().filter(|n| (1..=4_194_304).contains(n));
        max.filter(|_| digits).map(Self::Max).ok_or_else(|| {
            format!(
                "'{}' is not a number from 1 to 4194304 or 'infinity'",
                quote(text)
            )
        })
    }
}

impl FromStr for RateLimit {
    type Err = String;

    /// `LINES/INTERVAL`, or 0 for no limit.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(Self::Unlimited);
        }
        let bad = || {
            format!(
                "'{}' is not LINES/INTERVAL such as 10000/30s, or 0 for no limit",
                quote(text)
            )
        };
        let (lines, interval) = text.split_once('/').ok_or_else(bad)?;
        let digits = lines.bytes().all(|b| b.is_ascii_digit());
        let burst: Option<u32> = lines.parse().ok().filter(|&burst| burst > 0 && digits);
        Ok(Self::PerInterval {
            burst: burst.ok_or_else(bad)?,
            interval: parse_positive_duration(interval)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        let volume: Volume = "/srv/./x:/data//y:ro,rslave,nosuid,U".parse().unwrap();
        assert_eq!(volume.source, VolumeSource::Bind(PathBuf::from("/srv/x")));
        assert_eq!(volume.target, "/data/y");
        assert!(volume.read_only && volume.chown && !volume.idmap);
        assert_eq!(volume.propagation, Propagation::Rslave);
        assert_eq!(volume.flags, [MountFlag::Nosuid]);
        let named: Volume = "data:/d".parse().unwrap();
        assert_eq!(named.source, VolumeSource::Named("data".to_owned()));
        let anonymous: Volume = "/d".parse().unwrap();
        assert_eq!(anonymous.source, VolumeSource::Anonymous);
        for bad in [
            "",
            ":",
            "data",
            "./x:/y",
            "~/x:/y",
            "/x:y",
            "/x:/",
            "/x:/..",
            "/x:/y:zz",
            "/x:/y:",
            "a@b:/y",
            "-x:/y",
            "/x:/proc/1",
            "/x:/y:Z",
        ] {
            assert!(bad.parse::<Volume>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tmpfs_and_devices() {
        let tmpfs: Tmpfs = "/run:size=64m,mode=755,noexec".parse().unwrap();
        assert_eq!(
            (tmpfs.size, tmpfs.mode, tmpfs.noexec),
            (Some(Bytes(64 << 20)), 0o755, true)
        );
        for bad in [
            "",
            "run",
            "/run:size=",
            "/run:mode=999",
            "/run:uid=0",
            "/run:mode=+7",
            "/run:suid",
        ] {
            assert!(bad.parse::<Tmpfs>().is_err(), "{bad}");
        }
        let device: Device = "/dev/fuse:/dev/fuse:rw".parse().unwrap();
        assert_eq!(device.permissions, "rw");
        for bad in [
            "",
            "/dev",
            "/etc/passwd",
            "/dev/../etc/x",
            "/dev/x:y",
            "/dev/x:/y:",
            "/dev/x:/y:rr",
            "/dev/x:/y:x",
        ] {
            assert!(bad.parse::<Device>().is_err(), "{bad}");
        }
    }

    #[test]
    fn limits() {
        assert!(IoLimit::parse(IoLimitKind::ReadBps, "/dev/sda:10M").is_ok());
        for bad in ["", "/dev/sda", "sda:1", "/dev/sda:0", "/dev/sda:x"] {
            assert!(IoLimit::parse(IoLimitKind::ReadBps, bad).is_err(), "{bad}");
        }
        assert_eq!("0".parse(), Ok(RateLimit::Unlimited));
        for bad in ["", "1", "0/1s", "1/0", "+1/1s", "-1/1s", "1/1s/1s"] {
            assert!(bad.parse::<RateLimit>().is_err(), "{bad}");
        }
        for bad in ["0", "-1", "+5", "", "max", "5000000"] {
            assert!(bad.parse::<Pids>().is_err(), "{bad}");
        }
    }
}
