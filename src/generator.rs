// SPDX-License-Identifier: Apache-2.0
//! The generator: a drop-in and `.wants` links for every definition (wharf-generator(8)).
//!
//! Runs before everything else at boot and at every daemon-reload: no D-Bus, no network, no
//! runtime, no image store. One definition's trouble never reaches another's file, and nothing
//! here fails as a whole: [`run`] reports what it left out and writes the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::definition::Definition;
use crate::journal::kmsg::Severity;
use crate::name::{ContainerName, UnitName};
use crate::paths::Scope;
use crate::sys;

pub mod container;
pub mod cycle;

/// The name of every drop-in; `systemctl edit` makes `override.conf`, which comes later and wins.
const DROP_IN: &str = "50-wharf.conf";

/// The directories a generator is given (systemd.generator(7)).
#[derive(Debug, Clone)]
pub struct OutputDirs {
    /// Between /usr/lib and /etc in priority: everything is written here, so that administrators
    /// override it as they override packaged units.
    pub normal: PathBuf,
}

/// What a run did not do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Problems, sorted by container.
    pub messages: Vec<(Severity, String)>,
}

/// A definition as far as it could be read.
#[derive(Debug)]
pub enum Loaded {
    /// It is valid.
    Valid(Box<Definition>),
    /// It is not: the file to mend, and what to say.
    Broken {
        /// The container.
        name: ContainerName,
        /// The file to mend.
        source: Option<PathBuf>,
        /// One line for people.
        problem: String,
    },
}

impl Loaded {
    fn name(&self) -> &ContainerName {
        match self {
            Self::Valid(definition) => &definition.name,
            Self::Broken { name, .. } => name,
        }
    }
}

