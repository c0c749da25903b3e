// SPDX-License-Identifier: Apache-2.0
//! The image of a container that is about to start: from the store, or pulled as its policy says.
//!
//! A refresh that fails never keeps a cached image from starting. While bytes arrive, systemd is
//! told how many (`STATUS=`) and to be patient (`EXTEND_TIMEOUT_USEC=`); when they stop, so does
//! the patience, and `TimeoutStartSec=` ends the start.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::definition::PullPolicy;
use crate::definition::kinds::image::ImageDefinition;
use crate::engine::images::needs;
use crate::engine::images::pull::{self, Event, Outcome, Pulled, Tools};
use crate::image::Image;
use crate::image::damage::sift;
use crate::image::pull::{Options, absent_and_never, present};
use crate::image::used;
use crate::image::users::Writable;
use crate::journal::log;
use crate::paths::Paths;
use crate::registry::Client;
use crate::registry::limits::Limits;
use crate::settings::Settings;
use crate::systemd::notify::{Notifier, State};

/// How long systemd waits for the next sign of life: longer than the client takes to notice a
/// connection that stalls and to go on with another one.
const PATIENCE: Duration = Duration::from_secs(240);

/// Writing layers to a slow disk gives no sign of life.
const FLUSH_PATIENCE: Duration = Duration::from_secs(600);

/// Least time between two messages to systemd.
const INTERVAL: Duration = Duration::from_secs(1);

/// Longest that a step without signs of life is waited for: what [`crate::storage::volume`] gives
/// its programs.
const STEP_MAX: Duration = Duration::from_secs(3600);

/// Who wants an image.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// As the definition has it.
    pub image: &'a str,
    /// When to pull.
    pub policy: PullPolicy,
}

/// The image, ready to be run.
///
/// # Errors
///
/// It is not in the store, or not whole, and cannot be pulled or may not be.
pub fn obtain(
    paths: &Paths,
    settings: &Settings,
    wanted: Wanted<'_>,
    notifier: Option<&Notifier>,
) -> anyhow::Result<Image> {
    let store = needs::store(paths)?;
    let place = Place {
        store: &store,
        paths,
        settings,
        limits: Limits::default(),
    };
    let image = find_or_pull(&place, wanted, notifier)?;
    used::mark_used(&store, &image);
    Ok(image)
}

fn find_or_pull(
    place: &Place<'_>,
    wanted: Wanted<'_>,
    notifier: Option<&Notifier>,
) -> anyhow::Result<Image> {
    let Wanted { image, policy } = wanted;
    let store = place.store;
    match policy {
        PullPolicy::Never => {
            // The usual case reads no configuration of registries.
            if sift(store.find(image))?.is_some() {
                return store.resolve(image);
            }
            return match store.meanings(&place.client(), image)?.first() {
                Some((name, _)) => store.resolve(name),
                None => Err(absent_and_never(image)),
            };
        }
        PullPolicy::Missing => {
            if let Some(image) = sift(store.resolve(image))? {
                return Ok(image);
            }
        }
        PullPolicy::Always | PullPolicy::Newer => {}
    }
    let options = Options {
        policy,
        platform: None,
    };
    let limits = match cached(place, image) {
        Some(_) => refresh_limits(),
        None => place.limits,
    };
    let place = Place { limits, ..*place };
    match pull_image(&place, image, &options, notifier) {
        Ok(pulled) => store.resolve(&pulled.reference.to_string()),
        // What was there may be gone by now.
        Err(err) => match cached(&place, image) {
            Some(cached) => {
                warn_cached(notifier, image, &err);
                Ok(cached)
            }
            None => Err(err),
        },
    }
}

/// Brings the image of an `images/NAME.toml`, for `ctr-image@NAME.service`. As at a start, a refresh
/// that fails is no failure when the image is there.
pub fn prefetch(paths: &Paths, definition: &ImageDefinition) -> anyhow::Result<()> {
    let notifier = Notifier::from_env()?;
    let notifier = notifier.as_ref();
    let image = &definition.image;
    let platform = definition.platform.as_ref().map(|text| text.parse());
    let platform = platform.transpose().map_err(anyhow::Error::msg)?;
    let options = Options {
        policy: definition.pull_policy,
        platform,
    };
    let store = needs::store(paths)?;
    let settings = Settings::load(paths)?;
    let place = Place {
        store: &store,
        paths,
        settings: &settings,
        limits: Limits::default(),
    };
    match pull_image(&place, image, &options, notifier) {
        Ok(_) => Ok(()),
        Err(err) => {
            let platform = options.platform.as_ref();
            match present(&store, &place.client(), image, platform) {
                Ok(Some(_)) => {
                    warn_cached(notifier, image, &err);
                    Ok(())
                }
                Ok(None) | Err(_) => Err(err),
            }
        }
    }
}

fn warn_cached(notifier: Option<&Notifier>, image: &str, err: &anyhow::Error) {
    let image = image.escape_debug();
    let text = format!(
        "Image '{image}' could not be refreshed, and the one in the store is used: {err:#}"
    );
    tell(notifier, &text);
}

fn tell(notifier: Option<&Notifier>, text: &str) {
    match notifier {
        Some(_) => log::warn(text),
        None => tracing::warn!("{text}"),
    }
}

