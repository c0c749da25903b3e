// SPDX-License-Identifier: Apache-2.0
//! The command line: one file per verb, named like it, holding its `Args` and its `run`.
//!
//! Only this layer prints. A verb asks `engine` for facts or actions and shows them; it mounts
//! nothing, speaks no HTTP and no D-Bus. A new verb is a file here, its word in [`verbs!`] below,
//! under the heading that 'wharf help' shows it by, and a section of man/wharf.1.md, which
//! `tests/it/house/docs.rs` compares with it.

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
pub mod help;
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
mod verb;

use std::io;
use std::path::{Path, PathBuf};

use clap::{FromArgMatches as _, Parser};
use tracing::level_filters::LevelFilter;

use self::exit::{Exit, ExitStatus};
use self::verb::verbs;
use crate::engine::container::Container;
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
    verb: Verb,
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

verbs! {
    "Run containers" {
        Start: start,
        Stop: stop,
        Restart: restart,
        Reload: reload,
        Kill: kill,
        Pause: pause,
        Unpause: unpause,
        Wait: wait,
        Rm: rm,
    }
    "Look at containers" {
        Ps: ps,
        Status: status,
        Inspect: inspect,
        Logs: logs,
        History: history,
        Events: events,
    }
    "Files of containers" {
        Cp: cp,
        Diff: diff,
        Export: export,
        Commit: commit,
        Mount: mount,
        Unmount: unmount,
        Artifact: artifact,
    }
    "Images" {
        Image: image,
        Login: login,
        Logout: logout,
    }
    "Definitions" {
        Check: check,
        Cat: cat,
        Schema: schema,
        DaemonReload: daemon_reload,
    }
    "Plumbing" {
        Cleanup: cleanup,
        Completion: completion,
        Help: help,
    }
}

/// What a verb works on.
#[derive(Debug)]
pub struct Context {
    /// Where everything is, or the environment variable that has to say it and does not.
    paths: Result<Paths, &'static str>,
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
    fn new(global: &Global) -> Self {
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
            Scope::System => Ok(Paths::system(root)),
            Scope::User => Paths::of_user(root),
        };
        Self { paths, machine }
    }

    /// Where everything is. Asked for by the verbs that need it: completions are made while
    /// packages are built, by anybody.
    ///
    /// # Errors
    ///
    /// A usage error when there is no user session.
    pub fn paths(&self) -> Result<&Paths, Exit> {
        self.paths.as_ref().map_err(|variable| {
            Exit::usage(format!(
                "${variable} is not set: there is no user session; log in, or see loginctl(1), \
                 'enable-linger'"
            ))
        })
    }

    /// The container `name` of this machine.
    fn container<'a>(&'a self, name: &'a ContainerName) -> Result<Container<'a>, Exit> {
        Ok(Container::new(self.paths()?, name))
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

impl Cli {
    /// The command line of this process. One that is wrong, or asks for help, ends it.
    pub fn of_process() -> Self {
        Self::try_parse().unwrap_or_else(|_| {
            // Help by topic is made of the whole parser, which no start has to wait for.
            let matches = help::parser().get_matches();
            Self::from_arg_matches(&matches).unwrap_or_else(|err| err.exit())
        })
    }

    /// How much is logged.
    pub fn log_level(&self) -> LevelFilter {
        match self.global.verbose {
            0 => LevelFilter::INFO,
            1 => LevelFilter::DEBUG,
            2.. => LevelFilter::TRACE,
        }
    }

    /// Runs the verb.
    pub fn run(&self) -> anyhow::Result<ExitStatus> {
        self.verb.run(&Context::new(&self.global))
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
