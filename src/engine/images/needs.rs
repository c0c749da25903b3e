// SPDX-License-Identifier: Apache-2.0
//! Which images must stay, and why: what prune and garbage collection leave alone.
//!
//! Read afresh from what there is: run-time records, mounts, definitions, exit histories, pins.
//! A definition that cannot be read keeps nothing away from its container: what is needed *now* is
//! in the run-time records. One of these that cannot be understood may mean any image, so nothing is
//! removed while it is there.

use std::collections::{BTreeMap, BTreeSet};

use crate::definition::kinds::image::ImageDefinition;
use crate::definition::load;
use crate::definition::{Definition, Root};
use crate::engine::container::Container;
use crate::engine::view::definitions::{self, Found, Gist};
use crate::image::Digest;
use crate::image::InUse;
use crate::image::mounts;
use crate::image::store::Store;
use crate::image::users::Writable;
use crate::name::ContainerName;
use crate::paths::Paths;
use crate::records::history;
use crate::records::run::{self, ImageRecord};
use crate::reference::pattern::Pattern;
use crate::registry::Client;
use crate::settings::Settings;
use crate::sys;

/// Why an image stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The container was started from it and not cleaned up since.
    Running(ContainerName),
    /// `wharf image mount` has mounted it.
    Mounted,
    /// The container's definition names it.
    Defined(ContainerName),
    /// The definition `images/NAME.toml` names it.
    Prefetched(ContainerName),
    /// The container's last runs were of it, or its last good one: what a roll-back needs.
    Previous(ContainerName),
    /// A pattern of `[images] keep` in wharf.toml names it.
    Pinned(String),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Running(name) => write!(f, "container '{name}' runs it"),
            Self::Mounted => f.write_str("it is mounted"),
            Self::Defined(name) => write!(f, "container '{name}' is defined with it"),
            Self::Prefetched(name) => write!(f, "'images/{name}.toml' names it"),
            Self::Previous(name) => write!(f, "container '{name}' ran it before"),
            Self::Pinned(pattern) => write!(f, "'{pattern}' in wharf.toml keeps it"),
        }
    }
}

/// The images that must stay, by their manifests, with all reasons.
pub type Needs = BTreeMap<Digest, BTreeSet<Reason>>;

/// The image store, which knows what is in use: for whoever adds, removes or replaces.
pub fn store(paths: &Paths) -> anyhow::Result<Writable> {
    Ok(Store::open(paths)?.writable(users))
}

fn users(paths: &Paths) -> anyhow::Result<InUse> {
    let told = |reasons: BTreeSet<Reason>| reasons.iter().map(Reason::to_string).collect();
    let needs = in_use(paths)?.into_iter();
    Ok(needs.map(|(image, why)| (image, told(why))).collect())
}

/// The images that cannot be removed at all: those of containers that run, and mounted ones.
pub fn in_use(paths: &Paths) -> anyhow::Result<Needs> {
    let mut needs = Needs::new();
    for name in started(paths)? {
        let image = run::load_image(paths, &name)?;
        let digest = image.as_ref().and_then(digest_of);
        add(&mut needs, digest, Reason::Running(name));
    }
    for digest in mounts::mounted(paths)? {
        add(&mut needs, Some(digest), Reason::Mounted);
    }
    Ok(needs)
}

