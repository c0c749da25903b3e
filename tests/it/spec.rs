// SPDX-License-Identifier: Apache-2.0
//! Golden tests of config.json: `tests/cases/spec/NN-what/` holds `definition.toml`, and where they
//! matter `image.json` (an OCI image config), `facts.json` (the machine) and `etc/` (of the root
//! file system); expected is `config.json`, or `error` for a start that must fail.
//! `UPDATE_EXPECT=1` rewrites what is expected.
//!
//! And the property behind them: whatever an image's configuration says, it changes nothing but
//! arguments, environment, directory and user (threats C1).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde::Deserialize;
use wharf::definition::{Definition, Propagation, Volume, VolumeSource, load};
use wharf::engine::inside::payload::{self, Payload};
use wharf::engine::spec::host::{Architecture, HostFacts};
use wharf::engine::spec::mounts::Bind;
use wharf::engine::spec::{self, CgroupNamespace, Device, DeviceKind, Inputs};
use wharf::image;
use wharf::paths::Paths;
use wharf::sys::root::Root;

/// The machine of a case; by default one that has everything but AppArmor and SELinux.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Facts {
    name: Option<String>,
    architecture: Option<String>,
    apparmor: bool,
    selinux: bool,
    /// Numbers of capabilities that wharf does not hold.
    lacks: Vec<u8>,
    /// Major, minor, owner and group of `devices`, by their path; all are character devices.
    devices: BTreeMap<String, (u32, u32, u32, u32)>,
    init: Option<PathBuf>,
    notify_dir: Option<PathBuf>,
    network_namespace: Option<PathBuf>,
    /// Whether a person runs it in a shell, without systemd.
    in_a_shell: bool,
}

impl Facts {
    fn host(&self) -> HostFacts {
        let lacked = self
            .lacks
            .iter()
            .fold(0_u64, |mask, number| mask | (1 << number));
        HostFacts {
            architecture: match self.architecture.as_deref() {
                None | Some("x86_64") => Architecture::X86_64,
                Some("aarch64") => Architecture::Aarch64,
                Some(_) => Architecture::Other,
            },
            apparmor: self.apparmor,
            selinux: self.selinux,
            capabilities: ((1 << 41) - 1) & !lacked,
        }
    }

    fn devices(&self, definition: &Definition) -> Vec<Device> {
        let device = |device: &wharf::definition::Device| {
            let path = device.source.0.display().to_string();
            let (major, minor, uid, gid) = self.devices.get(&path).copied().unwrap();
            Device {
                target: device.target.clone(),
                kind: DeviceKind::Character,
                major,
                minor,
                mode: 0o660,
                uid,
                gid,
                permissions: device.permissions.clone(),
            }
        };
        definition.storage.devices.iter().map(device).collect()
    }
}

/// Definitions and a root file system on disk.
struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn new(name: &str, definition: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let containers = dir.path().join("etc/wharf/containers");
        fs::create_dir_all(&containers).unwrap();
        fs::create_dir_all(dir.path().join("rootfs/etc")).unwrap();
        // A real path in the definition, for what is read at start.
        let text = definition.replace("@TREE@", dir.path().to_str().unwrap());
        put(&containers.join(format!("{name}.toml")), &text);
        Self { dir }
    }

    fn definition(&self, name: &str) -> Definition {
        load::load(&Paths::system(self.dir.path()), &name.parse().unwrap())
            .unwrap_or_else(|err| panic!("{err}"))
    }

    fn payload(&self, definition: &Definition, image: &image::Config) -> anyhow::Result<Payload> {
        let root = Root::open(&self.dir.path().join("rootfs"))?;
        payload::resolve(definition, image, &root)
    }
}

fn put(path: &Path, text: &str) {
    wharf::sys::fs::write_atomic(
        path,
        text.as_bytes(),
        0o644,
        wharf::sys::fs::Durability::Memory,
    )
    .unwrap();
}

