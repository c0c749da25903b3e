// SPDX-License-Identifier: Apache-2.0
//! Namespaces, cgroup, devices and sysctls of the container.
//!
//! Limits are not here: they are properties of the unit, whose cgroup holds the container's. The
//! one resource rule in config.json is the device filter, which systemd's own `DevicePolicy=`
//! cannot express for device nodes that only the container has.

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{
    Linux, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxNamespace, LinuxNamespaceType,
    LinuxResources,
};

use crate::definition::{Definition, Network};
use crate::engine::spec::capabilities::Set;
use crate::engine::spec::{CgroupNamespace, Device, DeviceKind, Inputs, mounts, seccomp, security};

/// Device nodes every container has, by the OCI runtime specification ("Default Devices"), plus
/// /dev/console and the pseudo-terminals: major, minor (none is any).
const DEFAULT_DEVICES: [(i64, Option<i64>); 9] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(1)), // console
    (5, Some(2)), // ptmx
    (136, None),  // pts/*
];

pub(crate) fn render(inputs: &Inputs<'_>, bounding: &Set) -> anyhow::Result<Linux> {
    let definition = inputs.definition;
    let mut linux = Linux::default();
    linux.set_namespaces(Some(namespaces(inputs)));
    linux.set_cgroups_path(Some(PathBuf::from(&inputs.cgroup)));
    linux.set_resources(Some(resources(inputs)));
    let devices: Vec<_> = inputs.devices.iter().map(device).collect();
    linux.set_devices((!devices.is_empty()).then_some(devices));
    linux.set_sysctl(sysctls(definition));
    linux.set_masked_paths(Some(security::masked_paths(&definition.security)));
    linux.set_readonly_paths(Some(security::read_only_paths(&definition.security)));
    linux.set_rootfs_propagation(Some(mounts::rootfs_propagation(&inputs.binds).to_owned()));
    linux.set_seccomp(seccomp::render(inputs, bounding)?);
    Ok(linux)
}

/// The kernel parameters of the definition. The domain is one of them: `domainname` of the runtime
/// specification is newer than runc 1.1, which passes over it without a word.
fn sysctls(definition: &Definition) -> Option<HashMap<String, String>> {
    let asked = definition.security.sysctls.clone().into_iter();
    let domain = definition.domainname.iter();
    let domain = domain.map(|domain| ("kernel.domainname".to_owned(), domain.clone()));
    let all: HashMap<String, String> = asked.chain(domain).collect();
    (!all.is_empty()).then_some(all)
}

/// Every namespace is the container's own, but for the user namespace, and the network namespace
/// when the definition shares the host's. The runtime brings up the loopback of a new one. The
/// cgroup namespace is `wharf start`'s under systemd: one that the runtime makes would have the
/// payload's cgroup as its root, where no limit of the unit can be read.
fn namespaces(inputs: &Inputs<'_>) -> Vec<LinuxNamespace> {
    let mut kinds = vec![
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Mount,
    ];
    match inputs.cgroup_namespace {
        CgroupNamespace::Inherited => {}
        CgroupNamespace::New => kinds.push(LinuxNamespaceType::Cgroup),
    }
    match inputs.definition.network {
        Network::Host => {}
        Network::None | Network::Private => kinds.push(LinuxNamespaceType::Network),
    }
    let namespace = |kind| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind);
        if kind == LinuxNamespaceType::Network {
            namespace.set_path(inputs.network_namespace.clone());
        }
        namespace
    };
    kinds.into_iter().map(namespace).collect()
}

/// Denies every device, then allows the default ones and those of the definition; privileged
/// allows all.
fn resources(inputs: &Inputs<'_>) -> LinuxResources {
    let mut everything = rule(None, (None, None), "rwm");
    everything.set_allow(inputs.definition.security.privileged);
    let mut rules = vec![everything];
    if !inputs.definition.security.privileged {
        for (major, minor) in DEFAULT_DEVICES {
            let kind = Some(LinuxDeviceType::C);
            rules.push(rule(kind, (Some(major), minor), "rwm"));
        }
        for device in &inputs.devices {
            let numbers = (Some(device.major.into()), Some(device.minor.into()));
            let kind = Some(device_type(device.kind));
            rules.push(rule(kind, numbers, &device.permissions));
        }
    }
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(rules));
    resources
}

/// Allows the devices of this kind and these numbers; none is any.
fn rule(
    kind: Option<LinuxDeviceType>,
    (major, minor): (Option<i64>, Option<i64>),
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true);
    rule.set_typ(kind);
    rule.set_major(major);
    rule.set_minor(minor);
    rule.set_access(Some(access.to_owned()));
    rule
}

fn device(device: &Device) -> LinuxDevice {
    let mut node = LinuxDevice::default();
    node.set_path(PathBuf::from(&device.target));
    node.set_typ(device_type(device.kind));
    node.set_major(device.major.into());
    node.set_minor(device.minor.into());
    node.set_file_mode(Some(device.mode & 0o777));
    node.set_uid(Some(device.uid));
    node.set_gid(Some(device.gid));
    node
}

fn device_type(kind: DeviceKind) -> LinuxDeviceType {
    match kind {
        DeviceKind::Character => LinuxDeviceType::C,
        DeviceKind::Block => LinuxDeviceType::B,
    }
}
