// SPDX-License-Identifier: Apache-2.0
//! The hostile layers of `support/hostile.rs` from a registry: what `hostile_tar.rs` does through
//! `wharf image load`, through a pull.
//!
//! The registry behaves; only what it serves is hostile. It hands out one image after the other
//! under one name.

use crate::support::registry_case;
use wharf::image::pull::{Options, pull};
use wharf::registry::Client;
use wharf::settings::{Registry as RegistrySettings, Settings};

use crate::support::hostile::{Case, Outcome, cases};
use crate::support::image_registry::Registry;
use crate::support::layout::Rig;

fn client(rig: &Rig, host: &str) -> Client {
    let settings = Settings {
        registries: vec![RegistrySettings {
            prefix: host.to_owned(),
            insecure: true,
            ..RegistrySettings::default()
        }],
        ..Settings::default()
    };
    Client::with_limits(&rig.paths, &settings, registry_case::limits())
}

/// What a pull says differs from what a load says where bytes are compared with descriptors; that
/// it refuses does not.
fn judge(case: &Case, result: &Result<std::path::PathBuf, String>) -> Result<(), String> {
    match (case.row, &case.outcome, result) {
        ("T22" | "T23" | "T24" | "T25", Outcome::Refused(_), Err(_)) => Ok(()),
        _ => case.judge(result),
    }
}

/// Pulls every archive of these rows, in a store that each refusal must leave empty.
fn run(rows: &[&str]) -> String {
    let rig = Rig::in_memory();
    let registry = Registry::new();
    let client = client(&rig, &registry.host());
    let name = format!("{}/x", registry.host());
    let (mut loaded, mut refused, mut wrong) = (0, 0, Vec::new());
    for case in cases(&rig.canary()) {
        if !rows.contains(&case.row) {
            continue;
        }
        registry.offer(case.files());
        let result = match pull(&rig.store, &client, &name, &Options::default(), &|_| {}) {
            Ok(_) => Ok(rig.store.resolve(&name).unwrap().layers.pop().unwrap()),
            Err(err) => Err(format!("{err:#}")),
        };
        rig.assert_clean(&case.name);
        wrong.extend(judge(&case, &result).err());
        match result {
            Ok(_) => loaded += 1,
            Err(_) => refused += 1,
        }
        if refused > 0 && rig.store.records().unwrap().is_empty() {
            // What was downloaded of a refused image may stay for the next try, until a sweep.
            drop(rig.store.write().unwrap());
            rig.assert_empty(&case.name);
        }
        rig.forget();
        rig.assert_empty(&case.name);
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(loaded + refused > 30);
    format!("{rows:?}: {loaded} pulled, {refused} refused")
}

#[test]
fn t1_t2_names() {
    println!("{}", run(&["T1", "T2"]));
}

#[test]
fn t3_t4_t5_links() {
    println!("{}", run(&["T3", "T4", "T5"]));
}

#[test]
fn t6_t7_t8_t9_t10_roots_and_whiteouts() {
    println!("{}", run(&["T6", "T7", "T8", "T9", "T10"]));
}

#[test]
fn t11_t12_t13_t14_attributes_and_long_names() {
    println!("{}", run(&["T11", "T12", "T13", "T14"]));
}

#[test]
fn t15_t16_t17_t18_t19_t20_formats() {
    println!("{}", run(&["T15", "T16", "T17", "T18", "T19", "T20"]));
}

#[test]
fn t22_t23_t24_t25_t26_t27_framing_and_odd_names() {
    println!("{}", run(&["T22", "T23", "T24", "T25", "T26", "T27"]));
}