/// Writes drop-ins and links for `loaded` into `dirs`.
pub fn write(scope: Scope, loaded: &[Loaded], dirs: &OutputDirs) -> Summary {
    let (left_out, mut messages) = break_cycles(loaded);
    let none = BTreeSet::new();
    let per_thread = loaded.len().div_ceil(threads()).max(1);
    let written = std::thread::scope(|threads| {
        let workers: Vec<_> = loaded
            .chunks(per_thread)
            .map(|chunk| {
                let (left_out, none) = (&left_out, &none);
                threads.spawn(move || {
                    let mut writer = Writer {
                        scope,
                        dirs,
                        messages: Vec::new(),
                    };
                    for loaded in chunk {
                        let left_out = left_out.get(loaded.name()).unwrap_or(none);
                        writer.container(loaded, left_out);
                    }
                    writer.messages
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| {
                worker.join().unwrap_or_else(|_| {
                    let text = "a thread of the generator panicked, skipping its containers";
                    vec![(Severity::Error, text.to_owned())]
                })
            })
            .collect::<Vec<_>>()
    });
    messages.extend(written);
    Summary { messages }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The dependencies that every member of a cycle is not ordered after, and a warning per cycle.
fn break_cycles(
    loaded: &[Loaded],
) -> (
    BTreeMap<&ContainerName, BTreeSet<ContainerName>>,
    Vec<(Severity, String)>,
) {
    let graph: cycle::Graph<'_> = loaded
        .iter()
        .filter_map(|loaded| match loaded {
            Loaded::Valid(d) => Some((&d.name, d.lifecycle.depends_on.as_slice())),
            Loaded::Broken { .. } => None,
        })
        .collect();
    let mut left_out = BTreeMap::new();
    let mut messages = Vec::new();
    for cycle in cycle::find(&graph) {
        let path: Vec<&str> = cycle.path.iter().map(ContainerName::as_str).collect();
        messages.push((
            Severity::Warning,
            format!(
                "depends_on is a cycle: {}; not ordering these containers after each other",
                path.join(" → ")
            ),
        ));
        for (&name, dependencies) in &graph {
            if cycle.members.contains(name) {
                let inside = dependencies.iter().filter(|d| cycle.members.contains(d));
                left_out.insert(name, inside.cloned().collect());
            }
        }
    }
    (left_out, messages)
}

/// Writes one container after the other and collects what went wrong.
struct Writer<'a> {
    scope: Scope,
    dirs: &'a OutputDirs,
    messages: Vec<(Severity, String)>,
}

impl Writer<'_> {
    fn container(&mut self, loaded: &Loaded, left_out: &BTreeSet<ContainerName>) {
        match loaded {
            Loaded::Valid(definition) => match container::render(definition, left_out) {
                Ok(unit) => {
                    self.drop_in(&definition.name, &unit.render());
                    self.links(definition);
                }
                Err(err) => {
                    let source = definition.sources.first().map(PathBuf::as_path);
                    self.broken(&definition.name, source, &err.to_string());
                }
            },
            Loaded::Broken {
                name,
                source,
                problem,
            } => self.broken(name, source.as_deref(), problem),
        }
    }

    fn broken(&mut self, name: &ContainerName, source: Option<&Path>, problem: &str) {
        self.messages.push((
            Severity::Error,
            format!("container '{name}' cannot be started: {problem}"),
        ));
        match container::render_broken(source, problem) {
            Ok(unit) => self.drop_in(name, &unit.render()),
            // Without SourcePath= the drop-in would say nothing: the template alone will do.
            Err(_) => {}
        }
    }

    fn drop_in(&mut self, name: &ContainerName, text: &str) {
        let dir = self.dirs.normal.join(format!("{}.d", name.unit()));
        let written = sys::fs::ensure_dir(&dir, 0o755).and_then(|()| {
            let file = dir.join(DROP_IN);
            // /run is gone after a boot, and rewritten before anybody reads it.
            let durability = sys::fs::Durability::Memory;
            sys::fs::write_atomic(&file, text.as_bytes(), 0o644, durability)
        });
        if let Err(err) = written {
            self.messages.push((
                Severity::Error,
                format!("writing the drop-in of container '{name}': {err}, skipping"),
            ));
        }
    }

    fn links(&mut self, definition: &Definition) {
        let (template, default_target) = match self.scope {
            Scope::System => ("/usr/lib/systemd/system/ctr@.service", "multi-user.target"),
            Scope::User => ("/usr/lib/systemd/user/ctr@.service", "default.target"),
        };
        let mut dirs = BTreeSet::new();
        if definition.lifecycle.enabled {
            dirs.insert(format!("{default_target}.wants"));
        }
        for target in &definition.lifecycle.wanted_by {
            dirs.insert(format!("{target}.wants"));
        }
        for (directive, values) in &definition.passthrough.install {
            let suffix = match directive.as_str() {
                "WantedBy" => "wants",
                "RequiredBy" => "requires",
                "UpheldBy" => "upholds",
                other => {
                    self.warn_install(definition, &format!("'{other}' has no meaning here"));
                    continue;
                }
            };
            for target in values.iter().flat_map(|value| value.split_whitespace()) {
                // A unit's name has no '/', so the link stays in our directory.
                match target.parse::<UnitName>() {
                    Ok(target) => {
                        dirs.insert(format!("{target}.{suffix}"));
                    }
                    Err(err) => self.warn_install(definition, &err),
                }
            }
        }
        for dir in dirs {
            self.link(&definition.name, &dir, template);
        }
    }

    fn link(&mut self, name: &ContainerName, dir: &str, template: &str) {
        let dir = self.dirs.normal.join(dir);
        let linked = sys::fs::ensure_dir(&dir, 0o755).and_then(|()| {
            sys::fs::ensure_symlink(Path::new(template), &dir.join(name.unit().as_str()))
        });
        if let Err(err) = linked {
            self.messages.push((
                Severity::Error,
                format!("enabling container '{name}': {err}, skipping"),
            ));
        }
    }

    fn warn_install(&mut self, definition: &Definition, what: &str) {
        self.messages.push((
            Severity::Warning,
            format!(
                "[install] of container '{}': {what}, ignoring",
                definition.name
            ),
        ));
    }
}
