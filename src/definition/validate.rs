// SPDX-License-Identifier: Apache-2.0
//! The only maker of a [`Definition`]: every value parsed, keys that exclude each other found.
//!
//! An error that concerns two keys is reported at one of them and names the place of the other.

use std::path::PathBuf;

use crate::definition::merge::Merged;
use crate::definition::problem::{Problem, Problems, escape};
use crate::definition::take;
use crate::definition::value::Bytes;
use crate::definition::{
    Definition, Hooks, Kind, Lifecycle, Log, LogDriver, Network, Notify, Origin, Passthrough,
    Process, PullPolicy, Resources, Restart, Root, Security, Storage, Timeout,
};
use crate::name::ContainerName;

/// Default of `shm_size`, Compose's and Podman's.
const SHM_SIZE: Bytes = Bytes(64 << 20);
/// Default of `stop_timeout`, Compose's and Podman's.
const STOP_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// Command and environment together: the kernel takes 2 MiB with its pointers at the usual stack
/// limit, and the image and env files add to it (threats C8).
const ARGUMENTS_MAX_BYTES: usize = 1 << 20;

/// Makes the definition of `name` out of `merged`, unless something is wrong.
pub(crate) fn validate(
    name: &ContainerName,
    sources: Vec<PathBuf>,
    merged: &Merged<'_>,
    mut problems: Problems,
) -> Result<Definition, Vec<Problem>> {
    let mut definition = blank(name, sources);
    for entry in merged.entries() {
        take::apply(entry, name.instance(), &mut definition, &mut problems);
        let file = definition
            .sources
            .iter()
            .position(|path| path.as_os_str() == entry.source.path().as_os_str());
        if let (None, Some(file)) = (entry.part, file) {
            definition.origins.push(Origin {
                key: entry.key,
                file,
                line: entry.source.line(entry.key_at),
            });
        }
    }
    definition
        .origins
        .sort_by_key(|origin| (origin.file, origin.line));
    if !merged.replaced.is_empty() {
        let mut scratch = blank(name, Vec::new());
        for entry in &merged.replaced {
            take::apply(entry, name.instance(), &mut scratch, &mut problems);
        }
    }
    Checker {
        definition: &definition,
        merged,
        problems: &mut problems,
    }
    .check();
    if problems.is_empty() {
        Ok(definition)
    } else {
        Err(problems.into_sorted(&definition.sources))
    }
}

/// All defaults. The root is a placeholder that [`Checker::check_root`] makes sure is replaced.
fn blank(name: &ContainerName, sources: Vec<PathBuf>) -> Definition {
    Definition {
        name: name.clone(),
        sources,
        origins: Vec::new(),
        description: None,
        root: Root::Image(String::new()),
        pull_policy: PullPolicy::default(),
        process: Process::default(),
        hostname: None,
        storage: Storage {
            shm_size: SHM_SIZE,
            ..Storage::default()
        },
        security: Security {
            no_new_privileges: true,
            ..Security::default()
        },
        labels: std::collections::BTreeMap::new(),
        annotations: std::collections::BTreeMap::new(),
        lifecycle: Lifecycle {
            kind: Kind::default(),
            notify: Notify::default(),
            restart: Restart::default(),
            restart_delay: None,
            restart_max_attempts: None,
            restart_window: None,
            stop_signal: None,
            stop_timeout: Timeout::After(STOP_TIMEOUT),
            start_timeout: None,
            reload: None,
            depends_on: Vec::new(),
            enabled: false,
            wanted_by: Vec::new(),
        },
        resources: Resources::default(),
        log: Log::default(),
        network: Network::default(),
        hooks: Hooks::default(),
        passthrough: Passthrough::default(),
    }
}

/// The rules that concern more than one key.
struct Checker<'c, 'e> {
    definition: &'c Definition,
    merged: &'c Merged<'e>,
    problems: &'c mut Problems,
}

impl Checker<'_, '_> {
    fn check(&mut self) {
        self.check_root();
        self.check_lifecycle();
        self.check_log();
        self.check_sysctls();
        self.check_sizes();
    }

    /// Reports `message` at a key; it may name the place of another with [`Self::place`].
    fn report(&mut self, table: &'static str, name: &'static str, message: &str) {
        if let Some(entry) = self.merged.get(table, name) {
            let path = entry.key.path();
            self.problems.push(entry.source, entry.key_at, &path, || {
                format!("{path}: {message}")
            });
        }
    }

