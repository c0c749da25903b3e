// SPDX-License-Identifier: Apache-2.0
//! Every directory wharf owns or reads, in one type that can be rooted anywhere.
//!
//! The generator, the checks and the tests run on a directory tree: no other module writes down an
//! absolute path of ours. Nothing here touches the file system.

use std::path::{Path, PathBuf};

use crate::name::{ContainerName, UnitName};

/// The name of every generated drop-in; `systemctl edit` makes `override.conf`, which comes later
/// and wins.
pub const DROP_IN: &str = "50-wharf.conf";

/// For whom wharf runs: the system manager or a user's (systemd.unit(5), "--system", "--user").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// PID 1, root.
    System,
    /// A user manager.
    User,
}

/// Where wharf's files are.
#[derive(Debug, Clone)]
pub struct Paths {
    scope: Scope,
    /// Definition directories, lowest priority first.
    definition_dirs: Vec<PathBuf>,
    state: PathBuf,
    runtime: PathBuf,
    /// What the machine's administrator owns is below it.
    root: PathBuf,
    /// The user's `$XDG_CONFIG_HOME`.
    user_config: Option<PathBuf>,
}

impl Paths {
    /// The directories of the system manager, all below `root` (`/` in real use).
    pub fn system(root: &Path) -> Self {
        let dirs = ["usr/lib", "usr/local/lib", "run", "etc"];
        Self {
            scope: Scope::System,
            definition_dirs: dirs.iter().map(|d| root.join(d).join("wharf")).collect(),
            state: root.join("var/lib/wharf"),
            runtime: root.join("run/wharf"),
            root: root.to_owned(),
            user_config: None,
        }
    }

    /// The directories of a user manager, from the variables of the XDG base directory
    /// specification. `root` prefixes only what the machine's administrator owns.
    pub fn user(root: &Path, config: &Path, runtime: &Path, data: &Path) -> Self {
        Self {
            scope: Scope::User,
            definition_dirs: vec![
                root.join("usr/lib/wharf/users"),
                root.join("usr/local/lib/wharf/users"),
                runtime.join("wharf"),
                root.join("etc/wharf/users"),
                config.join("wharf"),
            ],
            state: data.join("wharf"),
            runtime: runtime.join("wharf"),
            root: root.to_owned(),
            user_config: Some(config.to_owned()),
        }
    }

    /// The directories of the user whose environment this is: those of the XDG base directory
    /// specification, with its defaults.
    ///
    /// # Errors
    ///
    /// The variable that would have to be set and is not.
    pub fn of_user(root: &Path) -> Result<Self, &'static str> {
        let directory = |variable: &str| {
            std::env::var_os(variable)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let below_home = |variable: &str, default: &str| {
            directory(variable)
                .or_else(|| Some(directory("HOME")?.join(default)))
                .ok_or("HOME")
        };
        let config = below_home("XDG_CONFIG_HOME", ".config")?;
        let data = below_home("XDG_DATA_HOME", ".local/share")?;
        let runtime = directory("XDG_RUNTIME_DIR").ok_or("XDG_RUNTIME_DIR")?;
        Ok(Self::user(root, &config, &runtime, &data))
    }

    /// For whom these paths are.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Directories that hold `containers/`, `networks/`, … and `wharf.toml`, lowest priority first.
    pub fn definition_dirs(&self) -> &[PathBuf] {
        &self.definition_dirs
    }

    /// Where containers-registries.conf(5) can be; the first that exists counts.
    pub fn registries_conf(&self) -> Vec<PathBuf> {
        let user = self.user_config.iter();
        user.map(|config| config.join("containers/registries.conf"))
            .chain(
                ["etc", "usr/share"].map(|d| self.root.join(d).join("containers/registries.conf")),
            )
            .collect()
    }

    /// Directories of drop-ins to it, lowest priority first.
    pub fn registries_conf_dirs(&self) -> Vec<PathBuf> {
        let user = self.user_config.iter();
        ["usr/share", "etc"]
            .map(|d| self.root.join(d).join("containers/registries.conf.d"))
            .into_iter()
            .chain(user.map(|config| config.join("containers/registries.conf.d")))
            .collect()
    }

