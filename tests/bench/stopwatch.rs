// SPDX-License-Identifier: Apache-2.0
//! The clock of `make bench`, run in the lab: times commands, and prints one sample a line.
//!
//! ```text
//! stopwatch units  WHAT ROUNDS SETTLE-MS LABEL=UNIT[,UNIT…]…   systemctl start, then stop
//! stopwatch run    WHAT ROUNDS BEFORE LABEL=COMMAND…           sh -c BEFORE, then the command
//! ```
//!
//! A sample is `WHAT<TAB>LABEL<TAB>microseconds`; `run` also prints the command's processor time,
//! as `WHAT-cpu`. The labels take turns within each round, and a
//! different one begins each, so that whatever else happens on the machine happens to all alike.
//! Nothing but the command is in a sample: no shell, and no clean-up of the round before.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a stopwatch spawns without anything around it, sleeps between laps and prints"
)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

/// One thing that is measured.
struct Entry {
    label: String,
    command: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [verb, what, rounds, third, entries @ ..] = args.as_slice() else {
        bail!("usage: stopwatch units|run WHAT ROUNDS SETTLE-MS|BEFORE LABEL=…");
    };
    let rounds = rounds.parse().context("reading ROUNDS")?;
    match verb.as_str() {
        "units" => {
            let settle = Duration::from_millis(third.parse().context("reading SETTLE-MS")?);
            for entry in turns(&parse(entries, ',')?, rounds) {
                for verb in ["start", "stop"] {
                    let micros =
                        time("systemctl", &[&[verb.to_owned()], &*entry.command].concat())?;
                    println!("{verb}{what}\t{}\t{micros}", entry.label);
                    // What a start or a stop leaves running must not be in the next sample.
                    std::thread::sleep(settle);
                }
            }
        }
        "run" => {
            for entry in turns(&parse(entries, ' ')?, rounds) {
                time("sh", &["-c".to_owned(), third.clone()])?;
                let (program, args) = entry.command.split_first().context("an empty command")?;
                let before = processor_time()?;
                println!("{what}\t{}\t{}", entry.label, time(program, args)?);
                let used = processor_time()? - before;
                println!("{what}-cpu\t{}\t{used}", entry.label);
            }
        }
        _ => bail!("unknown verb '{verb}'"),
    }
    Ok(())
}

/// `LABEL=WORD…`, words separated by `separator`.
fn parse(args: &[String], separator: char) -> anyhow::Result<Vec<Entry>> {
    args.iter()
        .map(|arg| {
            let (label, words) = arg
                .split_once('=')
                .with_context(|| format!("'{arg}' has no label"))?;
            Ok(Entry {
                label: label.to_owned(),
                command: words.split(separator).map(str::to_owned).collect(),
            })
        })
        .collect()
}

/// Every entry once a round, each round beginning one further.
fn turns(entries: &[Entry], rounds: usize) -> impl Iterator<Item = &Entry> {
    (0..rounds).flat_map(move |round| {
        let first = round % entries.len().max(1);
        let (front, back) = entries.split_at(first);
        back.iter().chain(front)
    })
}

/// What the ended children of this process have used, in microseconds.
fn processor_time() -> anyhow::Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok((usage.user_time() + usage.system_time()).num_microseconds())
}

/// How long the command takes, in microseconds.
fn time(program: &str, args: &[String]) -> anyhow::Result<u128> {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let begin = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("running '{program}'"))?;
    let micros = begin.elapsed().as_micros();
    if !status.success() {
        bail!("'{program} {}' ended with {status}", args.join(" "));
    }
    Ok(micros)
}
