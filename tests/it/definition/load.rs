// SPDX-License-Identifier: Apache-2.0
//! Which files make a definition: directories, drop-ins, masks, templates, instances, and what is
//! not a readable file at all. Everything is done on real directory trees.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wharf::definition::load::scan::Catalogue;
use wharf::definition::load::{LoadError, load, load_all};
use wharf::definition::{Definition, Root, Timeout};
use wharf::name::ContainerName;
use wharf::paths::Paths;

/// A directory tree with definitions.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            tree.write(path, text.as_bytes());
        }
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::File::create(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, bytes))
            .unwrap();
    }

    fn paths(&self) -> Paths {
        Paths::system(self.0.path())
    }

    fn load(&self, name: &str) -> Result<Definition, LoadError> {
        let one = load(&self.paths(), &name.parse().unwrap());
        // Both ways to the same container must agree.
        let all = load_all::<Definition>(&self.paths());
        let listed = all.into_iter().find(|(other, _)| other.as_str() == name);
        match listed {
            Some((_, listed)) => assert_eq!(listed, one, "{name}"),
            None => assert!(
                name.contains('@') || one.is_err(),
                "{name} is loaded but not listed"
            ),
        }
        one
    }

    fn names(&self) -> Vec<String> {
        let all = load_all::<Definition>(&self.paths());
        all.into_iter().map(|(name, _)| name.to_string()).collect()
    }

    /// The message of the first problem, without the tree's own path.
    fn message(&self, name: &str) -> String {
        let err = self.load(name).unwrap_err().to_string();
        assert!(!err.contains('\n'), "{err}");
        err.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn label<'d>(definition: &'d Definition, key: &str) -> Option<&'d str> {
    definition.labels.get(key).map(String::as_str)
}

fn image(definition: &Definition) -> &str {
    match &definition.root {
        Root::Image(image) => image,
        Root::Rootfs(_) => panic!("a rootfs"),
    }
}

#[test]
fn defaults_are_those_of_the_manual() {
    let tree = Tree::new(&[("etc/wharf/containers/web.toml", "image = 'nginx'")]);
    let web = tree.load("web").unwrap();
    assert_eq!(image(&web), "nginx");
    assert_eq!(web.storage.shm_size.0, 64 << 20);
    assert!(web.security.no_new_privileges);
    assert_eq!(
        web.lifecycle.stop_timeout,
        Timeout::After(Duration::from_secs(10))
    );
    assert_eq!(web.sources, [tree.path("etc/wharf/containers/web.toml")]);
    assert_eq!(
        web.origin("", "image"),
        Some((tree.path("etc/wharf/containers/web.toml").as_path(), 1))
    );
    assert_eq!(web.origin("", "user"), None);
}

#[test]
fn the_directory_of_the_highest_priority_wins() {
    let tree = Tree::new(&[]);
    for (dir, name) in [
        ("usr/lib", "vendor"),
        ("usr/local/lib", "local"),
        ("run", "run"),
        ("etc", "admin"),
    ] {
        let text = format!("image = '{name}'");
        tree.write(&format!("{dir}/wharf/containers/web.toml"), text.as_bytes());
        let web = tree.load("web").unwrap();
        assert_eq!(image(&web), name);
        assert_eq!(web.sources.len(), 1);
    }
}

