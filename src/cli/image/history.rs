// SPDX-License-Identifier: Apache-2.0
//! `wharf image history`: how an image was built, and what each step added.

use jiff::Timestamp;

use crate::cli::exit::ExitStatus;
use crate::cli::output::image::History;
use crate::cli::terminal::{Cell, Colour, Out, Table};
use crate::cli::{Context, phrase};
use crate::digest::Digest;
use crate::engine::images::describe::{self, Step};

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

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let (digest, steps) = describe::history(paths, &args.image)?;
    let mut out = Out::stdout();
    if args.json {
        out.json(&History::new(digest, steps))?;
    } else {
        print_table(&mut out, &steps, args)?;
    }
    out.flush()?;
    Ok(ExitStatus::Success)
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
