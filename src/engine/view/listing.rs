// SPDX-License-Identifier: Apache-2.0
//! All containers at once, at the price of one D-Bus call and the files of those that are shown.

use std::collections::BTreeMap;

use crate::engine::view::definitions::{self, Gist};
use crate::engine::view::status::{self, Past, Probe, State};
use crate::name::ContainerName;
use crate::paths::Paths;
use crate::records::history::{self, Entry};
use crate::records::run::{self, RunRecord};
use crate::systemd::manager::Manager;
use crate::systemd::unit::{ActiveState, ListedUnit};

/// Which containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those of which something exists in the kernel.
    Live,
    /// All.
    All,
}

/// One container of the list.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its name.
    pub name: ContainerName,
    /// What it is doing.
    pub state: State,
    /// What systemd says; none while the unit is not loaded.
    pub unit: Option<ListedUnit>,
    /// What its current run was started with.
    pub record: Option<RunRecord>,
    /// How its last run ended; not looked up for a container that runs.
    pub last: Option<Entry>,
    /// What its definition says; not looked up for [`Which::Live`].
    pub gist: Option<Gist>,
}

/// What is found out about a container by name, before its own files are read.
#[derive(Debug, Default)]
struct Known {
    gist: Option<Gist>,
    unit: Option<ListedUnit>,
}

/// Lists containers, sorted by name. Without a manager (`--root`) none runs.
pub fn list(paths: &Paths, manager: Option<&Manager>, which: Which) -> anyhow::Result<Vec<Listed>> {
    let mut found: BTreeMap<ContainerName, Known> = BTreeMap::new();
    if which == Which::All {
        for (name, gist) in definitions::gists(paths) {
            found.entry(name).or_default().gist = Some(gist);
        }
        for name in history::names(paths)? {
            found.entry(name).or_default();
        }
    }
    let units = match manager {
        Some(manager) => manager.list("ctr@*.service")?,
        None => Vec::new(),
    };
    for unit in units {
        let Some(name) = ContainerName::from_unit(&unit.name) else {
            continue;
        };
        if which == Which::All || is_up(&unit) {
            found.entry(name).or_default().unit = Some(unit);
        }
    }
    let probe = Probe::new();
    let mut listed = Vec::with_capacity(found.len());
    for (name, known) in found {
        let container = describe(paths, &probe, name, known)?;
        // A unit that a dependency of another one has loaded, and of which nothing else is known.
        let is_known = container.state != State::Unknown;
        if is_known && (which == Which::All || container.state.is_live()) {
            listed.push(container);
        }
    }
    Ok(listed)
}

fn is_up(unit: &ListedUnit) -> bool {
    match unit.active {
        ActiveState::Active
        | ActiveState::Reloading
        | ActiveState::Activating
        | ActiveState::Deactivating
        | ActiveState::Other => true,
        ActiveState::Inactive | ActiveState::Failed => false,
    }
}

fn describe(
    paths: &Paths,
    probe: &Probe,
    name: ContainerName,
    Known { gist, unit }: Known,
) -> anyhow::Result<Listed> {
    let defined = match gist {
        Some(_) => Past::Defined,
        None => Past::Unheard,
    };
    let up = unit.as_ref().filter(|unit| is_up(unit));
    let record = up.and_then(|_| run::load(paths, &name));
    let payload = probe.payload(record.as_ref());
    let running = up.is_some_and(|unit| unit.active == ActiveState::Active);
    let last = if running {
        None
    } else {
        history::last(paths, &name)?
    };
    let state = status::of_listed(unit.as_ref(), payload, defined, last.as_ref());
    Ok(Listed {
        name,
        state,
        unit,
        record,
        last,
        gist,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    #[test]
    fn without_a_manager_the_files_tell() {
        let dir = tempfile::tempdir().unwrap();
        let definition = dir.path().join("etc/wharf/containers/web.toml");
        sys::fs::ensure_dir(definition.parent().unwrap(), 0o755).unwrap();
        sys::fs::write_atomic(&definition, b"", 0o644, sys::fs::Durability::Memory).unwrap();
        let paths = Paths::system(dir.path());
        let listed = list(&paths, None, Which::All).unwrap();
        let [only] = listed.as_slice() else {
            panic!("{listed:?}");
        };
        assert_eq!((only.name.as_str(), only.state), ("web", State::Configured));
        assert!(list(&paths, None, Which::Live).unwrap().is_empty());
    }
}
