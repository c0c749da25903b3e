// SPDX-License-Identifier: Apache-2.0
//! The generator: a drop-in and `.wants` links for every definition (wharf-generator(8)).
//!
//! Runs before everything else at boot and at every daemon-reload: no D-Bus, no network, no
//! runtime, no image store. One definition's trouble never reaches another's file, and nothing
//! here fails as a whole: [`run`] reports what it left out and writes the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::{Path, PathBuf};

use crate::definition::load::scan::Catalogue;
use crate::definition::load::{self, LoadError};
use crate::definition::{Definition, cycle};
use crate::journal::kmsg::Severity;
use crate::name::{ContainerName, UnitName};
use crate::paths::{DROP_IN, Paths, Scope};
use crate::sys;
use crate::unitfile::{Section, Unit, Value};

pub mod container;
mod image;

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
enum Loaded {
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
    /// None for a name that is to have no drop-in: it is masked, or its file went away meanwhile.
    fn new(name: ContainerName, result: Result<Definition, LoadError>) -> Option<Self> {
        match result {
            Ok(definition) => Some(Self::Valid(Box::new(definition))),
            Err(err) => {
                let problem = err.to_string();
                let source = match err {
                    LoadError::Masked { .. } | LoadError::Undefined { .. } => return None,
                    LoadError::Invalid { problems, .. } => {
                        problems.into_iter().next().map(|problem| problem.file)
                    }
                };
                Some(Self::Broken {
                    name,
                    source,
                    problem,
                })
            }
        }
    }

    fn name(&self) -> &ContainerName {
        match self {
            Self::Valid(definition) => &definition.name,
            Self::Broken { name, .. } => name,
        }
    }
}

/// For whom systemd runs the generator; by hand, the directory it was called from decides.
pub fn scope() -> Scope {
    let user = match env::var_os("SYSTEMD_SCOPE") {
        Some(scope) => scope == "user",
        None => env::args_os().next().is_some_and(|program| {
            let dir = Path::new(&program).parent().and_then(Path::file_name);
            dir.is_some_and(|dir| dir == "user-generators")
        }),
    };
    if user { Scope::User } else { Scope::System }
}

/// Reads every definition and writes what systemd is to know of it.
pub fn run(paths: &Paths, dirs: &OutputDirs) -> Summary {
    let catalogue = Catalogue::scan::<Definition>(paths);
    let loaded: Vec<Loaded> = load::load_catalogue(&catalogue)
        .into_iter()
        .filter_map(|(name, result)| Loaded::new(name, result))
        .collect();
    let mut summary = write(paths.scope(), &loaded, dirs);
    let strays = catalogue.problems().map(|problem| {
        let text = format!("{problem}, ignoring");
        (Severity::Warning, text)
    });
    summary.messages.extend(strays);
    let mut writer = Writer::new(paths.scope(), dirs);
    image::write(paths, &mut writer);
    summary.messages.extend(writer.messages);
    summary
}