#[test]
fn drop_ins_merge_in_order_and_shadow_by_name() {
    let tree = Tree::new(&[
        (
            "usr/lib/wharf/containers/web.toml",
            "image = 'a'\nuser = 'u'\nvolumes = ['/a:/a']\n[labels]\na = 'base'\nb = 'base'\n",
        ),
        (
            "usr/lib/wharf/containers/web.toml.d/10-x.toml",
            "labels = ['a=shadowed']",
        ),
        (
            "etc/wharf/containers/web.toml.d/10-x.toml",
            "labels = ['a=ten', 'c=ten']\nvolumes = ['/b:/b']",
        ),
        (
            "run/wharf/containers/web.toml.d/05-x.toml",
            "user = 'five'\nlabels.a = 'five'\nlabels.d = 'five'",
        ),
        (
            "etc/wharf/containers/container.toml.d/99-all.toml",
            "user = 'all'\nlabels.d = 'all'\nlabels.e = 'all'",
        ),
        ("etc/wharf/containers/web.toml.d/README", "not read ["),
        ("etc/wharf/containers/web.toml.d/.#x.toml", "not read ["),
    ]);
    let web = tree.load("web").unwrap();
    for (key, value) in [
        ("a", "ten"),
        ("b", "base"),
        ("c", "ten"),
        ("d", "five"),
        ("e", "all"),
    ] {
        assert_eq!(label(&web, key), Some(value), "{key}");
    }
    assert_eq!(web.storage.volumes.len(), 1);
    assert_eq!(web.storage.volumes[0].target, "/b");
    let dir = "wharf/containers";
    assert_eq!(
        web.sources,
        [
            tree.path(&format!("usr/lib/{dir}/web.toml")),
            tree.path(&format!("etc/{dir}/container.toml.d/99-all.toml")),
            tree.path(&format!("run/{dir}/web.toml.d/05-x.toml")),
            tree.path(&format!("etc/{dir}/web.toml.d/10-x.toml")),
        ]
    );
    // A mask takes the drop-in away, the shadowed one with it.
    fs::remove_file(tree.path("etc/wharf/containers/web.toml.d/10-x.toml")).unwrap();
    symlink(
        "/dev/null",
        tree.path("etc/wharf/containers/web.toml.d/10-x.toml"),
    )
    .unwrap();
    let web = tree.load("web").unwrap();
    assert_eq!(label(&web, "a"), Some("five"));
    assert_eq!(web.sources.len(), 3);
}

#[test]
fn a_link_to_dev_null_masks_until_something_higher_is_there() {
    let tree = Tree::new(&[("usr/lib/wharf/containers/web.toml", "image = 'a'")]);
    let mask = tree.path("run/wharf/containers/web.toml");
    symlink("/dev/null", &mask).unwrap();
    match tree.load("web") {
        Err(LoadError::Masked { file, .. }) => assert_eq!(file, mask),
        other => panic!("{other:?}"),
    }
    assert!(tree.names().is_empty());
    tree.write("etc/wharf/containers/web.toml", b"image = 'b'");
    assert_eq!(image(&tree.load("web").unwrap()), "b");
    // A link to a link to /dev/null masks as well.
    let tree = Tree::new(&[]);
    symlink("/dev/null", tree.path("etc/null")).unwrap();
    symlink("../../null", tree.path("etc/wharf/containers/web.toml")).unwrap();
    assert!(matches!(tree.load("web"), Err(LoadError::Masked { .. })));
}

#[test]
fn instances_come_from_their_template() {
    let tree = Tree::new(&[
        (
            "usr/lib/wharf/containers/db@.toml",
            "image = 'db:%i'\nhostname = 'db-%i'\nvolumes = ['/srv/%i:/data']\n\
             environment = ['A=%i', 'B=%%i', 'C=100%']\nservice.Nice = 5\n\
             command = ['--name', '%i']\nunit.After = 'x@%i.service'",
        ),
        (
            "etc/wharf/containers/db@.toml.d/10.toml",
            "labels.a = 'template'\nlabels.b = 'template'",
        ),
        (
            "etc/wharf/containers/db@blue.toml.d/05.toml",
            "labels.a = 'blue'",
        ),
        ("etc/wharf/containers/db@own.toml", "image = 'own'"),
        (
            "etc/wharf/containers/plain.toml",
            "image = 'x'\nlabels.a = '%i'",
        ),
    ]);
    symlink(
        "../../../usr/lib/wharf/containers/db@.toml",
        tree.path("etc/wharf/containers/db@linked.toml"),
    )
    .unwrap();
    symlink("/dev/null", tree.path("etc/wharf/containers/db@off.toml")).unwrap();
    assert_eq!(tree.names(), ["db@blue", "db@linked", "db@own", "plain"]);
    let blue = tree.load("db@blue").unwrap();
    assert_eq!(image(&blue), "db:blue");
    assert_eq!(blue.hostname.as_deref(), Some("db-blue"));
    assert_eq!(label(&blue, "a"), Some("blue"));
    assert_eq!(label(&blue, "b"), Some("template"));
    assert_eq!(blue.process.environment["A"], "blue");
    assert_eq!(blue.process.environment["B"], "%i");
    assert_eq!(blue.process.environment["C"], "100%");
    assert_eq!(blue.process.command.unwrap(), ["--name", "blue"]);
    // Specifiers of unit directives are systemd's.
    assert_eq!(blue.passthrough.unit["After"], ["x@%i.service"]);
    assert_eq!(image(&tree.load("db@linked").unwrap()), "db:linked");
    // An instance's own file takes the template's place, but its drop-ins stay.
    let own = tree.load("db@own").unwrap();
    assert_eq!(image(&own), "own");
    assert_eq!(label(&own, "a"), Some("template"));
    // Not enumerated, but defined.
    assert_eq!(image(&tree.load("db@any").unwrap()), "db:any");
    assert!(matches!(tree.load("db@off"), Err(LoadError::Masked { .. })));
    assert!(matches!(tree.load("db"), Err(LoadError::Undefined { .. })));
    assert_eq!(label(&tree.load("plain").unwrap(), "a"), Some("%i"));
}

