// SPDX-License-Identifier: Apache-2.0
//! What to say about a key that is not one: which one was meant.
//!
//! People arrive with Compose and Quadlet files in their fingers; where those have another name
//! for something wharf does, or something it does not do yet, the error says so.

use crate::definition::keys::Key;
use crate::definition::kind::Kind;
use crate::definition::problem::quote;
use crate::definition::value::nearest;

/// The key with its table, as written.
pub(crate) fn path(table: &str, name: &str) -> String {
    if table.is_empty() {
        name.to_owned()
    } else {
        format!("{table}.{name}")
    }
}

/// Says what is wrong with a key that the key table does not have.
pub(crate) fn describe<D: Kind>(table: &str, name: &str) -> String {
    let shown = quote(&path(table, name));
    let canonical = snake_case(name);
    let info = D::INFO;
    let same = |key: &&'static Key<D>| key.name == canonical;
    if let Some(key) = D::find_key(table, &canonical) {
        return format!("unknown key '{shown}', it is written '{}'", key.path());
    }
    if let Some((_, ours)) = info.elsewhere.iter().find(|(other, _)| *other == canonical) {
        return format!("unknown key '{shown}', here it is '{ours}'");
    }
    if info.not_yet.contains(&canonical.as_str()) {
        return format!("key '{shown}' is not supported yet");
    }
    let word = info.word;
    let is_name = canonical.strip_suffix("_name") == Some(word);
    if is_name || (canonical == "name" && table.is_empty()) {
        return format!("unknown key '{shown}', the file's name is the {word}'s");
    }
    if canonical == word && table.is_empty() {
        return format!("unknown table [{word}], its keys are at the top of the file");
    }
    if let Some(key) = D::all_keys().find(same) {
        let place = match key.table {
            "" => "at the top of the file, before any [table]".to_owned(),
            table => format!("in [{table}]"),
        };
        return format!("unknown key '{shown}', it belongs {place}");
    }
    let siblings = D::all_keys()
        .filter(|key| key.table == table)
        .map(|key| key.name)
        .chain(info.tables.iter().copied().filter(|_| table.is_empty()));
    if let Some(near) = nearest(&canonical, siblings) {
        return format!(
            "unknown key '{shown}', did you mean '{}'?",
            path(table, near)
        );
    }
    let others = D::all_keys().filter(|key| key.table != table);
    match nearest(&canonical, others.map(|key| key.name)) {
        Some(near) => match D::all_keys().find(|key| key.name == near) {
            Some(key) => format!("unknown key '{shown}', did you mean '{}'?", key.path()),
            None => format!("unknown key '{shown}'"),
        },
        None => format!("unknown key '{shown}', see {}", info.manual),
    }
}

/// `PublishPort` and `publish-port` as `publish_port`; at most as long as any name we compare.
fn snake_case(name: &str) -> String {
    const NAME_MAX_CHARS: usize = 40;
    let mut snake = String::new();
    let mut after_lower = false;
    for c in name.chars().take(NAME_MAX_CHARS + 1) {
        if c.is_ascii_uppercase() && after_lower {
            snake.push('_');
        }
        after_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        snake.push(if c == '-' {
            '_'
        } else {
            c.to_ascii_lowercase()
        });
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::Definition;
    use crate::definition::kinds::image::ImageDefinition;

    #[test]
    fn every_unknown_key_gets_an_answer() {
        for (table, name, expected) in [
            ("", "imge", "unknown key 'imge', did you mean 'image'?"),
            ("", "Image", "unknown key 'Image', it is written 'image'"),
            (
                "",
                "restart_policy",
                "unknown key 'restart_policy', here it is 'restart'",
            ),
            ("", "PublishPort", "key 'PublishPort' is not supported yet"),
            (
                "",
                "memory",
                "unknown key 'memory', it belongs in [resources]",
            ),
            (
                "log",
                "image",
                "unknown key 'log.image', it belongs at the top of the file, before any [table]",
            ),
            (
                "log",
                "drivr",
                "unknown key 'log.drivr', did you mean 'log.driver'?",
            ),
            (
                "",
                "ressources",
                "unknown key 'ressources', did you mean 'resources'?",
            ),
            (
                "",
                "memry",
                "unknown key 'memry', did you mean 'resources.memory'?",
            ),
            ("", "xyzzy", "unknown key 'xyzzy', see wharf-container(5)"),
        ] {
            assert_eq!(
                describe::<Definition>(table, name),
                expected,
                "{table} {name}"
            );
        }
    }

    #[test]
    fn each_kind_has_its_own_hints() {
        for (name, expected) in [
            ("imgae", "unknown key 'imgae', did you mean 'image'?"),
            ("Image", "unknown key 'Image', it is written 'image'"),
            ("pull", "unknown key 'pull', here it is 'pull_policy'"),
            (
                "image_name",
                "unknown key 'image_name', the file's name is the image's",
            ),
            ("xyzzy", "unknown key 'xyzzy', see wharf-image(5)"),
        ] {
            assert_eq!(describe::<ImageDefinition>("", name), expected, "{name}");
        }
    }

    fn hints_name_keys<D: Kind>() {
        for (other, ours) in D::INFO.elsewhere {
            let (table, name) = ours.split_once('.').unwrap_or(("", ours));
            let known = D::find_key(table, name).is_some()
                || D::INFO.tables.contains(ours)
                || D::find_key("", table).is_some_and(Key::is_map);
            assert!(known, "{other} → {ours}");
            assert!(D::find_key("", other).is_none(), "{other}");
        }
    }

    #[test]
    fn hints_name_keys_that_exist() {
        hints_name_keys::<Definition>();
        hints_name_keys::<ImageDefinition>();
    }
}
