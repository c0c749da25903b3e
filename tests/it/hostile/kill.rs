// SPDX-License-Identifier: Apache-2.0
//! Commands of the store that are killed or failed at their system calls (threats K1, S1, S2;
//! rigs KILL, FS, INV), where they succeed and where they refuse.
//!
//! After each: every visible image passes the full check; the same command again does its work; then
//! nothing is in staging, and the check finds nothing. A stride by default; `WHARF_KILL_STRIDE=1` and
//! `WHARF_FAULT_STRIDE=1` take every call. Starts and clean-ups of containers are in `lab_crash.rs`.

use wharf::image::check::check;
use wharf::image::store::Store;
use wharf::sys::command::{Command, Output};

use crate::support::image_registry::Registry;
use crate::support::layout::{Layer, Rig, archive, layers, layout, put};
use crate::support::sweep::{Fault, Point, failed, fault_points, kill_points, killed};
use crate::support::tar::Tar;

/// How many points of a sweep are taken by default.
const POINTS: usize = 16;

/// A command and what must come of it.
struct Scenario {
    rig: Rig,
    registry: Registry,
    command: Vec<String>,
    /// Makes the store what the command begins with; it is empty before.
    prepare: fn(&Self),
    /// What must be so when the command has ended by itself.
    done: fn(&Self),
    /// Whether the command succeeds; if not, it refuses.
    good: Verdict,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Succeeds,
    Refuses,
}

impl Scenario {
    fn new(command: &[&str], prepare: fn(&Self), done: fn(&Self)) -> Self {
        let rig = Rig::in_memory();
        let registry = Registry::new();
        let host = registry.host();
        let settings = format!("[[registries]]\nprefix = \"{host}\"\ninsecure = true\n");
        put(
            &rig.root().join("etc/wharf/wharf.toml"),
            settings.as_bytes(),
        );
        put(
            &rig.path().join("good.tar"),
            &archive(&layout("x", &layers())),
        );
        put(
            &rig.path().join("bad.tar"),
            &archive(&layout("x", &bad_layers())),
        );
        put(
            &rig.path().join("layer.tar"),
            &Tar::new().file("f", b"1").end(),
        );
        let in_rig = |word: &str| rig.path().join(word).to_str().unwrap().to_owned();
        let command = command.iter().map(|word| match *word {
            "REMOTE" => format!("{host}/x"),
            word if word.ends_with(".tar") => in_rig(word),
            word => word.to_owned(),
        });
        Self {
            command: command.collect(),
            rig,
            registry,
            prepare,
            done,
            good: Verdict::Succeeds,
        }
    }

    fn refuses(mut self) -> Self {
        self.good = Verdict::Refuses;
        self
    }

    fn program(&self) -> Vec<String> {
        let root = self.rig.root().to_str().unwrap().to_owned();
        let mut words = vec![
            env!("CARGO_BIN_EXE_wharf").to_owned(),
            "--root".to_owned(),
            root,
        ];
        words.extend(self.command.iter().cloned());
        words
    }

    fn reset(&self) {
        self.rig.forget();
        self.rig.assert_empty(&"forgotten");
        (self.prepare)(self);
    }

    fn load(&self, name: &str, layers: &[Layer]) {
        self.rig.load(&archive(&layout(name, layers))).unwrap();
    }

    fn has(&self, name: &str) -> bool {
        let found = self.rig.store.resolve(name);
        // There and not whole would be the worst.
        let names = self.rig.store.records().unwrap();
        let full = |r: &wharf::image::Reference| r.familiar().starts_with(name);
        let listed = names.iter().any(|r| r.reference.as_ref().is_some_and(full));
        assert_eq!(found.is_ok(), listed, "{name}: {found:?}");
        listed
    }

    /// What must be so the moment after a kill or a failure, and that the next command works.
    fn judge(&self, what: &str) {
        let store = Store::open(&self.rig.paths).unwrap();
        let report = check(&store, &mut |_| {}).unwrap();
        assert!(report.findings.is_empty(), "{what}: {report:?}");
        for record in store.records().unwrap() {
            store.resolve(&record.digest.to_string()).unwrap();
        }
        let program = self.program();
        let again = Command::new(&program[0])
            .args(&program[1..])
            .output()
            .unwrap();
        // What was to be removed may be gone.
        let gone = again.stderr.contains("is not in the store");
        let fine = match self.good {
            Verdict::Succeeds => again.status.success() || gone,
            Verdict::Refuses => again.status.code() == Some(1),
        };
        assert!(fine, "{what}: again: {}", again.stderr);
        (self.done)(self);
        // A refusal leaves what it has downloaded to the sweep of the next command.
        drop(self.rig.store.write().unwrap());
        self.rig.assert_clean(&what);
    }

    fn each(&self, points: &[Point], act: impl Fn(&[&str], &Point) -> Option<Output>) -> usize {
        let program = self.program();
        let program: Vec<&str> = program.iter().map(String::as_str).collect();
        let mut hit = 0;
        for point in points {
            self.reset();
            if act(&program, point).is_some() {
                hit += 1;
            }
            self.judge(&format!("{point:?}"));
        }
        hit
    }

    fn kill(&self) -> String {
        self.reset();
        let program = self.program();
        let program: Vec<&str> = program.iter().map(String::as_str).collect();
        let points = kill_points(&program, self.rig.path(), POINTS);
        let hit = self.each(&points, |program, point| {
            let output = killed(program, point);
            let ended = output.status.code().is_some_and(|code| code < 128);
            (!ended).then_some(output)
        });
        // Threads do not always come to all their calls.
        assert!(hit * 10 >= points.len() * 7, "{hit} of {}", points.len());
        format!(
            "{:?}: killed at {hit} of {} points",
            self.command,
            points.len()
        )
    }

