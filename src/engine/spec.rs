// SPDX-License-Identifier: Apache-2.0
//! The OCI runtime spec (config.json) of a container: [`Inputs`] in, `Spec` out, pure.
//!
//! Everything the container depends on is in [`Inputs`], resolved: the same inputs give the same
//! bytes. The image's configuration is not among them. What an image may influence has become
//! arguments, environment, working directory, user and volumes before, and nothing else of it can
//! reach the runtime (threats C1): annotations come from the definition alone.
//!
//! The output keeps to what crun 1.8, crun 1.21 and runc 1.1 all understand.

mod capabilities;
#[cfg(test)]
pub(crate) mod fixture;
pub mod host;
mod linux;
pub mod mounts;
pub mod process;
pub mod seccomp;
mod security;

use std::path::PathBuf;

use anyhow::Context as _;
use oci_spec::runtime::{Hook, Hooks, LinuxSeccomp, Root, Spec};

use crate::definition::{self, Definition};
use crate::engine::spec::host::HostFacts;
use crate::engine::spec::mounts::Bind;
use crate::engine::spec::process::ResolvedUser;

/// The version of the specification, which every runtime since 2020 accepts.
const OCI_VERSION: &str = "1.0.2";

/// Where the small init of `init = true` is in the container.
pub const INIT_PATH: &str = "/dev/wharf-init";

/// Where the directory of the notify socket is in the container.
pub const NOTIFY_DIR: &str = "/run/notify";

/// The container's `$NOTIFY_SOCKET`; the socket in [`Inputs::notify_dir`] is named `notify.sock`.
pub const NOTIFY_SOCKET: &str = "/run/notify/notify.sock";

/// Everything that a container's configuration is made of.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The definition.
    pub definition: &'a Definition,
    /// The machine.
    pub host: &'a HostFacts,
    /// The user, looked up in the container's own files.
    pub user: &'a ResolvedUser,
    /// The command line (`inside::command`), without the init.
    pub args: Vec<String>,
    /// The environment as `KEY=VALUE`, merged and checked.
    pub env: Vec<String>,
    /// The working directory (`inside::command`).
    pub cwd: PathBuf,
    /// The host name.
    pub hostname: String,
    /// The mounted root file system, an absolute host path.
    pub rootfs: PathBuf,
    /// The container's run-time directory, which holds `resolv.conf`, `hosts` and `hostname`.
    pub runtime_dir: PathBuf,
    /// Volumes of the definition and the image, with their sources, in the order of writing.
    pub binds: Vec<Bind>,
    /// Devices of the definition, as the host has them.
    pub devices: Vec<Device>,
    /// The payload's cgroup: absolute, as seen from the cgroup2 mount.
    pub cgroup: String,
    /// What the container sees as the root of the cgroup tree.
    pub cgroup_namespace: CgroupNamespace,
    /// A network namespace that was made for the container; none lets the runtime make one.
    pub network_namespace: Option<PathBuf>,
    /// Host directory of the notify socket, when the container may notify.
    pub notify_dir: Option<PathBuf>,
    /// Host path of the small init, when the definition asks for one.
    pub init: Option<PathBuf>,
    /// The profile of `seccomp = "/path"` ([`seccomp::load`]).
    pub seccomp_profile: Option<LinuxSeccomp>,
}

/// The cgroup namespace of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupNamespace {
    /// The one that `wharf start` has made, whose root is the unit's cgroup.
    Inherited,
    /// One that the runtime makes, whose root is the payload's cgroup.
    New,
}

/// A device of the host that the container gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Path in the container.
    pub target: String,
    /// Character or block device.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits of the host's node.
    pub mode: u32,
    /// Owner of the host's node.
    pub uid: u32,
    /// Group of the host's node.
    pub gid: u32,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// The kind of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A character device.
    Character,
    /// A block device.
    Block,
}

