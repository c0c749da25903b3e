// SPDX-License-Identifier: Apache-2.0
//! Command line and working directory: the definition's, else the image's.
//!
//! `Entrypoint`, `Cmd` and `WorkingDir` of an image become an argument list and a checked path here,
//! and only those reach config.json (threats C1).

use std::path::PathBuf;

use anyhow::bail;

use crate::definition;
use crate::definition::problem::quote;

/// The command line: `entrypoint` and `command` of the definition where they are given, the
/// image's where not.
///
/// An `entrypoint` in the definition drops the image's `Cmd`, which was written for another
/// program. The image's lists are empty for a `rootfs`.
pub(crate) fn command_line(
    process: &definition::Process,
    entrypoint: &[String],
    cmd: &[String],
) -> anyhow::Result<Vec<String>> {
    let words = match (&process.entrypoint, &process.command) {
        (Some(entrypoint), command) => [entrypoint.as_slice(), command.as_deref().unwrap_or(&[])],
        (None, Some(command)) => [entrypoint, command.as_slice()],
        (None, None) => [entrypoint, cmd],
    }
    .concat();
    match words.first() {
        None => bail!(
            "there is no command to run: neither the image nor the definition has one, set 'command'"
        ),
        Some(first) if first.is_empty() => {
            bail!("the command to run is an empty string, set 'command'")
        }
        Some(_) => {}
    }
    if words.iter().any(|word| word.contains('\0')) {
        bail!("the image's command line holds a NUL character, set 'entrypoint' and 'command'");
    }
    Ok(words)
}

/// The working directory: the definition's, else the image's, else `/`.
///
/// A path below /proc is refused: `/proc/self/fd/N` would be a directory of the runtime, outside
/// of the container (threats C9, X1, CVE-2024-21626).
pub(crate) fn working_dir(
    process: &definition::Process,
    image: Option<&str>,
) -> anyhow::Result<PathBuf> {
    let (origin, path) = match (process.working_dir.as_deref(), image) {
        (Some(path), _) => ("working_dir", path),
        (None, Some("") | None) => return Ok(PathBuf::from("/")),
        (None, Some(path)) => ("the image's WorkingDir", path),
    };
    let Some(clean) = clean(path) else {
        bail!(
            "{origin} '{}' is not an absolute path without '..'",
            quote(path)
        );
    };
    if clean.starts_with("/proc") {
        bail!(
            "{origin} '{}' is below /proc, where no process may start",
            quote(path)
        );
    }
    Ok(clean)
}

/// An absolute path without `.` and `//`. One with `..`, whose meaning would depend on links, has
/// no clean form.
pub(crate) fn clean(path: &str) -> Option<PathBuf> {
    if !path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let mut clean = PathBuf::from("/");
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => clean.push(part),
        }
    }
    Some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn definition_replaces_parts_of_the_image_command_line() {
        type Words<'a> = Option<&'a [&'a str]>;
        let cases: [(Words<'_>, Words<'_>, &str); 6] = [
            (None, None, "/entry image"),
            (None, Some(&["mine"]), "/entry mine"),
            (None, Some(&[]), "/entry"),
            (Some(&["/mine"]), None, "/mine"),
            (Some(&["/mine"]), Some(&["a"]), "/mine a"),
            (Some(&[]), Some(&["a"]), "a"),
        ];
        for (entrypoint, command, expected) in cases {
            let process = definition::Process {
                entrypoint: entrypoint.map(words),
                command: command.map(words),
                ..definition::Process::default()
            };
            let line = command_line(&process, &words(&["/entry"]), &words(&["image"])).unwrap();
            assert_eq!(line.join(" "), expected, "{entrypoint:?} {command:?}");
        }
    }

    #[test]
    fn a_command_line_that_cannot_be_run_is_an_error() {
        let process = definition::Process::default();
        for (cmd, message) in [
            (&[][..], "no command"),
            (&[""], "empty string"),
            (&["a\0b"], "NUL"),
        ] {
            let err = command_line(&process, &[], &words(cmd)).unwrap_err();
            assert!(err.to_string().contains(message), "{cmd:?}: {err}");
        }
    }

    #[test]
    fn working_dir_is_absolute_and_never_below_proc() {
        let process = definition::Process::default();
        for (path, expected) in [
            ("", "/"),
            ("/", "/"),
            ("/srv//www/./x/", "/srv/www/x"),
            ("/procession", "/procession"),
        ] {
            let dir = working_dir(&process, Some(path)).unwrap();
            assert_eq!(dir, PathBuf::from(expected), "{path}");
        }
        for path in [
            "srv",
            "/proc/self/fd/7",
            "//proc/./self/cwd",
            "/a/../proc",
            "/proc",
            "/a\0",
        ] {
            assert!(working_dir(&process, Some(path)).is_err(), "{path:?}");
        }
        let process = definition::Process {
            working_dir: Some("/mine".to_owned()),
            ..definition::Process::default()
        };
        let dir = working_dir(&process, Some("/proc")).unwrap();
        assert_eq!(dir, PathBuf::from("/mine"));
    }
}
