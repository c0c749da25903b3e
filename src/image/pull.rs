// SPDX-License-Identifier: Apache-2.0
//! Pulling: from a registry into the store.
//!
//! What a tag leads to is looked up once; everything after that is by digest, so a tag that moves
//! meanwhile changes nothing (threats R16). The image is one `change`: it gets its name when
//! all of it is verified, unpacked and flushed. Bringing layers is `fetch`'s part.

use anyhow::{Context as _, anyhow, bail, ensure};

use super::change::Change;
use super::config::{self, ConfigFile};
use super::damage::sift;
use super::event::{Event, Report};
use super::fetch;
use super::flight::{self, Flight, Part};
use super::manifest::{self, DOCUMENT_BYTES_MAX, Descriptor};
use super::platform::{self, Found};
use super::store::{Documents, Store};
use super::users::Writable;
use super::{Digest, Reference};
use crate::definition::PullPolicy;
use crate::platform::Platform;
use crate::registry::{self, Client};

/// What a pull is asked for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// When to ask the registry.
    pub policy: PullPolicy,
    /// For which machine; none is this one.
    pub platform: Option<Platform>,
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

/// What layers of so many compressed bytes need on the disk, blobs and trees, as far as one can
/// tell before.
pub fn room_for(compressed: u64) -> u64 {
    compressed.saturating_mul(1 + fetch::UNPACKED_FACTOR)
}

/// The first image that `text` can mean which is in the store, whole, and for the platform, if one
/// is asked for.
///
/// # Errors
///
/// The machine cannot read it, which tells nothing.
pub fn present(
    store: &Writable,
    client: &Client,
    text: &str,
    platform: Option<&Platform>,
) -> anyhow::Result<Option<Pulled>> {
    for (name, _) in store.meanings(client, text)? {
        if let Some(image) = named(store, &name, platform)? {
            return Ok(Some(image));
        }
    }
    Ok(None)
}

/// As [`present`], of the very name.
fn named(store: &Store, text: &str, platform: Option<&Platform>) -> anyhow::Result<Option<Pulled>> {
    let Some((reference, digest)) = sift(store.find(text))? else {
        return Ok(None);
    };
    let Some(documents) = sift(whole(store, &digest))? else {
        return Ok(None);
    };
    let found = documents.config.platform();
    if platform.is_some_and(|asked| !asked.runs(&found)) {
        return Ok(None);
    }
    Ok(Some(Pulled {
        reference: reference.map_or_else(|| text.parse(), Ok)?,
        digest,
        id: documents.manifest.config.digest,
        outcome: Outcome::Present,
        downloaded: 0,
    }))
}

/// The documents of an image of which nothing is missing.
fn whole(store: &Store, digest: &Digest) -> anyhow::Result<Documents> {
    let documents = store.documents(digest)?;
    store.require_whole(&documents)?;
    Ok(documents)
}

/// Brings the image `text` into the store, as far as the policy asks for it.
///
/// # Errors
///
/// [`registry::Error`] when a registry is the reason, [`manifest::NotRunnable`] when what was found
/// cannot be run.
pub fn pull(
    store: &Writable,
    client: &Client,
    text: &str,
    options: &Options,
    report: Report<'_>,
) -> anyhow::Result<Pulled> {
    let platform = options.platform.as_ref();
    let candidates = candidates(client, text)?;
    let asks = match options.policy {
        PullPolicy::Always | PullPolicy::Newer => true,
        PullPolicy::Missing | PullPolicy::Never => false,
    };
    if !asks && let Some(image) = present(store, client, text, platform)? {
        return Ok(image);
    }
    if options.policy == PullPolicy::Never {
        bail!(absent_and_never(text));
    }
    let several = candidates.len() > 1;
    let short = Reference::is_short(text);
    let mut refused = Vec::new();
    for reference in candidates {
        let pull = Pull {
            store,
            client,
            reference: &reference,
            options,
            report,
            short,
        };
        match pull.run() {
            // Another registry of the search list may have it. One that cannot be reached ends
            // the search: its image could otherwise be replaced by a stranger's.
            Err(err) if several && is_absent(&err) => refused.push(err),
            other => return other,
        }
    }
    let Some(last) = refused.pop() else {
        bail!("no registry to ask for '{}'", text.escape_debug());
    };
    let others: Vec<String> = refused.iter().map(|err| format!("{err:#}")).collect();
    Err(last.context(format!(
        "no registry of the search list has '{}': {}",
        text.escape_debug(),
        others.join("; ")
    )))
}

