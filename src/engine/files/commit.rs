// SPDX-License-Identifier: Apache-2.0
//! `wharf commit`: what a container has written, as a new layer on top of its image.
//!
//! The container stands still while its upper directory is copied to a plain archive, and no
//! longer; compressing, unpacking and flushing come afterwards. The copy becomes a layer like any
//! other (`image::change`): hashed, unpacked and recorded on the way, visible by one rename.

use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use flate2::Compression;
use flate2::read::GzEncoder;
use serde_json::{Map, Value, json};

use crate::engine::container::Container;
use crate::engine::files::changes;
use crate::engine::files::size;
use crate::engine::files::tree::{Base, Tree};
use crate::engine::images::needs;
use crate::image::change::{AddedLayer, Change, Expected};
use crate::image::manifest::LAYERS_MAX;
use crate::image::manifest::{self, CONFIG_TYPE, Descriptor, Manifest};
use crate::image::store::{Documents, Store};
use crate::image::{Digest, Image, Reference, config};
use crate::instruction::{self, Instruction};
use crate::name::ContainerName;
use crate::records::run::RunRecord;
use crate::storage::decode;
use crate::storage::extract::floor;
use crate::storage::pack::{Form, Packed, pack};
use crate::storage::walk::Warnings;
use crate::sys::cgroup::Cgroup;
use crate::sys::dir::Dir;
use crate::sys::lifeline::Lifeline;
use crate::sys::mount::OVERLAY_LAYERS_MAX;
use crate::sys::process::HeldStops;

/// Longest that the kernel may take to freeze a container.
const FREEZE_DEADLINE: Duration = Duration::from_secs(10);

/// What the container does while it is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Nothing: all of it is of one moment.
    Freeze,
    /// It goes on: files may be of different moments.
    GoOn,
}

/// What is asked for.
#[derive(Debug)]
pub struct Options {
    /// The name of the new image; without one it is kept under its digest.
    pub reference: Option<Reference>,
    /// Changes to the image's config.
    pub instructions: Vec<Instruction>,
    /// Who made the image.
    pub author: Option<String>,
    /// A word on this layer.
    pub message: Option<String>,
    /// What a running container does meanwhile.
    pub pause: Pause,
}

/// The new image.
#[derive(Debug)]
pub struct Committed {
    /// Digest of its manifest.
    pub digest: Digest,
    /// Digest of its config.
    pub id: Digest,
    /// Digest of the new layer's plain archive.
    pub diff_id: Digest,
    /// The new layer's blob.
    pub layer: Descriptor,
    /// What is missing in the layer or not as it was.
    pub warnings: Warnings,
}

/// Makes an image of the container `name` as it is now.
pub fn commit(container: Container<'_>, options: &Options) -> anyhow::Result<Committed> {
    let tree = Tree::find(container)?;
    let name = container.name();
    let commit = || -> anyhow::Result<Committed> {
        let Base::Image { image, .. } = &tree.base else {
            bail!("its root is a directory of the host, and a layer needs an image to lie on");
        };
        let store = needs::store(container.paths())?;
        let change = store.change()?;
        let documents = change.use_image(&image.digest)?;
        check_room(&documents)?;
        let base = Below { image, documents };
        let spool = change.make_spool()?;
        let (archive, packed) = copy(&tree, &spool, options.pause)?;
        // The same level as gzip(1): images are pushed and pulled more often than committed.
        let blob = GzEncoder::new(archive, Compression::default());
        let layer = change.add_layer(blob, &Expected::default(), &|_| {})?;
        let (id, digest) = describe(&change, &base, &layer, name, options)?;
        change.commit(options.reference.as_slice(), &digest)?;
        Ok(Committed {
            digest,
            id,
            diff_id: layer.diff_id,
            layer: layer.descriptor,
            warnings: packed.warnings,
        })
    };
    commit().with_context(|| format!("committing container '{name}'"))
}