/// Makes the runtime spec.
pub fn render(inputs: &Inputs<'_>) -> anyhow::Result<Spec> {
    let definition = inputs.definition;
    let bounding = capabilities::bounding(&definition.security, inputs.host)?;
    let mut root = Root::default();
    root.set_path(inputs.rootfs.clone());
    root.set_readonly(Some(definition.storage.read_only));
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned());
    spec.set_root(Some(root));
    spec.set_mounts(Some(mounts::render(inputs)));
    spec.set_process(Some(process::render(inputs, &bounding)?));
    spec.set_hostname(Some(inputs.hostname.clone()));
    spec.set_hooks(hooks(&definition.hooks));
    let annotations = &definition.annotations;
    spec.set_annotations(
        (!annotations.is_empty()).then(|| annotations.clone().into_iter().collect()),
    );
    spec.set_linux(Some(linux::render(inputs, &bounding)?));
    Ok(spec)
}

/// The spec as JSON, the same bytes for an equal spec.
///
/// The types hold sets and maps without an order; here keys and capabilities are sorted.
pub fn to_json(spec: &Spec) -> anyhow::Result<Vec<u8>> {
    let mut value = serde_json::to_value(spec).context("writing the runtime spec as JSON")?;
    if let Some(serde_json::Value::Object(sets)) = value.pointer_mut("/process/capabilities") {
        for set in sets.values_mut() {
            if let serde_json::Value::Array(names) = set {
                names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
            }
        }
    }
    let mut json = serde_json::to_vec_pretty(&value).context("writing the runtime spec as JSON")?;
    json.push(b'\n');
    Ok(json)
}

/// The hooks that the runtime runs. `precreate` is run by start and `poststop` by cleanup.
fn hooks(hooks: &definition::Hooks) -> Option<Hooks> {
    let lists = [
        &hooks.create_runtime,
        &hooks.create_container,
        &hooks.start_container,
        &hooks.poststart,
    ];
    if lists.iter().all(|list| list.is_empty()) {
        return None;
    }
    let [create_runtime, create_container, start_container, poststart] =
        lists.map(|list| (!list.is_empty()).then(|| list.iter().map(hook).collect()));
    let mut rendered = Hooks::default();
    rendered.set_create_runtime(create_runtime);
    rendered.set_create_container(create_container);
    rendered.set_start_container(start_container);
    rendered.set_poststart(poststart);
    Some(rendered)
}

fn hook(hook: &definition::Hook) -> Hook {
    let mut rendered = Hook::default();
    rendered.set_path(hook.path.clone());
    rendered.set_args((!hook.args.is_empty()).then(|| hook.args.clone()));
    rendered.set_env((!hook.env.is_empty()).then(|| hook.env.clone()));
    // Whole seconds, and never 0, which is an error to runc and no deadline to crun.
    let seconds = hook.timeout.as_millis().div_ceil(1000).max(1);
    rendered.set_timeout(Some(i64::try_from(seconds).unwrap_or(i64::MAX)));
    rendered
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn equal_inputs_give_equal_bytes() {
        let definition = fixture::definition();
        let (host, user) = (fixture::host(), fixture::root_user());
        let inputs = fixture::inputs(&definition, &host, &user);
        let first = to_json(&render(&inputs).unwrap()).unwrap();
        for _ in 0..8 {
            assert_eq!(to_json(&render(&inputs).unwrap()).unwrap(), first);
        }
    }

    #[test]
    fn hook_deadlines_are_whole_seconds_and_never_none() {
        let mut definition = fixture::definition();
        for (timeout, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2)] {
            definition.hooks.poststart = vec![definition::Hook {
                path: PathBuf::from("/bin/true"),
                args: Vec::new(),
                env: Vec::new(),
                timeout: Duration::from_millis(timeout),
            }];
            let rendered = hooks(&definition.hooks).unwrap();
            let hook = rendered.poststart().as_ref().unwrap().first().unwrap();
            assert_eq!(hook.timeout(), Some(seconds), "{timeout} ms");
            assert!(rendered.create_runtime().is_none());
        }
        definition.hooks.poststop = std::mem::take(&mut definition.hooks.poststart);
        assert!(hooks(&definition.hooks).is_none());
    }
}