    fn fault(&self, fault: Fault) -> String {
        self.reset();
        let program = self.program();
        let program: Vec<&str> = program.iter().map(String::as_str).collect();
        let points = fault_points(&program, self.rig.path(), POINTS, fault);
        let hit = self.each(&points, |program, point| {
            let output = failed(program, point, fault);
            let said = &output.stderr;
            assert!(!said.contains("panicked"), "{point:?}: {said}");
            match output.status.code() {
                // What does not matter may fail: an attribute, a removal that the next one does.
                Some(0) => {
                    assert!(self.good == Verdict::Succeeds, "{point:?}: {said}");
                    // An image whose reference cannot be read must not keep others from going.
                    if !(self.command[1] == "prune" && point.reads()) {
                        (self.done)(self);
                    }
                    None
                }
                Some(1) => {
                    let said_so = said.contains(fault.text()) || said.contains("cannot be read");
                    let named = said_so || self.good == Verdict::Refuses;
                    // Nobody can be told when standard error is what fails.
                    assert!(named || point.call == "write", "{point:?}: {said}");
                    Some(output)
                }
                // The dynamic loader's own calls.
                Some(127) if said.contains("error while loading shared libraries") => None,
                other => panic!("{point:?}: status {other:?}: {said}"),
            }
        });
        format!(
            "{:?}: {fault:?} at {} points, {hit} of them ended it",
            self.command,
            points.len()
        )
    }
}

fn bad_layers() -> Vec<Layer> {
    let mut layers = layers();
    let tar = Tar::new().file("good", b"1").file("../evil", b"2").end();
    layers.push(Layer::plain(&tar));
    layers
}

fn other_layers() -> Vec<Layer> {
    let mut layers = layers();
    layers.truncate(2);
    layers.push(Layer::plain(&Tar::new().file("other", b"1").end()));
    layers
}

fn nothing(_: &Scenario) {}

fn load() -> Scenario {
    Scenario::new(&["image", "load", "good.tar"], nothing, |s| {
        assert!(s.has("x"))
    })
}

fn load_refused() -> Scenario {
    Scenario::new(&["image", "load", "bad.tar"], nothing, |s| {
        assert!(!s.has("x"))
    })
    .refuses()
}

/// A new image takes a name, and the old one goes on without.
fn load_over() -> Scenario {
    let prepare = |s: &Scenario| s.load("x", &other_layers());
    Scenario::new(&["image", "load", "good.tar"], prepare, |s| {
        assert!(s.has("x"));
        assert!(
            s.rig.store.resolve("x").unwrap().layers[2]
                .join("srv")
                .exists()
        );
    })
}

fn import() -> Scenario {
    Scenario::new(&["image", "import", "layer.tar", "x"], nothing, |s| {
        assert!(s.has("x"))
    })
}

fn remove() -> Scenario {
    let prepare = |s: &Scenario| {
        s.load("x", &layers());
        s.load("y", &other_layers());
    };
    Scenario::new(&["image", "rm", "x"], prepare, |s| {
        assert!(!s.has("x") && s.has("y"));
    })
}

fn prune() -> Scenario {
    let prepare = |s: &Scenario| {
        s.load("x", &layers());
        s.load("x", &other_layers());
    };
    Scenario::new(&["image", "prune"], prepare, |s| {
        assert!(s.has("x"));
        assert_eq!(s.rig.store.records().unwrap().len(), 1);
    })
}

fn pull() -> Scenario {
    let prepare = |s: &Scenario| s.registry.offer(layout("x", &layers()));
    Scenario::new(&["image", "pull", "REMOTE"], prepare, |s| {
        assert!(s.has(&s.command[2]))
    })
}

fn pull_refused() -> Scenario {
    let prepare = |s: &Scenario| s.registry.offer(layout("x", &bad_layers()));
    let done = |s: &Scenario| assert!(!s.has(&s.command[2]));
    Scenario::new(&["image", "pull", "REMOTE"], prepare, done).refuses()
}

fn commit() -> Scenario {
    let prepare = |s: &Scenario| {
        s.load("x", &layers());
        let definition = b"image = \"x\"\npersist = true\n";
        put(
            &s.rig.root().join("etc/wharf/containers/web.toml"),
            definition,
        );
        put(
            &s.rig.paths.state().join("containers/web/kept/diff/new"),
            b"1",
        );
    };
    Scenario::new(&["commit", "web", "made:1"], prepare, |s| {
        assert!(s.has("x") && s.has("made:1"));
    })
}

macro_rules! sweeps {
    ($($killed:ident $full:ident $broken:ident $scenario:ident)*) => {
        $(#[test]
        fn $killed() {
            println!("{}", $scenario().kill());
        }

        #[test]
        fn $full() {
            println!("{}", $scenario().fault(Fault::Full));
        }

        #[test]
        fn $broken() {
            println!("{}", $scenario().fault(Fault::Broken));
        })*
    };
}

sweeps! {
    k1_load_killed s1_load_without_space s2_load_on_a_broken_disk load
    k1_refused_load_killed s1_refused_load_without_space s2_refused_load_on_a_broken_disk load_refused
    k1_load_over_killed s1_load_over_without_space s2_load_over_on_a_broken_disk load_over
    k1_import_killed s1_import_without_space s2_import_on_a_broken_disk import
    k1_rm_killed s1_rm_without_space s2_rm_on_a_broken_disk remove
    k1_prune_killed s1_prune_without_space s2_prune_on_a_broken_disk prune
    k1_pull_killed s1_pull_without_space s2_pull_on_a_broken_disk pull
    k1_refused_pull_killed s1_refused_pull_without_space s2_refused_pull_on_a_broken_disk pull_refused
    k1_commit_killed s1_commit_without_space s2_commit_on_a_broken_disk commit
}
