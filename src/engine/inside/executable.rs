// SPDX-License-Identifier: Apache-2.0
//! Whether the command can be run, asked before the container is started.
//!
//! READY is sent before the OCI runtime's `start`, so a command that does not exist would be a
//! unit that was started and failed without a reason. What execve(2) would look at is looked at
//! here, in the root file system and through `sys::root`: the file, its mode, the interpreter of a
//! script and of an ELF program. What lies below a mount is not there yet and is not judged.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::definition::problem::quote;
use crate::engine::inside::links;
use crate::sys;
use crate::sys::root::Root;

/// What the kernel reads of a file to find out how to run it (`BINPRM_BUF_SIZE`).
const HEAD_BYTES: usize = 256;

/// Longest path (`PATH_MAX`).
const PATH_MAX_BYTES: usize = 4096;

/// Scripts whose interpreter is a script are followed this far, as by the kernel
/// (`BINFMT_MAX_RECURSION` is 4).
const DEPTH_MAX: usize = 5;

/// Most program headers that are read of an ELF file.
const PROGRAM_HEADERS_MAX: usize = 512;

/// `PT_INTERP` (elf(5)).
const PT_INTERP: u32 = 3;

/// Why a command cannot be run.
///
/// The front end matches on it: exit status 127 for [`CommandError::NotFound`], 126 for
/// [`CommandError::NotExecutable`], 125 for [`CommandError::Lookup`].
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such command, or no such interpreter.
    #[error("{0}")]
    NotFound(String),
    /// It is there and cannot be executed.
    #[error("{0}")]
    NotExecutable(String),
    /// It cannot be told.
    #[error(transparent)]
    Lookup(#[from] sys::Error),
}

/// Where a command is looked for.
#[derive(Debug)]
pub struct Search<'a> {
    /// The root file system.
    pub root: &'a Root,
    /// What the root file system is, for messages: `image 'nginx:1'` or `rootfs '/srv/x'`.
    pub origin: &'a str,
    /// The container's `PATH` ([`crate::engine::inside::env::search_path`]).
    pub path: &'a [PathBuf],
    /// The working directory.
    pub cwd: &'a Path,
    /// Targets of all mounts of the container.
    pub mounts: &'a [PathBuf],
}

/// Checks that `command`, the first word of the command line, can be run.
pub fn check(search: &Search<'_>, command: &str) -> Result<(), CommandError> {
    if command.contains('/') {
        return search.check_program(&search.cwd.join(command), command);
    }
    let mut refused = None;
    for dir in search.path {
        match search.check_program(&dir.join(command), command) {
            Err(CommandError::NotFound(_)) if !search.exists(&dir.join(command))? => {}
            // As execvp(3): go on after EACCES, and remember it.
            Err(err @ CommandError::NotExecutable(_)) => {
                refused.get_or_insert(err);
            }
            decided => return decided,
        }
    }
    Err(refused.unwrap_or_else(|| {
        let dirs: Vec<_> = search
            .path
            .iter()
            .map(|d| d.display().to_string())
            .collect();
        CommandError::NotFound(format!(
            "'{}' is in no directory of the container's PATH ({}) in {}",
            quote(command),
            quote(&dirs.join(":")),
            search.origin
        ))
    }))
}

