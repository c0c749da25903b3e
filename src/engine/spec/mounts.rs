// SPDX-License-Identifier: Apache-2.0
//! What is mounted in the container, and in which order.
//!
//! First the defaults, then what the definition and the image ask for, then what wharf itself
//! needs: the later one wins on the same target. A default below a bind mount of a host path is
//! left out too, as the runtime would have to make a mount point in the administrator's directory.
//! Then all are sorted by depth, so that a parent is there before what is mounted in it; at the
//! same depth that order holds.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use crate::definition::{MountFlag, Propagation, Tmpfs, Volume, VolumeSource};
use crate::engine::spec::{INIT_PATH, Inputs, NOTIFY_DIR};

/// A volume whose source the engine has found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Absolute host path.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: String,
    /// Read-only, with everything mounted below the source.
    pub read_only: bool,
    /// Mount propagation.
    pub propagation: Propagation,
    /// `nosuid`, `noexec`, `nodev`, only as written: an administrator binds device nodes and
    /// programs on purpose.
    pub flags: Vec<MountFlag>,
    /// Whose directory the source is.
    pub owner: Owner,
}

/// Whose directory the source of a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The administrator's: a path written in the definition. Nothing is made in it.
    Host,
    /// wharf's: a named or anonymous volume.
    Wharf,
}

impl Bind {
    /// The entry `volume` of a definition, its data being at `source`.
    ///
    /// `idmap` changes nothing here: the container shares the initial user namespace, whose
    /// mapping is the identity.
    pub fn new(volume: &Volume, source: PathBuf) -> Self {
        Self {
            source,
            target: volume.target.clone(),
            read_only: volume.read_only,
            propagation: volume.propagation,
            flags: volume.flags.clone(),
            owner: match volume.source {
                VolumeSource::Bind(_) => Owner::Host,
                VolumeSource::Named(_) | VolumeSource::Anonymous => Owner::Wharf,
            },
        }
    }
}

/// All mounts, in the order in which the runtime makes them.
pub(crate) fn render(inputs: &Inputs<'_>) -> Vec<Mount> {
    let mut mounts = defaults(inputs);
    for bind in &inputs.binds {
        let below = |mount: &Mount| mount.destination().starts_with(&bind.target);
        if bind.owner == Owner::Host {
            mounts.retain(|default| !below(default));
        }
    }
    for tmpfs in &inputs.definition.storage.tmpfs {
        put(&mut mounts, tmpfs_mount(tmpfs));
    }
    for bind in &inputs.binds {
        put(&mut mounts, bind_mount(bind));
    }
    for mount in own(inputs) {
        put(&mut mounts, mount);
    }
    mounts.sort_by_key(|mount| mount.destination().components().count());
    mounts
}

/// Adds a mount in place of an earlier one on the same target.
fn put(mounts: &mut Vec<Mount>, mount: Mount) {
    mounts.retain(|earlier| earlier.destination() != mount.destination());
    mounts.push(mount);
}

fn mount(target: &str, kind: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination(PathBuf::from(target));
    mount.set_typ(Some(kind.to_owned()));
    mount.set_source(Some(source.to_owned()));
    mount.set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
    mount
}

