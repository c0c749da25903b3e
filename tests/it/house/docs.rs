// SPDX-License-Identifier: Apache-2.0
//! The command line and wharf(1) say the same: every command, option, exit status and message id,
//! both ways.

use std::collections::BTreeSet;

use clap::CommandFactory as _;
use wharf::cli::Cli;
use wharf::cli::exit::ExitStatus;
use wharf::journal::event::Event;

const PAGE: &str = include_str!("../../../man/wharf.1.md");

/// The text of the part headed by `heading`, up to the next heading of its level or above.
fn part<'a>(page: &'a str, heading: &str) -> &'a str {
    let level = heading.split(' ').next().unwrap().len();
    let start = page
        .find(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("wharf.1.md has no '{heading}'"));
    let body = &page[start + heading.len() + 2..];
    let end = body
        .match_indices("\n#")
        .find(|(at, _)| {
            let marks = body[at + 1..].chars().take_while(|c| *c == '#').count();
            marks <= level
        })
        .map_or(body.len(), |(at, _)| at);
    &body[..end]
}

/// What a part describes: the bold words at the beginning of the lines before ':   '.
fn options(part: &str) -> BTreeSet<String> {
    let lines: Vec<&str> = part.lines().collect();
    let described = lines.windows(2).filter(|pair| pair[1].starts_with(":  "));
    let terms = described.flat_map(|pair| pair[0].split("**").skip(1).step_by(2));
    let options = terms.filter(|term| term.starts_with('-'));
    options.map(str::to_owned).collect()
}

/// The options of a command, short and long; clap's own and the global ones only for the root.
fn defined(command: &clap::Command, keep: impl Fn(&clap::Arg) -> bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for arg in command.get_arguments().filter(|arg| keep(arg)) {
        found.extend(arg.get_long().map(|long| format!("--{long}")));
        found.extend(arg.get_short().map(|short| format!("-{short}")));
    }
    found
}

fn built() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    command
}

#[test]
fn global_options() {
    let defined = defined(&built(), |arg| arg.get_id() != "command");
    assert_eq!(options(part(PAGE, "# OPTIONS")), defined);
}

/// The commands that do something, with their full names, such as `image load`.
fn commands(root: &clap::Command) -> Vec<(String, clap::Command)> {
    let mut found = Vec::new();
    for command in root.get_subcommands().filter(|c| !c.is_hide_set()) {
        let name = command.get_name();
        if command.has_subcommands() {
            let below = commands(command).into_iter();
            found.extend(below.map(|(verb, command)| (format!("{name} {verb}"), command)));
        } else {
            found.push((name.to_owned(), command.clone()));
        }
    }
    found
}

#[test]
fn commands_and_their_options() {
    let mut names = BTreeSet::new();
    for (name, command) in commands(&built()) {
        let own = |arg: &clap::Arg| {
            !arg.is_global_set() && !["help", "version"].contains(&arg.get_id().as_str())
        };
        let section = part(PAGE, &format!("## {name}"));
        assert!(
            section.contains(&format!("**wharf {name}**")),
            "no synopsis of '{name}'"
        );
        assert_eq!(options(section), defined(&command, own), "{name}");
        names.insert(name);
    }
    let sections = part(PAGE, "# COMMANDS")
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(str::to_owned);
    assert_eq!(sections.collect::<BTreeSet<_>>(), names);
}

#[test]
fn every_option_says_what_it_does() {
    for (name, command) in commands(&built()) {
        assert!(command.get_about().is_some(), "{name}");
        for arg in command.get_arguments() {
            assert!(arg.get_help().is_some(), "{name}: {}", arg.get_id());
        }
    }
}

#[test]
fn exit_statuses() {
    let all = [
        ExitStatus::Success,
        ExitStatus::Failure,
        ExitStatus::Usage,
        ExitStatus::NotRunning,
        ExitStatus::NotPermitted,
        ExitStatus::NoSuchContainer,
        ExitStatus::NotRunnable,
        ExitStatus::Engine,
        ExitStatus::NotExecutable,
        ExitStatus::NotFound,
    ];
    let section = part(PAGE, "# EXIT STATUS");
    let described: Vec<String> = section
        .lines()
        .filter_map(|line| line.strip_prefix("**")?.strip_suffix("**"))
        .map(str::to_owned)
        .collect();
    let expected: Vec<String> = all.iter().map(|status| status.code().to_string()).collect();
    assert_eq!(described, expected);
}

#[test]
fn message_ids() {
    let section = part(PAGE, "# JOURNAL FIELDS");
    for event in Event::ALL {
        let described = format!("`{}`\n:   *{}*", event.message_id(), event.name());
        assert!(section.contains(&described), "{described}");
    }
    let ids = section
        .lines()
        .filter(|line| line.trim_matches('`').len() == 32);
    assert_eq!(ids.count(), Event::ALL.len());
}

const SETTINGS_PAGE: &str = include_str!("../../../man/wharf.toml.5.md");

/// The keys that serde takes in a table, as its complaint about another one lists them.
fn keys_of<T: serde::de::DeserializeOwned + std::fmt::Debug>(other: &str) -> BTreeSet<String> {
    let complaint = toml::from_str::<T>(other).unwrap_err().to_string();
    let expected = complaint.split("expected one of").nth(1).unwrap();
    let keys = expected.split('`').skip(1).step_by(2);
    keys.map(str::to_owned).collect()
}

/// The keys that a part of wharf.toml(5) describes.
fn described(heading: &str) -> BTreeSet<String> {
    let lines: Vec<&str> = part(SETTINGS_PAGE, heading).lines().collect();
    let terms = lines.windows(2).filter(|pair| pair[1].starts_with(":  "));
    let keys = terms.flat_map(|pair| pair[0].split('`').skip(1).step_by(2));
    keys.map(|key| key.trim_end_matches('=').to_owned())
        .collect()
}

#[test]
fn settings() {
    use wharf::settings::images::Images;
    use wharf::settings::{Mirror, Registry, Settings};
    let mut page = described("# SETTINGS");
    page.extend(["registries", "images"].map(str::to_owned));
    assert_eq!(page, keys_of::<Settings>("other = 1"));
    assert_eq!(described("# REGISTRIES"), keys_of::<Registry>("other = 1"));
    assert_eq!(described("# IMAGES"), keys_of::<Images>("other = 1"));
    for key in keys_of::<Mirror>("other = 1") {
        assert!(
            part(SETTINGS_PAGE, "# REGISTRIES").contains(&format!("`{key}=`")),
            "{key}"
        );
    }
    // The examples are good files, all of them.
    let examples = part(SETTINGS_PAGE, "# EXAMPLES").split("\n    # /etc/wharf/");
    let mut count = 0;
    for example in examples.skip(1) {
        let lines = example.lines().skip(1);
        let file: Vec<&str> = lines
            .map_while(|line| {
                line.strip_prefix("    ")
                    .or_else(|| line.is_empty().then_some(""))
            })
            .collect();
        let settings: Settings = toml::from_str(&file.join("\n")).unwrap();
        assert_ne!(settings, Settings::default(), "{example}");
        count += 1;
    }
    assert_eq!(count, 3);
}
