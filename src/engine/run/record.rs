// SPDX-License-Identifier: Apache-2.0
//! The record of a created container, made from the start that made it.

use crate::engine::run::cgroup;
use crate::engine::run::context::{Bundle, Start};
use crate::image::store::Store;
use crate::journal::event;
use crate::records::run::{self, HookRecord, ImageRecord, RunRecord};
use crate::sys;

/// Writes the run-time record of a created container. From here on the exit status that systemd
/// reports is the payload's, and the record keeps the image from being removed; before, nothing
/// did, so it is looked at again.
pub(crate) fn write(start: Start<'_>, bundle: &Bundle, pid: i32) -> anyhow::Result<RunRecord> {
    let image = start.image_record()?;
    let paths = start.container.paths();
    let definition = start.definition;
    let record = RunRecord {
        version: run::VERSION,
        name: definition.name,
        id: start.id,
        invocation_id: start.invocation_id,
        boot_id: sys::process::boot_id()?,
        pid,
        pid_start_ticks: sys::process::start_ticks(pid)?,
        started_at: jiff::Timestamp::now().to_string(),
        runtime: start.runtime.program().to_owned(),
        image,
        payload_cgroup: start.payload.path().to_owned(),
        args: bundle.args.clone(),
        env: bundle.env.clone(),
        stop_signal: bundle.stop_signal.clone(),
        identifier: bundle.identifier.clone(),
        stderr_priority: bundle.stderr_priority,
        init: definition.process.init,
        poststop: definition
            .hooks
            .poststop
            .into_iter()
            .map(HookRecord::from)
            .collect(),
        // The payload has not run yet: what is counted now is an earlier run's.
        oom_kills_before: cgroup::oom_kills(&start.payload).unwrap_or_default(),
        timing: start.stopwatch.into_phases(),
        sources: definition.sources,
    };
    match &start.source {
        Some(image) => Store::open(paths)?.claim(image, || run::write(paths, &record))?,
        None => run::write(paths, &record)?,
    }
    Ok(record)
}

/// The fields that say which container an event is about.
pub(crate) fn identity(record: &RunRecord) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        (event::CONTAINER_ID, record.id.short().to_owned()),
        (event::CONTAINER_ID_FULL, record.id.as_str().to_owned()),
    ];
    if let ImageRecord::Image { reference, digest } = &record.image {
        fields.push((event::IMAGE_NAME, reference.clone()));
        fields.push((event::IMAGE_DIGEST, digest.clone()));
    }
    fields
}
