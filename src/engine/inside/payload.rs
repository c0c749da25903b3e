// SPDX-License-Identifier: Apache-2.0
//! What runs in the container: what the definition and the image decide together.
//!
//! The one place where an image's configuration is read for a start. It can influence the command
//! line, the environment, the working directory, the user, the stop signal and which directories
//! are volumes; labels, ports and the rest stay data (threats C1).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::definition::problem::quote;
use crate::definition::value::{IdOrName, Signal, UserRef};
use crate::definition::{Definition, Notify};
use crate::engine::inside::{command, env, etc, links, user};
use crate::engine::spec::NOTIFY_SOCKET;
use crate::engine::spec::process::ResolvedUser;
use crate::image;
use crate::sys::root::Root;

/// The first process and its surroundings, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The command line, never empty.
    pub args: Vec<String>,
    /// The environment as `KEY=VALUE`, sorted by key.
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: PathBuf,
    /// The user.
    pub user: ResolvedUser,
    /// The host name.
    pub hostname: String,
    /// The stop signal.
    pub stop_signal: Signal,
    /// Directories that the image declares as volumes and that the definition does not mount,
    /// absolute and normalised, parents first.
    pub image_volumes: Vec<String>,
}

/// Resolves what `definition` and `image` (default for a `rootfs`) say, users and groups in the
/// root file system `root`. Reads environment files.
pub fn resolve(
    definition: &Definition,
    image: &image::Config,
    root: &Root,
) -> anyhow::Result<Payload> {
    let wanted = &definition.process;
    let args = command::command_line(wanted, &image.entrypoint, &image.cmd)?;
    let cwd = command::working_dir(wanted, image.working_dir.as_deref())?;
    if links::lead_through(root, &cwd, &[PathBuf::from("/proc")]) {
        bail!(
            "the working directory '{}' leads into /proc, where no process may start",
            quote(&cwd.to_string_lossy())
        );
    }
    let reference = user_reference(wanted.user.as_ref(), image.user.as_deref())?;
    let user = user::resolve(root, &reference, &wanted.group_add)?;
    let hostname = match &definition.hostname {
        Some(hostname) => hostname.clone(),
        None => etc::default_hostname(&definition.name),
    };
    etc::check_hostname(&hostname)?;
    let env = env::merge(&env::Sources {
        image: &image.env,
        files: env::load_files(&wanted.env_files)?,
        definition: Some(&wanted.environment),
        home: user.home.as_deref(),
        hostname: &hostname,
        term: wanted.tty.then_some("xterm"),
        notify_socket: match definition.lifecycle.notify {
            Notify::Container => Some(NOTIFY_SOCKET),
            Notify::Started => None,
        },
    })?;
    env::check_size(&args, &env)?;
    Ok(Payload {
        args,
        env,
        cwd,
        user,
        hostname,
        stop_signal: stop_signal(definition, image)?,
        image_volumes: image_volumes(definition, &image.volumes)?,
    })
}

fn user_reference(definition: Option<&UserRef>, image: Option<&str>) -> anyhow::Result<UserRef> {
    match (definition, image) {
        (Some(reference), _) => Ok(reference.clone()),
        (None, None | Some("")) => Ok(UserRef {
            user: IdOrName::Id(0),
            group: None,
        }),
        (None, Some(text)) => text
            .parse()
            .map_err(anyhow::Error::msg)
            .context("reading the image's User, which 'user' would override"),
    }
}

fn stop_signal(definition: &Definition, image: &image::Config) -> anyhow::Result<Signal> {
    match (
        &definition.lifecycle.stop_signal,
        image.stop_signal.as_deref(),
    ) {
        (Some(signal), _) => Ok(signal.clone()),
        (None, image) => image
            .unwrap_or("SIGTERM")
            .parse()
            .map_err(anyhow::Error::msg)
            .context("reading the image's StopSignal, which 'stop_signal' would override"),
    }
}