    /// Where containers-policy.json(5) can be; the first that exists counts.
    pub fn policy_files(&self) -> Vec<PathBuf> {
        let user = self.user_config.iter();
        user.map(|config| config.join("containers/policy.json"))
            .chain([self.root.join("etc/containers/policy.json")])
            .collect()
    }

    /// Directories with a directory of certificates per registry; the first that has one counts.
    pub fn certificate_dirs(&self) -> Vec<PathBuf> {
        let user = self.user_config.iter();
        user.map(|config| config.join("containers/certs.d"))
            .chain(["etc/containers", "etc/docker"].map(|d| self.root.join(d).join("certs.d")))
            .collect()
    }

    /// Credentials for registries that `wharf login` keeps: `/etc/wharf/auth.json`.
    pub fn auth_file(&self) -> PathBuf {
        match &self.user_config {
            Some(config) => config.join("wharf/auth.json"),
            None => self.root.join("etc/wharf/auth.json"),
        }
    }

    /// Credentials that Podman and its kin keep for the user until a boot.
    pub fn containers_auth_file(&self) -> Option<PathBuf> {
        match self.scope {
            Scope::System => Some(self.root.join("run/containers/0/auth.json")),
            Scope::User => Some(self.runtime.parent()?.join("containers/auth.json")),
        }
    }

    /// Persistent state, mode 0700: `/var/lib/wharf`.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Blobs, references and manifests: `/var/lib/wharf/images`.
    pub fn images(&self) -> PathBuf {
        self.state.join("images")
    }

    /// Unpacked layers by diff ID: `/var/lib/wharf/layers`.
    pub fn layers(&self) -> PathBuf {
        self.state.join("layers")
    }

    /// Named volumes: `/var/lib/wharf/volumes`.
    pub fn volumes(&self) -> PathBuf {
        self.state.join("volumes")
    }

    /// What of a container survives a boot (exit history, a kept upper directory):
    /// `/var/lib/wharf/containers/NAME`.
    pub fn container_state(&self, name: &ContainerName) -> PathBuf {
        self.state.join("containers").join(name.as_str())
    }

    /// Named files kept with a container: `/var/lib/wharf/containers/NAME/artifacts`.
    pub fn artifacts(&self, name: &ContainerName) -> PathBuf {
        self.container_state(name).join("artifacts")
    }

    /// Run-time state, gone after a boot: `/run/wharf`.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// The run-time directories of containers: `/run/wharf/bundles`.
    pub fn bundles(&self) -> PathBuf {
        self.runtime.join("bundles")
    }

    /// Run-time directory of one container, which is its bundle: `/run/wharf/bundles/NAME`. Apart
    /// from `/run/wharf/containers`, where definitions can be.
    pub fn container_runtime(&self, name: &ContainerName) -> PathBuf {
        self.bundles().join(name.as_str())
    }

    /// What `start` says when it gives up, for `cleanup` to write down: `/run/wharf/failures/NAME`.
    /// Beside the run-time directory, which a start that fails removes.
    pub fn container_failure(&self, name: &ContainerName) -> PathBuf {
        self.runtime.join("failures").join(name.as_str())
    }

    /// What the generator writes for a unit: `/run/systemd/generator/UNIT.d/50-wharf.conf`.
    pub fn generated_drop_in(&self, unit: &UnitName) -> PathBuf {
        let run = self.runtime.parent().unwrap_or(&self.runtime);
        run.join("systemd/generator")
            .join(format!("{unit}.d"))
            .join(DROP_IN)
    }

    /// The lock of one container, never unlinked: `/run/wharf/locks/NAME`.
    pub fn container_lock(&self, name: &ContainerName) -> PathBuf {
        self.runtime.join("locks").join(name.as_str())
    }

    /// The OCI runtime's own state (`--root`): `/run/wharf/runtime`.
    pub fn runtime_root(&self) -> PathBuf {
        self.runtime.join("runtime")
    }
}