/// The error of a policy that forbids to pull what is not there.
pub fn absent_and_never(text: &str) -> anyhow::Error {
    let text = text.escape_debug();
    anyhow!(
        "image '{text}' is not in the store, and the pull policy is 'never'; bring it with 'wharf \
         image pull {text}' or 'wharf image load'"
    )
}

fn candidates(client: &Client, text: &str) -> anyhow::Result<Vec<Reference>> {
    ensure!(
        !text.starts_with("sha256:"),
        "an id alone cannot be pulled; give a name as well: NAME@{}",
        text.escape_debug()
    );
    client.candidates(text)
}

fn is_absent(err: &anyhow::Error) -> bool {
    use registry::Kind;
    let kind = registry_error(err).map(registry::Error::kind);
    // Registries hide what they do not have behind a denial.
    matches!(kind, Some(Kind::NotFound | Kind::Denied))
}

/// The registry's error that a pull failed with, if that was the reason.
pub fn registry_error(err: &anyhow::Error) -> Option<&registry::Error> {
    err.chain().find_map(|cause| {
        let read = || cause.downcast_ref().and_then(registry::Error::of_read);
        cause.downcast_ref::<registry::Error>().or_else(read)
    })
}

/// One image from one registry.
struct Pull<'a> {
    store: &'a Writable,
    client: &'a Client,
    reference: &'a Reference,
    options: &'a Options,
    report: Report<'a>,
    /// Whether the name did not say its registry.
    short: bool,
}

/// An image's documents, as the registry has them.
struct Remote {
    /// What the tag leads to, when that is an index.
    index: Option<Digest>,
    found: Found,
}

