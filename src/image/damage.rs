// SPDX-License-Identifier: Apache-2.0
//! What is damaged, told apart from what the machine cannot read just now.
//!
//! Damage is what reading it again would not change: a file is absent or of another kind, or its
//! content is not what it must be. That can be loaded or fetched again. Too many open files, a
//! missing permission or an error of the disk say nothing of the content, so they are errors.

use std::io;

use crate::sys;

/// What was read; none when it is damaged.
///
/// # Errors
///
/// It could not be read, which tells nothing of it.
pub fn sift<T>(read: anyhow::Result<T>) -> anyhow::Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(err) if is_damage(&err) => Ok(None),
        Err(err) => Err(err),
    }
}

/// Whether reading failed because of what is stored, not because of the machine.
pub fn is_damage(err: &anyhow::Error) -> bool {
    let call = |err: &sys::Error| sys::is_of_machine(&err.cause);
    !err.chain().any(|cause| {
        let read = cause.downcast_ref::<io::Error>();
        // What an error of a reader wraps is not in the chain.
        let wrapped = read.and_then(io::Error::get_ref);
        let wrapped = wrapped.and_then(|inner| inner.downcast_ref());
        cause.downcast_ref().is_some_and(call)
            || wrapped.is_some_and(call)
            || read.is_some_and(sys::is_of_machine)
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn errors_of_the_machine_are_no_damage() {
        let io = |errno: Errno| io::Error::from(errno);
        for (errno, damage) in [
            (Errno::NOENT, true),
            (Errno::NOTDIR, true),
            (Errno::LOOP, true),
            (Errno::MFILE, false),
            (Errno::IO, false),
            (Errno::ACCESS, false),
            (Errno::NOSPC, false),
        ] {
            let direct = anyhow::Error::from(io(errno)).context("reading");
            assert_eq!(is_damage(&direct), damage, "{errno}");
            let call = sys::Error::new("open()", io(errno));
            let call = anyhow::Error::from(call).context("reading");
            assert_eq!(is_damage(&call), damage, "{errno}");
            let wrapped = io::Error::other(sys::Error::new("write()", io(errno)));
            assert_eq!(is_damage(&wrapped.into()), damage, "{errno}");
        }
        let decoder = io::Error::new(io::ErrorKind::InvalidData, "bad magic");
        assert!(is_damage(&decoder.into()));
        assert!(is_damage(&anyhow!("its content is sha256:0")));
        assert_eq!(sift(Ok(1)).unwrap(), Some(1));
        assert_eq!(sift::<()>(Err(anyhow!("bad"))).unwrap(), None);
        sift::<()>(Err(io(Errno::IO).into())).unwrap_err();
    }
}
