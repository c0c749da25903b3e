// SPDX-License-Identifier: Apache-2.0
//! A plain definition and plain facts, for the tests of this directory.

use std::path::PathBuf;

use crate::definition::{Definition, load};
use crate::engine::spec::host::{Architecture, HostFacts};
use crate::engine::spec::process::ResolvedUser;
use crate::engine::spec::{CgroupNamespace, Inputs};
use crate::paths::Paths;
use crate::sys::fs::{Durability, ensure_dir, write_atomic};

/// What `image = "busybox"` alone makes.
pub(crate) fn definition() -> Definition {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("etc/wharf/containers");
    ensure_dir(&dir, 0o755).unwrap();
    let text = b"image = \"busybox\"\n";
    write_atomic(&dir.join("web.toml"), text, 0o644, Durability::Memory).unwrap();
    load::load(&Paths::system(root.path()), &"web".parse().unwrap()).unwrap()
}

/// A machine that gives everything.
pub(crate) fn host() -> HostFacts {
    HostFacts {
        architecture: Architecture::X86_64,
        apparmor: false,
        selinux: false,
        capabilities: (1 << 41) - 1,
    }
}

/// root, without further groups.
pub(crate) fn root_user() -> ResolvedUser {
    ResolvedUser {
        uid: 0,
        gid: 0,
        additional_gids: Vec::new(),
        home: Some("/root".to_owned()),
    }
}

/// The inputs of a container that runs `id`.
pub(crate) fn inputs<'a>(
    definition: &'a Definition,
    host: &'a HostFacts,
    user: &'a ResolvedUser,
) -> Inputs<'a> {
    Inputs {
        definition,
        host,
        user,
        args: vec!["id".to_owned()],
        env: vec!["PATH=/bin".to_owned()],
        cwd: PathBuf::from("/"),
        hostname: "web".to_owned(),
        rootfs: PathBuf::from("/run/wharf/bundles/web/rootfs"),
        runtime_dir: PathBuf::from("/run/wharf/bundles/web"),
        binds: Vec::new(),
        devices: Vec::new(),
        cgroup: "/ctr.slice/ctr@web.service/payload".to_owned(),
        cgroup_namespace: CgroupNamespace::Inherited,
        network_namespace: None,
        notify_dir: None,
        init: None,
        seccomp_profile: None,
    }
}
