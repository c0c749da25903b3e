// SPDX-License-Identifier: Apache-2.0
//! The seccomp filter: the built-in profile, or one from a file.
//!
//! The built-in profile is an allow-list. What it knows and denies fails with EPERM; what it does
//! not know fails with ENOSYS, as on a kernel without it, because C libraries try newer calls
//! first and go on to the older one only after ENOSYS. The runtime (libseccomp) skips names that
//! its version or the architecture does not have.

mod table;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, bail};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompOperator,
    LinuxSyscall,
};

use crate::definition::Seccomp;
use crate::engine::spec::Inputs;
use crate::engine::spec::capabilities::Set;
use crate::engine::spec::host::Architecture;
use crate::sys;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const EAFNOSUPPORT: u32 = 97;

/// Every `CLONE_NEW*` flag that clone(2) takes (linux/sched.h): new mount, cgroup, UTS, IPC, user,
/// PID and network namespaces.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Execution domains that programs ask for (personality(2)): Linux, 32-bit Linux, both of them with
/// a kernel version of 2.6, and "only tell me".
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Socket families that are not namespaced or are all attack surface: the kernel's crypto API
/// (`AF_ALG`), and the hypervisor's sockets (`AF_VSOCK`), which reach the host past any network
/// namespace.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// The filter of a container; none when it is unconfined, or privileged without a profile of its
/// own.
pub(crate) fn render(inputs: &Inputs<'_>, caps: &Set) -> anyhow::Result<Option<LinuxSeccomp>> {
    let security = &inputs.definition.security;
    match &security.seccomp {
        Seccomp::Unconfined => Ok(None),
        Seccomp::Default if security.privileged => Ok(None),
        Seccomp::Default => built_in(caps, inputs.host.architecture).map(Some),
        Seccomp::Profile(path) => match &inputs.seccomp_profile {
            Some(profile) => Ok(Some(profile.clone())),
            None => bail!("the seccomp profile '{}' was not loaded", path.display()),
        },
    }
}

/// Reads the profile that a definition names; none when it names none.
///
/// The format is that of `linux.seccomp` in the OCI runtime specification.
pub fn load(seccomp: &Seccomp) -> anyhow::Result<Option<LinuxSeccomp>> {
    match seccomp {
        Seccomp::Default | Seccomp::Unconfined => Ok(None),
        Seccomp::Profile(path) => read_profile(path)
            .map(Some)
            .with_context(|| format!("loading seccomp profile '{}'", path.display())),
    }
}

fn read_profile(path: &Path) -> anyhow::Result<LinuxSeccomp> {
    let text = sys::fs::read_to_string(path)?;
    parse_profile(&text)
}

fn parse_profile(text: &str) -> anyhow::Result<LinuxSeccomp> {
    let value: serde_json::Value = serde_json::from_str(text)?;
    let engine_format = |key: &str| value.pointer(key).is_some();
    let rules = value.get("syscalls").and_then(serde_json::Value::as_array);
    let conditional = rules.into_iter().flatten().any(|rule| {
        rule.get("includes").is_some()
            || rule.get("excludes").is_some()
            || rule.get("name").is_some()
    });
    if engine_format("/archMap") || conditional {
        bail!(
            "this is the format of other engines, with 'archMap', 'includes' or 'excludes'; \
             write it as 'linux.seccomp' of the OCI runtime specification"
        );
    }
    let profile: LinuxSeccomp = serde_json::from_value(value)?;
    if profile.listener_path().is_some() {
        bail!("'listenerPath' is not supported, remove it");
    }
    Ok(profile)
}

/// The built-in profile for a container that may hold `caps`.
fn built_in(caps: &Set, architecture: Architecture) -> anyhow::Result<LinuxSeccomp> {
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActErrno);
    profile.set_default_errno_ret(Some(ENOSYS));
    profile.set_architectures(architectures(architecture));
    let (allowed, denied) = decide(caps);
    let mut rules = vec![rule(&allowed, LinuxSeccompAction::ScmpActAllow)];
    let mut refused = rule(&denied, LinuxSeccompAction::ScmpActErrno);
    refused.set_errno_ret(Some(EPERM));
    rules.push(refused);
    rules.extend(by_argument(&allowed)?);
    profile.set_syscalls(Some(rules));
    Ok(profile)
}