    /// `KEY (FILE:LINE)`, for messages.
    fn place(&self, table: &'static str, name: &'static str) -> String {
        match self.merged.get(table, name) {
            Some(entry) => format!(
                "{} ({}:{})",
                entry.key.path(),
                escape(&entry.source.path().to_string_lossy()),
                entry.source.line(entry.key_at)
            ),
            None => name.to_owned(),
        }
    }

    fn check_root(&mut self) {
        let image = self.merged.get("", "image").is_some();
        let rootfs = self.merged.get("", "rootfs").is_some();
        let base = self.definition.sources.first();
        match (image, rootfs) {
            (true, true) => {
                let message = format!("only one of it and {} can be set", self.place("", "image"));
                self.report("", "rootfs", &message);
            }
            // With something else wrong, the key may be there and only be misspelt.
            (false, false) if self.problems.is_empty() => {
                if let Some(base) = base {
                    let mut problem =
                        Problem::of_file(base, "one of 'image' and 'rootfs' must be set");
                    "image".clone_into(&mut problem.key);
                    self.problems.add(problem);
                }
            }
            (false, true) if self.definition.storage.persist => {
                let message = format!(
                    "it is without effect, {} is kept anyway",
                    self.place("", "rootfs")
                );
                self.report("", "persist", &message);
            }
            (false, _) | (true, false) => {}
        }
        let storage = &self.definition.storage;
        if storage.persist && storage.read_only {
            let message = format!("nothing is written with {}", self.place("", "read_only"));
            self.report("", "persist", &message);
        }
    }

    fn check_lifecycle(&mut self) {
        let definition = self.definition;
        let lifecycle = &definition.lifecycle;
        match lifecycle.kind {
            Kind::Oneshot => {
                let kind = self.place("", "type");
                if lifecycle.notify == Notify::Container {
                    self.report("", "notify", &format!("it is not possible with {kind}"));
                }
                // systemd refuses such a unit.
                if matches!(lifecycle.restart, Restart::Always | Restart::OnSuccess) {
                    let message = format!("always and on-success are not possible with {kind}");
                    self.report("", "restart", &message);
                }
            }
            Kind::Service => {}
        }
        if lifecycle.depends_on.contains(&definition.name) {
            self.report("", "depends_on", "the container depends on itself");
        }
    }

    fn check_log(&mut self) {
        let definition = self.definition;
        match definition.log.driver {
            LogDriver::Journal => {}
            LogDriver::Direct => {
                let message = format!(
                    "it needs the relay, which {} leaves out",
                    self.place("log", "driver")
                );
                if definition.process.tty {
                    self.report("", "tty", &message);
                }
                if definition.process.stdin {
                    self.report("", "stdin", &message);
                }
                if definition.lifecycle.notify == Notify::Container {
                    self.report("", "notify", &message);
                }
                if definition.log.stderr_priority.is_some() {
                    self.report("log", "stderr_priority", &message);
                }
            }
        }
    }

    fn check_sysctls(&mut self) {
        let definition = self.definition;
        if definition.network != Network::Host {
            return;
        }
        let network = self.place("", "network");
        for entry in self.merged.entries() {
            let of_network = entry.part.is_some_and(|part| part.starts_with("net."));
            if entry.key.name == "sysctls" && of_network {
                let path = entry.path();
                self.problems.push(entry.source, entry.key_at, &path, || {
                    format!("{path}: it would be the host's with {network}")
                });
            }
        }
    }

    fn check_sizes(&mut self) {
        let definition = self.definition;
        let resources = &definition.resources;
        if let (Some(high), Some(max)) = (resources.memory_high, resources.memory)
            && high > max
        {
            let message = format!("it is above {}", self.place("resources", "memory"));
            self.report("resources", "memory_high", &message);
        }
        let process = &definition.process;
        // 8 for the pointer, 1 for the NUL.
        let words = process.command.iter().chain(&process.entrypoint).flatten();
        let words: usize = words.map(|word| word.len() + 9).sum();
        let variables = process.environment.iter();
        let variables: usize = variables.map(|(k, v)| k.len() + v.len() + 10).sum();
        if words + variables > ARGUMENTS_MAX_BYTES
            && let Some(base) = definition.sources.first()
        {
            let message = format!(
                "command and environment are {} bytes together, more than a process can be given \
                 ({ARGUMENTS_MAX_BYTES})",
                words + variables
            );
            self.problems.add(Problem::of_file(base, &message));
        }
    }
}
