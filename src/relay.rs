// SPDX-License-Identifier: Apache-2.0
//! wharf-relay: moves a container's bytes to the journal, and its words to systemd.
//!
//! `wharf start --foreground` becomes this program by exec when the container runs. It stays in
//! the unit's engine cgroup, beside the container and not above it: nothing waits for it, and
//! systemd's main process is the container's own.
//!
//! ```text
//! wharf-relay --unit ctr@web.service --identifier web --main FD
//!             [--stdout FD] [--stderr FD] [--console FD] [--stdin FD]
//!             [--notify FD --manager ADDRESS] [--lifeline FD] [--stderr-priority 0..7]
//! ```
//!
//! | option | what the descriptor is |
//! |---|---|
//! | `--main` | pidfd of the container's init, opened before the container was started |
//! | `--stdout`, `--stderr` | read ends of the FIFOs that are the container's descriptors 1 and 2 |
//! | `--console` | master of the container's pseudo-terminal, instead of the two |
//! | `--stdin` | write end of the container's standard input, held open |
//! | `--lifeline` | write end of a pipe ([`crate::sys::lifeline`]), let go once there is a worker |
//! | `--notify` | bound datagram socket that the container knows as `NOTIFY_SOCKET` |
//!
//! All numbers are 3 or more, each given once; every other descriptor is closed. 0, 1 and 2 are
//! kept as they are. Exit status: 0, or 2 for arguments that cannot be used.
//!
//! Two processes: a [`guard`] that only waits, and its child the [`worker`]. A worker that is
//! killed is reported and replaced; guard and worker share the journal streams, so that not even
//! the order of lines changes. A guard that is killed takes nothing with it.
//!
//! Every signal that can be blocked is blocked. `systemctl kill` reaches all processes of the unit,
//! and a SIGHUP meant for the container must not take away its output. systemd ends us with
//! SIGKILL once the main process is gone (`KillMode=mixed`); what is in the FIFOs then is brought
//! to the journal by `wharf cleanup` ([`crate::journal::stream::drain`]).
//!
//! Nothing here allocates for what flows through.

pub mod buffer;
pub mod flow;
pub mod guard;
pub mod invocation;
pub mod lines;
pub mod proxy;
pub mod report;
pub mod worker;

pub use guard::main;
