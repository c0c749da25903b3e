// SPDX-License-Identifier: Apache-2.0
//! `wharf image push`: an image to a registry, with the digest it has.

use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::Context;
use crate::cli::exit::{Exit, ExitStatus};
use crate::cli::output::SCHEMA;
use crate::cli::terminal::Out;
use crate::image::push::{Event, Sent, push};
use crate::image::store::Store;
use crate::image::{Digest, Reference};
use crate::registry::{Client, Pushed};
use crate::settings::Settings;

/// Push an image to a registry
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A reference or an id
    #[arg(value_name = "REF")]
    image: String,
    /// Where to push it, if not to where its name says
    #[arg(value_name = "DEST")]
    target: Option<Reference>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// Print what was pushed as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    schema: u32,
    reference: Reference,
    digest: Digest,
    blobs: Vec<Blob>,
}

#[derive(Serialize)]
struct Blob {
    digest: Digest,
    bytes: u64,
    /// `present`, `mounted` or `uploaded`.
    result: &'static str,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let store = Store::open(paths)?;
    let (reference, digest) = store.find_named(&args.image)?;
    let target = match (&args.target, reference) {
        (Some(target), _) => target.clone(),
        (None, Some(reference)) => reference.without_digest().unwrap_or(reference),
        (None, None) => {
            return Err(Exit::usage("an id says nothing of a registry; give DEST too").into());
        }
    };
    if target.digest().is_some_and(|wanted| *wanted != digest) {
        let text = format!("'{target}' has another digest than the image, which is {digest}");
        return Err(Exit::usage(text).into());
    }
    let client = Client::new(paths, &Settings::load(paths)?)?;
    let mut progress = Progress::new(args);
    let sent = push(&store, &client, &digest, &target, &mut |event| {
        progress.show(event);
    });
    progress.bar.finish_and_clear();
    let sent = sent?;
    let mut out = Out::stdout();
    if args.json {
        let blobs = sent.iter().map(|sent| Blob {
            digest: sent.digest,
            bytes: sent.size,
            result: word(sent.pushed),
        });
        let report = Report {
            schema: SCHEMA,
            reference: target,
            digest,
            blobs: blobs.collect(),
        };
        out.json(&report)?;
    } else {
        out.line(&format!("pushed {} {digest}", target.familiar()))?;
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}

fn word(pushed: Pushed) -> &'static str {
    match pushed {
        Pushed::Present => "present",
        Pushed::Mounted => "mounted",
        Pushed::Uploaded => "uploaded",
    }
}

/// A bar over all blobs on a terminal, a line per blob elsewhere; both on standard error.
struct Progress {
    quiet: bool,
    bar: ProgressBar,
}

impl Progress {
    fn new(args: &Args) -> Self {
        Self {
            quiet: args.quiet,
            bar: ProgressBar::hidden(),
        }
    }

    fn show(&mut self, event: Event) {
        if self.quiet {
            return;
        }
        match event {
            Event::Total { blobs, bytes } if io::stderr().is_terminal() => {
                let template = "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes}";
                let style = ProgressStyle::with_template(template);
                let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
                let text = format!("sending {blobs} blobs");
                self.bar = ProgressBar::new(bytes).with_style(style).with_message(text);
                self.bar.tick();
            }
            Event::Total { .. } => {}
            Event::Sent(Sent {
                digest,
                size,
                pushed,
            }) => {
                let text = match pushed {
                    Pushed::Present => "already there",
                    Pushed::Mounted => "mounted from another repository",
                    Pushed::Uploaded => "sent",
                };
                let line = format!("blob {}: {text}, {}", digest.short(), super::size(size));
                // Nobody is left to tell when standard error is gone.
                self.bar.suspend(|| writeln!(io::stderr(), "{line}").ok());
                self.bar.inc(size);
            }
        }
    }
}
