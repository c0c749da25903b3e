// SPDX-License-Identifier: Apache-2.0
//! The administrator's own unit directives: which are let through, and what their values may hold.
//!
//! They are emitted verbatim, so this is the one place where user text reaches a unit file: control
//! characters and trailing backslashes are refused (threats U1, U2); '%' and quotes are the
//! administrator's, as in any unit. Directives that the hand-over stands on are refused.

use crate::definition::keys::Section;
use crate::definition::problem::quote;
use crate::definition::value::{nearest, text};
use crate::name::UnitName;

/// Longest value: systemd takes lines of 1 MiB, and nobody writes one of more than this.
const VALUE_MAX_BYTES: usize = 64 << 10;

/// Directives of `[Service]` that cannot be set, and the key that does it or the reason.
const REFUSED_SERVICE: &[(&str, &str)] = &[
    ("BusName", "the unit is of type notify"),
    ("BusPolicy", "the unit is of type notify"),
    ("CPUQuota", "use resources.cpus"),
    ("CPUWeight", "use resources.cpu_weight"),
    ("AllowedCPUs", "use resources.cpuset"),
    (
        "Delegate",
        "the container lives in a delegated cgroup of its own",
    ),
    (
        "DelegateSubgroup",
        "the container lives in a delegated cgroup of its own",
    ),
    ("DynamicUser", "use user"),
    ("Environment", "use environment; this would be wharf's own"),
    ("EnvironmentFile", "use env_file; this would be wharf's own"),
    ("ExecReload", "use reload"),
    ("ExecStart", "use command and entrypoint"),
    ("ExecStop", "use stop_signal"),
    (
        "FileDescriptorStoreMax",
        "the container's output is kept there",
    ),
    (
        "FileDescriptorStorePreserve",
        "the container's output is kept there",
    ),
    ("GuessMainPID", "wharf tells systemd the main process"),
    ("Group", "use user"),
    ("IOReadBandwidthMax", "use resources.io_read_bps"),
    ("IOReadIOPSMax", "use resources.io_read_iops"),
    ("IOWeight", "use resources.io_weight"),
    ("IOWriteBandwidthMax", "use resources.io_write_bps"),
    ("IOWriteIOPSMax", "use resources.io_write_iops"),
    (
        "KillMode",
        "it must be mixed, so that the relay is not asked to stop before the container",
    ),
    ("KillSignal", "use stop_signal"),
    ("LogRateLimitBurst", "use log.rate_limit"),
    ("LogRateLimitIntervalSec", "use log.rate_limit"),
    ("MemoryHigh", "use resources.memory_high"),
    ("MemoryMax", "use resources.memory"),
    ("MemorySwapMax", "use resources.memory_swap"),
    ("MountAPIVFS", "it is for the container, not for wharf"),
    (
        "NonBlocking",
        "it changes the descriptors of wharf, not of the container",
    ),
    (
        "NotifyAccess",
        "it must be all, so that wharf can tell systemd the main process",
    ),
    ("OOMPolicy", "use resources.oom_policy"),
    ("OOMScoreAdjust", "use resources.oom_score_adj"),
    ("PAMName", "it makes a session of the unit"),
    ("PIDFile", "wharf tells systemd the main process"),
    ("PrivateDevices", "it is for the container, not for wharf"),
    ("PrivateMounts", "wharf makes a mount namespace of its own"),
    ("PrivateNetwork", "use network"),
    (
        "PrivatePIDs",
        "systemd must see the container's main process",
    ),
    ("PrivateTmp", "wharf makes a mount namespace of its own"),
    ("PrivateUsers", "wharf needs to be root on the host"),
    ("ProtectControlGroups", "wharf makes the container's cgroup"),
    ("RemainAfterExit", "the unit's state is the container's"),
    ("Restart", "use restart"),
    ("RestartSec", "use restart_delay"),
    ("RootDirectory", "use rootfs"),
    ("RootImage", "use image"),
    ("RootHash", "use image"),
    (
        "RuntimeDirectory",
        "wharf makes the container's directories",
    ),
    ("StandardError", "use log"),
    ("StandardInput", "use stdin or tty"),
    ("StandardOutput", "use log"),
    (
        "SuccessExitStatus",
        "it is set so that a clean stop is not a failure; use SuccessAction or RestartPreventExitStatus",
    ),
    ("SyslogIdentifier", "use log.identifier"),
    ("TTYPath", "use tty"),
    ("TasksMax", "use resources.pids"),
    ("TimeoutSec", "use start_timeout and stop_timeout"),
    ("TimeoutStartSec", "use start_timeout"),
    ("TimeoutStopSec", "use stop_timeout"),
    ("Type", "use type and notify"),
    ("USBFunctionDescriptors", "it is not for containers"),
    ("USBFunctionStrings", "it is not for containers"),
    ("User", "use user"),
    ("WorkingDirectory", "use working_dir"),
];