/// Volumes as start resolves them: named and anonymous ones below the state directory.
fn binds(definition: &Definition, image_volumes: &[String]) -> Vec<Bind> {
    let state = Path::new("/var/lib/wharf");
    let of_image = |target: &String| Volume {
        source: VolumeSource::Anonymous,
        target: target.clone(),
        read_only: false,
        propagation: Propagation::default(),
        flags: Vec::new(),
        chown: false,
        idmap: false,
    };
    let bind = |volume: Volume| {
        let name = volume.target.trim_start_matches('/').replace('/', "-");
        let source = match &volume.source {
            VolumeSource::Bind(path) => path.clone(),
            VolumeSource::Named(name) => state.join("volumes").join(name),
            VolumeSource::Anonymous => state.join("containers/web/volumes").join(name),
        };
        Bind::new(&volume, source)
    };
    let written = definition.storage.volumes.iter().cloned();
    written
        .chain(image_volumes.iter().map(of_image))
        .map(bind)
        .collect()
}

fn render(definition: &Definition, payload: &Payload, facts: &Facts) -> anyhow::Result<String> {
    let host = facts.host();
    let inputs = Inputs {
        definition,
        host: &host,
        user: &payload.user,
        args: payload.args.clone(),
        env: payload.env.clone(),
        cwd: payload.cwd.clone(),
        hostname: payload.hostname.clone(),
        rootfs: PathBuf::from("/run/wharf/bundles/web/rootfs"),
        runtime_dir: PathBuf::from("/run/wharf/bundles/web"),
        binds: binds(definition, &payload.image_volumes),
        devices: facts.devices(definition),
        cgroup: "/ctr.slice/ctr@web.service/payload".to_owned(),
        cgroup_namespace: match facts.in_a_shell {
            true => CgroupNamespace::New,
            false => CgroupNamespace::Inherited,
        },
        network_namespace: facts.network_namespace.clone(),
        notify_dir: facts.notify_dir.clone(),
        init: facts.init.clone(),
        seccomp_profile: spec::seccomp::load(&definition.security.seccomp)?,
    };
    Ok(String::from_utf8(spec::to_json(&spec::render(&inputs)?)?)?)
}

fn read(path: &Path) -> Option<String> {
    path.exists()
        .then(|| wharf::sys::fs::read_to_string(path).unwrap())
}

/// Renders one case: config.json, or the error.
fn run(case: &Path) -> Result<String, String> {
    let facts: Facts = read(&case.join("facts.json"))
        .map(|text| serde_json::from_str(&text).unwrap())
        .unwrap_or_default();
    let name = facts.name.clone().unwrap_or_else(|| "web".to_owned());
    let tree = Tree::new(&name, &read(&case.join("definition.toml")).unwrap());
    for file in ["passwd", "group", "env", "seccomp.json"] {
        if let Some(text) = read(&case.join("etc").join(file)) {
            put(&tree.dir.path().join("rootfs/etc").join(file), &text);
        }
    }
    let definition = tree.definition(&name);
    let rendered = || -> anyhow::Result<String> {
        let image = match read(&case.join("image.json")) {
            Some(text) => image::config::parse(text.as_bytes())?.config,
            None => image::Config::default(),
        };
        let payload = tree.payload(&definition, &image)?;
        render(&definition, &payload, &facts)
    };
    let rendered = rendered().map_err(|err| format!("{err:#}\n"));
    let tree_path = tree.dir.path().to_str().unwrap();
    rendered.map_err(|text| text.replace(tree_path, "@TREE@"))
}

#[test]
fn golden_configs() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/spec");
    let mut dirs: Vec<PathBuf> = fs::read_dir(&cases)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    dirs.sort();
    assert!(dirs.len() >= 12, "only {} cases", dirs.len());
    let mut differences = String::new();
    for case in &dirs {
        let (name, text, other) = match run(case) {
            Ok(json) => ("config.json", json, "error"),
            Err(error) => ("error", error, "config.json"),
        };
        let expected = read(&case.join(name)).unwrap_or_default();
        if expected == text && !case.join(other).exists() {
            continue;
        }
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            put(&case.join(name), &text);
            wharf::sys::fs::remove_file(&case.join(other)).unwrap();
            continue;
        }
        let diff = similar::TextDiff::from_lines(&expected, &text);
        let title = case.join(name).display().to_string();
        differences.push_str(&diff.unified_diff().header(&title, "rendered").to_string());
    }
    assert!(
        differences.is_empty(),
        "UPDATE_EXPECT=1 rewrites what is expected:\n{differences}"
    );
}