impl Search<'_> {
    /// Whether there is something, or may be in a mount.
    fn exists(&self, path: &Path) -> Result<bool, CommandError> {
        match self.root.stat(path) {
            Ok(_) => Ok(true),
            Err(err) if is_nowhere(&err) => Ok(self.is_mounted_over(path)),
            Err(err) => Err(err.into()),
        }
    }

    fn check_program(&self, program: &Path, command: &str) -> Result<(), CommandError> {
        let mut program = program.to_owned();
        let mut subject = format!("'{}' in {}", quote(command), self.origin);
        for _ in 0..DEPTH_MAX {
            if links::lead_through(self.root, &program, &[PathBuf::from("/proc")]) {
                // /proc/self/exe would be the runtime's own program (CVE-2019-5736).
                let text = format!("{subject} is below /proc, where no program is run from");
                return Err(CommandError::NotExecutable(text));
            }
            if self.is_mounted_over(&program) {
                return Ok(());
            }
            let file = self.open_executable(&program, &subject)?;
            let Some((kind, interpreter)) = interpreter(&file, &subject)? else {
                return Ok(());
            };
            subject = format!(
                "'{}' in {} is a {kind} whose interpreter '{}'",
                quote(command),
                self.origin,
                quote(&interpreter)
            );
            program = self.cwd.join(interpreter);
        }
        Err(CommandError::NotExecutable(format!(
            "{subject} is a script of a script without end"
        )))
    }

    fn open_executable(&self, program: &Path, subject: &str) -> Result<File, CommandError> {
        let metadata = match self.root.stat(program) {
            Ok(metadata) => metadata,
            Err(err) if is_nowhere(&err) => {
                return Err(CommandError::NotFound(format!("{subject} does not exist")));
            }
            // A loop of links, a name too long: execve(2) would say the same.
            Err(err) => {
                let text = format!("{subject} cannot be looked up: {err}");
                return Err(CommandError::NotExecutable(text));
            }
        };
        if !metadata.is_file() {
            let text = format!("{subject} is not a regular file");
            return Err(CommandError::NotExecutable(text));
        }
        // Whose bit it must be is the kernel's to say; without any, not even root may run it.
        if metadata.permissions().mode() & 0o111 == 0 {
            let text = format!("{subject} is not executable, its mode has no x");
            return Err(CommandError::NotExecutable(text));
        }
        Ok(self.root.open_file(program)?)
    }

    /// Whether what is at `path` is or may be in a mount.
    fn is_mounted_over(&self, path: &Path) -> bool {
        links::lead_through(self.root, path, self.mounts)
    }
}

fn is_nowhere(err: &sys::Error) -> bool {
    err.is_absent() || err.kind() == std::io::ErrorKind::NotADirectory
}

/// What kind of file it is and which program runs it; none when the kernel does by itself, or when
/// it is of a kind that only the kernel knows (binfmt_misc).
fn interpreter(file: &File, subject: &str) -> Result<Option<(&'static str, String)>, CommandError> {
    let head = read_at(file, 0, HEAD_BYTES).map_err(|err| sys::Error::new("pread", err))?;
    if let Some(line) = head.strip_prefix(b"#!") {
        // The kernel ends at a NUL as well.
        let mut lines = line.split(|byte| matches!(byte, b'\n' | 0));
        let line = lines.next().unwrap_or_default();
        let line = String::from_utf8_lossy(line).into_owned();
        return match line.split([' ', '\t']).find(|word| !word.is_empty()) {
            // With its invisible end, so that a script with CR LF line ends names its fault.
            Some(word) => Ok(Some(("script", word.to_owned()))),
            None => Err(CommandError::NotExecutable(format!(
                "{subject} begins with '#!' and names no interpreter"
            ))),
        };
    }
    if head.is_empty() {
        return Err(CommandError::NotExecutable(format!("{subject} is empty")));
    }
    let interpreter = elf_interpreter(file, &head).map_err(|err| sys::Error::new("pread", err))?;
    Ok(interpreter.map(|interpreter| ("program", interpreter)))
}

/// `PT_INTERP` of a little-endian ELF file; none when it has none or is no such file.
fn elf_interpreter(file: &File, head: &[u8]) -> std::io::Result<Option<String>> {
    // Offsets in elf(5): header, then one program header, for 32 and for 64 bits.
    let wide = match head.get(..6) {
        Some([0x7f, b'E', b'L', b'F', 2, 1]) => true,
        Some([0x7f, b'E', b'L', b'F', 1, 1]) => false,
        Some(_) | None => return Ok(None),
    };
    let (table, entry_size, count) = if wide {
        (
            number(head, 32, 8),
            number(head, 54, 2),
            number(head, 56, 2),
        )
    } else {
        (
            number(head, 28, 4),
            number(head, 42, 2),
            number(head, 44, 2),
        )
    };
    let size = usize::try_from(entry_size).unwrap_or(0);
    let count = usize::try_from(count).unwrap_or(0).min(PROGRAM_HEADERS_MAX);
    if size < 32 {
        return Ok(None);
    }
    let headers = read_at(file, table, size.saturating_mul(count))?;
    let mut headers = headers.chunks_exact(size);
    let Some(header) = headers.find(|h| number(h, 0, 4) == u64::from(PT_INTERP)) else {
        return Ok(None);
    };
    let (offset, length) = if wide {
        (number(header, 8, 8), number(header, 32, 8))
    } else {
        (number(header, 4, 4), number(header, 16, 4))
    };
    let length = usize::try_from(length)
        .unwrap_or(PATH_MAX_BYTES)
        .min(PATH_MAX_BYTES);
    let path = read_at(file, offset, length)?;
    let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok((!path.is_empty()).then(|| String::from_utf8_lossy(path).into_owned()))
}