/// An image that cannot be mounted is of no use.
fn check_room(base: &Documents) -> anyhow::Result<()> {
    let most = LAYERS_MAX.min(OVERLAY_LAYERS_MAX);
    ensure!(
        base.manifest.layers.len() < most,
        "its image has {} layers already, and no more than {most} can be mounted: build it anew",
        base.manifest.layers.len()
    );
    Ok(())
}

/// A hole costs a container nothing, and would fill the disk of the images while it is frozen.
fn check_space(upper: &Dir, spool: &Path) -> anyhow::Result<()> {
    let needed = size::tree_bytes(Dir::reopen(upper)?)?;
    let space = Dir::open(spool)?.space()?;
    ensure!(
        needed.saturating_add(floor(&space)) <= space.bytes,
        "its files have {needed} bytes, and only {} are free where images are; make room with \
         'wharf image gc'",
        space.bytes
    );
    Ok(())
}

/// Copies the upper directory to an archive in `spool`, and returns it open at its beginning.
fn copy(tree: &Tree, spool: &Path, pause: Pause) -> anyhow::Result<(File, Packed)> {
    let Base::Image { writable, .. } = &tree.base else {
        bail!("it has no image");
    };
    let upper = Dir::open(&writable.diff)?;
    // Or one of two would let the container go on while the other still copies it.
    ensure!(
        upper.try_lock()?,
        "somebody else is committing it; try again when that is done"
    );
    check_space(&upper, spool)?;
    let mut archive = Dir::open(spool)?.make_file("layer.tar".as_ref())?;
    let frozen = match (&tree.record, pause) {
        (Some(record), Pause::Freeze) => Some(Frozen::freeze(record)?),
        (Some(_), Pause::GoOn) | (None, _) => None,
    };
    // While it stands still: a mount point is left out when there is nothing in it, and what the copy
    // sees must be what was looked at. Two directories are read for it.
    let own = changes::own_mount_points(tree)?;
    let mut out = BufWriter::with_capacity(1 << 18, &mut archive);
    let form = Form::Layer(&mut |path, _| Ok(own.contains(path)));
    let packed = pack(Dir::reopen(&upper)?, form, &mut out)?;
    out.flush()?;
    drop(out);
    tree.check_whole()?;
    if let Some(frozen) = &frozen {
        let still = frozen.payload.number("cgroup.events", "frozen") == Some(1);
        ensure!(
            still && !tree.has_ended(),
            "it went on or ended while it was copied; try again"
        );
    }
    drop(frozen);
    // The one that was made is open for writing only.
    let mut archive = Dir::open(spool)?.open_file("layer.tar".as_ref())?;
    archive.seek(SeekFrom::Start(0))?;
    Ok((archive, packed))
}

/// The image that the new layer lies on.
struct Below<'a> {
    image: &'a Image,
    documents: Documents,
}

/// Writes config and manifest; returns their digests.
fn describe(
    change: &Change<'_>,
    base: &Below<'_>,
    layer: &AddedLayer,
    name: &ContainerName,
    options: &Options,
) -> anyhow::Result<(Digest, Digest)> {
    let store = change.store();
    let Below { image, documents } = base;
    let mut document: Map<String, Value> =
        serde_json::from_slice(&store.read_blob(&documents.manifest.config.digest)?)?;
    let now = jiff::Timestamp::now().to_string();
    instruction::apply(&options.instructions, &mut document)?;
    add_layer(&mut document, &layer.diff_id)?;
    let mut entry = json!({
        "created": now,
        "created_by": format!("wharf commit {name}"),
        "comment": format!("from {}", image.name()),
    });
    if let Some(message) = &options.message {
        entry["comment"] = json!(message);
    }
    if let Some(author) = &options.author {
        entry["author"] = json!(author);
        document.insert("author".to_owned(), json!(author));
    }
    add_history(&mut document, documents.config.diff_ids.len(), entry)?;
    document.insert("created".to_owned(), json!(now));
    // What Docker wrote down of the container that built the image.
    for stale in ["container", "container_config", "docker_version"] {
        document.remove(stale);
    }
    let bytes = serde_json::to_vec(&document)?;
    // What wharf could not run must not be made by wharf.
    config::parse(&bytes)?;
    let id = change.add_document(&bytes)?;
    let config = Descriptor {
        media_type: CONFIG_TYPE.to_owned(),
        digest: id,
        size: bytes.len() as u64,
        platform: None,
        annotations: None,
    };
    let mut layers = Vec::with_capacity(documents.manifest.layers.len() + 1);
    for descriptor in &documents.manifest.layers {
        layers.push(as_oci(store, descriptor)?);
    }
    layers.push(layer.descriptor.clone());
    let manifest = serde_json::to_vec(&Manifest::new(config, layers))?;
    Ok((id, change.add_document(&manifest)?))
}

