// SPDX-License-Identifier: Apache-2.0
//! Devices of the host that a container gets, as the host has them now.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;

use crate::definition::Definition;
use crate::engine::spec::{Device, DeviceKind};
use crate::sys;

/// The devices of the definition as the host has them now, and for a privileged container all
/// others in the host's /dev.
pub(crate) fn resolve(definition: &Definition) -> anyhow::Result<Vec<Device>> {
    let mut devices = Vec::new();
    for device in &definition.storage.devices {
        let path = &device.source.0;
        let metadata = std::fs::metadata(path)
            .with_context(|| format!("looking at device '{}'", path.display()))?;
        let found = device_of(&metadata, &device.target, &device.permissions);
        devices.push(found.with_context(|| format!("'{}' is not a device", path.display()))?);
    }
    if definition.security.privileged {
        let asked: BTreeSet<String> = devices.iter().map(|d| d.target.clone()).collect();
        let mut all = Vec::new();
        collect_devices(Path::new("/dev"), &mut all)?;
        devices.extend(all.into_iter().filter(|d| !asked.contains(&d.target)));
    }
    Ok(devices)
}

fn device_of(metadata: &Metadata, target: &str, permissions: &str) -> Option<Device> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => DeviceKind::Character,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => return None,
    };
    Some(Device {
        target: target.to_owned(),
        kind,
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
        mode: metadata.permissions().mode() & 0o777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        permissions: permissions.to_owned(),
    })
}

/// Every device node below `dir` but those that a container has of its own: terminals, and the
/// ones that every runtime makes. Links are not followed; what vanishes meanwhile is not there.
fn collect_devices(dir: &Path, devices: &mut Vec<Device>) -> anyhow::Result<()> {
    const OWN: [&str; 14] = [
        "console", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero",
    ];
    for name in sys::fs::list_dir(dir)? {
        let path = dir.join(&name);
        let own = dir == Path::new("/dev") && OWN.iter().any(|own| name == *own);
        let (Some(target), Ok(metadata)) = (path.to_str(), std::fs::symlink_metadata(&path)) else {
            continue;
        };
        if own {
            continue;
        }
        if metadata.is_dir() {
            collect_devices(&path, devices)?;
        } else {
            devices.extend(device_of(&metadata, target, "rwm"));
        }
    }
    Ok(())
}
