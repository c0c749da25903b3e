// SPDX-License-Identifier: Apache-2.0
//! Members as other readers see them (threats T15): generated archives through wharf's
//! reader, Python's tarfile and GNU tar.
//!
//! Whatever wharf accepts, the others must list the same: path, type, size, mode, owner, target,
//! time. What it refuses is compared with nothing, so the share that it accepts is asserted too.
//! `WHARF_TAR_ARCHIVES` says how many archives there are; GNU tar, a process for each archive, is
//! asked about one in eight of them, or about all of them with `WHARF_TAR_GNU=all`.

use crate::support::tar_random;
use std::collections::BTreeMap;

use wharf::storage::member::{Member, MemberKind, Members};
use wharf::sys::command::Command;

use crate::support::tar_random::Rng;

const ARCHIVES: usize = 3_000;

/// How many archives one process of the other readers is given.
const BATCH: usize = 2_000;

fn members(archive: &[u8]) -> anyhow::Result<Vec<Member>> {
    let mut members = Members::new(archive);
    let mut list = Vec::new();
    while let Some(member) = members.read_next()? {
        list.push(member);
    }
    members.drain()?;
    Ok(list)
}

/// A member as `tar_readers.py` has it.
fn described(member: &Member) -> serde_json::Value {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    // Python's tarfile leaves no slashes at the end.
    let end = member.path.iter().rposition(|byte| *byte != b'/');
    let path = end
        .and_then(|end| member.path.get(..=end))
        .unwrap_or_default();
    let (kind, is_link) = match member.kind {
        MemberKind::File => ("-", false),
        MemberKind::HardLink => ("h", true),
        MemberKind::Link => ("l", true),
        MemberKind::CharDevice => ("c", false),
        MemberKind::BlockDevice => ("b", false),
        MemberKind::Directory => ("d", false),
        MemberKind::Fifo => ("p", false),
    };
    let link = if is_link {
        hex(&member.link)
    } else {
        String::new()
    };
    serde_json::json!([
        hex(path),
        kind,
        member.size,
        member.mode,
        member.uid,
        member.gid,
        link,
        f64::from(member.time.nanoseconds) / 1e9 + member.time.seconds as f64,
    ])
}

/// `asks` is 1 where GNU tar is asked, too.
fn record(archive: &[u8], list: &[Member], asks: u32) -> Vec<u8> {
    let list: Vec<_> = list.iter().map(described).collect();
    let list = serde_json::to_vec(&list).unwrap();
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_le_bytes();
    [
        &length(archive.len())[..],
        &length(list.len()),
        &asks.to_le_bytes(),
        archive,
        &list,
    ]
    .concat()
}

/// What the other readers say of a batch; empty when they agree.
fn compare(batch: Vec<u8>) -> String {
    let mut readers = Command::new("python3");
    readers.arg(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/support/tar_readers.py"
    ));
    let output = readers.stdin_bytes(batch).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &output.stderr;
    match output.status.success() {
        true => String::new(),
        false => said,
    }
}

#[test]
fn t15_other_readers_see_the_same_members() {
    let count =
        std::env::var("WHARF_TAR_ARCHIVES").map_or(ARCHIVES, |count| count.parse().unwrap());
    let all_gnu = std::env::var_os("WHARF_TAR_GNU").is_some_and(|value| value == "all");
    let mut rng = Rng(15);
    let (mut accepted, mut listed, mut batch) = (0, 0, Vec::new());
    let mut refusals: BTreeMap<String, usize> = BTreeMap::new();
    let mut differences = String::new();
    for number in 0..count {
        let archive = tar_random::archive(&mut rng);
        match members(&archive) {
            Ok(list) => {
                accepted += 1;
                listed += list.len();
                let asks = u32::from(all_gnu || accepted % 8 == 0);
                batch.extend(record(&archive, &list, asks));
            }
            Err(err) => {
                let cause = err.root_cause().to_string();
                // What is quoted differs each time.
                let kind = cause.split('\'').next_back().unwrap_or_default();
                let kind = kind.chars().filter(|c| !c.is_ascii_digit()).collect();
                *refusals.entry(kind).or_default() += 1;
            }
        }
        if (number + 1) % BATCH == 0 || number + 1 == count {
            differences += &compare(std::mem::take(&mut batch));
        }
    }
    println!("{count} archives, {accepted} accepted with {listed} members");
    println!("refused: {refusals:#?}");
    assert!(differences.is_empty(), "{differences}");
    assert!(
        accepted * 10 >= count * 4,
        "only {accepted} of {count} were accepted"
    );
    assert!(
        refusals.values().sum::<usize>() * 10 >= count,
        "{refusals:?}"
    );
}
