// SPDX-License-Identifier: Apache-2.0
//! `wharf image inspect`: what an image says about itself, as JSON.

use serde::Serialize;

use crate::cli::exit::ExitStatus;
use crate::cli::terminal::Out;
use crate::image::manifest::Manifest;
use crate::image::store::Store;
use crate::image::{Config, Digest, Reference};
use crate::paths::Paths;

/// Print what an image says about itself, as JSON
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// References or ids
    #[arg(value_name = "REF", required = true)]
    images: Vec<String>,
    /// Print JSON, which is the default and the only format
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Inspected {
    references: Vec<Reference>,
    digest: Digest,
    id: Digest,
    created: Option<String>,
    os: String,
    architecture: String,
    config: Config,
    diff_ids: Vec<Digest>,
    manifest: Manifest,
}

pub(super) fn run(paths: &Paths, args: &Args) -> anyhow::Result<ExitStatus> {
    let store = Store::open(paths)?;
    let records = store.records()?;
    let inspected = args
        .images
        .iter()
        .map(|text| {
            let (_, digest) = store.find(text)?;
            let documents = store.documents(&digest)?;
            let names = records.iter().filter(|record| record.digest == digest);
            Ok(Inspected {
                references: names
                    .filter_map(|record| record.reference.clone())
                    .collect(),
                digest,
                id: documents.manifest.config.digest,
                created: documents.config.created,
                os: documents.config.os,
                architecture: documents.config.architecture,
                config: documents.config.config,
                diff_ids: documents.config.diff_ids,
                manifest: documents.manifest,
            })
        })
        .collect::<anyhow::Result<Vec<Inspected>>>()?;
    let mut out = Out::stdout();
    out.line(&serde_json::to_string_pretty(&inspected)?)?;
    out.flush()?;
    Ok(ExitStatus::Success)
}