/// The images that prune and garbage collection leave alone.
pub fn needs(paths: &Paths, settings: &Settings, store: &Store) -> anyhow::Result<Needs> {
    let mut needs = in_use(paths)?;
    let client = Client::new(paths, settings)?;
    let mut keep = |text: &str, reason: Reason| -> anyhow::Result<()> {
        // All that the name can mean: which of them the next start takes depends on its policy and
        // on what registries answer then. None is in the store yet, perhaps.
        for (_, digest) in store.meanings(&client, text)? {
            add(&mut needs, Some(digest), reason.clone());
        }
        Ok(())
    };
    let mut containers = BTreeSet::new();
    for (name, gist) in definitions::gists(paths) {
        if let Gist::Image(reference) = gist {
            keep(&reference, Reason::Defined(name.clone()))?;
        }
        containers.insert(name);
    }
    for name in instances(paths)? {
        if let Ok(definition) = load::load::<Definition>(paths, &name)
            && let Root::Image(reference) = definition.root
        {
            keep(&reference, Reason::Defined(name.clone()))?;
        }
        containers.insert(name);
    }
    for (name, image) in load::load_all::<ImageDefinition>(paths) {
        if let Ok(image) = image {
            keep(&image.image, Reason::Prefetched(name))?;
        }
    }
    containers.extend(started(paths)?);
    for name in containers {
        for digest in rollback(paths, &name) {
            add(&mut needs, Some(digest), Reason::Previous(name.clone()));
        }
    }
    let pins = pins(settings);
    for record in store.records()? {
        let reference = record.reference.as_ref();
        let pin = pins
            .iter()
            .find(|pin| reference.is_some_and(|r| pin.matches(r)));
        if let Some(pin) = pin {
            let reason = Reason::Pinned(pin.as_str().to_owned());
            add(&mut needs, Some(record.digest), reason);
        }
    }
    Ok(needs)
}

fn add(needs: &mut Needs, digest: Option<Digest>, reason: Reason) {
    if let Some(digest) = digest {
        needs.entry(digest).or_default().insert(reason);
    }
}

/// The patterns of `[images] keep`.
fn pins(settings: &Settings) -> Vec<Pattern> {
    let patterns = settings.images.keep.iter().flatten();
    patterns
        .filter_map(|pattern| pattern.parse().ok())
        .collect()
}

/// The containers that have a run-time directory.
fn started(paths: &Paths) -> anyhow::Result<Vec<ContainerName>> {
    let names = sys::fs::list_dir(&paths.bundles())?;
    let names = names.iter().filter_map(|name| name.to_str()?.parse().ok());
    Ok(names.collect())
}

/// An instance of each template, and the instances that have run: their definition is the
/// template's, which is in no list of containers.
fn instances(paths: &Paths) -> anyhow::Result<BTreeSet<ContainerName>> {
    let mut names: BTreeSet<ContainerName> = history::names(paths)?
        .into_iter()
        .filter(|name| name.instance().is_some())
        .filter(|name| {
            matches!(
                definitions::find(Container::new(paths, name)),
                Found::File(_)
            )
        })
        .collect();
    for dir in paths.definition_dirs() {
        for file in sys::fs::list_dir(&dir.join("containers"))? {
            let stem = file.to_str().and_then(|file| file.strip_suffix("@.toml"));
            // Any instance will do.
            let name = stem.and_then(|stem| format!("{stem}@instance").parse().ok());
            names.extend(name);
        }
    }
    Ok(names)
}

/// What a roll-back of the container needs: the two images it ran last, and the last one that
/// ended well.
fn rollback(paths: &Paths, name: &ContainerName) -> BTreeSet<Digest> {
    let running = run::load(paths, name).and_then(|record| digest_of(&record.image));
    let runs = history::load(paths, name).unwrap_or_default();
    let image_of = |entry: &history::Entry| entry.image.as_ref().and_then(digest_of);
    let mut latest: Vec<Digest> = running.into_iter().collect();
    for digest in runs.iter().rev().filter_map(image_of) {
        if latest.len() < 2 && !latest.contains(&digest) {
            latest.push(digest);
        }
    }
    let is_good = |entry: &&history::Entry| entry.service_result.as_deref() == Some("success");
    latest.extend(runs.iter().rev().find(is_good).and_then(image_of));
    latest.into_iter().collect()
}

fn digest_of(image: &ImageRecord) -> Option<Digest> {
    match image {
        ImageRecord::Image { digest, .. } => digest.parse().ok(),
        ImageRecord::Rootfs(_) => None,
    }
}