fn defaults(inputs: &Inputs<'_>) -> Vec<Mount> {
    let definition = inputs.definition;
    let shm_size = format!("size={}", definition.storage.shm_size.0);
    let access = if definition.security.privileged {
        "rw"
    } else {
        "ro"
    };
    let pseudo = ["nosuid", "noexec", "nodev"];
    let guarded = ["nosuid", "noexec", "nodev", access];
    let shm = ["nosuid", "noexec", "nodev", "mode=1777", &shm_size];
    let mut mounts = vec![
        mount("/proc", "proc", Path::new("proc"), &pseudo),
        mount(
            "/dev",
            "tmpfs",
            Path::new("tmpfs"),
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            Path::new("devpts"),
            // Group 5 is tty in every distribution; grantpt(3) of older C libraries insists on it.
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount("/dev/mqueue", "mqueue", Path::new("mqueue"), &pseudo),
        mount("/dev/shm", "tmpfs", Path::new("shm"), &shm),
        mount("/sys", "sysfs", Path::new("sysfs"), &guarded),
        mount("/sys/fs/cgroup", "cgroup", Path::new("cgroup"), &guarded),
    ];
    if definition.storage.read_only {
        for target in ["/run", "/tmp", "/var/tmp"] {
            let mode = if target == "/run" {
                "mode=755"
            } else {
                "mode=1777"
            };
            let options = ["nosuid", "nodev", mode];
            mounts.push(mount(target, "tmpfs", Path::new("tmpfs"), &options));
        }
    }
    for (target, name) in [
        ("/etc/resolv.conf", "resolv.conf"),
        ("/etc/hosts", "hosts"),
        ("/etc/hostname", "hostname"),
    ] {
        let source = inputs.runtime_dir.join(name);
        mounts.push(mount(
            target,
            "bind",
            &source,
            &["bind", "rprivate", "nosuid", "noexec", "nodev", "rw"],
        ));
    }
    mounts
}

/// What wharf itself needs in the container; always there, on top of everything.
fn own(inputs: &Inputs<'_>) -> Vec<Mount> {
    let mut mounts = Vec::new();
    if let Some(program) = &inputs.init {
        // Below /dev, which is a fresh tmpfs: nothing is written to the root file system.
        mounts.push(mount(
            INIT_PATH,
            "bind",
            program,
            &["bind", "rprivate", "nosuid", "nodev", "ro"],
        ));
    }
    if let Some(dir) = &inputs.notify_dir {
        mounts.push(mount(
            NOTIFY_DIR,
            "bind",
            dir,
            &["bind", "rprivate", "nosuid", "noexec", "nodev", "ro"],
        ));
    }
    mounts
}

fn tmpfs_mount(tmpfs: &Tmpfs) -> Mount {
    let mut options = vec!["nosuid".to_owned(), "nodev".to_owned()];
    if tmpfs.noexec {
        options.push("noexec".to_owned());
    }
    options.push(if tmpfs.read_only { "ro" } else { "rw" }.to_owned());
    options.push(format!("mode={:o}", tmpfs.mode));
    if let Some(size) = tmpfs.size {
        options.push(format!("size={}", size.0));
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    mount(&tmpfs.target, "tmpfs", Path::new("tmpfs"), &options)
}

fn bind_mount(bind: &Bind) -> Mount {
    let mut options = vec!["rbind", propagation(bind.propagation)];
    for flag in &bind.flags {
        options.push(match flag {
            MountFlag::Nosuid => "nosuid",
            MountFlag::Noexec => "noexec",
            MountFlag::Nodev => "nodev",
        });
    }
    // `ro` alone leaves what is mounted below the source writable.
    options.push(if bind.read_only { "rro" } else { "rw" });
    mount(&bind.target, "bind", &bind.source, &options)
}

fn propagation(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Private => "private",
        Propagation::Rprivate => "rprivate",
        Propagation::Shared => "shared",
        Propagation::Rshared => "rshared",
        Propagation::Slave => "slave",
        Propagation::Rslave => "rslave",
    }
}

/// `linux.rootfsPropagation`: as little as the volumes need. The runtime applies it to its copy of
/// the engine's mount namespace before it mounts anything, so a volume can only share what is
/// still shared then.
pub(crate) fn rootfs_propagation(binds: &[Bind]) -> &'static str {
    let any = |wanted: [Propagation; 2]| binds.iter().any(|b| wanted.contains(&b.propagation));
    if any([Propagation::Shared, Propagation::Rshared]) {
        "rshared"
    } else if any([Propagation::Slave, Propagation::Rslave]) {
        "rslave"
    } else {
        "rprivate"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::Definition;
    use crate::engine::spec::fixture;

    fn bind(source: &str, target: &str) -> Bind {
        Bind {
            source: PathBuf::from(source),
            target: target.to_owned(),
            read_only: false,
            propagation: Propagation::Rprivate,
            flags: Vec::new(),
            owner: Owner::Host,
        }
    }

    fn targets(definition: &Definition, binds: Vec<Bind>) -> Vec<String> {
        let (host, user) = (fixture::host(), fixture::root_user());
        let mut inputs = fixture::inputs(definition, &host, &user);
        inputs.binds = binds;
        let mounts = render(&inputs);
        let target = |mount: &Mount| mount.destination().display().to_string();
        mounts.iter().map(target).collect()
    }

    #[test]
    fn parents_come_first() {
        let definition = fixture::definition();
        let binds = vec![
            bind("/a", "/data/x/y"),
            bind("/b", "/data"),
            bind("/c", "/data/x"),
        ];
        let targets = targets(&definition, binds);
        for (index, target) in targets.iter().enumerate() {
            let later = &targets[index + 1..];
            let parent = later.iter().find(|t| target.starts_with(&format!("{t}/")));
            assert_eq!(parent, None, "{target} in {targets:?}");
        }
    }

    #[test]
    fn a_volume_replaces_a_default_and_those_below_it() {
        let definition = fixture::definition();
        let dev = targets(
            &definition,
            vec![bind("/dev", "/dev"), bind("/x", "/etc/hosts")],
        );
        assert_eq!(
            dev.iter().filter(|t| t.starts_with("/dev")).count(),
            1,
            "{dev:?}"
        );
        assert_eq!(
            dev.iter().filter(|t| *t == "/etc/hosts").count(),
            1,
            "{dev:?}"
        );
        assert!(dev.contains(&"/etc/resolv.conf".to_owned()), "{dev:?}");
        let etc = targets(&definition, vec![bind("/x", "/etc")]);
        assert!(!etc.contains(&"/etc/resolv.conf".to_owned()), "{etc:?}");
    }

    #[test]
    fn a_volume_of_wharf_hides_nothing_below_it() {
        let definition = fixture::definition();
        let plain = targets(&definition, Vec::new());
        let mut volume = bind("/var/lib/wharf/volumes/etc", "/etc");
        volume.owner = Owner::Wharf;
        let with = targets(&definition, vec![volume]);
        assert!(plain.iter().all(|target| with.contains(target)), "{with:?}");
        assert_eq!(with.len(), plain.len() + 1);
    }

    #[test]
    fn the_last_volume_on_a_target_wins() {
        let definition = fixture::definition();
        let (host, user) = (fixture::host(), fixture::root_user());
        let mut inputs = fixture::inputs(&definition, &host, &user);
        inputs.binds = vec![bind("/a", "/data"), bind("/b", "/data")];
        let mounts = render(&inputs);
        let mut data = mounts
            .iter()
            .filter(|m| m.destination() == Path::new("/data"));
        assert_eq!(
            data.next().unwrap().source().as_deref(),
            Some(Path::new("/b"))
        );
        assert!(data.next().is_none());
    }

    #[test]
    fn own_mounts_stay_whatever_the_definition_covers() {
        let definition = fixture::definition();
        let (host, user) = (fixture::host(), fixture::root_user());
        let mut inputs = fixture::inputs(&definition, &host, &user);
        inputs.binds = vec![
            bind("/dev", "/dev"),
            bind("/x", "/run"),
            bind("/y", NOTIFY_DIR),
        ];
        inputs.init = Some(PathBuf::from("/usr/bin/catatonit"));
        inputs.notify_dir = Some(PathBuf::from("/run/wharf/bundles/web/notify"));
        let mounts = render(&inputs);
        let source = |target: &str| {
            let mut found = mounts
                .iter()
                .filter(|m| m.destination() == Path::new(target));
            let source = found.next().unwrap().source().clone().unwrap();
            assert!(found.next().is_none(), "{target}");
            source
        };
        assert_eq!(source(INIT_PATH), Path::new("/usr/bin/catatonit"));
        assert_eq!(
            source(NOTIFY_DIR),
            Path::new("/run/wharf/bundles/web/notify")
        );
    }

    #[test]
    fn propagation_of_the_root_is_what_the_volumes_need() {
        let mut volume = bind("/a", "/a");
        for (asked, expected) in [
            (Propagation::Private, "rprivate"),
            (Propagation::Rprivate, "rprivate"),
            (Propagation::Slave, "rslave"),
            (Propagation::Rshared, "rshared"),
        ] {
            volume.propagation = asked;
            assert_eq!(
                rootfs_propagation(std::slice::from_ref(&volume)),
                expected,
                "{asked:?}"
            );
        }
    }
}
