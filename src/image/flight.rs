// SPDX-License-Identifier: Apache-2.0
//! One download per blob, however many pull at once, across processes and threads.
//!
//! Who wants to bring a blob holds the lock (flock(2)) of `images/flights/HEX`; it ends with the
//! process, so the next one brings the blob when the first was killed or failed (hostile-inputs
//! R15). Nobody waits for a lock while others may wait for one that he holds: a puller takes what
//! he gets, brings and publishes it, and waits only with nothing in hand. The flight of a config is
//! held while those of layers are waited for, so configs have flights of their own: a digest that
//! is one image's config and another's layer, or both of one, makes no ring.

use std::fs::{File, TryLockError};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use super::pull::{Event, Report};
use super::store::Store;
use super::{Digest, lease};
use crate::sys;
use crate::sys::dir::Dir;
use crate::sys::fs::Lock;

/// How often a waiting pull looks whether the other one gets on.
const TICK: Duration = Duration::from_secs(1);

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
    store: &Store,
    part: Part,
    digest: &Digest,
) -> anyhow::Result<Option<Flight>> {
    // Files of flights are only removed by who holds the store's lock alone: not between our
    // opening and locking one.
    let _moment = store.moment()?;
    let path = store.flights_dir().join(part.lock_name(digest));
    Ok(sys::fs::try_lock(&path)?.map(Flight))
}

/// Waits until nobody brings the blob; tells `report` who does, and from time to time that he gets
/// on. Whether it is there then is to be looked up.
pub(super) fn wait(
    store: &Store,
    part: Part,
    digest: &Digest,
    report: Report<'_>,
) -> anyhow::Result<()> {
    let path = store.flights_dir().join(part.lock_name(digest));
    let (done, ended) = channel::<()>();
    thread::scope(|scope| {
        let waiter = thread::Builder::new()
            .name("wait".to_owned())
            .spawn_scoped(scope, move || {
                let _done = done;
                let waiting = |holder: &str| report(Event::Waiting(holder.to_owned()));
                sys::fs::lock(&path, waiting).map(drop)
            })
            .context("starting a thread")?;
        let mut before = lease::staged_bytes(store);
        while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            let now = lease::staged_bytes(store);
            if now != before {
                before = now;
                report(Event::Elsewhere);
            }
        }
        let locked = waiter.join().unwrap_or_else(|_| {
            let err = std::io::Error::other("the waiting thread stopped");
            Err(sys::Error::new("flock()", err))
        });
        locked.with_context(|| format!("waiting for who downloads blob '{digest}'"))
    })
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
            tracing::warn!("cannot remove '{}', skipping: {err:#}", path.display());
        }
    }
    Ok(())
}
