// SPDX-License-Identifier: Apache-2.0
//! Containers as a kind of definition, and the rules that concern several of their keys.

use std::path::{Path, PathBuf};

use super::{Definition, hints, lifecycle, process, resources, security, storage};
use crate::definition::Origin;
use crate::definition::checker::Checker;
use crate::definition::keys::Key;
use crate::definition::kind::{Kind, KindInfo, Templates};
use crate::definition::problem::Problem;

use crate::definition::value::words::{LogDriver, Network, Notify, Restart, ServiceType};
use crate::name::ContainerName;

/// Command and environment together: the kernel takes 2 MiB with its pointers at the usual stack
/// limit, and the image and env files add to it (threats C8).
const ARGUMENTS_MAX_BYTES: usize = 1 << 20;

static KEYS: [&[Key<Definition>]; 6] = [
    super::KEYS,
    process::KEYS,
    storage::KEYS,
    security::KEYS,
    lifecycle::KEYS,
    resources::KEYS,
];

impl Kind for Definition {
    const INFO: &'static KindInfo = &KindInfo {
        word: "container",
        noun: "a container",
        manual: "wharf-container(5)",
        tables: &["resources", "log", "hooks"],
        templates: Templates::Yes,
        elsewhere: hints::ELSEWHERE,
        not_yet: hints::NOT_YET,
    };

    fn keys() -> &'static [&'static [Key<Self>]] {
        &KEYS
    }

    fn blank(name: &ContainerName) -> Self {
        Self::unset(name)
    }

    fn set_origins(&mut self, sources: Vec<PathBuf>, origins: Vec<Origin>) {
        (self.sources, self.origins) = (sources, origins);
    }

    fn check(&self, checker: &mut Checker<'_, '_, Self>) {
        let mut rules = Rules {
            definition: self,
            checker,
        };
        rules.check_root();
        rules.check_lifecycle();
        rules.check_log();
        rules.check_sysctls();
        rules.check_sizes();
    }
}

impl Definition {
    /// The file and line that set a key, such as `depends_on`.
    pub fn origin(&self, table: &str, name: &str) -> Option<(&Path, u32)> {
        let is_it = |origin: &&Origin| origin.table == table && origin.name == name;
        let origin = self.origins.iter().find(is_it)?;
        Some((self.sources.get(origin.file)?, origin.line))
    }
}

struct Rules<'r, 'c, 'e> {
    definition: &'r Definition,
    checker: &'r mut Checker<'c, 'e, Definition>,
}

impl Rules<'_, '_, '_> {
    fn check_root(&mut self) {
        let image = self.checker.merged.get("", "image").is_some();
        let rootfs = self.checker.merged.get("", "rootfs").is_some();
        match (image, rootfs) {
            (true, true) => {
                let message = format!(
                    "only one of it and {} can be set",
                    self.checker.place("", "image")
                );
                self.checker.report("", "rootfs", &message);
            }
            (false, false) => {
                let message = "one of 'image' and 'rootfs' must be set";
                self.checker.report_missing("image", message);
            }
            (false, true) if self.definition.storage.persist => {
                let message = format!(
                    "it is without effect, {} is kept anyway",
                    self.checker.place("", "rootfs")
                );
                self.checker.report("", "persist", &message);
            }
            (false, true) | (true, false) => {}
        }
        let storage = &self.definition.storage;
        if storage.persist && storage.read_only {
            let message = format!(
                "nothing is written with {}",
                self.checker.place("", "read_only")
            );
            self.checker.report("", "persist", &message);
        }
    }

    fn check_lifecycle(&mut self) {
        let definition = self.definition;
        let lifecycle = &definition.lifecycle;
        match lifecycle.kind {
            ServiceType::Oneshot => {
                let kind = self.checker.place("", "type");
                if lifecycle.notify == Notify::Container {
                    self.checker
                        .report("", "notify", &format!("it is not possible with {kind}"));
                }
                // systemd refuses such a unit.
                if matches!(lifecycle.restart, Restart::Always | Restart::OnSuccess) {
                    let message = format!("always and on-success are not possible with {kind}");
                    self.checker.report("", "restart", &message);
                }
            }
            ServiceType::Service => {}
        }
        if lifecycle.depends_on.contains(&definition.name) {
            self.checker
                .report("", "depends_on", "the container depends on itself");
        }
    }

    fn check_log(&mut self) {
        let definition = self.definition;
        match definition.log.driver {
            LogDriver::Journal => {}
            LogDriver::Direct => {
                let message = format!(
                    "it needs the relay, which {} leaves out",
                    self.checker.place("log", "driver")
                );
                if definition.process.tty {
                    self.checker.report("", "tty", &message);
                }
                if definition.process.stdin {
                    self.checker.report("", "stdin", &message);
                }
                if definition.lifecycle.notify == Notify::Container {
                    self.checker.report("", "notify", &message);
                }
                if definition.log.stderr_priority.is_some() {
                    self.checker.report("log", "stderr_priority", &message);
                }
            }
        }
    }

    fn check_sysctls(&mut self) {
        let definition = self.definition;
        if definition.network != Network::Host {
            return;
        }
        let network = self.checker.place("", "network");
        for entry in self.checker.merged.entries() {
            let of_network = entry.part.is_some_and(|part| part.starts_with("net."));
            if entry.key.name == "sysctls" && of_network {
                let path = entry.path();
                self.checker
                    .problems
                    .push(entry.source, entry.key_at, &path, || {
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
            let message = format!("it is above {}", self.checker.place("resources", "memory"));
            self.checker.report("resources", "memory_high", &message);
        }
        let process = &definition.process;
        // 8 for the pointer, 1 for the NUL.
        let words = process.command.iter().chain(&process.entrypoint).flatten();
        let words: usize = words.map(|word| word.len() + 9).sum();
        let variables = process.environment.iter();
        let variables: usize = variables.map(|(k, v)| k.len() + v.len() + 10).sum();
        if words + variables > ARGUMENTS_MAX_BYTES
            && let Some(base) = self.checker.base
        {
            let message = format!(
                "command and environment are {} bytes together, more than a process can be given \
                 ({ARGUMENTS_MAX_BYTES})",
                words + variables
            );
            self.checker.problems.add(Problem::of_file(base, &message));
        }
    }
}
