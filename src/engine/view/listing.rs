// SPDX-License-Identifier: Apache-2.0
//! All containers at once, at the price of one D-Bus call and the files of those that are shown.

use std::collections::BTreeMap;

use anyhow::Context as _;

use crate::engine::view::definitions::{self, Gist};
use crate::engine::view::run::{Ended, Started};
use crate::engine::view::status::{self, Course, Past, Probe, State};
use crate::name::ContainerName;
use crate::paths::Paths;
use crate::records::history;
use crate::records::run;
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
    /// The unit's `SubState`; none while it is not loaded.
    pub sub_state: Option<String>,
    /// What the unit adds to the state.
    pub course: Course,
    /// What its current run was started with.
    pub run: Option<Started>,
    /// How its last run ended; not looked up for a container that runs.
    pub last: Option<Ended>,
    /// What its definition says; not looked up for [`Which::Live`].
    pub gist: Option<Gist>,
}

/// What is found out about a container by name, before its own files are read.
#[derive(Debug, Default)]
struct Known {
    gist: Option<Gist>,
    unit: Option<ListedUnit>,
}

/// Lists containers, sorted by name.
pub fn list(paths: &Paths, which: Which) -> anyhow::Result<Vec<Listed>> {
    let manager = status::connect(paths)?;
    let units = manager
        .list("ctr@*.service")
        .context("listing containers")?;
    describe_all(paths, units, which).context("listing containers")
}

/// Lists the containers of a directory tree (`--root`), none of which runs.
pub fn list_resting(paths: &Paths, which: Which) -> anyhow::Result<Vec<Listed>> {
    describe_all(paths, Vec::new(), which).context("listing containers")
}

fn describe_all(
    paths: &Paths,
    units: Vec<ListedUnit>,
    which: Which,
) -> anyhow::Result<Vec<Listed>> {
    let mut found: BTreeMap<ContainerName, Known> = BTreeMap::new();
    if which == Which::All {
        for (name, gist) in definitions::gists(paths) {
            found.entry(name).or_default().gist = Some(gist);
        }
        for name in history::names(paths)? {
            found.entry(name).or_default();
        }
    }
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
    let course = unit.as_ref();
    let course = course.map_or(Course::Steady, |unit| {
        Course::of(unit.active, &unit.sub_state)
    });
    Ok(Listed {
        name,
        state,
        sub_state: unit.map(|unit| unit.sub_state),
        course,
        run: record.map(Started::from),
        last: last.map(Ended::from),
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
        let listed = list_resting(&paths, Which::All).unwrap();
        let [only] = listed.as_slice() else {
            panic!("{listed:?}");
        };
        assert_eq!((only.name.as_str(), only.state), ("web", State::Configured));
        assert!(list_resting(&paths, Which::Live).unwrap().is_empty());
    }
}
