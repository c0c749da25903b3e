// SPDX-License-Identifier: Apache-2.0
//! `wharf help`: the verbs by topic, or one verb's help.

use std::fmt::Write as _;

use clap::CommandFactory as _;

use super::exit::ExitStatus;
use super::verb::Groups;
use super::{Cli, Context, GROUPS, image};

/// Show this list, or the help of a verb as 'wharf VERB --help' does
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The verb, such as 'start' or 'image pull'
    #[arg(value_name = "VERB")]
    words: Vec<String>,
}

/// Prints it.
pub fn run(_context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let words = args.words.iter().map(String::as_str);
    let line = ["wharf"].into_iter().chain(words).chain(["--help"]);
    // What the parser makes of '--help' is an error of its own kind.
    let Err(shown) = parser().try_get_matches_from(line) else {
        return Ok(ExitStatus::Success);
    };
    shown.print()?;
    Ok(match shown.use_stderr() {
        true => ExitStatus::Usage,
        false => ExitStatus::Success,
    })
}

/// The parser, with verbs under their headings in its help: clap lists all of them under one.
pub(super) fn parser() -> clap::Command {
    let by_topic = |command: clap::Command, groups| {
        let template = template(&command, groups);
        command.help_template(template)
    };
    by_topic(Cli::command(), GROUPS)
        .mut_subcommand("image", |command| by_topic(command, image::GROUPS))
}

fn template(command: &clap::Command, groups: Groups) -> String {
    let mut text = String::from("{about-with-newline}\n{usage-heading} {usage}\n");
    let names = command.get_subcommands().map(clap::Command::get_name);
    let width = names.map(str::len).max().unwrap_or_default();
    for (heading, modules) in groups {
        // Writing to a String cannot fail.
        write!(text, "\n{heading}:\n").ok();
        for module in *modules {
            let name = module.replace('_', "-");
            let verb = command.find_subcommand(&name);
            let about = verb.and_then(clap::Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            writeln!(text, "  {name:width$}  {about}").ok();
        }
    }
    text + "\nOptions:\n{options}{after-help}"
}
