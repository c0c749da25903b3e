// SPDX-License-Identifier: Apache-2.0
//! `wharf image load`: unpack the images of an archive into the store.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::infile;
use crate::cli::output::image::{Images, Loaded};
use crate::cli::terminal::{Out, escape};
use crate::engine::images::archives::{self, Event, Source};
use crate::reference::Reference;

/// Load the images of a docker-archive, an oci-archive or an OCI layout
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The archive (also compressed with gzip or zstd) or the directory; '-' is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Give the only image of the archive this name
    #[arg(long, value_name = "REF")]
    name: Option<Reference>,
    /// Print what was loaded as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let source = if args.file == Path::new("-") {
        Source::Stream(infile::stdin("give the archive's name or redirect it")?)
    } else {
        Source::Path(args.file.clone())
    };
    let mut progress = Progress::new();
    let name = args.name.as_ref();
    let loaded = archives::load(paths, source, name, &mut |event| progress.show(event));
    progress.clear();
    let loaded = loaded?;
    let mut out = Out::stdout();
    if args.json {
        out.json(&Images::<Loaded>::new(loaded))?;
    } else {
        for image in &loaded {
            for reference in &image.references {
                out.line(&format!("loaded {}", reference.familiar()))?;
            }
            if image.references.is_empty() {
                out.line(&format!("loaded {}", image.digest))?;
            }
        }
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}

/// A bar on a terminal, a line per layer elsewhere; both on standard error.
struct Progress {
    terminal: bool,
    bar: ProgressBar,
}

impl Progress {
    fn new() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            bar: ProgressBar::hidden(),
        }
    }

    fn show(&mut self, event: Event) {
        match event {
            Event::Layer {
                name,
                number,
                total,
                bytes,
            } => {
                let text = format!("layer {number}/{total} {name}");
                if self.terminal {
                    self.clear();
                    let style = ProgressStyle::with_template(
                        "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes}",
                    );
                    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
                    self.bar = ProgressBar::new(bytes).with_style(style).with_message(text);
                } else {
                    self.line(&format!("{text}: {}", super::size(bytes)));
                }
            }
            Event::Progress(bytes) => self.bar.inc(bytes),
            Event::Present(name) => self.line(&format!("layer {name}: already there")),
            Event::Flushing => {
                if self.terminal {
                    self.clear();
                    self.bar = ProgressBar::new_spinner().with_message("writing to the disk");
                    self.bar.tick();
                }
            }
            Event::Warning(text) => self.line(&format!("warning: {text}")),
        }
    }

    fn line(&self, text: &str) {
        // Nobody is left to tell when standard error is gone.
        self.bar
            .suspend(|| drop(writeln!(io::stderr(), "{}", escape(text))));
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
