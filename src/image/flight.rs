// SPDX-License-Identifier: Apache-2.0
//! One download per blob, however many pull at once, across processes and threads.
//!
//! Who wants to bring a blob holds the lock (flock(2)) of `images/flights/HEX`; it ends with the
//! process, so the next one brings the blob when the first was killed or failed (threats R15).
//! Nobody waits for a lock while others may wait for one that he holds: a puller takes what
//! he gets, brings and publishes it, and waits only with nothing in hand. The flight of a config is
//! held while those of layers are waited for, so configs have flights of their own: a digest that
//! is one image's config and another's layer, or both of one, makes no ring.

use std::fs::{File, TryLockError};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::event::{Event, Report};
use super::store::Store;
use super::users::Writable;
use super::{Digest, lease};
use crate::sys;
use crate::sys::dir::Dir;
use crate::sys::fs::Lock;

/// How often a waiting pull looks whether the other one gets on.
const TICK: Duration = Duration::from_secs(1);

/// How long a waiting pull bears that nobody stages anything. The client gives up a connection that
/// stalls much sooner; what takes this long is flushing a large image to a slow disk.
const PATIENCE: Duration = Duration::from_secs(900);

/// The right to bring one blob; ends when dropped.
#[derive(Debug)]
pub(super) struct Flight(#[expect(dead_code, reason = "held for its drop")] Lock);

/// As what a blob is brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// An image's config; before its layers.
    Config,
    /// A layer.
    Layer,
}

impl Part {
    fn lock_name(self, digest: &Digest) -> String {
        match self {
            Self::Config => format!("config-{}", digest.hex()),
            Self::Layer => digest.hex(),
        }
    }
}

/// Takes the flight of a blob, unless somebody has it.
pub(super) fn try_begin(
    store: &Writable,
    part: Part,
    digest: &Digest,
) -> anyhow::Result<Option<Flight>> {
    // Files of flights are only removed by who holds the store's lock alone: not between our
    // opening and locking one.
    let _moment = store.moment()?;
    let path = store.flights_dir().join(part.lock_name(digest));
    Ok(sys::fs::try_lock(&path)?.map(Flight))
}

/// Waits until nobody brings the blob; tells `report` who does, and that this one lives. Whether it
/// is there then is to be looked up.
///
/// # Errors
///
/// For [`PATIENCE`] nobody has staged anything: who brings it is stopped or hangs. That others get
/// on counts too, because who brings it may wait for them.
pub(super) fn wait(
    store: &Writable,
    part: Part,
    digest: &Digest,
    report: Report<'_>,
) -> anyhow::Result<()> {
    wait_for(store, part, digest, report, PATIENCE)
        .with_context(|| format!("waiting for the download of blob '{digest}'"))
}

/// What the thread that waits for a lock tells.
enum Told {
    Holder(String),
    Free(sys::Result<()>),
}

fn wait_for(
    store: &Writable,
    part: Part,
    digest: &Digest,
    report: Report<'_>,
    patience: Duration,
) -> anyhow::Result<()> {
    let path = store.flights_dir().join(part.lock_name(digest));
    let (tell, told) = channel();
    // On its own: a wait for a lock ends with the lock or the process. When it is given up, the
    // thread takes the lock for an instant some day, which does no harm.
    thread::Builder::new()
        .name("wait".to_owned())
        .spawn(move || {
            let waiting = |holder: &str| drop(tell.send(Told::Holder(holder.to_owned())));
            let locked = sys::fs::lock(&path, waiting).map(drop);
            tell.send(Told::Free(locked)).ok();
        })
        .context("starting a thread")?;
    let mut who = String::new();
    let (mut before, mut since) = (lease::staged_bytes(store), Instant::now());
    loop {
        match told.recv_timeout(TICK.min(patience / 3)) {
            Ok(Told::Free(locked)) => return Ok(locked?),
            Ok(Told::Holder(holder)) => {
                who.clone_from(&holder);
                let digest = *digest;
                report(Event::Waiting { holder, digest });
            }
            Err(RecvTimeoutError::Timeout) => {
                let now = lease::staged_bytes(store);
                if now != before {
                    (before, since) = (now, Instant::now());
                }
                ensure!(
                    since.elapsed() < patience,
                    "{} has it and has not got on for {} minutes; end that process, then try again",
                    who.escape_debug(),
                    patience.as_secs() / 60
                );
                report(Event::Alive);
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the waiting thread stopped"),
        }
    }
}

/// Removes the files of flights that nobody has. The caller holds the store's lock alone.
pub(super) fn sweep(store: &Store) -> anyhow::Result<()> {
    let dir = store.flights_dir();
    for name in sys::fs::list_dir(&dir)? {
        let path = dir.join(&name);
        let sweep = || -> anyhow::Result<()> {
            match File::open(&path)?.try_lock() {
                Ok(()) => Ok(Dir::open(&dir)?.remove_tree(&name)?),
                Err(TryLockError::WouldBlock) => Ok(()),
                Err(TryLockError::Error(err)) => Err(err.into()),
            }
        };
        if let Err(err) = sweep() {
            tracing::warn!("cannot sweep '{}', skipping: {err:#}", path.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::paths::Paths;

    const PATIENCE: Duration = Duration::from_millis(600);

    #[test]
    fn k7_a_wait_for_one_who_is_stopped_ends() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Paths::system(dir.path())).unwrap();
        let store = store.writable(|_| Ok(crate::image::InUse::new()));
        let change = store.change().unwrap();
        let digest = Digest::of(b"blob");
        let wait = |report| wait_for(&store, Part::Layer, &digest, report, PATIENCE);
        let flight = try_begin(&store, Part::Layer, &digest).unwrap().unwrap();
        let events = Mutex::new(Vec::new());
        let report = |event| events.lock().unwrap().push(event);
        let err = format!("{:#}", wait(&report).unwrap_err());
        let holder = format!("process {} (", std::process::id());
        assert!(err.starts_with(&holder), "{err}");
        assert!(err.contains("has not got on"), "{err}");
        let first = events.lock().unwrap().remove(0);
        assert!(
            matches!(&first, Event::Waiting { holder: told, digest: blob }
                if told.starts_with(&holder) && *blob == digest),
            "{first:?}"
        );
        // One who gets on is waited for, however long it takes: each tick finds more.
        let flight = Mutex::new(Some(flight));
        let ticks = AtomicU32::new(0);
        let get_on = |event| {
            let alive = event == Event::Alive;
            let tick = ticks.fetch_add(u32::from(alive), Ordering::Relaxed);
            change
                .add_document(format!("{tick} {event:?}").as_bytes())
                .unwrap();
            if tick == 8 {
                flight.lock().unwrap().take();
            }
        };
        let begin = Instant::now();
        wait(&get_on).unwrap();
        assert!(begin.elapsed() > PATIENCE * 2);
        // With nobody there it is no wait.
        wait(&report).unwrap();
    }
}
