// SPDX-License-Identifier: Apache-2.0
//! Hostile archives by the hundred (threats T1 to T27, rig TAR): the table of `support/hostile.rs`
//! through `wharf image load`, a test for each row.
//!
//! After every archive the canary beside the store is as it was (path, mode, owner, time,
//! attributes, content), nothing is in staging, and `image check` finds nothing; a refused one
//! leaves nothing at all. Single cases with more to say are in `layers.rs`, `layer_formats.rs`.

use std::collections::{BTreeMap, BTreeSet};

use wharf::sys::command::Command;

use crate::support::hostile::{Case, Outcome, cases};
use crate::support::layout::{Rig, archive, put};

/// The fewest archives that the table must make.
const ARCHIVES_MIN: usize = 300;

/// Loads every archive of a row, in a store that each refusal must leave empty.
fn run(row: &str) -> String {
    let rig = Rig::in_memory();
    let cases = cases(&rig.canary());
    let cases: Vec<&Case> = cases.iter().filter(|case| case.row == row).collect();
    let mut wrong = Vec::new();
    let (mut loaded, mut refused) = (0, 0);
    for case in &cases {
        let result = match rig.load(&archive(&case.files())) {
            Ok(_) => Ok(rig.store.resolve("x").unwrap().layers.pop().unwrap()),
            Err(err) => Err(format!("{err:#}")),
        };
        wrong.extend(case.judge(&result).err());
        match result {
            Ok(_) => loaded += 1,
            Err(_) => {
                refused += 1;
                rig.assert_empty(&case.name);
            }
        }
        rig.forget();
        rig.assert_empty(&case.name);
    }
    assert!(!cases.is_empty());
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    format!(
        "{row}: {} archives, {loaded} loaded, {refused} refused",
        cases.len()
    )
}

macro_rules! rows {
    ($($test:ident $row:literal)*) => {
        $(#[test]
        fn $test() {
            println!("{}", run($row));
        })*

        const ROWS: &[&str] = &[$($row),*];
    };
}

rows! {
    t1_names_that_lead_out "T1"
    t2_names_are_relative "T2"
    t3_writing_through_links "T3"
    t4_an_entry_replaces_a_link "T4"
    t5_hard_links "T5"
    t6_the_root "T6"
    t7_whiteouts "T7"
    t8_whiteouts_in_any_order "T8"
    t9_forged_markers "T9"
    t10_repeated_markers "T10"
    t11_devices "T11"
    t12_modes "T12"
    t13_attributes "T13"
    t14_long_names "T14"
    t15_extended_headers "T15"
    t16_numbers "T16"
    t17_sparse_members "T17"
    t18_repeated_names "T18"
    t19_parents "T19"
    t20_types "T20"
    t22_what_follows "T22"
    t23_digests_and_sizes "T23"
    t24_compression "T24"
    t25_cut_archives "T25"
    t26_too_many_layers "T26"
    t27_odd_names "T27"
}

/// Amounts (threats T21) are in `hostile_bombs.rs`.
#[test]
fn the_table_has_every_row_and_hundreds_of_archives() {
    let rig = Rig::in_memory();
    let cases = cases(&rig.canary());
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    let mut distinct = BTreeSet::new();
    for case in &cases {
        *rows.entry(case.row).or_default() += 1;
        distinct.insert(wharf::image::Digest::of(&archive(&case.files())));
    }
    println!(
        "{} archives, {} distinct: {rows:?}",
        cases.len(),
        distinct.len()
    );
    assert!(distinct.len() >= ARCHIVES_MIN, "{}", distinct.len());
    let tested: BTreeSet<&str> = ROWS.iter().copied().collect();
    assert_eq!(rows.into_keys().collect::<BTreeSet<_>>(), tested);
}

/// One refused archive of each row through the program: status 1, and one line that a terminal
/// can show.
#[test]
fn the_program_says_what_it_refuses() {
    let rig = Rig::in_memory();
    let file = rig.path().join("x.tar");
    let mut seen = BTreeSet::new();
    for case in cases(&rig.canary()) {
        let Outcome::Refused(text) = &case.outcome else {
            continue;
        };
        if !seen.insert(case.row) {
            continue;
        }
        put(&file, &archive(&case.files()));
        let mut load = Command::new(env!("CARGO_BIN_EXE_wharf"));
        load.arg("--root").arg(rig.root());
        let output = load.args(["image", "load"]).arg(&file).output().unwrap();
        let stderr = output.stderr;
        assert_eq!(output.status.code(), Some(1), "{}: {stderr}", case.name);
        assert!(stderr.contains(text.as_str()), "{}: {stderr}", case.name);
        let raw = |c: char| c.is_control() && c != '\n';
        assert!(!stderr.contains(raw), "{}: {stderr:?}", case.name);
        rig.assert_clean(&case.name);
        rig.assert_empty(&case.name);
    }
    assert!(seen.len() >= 15, "{seen:?}");
}