/// The image of an earlier pull, which a short name may have found on any registry of the list.
fn cached(place: &Place<'_>, image: &str) -> Option<Image> {
    let names = place.store.meanings(&place.client(), image).ok()?;
    names
        .iter()
        .find_map(|(name, _)| place.store.resolve(name).ok())
}

/// Where an image is pulled to, and how.
struct Place<'a> {
    store: &'a Writable,
    paths: &'a Paths,
    settings: &'a Settings,
    limits: Limits,
}

impl Place<'_> {
    fn client(&self) -> Client {
        Client::with_limits(self.paths, self.settings, self.limits)
    }
}

/// For a refresh, which nobody needs: a registry that does not answer holds no start up for long.
fn refresh_limits() -> Limits {
    Limits {
        resolve: Duration::from_secs(5),
        connect: Duration::from_secs(5),
        respond: Duration::from_secs(15),
        tries: 1,
        ..Limits::default()
    }
}

fn pull_image(
    place: &Place<'_>,
    image: &str,
    options: &Options,
    notifier: Option<&Notifier>,
) -> anyhow::Result<Pulled> {
    let progress = Progress::new(image, notifier);
    progress.send(
        &format!("pulling {}: asking the registry", progress.image),
        PATIENCE,
    );
    let tools = Tools {
        paths: place.paths,
        settings: place.settings,
        store: place.store,
        client: &place.client(),
    };
    let pulled = pull::pull(tools, image, options, &|event| progress.see(event))
        .with_context(|| format!("pulling image '{}'", image.escape_debug()))?;
    if pulled.outcome == Outcome::Pulled {
        let text = format!("Pulled image {} ({})", pulled.reference, pulled.digest);
        match notifier {
            Some(_) => log::note(&text),
            None => tracing::info!("{text}"),
        }
    }
    Ok(pulled)
}

/// What systemd is told of a pull.
struct Progress<'a> {
    image: String,
    notifier: Option<&'a Notifier>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    total: u64,
    bytes: u64,
    told: Option<Instant>,
}

impl<'a> Progress<'a> {
    fn new(image: &str, notifier: Option<&'a Notifier>) -> Self {
        Self {
            image: image.escape_debug().to_string(),
            notifier,
            seen: Mutex::default(),
        }
    }

    fn see(&self, event: Event) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let image = &self.image;
        match event {
            Event::Found(reference) => self.note(&format!("Image '{image}' is {reference}")),
            Event::Warning(text) => self.note(&format!("Pulling image '{image}': {text}")),
            Event::Waiting { holder, digest } => {
                let text =
                    format!("pulling {image}: waiting for {holder}, which downloads {digest}");
                self.send(&text, PATIENCE);
            }
            Event::Room(text) => self.note(&text),
            Event::Plan { bytes, .. } => {
                seen.total = bytes;
                self.send(&format!("pulling {image}"), PATIENCE);
            }
            Event::Progress { bytes, .. } => {
                seen.bytes = seen.bytes.saturating_add(bytes);
                if seen.told.is_none_or(|told| told.elapsed() >= INTERVAL) {
                    seen.told = Some(Instant::now());
                    let (bytes, total) = (seen.bytes >> 20, seen.total.div_ceil(1 << 20));
                    let text = format!("pulling {image}: {bytes} of {total} MiB");
                    self.send(&text, PATIENCE);
                }
            }
            Event::Alive => {
                if seen.told.is_none_or(|told| told.elapsed() >= INTERVAL) {
                    seen.told = Some(Instant::now());
                    self.extend(PATIENCE);
                }
            }
            Event::Flushing => {
                let text = format!("pulling {image}: writing to the disk");
                self.send(&text, FLUSH_PATIENCE);
            }
            Event::Layer { .. } | Event::Done(_) => {}
        }
    }

    fn note(&self, text: &str) {
        match self.notifier {
            Some(_) => log::note(text),
            None => tracing::info!("{text}"),
        }
    }

    fn send(&self, status: &str, patience: Duration) {
        let Some(notifier) = self.notifier else {
            return tracing::debug!("{status}");
        };
        let states = [State::Status(status), State::ExtendTimeout(patience)];
        if let Err(err) = notifier.send(&states) {
            tracing::debug!("{err:#}, ignoring");
        }
    }

    fn extend(&self, patience: Duration) {
        extend(self.notifier, patience);
    }
}

fn extend(notifier: Option<&Notifier>, patience: Duration) {
    let sent = notifier.map(|notifier| notifier.send(&[State::ExtendTimeout(patience)]));
    if let Some(Err(err)) = sent {
        tracing::debug!("{err:#}, ignoring");
    }
}

/// Runs a step that gives no signs of life and may take long, such as filling a volume; systemd is
/// asked to wait for it, up to an hour.
pub fn patiently<T>(notifier: Option<&Notifier>, step: impl FnOnce() -> T) -> T {
    if notifier.is_none() {
        return step();
    }
    let (done, ended) = channel::<()>();
    let begin = Instant::now();
    thread::scope(|scope| {
        let patience = thread::Builder::new()
            .name("patience".to_owned())
            .spawn_scoped(scope, move || {
                while ended.recv_timeout(PATIENCE / 6) == Err(RecvTimeoutError::Timeout)
                    && begin.elapsed() < STEP_MAX
                {
                    extend(notifier, PATIENCE);
                }
            });
        if let Err(err) = patience {
            tracing::debug!("starting a thread, ignoring: {err}");
        }
        let result = step();
        drop(done);
        result
    })
}
