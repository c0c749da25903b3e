// SPDX-License-Identifier: Apache-2.0
//! What to say about a key that is not one: which one was meant.
//!
//! People arrive with Compose and Quadlet files in their fingers; where those have another name
//! for something wharf does, or something it does not do yet, the error says so.

use crate::definition::keys;
use crate::definition::problem::quote;
use crate::definition::value::nearest;

/// Names other tools give to what our keys do.
const ELSEWHERE: [(&str, &str); 44] = [
    ("add_capability", "cap_add"),
    ("arg", "command"),
    ("args", "command"),
    ("capabilities", "cap_add"),
    ("cgroup_parent", "service.Slice"),
    ("cmd", "command"),
    ("cpu_quota", "resources.cpus"),
    ("cpu_shares", "resources.cpu_weight"),
    ("cwd", "working_dir"),
    ("device", "devices"),
    ("drop_capability", "cap_drop"),
    ("env", "environment"),
    ("environment_file", "env_file"),
    ("exec", "command"),
    ("group", "user"),
    ("groups", "group_add"),
    ("limits", "resources"),
    ("log_driver", "log.driver"),
    ("log_opt", "log"),
    ("logging", "log"),
    ("mem_limit", "resources.memory"),
    ("mem_reservation", "resources.memory_high"),
    ("memory_limit", "resources.memory"),
    ("memory_max", "resources.memory"),
    ("memswap_limit", "resources.memory_swap"),
    ("mount", "volumes"),
    ("mounts", "volumes"),
    ("network_mode", "network"),
    ("oom_kill_disable", "resources.oom_policy"),
    ("pids_limit", "resources.pids"),
    ("pull", "pull_policy"),
    ("read_only_tmpfs", "read_only"),
    ("restart_policy", "restart"),
    ("restart_sec", "restart_delay"),
    ("run_init", "init"),
    ("seccomp_profile", "seccomp"),
    ("security_label_type", "selinux"),
    ("stdin_open", "stdin"),
    ("stop_grace_period", "stop_timeout"),
    ("sysctl", "sysctls"),
    ("timeout_start_sec", "start_timeout"),
    ("timeout_stop_sec", "stop_timeout"),
    ("ulimit", "ulimits"),
    ("workdir", "working_dir"),
];

/// What Compose and Quadlet have and wharf does not have yet.
const NOT_YET: [&str; 44] = [
    "attach",
    "autoupdate",
    "auto_update",
    "blkio_config",
    "build",
    "configs",
    "credentials",
    "credential_spec",
    "deploy",
    "develop",
    "device_cgroup_rules",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "expose",
    "extends",
    "external_links",
    "extra_hosts",
    "gid_map",
    "gpus",
    "health_cmd",
    "healthcheck",
    "ip",
    "ip6",
    "ipc",
    "isolation",
    "links",
    "mac_address",
    "models",
    "networks",
    "pid",
    "platform",
    "pod",
    "ports",
    "post_start",
    "pre_stop",
    "profiles",
    "publish_port",
    "secrets",
    "uid_map",
    "userns",
    "userns_mode",
    "uts",
];

/// The key with its table, as written.
pub(crate) fn path(table: &str, name: &str) -> String {
    if table.is_empty() {
        name.to_owned()
    } else {
        format!("{table}.{name}")
    }
}

/// Says what is wrong with a key that the key table does not have.
pub(crate) fn describe(table: &str, name: &str) -> String {
    let shown = quote(&path(table, name));
    let canonical = snake_case(name);
    let same = |key: &&keys::Key| key.name == canonical;
    if let Some(key) = keys::find(table, &canonical) {
        return format!("unknown key '{shown}', it is written '{}'", key.path());
    }
    if let Some((_, ours)) = ELSEWHERE.iter().find(|(other, _)| *other == canonical) {
        return format!("unknown key '{shown}', here it is '{ours}'");
    }
    if NOT_YET.contains(&canonical.as_str()) {
        return format!("key '{shown}' is not supported yet");
    }
    if canonical == "container_name" || (canonical == "name" && table.is_empty()) {
        return format!("unknown key '{shown}', the file's name is the container's");
    }
    if canonical == "container" && table.is_empty() {
        return "unknown table [container], its keys are at the top of the file".to_owned();
    }
    if let Some(key) = keys::all().find(same) {
        let place = match key.table {
            "" => "at the top of the file, before any [table]".to_owned(),
            table => format!("in [{table}]"),
        };
        return format!("unknown key '{shown}', it belongs {place}");
    }
    let siblings = keys::all()
        .filter(|key| key.table == table)
        .map(|key| key.name)
        .chain(keys::TABLES.into_iter().filter(|_| table.is_empty()));
    if let Some(near) = nearest(&canonical, siblings) {
        return format!(
            "unknown key '{shown}', did you mean '{}'?",
            path(table, near)
        );
    }
    let others = keys::all().filter(|key| key.table != table);
    match nearest(&canonical, others.map(|key| key.name)) {
        Some(near) => match keys::all().find(|key| key.name == near) {
            Some(key) => format!("unknown key '{shown}', did you mean '{}'?", key.path()),
            None => format!("unknown key '{shown}'"),
        },
        None => format!("unknown key '{shown}', see wharf-container(5)"),
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
            assert_eq!(describe(table, name), expected, "{table} {name}");
        }
    }

    #[test]
    fn hints_name_keys_that_exist() {
        for (other, ours) in ELSEWHERE {
            let (table, name) = ours.split_once('.').unwrap_or(("", ours));
            let known = keys::find(table, name).is_some()
                || keys::TABLES.contains(&ours)
                || keys::find("", table).is_some_and(keys::Key::is_map);
            assert!(known, "{other} → {ours}");
            assert!(keys::find("", other).is_none(), "{other}");
        }
        for name in NOT_YET {
            assert!(keys::all().all(|key| key.name != name), "{name}");
        }
    }
}