/// A little-endian number; 0 where the file ends before.
fn number(bytes: &[u8], offset: usize, width: usize) -> u64 {
    let end = offset.saturating_add(width);
    let bytes = bytes.get(offset..end).unwrap_or_default();
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// Up to `length` bytes at `offset`; fewer at the end of the file.
fn read_at(file: &File, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            // An offset that no file has, written by whoever made the image.
            Err(err) if err.kind() == std::io::ErrorKind::InvalidInput => break,
            Err(err) => return Err(err),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::sys::fs::{Durability, ensure_dir, write_atomic};

    struct Tree {
        dir: tempfile::TempDir,
        mounts: Vec<PathBuf>,
    }

    impl Tree {
        fn new() -> Self {
            Self {
                dir: tempfile::tempdir().unwrap(),
                mounts: vec![PathBuf::from("/data")],
            }
        }

        fn put(&self, path: &str, bytes: &[u8], mode: u32) {
            let path = self.dir.path().join(path);
            ensure_dir(path.parent().unwrap(), 0o755).unwrap();
            write_atomic(&path, bytes, mode, Durability::Memory).unwrap();
        }

        fn check(&self, command: &str) -> Result<(), String> {
            let root = Root::open(self.dir.path()).unwrap();
            let search = Search {
                root: &root,
                origin: "image 'x'",
                path: &[PathBuf::from("/usr/bin"), PathBuf::from("/bin")],
                cwd: Path::new("/srv"),
                mounts: &self.mounts,
            };
            check(&search, command).map_err(|err| match err {
                CommandError::NotFound(text) => format!("127 {text}"),
                CommandError::NotExecutable(text) => format!("126 {text}"),
                CommandError::Lookup(err) => format!("125 {err}"),
            })
        }
    }

    /// A little-endian 64-bit ELF file with one program header.
    fn elf(kind: u32, interpreter: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 120];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&kind.to_le_bytes());
        bytes[72] = 120;
        bytes[96] = u8::try_from(interpreter.len()).unwrap();
        bytes.extend_from_slice(interpreter);
        bytes
    }

    #[test]
    fn says_what_is_missing() {
        let tree = Tree::new();
        tree.put("bin/static", &elf(1, b""), 0o755);
        tree.put("bin/dynamic", &elf(PT_INTERP, b"/lib/ld.so\0"), 0o755);
        tree.put("bin/plain", b"just text", 0o644);
        tree.put("bin/void", b"", 0o755);
        tree.put("bin/good", b"#! /bin/static -x\n", 0o755);
        tree.put("bin/bad", b"#!/bin/bash\n", 0o755);
        tree.put("bin/crlf", b"#!/bin/static\r\n", 0o755);
        tree.put("bin/nobody", b"#! \n", 0o755);
        tree.put("bin/loop", b"#!/bin/loop\n", 0o755);
        tree.put("bin/sneaky", b"#!/proc/self/exe\n", 0o755);
        tree.put("srv/here", b"#!/bin/good\n", 0o755);
        tree.put("usr/bin/plain", b"first", 0o600);
        for good in [
            "static",
            "/bin/static",
            "good",
            "./here",
            "../bin/static",
            "/data/x",
        ] {
            assert_eq!(tree.check(good), Ok(()), "{good}");
        }
        for (command, expected) in [
            (
                "nginx",
                "127 'nginx' is in no directory of the container's PATH (/usr/bin:/bin) in image 'x'",
            ),
            (
                "/usr/bin/foo",
                "127 '/usr/bin/foo' in image 'x' does not exist",
            ),
            (
                "/bin/static/x",
                "127 '/bin/static/x' in image 'x' does not exist",
            ),
            ("/bin", "126 '/bin' in image 'x' is not a regular file"),
            (
                "plain",
                "126 'plain' in image 'x' is not executable, its mode has no x",
            ),
            ("void", "126 'void' in image 'x' is empty"),
            (
                "dynamic",
                "127 'dynamic' in image 'x' is a program whose interpreter '/lib/ld.so' does not exist",
            ),
            (
                "bad",
                "127 'bad' in image 'x' is a script whose interpreter '/bin/bash' does not exist",
            ),
            (
                "crlf",
                "127 'crlf' in image 'x' is a script whose interpreter '/bin/static\\r' does not exist",
            ),
            (
                "nobody",
                "126 'nobody' in image 'x' begins with '#!' and names no interpreter",
            ),
            (
                "loop",
                "126 'loop' in image 'x' is a script whose interpreter '/bin/loop' is a script of a \
                 script without end",
            ),
            (
                "sneaky",
                "126 'sneaky' in image 'x' is a script whose interpreter '/proc/self/exe' is below \
                 /proc, where no program is run from",
            ),
            (
                "/proc/self/exe",
                "126 '/proc/self/exe' in image 'x' is below /proc, where no program is run from",
            ),
        ] {
            assert_eq!(tree.check(command), Err(expected.to_owned()), "{command}");
        }
    }

    #[test]
    fn what_a_mount_hides_or_brings_is_not_judged() {
        let mut tree = Tree::new();
        tree.put("etc/x", b"", 0o644);
        ensure_dir(&tree.dir.path().join("bin"), 0o755).unwrap();
        symlink("../data/app/tool", tree.dir.path().join("bin/tool")).unwrap();
        symlink("/dat", tree.dir.path().join("bin/other")).unwrap();
        symlink("/proc/self/exe", tree.dir.path().join("bin/self")).unwrap();
        tree.mounts.push(PathBuf::from("/proc"));
        assert!(tree.check("self").unwrap_err().contains("below /proc"));
        assert_eq!(tree.check("tool"), Ok(()));
        assert_eq!(tree.check("/bin/tool"), Ok(()));
        assert!(tree.check("/bin/other").is_err());
        assert!(tree.check("/database").is_err());
        tree.mounts.push(PathBuf::from("/bin"));
        assert_eq!(tree.check("anything"), Ok(()));
    }

    #[test]
    fn hostile_elf_headers_end_quietly() {
        let tree = Tree::new();
        let mut bytes = elf(PT_INTERP, b"/lib/ld.so\0");
        for (offset, byte) in [
            (72, 0xff),
            (79, 0xff),
            (39, 0xff),
            (54, 1),
            (57, 0xff),
            (97, 0xff),
        ] {
            let before = std::mem::replace(&mut bytes[offset], byte);
            tree.put("bin/hostile", &bytes, 0o755);
            let checked = tree.check("hostile");
            let quiet = checked.is_ok() || checked.as_ref().is_err_and(|e| e.starts_with("127"));
            assert!(quiet, "{offset}: {checked:?}");
            bytes[offset] = before;
        }
        tree.put("bin/short", b"\x7fELF\x02\x01", 0o755);
        assert_eq!(tree.check("short"), Ok(()));
    }

    proptest::proptest! {
        /// Any header: an answer, and never a panic or more memory than the file is worth.
        #[test]
        fn any_bytes_are_judged(
            head in proptest::sample::select(vec![
                b"\x7fELF\x02\x01".as_slice(), b"\x7fELF\x01\x01", b"#!", b"",
            ]),
            tail in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        ) {
            let tree = Tree::new();
            tree.put("bin/any", &[head, &tail].concat(), 0o755);
            let judged = tree.check("any");
            proptest::prop_assert!(judged.as_ref().err().is_none_or(|e| !e.starts_with("125")));
        }
    }
}
