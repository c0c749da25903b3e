// SPDX-License-Identifier: Apache-2.0
//! Images around layers: OCI layouts and docker-archives, and the canary beside the store.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use wharf::engine::images::needs;
use wharf::image::load::{Loaded, Source, load};
use wharf::image::users::Writable;
use wharf::image::{Digest, check};
use wharf::paths::Paths;
use wharf::sys::fs::{Durability, write_atomic};

use crate::support::tar::{Header, Tar, gzip, zstd};

pub const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// A layer as an image has it.
#[derive(Debug, Clone)]
pub struct Layer {
    pub blob: Vec<u8>,
    pub media_type: &'static str,
    pub diff_id: String,
}

impl Layer {
    pub fn plain(tar: &[u8]) -> Self {
        Self::new(tar.to_vec(), PLAIN, tar)
    }

    pub fn new(blob: Vec<u8>, media_type: &'static str, tar: &[u8]) -> Self {
        Self {
            blob,
            media_type,
            diff_id: Digest::of(tar).to_string(),
        }
    }
}

fn busybox() -> Vec<u8> {
    let mut busybox = Header::new("bin/busybox", b'0');
    let body = b"#!generated\n".repeat(5000);
    (busybox.mode, busybox.size) = (0o755, body.len() as u64);
    let mut tar = Tar::new().dir("bin").entry(&busybox, &body);
    for applet in ["sh", "ls", "cat", "sleep"] {
        tar = tar.symlink(format!("bin/{applet}"), "busybox");
    }
    tar.file("etc/passwd", b"root:x:0:0::/:/bin/sh\n").end()
}

/// Three layers, one in each compression.
pub fn layers() -> Vec<Layer> {
    let base = busybox();
    let middle = Tar::new()
        .file("etc/motd", &b"hello\n".repeat(2000))
        .file("etc/.wh.passwd", b"")
        .end();
    let top = Tar::new()
        .file("srv/www/index.html", b"<p>hi")
        .hardlink("srv/again", "srv/www/index.html")
        .end();
    vec![
        Layer::new(gzip(&base), GZIP, &base),
        Layer::new(zstd(&middle), ZSTD, &middle),
        Layer::plain(&top),
    ]
}

/// The files of an OCI layout by name.
pub type Files = BTreeMap<String, Vec<u8>>;

pub fn descriptor(media_type: &str, blob: &[u8]) -> serde_json::Value {
    serde_json::json!({
        "mediaType": media_type, "digest": Digest::of(blob).to_string(), "size": blob.len(),
    })
}

pub fn config(layers: &[Layer]) -> Vec<u8> {
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    serde_json::json!({
        "architecture": wharf::platform::Platform::local().architecture,
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes()
}

/// A layout of one image; `change` may damage the manifest before it gets its digest.
pub fn layout_with(
    name: &str,
    layers: &[Layer],
    change: impl FnOnce(&mut serde_json::Value),
) -> Files {
    let mut files = Files::new();
    let mut add = |blob: &[u8]| {
        files.insert(
            format!("blobs/sha256/{}", Digest::of(blob).hex()),
            blob.to_vec(),
        );
    };
    let config = config(layers);
    add(&config);
    layers.iter().for_each(|layer| add(&layer.blob));
    let mut manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers.iter().map(|l| descriptor(l.media_type, &l.blob)).collect::<Vec<_>>(),
    });
    change(&mut manifest);
    let manifest = manifest.to_string().into_bytes();
    add(&manifest);
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": name});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    files.insert("index.json".to_owned(), index.to_string().into_bytes());
    files.insert(
        "oci-layout".to_owned(),
        br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
    );
    files
}

pub fn layout(name: &str, layers: &[Layer]) -> Files {
    layout_with(name, layers, |_| {})
}

/// A docker-archive of one image.
pub fn docker(names: &[&str], layers: &[Layer]) -> Files {
    let mut files = Files::new();
    files.insert("config.json".to_owned(), config(layers));
    let mut members = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let member = format!("{index}/layer.tar");
        files.insert(member.clone(), layer.blob.clone());
        members.push(member);
    }
    let manifest = serde_json::json!([
        {"Config": "config.json", "RepoTags": names, "Layers": members}
    ]);
    files.insert(
        "manifest.json".to_owned(),
        manifest.to_string().into_bytes(),
    );
    files.insert("repositories".to_owned(), b"not even JSON".to_vec());
    files
}

pub fn archive(files: &Files) -> Vec<u8> {
    let tar = files
        .iter()
        .fold(Tar::new(), |tar, (name, body)| tar.file(name, body));
    tar.end()
}

/// A store in a directory of its own, with a canary beside it.
pub struct Rig {
    dir: tempfile::TempDir,
    pub store: Writable,
    pub paths: Paths,
    before: BTreeMap<PathBuf, String>,
}

impl Rig {
    pub fn new() -> Self {
        Self::below(tempfile::tempdir().unwrap())
    }

