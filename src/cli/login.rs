// SPDX-License-Identifier: Apache-2.0
//! `wharf login`: credentials for a registry, verified with it and then kept.

use std::io::{self, IsTerminal as _, Read as _};

use anyhow::Context as _;

use super::Context;
use super::exit::{Exit, ExitStatus};
use super::terminal::{Out, escape};
use crate::engine::images::credentials::{self, Login, Registry};
use crate::sys::prompt::{Echo, Terminal};

/// Longest password on standard input, such as a JSON key of a cloud.
const PASSWORD_BYTES_MAX: u64 = 64 << 10;

/// Log in to a registry: verify a user name and a password and keep them
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The registry's host, perhaps with a port, and a path to log in for a part of it
    registry: String,
    /// The user name; asked for at the terminal when it is not given
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// Read the password from standard input instead of asking for it
    #[arg(long)]
    password_stdin: bool,
    /// Only verify what is stored for the registry
    #[arg(long, conflicts_with_all = ["username", "password_stdin"])]
    check: bool,
}

/// Runs the verb.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let registry: Registry = args.registry.parse()?;
    let paths = context.paths()?;
    let mut out = Out::stdout();
    if args.check {
        credentials::verify_stored(paths, &registry)?;
        out.line(&format!("the credentials for '{registry}' are good"))?;
        out.flush()?;
        return Ok(ExitStatus::Success);
    }
    let login = Login::new(paths)?;
    let (user, password) = ask(&registry, args)?;
    let shown = escape(&user).into_owned();
    let path = login.log_in(&registry, user, password)?;
    out.line(&format!(
        "logged in to '{registry}' as '{shown}'; the password is in '{}', readable by its owner",
        path.display()
    ))?;
    out.flush()?;
    Ok(ExitStatus::Success)
}

fn ask(registry: &Registry, args: &Args) -> anyhow::Result<(String, String)> {
    let mut terminal = None;
    let mut at_terminal = |question: &str, echo: Echo| -> anyhow::Result<String> {
        if terminal.is_none() {
            let opened = Terminal::open().map_err(|_| {
                Exit::usage("there is no terminal to ask at; use --username and --password-stdin")
            });
            terminal = Some(opened?);
        }
        let answer = terminal
            .as_mut()
            .map(|terminal| terminal.ask(question, echo));
        Ok(answer.transpose()?.unwrap_or_default())
    };
    let user = match &args.username {
        Some(user) => user.clone(),
        None if args.password_stdin => {
            return Err(Exit::usage("--password-stdin needs --username").into());
        }
        None => at_terminal(&format!("User name for {registry}: "), Echo::On)?,
    };
    if user.is_empty() || user.contains(':') {
        return Err(Exit::usage("a user name is not empty and holds no ':'").into());
    }
    let password = if args.password_stdin {
        if io::stdin().is_terminal() {
            return Err(
                Exit::usage("standard input is a terminal; leave out --password-stdin").into(),
            );
        }
        let mut text = String::new();
        io::stdin()
            .take(PASSWORD_BYTES_MAX)
            .read_to_string(&mut text)
            .context("reading the password")?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        line.strip_suffix('\r').unwrap_or(line).to_owned()
    } else {
        at_terminal("Password: ", Echo::Off)?
    };
    if password.is_empty() {
        return Err(Exit::usage("the password is empty").into());
    }
    Ok((user, password))
}
