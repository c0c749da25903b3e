// SPDX-License-Identifier: Apache-2.0
//! Reading the whole store, naming what is damaged, and repairing it.

use crate::engine::images::needs;
use crate::image::check;
use crate::image::repair;
use crate::image::store::Store;
use crate::paths::Paths;
use crate::registry::Client;
use crate::settings::Settings;

/// What was looked at and found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// References read.
    pub references: usize,
    /// Blobs read.
    pub blobs: usize,
    /// Layers read.
    pub layers: usize,
    /// What is wrong, or was.
    pub findings: Vec<Finding>,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `reference`, `blob`, `layer` or `store`, and which one.
    pub subject: String,
    /// What is wrong.
    pub problem: String,
    /// The images that need it.
    pub images: Vec<String>,
    /// What was done about it.
    pub repair: Repair,
}

/// What became of damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// Nobody asked for a repair.
    Untried,
    /// It is repaired.
    Done,
    /// It is still there, for this reason.
    Failed(String),
}

/// Reads everything. `tell` gets a line for each step.
pub fn check(paths: &Paths, tell: &mut dyn FnMut(&str)) -> anyhow::Result<Report> {
    let report = check::check(&Store::open(paths)?, tell)?;
    let findings = report.findings.iter().cloned();
    let findings = findings.map(|found| finding(found, Repair::Untried));
    Ok(counted(&report, findings.collect()))
}

/// As [`check()`], and repairs what is found.
pub fn repair(paths: &Paths, tell: &mut dyn FnMut(&str)) -> anyhow::Result<Report> {
    let store = needs::store(paths)?;
    let report = check::check(&store, tell)?;
    let client = Client::new(paths, &Settings::load(paths)?)?;
    // Without findings too: what a killed repair left in staging is swept.
    let outcomes = repair::repair(&store, &client, &report, tell)?.into_iter();
    let findings = outcomes.map(|outcome| match outcome.left {
        None => finding(outcome.finding, Repair::Done),
        Some(reason) => finding(outcome.finding, Repair::Failed(reason)),
    });
    Ok(counted(&report, findings.collect()))
}

fn counted(report: &check::Report, findings: Vec<Finding>) -> Report {
    Report {
        references: report.references,
        blobs: report.blobs,
        layers: report.layers,
        findings,
    }
}

fn finding(found: check::Finding, repair: Repair) -> Finding {
    let check::Finding {
        place: _,
        subject,
        problem,
        is_damage: _,
        images,
    } = found;
    Finding {
        subject,
        problem,
        images,
        repair,
    }
}
