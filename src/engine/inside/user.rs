// SPDX-License-Identifier: Apache-2.0
//! Users and groups, looked up in the container's own passwd(5) and group(5).
//!
//! Both files come from the image or from an earlier run of the container and are hostile: they are
//! resolved inside the root file system, must be regular files of at most 10 MiB, and a line that
//! is not well-formed is no entry (threats C3, C4). No error ends in uid 0, and no group of
//! the host or of wharf reaches the container (threats X7).

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::definition::value::{GroupRef, IdOrName, UserRef};
use crate::engine::spec::process::ResolvedUser;
use crate::sys::root::Root;

/// Largest passwd or group file that is read.
const FILE_MAX_BYTES: u64 = 10 << 20;

/// `NGROUPS_MAX` (linux/limits.h): setgroups(2) takes no more.
const GROUPS_MAX: usize = 65536;

/// The largest id: the next one means "leave unchanged" to chown(2) and setresuid(2).
const ID_MAX: u32 = u32::MAX - 1;

/// One well-formed line of passwd(5).
struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// One well-formed line of group(5).
struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Looks up `user` and the groups `added` in the root file system `root`.
///
/// A number needs no entry; its group is then 0. Without an explicit group, the groups that list
/// the user as a member are supplementary ones; with one they are not.
pub fn resolve(root: &Root, user: &UserRef, added: &[GroupRef]) -> anyhow::Result<ResolvedUser> {
    let passwd = read(root, "/etc/passwd")?;
    let group = read(root, "/etc/group")?;
    let entry = match &user.user {
        IdOrName::Id(uid) => passwd_entries(&passwd).find(|entry| entry.uid == *uid),
        IdOrName::Name(name) => Some(
            passwd_entries(&passwd)
                .find(|entry| entry.name == name)
                .with_context(|| format!("the container's /etc/passwd has no user '{name}'"))?,
        ),
    };
    let uid = match (&user.user, &entry) {
        (IdOrName::Id(uid), _) => *uid,
        (IdOrName::Name(_), Some(entry)) => entry.uid,
        (IdOrName::Name(name), None) => bail!("the container's /etc/passwd has no user '{name}'"),
    };
    let mut gids = BTreeSet::new();
    let gid = match (&user.group, &entry) {
        (Some(reference), _) => group_id(&group, reference)?,
        (None, Some(entry)) => {
            let groups = group_entries(&group);
            gids.extend(groups.filter(|g| g.has(entry.name)).map(|g| g.gid));
            entry.gid
        }
        (None, None) => 0,
    };
    gids.insert(gid);
    for GroupRef(reference) in added {
        gids.insert(group_id(&group, reference)?);
    }
    if gids.len() > GROUPS_MAX {
        bail!(
            "the user is in {} groups, more than the kernel's {GROUPS_MAX}",
            gids.len()
        );
    }
    let home = entry
        .map(|entry| entry.home)
        .filter(|home| home.starts_with('/'));
    Ok(ResolvedUser {
        uid,
        gid,
        additional_gids: gids.into_iter().collect(),
        home: home.map(str::to_owned),
    })
}

/// An absent file is an empty one: images of one static program have neither.
fn read(root: &Root, path: &str) -> anyhow::Result<Vec<u8>> {
    match root.read_limited(Path::new(path), FILE_MAX_BYTES) {
        Err(err) if err.is_absent() => Ok(Vec::new()),
        other => other.with_context(|| format!("reading the container's '{path}'")),
    }
}

fn group_id(group: &[u8], reference: &IdOrName) -> anyhow::Result<u32> {
    match reference {
        IdOrName::Id(gid) => Ok(*gid),
        IdOrName::Name(name) => group_entries(group)
            .find(|entry| entry.name == name)
            .map(|entry| entry.gid)
            .with_context(|| format!("the container's /etc/group has no group '{name}'")),
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &str> {
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter_map(|line| std::str::from_utf8(line).ok())
}

fn passwd_entries(text: &[u8]) -> impl Iterator<Item = PasswdEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (parse_id(fields.next()?)?, parse_id(fields.next()?)?);
        let (_comment, home, _shell) = (fields.next()?, fields.next()?, fields.next()?);
        let sound = fields.next().is_none() && is_sound(name) && !has_control(home);
        sound.then_some(PasswdEntry {
            name,
            uid,
            gid,
            home,
        })
    })
}

