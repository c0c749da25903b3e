// SPDX-License-Identifier: Apache-2.0
//! Files of containers that rest (`persist = true`), through the real binary and without systemd:
//! export, diff and commit (threats F7, T12, C1). Running ones are in `lab_containerfs.rs`.

use crate::support::layout;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;
use wharf::engine::container::Container;
use wharf::engine::files::tree::Tree;
use wharf::storage::facts;
use wharf::sys::command::Command;
use wharf::sys::dir::{Dir, Kind, set_xattr};

use crate::support::layout::{Layer, Rig, archive, put};
use crate::support::tar::{Tar, gzip};

/// A store with the image `base` and the container `web` that keeps what it writes.
fn rig() -> Rig {
    let rig = Rig::new();
    let lower = Tar::new()
        .dir("bin")
        .file("bin/tool", b"#!tool")
        .dir("etc")
        .file("etc/one", b"1")
        .file("etc/two", b"2")
        .dir("old")
        .file("old/a", b"a")
        .file("old/b", b"b")
        .dir("srv")
        .file("srv/again", b"x")
        .symlink("link", "etc")
        .end();
    let upper = Tar::new()
        .file("etc/three", b"3")
        .file("srv/.wh.again", b"")
        .end();
    let layers = [
        Layer::new(gzip(&lower), layout::GZIP, &lower),
        Layer::plain(&upper),
    ];
    rig.load(&archive(&layout::layout("base", &layers)))
        .unwrap();
    define(&rig, "web", "image = \"base\"\npersist = true\n");
    rig
}

fn define(rig: &Rig, name: &str, toml: &str) {
    put(
        &rig.root().join(format!("etc/wharf/containers/{name}.toml")),
        toml.as_bytes(),
    );
}

fn wharf(rig: &Rig) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    command.arg("--root").arg(rig.root());
    command
}

fn ok(rig: &Rig, args: &[&str]) -> String {
    String::from_utf8(wharf(rig).args(args).run().unwrap().stdout).unwrap()
}

fn err(rig: &Rig, args: &[&str]) -> String {
    wharf(rig).args(args).run().unwrap_err().to_string()
}

/// Writes to the container's root file system through overlayfs, as the container would.
fn write(rig: &Rig, script: &str) {
    let tree = Tree::find(Container::new(&rig.paths, &"web".parse().unwrap())).unwrap();
    let root = Dir::reopen(tree.root().unwrap()).unwrap();
    let path = format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&root))
    );
    let mut shell = Command::new("sh");
    shell
        .args(["-ec", &format!("cd {path}/\n{script}")])
        .run()
        .unwrap();
}

const CHANGES: &str = r"
echo changed >etc/one
rm etc/two
chmod 0700 bin
rm -r old
mkdir old
echo new >old/c
echo y >srv/again
mkdir -p srv/new/dir
chown 7:8 srv/new/dir
ln bin/tool bin/tool2
ln -s /etc/passwd srv/out
cp bin/tool srv/su; chmod 4755 srv/su
mkdir -p dev proc sys; touch etc/hosts etc/hostname etc/resolv.conf
mkfifo srv/fifo
touch 'srv/bad
name'
";

const DIFFERENCES: &str = "\
C /bin
C /bin/tool
A /bin/tool2
C /etc
C /etc/one
D /etc/two
C /old
D /old/a
D /old/b
A /old/c
C /srv
A /srv/again
A /srv/bad\\nname
A /srv/fifo
A /srv/new
A /srv/new/dir
A /srv/out
A /srv/su
";

#[test]
fn diff_tells_what_was_added_changed_and_deleted() {
    let rig = rig();
    assert_eq!(ok(&rig, &["diff", "web"]), "");
    write(&rig, CHANGES);
    assert_eq!(ok(&rig, &["diff", "web"]), DIFFERENCES);
    let report: Value = serde_json::from_str(&ok(&rig, &["diff", "--json", "web"])).unwrap();
    assert_eq!(report["changes"][0]["kind"], "changed");
    assert_eq!(report["changes"][2]["path"], "/bin/tool2");
    assert_eq!(
        report["changes"].as_array().unwrap().len(),
        DIFFERENCES.lines().count()
    );
}

