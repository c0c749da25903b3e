// SPDX-License-Identifier: Apache-2.0
//! What 10,000 random definitions mean is what `systemctl show` reports (threats U11).
//!
//! Every string key is hostile, and some must be refused. In batches they are written into a lab, read by
//! the real generator at a real daemon-reload, and asked back from systemd. Constants of the
//! template are compared too: an injected `ExecStartPre=` or `User=` would show there.

use crate::support::random;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::support::lab::{Lab, Suite};
use crate::support::random::{Meant, Random, Rng};

const COUNT: usize = 10_000;
/// Definitions that are there at the same time. For every unit that is asked for, systemd lists the
/// whole generator directory, so that the cost of a batch grows with its square.
const BATCH: usize = 250;

/// What the template says and no definition may change, as `systemctl show` prints it.
const CONSTANT: &[(&str, &str)] = &[
    ("LoadState", "loaded"),
    ("Slice", "ctr.slice"),
    ("Delegate", "yes"),
    ("KillMode", "mixed"),
    ("NotifyAccess", "all"),
    ("User", ""),
    ("Environment", ""),
    ("ExecStartPre", ""),
    ("ExecStartPost", ""),
    ("ExecStop", ""),
    ("ExecCondition", ""),
    ("RootDirectory", ""),
    ("LogExtraFields", "CONTAINER_NAME=%i"),
];

/// Property → every value that was printed for it.
type Shown = BTreeMap<String, Vec<String>>;

fn fidelity(suite: Suite) {
    let lab = Lab::up(suite);
    let mut rng = Rng(0x77_68_61_72_66);
    let all: Vec<Random> = (0..COUNT)
        .map(|n| random::definition(&mut rng, n))
        .collect();
    let broken = all.iter().filter(|random| random.broken).count();
    assert!(
        (100..COUNT / 2).contains(&broken),
        "{broken} broken definitions"
    );
    let mut wrong = String::new();
    let mut count = 0;
    for batch in all.chunks(BATCH) {
        lab.ok("rm -rf /etc/wharf/containers");
        for random in batch {
            let path = format!("/etc/wharf/containers/{}.toml", random.name);
            lab.write(&path, &random.toml);
        }
        lab.ok("systemctl daemon-reload");
        let shown = show(&lab, batch);
        for random in batch {
            let unit = format!("ctr@{}.service", random.name);
            let Some(shown) = shown.get(&unit) else {
                writeln!(wrong, "{unit} is not shown").unwrap();
                continue;
            };
            for complaint in compare(random, shown) {
                count += 1;
                if count <= 20 {
                    let toml = &random.toml;
                    writeln!(wrong, "{unit}: {complaint}\n{toml}").unwrap();
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{count} differences on {}\n{wrong}",
        suite.name()
    );
}

fn show(lab: &Lab, batch: &[Random]) -> BTreeMap<String, Shown> {
    let mut properties: Vec<&str> = batch
        .iter()
        .flat_map(|random| random.meant.iter().map(|(property, _)| *property))
        .chain(CONSTANT.iter().map(|(property, _)| *property))
        .chain(["Id", "ExecStart", "ExecStopPost", "SourcePath"])
        .collect();
    properties.sort_unstable();
    properties.dedup();
    let properties = properties.join(",");
    let units: Vec<String> = batch
        .iter()
        .map(|r| format!("ctr@{}.service", r.name))
        .collect();
    let mut command = vec!["systemctl", "show", "--property", &properties];
    command.extend(units.iter().map(String::as_str));
    // One output is bounded to 1 MiB by sys::command, so it goes through a file.
    let quoted: Vec<String> = command.iter().map(|word| format!("'{word}'")).collect();
    lab.write("/tmp/show.sh", quoted.join(" "));
    lab.ok("sh /tmp/show.sh > /tmp/shown");
    let text = lab.read("/tmp/shown");
    text.split("\n\n")
        .map(|block| {
            let mut shown = Shown::new();
            for (key, value) in block.lines().filter_map(|line| line.split_once('=')) {
                shown
                    .entry(key.to_owned())
                    .or_default()
                    .push(value.to_owned());
            }
            (
                shown.get("Id").map(|id| id.join("")).unwrap_or_default(),
                shown,
            )
        })
        .collect()
}

fn compare(random: &Random, shown: &Shown) -> Vec<String> {
    let mut complaints = Vec::new();
    let value = |property: &str| shown.get(property).cloned().unwrap_or_default();
    let name = &random.name;
    let mut check = |property: &str, meant: &Meant| {
        let found = value(property);
        if !agrees(meant, &found) {
            complaints.push(format!(
                "{property}: {meant:?} is meant, but {found:?} is shown"
            ));
        }
    };
    for (property, text) in CONSTANT {
        let text = text.replace("%i", name);
        check(property, &Meant::Text(text));
    }
    let start = format!("/usr/bin/wharf start --foreground {name}");
    check("ExecStart", &Meant::Runs(start));
    check(
        "ExecStopPost",
        &Meant::Runs(format!("/usr/bin/wharf cleanup {name}")),
    );
    let source = format!("/etc/wharf/containers/{name}.toml");
    check("SourcePath", &Meant::Text(source));
    for (property, meant) in &random.meant {
        check(property, meant);
    }
    complaints
}

fn agrees(meant: &Meant, found: &[String]) -> bool {
    match meant {
        // A list without entries is not printed at all.
        Meant::Text(text) => found.concat() == *text && found.len() <= 1,
        Meant::Micros(micros) => found.len() == 1 && micros_of(&found[0]) == Some(*micros),
        Meant::Holds(text) => found.iter().any(|list| words(list).contains(text)),
        Meant::Runs(arguments) => {
            let argv = format!(" argv[]={arguments} ;");
            found.len() == 1 && found[0].matches("argv[]=").count() == 1 && found[0].contains(&argv)
        }
    }
}

/// `1min 30s`, `100ms`, … in microseconds (systemd.time(7)).
fn micros_of(text: &str) -> Option<u64> {
    let mut total = 0.0;
    for word in text.split(' ') {
        let unit = word.find(|c: char| c.is_ascii_alphabetic())?;
        let scale = match &word[unit..] {
            "us" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            "min" => 6e7,
            "h" => 3.6e9,
            "d" => 8.64e10,
            "w" => 6.048e11,
            "month" => 2_629_800e6,
            "y" => 31_557_600e6,
            _ => return None,
        };
        total += word[..unit].parse::<f64>().ok()? * scale;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "below 2^52"
    )]
    Some(total.round() as u64)
}

/// The words of a list as systemctl(1) prints it: in double quotes with backslashes where a shell
/// would need them.
fn words(list: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = list.chars().peekable();
    while let Some(first) = rest.next() {
        let mut word = String::new();
        match first {
            ' ' => continue,
            '"' => loop {
                match rest.next() {
                    None | Some('"') => break,
                    Some('\\') => word.extend(rest.next()),
                    Some(c) => word.push(c),
                }
            },
            c => {
                word.push(c);
                while let Some(c) = rest.next_if(|c| *c != ' ') {
                    word.push(c);
                }
            }
        }
        words.push(word);
    }
    words
}

#[test]
fn u11_10000_definitions_mean_what_they_say_on_252() {
    fidelity(Suite::Bookworm);
}

#[test]
fn u11_10000_definitions_mean_what_they_say_on_257() {
    fidelity(Suite::Trixie);
}
