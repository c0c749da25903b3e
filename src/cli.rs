// SPDX-License-Identifier: Apache-2.0
//! The command line: one file per verb, named like it, holding its `Args` and its `run`.
//!
//! Only this layer prints. A verb asks `engine` for facts or actions and shows them; it mounts
//! nothing, speaks no HTTP and no D-Bus. A new verb is a file here, a variant of [`Command`], one
//! line in [`run`] and a section of man/wharf.1.md, which `tests/it/house/docs.rs` compares with it.

pub mod artifact;
pub mod cat;
pub mod check;
pub mod cleanup;
pub mod commit;
pub mod completion;
pub mod cp;
pub mod daemon_reload;
pub mod diff;
pub mod events;
pub mod exit;
pub mod export;
pub mod history;
pub mod image;
pub mod inspect;
pub mod kill;
pub mod login;
pub mod logout;
pub mod logs;
pub mod mount;
pub mod output;
pub mod pause;
pub mod ps;
pub mod reload;
pub mod restart;
pub mod rm;
pub mod schema;
pub mod start;
pub mod status;
pub mod stop;
pub mod terminal;
pub mod unmount;
pub mod unpause;
pub mod wait;

mod infile;
mod jobs;
mod outfile;
mod phrase;

use std::io;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use self::exit::{Exit, ExitStatus};
use tracing::level_filters::LevelFilter;

use crate::engine::container::Container;
use crate::journal::log::{self, Target};
use crate::name::ContainerName;
use crate::paths::{Paths, Scope};

const EXAMPLES: &str = "\
Examples:
  wharf start web            the same job as 'systemctl start ctr@web'
  wharf ps -a                every container, running or not
  wharf logs -f web          follow what it prints
  wharf history web          how its runs ended

See wharf(1) for everything, wharf-container(5) for definitions.";

/// Containers that systemd supervises.
#[derive(Debug, Parser)]
#[command(name = "wharf", version, propagate_version = false, after_help = EXAMPLES)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options every verb takes.
#[derive(Debug, clap::Args)]
struct Global {
    /// Talk to the system manager (the default for root)
    #[arg(long, global = true, conflicts_with = "user")]
    system: bool,
    /// Talk to your own user manager (the default for everybody else)
    #[arg(long, global = true)]
    user: bool,
    /// Use the definitions and state below DIR, without a running system
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Say more on standard error; twice for every D-Bus call
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Start(start::Args),
    Stop(stop::Args),
    Restart(restart::Args),
    Reload(reload::Args),
    Kill(kill::Args),
    Pause(pause::Args),
    Unpause(unpause::Args),
    Wait(wait::Args),
    Ps(ps::Args),
    Status(status::Args),
    Inspect(inspect::Args),
    Logs(logs::Args),
    History(history::Args),
    Events(events::Args),
    Rm(rm::Args),
    Export(export::Args),
    Diff(diff::Args),
    Cp(cp::Args),
    Mount(mount::Args),
    Unmount(unmount::Args),
    Commit(commit::Args),
    Artifact(artifact::Args),
    Image(image::Args),
    Login(login::Args),
    Logout(logout::Args),
    Check(check::Args),
    Cat(cat::Args),
    Schema(schema::Args),
    DaemonReload(daemon_reload::Args),
    Cleanup(cleanup::Args),
    Completion(completion::Args),
}

/// What a verb works on.
#[derive(Debug)]
pub struct Context {
    /// Where everything is.
    pub paths: Paths,
    /// Whether the paths are those of the running system.
    machine: Machine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Machine {
    /// The one that runs us.
    Running,
    /// A directory tree (`--root`).
    Tree,
}

impl Context {
    /// The container `name` of this machine.
    fn container<'a>(&'a self, name: &'a ContainerName) -> Container<'a> {
        Container::new(&self.paths, name)
    }

