// SPDX-License-Identifier: Apache-2.0
//! A plain definition and plain facts, for the tests of this directory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::definition::value::Bytes;
use crate::definition::{
    Definition, Hooks, Kind, Lifecycle, Log, Network, Notify, Passthrough, Process, PullPolicy,
    Resources, Restart, Root, Security, Storage, Timeout,
};
use crate::engine::host::{Architecture, HostFacts};
use crate::engine::spec::Inputs;
use crate::engine::user::ResolvedUser;

/// What `image = "busybox"` alone makes.
pub(crate) fn definition() -> Definition {
    Definition {
        name: "web".parse().unwrap(),
        sources: vec![PathBuf::from("/etc/wharf/containers/web.toml")],
        description: None,
        root: Root::Image("busybox".to_owned()),
        pull_policy: PullPolicy::Missing,
        process: Process::default(),
        hostname: None,
        storage: Storage {
            shm_size: Bytes(64 << 20),
            ..Storage::default()
        },
        security: Security {
            no_new_privileges: true,
            ..Security::default()
        },
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        lifecycle: Lifecycle {
            kind: Kind::Service,
            notify: Notify::Started,
            restart: Restart::No,
            restart_delay: None,
            restart_max_attempts: None,
            restart_window: None,
            stop_signal: None,
            stop_timeout: Timeout::After(Duration::from_secs(10)),
            start_timeout: None,
            reload: None,
            depends_on: Vec::new(),
            enabled: false,
            wanted_by: Vec::new(),
        },
        resources: Resources::default(),
        log: Log::default(),
        network: Network::Private,
        hooks: Hooks::default(),
        passthrough: Passthrough::default(),
    }
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
        rootfs: PathBuf::from("/run/wharf/containers/web/rootfs"),
        runtime_dir: PathBuf::from("/run/wharf/containers/web"),
        binds: Vec::new(),
        devices: Vec::new(),
        cgroup: "/ctr.slice/ctr@web.service/payload".to_owned(),
        network_namespace: None,
        notify_dir: None,
        init: None,
        seccomp_profile: None,
    }
}