/// Directives of `[Unit]` that cannot be set.
const REFUSED_UNIT: &[(&str, &str)] = &[
    ("Description", "use description"),
    ("SourcePath", "it names the definition"),
    ("StartLimitBurst", "use restart_max_attempts"),
    ("StartLimitIntervalSec", "use restart_window"),
    ("StartLimitInterval", "use restart_window"),
];

/// What `[Install]` may hold; the generator makes links of it.
const INSTALL: [&str; 3] = ["WantedBy", "RequiredBy", "UpheldBy"];

/// Checks that a directive may be set.
pub(crate) fn check_name(section: Section, name: &str) -> Result<(), String> {
    let first = name.bytes().next();
    let valid = first.is_some_and(|b| b.is_ascii_alphabetic())
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric());
    if !valid {
        return Err(format!("'{}' is not the name of a directive", quote(name)));
    }
    let refused = match section {
        Section::Unit => REFUSED_UNIT,
        Section::Service => REFUSED_SERVICE,
        Section::Install => {
            return if INSTALL.contains(&name) {
                Ok(())
            } else {
                Err(match nearest(name, INSTALL) {
                    Some(near) => format!("'{name}' is not known, did you mean '{near}'?"),
                    None => format!("'{name}' is not supported, only {}", INSTALL.join(", ")),
                })
            };
        }
    };
    // systemd's names are case-sensitive: 'execstart' would be ignored with a warning.
    match refused
        .iter()
        .find(|(directive, _)| directive.eq_ignore_ascii_case(name))
    {
        Some((directive, reason)) => Err(format!("'{directive}' cannot be set here: {reason}")),
        None => Ok(()),
    }
}

/// Checks one value of a directive.
pub(crate) fn check_value(section: Section, name: &str, value: &str) -> Result<(), String> {
    text::check_line(value)?;
    if value.trim().is_empty() {
        // "ExecStopPost=" would undo the clean-up, "LogExtraFields=" the container's name.
        return Err("an empty value would take back what wharf sets".to_owned());
    }
    if value.ends_with('\\') {
        return Err("a backslash at the end swallows the next line of the unit".to_owned());
    }
    if value.len() > VALUE_MAX_BYTES {
        return Err(format!("{name} is longer than {VALUE_MAX_BYTES} bytes"));
    }
    match section {
        Section::Unit | Section::Service => Ok(()),
        Section::Install => value.parse::<UnitName>().map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives() {
        for (section, name) in [
            (Section::Unit, "After"),
            (Section::Service, "ExecStartPre"),
            (Section::Service, "Nice"),
            (Section::Install, "WantedBy"),
        ] {
            assert_eq!(check_name(section, name), Ok(()), "{name}");
        }
        for (section, name) in [
            (Section::Unit, "description"),
            (Section::Service, "ExecStart"),
            (Section::Service, "Type"),
            (Section::Service, "X-Own"),
            (Section::Service, "A=b"),
            (Section::Service, ""),
            (Section::Install, "Alias"),
        ] {
            assert!(check_name(section, name).is_err(), "{name}");
        }
        for bad in ["a\nb", "a\0b", "a\rb", "a\\", "", " "] {
            assert!(check_value(Section::Unit, "After", bad).is_err(), "{bad:?}");
        }
        assert!(check_value(Section::Install, "WantedBy", "a b.target").is_err());
    }
}