#[test]
fn export_is_what_the_container_sees() {
    let rig = rig();
    write(&rig, CHANGES);
    let out = rig.path().join("web.tar");
    ok(&rig, &["export", "-o", out.to_str().unwrap(), "web"]);
    assert_eq!(
        std::fs::metadata(&out).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let dir = rig.path().join("out");
    std::fs::create_dir(&dir).unwrap();
    Command::new("tar")
        .arg("-xpf")
        .arg(&out)
        .arg("-C")
        .arg(&dir)
        .run()
        .unwrap();
    let tree = Tree::find(Container::new(&rig.paths, &"web".parse().unwrap())).unwrap();
    let merged = tree.file_system().unwrap();
    assert_eq!(facts_below(&dir), facts_of_fd(&merged));
    drop(tree);
    let listed = String::from_utf8(
        Command::new("tar")
            .arg("-tf")
            .arg(&out)
            .run()
            .unwrap()
            .stdout,
    )
    .unwrap();
    assert!(
        !listed.contains("old/a") && listed.contains("old/c"),
        "{listed}"
    );
    // The same bytes on standard output.
    let streamed = wharf(&rig).args(["export", "web"]).run().unwrap().stdout;
    assert_eq!(streamed, std::fs::read(&out).unwrap());
}

fn facts_below(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    facts::write(dir, &mut lines, &facts::Known::default()).unwrap();
    let text = String::from_utf8(lines).unwrap();
    text.lines().skip(1).map(str::to_owned).collect()
}

fn facts_of_fd(fd: impl std::os::fd::AsFd) -> Vec<String> {
    let number = std::os::fd::AsRawFd::as_raw_fd(&fd.as_fd());
    facts_below(&PathBuf::from(format!("/proc/self/fd/{number}")))
}

#[test]
fn f7_commit_makes_an_image_that_is_the_container() {
    let rig = rig();
    write(&rig, CHANGES);
    let printed = ok(
        &rig,
        &[
            "commit",
            "web",
            "new:1",
            "--message",
            "a word",
            "--author",
            "me <me@x>",
            "--change",
            "CMD [\"/bin/tool\"]",
            "--change",
            "LABEL run.oci.keep=1",
            "-c",
            "USER 7:8",
        ],
    );
    assert_eq!(printed, "committed new:1\n");
    rig.assert_clean(&"commit");
    let image = rig.store.resolve("new:1").unwrap();
    assert_eq!(image.layers.len(), 3);
    assert_eq!(image.config.cmd, ["/bin/tool"]);
    assert_eq!(image.config.user.as_deref(), Some("7:8"));
    assert_eq!(image.config.env, ["PATH=/bin"]);
    // A container of the new image begins with what this one has.
    define(&rig, "copy", "image = \"new:1\"\npersist = true\n");
    let seen = |name: &str| {
        let tree = Tree::find(Container::new(&rig.paths, &name.parse().unwrap())).unwrap();
        facts_of_fd(tree.file_system().unwrap())
    };
    let without_mount_points = |lines: Vec<String>| -> Vec<String> {
        let own = [
            "/dev",
            "/proc",
            "/sys",
            "/etc/hosts",
            "/etc/hostname",
            "/etc/resolv.conf",
        ];
        let is_own = |line: &String| own.iter().any(|own| line.ends_with(&format!(" {own}")));
        lines.into_iter().filter(|line| !is_own(line)).collect()
    };
    assert_eq!(seen("copy"), without_mount_points(seen("web")));
    assert_eq!(ok(&rig, &["diff", "copy"]), "");
    // The setuid bit is in the layer (threats T12).
    let su = std::fs::metadata(image.layers[2].join("srv/su")).unwrap();
    assert_eq!((su.mode() & 0o7777, su.uid()), (0o4755, 0));
    let documents = rig.store.documents(&image.digest).unwrap();
    let config = rig
        .store
        .read_blob(&documents.manifest.config.digest)
        .unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let history = config["history"].as_array().unwrap();
    assert_eq!(history.len(), 3);
    assert_eq!(history[2]["comment"], "a word");
    assert_eq!(history[2]["author"], "me <me@x>");
    assert_eq!(config["author"], "me <me@x>");
    // Without changes the layer is the same, byte for byte, but for its own time.
    let json: Value = serde_json::from_str(&ok(&rig, &["commit", "--json", "web"])).unwrap();
    assert_eq!(json["reference"], Value::Null);
    assert_eq!(
        json["diff_id"].as_str().unwrap(),
        documents.config.diff_ids[2].to_string()
    );
    rig.assert_clean(&"commit without a name");
}

#[test]
fn f7_what_a_layer_cannot_hold_is_refused_and_leaves_nothing() {
    let rig = rig();
    write(&rig, "echo x >etc/.wh.x");
    let message = err(&rig, &["commit", "web", "new:1"]);
    assert!(
        message.contains("'etc/.wh.x' cannot be in an image"),
        "{message}"
    );
    rig.assert_clean(&"refused");
    assert!(rig.store.resolve("new:1").is_err());
    // An archive of the tree may hold it.
    ok(&rig, &["export", "-o", "/dev/null", "web"]);
}

/// A hole is nothing in the container and everything in an archive of it.
#[test]
fn s1_commit_asks_for_room_before_it_writes() {
    let rig = rig();
    write(&rig, "truncate -s 10T srv/hole");
    let message = err(&rig, &["commit", "web", "new:1"]);
    assert!(
        message.contains("its files have 10995116277") && message.contains("free where images"),
        "{message}"
    );
    rig.assert_clean(&"no room");
    assert!(rig.store.resolve("new:1").is_err());
    write(&rig, "rm srv/hole");
    ok(&rig, &["commit", "web", "new:1"]);
}

#[test]
fn of_two_commits_one_is_refused() {
    let rig = rig();
    write(&rig, "echo 1 >srv/one");
    let upper = rig.paths.state().join("containers/web/kept/diff");
    let first = std::fs::File::open(upper).unwrap();
    first.lock().unwrap();
    let message = err(&rig, &["commit", "web", "new:1"]);
    assert!(
        message.contains("somebody else is committing it"),
        "{message}"
    );
    drop(first);
    ok(&rig, &["commit", "web", "new:1"]);
}

/// What is made can be run.
#[test]
fn t26_commit_on_as_many_layers_as_can_be_mounted_is_refused() {
    let rig = rig();
    let layer = |number: usize| Layer::plain(&Tar::new().file(format!("f{number}"), b"1").end());
    for (name, count) in [("most", 200), ("less", 199)] {
        let layers: Vec<Layer> = (0..count).map(layer).collect();
        rig.load(&archive(&layout::layout(name, &layers))).unwrap();
        let definition = format!("image = \"{name}\"\npersist = true\n");
        define(&rig, name, &definition);
        let upper = rig.paths.state().join(format!("containers/{name}/kept"));
        put(&upper.join("diff/new"), b"1");
    }
    let message = err(&rig, &["commit", "most", "new:1"]);
    assert!(message.contains("200 layers already"), "{message}");
    ok(&rig, &["commit", "less", "new:1"]);
    assert_eq!(rig.store.resolve("new:1").unwrap().layers.len(), 200);
}

#[test]
fn what_is_not_there_is_refused_with_a_word() {
    let rig = rig();
    define(&rig, "gone", "image = \"base\"\n");
    for verb in ["export", "diff", "commit"] {
        let message = err(&rig, &[verb, "gone"]);
        assert!(
            message.contains("nothing that it wrote is kept"),
            "{message}"
        );
        let message = err(&rig, &[verb, "nobody"]);
        assert!(
            message.contains("there is no container 'nobody'"),
            "{message}"
        );
    }
    let tree = rig.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    put(&tree.join("file"), b"x");
    symlink("/etc", tree.join("etc")).unwrap();
    define(&rig, "dir", &format!("rootfs = \"{}\"\n", tree.display()));
    let message = err(&rig, &["commit", "dir"]);
    assert!(message.contains("a directory of the host"), "{message}");
    assert!(err(&rig, &["diff", "dir"]).contains("it has no image"));
    let exported = wharf(&rig).args(["export", "dir"]).run().unwrap().stdout;
    assert!(exported.len() > 2048);
    let mut usage = wharf(&rig);
    let message = usage
        .args(["commit", "--change", "RUN x", "web"])
        .output()
        .unwrap()
        .stderr;
    assert!(message.contains("'RUN' is none of CMD"), "{message}");
}

#[test]
fn a_container_that_is_being_started_is_waited_for() {
    let rig = rig();
    ok(&rig, &["diff", "web"]);
    let lock = rig.paths.container_lock(&"web".parse().unwrap());
    let held = wharf::sys::fs::try_lock(&lock).unwrap().unwrap();
    let mut command = wharf(&rig);
    command
        .args(["diff", "web"])
        .deadline(std::time::Duration::from_secs(1));
    assert!(command.run().is_err(), "it did not wait");
    drop(held);
    ok(&rig, &["diff", "web"]);
}

#[test]
fn x3_links_of_an_image_do_not_lead_the_comparison_away() {
    let rig = rig();
    // 'link' is a link in the image and becomes a directory.
    write(&rig, "rm link; mkdir link; echo x >link/one");
    assert_eq!(ok(&rig, &["diff", "web"]), "C /link\nA /link/one\n");
    let tree = Tree::find(Container::new(&rig.paths, &"web".parse().unwrap())).unwrap();
    let root = Dir::reopen(tree.root().unwrap()).unwrap();
    let link = root.open_dir("link".as_ref()).unwrap();
    set_xattr(&link, "user.x".as_ref(), b"y").unwrap();
    root.make_node("node".as_ref(), Kind::CharDevice, (1, 3))
        .unwrap();
    drop(tree);
    assert_eq!(
        ok(&rig, &["diff", "web"]),
        "C /link\nA /link/one\nA /node\n"
    );
}

#[test]
fn k9_a_view_is_read_only_and_goes() {
    let rig = rig();
    write(&rig, "echo changed >etc/one; ln -s /etc/passwd out");
    assert_eq!(ok(&rig, &["mount"]), "NAME  PATH\n");
    let path = rig.root().join("run/wharf/mounts/containers/web");
    let line = format!("{}\n", path.display());
    assert_eq!(ok(&rig, &["mount", "web"]), line);
    assert_eq!(ok(&rig, &["mount", "web"]), line, "again");
    assert_eq!(std::fs::read(path.join("etc/one")).unwrap(), b"changed\n");
    assert_eq!(std::fs::read(path.join("etc/three")).unwrap(), b"3");
    assert!(
        std::fs::File::create(path.join("new")).is_err(),
        "it can be written to"
    );
    assert_eq!(
        ok(&rig, &["mount"]),
        format!("NAME  PATH\nweb   {}\n", path.display())
    );
    let json: Value = serde_json::from_str(&ok(&rig, &["mount", "--json"])).unwrap();
    assert_eq!(json["mounts"][0]["name"], "web");
    // Somebody is in it.
    let inside = Dir::open(&path).unwrap();
    ok(&rig, &["unmount", "web"]);
    ok(&rig, &["unmount", "web"]);
    assert!(!path.exists() && inside.names().unwrap().len() > 3);
    assert!(!rig.root().join("run/wharf/mounts").exists());
    assert!(err(&rig, &["mount", "nobody"]).contains("there is no container 'nobody'"));
    // The container can be started, or its layer changed, whatever is still looked at.
    write(&rig, "echo again >etc/one");
}

#[test]
fn cp_changes_what_is_kept() {
    let rig = rig();
    let file = rig.path().join("file");
    put(&file, b"from the host");
    let host = file.to_str().unwrap();
    ok(&rig, &["cp", host, "web:etc/"]);
    ok(&rig, &["cp", host, "web:/link/again"]);
    ok(&rig, &["cp", "web:/etc/.", "web:/copied"]);
    assert_eq!(
        ok(&rig, &["diff", "web"]),
        "A /copied\nA /copied/again\nA /copied/file\nA /copied/one\nA /copied/three\nA /copied/two\n\
         C /etc\nA /etc/again\nA /etc/file\n"
    );
    let out = rig.path().join("out");
    ok(&rig, &["cp", "web:/etc", out.to_str().unwrap()]);
    assert_eq!(std::fs::read(out.join("file")).unwrap(), b"from the host");
    let streamed = wharf(&rig)
        .args(["cp", "web:/etc/file", "-"])
        .run()
        .unwrap()
        .stdout;
    assert!(String::from_utf8_lossy(&streamed).contains("from the host"));
    define(&rig, "other", "image = \"base\"\npersist = true\n");
    ok(&rig, &["cp", "web:/copied", "other:/srv"]);
    assert!(ok(&rig, &["diff", "other"]).contains("A /srv/copied/again"));
    for (args, expected) in [
        (
            ["cp", host, "/tmp/x"],
            "one of the two must be in a container",
        ),
        (
            ["cp", "web:/none", "/tmp/x"],
            "'/none' of container 'web' does not exist",
        ),
        (
            ["cp", "a b:/none", "/tmp/x"],
            "write './a b:/none' for a file of the host",
        ),
    ] {
        let message = err(&rig, &args);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn f2_nothing_of_the_container_is_executed_or_loaded() {
    let rig = rig();
    write(
        &rig,
        "mkdir -p lib/x86_64-linux-gnu usr/bin; for f in bin/tar bin/gzip usr/bin/unpigz lib/libnss_files.so.2 \
        lib/x86_64-linux-gnu/libnss_files.so.2 etc/nsswitch.conf; do echo hostile >$f; chmod 755 $f; done",
    );
    let log = rig.path().join("trace");
    let out = rig.path().join("out");
    let wharf = env!("CARGO_BIN_EXE_wharf");
    for args in [
        vec!["cp", "-a", "web:/bin", out.to_str().unwrap()],
        vec!["cp", "/etc/hostname", "web:/srv/"],
        vec!["commit", "web", "new:1"],
        vec!["diff", "web"],
    ] {
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-y", "-e", "trace=execve,execveat,mmap", "-o"])
            .arg(&log);
        strace
            .arg(wharf)
            .arg("--root")
            .arg(rig.root())
            .args(&args)
            .run()
            .unwrap();
        let trace = std::fs::read(&log).unwrap();
        let trace = String::from_utf8_lossy(&trace);
        let executed = trace.lines().filter(|line| line.contains("execve")).count();
        assert_eq!(executed, 1, "{args:?}: {trace}");
        for line in trace.lines().filter(|line| line.contains("PROT_EXEC")) {
            let own = rig.path().to_str().unwrap();
            assert!(
                !line.contains(own) && !line.contains("libnss"),
                "{args:?}: {line}"
            );
        }
    }
}
