// SPDX-License-Identifier: Apache-2.0
//! `bench-extract LAYER DIRECTORY`: unpacks a layer as every load and pull does, with its facts, and
//! flushes it; nothing else. `make bench` times it beside GNU tar.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, bail};
use wharf::digest::Hashing;
use wharf::storage::layer;
use wharf::sys::dir::Dir;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [archive, directory] = args.as_slice() else {
        bail!("usage: bench-extract LAYER DIRECTORY");
    };
    let file = File::open(archive).with_context(|| format!("opening '{archive}'"))?;
    let directory = Path::new(directory);
    let mut reader = Hashing::new(file);
    let tree =
        layer::unpack(&mut reader, directory).with_context(|| format!("unpacking '{archive}'"))?;
    let (diff_id, _, _) = reader.finish();
    layer::record(directory, &diff_id, &tree)?;
    Ok(Dir::open(directory)?.sync_file_system()?)
}