#[test]
fn undefined_says_where_it_looked() {
    let tree = Tree::new(&[]);
    let message = tree.message("web@x");
    assert!(
        message.starts_with(
            "container 'web@x' is not defined, looked for etc/wharf/containers/web@x.toml, "
        ),
        "{message}"
    );
    assert!(message.ends_with("usr/lib/wharf/containers/web@.toml"));
}

/// Each bad file costs its own container and no other (threats C11).
#[test]
fn what_is_not_a_readable_file_costs_only_its_container() {
    let tree = Tree::new(&[("etc/wharf/containers/good.toml", "image = 'x'")]);
    let dir = |name: &str| tree.path(&format!("etc/wharf/containers/{name}"));
    nix::unistd::mkfifo(&dir("fifo.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(dir("directory.toml")).unwrap();
    symlink("loop.toml", dir("loop.toml")).unwrap();
    symlink("nowhere", dir("dangling.toml")).unwrap();
    symlink("/dev/zero", dir("device.toml")).unwrap();
    tree.write("etc/wharf/containers/utf8.toml", b"image = 'x'\n# \xff");
    tree.write("etc/wharf/containers/bom.toml", b"\xef\xbb\xbfimage = 'x'");
    tree.write("etc/wharf/containers/nul.toml", b"image = 'x\0'");
    let large = format!("image = 'x'\n#{}", "x".repeat(1 << 20));
    tree.write("etc/wharf/containers/large.toml", large.as_bytes());
    let deep = format!("command = {}", "[".repeat(100_000));
    tree.write("etc/wharf/containers/deep.toml", deep.as_bytes());
    let dotted = format!("{}a = 1", "a.".repeat(400_000));
    tree.write("etc/wharf/containers/dotted.toml", dotted.as_bytes());
    tree.write("etc/wharf/containers/dropin.toml", b"image = 'x'");
    fs::create_dir(dir("dropin.toml.d")).unwrap();
    nix::unistd::mkfifo(&dir("dropin.toml.d/x.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    tree.write("etc/wharf/containers/notdir.toml", b"image = 'x'");
    tree.write("etc/wharf/containers/notdir.toml.d", b"");
    for (name, expected) in [
        ("fifo", "fifo.toml:1:1: cannot be read: not a regular file"),
        (
            "directory",
            "directory.toml:1:1: cannot be read: not a regular file",
        ),
        (
            "loop",
            "loop.toml:1:1: cannot be read: Too many levels of symbolic links",
        ),
        (
            "dangling",
            "dangling.toml:1:1: cannot be read: No such file or directory",
        ),
        (
            "device",
            "device.toml:1:1: cannot be read: not a regular file",
        ),
        ("utf8", "utf8.toml:2:3: not UTF-8 from here"),
        ("bom", "bom.toml:1:1: begins with a byte order mark"),
        ("nul", "nul.toml:1:11: not valid TOML"),
        (
            "large",
            "large.toml:1:1: cannot be read: larger than 1048576 bytes",
        ),
        (
            "deep",
            "deep.toml:1:91: tables or lists are nested too deeply",
        ),
        (
            "dotted",
            "dotted.toml:1:1: tables or lists are nested too deeply",
        ),
        (
            "dropin",
            "dropin.toml.d/x.toml:1:1: cannot be read: not a regular file",
        ),
        (
            "notdir",
            "notdir.toml.d:1:1: cannot be listed: Not a directory",
        ),
    ] {
        let message = tree.message(name);
        let expected = format!("etc/wharf/containers/{expected}");
        assert!(message.starts_with(&expected), "{message}");
    }
    assert!(tree.load("good").is_ok());
    assert_eq!(tree.names().len(), 14);
}

#[test]
fn what_concerns_every_container_fails_every_container() {
    let tree = Tree::new(&[
        ("etc/wharf/containers/a.toml", "image = 'x'"),
        ("etc/wharf/containers/b.toml", "image = 'x'\nuzer = 'x'"),
        (
            "etc/wharf/containers/container.toml.d/x.toml",
            "\nusr = 'x'",
        ),
    ]);
    let drop_in =
        "etc/wharf/containers/container.toml.d/x.toml:2:1: unknown key 'usr', did you mean 'user'?";
    assert_eq!(tree.message("a"), drop_in);
    assert_eq!(
        tree.message("b"),
        "etc/wharf/containers/b.toml:2:1: unknown key 'uzer', did you mean 'user'? \
         (and 1 more; run 'wharf check b')"
    );
    let tree = Tree::new(&[
        ("etc/wharf/containers/a.toml", "image = 'x'"),
        ("run/wharf/containers", ""),
    ]);
    assert!(
        tree.message("a")
            .starts_with("run/wharf/containers:1:1: cannot be listed: ")
    );
}

#[test]
fn a_replaced_value_is_checked_too() {
    let tree = Tree::new(&[
        ("etc/wharf/containers/a.toml", "image = 'x'\nuser = '-1'"),
        ("etc/wharf/containers/a.toml.d/x.toml", "user = '1'"),
    ]);
    assert_eq!(
        tree.message("a"),
        "etc/wharf/containers/a.toml:2:8: user: '-1' is neither a number nor a name of letters, \
         digits, '_', '.' and '-'"
    );
}

/// Threats C10, U8.
#[test]
fn files_that_are_no_containers_are_reported() {
    let tree = Tree::new(&[
        ("etc/wharf/containers/good.toml", "image = 'x'"),
        ("etc/wharf/containers/-rf.toml", ""),
        ("etc/wharf/containers/wéb.toml", ""),
        ("etc/wharf/containers/a b.toml", ""),
        ("etc/wharf/containers/a\nb.toml", ""),
        ("etc/wharf/containers/a@b@c.toml", ""),
        ("etc/wharf/containers/@.toml", ""),
        ("etc/wharf/containers/x.toml.toml", ""),
        ("etc/wharf/containers/container.toml", ""),
        ("etc/wharf/containers/orphan.toml.d/x.toml", ""),
        ("etc/wharf/containers/.hidden.toml", ""),
        ("etc/wharf/containers/good/config.json", ""),
        ("etc/wharf/containers/README", ""),
    ]);
    let long = format!("etc/wharf/containers/{}.toml", "a".repeat(64));
    tree.write(&long, b"");
    assert_eq!(tree.names(), ["good"]);
    let catalogue = Catalogue::scan::<Definition>(&tree.paths());
    let reported: Vec<_> = catalogue
        .problems()
        .map(|problem| problem.file.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(reported.len(), 10, "{reported:?}");
    for problem in catalogue.problems() {
        assert!(!problem.to_string().contains('\n'));
    }
    let container: ContainerName = "container".parse().unwrap();
    assert!(load::<Definition>(&tree.paths(), &container).is_err());
}

#[test]
fn user_scope_has_its_own_directories() {
    let tree = Tree::new(&[
        ("home/config/wharf/containers/mine.toml", "image = 'mine'"),
        ("etc/wharf/users/containers/mine.toml", "image = 'admin'"),
        ("etc/wharf/containers/system.toml", "image = 'x'"),
    ]);
    let at = |path: &str| tree.0.path().join(path);
    let paths = Paths::user(
        Path::new(tree.0.path()),
        &at("home/config"),
        &at("home/run"),
        &at("home/data"),
    );
    let all = load_all(&paths);
    assert_eq!(all.len(), 1);
    assert_eq!(image(all[0].1.as_ref().unwrap()), "mine");
}

#[test]
fn many_are_loaded_in_order() {
    let tree = Tree::new(&[]);
    for index in 0..300 {
        let text = format!("image = 'x:{index}'");
        tree.write(
            &format!("etc/wharf/containers/c{index:03}.toml"),
            text.as_bytes(),
        );
    }
    let all = load_all(&tree.paths());
    assert_eq!(all.len(), 300);
    for (index, (name, definition)) in all.iter().enumerate() {
        assert_eq!(name.as_str(), format!("c{index:03}"));
        assert_eq!(image(definition.as_ref().unwrap()), format!("x:{index}"));
    }
}
