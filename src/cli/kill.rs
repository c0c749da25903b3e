// SPDX-License-Identifier: Apache-2.0
//! `wharf kill`: a signal to the container's main process.

use super::Context;
use super::exit::ExitStatus;
use super::jobs::{self, Names};

const EXAMPLES: &str = "\
Examples:
  wharf kill web            SIGKILL; whether it is started again is up to 'restart'
  wharf kill -s HUP web     what many servers take as 'read your configuration again'";

/// Send a signal to the main process of containers
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    names: Names,
    /// The signal: a name with or without SIG, RTMIN+N, or a number
    #[arg(short, long, default_value = "KILL", value_parser = parse_signal)]
    signal: i32,
}

/// Sends it.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    jobs::each_container(context, &args.names, |container| {
        container.kill(args.signal)
    })
}

fn parse_signal(text: &str) -> Result<i32, String> {
    // glibc's and musl's SIGRTMIN and SIGRTMAX on Linux (signal(7)).
    const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;
    let unknown = || format!("'{text}' is not a signal; 'kill -L' lists them");
    let upper = text.to_ascii_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        return if (1..=*REAL_TIME.end()).contains(&number) {
            Ok(number)
        } else {
            Err(unknown())
        };
    }
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = match name {
        "RTMIN" => Some(*REAL_TIME.start()),
        "RTMAX" => Some(*REAL_TIME.end()),
        _ => match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
            (Some(offset), _) => offset
                .parse::<u8>()
                .ok()
                .map(|o| REAL_TIME.start() + i32::from(o)),
            (None, Some(offset)) => offset
                .parse::<u8>()
                .ok()
                .map(|o| REAL_TIME.end() - i32::from(o)),
            (None, None) => None,
        },
    };
    if let Some(number) = real_time {
        return Some(number)
            .filter(|n| REAL_TIME.contains(n))
            .ok_or_else(unknown);
    }
    let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().map_err(|_| unknown())?;
    Ok(signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        let cases = [
            ("9", Some(9)),
            ("KILL", Some(9)),
            ("sighup", Some(1)),
            ("SIGTERM", Some(15)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("RTMIN+31", None),
            ("0", None),
            ("65", None),
            ("-1", None),
            ("FOO", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_signal(text).ok(), expected, "{text:?}");
        }
    }
}
