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
use crate::engine::host::Architecture;
use crate::engine::spec::Inputs;
use crate::engine::spec::capabilities::Set;
use crate::sys;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

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

/// Rules that look at the first argument. Several rules for one call mean "any of them".
fn by_argument(allowed: &BTreeSet<&str>) -> anyhow::Result<Vec<LinuxSyscall>> {
    let mut conditions: Vec<_> = PERSONALITIES
        .into_iter()
        .map(|value| ("personality", LinuxSeccompOperator::ScmpCmpEq, value))
        .collect();
    // Ranges and not "is none of": the runtimes join conditions on one argument by "or".
    conditions.extend([
        ("socket", LinuxSeccompOperator::ScmpCmpLt, AF_ALG),
        ("socket", LinuxSeccompOperator::ScmpCmpEq, AF_ALG + 1),
        ("socket", LinuxSeccompOperator::ScmpCmpGt, AF_VSOCK),
    ]);
    if !allowed.contains("clone") {
        let masked = LinuxSeccompOperator::ScmpCmpMaskedEq;
        conditions.push(("clone", masked, CLONE_NAMESPACES));
    }
    let allow = |(name, op, value)| -> anyhow::Result<LinuxSyscall> {
        let mut arg = LinuxSeccompArgBuilder::default().index(0_usize);
        arg = arg.op(op).value(value);
        if op == LinuxSeccompOperator::ScmpCmpMaskedEq {
            arg = arg.value_two(0_u64);
        }
        let mut rule = rule(&BTreeSet::from([name]), LinuxSeccompAction::ScmpActAllow);
        rule.set_args(Some(vec![arg.build()?]));
        Ok(rule)
    };
    conditions.into_iter().map(allow).collect()
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