impl Pull<'_> {
    fn run(&self) -> anyhow::Result<Pulled> {
        self.client.permit(self.reference)?;
        match self.is_current()? {
            Some(current) => Ok(current),
            None => self.bring(self.documents()?),
        }
    }

    /// The stored image, when the registry says that its tag leads to the same still.
    fn is_current(&self) -> anyhow::Result<Option<Pulled>> {
        if self.options.policy != PullPolicy::Newer {
            return Ok(None);
        }
        let name = self.reference.to_string();
        let Some(image) = named(self.store, &name, self.options.platform.as_ref())? else {
            return Ok(None);
        };
        let remote = self.client.digest(self.reference)?;
        let same = self.store.leads_to(self.reference, &remote)?;
        Ok(same.then_some(Pulled {
            outcome: Outcome::Current,
            ..image
        }))
    }

    /// What the reference leads to; of an index only the way to our manifest is read.
    fn documents(&self) -> anyhow::Result<Remote> {
        let fetched = self.client.manifest(self.reference)?;
        if self.short {
            (self.report)(Event::Found(self.reference.clone()));
        }
        let read = || -> anyhow::Result<Remote> {
            let document = manifest::parse_as(&fetched.bytes, &fetched.media_type)?;
            let top = Digest::of(&fetched.bytes);
            let index = matches!(document, manifest::Document::Index(_)).then_some(top);
            let platform = self.platform();
            let found = platform::find(fetched.bytes, document, &platform, &mut |entry| {
                let child = self.client.manifest(&self.reference.at(entry.digest))?;
                manifest::check_blob(entry, &Digest::of(&child.bytes), child.bytes.len() as u64)?;
                Ok(child.bytes)
            })?;
            Ok(Remote { index, found })
        };
        read().with_context(|| format!("reading the manifest of '{}'", self.reference))
    }

    fn platform(&self) -> Platform {
        let asked = self.options.platform.clone();
        asked.unwrap_or_else(Platform::local)
    }

    fn bring(&self, remote: Remote) -> anyhow::Result<Pulled> {
        let Remote { index, found } = remote;
        let Found { manifest, bytes } = found;
        let digest = Digest::of(&bytes);
        if let Some(current) = self.name_present(&digest, index.as_ref())? {
            return Ok(current);
        }
        let change = self.store.change()?;
        // Held until the first publication: who pulls the same image waits here.
        let (config, flight) = self.config(&change, &manifest.config)?;
        ensure!(
            manifest.layers.len() == config.diff_ids.len(),
            "the manifest has {} layers, but the config {} diff IDs",
            manifest.layers.len(),
            config.diff_ids.len()
        );
        self.check_platform(&config)?;
        let fetch = fetch::Fetch::new(&change, self.client, self.reference, self.report);
        let layers = manifest.layers.iter().zip(&config.diff_ids);
        let downloaded = fetch.bring(layers.map(|(layer, id)| (layer.clone(), *id)).collect())?;
        change.add_document(&bytes)?;
        (self.report)(Event::Flushing);
        change.commit_pulled(self.reference, &digest, index.as_ref())?;
        drop(flight);
        Ok(Pulled {
            reference: self.reference.clone(),
            digest,
            id: manifest.config.digest,
            outcome: Outcome::Pulled,
            downloaded,
        })
    }

    /// When the very image is there, whole, it needs only its name.
    fn name_present(
        &self,
        digest: &Digest,
        index: Option<&Digest>,
    ) -> anyhow::Result<Option<Pulled>> {
        if sift(whole(self.store, digest))?.is_none() {
            return Ok(None);
        }
        let change = self.store.change()?;
        // Again, now that it cannot be removed any more.
        let Some(documents) = sift(change.use_image(digest))? else {
            return Ok(None);
        };
        self.check_platform(&documents.config)?;
        let name = self.reference.to_string();
        let named = self
            .store
            .find(&name)
            .is_ok_and(|(_, found)| found == *digest);
        change.commit_pulled(self.reference, digest, index)?;
        Ok(Some(Pulled {
            reference: self.reference.clone(),
            digest: *digest,
            id: documents.manifest.config.digest,
            outcome: if named {
                Outcome::Current
            } else {
                Outcome::Pulled
            },
            downloaded: 0,
        }))
    }

    /// The config: from the store, or downloaded by one of those that want it.
    fn config(
        &self,
        change: &Change<'_>,
        descriptor: &Descriptor,
    ) -> anyhow::Result<(ConfigFile, Option<Flight>)> {
        let digest = &descriptor.digest;
        ensure!(
            descriptor.size <= DOCUMENT_BYTES_MAX,
            "the image's config has {} bytes; at most {DOCUMENT_BYTES_MAX} are accepted",
            descriptor.size
        );
        loop {
            if let Some(config) = stored_config(change, descriptor)? {
                return Ok((config, None));
            }
            let Some(flight) = flight::try_begin(self.store, Part::Config, digest)? else {
                flight::wait(self.store, Part::Config, digest, self.report)?;
                continue;
            };
            // Whoever had it until just now may have brought it.
            if let Some(config) = stored_config(change, descriptor)? {
                return Ok((config, None));
            }
            let bytes = fetch::document(self.client, self.reference, descriptor)
                .with_context(|| format!("downloading the config of '{}'", self.reference))?;
            let config = config::parse(&bytes)?;
            change.add_document(&bytes)?;
            return Ok((config, Some(flight)));
        }
    }

    /// A single manifest says nothing about machines, but its config does.
    fn check_platform(&self, config: &ConfigFile) -> anyhow::Result<()> {
        let wanted = self.platform();
        let found = config.platform();
        if wanted.runs(&found) {
            return Ok(());
        }
        ensure!(
            self.options.platform.is_none(),
            "the image is for {found}, not for {wanted}"
        );
        (self.report)(Event::Warning(format!(
            "the image is for {found}, this machine is {wanted}"
        )));
        Ok(())
    }
}

fn stored_config(
    change: &Change<'_>,
    descriptor: &Descriptor,
) -> anyhow::Result<Option<ConfigFile>> {
    if !change.has_blob(&descriptor.digest, descriptor.size)? {
        return Ok(None);
    }
    // A damaged one is brought again.
    let bytes = sift(change.store().read_blob(&descriptor.digest))?;
    bytes.map(|bytes| config::parse(&bytes)).transpose()
}