fn group_entries(text: &[u8]) -> impl Iterator<Item = GroupEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (gid, members) = (parse_id(fields.next()?)?, fields.next()?);
        let sound = fields.next().is_none() && is_sound(name);
        sound.then_some(GroupEntry { name, gid, members })
    })
}

impl GroupEntry<'_> {
    fn has(&self, user: &str) -> bool {
        self.members.split(',').any(|member| member == user)
    }
}

fn is_sound(name: &str) -> bool {
    !name.is_empty() && !has_control(name)
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// Decimal digits only: no sign, no space, no overflow into another id.
fn parse_id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = digits.then(|| text.parse::<u32>().ok()).flatten()?;
    (id <= ID_MAX).then_some(id)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        # comment\n\
        web:x:33:34:web:/srv/web:/bin/false\n\
        overflow:x:4294967296:0::/:/bin/sh\n\
        unchanged:x:4294967295:0::/:/bin/sh\n\
        minus:x:-1:0::/:/bin/sh\n\
        hex:x:0x0:0::/:/bin/sh\n\
        space:x: 0:0::/:/bin/sh\n\
        short:x:5\n\
        relative:x:6:6::home:/bin/sh\n\
        web:x:0:0:again:/root:/bin/sh\n";
    const GROUP: &str = "root:x:0:\ntty:x:5:web,other\nweb:x:34:\nmail:x:8:webber,web\n\
        big:x:99999999999:web\nlog:x:4:\n";

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        dir
    }

    fn write(dir: &tempfile::TempDir, name: &str, text: &str) {
        let path = dir.path().join("etc").join(name);
        crate::sys::fs::write_atomic(
            &path,
            text.as_bytes(),
            0o644,
            crate::sys::fs::Durability::Memory,
        )
        .unwrap();
    }

    fn reference(text: &str) -> UserRef {
        let part = |text: &str| match text.parse() {
            Ok(id) => IdOrName::Id(id),
            Err(_) => IdOrName::Name(text.to_owned()),
        };
        match text.split_once(':') {
            Some((user, group)) => UserRef {
                user: part(user),
                group: Some(part(group)),
            },
            None => UserRef {
                user: part(text),
                group: None,
            },
        }
    }

    #[test]
    fn looks_up_names_and_numbers() {
        let dir = tree();
        write(&dir, "passwd", PASSWD);
        write(&dir, "group", GROUP);
        let root = Root::open(dir.path()).unwrap();
        type Case<'a> = (&'a str, u32, u32, &'a [u32], Option<&'a str>);
        let cases: [Case<'_>; 8] = [
            ("root", 0, 0, &[0], Some("/root")),
            ("0", 0, 0, &[0], Some("/root")),
            ("web", 33, 34, &[5, 8, 34], Some("/srv/web")),
            ("33", 33, 34, &[5, 8, 34], Some("/srv/web")),
            ("web:log", 33, 4, &[4], Some("/srv/web")),
            ("web:77", 33, 77, &[77], Some("/srv/web")),
            ("1000", 1000, 0, &[0], None),
            ("relative", 6, 6, &[6], None),
        ];
        for (text, uid, gid, gids, home) in cases {
            let user = resolve(&root, &reference(text), &[]).unwrap();
            assert_eq!((user.uid, user.gid), (uid, gid), "{text}");
            assert_eq!(user.additional_gids, gids, "{text}");
            assert_eq!(user.home.as_deref(), home, "{text}");
        }
        let added = [
            GroupRef(IdOrName::Name("log".into())),
            GroupRef(IdOrName::Id(9)),
        ];
        let user = resolve(&root, &reference("web"), &added).unwrap();
        assert_eq!(user.additional_gids, [4, 5, 8, 9, 34]);
    }

    #[test]
    fn a_name_without_a_well_formed_entry_is_an_error_and_never_root() {
        let dir = tree();
        write(&dir, "passwd", PASSWD);
        write(&dir, "group", GROUP);
        let root = Root::open(dir.path()).unwrap();
        for text in [
            "overflow",
            "unchanged",
            "minus",
            "hex",
            "space",
            "short",
            "nobody",
            "# comment",
            "web:big",
            "web:nogroup",
            "0:nogroup",
        ] {
            let err = resolve(&root, &reference(text), &[]).unwrap_err();
            assert!(err.to_string().contains("has no"), "{text}: {err}");
        }
    }

    #[test]
    fn absent_files_are_empty() {
        let dir = tree();
        let root = Root::open(dir.path()).unwrap();
        let user = resolve(&root, &reference("0"), &[]).unwrap();
        assert_eq!((user.uid, user.gid, user.home), (0, 0, None));
        assert!(resolve(&root, &reference("root"), &[]).is_err());
    }

    #[test]
    fn hostile_files_are_errors_and_links_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        let path = outside.path().join("passwd");
        fs::copy("/etc/passwd", &path).unwrap();
        let dir = tree();
        let passwd = dir.path().join("etc/passwd");
        let root = Root::open(dir.path()).unwrap();
        // To a host file: inside the root there is nothing of that name.
        symlink(&path, &passwd).unwrap();
        assert!(resolve(&root, &reference("root"), &[]).is_err());
        fs::remove_file(&passwd).unwrap();
        // An absolute link within the image works.
        fs::create_dir(dir.path().join("lib")).unwrap();
        write(&dir, "real", PASSWD);
        symlink("/etc/real", &passwd).unwrap();
        assert_eq!(resolve(&root, &reference("web"), &[]).unwrap().uid, 33);
        fs::remove_file(&passwd).unwrap();
        nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(resolve(&root, &reference("0"), &[]).is_err());
        fs::remove_file(&passwd).unwrap();
        fs::create_dir(&passwd).unwrap();
        assert!(resolve(&root, &reference("0"), &[]).is_err());
        fs::remove_dir(&passwd).unwrap();
        let big = fs::File::create(&passwd).unwrap();
        big.set_len(FILE_MAX_BYTES + 1).unwrap();
        assert!(resolve(&root, &reference("0"), &[]).is_err());
    }

    #[test]
    fn more_groups_than_the_kernel_takes_are_an_error() {
        let dir = tree();
        write(&dir, "passwd", PASSWD);
        let mut group = String::new();
        for gid in 0..=GROUPS_MAX {
            group.push_str(&format!("g{gid}:x:{gid}:web\n"));
        }
        write(&dir, "group", &group);
        let root = Root::open(dir.path()).unwrap();
        let err = resolve(&root, &reference("web"), &[]).unwrap_err();
        assert!(err.to_string().contains("65537 groups"), "{err}");
    }

    proptest::proptest! {
        /// Lines that are nearly right: only one with a plain `0` as uid makes root.
        #[test]
        fn c3_garbage_in_passwd_is_never_root(
            lines in proptest::collection::vec(
                "(web|root|w)?:?x?:?( |-|\\+|0x|00)?[0-9]{0,11}:[0-9]{0,11}:(:?/?[a-z\\x00-\\x1f]{0,3}){0,3}",
                0..12,
            ),
        ) {
            let dir = tree();
            let text = lines.join("\n");
            write(&dir, "passwd", &text);
            let root = Root::open(dir.path()).unwrap();
            if let Ok(user) = resolve(&root, &reference("web"), &[]) {
                let uid = user.uid;
                let zeros = text.lines().filter(|l| l.starts_with("web:"));
                let named = zeros.filter_map(|line| line.split(':').nth(2));
                let mut meant = named.filter(|field| field.bytes().all(|b| b.is_ascii_digit()));
                proptest::prop_assert!(meant.any(|field| field.parse() == Ok(uid)));
            }
        }
    }
}