/// The layer as an OCI manifest names it: one of Docker's types says less than the bytes do.
fn as_oci(store: &Store, descriptor: &Descriptor) -> anyhow::Result<Descriptor> {
    if descriptor.media_type.starts_with("application/vnd.oci.") {
        return Ok(descriptor.clone());
    }
    let blob = File::open(store.blob_path(&descriptor.digest))
        .with_context(|| format!("opening blob '{}'", descriptor.digest))?;
    let compression = decode::decode(blob.take(64))?.compression();
    Ok(Descriptor {
        media_type: manifest::layer_type(compression).to_owned(),
        ..descriptor.clone()
    })
}

fn add_layer(document: &mut Map<String, Value>, diff_id: &Digest) -> anyhow::Result<()> {
    document
        .get_mut("rootfs")
        .and_then(|rootfs| rootfs.get_mut("diff_ids"))
        .and_then(Value::as_array_mut)
        .context("the image's config has no list 'diff_ids'")?
        .push(json!(diff_id));
    Ok(())
}

/// Each layer has an entry that is not marked as empty; readers count them.
fn add_history(
    document: &mut Map<String, Value>,
    layers: usize,
    entry: Value,
) -> anyhow::Result<()> {
    let slot = document.entry("history").or_insert(Value::Null);
    if slot.is_null() {
        *slot = json!([]);
    }
    let history = slot
        .as_array_mut()
        .context("the key 'history' of the image's config is no list")?;
    let is_empty = |entry: &&Value| entry.get("empty_layer") == Some(&Value::Bool(true));
    let known = history.len() - history.iter().filter(is_empty).count();
    history.extend((known..layers).map(|_| json!({"comment": "unknown"})));
    history.push(entry);
    Ok(())
}

/// A container that stands still. Dropped, it goes on.
///
/// The payload's own cgroup is frozen, not the unit: systemd's view of it, and a pause that an
/// administrator asked for, stay what they were. Should this process be killed, a bystander lets
/// the container go on; should both be, 'wharf unpause' does.
struct Frozen {
    payload: Cgroup,
    _lifeline: Lifeline,
    // Dropped last, and after the thaw: Ctrl-Z would leave the container frozen until 'fg'.
    _stops: HeldStops,
}

impl Frozen {
    fn freeze(record: &RunRecord) -> anyhow::Result<Self> {
        let payload = Cgroup::at(&record.payload_cgroup)?;
        let of_bystander = payload.clone();
        let frozen = Self {
            _stops: HeldStops::hold()?,
            _lifeline: Lifeline::attach(move || drop(of_bystander.thaw()))?,
            payload,
        };
        frozen
            .payload
            .freeze(FREEZE_DEADLINE)
            .context("freezing its processes; '--pause=false' copies its files while it goes on")?;
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(err) = self.payload.thaw() {
            tracing::warn!(
                "letting '{}' go on, ignoring: {err}; 'wharf unpause' tries again",
                self.payload.path()
            );
        }
    }
}
