// SPDX-License-Identifier: Apache-2.0
//! `wharf image pull`: bring images from registries.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::output::image::{Images, Pulled};
use crate::cli::terminal::{Out, escape};
use crate::definition::PullPolicy;
use crate::definition::kinds::image::ImageDefinition;
use crate::definition::load::load;
use crate::definition::value::words::Words as _;
use crate::digest::Digest;
use crate::engine::images::obtain;
use crate::engine::images::pull::{Event, Outcome, Puller};
use crate::name::ContainerName;
use crate::platform::Platform;

/// Bring images from registries
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// References, such as nginx:1 or quay.io/a/b@sha256:…
    #[arg(value_name = "REF", required_unless_present = "definition")]
    images: Vec<String>,
    /// What images/NAME.toml says, as ctr-image@NAME.service does
    #[arg(long, value_name = "NAME", conflicts_with_all = ["images", "policy", "platform", "json"])]
    definition: Option<ContainerName>,
    /// When to ask the registry about an image that is in the store: always, and download what has
    /// changed; missing, not when it is there; newer, for the digest first; never, and fail when the
    /// image is not there
    #[arg(long, default_value = "always", value_parser = policies())]
    policy: PullPolicy,
    /// For another machine than this one
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Print only the digests
    #[arg(short, long)]
    quiet: bool,
    /// Print what was pulled as JSON
    #[arg(long)]
    json: bool,
}

fn policies() -> impl TypedValueParser<Value = PullPolicy> {
    // The parser has let only these through.
    PossibleValuesParser::new(PullPolicy::words())
        .map(|word| PullPolicy::of_word(&word).unwrap_or_default())
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    if let Some(name) = &args.definition {
        let definition: ImageDefinition = load(paths, name)?;
        obtain::prefetch(paths, &definition)?;
        return Ok(ExitStatus::Success);
    }
    let puller = Puller::open(paths, args.policy, args.platform.clone())?;
    let mut out = Out::stdout();
    let mut all = Vec::new();
    let mut first = None;
    for image in &args.images {
        let progress = Progress::new(if args.quiet || args.json {
            Detail::Warnings
        } else if io::stderr().is_terminal() {
            Detail::Bars
        } else {
            Detail::Lines
        });
        let pulled = puller.pull(image, &|event| progress.show(event));
        progress.clear();
        let pulled = match pulled {
            Ok(pulled) => pulled,
            // The others are pulled all the same.
            Err(err) => {
                let err = err.context(format!("pulling '{}'", image.escape_debug()));
                if first.is_some() {
                    progress.line(&format!("{err:#}"));
                }
                first = first.or(Some(err));
                continue;
            }
        };
        if args.quiet && !args.json {
            out.line(&pulled.digest.to_string())?;
        } else if !args.json {
            let what = match pulled.outcome {
                Outcome::Pulled => "pulled",
                Outcome::Current => "up to date:",
                Outcome::Present => "present:",
            };
            let name = pulled.reference.familiar();
            out.line(&format!("{what} {name} {}", pulled.digest))?;
        }
        out.flush()?;
        all.push(pulled);
    }
    if args.json {
        out.json(&Images::<Pulled>::new(all))?;
    }
    out.flush()?;
    puller.tidy_up();
    first.map_or(Ok(ExitStatus::Success), Err)
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    Warnings,
    Lines,
    Bars,
}

/// What is told while it works, on standard error.
struct Progress {
    detail: Detail,
    bars: MultiProgress,
    layers: Mutex<BTreeMap<Digest, ProgressBar>>,
}

impl Progress {
    fn new(detail: Detail) -> Self {
        Self {
            detail,
            bars: MultiProgress::new(),
            layers: Mutex::default(),
        }
    }

    fn show(&self, event: Event) {
        match event {
            Event::Room(text) => self.line(&text),
            Event::Warning(text) => self.line(&format!("warning: {text}")),
            _ if self.detail == Detail::Warnings => {}
            Event::Alive => {}
            Event::Found(reference) => self.line(&format!("found as {reference}")),
            Event::Waiting { holder, digest } => self.line(&format!(
                "waiting for {holder}, which downloads {}",
                digest.short()
            )),
            Event::Plan {
                layers,
                present,
                bytes,
            } => {
                let bytes = super::size(bytes);
                self.line(&format!(
                    "layers to download: {layers}, {bytes}; already there: {present}"
                ));
            }
            Event::Layer { digest, bytes } => self.begin(digest, bytes),
            Event::Progress { digest, bytes } => {
                if let Some(bar) = self.layers().get(&digest) {
                    bar.inc(bytes);
                }
            }
            Event::Done(digest) => {
                if let Some(bar) = self.layers().remove(&digest) {
                    bar.finish_and_clear();
                }
                if self.detail == Detail::Lines {
                    self.line(&format!("layer {}: done", digest.short()));
                }
            }
            Event::Flushing => {
                if self.detail == Detail::Bars {
                    let bar = self.bars.add(ProgressBar::new_spinner());
                    bar.set_message("writing to the disk");
                    bar.tick();
                    self.layers().insert(Digest::of(b""), bar);
                }
            }
        }
    }

    fn begin(&self, digest: Digest, bytes: u64) {
        let name = format!("layer {}", digest.short());
        if self.detail == Detail::Lines {
            return self.line(&format!("{name}: {}", super::size(bytes)));
        }
        let style = ProgressStyle::with_template(
            "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}",
        );
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(bytes).with_style(style).with_message(name);
        self.layers().insert(digest, self.bars.add(bar));
    }

    fn layers(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, ProgressBar>> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, text: &str) {
        // Nobody is left to tell when standard error is gone.
        self.bars
            .suspend(|| drop(writeln!(io::stderr(), "{}", escape(text))));
    }

    fn clear(&self) {
        for bar in std::mem::take(&mut *self.layers()).into_values() {
            bar.finish_and_clear();
        }
    }
}
