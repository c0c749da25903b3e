// SPDX-License-Identifier: Apache-2.0
//! File systems that are a view of the kernel and hold no files to be copied.
//!
//! Their files have no size, may block when they are read, and do something when they are written.

use std::collections::HashMap;
use std::os::fd::AsFd;

use super::{Error, Result};

/// Magic numbers of statfs(2), from linux/magic.h.
const MAGIC: [u32; 17] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x6367_7270, // cgroup2
    0x0027_e0eb, // cgroup
    0x1cd1,      // devpts
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0x1980_0202, // mqueue
    0xde5e_81e4, // efivarfs
    0x6265_6570, // configfs
    0x6e73_6673, // nsfs
    0xf97c_ff8c, // selinuxfs
    0x4249_4e4d, // binfmt_misc
    0x6573_5543, // fusectl
];

/// What is known of file systems by device number, so that each is asked once.
#[derive(Debug, Default)]
pub struct KernelFileSystems(HashMap<u64, bool>);

impl KernelFileSystems {
    /// Whether the open file `fd` on the file system `device` is such a view.
    pub fn holds(&mut self, device: u64, fd: impl AsFd) -> Result<bool> {
        if let Some(known) = self.0.get(&device) {
            return Ok(*known);
        }
        let stat = rustix::fs::fstatfs(fd).map_err(|err| Error::new("fstatfs()", err))?;
        // The field's type differs between machines, the 32 bits of the number do not.
        let magic = stat.f_type as u32;
        let found = MAGIC.contains(&magic);
        self.0.insert(device, found);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn proc_and_sys_are_views() {
        let mut known = KernelFileSystems::default();
        for (path, expected) in [
            ("/proc", true),
            ("/sys", true),
            ("/etc", false),
            ("/proc/1", true),
        ] {
            let file = File::open(path).unwrap();
            let device = file.metadata().unwrap().dev();
            assert_eq!(known.holds(device, &file).unwrap(), expected, "{path}");
        }
    }
}
