// SPDX-License-Identifier: Apache-2.0
//! The machine, as far as a container's configuration depends on it.
//!
//! A value that is handed to the pure functions, so that a test says on which machine it is;
//! `inside::host` asks the kernel for it.

/// The machine and the powers wharf has on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// The processor architecture.
    pub architecture: Architecture,
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Whether SELinux is on.
    pub selinux: bool,
    /// The capabilities wharf may hand on, one bit each (`CapPrm` and `CapBnd` of
    /// `/proc/self/status`): the runtime cannot give what it does not have.
    pub capabilities: u64,
}

/// A processor architecture that the built-in seccomp profile knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `x86_64`, with 32-bit and x32 programs.
    X86_64,
    /// `aarch64`, with 32-bit ARM programs.
    Aarch64,
    /// Anything else: the native system calls only.
    Other,
}

impl Architecture {
    /// The one wharf was built for.
    pub const fn native() -> Self {
        if cfg!(target_arch = "x86_64") {
            Self::X86_64
        } else if cfg!(target_arch = "aarch64") {
            Self::Aarch64
        } else {
            Self::Other
        }
    }
}