/// Writes drop-ins and links for `loaded` into `dirs`.
fn write(scope: Scope, loaded: &[Loaded], dirs: &OutputDirs) -> Summary {
    let (left_out, mut messages) = break_cycles(loaded);
    let none = BTreeSet::new();
    let per_thread = loaded.len().div_ceil(threads()).max(1);
    let written = std::thread::scope(|threads| {
        let workers: Vec<_> = loaded
            .chunks(per_thread)
            .map(|chunk| {
                let (left_out, none) = (&left_out, &none);
                threads.spawn(move || {
                    let mut writer = Writer::new(scope, dirs);
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

/// The dependencies of each container that it is not ordered after.
type LeftOut<'a> = BTreeMap<&'a ContainerName, BTreeSet<ContainerName>>;

/// Leaves out every edge that lies on a cycle, with a warning per cycle.
fn break_cycles(loaded: &[Loaded]) -> (LeftOut<'_>, Vec<(Severity, String)>) {
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

fn drop_in_dir(name: &ContainerName) -> String {
    format!("{}.d", name.unit())
}

/// Writes one container after the other and collects what went wrong.
struct Writer<'a> {
    scope: Scope,
    dirs: &'a OutputDirs,
    /// Directories of links that are there.
    link_dirs: BTreeSet<String>,
    messages: Vec<(Severity, String)>,
}

impl<'a> Writer<'a> {
    fn new(scope: Scope, dirs: &'a OutputDirs) -> Self {
        Self {
            scope,
            dirs,
            link_dirs: BTreeSet::new(),
            messages: Vec::new(),
        }
    }

    fn container(&mut self, loaded: &Loaded, left_out: &BTreeSet<ContainerName>) {
        match loaded {
            Loaded::Valid(definition) => match container::render(definition, left_out) {
                Ok(unit) => {
                    self.file(&drop_in_dir(&definition.name), DROP_IN, &unit.render());
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
        // Without SourcePath= the drop-in would say nothing: the template alone will do.
        if let Ok(unit) = container::render_broken(source, problem) {
            self.file(&drop_in_dir(name), DROP_IN, &unit.render());
        }
    }

    fn links(&mut self, definition: &Definition) {
        let (template, default_target) = match self.scope {
            Scope::System => ("/usr/lib/systemd/system/ctr@.service", "multi-user.target"),
            Scope::User => ("/usr/lib/systemd/user/ctr@.service", "default.target"),
        };
        let name = &definition.name;
        let mut dirs = BTreeSet::new();
        if definition.lifecycle.enabled {
            dirs.insert(format!("{default_target}.wants"));
        }
        for target in &definition.lifecycle.wanted_by {
            dirs.insert(format!("{target}.wants"));
        }
        for (directive, values) in &definition.passthrough.install {
            let mut targets = self.install_targets(definition, values);
            match directive.as_str() {
                "WantedBy" => dirs.extend(targets.drain(..).map(|t| format!("{t}.wants"))),
                "RequiredBy" => dirs.extend(targets.drain(..).map(|t| format!("{t}.requires"))),
                "UpheldBy" => self.uphold(name, &targets),
                other => self.warn_install(definition, &format!("'{other}' has no meaning here")),
            }
        }
        for dir in dirs {
            self.link(name.unit().as_str(), &dir, template);
        }
    }

    /// The units in the values of one `[install]` directive. A unit's name has no '/', so what is
    /// made of it stays in our directory.
    fn install_targets(&mut self, definition: &Definition, values: &[String]) -> Vec<UnitName> {
        let mut targets = Vec::new();
        for word in values.iter().flat_map(|value| value.split_whitespace()) {
            match word.parse() {
                Ok(target) => targets.push(target),
                Err(err) => {
                    let err: String = err;
                    self.warn_install(definition, &err);
                }
            }
        }
        targets
    }

    /// `Upholds=` in a drop-in of each target: systemd 252 does not read `.upholds` directories,
    /// which came with `UpheldBy=` in 254. FIXME(systemd 254): link, as for the others.
    fn uphold(&mut self, name: &ContainerName, targets: &[UnitName]) {
        let mut section = Section::new("Unit");
        let unit = name.unit();
        match Value::text(unit.as_str()) {
            Ok(value) => section.add("Upholds", value),
            Err(_) => return,
        };
        let text = Unit::new().section(section).render();
        for target in targets {
            self.file(&format!("{target}.d"), &format!("50-{unit}.conf"), &text);
        }
    }

    fn link(&mut self, unit: &str, dir: &str, template: &str) {
        let path = self.dirs.normal.join(dir);
        // A thousand containers are wanted by one target: its directory is made once.
        let made = if self.link_dirs.insert(dir.to_owned()) {
            sys::fs::ensure_dir(&path, 0o755)
        } else {
            Ok(())
        };
        let linked =
            made.and_then(|()| sys::fs::ensure_symlink(Path::new(template), &path.join(unit)));
        self.report(linked);
    }

    fn file(&mut self, dir: &str, name: &str, text: &str) {
        let dir = self.dirs.normal.join(dir);
        let written = sys::fs::ensure_dir(&dir, 0o755).and_then(|()| {
            // /run is gone after a boot, and rewritten before anybody reads it.
            let durability = sys::fs::Durability::Memory;
            sys::fs::write_atomic(&dir.join(name), text.as_bytes(), 0o644, durability)
        });
        self.report(written);
    }

    fn report(&mut self, done: sys::Result<()>) {
        if let Err(err) = done {
            self.messages
                .push((Severity::Error, format!("{err}, skipping")));
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
