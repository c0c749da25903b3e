// SPDX-License-Identifier: Apache-2.0
//! When an image was used last: the modification time of its reference's file.
//!
//! Setting a time needs no room on a full disk, cannot tear, and is gone with the reference; and a
//! name that is loaded, pulled or given anew is a new file, so it counts as used. No check depends
//! on it. The time of a start is not flushed: after a power cut an image may look some seconds
//! older than it is.

use std::fs::{File, FileTimes};
use std::time::SystemTime;

use super::Image;
use super::record::file_name;
use super::store::{Record, Store};

/// Notes that the image is being started. Best effort: where nothing can be written, containers
/// start all the same.
pub fn mark_used(store: &Store, image: &Image) {
    let digest = &image.digest;
    let name = file_name(image.reference.as_ref(), Some(digest));
    if touch(store, &name).is_ok() {
        return;
    }
    // The image was named by its digest; any name of it will do.
    for record in store.records().unwrap_or_default() {
        if record.digest == *digest {
            touch(store, &file_name(record.reference.as_ref(), Some(digest))).ok();
        }
    }
}

fn touch(store: &Store, name: &str) -> std::io::Result<()> {
    let file = File::open(store.references_dir().join(name))?;
    file.set_times(FileTimes::new().set_modified(SystemTime::now()))
}

/// When the image was started, loaded, pulled or named last, as far as this name tells.
pub fn last_used(store: &Store, record: &Record) -> Option<SystemTime> {
    let name = file_name(record.reference.as_ref(), Some(&record.digest));
    let metadata = std::fs::symlink_metadata(store.references_dir().join(name)).ok()?;
    metadata.modified().ok()
}
