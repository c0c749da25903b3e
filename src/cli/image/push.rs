// SPDX-License-Identifier: Apache-2.0
//! `wharf image push`: an image to a registry, with the digest it has.

use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::output::image::Pushed;
use crate::cli::terminal::Out;
use crate::engine::images::push::{self, Event, Sent, Way};
use crate::reference::Reference;

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

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let mut progress = Progress::new(args);
    let pushed = push::push(paths, &args.image, args.target.as_ref(), &mut |event| {
        progress.show(event);
    });
    progress.bar.finish_and_clear();
    let pushed = pushed?;
    let mut out = Out::stdout();
    if args.json {
        out.json(&Pushed::from(pushed))?;
    } else {
        let name = pushed.reference.familiar();
        out.line(&format!("pushed {name} {}", pushed.digest))?;
    }
    out.flush()?;
    Ok(ExitStatus::Success)
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
            Event::Sent(Sent { digest, bytes, way }) => {
                let text = match way {
                    Way::Present => "already there",
                    Way::Mounted => "mounted from another repository",
                    Way::Uploaded => "sent",
                };
                let line = format!("blob {}: {text}, {}", digest.short(), super::size(bytes));
                // Nobody is left to tell when standard error is gone.
                self.bar.suspend(|| writeln!(io::stderr(), "{line}").ok());
                self.bar.inc(bytes);
            }
        }
    }
}
