// SPDX-License-Identifier: Apache-2.0
//! `wharf commit`: make an image of a container as it is now.

use super::exit::{Exit, ExitStatus};
use super::output::files::Committed;
use super::terminal::Out;
use super::{Context, jobs};
use crate::engine::files::commit::{self, Options, Pause};
use crate::instruction::Instruction;
use crate::name::ContainerName;
use crate::reference::Reference;

const EXAMPLES: &str = "\
Examples:
  wharf commit web localhost/web:today
  wharf commit --change 'CMD [\"nginx\"]' --change 'ENV A=b C=d' web localhost/web:new";

/// Make an image of a container: its image, and a layer of what it has written
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The container
    #[arg(value_name = "NAME")]
    name: ContainerName,
    /// The new image's name; without one it is kept under its digest
    #[arg(value_name = "REF")]
    reference: Option<Reference>,
    /// Change the image's config: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or
    /// WORKDIR as in a Containerfile
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<Instruction>,
    /// Who made the image
    #[arg(short, long, value_name = "TEXT")]
    author: Option<String>,
    /// A word on the new layer
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Freeze the container while its files are copied
    #[arg(short, long, value_name = "BOOL", default_value_t = true)]
    #[arg(action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    #[arg(require_equals = true)]
    pause: bool,
    /// Print JSON, see wharf(1)
    #[arg(long)]
    json: bool,
}

/// Makes it.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    if args
        .reference
        .as_ref()
        .is_some_and(|r| r.digest().is_some())
    {
        return Err(Exit::usage("a name with a digest cannot be given to a new image").into());
    }
    let options = Options {
        reference: args.reference.clone(),
        instructions: args.change.clone(),
        author: args.author.clone(),
        message: args.message.clone(),
        pause: match args.pause {
            true => Pause::Freeze,
            false => Pause::GoOn,
        },
    };
    let committed = commit::commit(context.container(&args.name)?, &options)?;
    jobs::warn(&committed.warnings.texts, committed.warnings.count);
    let mut out = Out::stdout();
    match &args.reference {
        _ if args.json => {
            out.json(&Committed::new(args.reference.as_ref(), committed))?;
        }
        Some(reference) => out.line(&format!("committed {}", reference.familiar()))?,
        None => out.line(&format!("committed {}", committed.digest))?,
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}