/// Words that mean something to runtimes, to systemd or to other engines when they get there.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("run.oci.handler".to_owned()),
        Just("run.oci.hooks.stdout".to_owned()),
        Just("org.systemd.property.ExecStartPre".to_owned()),
        Just("io.podman.annotations.privileged".to_owned()),
        Just("wharf.privileged".to_owned()),
        Just("true".to_owned()),
        Just("/bin/sh".to_owned()),
        "[ -~]{0,20}",
    ]
}

/// Any image configuration that can be run.
fn config() -> impl Strategy<Value = image::Config> {
    let words = || prop::collection::vec("[ -~]{1,12}", 0..4);
    let map = || prop::collection::btree_map(word(), word(), 0..6);
    let user = prop::option::of((0_u32..70_000, prop::option::of(0_u32..70_000)));
    let paths = prop::collection::btree_set("/[a-c]{1,3}(/[a-c]{1,3}){0,2}", 0..4);
    let ports = prop::collection::btree_set("[0-9]{1,4}/tcp", 0..4);
    let process = (
        words(),
        words(),
        prop::collection::vec("[A-Z_]{1,9}=[ -~]{0,20}", 0..6),
    );
    let place = (
        prop::option::of("/[a-z/]{0,20}"),
        user,
        prop::option::of(Just("SIGQUIT")),
    );
    (process, place, paths, ports, map()).prop_map(
        |((entrypoint, mut cmd, env), (dir, user, signal), volumes, exposed_ports, labels)| {
            cmd.push("end".to_owned());
            let user = user.map(|(uid, gid)| match gid {
                Some(gid) => format!("{uid}:{gid}"),
                None => uid.to_string(),
            });
            image::Config {
                entrypoint,
                cmd,
                env,
                working_dir: dir.filter(|dir| !dir.starts_with("/proc")),
                user,
                stop_signal: signal.map(str::to_owned),
                volumes,
                exposed_ports,
                labels,
                healthcheck: None,
            }
        },
    )
}

/// The configuration without what an image may influence. The mounts left are those that the
/// image's volumes do not explain.
fn without_influence(json: &str, volumes: &BTreeSet<String>) -> serde_json::Value {
    let mut value: serde_json::Value = serde_json::from_str(json).unwrap();
    let process = value["process"].as_object_mut().unwrap();
    for key in ["args", "env", "cwd", "user"] {
        assert!(process.remove(key).is_some(), "{key}");
    }
    // Those that a user other than root has are fewer, and follow from the user.
    for set in ["effective", "permitted"] {
        process["capabilities"].as_object_mut().unwrap().remove(set);
    }
    let mounts = value["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| {
        let source = mount["source"].as_str().unwrap();
        let target = mount["destination"].as_str().unwrap();
        !(volumes.contains(target) && source.starts_with("/var/lib/wharf/containers/web/volumes/"))
    });
    value
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn c1_an_image_influences_nothing_but_its_process(image in config()) {
        let tree = Tree::new("web", "image = \"x\"\nlabels = { mine = \"yes\" }\n");
        let definition = tree.definition("web");
        let facts = Facts::default();
        let plain = image::Config { cmd: vec!["end".to_owned()], ..image::Config::default() };
        let payload = tree.payload(&definition, &plain).unwrap();
        let expected = render(&definition, &payload, &facts).unwrap();
        let payload = tree.payload(&definition, &image).unwrap();
        let json = render(&definition, &payload, &facts).unwrap();
        let rendered: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert!(rendered.get("annotations").is_none());
        let sets = &rendered["process"]["capabilities"];
        prop_assert_eq!(&sets["inheritable"], &serde_json::json!([]));
        prop_assert_eq!(&sets["ambient"], &serde_json::json!([]));
        prop_assert_eq!(
            without_influence(&json, &image.volumes),
            without_influence(&expected, &BTreeSet::new())
        );
    }
}