/// A volume of an image must not cover what makes the container one.
fn image_volumes(
    definition: &Definition,
    declared: &BTreeSet<String>,
) -> anyhow::Result<Vec<String>> {
    let storage = &definition.storage;
    let volumes = storage.volumes.iter().map(|volume| volume.target.as_str());
    let tmpfs = storage.tmpfs.iter().map(|tmpfs| tmpfs.target.as_str());
    let mounted: BTreeSet<&str> = volumes.chain(tmpfs).collect();
    let mut targets = BTreeSet::new();
    for path in declared {
        let Some(target) = command::clean(path) else {
            bail!(
                "the image's volume '{}' is not an absolute path without '..'",
                quote(path)
            );
        };
        let reserved = ["/proc", "/sys", "/dev"];
        if target == Path::new("/") || reserved.iter().any(|dir| target.starts_with(dir)) {
            bail!(
                "the image's volume '{}' is where no volume may be",
                quote(path)
            );
        }
        let target = target.to_string_lossy().into_owned();
        // wharf's own files are there, whatever the image thinks.
        let own = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"].contains(&target.as_str());
        if !own && !mounted.contains(target.as_str()) {
            targets.insert(target);
        }
    }
    Ok(targets.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{Propagation, Volume, VolumeSource};
    use crate::engine::spec::fixture;

    fn image() -> image::Config {
        image::Config {
            cmd: vec!["run".to_owned()],
            ..image::Config::default()
        }
    }

    fn resolve_in_empty_root(image: &image::Config) -> anyhow::Result<Payload> {
        let dir = tempfile::tempdir()?;
        resolve(&fixture::definition(), image, &Root::open(dir.path())?)
    }

    #[test]
    fn an_image_that_says_little_runs_as_root_in_the_root_directory() {
        let payload = resolve_in_empty_root(&image()).unwrap();
        assert_eq!(payload.args, ["run"]);
        assert_eq!(payload.cwd, Path::new("/"));
        assert_eq!((payload.user.uid, payload.user.gid), (0, 0));
        assert_eq!(payload.hostname, "web");
        assert_eq!(payload.stop_signal.name, "SIGTERM");
    }

    #[test]
    fn bad_users_of_an_image_are_errors_and_never_root() {
        for user in [
            "4294967296",
            "4294967295",
            "-1",
            "0x0",
            "1000:99999999999",
            " root",
            "root:",
            ":0",
            "root",
            "0:root",
            "1:2:3",
            "a\nb",
        ] {
            let image = image::Config {
                user: Some(user.to_owned()),
                ..image()
            };
            assert!(resolve_in_empty_root(&image).is_err(), "{user:?}");
        }
    }

    #[test]
    fn bad_stop_signals_and_directories_of_an_image_are_errors() {
        for (signal, dir) in [
            ("SIGKILL;x", "/"),
            ("SIGNONE", "/"),
            ("99", "/"),
            ("SIGTERM", "srv"),
            ("SIGTERM", "/proc/self/fd/7"),
        ] {
            let image = image::Config {
                stop_signal: Some(signal.to_owned()),
                working_dir: Some(dir.to_owned()),
                ..image()
            };
            assert!(resolve_in_empty_root(&image).is_err(), "{signal} {dir}");
        }
    }

    #[test]
    fn a_working_directory_that_is_a_link_into_proc_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/proc/self/fd/8", dir.path().join("work")).unwrap();
        let image = image::Config {
            working_dir: Some("/work".to_owned()),
            ..image()
        };
        let root = Root::open(dir.path()).unwrap();
        let err = resolve(&fixture::definition(), &image, &root).unwrap_err();
        assert!(
            err.to_string().contains("'/work' leads into /proc"),
            "{err}"
        );
    }

    #[test]
    fn volumes_of_an_image_are_cleaned_or_refused() {
        let mut definition = fixture::definition();
        definition.storage.volumes = vec![Volume {
            source: VolumeSource::Anonymous,
            target: "/mine".to_owned(),
            read_only: false,
            propagation: Propagation::Rprivate,
            flags: Vec::new(),
            chown: false,
            idmap: false,
        }];
        let declared = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        let good = declared(&["/data//x/", "/data", "/mine", "/./data", "/etc/hosts"]);
        assert_eq!(
            image_volumes(&definition, &good).unwrap(),
            ["/data", "/data/x"]
        );
        for bad in [
            "/../../etc",
            "/",
            "",
            "data",
            "/proc/x",
            "/dev",
            "/sys/fs/cgroup",
            "/a\0",
        ] {
            assert!(
                image_volumes(&definition, &declared(&[bad])).is_err(),
                "{bad:?}"
            );
        }
    }
}
