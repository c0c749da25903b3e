// SPDX-License-Identifier: Apache-2.0
//! wharf-generator(8): the program that systemd runs at boot and at every daemon-reload.
//!
//! Finds out for whom it runs and where to write, and leaves the rest to `wharf::generator`. Exits
//! 0 whatever the definitions hold; 2 only when it is called in another way than systemd does.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use wharf::generator::{self, OutputDirs};
use wharf::journal::kmsg::{Log, Severity};
use wharf::paths::{Paths, Scope};

fn main() -> ExitCode {
    let args: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    // systemd.generator(7): the normal, early and late directories; one by hand, for a look.
    let normal = match args.as_slice() {
        [normal] | [normal, _, _] if normal.is_absolute() => normal.clone(),
        _ => {
            let usage = "usage: wharf-generator NORMAL-DIR [EARLY-DIR LATE-DIR], all absolute";
            Log::stderr().line(Severity::Error, usage);
            return ExitCode::from(2);
        }
    };
    let scope = generator::scope();
    let mut log = match scope {
        // Set by systemd only, so that a run by hand reports to whoever made it.
        Scope::System if env::var_os("SYSTEMD_SCOPE").is_some() => Log::kernel(),
        Scope::System | Scope::User => Log::stderr(),
    };
    let paths = match scope {
        Scope::System => Ok(Paths::system(Path::new("/"))),
        Scope::User => Paths::of_user(Path::new("/")),
    };
    match paths {
        Ok(paths) => {
            let summary = generator::run(&paths, &OutputDirs { normal });
            for (severity, text) in &summary.messages {
                log.line(*severity, text);
            }
        }
        Err(variable) => log.line(
            Severity::Error,
            &format!("${variable} is not set, skipping"),
        ),
    }
    log.finish();
    ExitCode::SUCCESS
}