/// Keys that mean something elsewhere: to the runtime, to other engines, to a build of theirs.
const FOREIGN_KEYS: [&str; 14] = [
    "annotations",
    "Annotations",
    "HostConfig",
    "Privileged",
    "CapAdd",
    "SecurityOpt",
    "Binds",
    "Devices",
    "hooks",
    "linux",
    "mounts",
    "process",
    "Sysctls",
    "io.podman.annotations.privileged",
];

/// Any JSON, a few levels deep.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::json!(true)),
        Just(serde_json::json!(null)),
        any::<i64>().prop_map(|number| serde_json::json!(number)),
        word().prop_map(|text| serde_json::json!(text)),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = prop_oneof![
            word(),
            prop::sample::select(&FOREIGN_KEYS[..]).prop_map(str::to_owned)
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map(key, inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<serde_json::Value>()),
        ]
    })
}

/// A config blob with foreign keys at the top, in `config` and beside the layers.
fn blob() -> impl Strategy<Value = serde_json::Value> {
    let extra = || {
        let key = prop::sample::select(&FOREIGN_KEYS[..]);
        prop::collection::btree_map(key.prop_map(str::to_owned), json(), 0..5)
    };
    let labels = prop::collection::btree_map(word(), word(), 0..5);
    (extra(), extra(), extra(), labels).prop_map(|(top, config, rootfs, labels)| {
        let mut blob = serde_json::json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["end"], "Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": []},
        });
        for (place, extra) in [("", top), ("/config", config), ("/rootfs", rootfs)] {
            let object = blob.pointer_mut(place).unwrap().as_object_mut().unwrap();
            object.extend(extra);
        }
        blob
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The same from the bytes of a config blob: keys that the image specification does not have
    /// change nothing at all.
    #[test]
    fn c1_foreign_keys_of_a_config_change_nothing(blob in blob()) {
        let tree = Tree::new("web", "image = \"x\"\n");
        let definition = tree.definition("web");
        let facts = Facts::default();
        let plain = image::Config { cmd: vec!["end".to_owned()], ..image::Config::default() };
        let expected = render(&definition, &tree.payload(&definition, &plain).unwrap(), &facts);
        let parsed = image::config::parse(blob.to_string().as_bytes()).unwrap().config;
        let rendered = render(&definition, &tree.payload(&definition, &parsed).unwrap(), &facts);
        prop_assert_eq!(rendered.unwrap(), expected.unwrap());
    }
}

#[test]
fn c2_volumes_of_an_image_stay_in_the_root_file_system() {
    let tree = Tree::new("web", "image = \"x\"\n");
    let definition = tree.definition("web");
    let resolved = |volume: &str| {
        let blob = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Cmd": ["x"], "Volumes": {volume: {}}},
            "rootfs": {"type": "layers", "diff_ids": []},
        });
        let image = image::config::parse(blob.to_string().as_bytes())?.config;
        Ok::<_, anyhow::Error>(tree.payload(&definition, &image)?.image_volumes)
    };
    for (volume, target) in [
        ("/data", "/data"),
        ("//data//x/", "/data/x"),
        ("/./data/.", "/data"),
        ("/srv/...", "/srv/..."),
    ] {
        assert_eq!(resolved(volume).unwrap(), [target], "{volume}");
    }
    for volume in [
        "/../../etc",
        "/..",
        "/data/..",
        "/data/../..",
        "..",
        "data",
        "",
        "/",
        "//",
        "/.",
        "/proc",
        "/proc/1/root",
        "/sys/fs",
        "/dev/shm",
        "/./proc",
        "//dev",
        "/a\nb",
        "/a\u{0}b",
    ] {
        assert!(resolved(volume).is_err(), "{volume:?}");
    }
}