/// Names allowed without a look at arguments, and names refused with EPERM.
fn decide(caps: &Set) -> (BTreeSet<&'static str>, BTreeSet<&'static str>) {
    let mut allowed: BTreeSet<&str> = table::ALLOWED.concat().into_iter().collect();
    let mut denied: BTreeSet<&str> = table::DENIED.iter().copied().collect();
    for (capability, names) in table::WITH_CAPABILITY {
        let names = names.iter().copied();
        if caps.has(capability) {
            allowed.extend(names);
        } else {
            denied.extend(names);
        }
    }
    // A second capability may have allowed it; clone is decided by its argument.
    denied.retain(|name| !allowed.contains(name) && *name != "clone");
    denied.retain(|name| !table::ABSENT.contains(name));
    (allowed, denied)
}

fn rule(names: &BTreeSet<&str>, action: LinuxSeccompAction) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.iter().map(|name| (*name).to_owned()).collect());
    rule.set_action(action);
    rule
}

/// One rule: the call, how to compare its first argument with what, and what then.
type Condition = (&'static str, LinuxSeccompOperator, u64, LinuxSeccompAction);

/// Rules that look at the first argument. Several rules for one call mean "any of them", and those
/// with different actions exclude each other, so that their order means nothing.
fn by_argument(allowed: &BTreeSet<&str>) -> anyhow::Result<Vec<LinuxSyscall>> {
    use LinuxSeccompAction::{ScmpActAllow as Allow, ScmpActErrno as Refuse};
    use LinuxSeccompOperator::{ScmpCmpEq as Is, ScmpCmpGt as Above, ScmpCmpLt as Below};
    let has_bits = LinuxSeccompOperator::ScmpCmpMaskedEq;
    let mut conditions: Vec<Condition> = Vec::new();
    conditions.extend(PERSONALITIES.map(|value| ("personality", Is, value, Allow)));
    // Ranges and not "is none of": the runtimes join conditions on one argument by "or".
    conditions.extend([
        ("socket", Below, AF_ALG, Allow),
        ("socket", Is, AF_ALG, Refuse),
        ("socket", Is, AF_ALG + 1, Allow),
        ("socket", Is, AF_VSOCK, Refuse),
        ("socket", Above, AF_VSOCK, Allow),
    ]);
    if !allowed.contains("clone") {
        conditions.push(("clone", has_bits, CLONE_NAMESPACES, Allow));
        let flags = (0..u64::BITS).map(|bit| CLONE_NAMESPACES & (1 << bit));
        let flags = flags.filter(|flag| *flag != 0);
        conditions.extend(flags.map(|flag| ("clone", has_bits, flag, Refuse)));
    }
    conditions.into_iter().map(conditional_rule).collect()
}

fn conditional_rule((name, op, value, action): Condition) -> anyhow::Result<LinuxSyscall> {
    let mut arg = LinuxSeccompArgBuilder::default()
        .index(0_usize)
        .op(op)
        .value(value);
    let mut rule = rule(&BTreeSet::from([name]), action);
    let refused = action == LinuxSeccompAction::ScmpActErrno;
    if op == LinuxSeccompOperator::ScmpCmpMaskedEq {
        // Allowed with none of the bits, refused with this one.
        arg = arg.value_two(if refused { value } else { 0 });
    }
    rule.set_args(Some(vec![arg.build()?]));
    if refused {
        // What a kernel without the family says, so that programs do without it.
        let errno = if name == "socket" {
            EAFNOSUPPORT
        } else {
            EPERM
        };
        rule.set_errno_ret(Some(errno));
    }
    Ok(rule)
}

fn architectures(architecture: Architecture) -> Option<Vec<Arch>> {
    match architecture {
        Architecture::X86_64 => Some(vec![
            Arch::ScmpArchX86_64,
            Arch::ScmpArchX86,
            Arch::ScmpArchX32,
        ]),
        Architecture::Aarch64 => Some(vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]),
        // The native one, which is what libseccomp takes when it is told none.
        Architecture::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::spec::{capabilities, fixture};

    fn profile(add: &[&str]) -> LinuxSeccomp {
        let mut definition = fixture::definition();
        let names = add
            .iter()
            .map(|name| crate::definition::value::Capability((*name).to_owned()));
        definition.security.cap_add = crate::definition::CapabilitySet::Named(names.collect());
        let set = capabilities::bounding(&definition.security, &fixture::host()).unwrap();
        built_in(&set, Architecture::X86_64).unwrap()
    }

    /// What the profile does with a call whose first argument is `arg`: 0 is "allowed", else errno.
    fn verdict(profile: &LinuxSeccomp, name: &str, arg: u64) -> u32 {
        let holds = |rule: &&LinuxSyscall| {
            let args = rule.args().iter().flatten();
            let mut args = args.map(|a| match a.op() {
                LinuxSeccompOperator::ScmpCmpEq => arg == a.value(),
                LinuxSeccompOperator::ScmpCmpLt => arg < a.value(),
                LinuxSeccompOperator::ScmpCmpGt => arg > a.value(),
                LinuxSeccompOperator::ScmpCmpMaskedEq => arg & a.value() == a.value_two().unwrap(),
                other => panic!("{other}"),
            });
            rule.names().iter().any(|n| n == name) && args.all(|holds| holds)
        };
        let rules = profile.syscalls().as_ref().unwrap();
        let mut found: Vec<u32> = rules
            .iter()
            .filter(holds)
            .map(|rule| match rule.action() {
                LinuxSeccompAction::ScmpActAllow => 0,
                _ => rule.errno_ret().unwrap(),
            })
            .collect();
        found.dedup();
        assert!(found.len() < 2, "{name}({arg:#x}) is both {found:?}");
        found.pop().unwrap_or(profile.default_errno_ret().unwrap())
    }

    #[test]
    fn verdicts_of_the_built_in_profile() {
        let plain = profile(&[]);
        let admin = profile(&["CAP_SYS_ADMIN"]);
        let cases = [
            ("read", 0, 0, 0),
            ("ptrace", 0, 0, 0),
            ("clone3", 0, ENOSYS, 0),
            ("clone", 17, 0, 0),
            ("clone", 17 | 0x1000_0000, EPERM, 0),
            ("clone", 17 | 0x4002_0000, EPERM, 0),
            ("unshare", 0x1000_0000, EPERM, 0),
            ("mount", 0, EPERM, 0),
            ("bpf", 0, EPERM, 0),
            ("keyctl", 0, EPERM, EPERM),
            ("io_uring_setup", 0, EPERM, EPERM),
            ("reboot", 0, EPERM, EPERM),
            ("a_call_of_next_year", 0, ENOSYS, ENOSYS),
            ("socket", 2, 0, 0),
            ("socket", 38, EAFNOSUPPORT, EAFNOSUPPORT),
            ("socket", 40, EAFNOSUPPORT, EAFNOSUPPORT),
            ("socket", 44, 0, 0),
            ("personality", 0xffff_ffff, 0, 0),
            ("personality", 0x4_0000, ENOSYS, ENOSYS),
        ];
        for (name, arg, without, with) in cases {
            assert_eq!(verdict(&plain, name, arg), without, "{name}({arg:#x})");
            assert_eq!(
                verdict(&admin, name, arg),
                with,
                "{name}({arg:#x}) with SYS_ADMIN"
            );
        }
        assert_eq!(verdict(&profile(&["CAP_BPF"]), "bpf", 0), 0);
        assert_eq!(verdict(&profile(&["CAP_SYSLOG"]), "syslog", 0), 0);
    }

    #[test]
    fn no_call_is_in_the_table_twice() {
        let mut seen = BTreeSet::new();
        for name in table::ALLOWED
            .concat()
            .into_iter()
            .chain(table::DENIED.iter().copied())
        {
            assert!(seen.insert(name), "{name}");
        }
        for name in table::WITH_CAPABILITY.iter().flat_map(|(_, names)| *names) {
            assert!(!seen.contains(name), "{name}");
        }
    }

    #[test]
    fn a_profile_in_another_format_is_an_error_that_says_so() {
        let oci = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,
            "syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}"#;
        let profile = parse_profile(oci).unwrap();
        assert_eq!(profile.syscalls().as_ref().unwrap().len(), 1);
        for (text, message) in [
            (
                r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[]}"#,
                "format of other engines",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":[],"includes":{}}]}"#,
                "format of other engines",
            ),
            (r#"{"defaultAction":"NO"}"#, "unknown variant"),
            (
                r#"{"defaultAction":"SCMP_ACT_LOG","listenerPath":"/x"}"#,
                "listenerPath",
            ),
            ("{", "EOF"),
        ] {
            let err = parse_profile(text).unwrap_err();
            assert!(err.to_string().contains(message), "{text}: {err}");
        }
    }
}
