// SPDX-License-Identifier: Apache-2.0
//! `wharf image history`: how an image was built, and what each step added.

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::output::SCHEMA;
use crate::cli::phrase;
use crate::cli::terminal::{Cell, Colour, Out, Table};
use crate::image::Digest;
use crate::image::config::HistoryEntry;
use crate::image::store::{Documents, Store};
use crate::storage::layer;

/// Show how an image was built, the last step first
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A reference or an id
    #[arg(value_name = "REF")]
    image: String,
    /// Show whole commands
    #[arg(long)]
    no_trunc: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct History {
    schema: u32,
    digest: Digest,
    /// The last step first.
    steps: Vec<Step>,
}

/// A step, a layer, or both: images may say less of their history than they have layers.
#[derive(Serialize, Default)]
struct Step {
    #[serde(flatten)]
    entry: HistoryEntry,
    diff_id: Option<Digest>,
    /// The unpacked layer.
    bytes: Option<u64>,
    blob_bytes: Option<u64>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let store = Store::open(paths)?;
    let (_, digest) = store.find(&args.image)?;
    let mut steps = steps(&store, store.documents(&digest)?);
    steps.reverse();
    let mut out = Out::stdout();
    if args.json {
        let history = History {
            schema: SCHEMA,
            digest,
            steps,
        };
        out.json(&history)?;
    } else {
        print_table(&mut out, &steps, args)?;
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}

fn steps(store: &Store, documents: Documents) -> Vec<Step> {
    let config = documents.config;
    let blobs = documents.manifest.layers.iter();
    let mut layers = config.diff_ids.iter().zip(blobs);
    let mut next_layer = |step: &mut Step| match layers.next() {
        Some((diff_id, blob)) => {
            let record = layer::load(store.layers_dir(), diff_id).ok();
            step.diff_id = Some(*diff_id);
            step.bytes = record.map(|record| record.bytes);
            step.blob_bytes = Some(blob.size);
            true
        }
        None => false,
    };
    let mut steps = Vec::new();
    for entry in config.history {
        let mut step = Step {
            entry,
            ..Step::default()
        };
        if !step.entry.empty_layer {
            next_layer(&mut step);
        }
        steps.push(step);
    }
    loop {
        let mut step = Step::default();
        if !next_layer(&mut step) {
            return steps;
        }
        steps.push(step);
    }
}

fn print_table(out: &mut Out, steps: &[Step], args: &Args) -> anyhow::Result<()> {
    let mut table = Table::new(&["CREATED", "LAYER", "SIZE", "CREATED BY", "COMMENT"]);
    let now = Timestamp::now();
    for step in steps {
        let time = step.entry.created.as_deref();
        let time = time.and_then(|time| time.parse::<Timestamp>().ok());
        let created = time.map(|time| phrase::age(&time.to_string(), now) + " ago");
        let layer = step.diff_id.as_ref().map(Digest::short);
        let size = match (step.diff_id, step.bytes) {
            (Some(_), Some(bytes)) => Cell::new(&super::size(bytes), Colour::Plain),
            (Some(_), None) => Cell::new("damaged", Colour::Bad),
            (None, _) => "-".into(),
        };
        let text = |text: &Option<String>| {
            let text = text.as_deref().unwrap_or_default();
            if args.no_trunc {
                text.replace(['\n', '\t'], " ")
            } else {
                shortened(text)
            }
        };
        table.push(vec![
            created.as_deref().unwrap_or("-").into(),
            layer.as_deref().unwrap_or("-").into(),
            size,
            Cell::new(&text(&step.entry.created_by), Colour::Plain),
            Cell::new(&text(&step.entry.comment), Colour::Dim),
        ]);
    }
    Ok(out.table(&table)?)
}

/// The start of a command, without what every step of an image begins with.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let text = text.strip_prefix("/bin/sh -c ").unwrap_or(text);
    let text = text.strip_prefix("#(nop)").unwrap_or(text);
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    if text.chars().count() <= CHARS_MAX {
        return text;
    }
    text.chars().take(CHARS_MAX - 1).chain(['…']).collect()
}
