// SPDX-License-Identifier: Apache-2.0
//! The first process: arguments, user, limits.

use anyhow::Context as _;
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    BoxBuilder, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, User,
};

use crate::definition::Definition;
use crate::engine::spec::capabilities::{self, Set};
use crate::engine::spec::{INIT_PATH, Inputs, security};

/// Who the first process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, sorted. The primary one is among them: a process that can change its
    /// primary group must not thereby shed it where it denies access (CVE-2022-36109).
    pub additional_gids: Vec<u32>,
    /// Home directory, where passwd(5) has an entry that names an absolute one.
    pub home: Option<String>,
}

pub(crate) fn render(inputs: &Inputs<'_>, bounding: &Set) -> anyhow::Result<Process> {
    let definition = inputs.definition;
    let mut process = Process::default();
    process.set_terminal(Some(definition.process.tty));
    let size = definition.process.tty.then(console_size);
    process.set_console_size(size.transpose()?);
    process.set_user(user(inputs));
    process.set_args(Some(args(inputs)));
    process.set_env(Some(inputs.env.clone()));
    process.set_cwd(inputs.cwd.clone());
    let security = &definition.security;
    let sets = capabilities::render(security, bounding, inputs.user.uid);
    process.set_capabilities(Some(sets));
    process.set_rlimits(rlimits(definition)?);
    process.set_no_new_privileges(Some(security.no_new_privileges));
    process.set_apparmor_profile(security::apparmor(security, inputs.host)?);
    process.set_selinux_label(security::selinux(security, inputs.host)?);
    // Not set unless asked for: a value below wharf's own needs CAP_SYS_RESOURCE, and the unit's
    // OOMScoreAdjust= is inherited.
    process.set_oom_score_adj(definition.resources.oom_score_adj);
    Ok(process)
}

/// A terminal without a size is one that programs cannot draw on, and nobody gives it one before
/// the program runs.
fn console_size() -> Result<oci_spec::runtime::Box, OciSpecError> {
    BoxBuilder::default().height(24_u64).width(80_u64).build()
}

fn user(inputs: &Inputs<'_>) -> User {
    let mut user = User::default();
    user.set_uid(inputs.user.uid);
    user.set_gid(inputs.user.gid);
    // wharf's own umask, which the service manager sets, is not the container's.
    user.set_umask(Some(0o022));
    let groups = inputs.user.additional_gids.clone();
    user.set_additional_gids((!groups.is_empty()).then_some(groups));
    user
}

fn args(inputs: &Inputs<'_>) -> Vec<String> {
    let init: &[&str] = match inputs.init {
        Some(_) => &[INIT_PATH, "--"],
        None => &[],
    };
    let words = init.iter().map(|word| (*word).to_owned());
    words.chain(inputs.args.iter().cloned()).collect()
}

/// The limits of `ulimits`; every other one is the unit's (`LimitNOFILE=` and so on), inherited.
fn rlimits(definition: &Definition) -> anyhow::Result<Option<Vec<PosixRlimit>>> {
    let mut limits = Vec::new();
    for (name, values) in &definition.security.ulimits {
        let kind: PosixRlimitType = name
            .0
            .parse()
            .with_context(|| format!("'{}' is not a limit of the OCI specification", name.0))?;
        let limit = PosixRlimitBuilder::default()
            .typ(kind)
            .soft(values.soft)
            .hard(values.hard)
            .build()?;
        limits.push(limit);
    }
    Ok((!limits.is_empty()).then_some(limits))
}