    fn new(global: &Global) -> anyhow::Result<Self> {
        let machine = match global.root {
            Some(_) => Machine::Tree,
            None => Machine::Running,
        };
        let root = global.root.as_deref().unwrap_or(Path::new("/"));
        let scope = match (global.system, global.user) {
            (true, _) => Scope::System,
            (false, true) => Scope::User,
            (false, false) if nix::unistd::geteuid().is_root() => Scope::System,
            (false, false) if machine == Machine::Tree => Scope::System,
            (false, false) => Scope::User,
        };
        let paths = match scope {
            Scope::System => Paths::system(root),
            Scope::User => user_paths(root)?,
        };
        Ok(Self { paths, machine })
    }

    /// Fails for verbs that act on the running system when there is only a directory tree.
    ///
    /// # Errors
    ///
    /// A usage error when `--root` was given.
    pub fn require_machine(&self) -> Result<(), Exit> {
        match self.machine {
            Machine::Running => Ok(()),
            Machine::Tree => Err(Exit::usage(
                "this command needs the running system; leave out '--root'",
            )),
        }
    }
}

/// The directories of the user who calls.
fn user_paths(root: &Path) -> Result<Paths, Exit> {
    Paths::of_user(root).map_err(|variable| {
        Exit::usage(format!(
            "${variable} is not set: there is no user session; log in, or see loginctl(1), \
             'enable-linger'"
        ))
    })
}

/// Sends what the process logs to the journal under systemd, else to standard error, as much as
/// was asked for.
pub fn start_logging(cli: &Cli) {
    let level = match cli.global.verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        2.. => LevelFilter::TRACE,
    };
    let installed = log::install(Target::detect(), level);
    // Without a journal to log to there still is the container to start.
    if installed.is_err() {
        log::install(Target::StandardError, level).ok();
    }
}

/// Runs the verb.
pub fn run(cli: &Cli) -> anyhow::Result<ExitStatus> {
    let context = match &cli.command {
        // Completions are made while packages are built, by anybody.
        Command::Completion(args) => return completion::run(args),
        _ => Context::new(&cli.global)?,
    };
    match &cli.command {
        Command::Artifact(args) => artifact::run(&context, args),
        Command::Cleanup(args) => cleanup::run(&context, args),
        Command::Cat(args) => cat::run(args, &context.paths),
        Command::Check(args) => check::run(args, &context.paths),
        Command::Completion(args) => completion::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Start(args) => start::run(&context, args),
        Command::Stop(args) => stop::run(&context, args),
        Command::Restart(args) => restart::run(&context, args),
        Command::Reload(args) => reload::run(&context, args),
        Command::Kill(args) => kill::run(&context, args),
        Command::Pause(args) => pause::run(&context, args),
        Command::Unpause(args) => unpause::run(&context, args),
        Command::Wait(args) => wait::run(&context, args),
        Command::Ps(args) => ps::run(&context, args),
        Command::Status(args) => status::run(&context, args),
        Command::Inspect(args) => inspect::run(&context, args),
        Command::Logs(args) => logs::run(&context, args),
        Command::History(args) => history::run(&context, args),
        Command::Events(args) => events::run(&context, args),
        Command::Rm(args) => rm::run(&context, args),
        Command::Commit(args) => commit::run(&context, args),
        Command::Mount(args) => mount::run(&context, args),
        Command::Unmount(args) => unmount::run(&context, args),
        Command::Cp(args) => cp::run(&context, args),
        Command::Diff(args) => diff::run(&context, args),
        Command::Export(args) => export::run(&context, args),
        Command::DaemonReload(args) => daemon_reload::run(&context, args),
        Command::Image(args) => image::run(&context, args),
        Command::Login(args) => login::run(&context, args),
        Command::Logout(args) => logout::run(&context, args),
    }
}

/// Tells the error on standard error, and the exit status that goes with it.
pub fn report(err: &anyhow::Error) -> ExitStatus {
    jobs::note(&format!("{err:#}"));
    exit::status_of(err)
}

/// Whether the reader of our standard output went away, which is its right (`wharf ps | head`).
pub fn is_closed_pipe(err: &anyhow::Error) -> bool {
    err.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|err| err.kind() == io::ErrorKind::BrokenPipe)
    })
}
