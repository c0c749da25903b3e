// SPDX-License-Identifier: Apache-2.0
//! Pulling an image: the one recipe, for 'wharf image pull', for a start and for a prefetch.
//!
//! Room is made when it is known how much is needed, and everything that happens is told: what of
//! it is shown, and where, is the caller's.

use anyhow::Context as _;

use crate::definition::PullPolicy;
use crate::digest::Digest;
use crate::engine::images::{gc, needs};
use crate::image::event;
use crate::image::pull::{self, Options};
use crate::image::users::Writable;
use crate::paths::Paths;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::Client;
use crate::settings::Settings;

/// What happens during a pull, perhaps told from several threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A short name was found on this registry.
    Found(Reference),
    /// Somebody else downloads the same; this pull waits for that.
    Waiting {
        /// Who: a process and its command.
        holder: String,
        /// The blob's digest.
        digest: Digest,
    },
    /// Work goes on that downloads nothing, perhaps somebody else's.
    Alive,
    /// So many layers, of so many bytes in all, will be downloaded; the others are there.
    Plan {
        /// To be downloaded.
        layers: usize,
        /// In the store.
        present: usize,
        /// Compressed bytes to be downloaded.
        bytes: u64,
    },
    /// What was done to make room for them.
    Room(String),
    /// A layer's download begins.
    Layer {
        /// The blob's digest.
        digest: Digest,
        /// Its compressed bytes.
        bytes: u64,
    },
    /// So many more bytes of the layer were read.
    Progress {
        /// The blob's digest.
        digest: Digest,
        /// Bytes.
        bytes: u64,
    },
    /// The layer is unpacked and verified.
    Done(Digest),
    /// Layers are being written to the disk.
    Flushing,
    /// Something that people should know and that stops nothing.
    Warning(String),
}

impl From<event::Event> for Event {
    fn from(event: event::Event) -> Self {
        match event {
            event::Event::Found(reference) => Self::Found(reference),
            event::Event::Waiting { holder, digest } => Self::Waiting { holder, digest },
            event::Event::Alive => Self::Alive,
            event::Event::Plan {
                layers,
                present,
                bytes,
            } => Self::Plan {
                layers,
                present,
                bytes,
            },
            event::Event::Layer { digest, bytes } => Self::Layer { digest, bytes },
            event::Event::Progress { digest, bytes } => Self::Progress { digest, bytes },
            event::Event::Done(digest) => Self::Done(digest),
            event::Event::Flushing => Self::Flushing,
            event::Event::Warning(text) => Self::Warning(text),
        }
    }
}

/// How an image got where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// From the registry.
    Pulled,
    /// It was in the store, and the registry has the same.
    Current,
    /// It was in the store; no registry was asked.
    Present,
}

/// An image that is in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Its name.
    pub reference: Reference,
    /// The manifest's digest.
    pub digest: Digest,
    /// The config's digest.
    pub id: Digest,
    /// Whether it was there.
    pub outcome: Outcome,
    /// Compressed bytes of layers that were downloaded.
    pub downloaded: u64,
}

impl From<pull::Pulled> for Pulled {
    fn from(pulled: pull::Pulled) -> Self {
        let pull::Pulled {
            reference,
            digest,
            id,
            outcome,
            downloaded,
        } = pulled;
        Self {
            reference,
            digest,
            id,
            outcome: match outcome {
                pull::Outcome::Pulled => Outcome::Pulled,
                pull::Outcome::Current => Outcome::Current,
                pull::Outcome::Present => Outcome::Present,
            },
            downloaded,
        }
    }
}

/// What a pull works with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tools<'a> {
    pub(super) paths: &'a Paths,
    pub(super) settings: &'a Settings,
    pub(super) store: &'a Writable,
    pub(super) client: &'a Client,
}

/// The recipe.
pub(super) fn pull(
    tools: Tools<'_>,
    image: &str,
    options: &Options,
    report: &(dyn Fn(Event) + Sync),
) -> anyhow::Result<Pulled> {
    let Tools {
        paths,
        settings,
        store,
        client,
    } = tools;
    let pulled = pull::pull(store, client, image, options, &|event| {
        if let event::Event::Plan { bytes, .. } = event
            && let Some(said) = gc::make_room_for_pull(paths, settings, store, bytes)
        {
            report(Event::Room(said));
        }
        report(event.into());
    });
    Ok(pulled?.into())
}

/// The store and the registries, for somebody who pulls several images one after the other.
#[derive(Debug)]
pub struct Puller<'a> {
    paths: &'a Paths,
    settings: Settings,
    store: Writable,
    client: Client,
    options: Options,
}

impl<'a> Puller<'a> {
    /// Opens both. The images are those for `platform`, this machine's if there is none.
    ///
    /// # Errors
    ///
    /// The settings, or the configuration of registries, cannot be read.
    pub fn open(
        paths: &'a Paths,
        policy: PullPolicy,
        platform: Option<Platform>,
    ) -> anyhow::Result<Self> {
        let store = needs::store(paths)?;
        let settings = Settings::load(paths)?;
        Ok(Self {
            client: Client::new(paths, &settings)?,
            options: Options { policy, platform },
            paths,
            settings,
            store,
        })
    }

    /// Brings one image into the store, as far as the policy asks for it.
    pub fn pull(&self, image: &str, report: &(dyn Fn(Event) + Sync)) -> anyhow::Result<Pulled> {
        let tools = Tools {
            paths: self.paths,
            settings: &self.settings,
            store: &self.store,
            client: &self.client,
        };
        pull(tools, image, &self.options, report)
    }

    /// Sweeps up what other, killed pulls left. Somebody may be at it; the next one does it too.
    pub fn tidy_up(self) {
        drop(self.store.write().context("tidying up"));
    }
}
