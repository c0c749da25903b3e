// SPDX-License-Identifier: Apache-2.0
//! Escaping for unit names, as systemd-escape(1) does it.
//!
//! Container names need none, their grammar is a part of systemd's; paths and other text that is
//! to become part of a unit name do.

use std::path::{Component, Path};

/// Any text as a part of a unit name.
pub fn name(text: &str) -> String {
    libsystemd::unit::escape_name(text)
}

/// An absolute path as a part of a unit name, such as `srv-www` of `srv-www.mount`; none for a path
/// that is relative, has `..` in it or is not UTF-8, which no unit can stand for.
pub fn path(path: &Path) -> Option<String> {
    let normal = |component| match component {
        Component::RootDir | Component::CurDir | Component::Normal(_) => true,
        Component::ParentDir | Component::Prefix(_) => false,
    };
    if !path.is_absolute() || !path.components().all(normal) {
        return None;
    }
    // components() has dropped what systemd drops: doubled slashes and '.'.
    let normalised: std::path::PathBuf = path.components().collect();
    Some(libsystemd::unit::escape_path(normalised.to_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::command::Command;

    fn systemd_escape(args: &[&str]) -> String {
        let output = Command::new("systemd-escape").args(args).run().unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    #[test]
    fn names_are_those_of_systemd_escape() {
        for text in [".x", "a.b", "a-b", "a/b", "ä", "a b\\", "a@b:c_d", "%i$"] {
            assert_eq!(name(text), systemd_escape(&["--", text]), "{text:?}");
        }
    }

    #[test]
    fn paths_are_those_of_systemd_escape() {
        for text in [
            "/",
            "//",
            "/srv/www",
            "//srv//www/",
            "/./srv/./x",
            "/.x/.y",
            "/a b-c/ä\\%",
        ] {
            let expected = systemd_escape(&["--path", "--", text]);
            assert_eq!(path(Path::new(text)), Some(expected), "{text:?}");
        }
        for bad in ["", "x", "/a/../b", ".."] {
            assert_eq!(path(Path::new(bad)), None, "{bad:?}");
        }
    }
}