    /// On a file system without a disk, for tests of many archives.
    pub fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            Self::below(tempfile::tempdir_in(memory).unwrap())
        } else {
            Self::new()
        }
    }

    fn below(dir: tempfile::TempDir) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make device nodes and change owners: run them as root"
        );
        let canary = dir.path().join("CANARY");
        std::fs::create_dir(&canary).unwrap();
        std::fs::create_dir(canary.join("sub")).unwrap();
        put(&canary.join("s"), b"secret");
        put(&canary.join("sub/t"), b"other");
        let secret = std::fs::File::open(canary.join("s")).unwrap();
        wharf::sys::dir::set_xattr(&secret, "user.canary".as_ref(), b"1").unwrap();
        std::fs::set_permissions(&canary, PermissionsExt::from_mode(0o750)).unwrap();
        let paths = Paths::system(&dir.path().join("root"));
        Self {
            before: tree(&canary),
            store: needs::store(&paths).unwrap(),
            paths,
            dir,
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub fn canary(&self) -> PathBuf {
        self.dir.path().join("CANARY")
    }

    pub fn load(&self, archive: &[u8]) -> anyhow::Result<Vec<Loaded>> {
        let file = self.dir.path().join("archive");
        put(&file, archive);
        let loaded = load(&self.store, Source::Path(file), None, &mut |_| {});
        self.assert_clean(&loaded.as_ref().map_err(|err| format!("{err:#}")).err());
        loaded
    }

    /// Loads an image `x` of one plain layer.
    pub fn load_layer(&self, tar: &[u8]) -> Result<PathBuf, String> {
        match self.load(&archive(&layout("x", &[Layer::plain(tar)]))) {
            Ok(_) => Ok(self.store.resolve("x").unwrap().layers.pop().unwrap()),
            Err(err) => Err(format!("{err:#}")),
        }
    }

    /// The canary is as it was, nothing is being made, and all that is visible is whole.
    pub fn assert_clean(&self, context: &impl std::fmt::Debug) {
        assert_eq!(self.before, tree(&self.canary()), "{context:?}");
        for dir in [self.paths.images(), self.paths.layers()] {
            for name in wharf::sys::fs::list_dir(&dir).unwrap() {
                let name = name.into_string().unwrap();
                assert!(!name.starts_with('.'), "{name} is left: {context:?}");
            }
        }
        let report = check::check(&self.store, &mut |_| {}).unwrap();
        assert!(report.findings.is_empty(), "{report:?}: {context:?}");
    }

    /// Writes a run-time record, as a start of `container` does; returns its directory.
    pub fn running(&self, container: &str, reference: &str, digest: &str) -> PathBuf {
        let record = serde_json::json!({
            "version": 1, "name": container, "id": "0".repeat(64), "invocation_id": null,
            "boot_id": "", "pid": 1, "pid_start_ticks": 0, "started_at": "2026-01-01T00:00:00Z",
            "runtime": "/usr/bin/crun",
            "image": {"image": {"reference": reference, "digest": digest}},
            "payload_cgroup": "", "args": [], "env": [], "stop_signal": "SIGTERM",
            "identifier": "", "stderr_priority": 3, "init": false, "poststop": [],
            "oom_kills_before": 0, "timing": [], "sources": [],
        });
        let bundle = self.root().join("run/wharf/bundles").join(container);
        put(&bundle.join("state.json"), record.to_string().as_bytes());
        let name = container.parse().unwrap();
        assert!(wharf::records::run::load(&self.paths, &name).is_some());
        bundle
    }

    /// Removes all images.
    pub fn forget(&self) {
        let writer = self.store.write().unwrap();
        for record in self.store.records().unwrap() {
            writer.remove(&record.digest.to_string()).unwrap();
        }
        writer.collect().unwrap();
    }

    /// Nothing of any image is there.
    pub fn assert_empty(&self, context: &impl std::fmt::Debug) {
        for dir in ["images/blobs/sha256", "images/references", "layers"] {
            let names = wharf::sys::fs::list_dir(&self.paths.state().join(dir)).unwrap();
            assert!(names.is_empty(), "{dir} holds {names:?}: {context:?}");
        }
    }
}

pub fn put(path: &Path, bytes: &[u8]) {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).unwrap();
    }
    write_atomic(path, bytes, 0o644, Durability::Memory).unwrap();
}

/// Everything about a tree that a layer could have changed.
pub fn tree(path: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let m = std::fs::symlink_metadata(&path).unwrap();
        let content = if m.is_dir() {
            let children = std::fs::read_dir(&path).unwrap();
            pending.extend(children.map(|child| child.unwrap().path()));
            String::new()
        } else if m.is_file() {
            Digest::of(&std::fs::read(&path).unwrap()).to_string()
        } else if m.is_symlink() {
            format!("{:?}", std::fs::read_link(&path).unwrap())
        } else {
            format!("{:x}", m.rdev())
        };
        let line = format!(
            "{:o} {}:{} {}.{} {} {content} {:?}",
            m.mode(),
            m.uid(),
            m.gid(),
            m.mtime(),
            m.mtime_nsec(),
            m.nlink(),
            xattrs(&path, &m)
        );
        found.insert(path, line);
    }
    found
}

/// Attributes of a file or a directory; opening anything else could block.
fn xattrs(path: &Path, metadata: &std::fs::Metadata) -> Vec<(OsString, Vec<u8>)> {
    if !metadata.is_file() && !metadata.is_dir() {
        return Vec::new();
    }
    let file = std::fs::File::open(path).unwrap();
    let value = |name: &OsString| wharf::sys::dir::xattr(&file, name).unwrap().unwrap();
    let names = wharf::sys::dir::xattr_names(&file).unwrap();
    names
        .into_iter()
        .map(|name| (name.clone(), value(&name)))
        .collect()
}
