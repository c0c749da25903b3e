// SPDX-License-Identifier: Apache-2.0
//! The bundle: everything the OCI runtime reads, in the container's run-time directory.
//!
//! Steps 5 and 6 of [`start`](super::start): who runs what in which environment, volumes, hosts,
//! resolv.conf, hostname, and config.json (runtime-spec, "Filesystem Bundle"). Whatever can fail is
//! found out here, before systemd is told that the container has started.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::definition::{Definition, Notify, Root as RootSource};
use crate::engine::inside::env;
use crate::engine::inside::etc;
use crate::engine::inside::executable::{self, Search};
use crate::engine::inside::host;
use crate::engine::inside::payload::{self, Payload};
use crate::engine::inside::volumes::{self, Site};
use crate::engine::run::context::{Bundle, Start};
use crate::engine::run::devices;
use crate::engine::run::hooks;
use crate::engine::run::root::upper;
use crate::engine::spec::mounts::Bind;
use crate::engine::spec::{self, Inputs, seccomp};
use crate::image::Config;
use crate::journal::log;
use crate::storage::overlay::Rootfs;
use crate::sys;
use crate::sys::fs::Durability;
use crate::sys::root::Root;

/// Small inits looked for on PATH; both are static programs.
const INITS: [&str; 2] = ["catatonit", "tini-static"];

/// Makes the bundle.
pub(crate) fn prepare(start: &Start<'_>, rootfs: &Rootfs) -> anyhow::Result<Bundle> {
    let definition = &start.definition;
    // A directory of the host has no configuration.
    let none = Config::default();
    let image = start.source.as_ref().map_or(&none, |image| &image.config);
    let dir = start.container.bundle();
    let root = Root::open(rootfs.path())?;
    let payload = payload::resolve(definition, image, &root)?;
    let binds = volumes::resolve(&Site {
        paths: start.container.paths(),
        definition,
        upper: upper(definition),
        root: &root,
        image: start.source.as_ref(),
        payload: &payload,
    })?;
    check_command(definition, &root, &binds, &payload)?;
    etc::write(definition, &payload.hostname, &dir)?;
    let notify = notify(definition, &dir)?;
    let stop_signal = stop_signal(definition, &payload);
    let spec = spec::render(&Inputs {
        definition,
        host: &host::gather()?,
        user: &payload.user,
        args: payload.args.clone(),
        env: payload.env.clone(),
        cwd: payload.cwd,
        hostname: payload.hostname,
        rootfs: rootfs.path().to_owned(),
        runtime_dir: dir.clone(),
        binds,
        devices: devices::resolve(definition)?,
        cgroup: start.payload.path().to_owned(),
        cgroup_namespace: start.cgroup_namespace,
        network_namespace: None,
        notify_dir: notify.as_ref().map(|_| dir.join("notify")),
        init: init(start)?,
        seccomp_profile: seccomp::load(&definition.security.seccomp)?,
    })?;
    let spec = hooks::precreate(&definition.hooks.precreate, spec)?;
    let json = spec::to_json(&spec)?;
    sys::fs::write_atomic(&dir.join("config.json"), &json, 0o600, Durability::Memory)?;
    let log = &definition.log;
    Ok(Bundle {
        dir,
        args: payload.args,
        env: payload.env,
        stop_signal,
        identifier: log
            .identifier
            .clone()
            .unwrap_or_else(|| definition.name.as_str().to_owned()),
        stderr_priority: log.stderr_priority.unwrap_or(6),
        notify,
    })
}

/// Checks that the command can be run, before systemd is told that it has been.
fn check_command(
    definition: &Definition,
    root: &Root,
    binds: &[Bind],
    payload: &Payload,
) -> anyhow::Result<()> {
    let origin = match &definition.root {
        RootSource::Image(reference) => format!("image '{reference}'"),
        RootSource::Rootfs(path) => format!("rootfs '{}'", path.display()),
    };
    let tmpfs = definition.storage.tmpfs.iter().map(|entry| &entry.target);
    let targets = binds.iter().map(|bind| &bind.target).chain(tmpfs);
    let search = Search {
        root,
        origin: &origin,
        path: &env::search_path(&payload.env, &payload.cwd),
        cwd: &payload.cwd,
        mounts: &targets.map(PathBuf::from).collect::<Vec<_>>(),
    };
    let first = payload.args.first().context("the command line is empty")?;
    Ok(executable::check(&search, first)?)
}

/// The socket of a container that notifies: in a directory of its own, which is bound into the
/// container, open to whatever user runs there.
fn notify(definition: &Definition, dir: &Path) -> anyhow::Result<Option<OwnedFd>> {
    match definition.lifecycle.notify {
        Notify::Started => return Ok(None),
        Notify::Container => {}
    }
    let dir = dir.join("notify");
    sys::fs::ensure_dir(&dir, 0o755)?;
    let socket = sys::socket::bind_datagram(&dir.join("notify.sock"), 0o666)
        .context("making the container's notify socket")?;
    Ok(Some(socket))
}

/// The small init that becomes PID 1, when the definition asks for one.
fn init(start: &Start<'_>) -> anyhow::Result<Option<PathBuf>> {
    if !start.definition.process.init {
        return Ok(None);
    }
    if let Some(named) = &start.settings.init {
        let found = sys::command::find_program(named);
        return Ok(Some(found.context("looking for 'init' of wharf.toml")?));
    }
    INITS
        .iter()
        .find_map(|name| sys::command::find_program(Path::new(name)).ok())
        .map(Some)
        .context(
            "'init = true' needs catatonit or tini-static: install one, or set init= in wharf.toml",
        )
}

/// The signal that systemd will send. `KillSignal=` comes from the definition alone, because the
/// generator sees no image; where the image asks for another one, people are told at each start.
fn stop_signal(definition: &Definition, payload: &Payload) -> String {
    let asked = &payload.stop_signal.name;
    let used = match &definition.lifecycle.stop_signal {
        Some(signal) => return signal.name.clone(),
        None => "SIGTERM",
    };
    if asked != used {
        log::note(&format!(
            "The image's stop signal is {asked}, systemd will send {used}; say \
             'stop_signal = \"{asked}\"' in the definition to use it"
        ));
    }
    used.to_owned()
}
