// SPDX-License-Identifier: Apache-2.0
//! The person's shell: `wharf start --foreground` without a service manager.
//!
//! wharf stays, passes its standard streams or a terminal through, forwards signals, and ends with
//! the payload's status, or 128 and the signal's number. It holds the container's lock until the
//! end, and cleans up itself.

use std::os::fd::AsFd as _;

use anyhow::Context as _;

use crate::engine::run::cleanup::Remains;
use crate::engine::run::context::Prepared;
use crate::engine::run::outcome::{Adopted, Verdict};
use crate::engine::run::record;
use crate::runtime::Stdio;
use crate::sys;
use crate::sys::process::{Ended, Process};
use crate::sys::terminal::{Signals, resize, stay_with};

/// Runs the container to its end. The caller holds its lock.
pub(crate) fn stay(prepared: Prepared<'_>) -> anyhow::Result<u8> {
    let container = prepared.start.container;
    let ended = run(prepared);
    let verdict = match &ended {
        Ok(ended) => verdict(*ended),
        Err(_) => Verdict::default(),
    };
    let finished = Remains::read(container).finish(verdict);
    let ended = ended?;
    finished?;
    Ok(match ended {
        Ended::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
        Ended::Signaled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
    })
}

fn run(prepared: Prepared<'_>) -> anyhow::Result<Ended> {
    let Prepared {
        start,
        bundle,
        rootfs,
    } = prepared;
    // The created init comes to this process when the OCI runtime has gone.
    sys::process::become_subreaper()?;
    let signals = Signals::block()?;
    let (streams, listener) = if start.definition.process.tty {
        let socket = bundle.dir.join("tty");
        let listener = sys::console::listen(&socket)?;
        (Stdio::Console(socket), Some(listener))
    } else {
        let stdin = match start.definition.process.stdin {
            true => sys::fs::duplicate(std::io::stdin().as_fd())?,
            false => sys::fs::open_null()?,
        };
        let stdout = sys::fs::duplicate(std::io::stdout().as_fd())?;
        let stderr = sys::fs::duplicate(std::io::stderr().as_fd())?;
        (Stdio::Fds([stdin, stdout, stderr]), None)
    };
    let pid = start.runtime.create(&start.id, &bundle.dir, streams)?;
    drop(rootfs);
    let process = Process::open(pid).context("taking hold of the container's init")?;
    let console = listener.as_ref().map(sys::console::receive).transpose()?;
    // Before the program asks for it.
    console.iter().for_each(resize);
    let (id, runtime) = (start.id.clone(), start.runtime.clone());
    record::write(start, &bundle, pid)?;
    runtime.start(&id, &bundle.dir)?;
    Ok(stay_with(&process, &signals, console.as_ref())?)
}

/// What systemd would have said (systemd.exec(5), `$EXIT_CODE`).
fn verdict(ended: Ended) -> Verdict {
    let (exit_code, exit_status) = match ended {
        Ended::Exited(code) => ("exited", code.to_string()),
        Ended::Signaled(number) => ("killed", sys::process::signal_name(number)),
    };
    Verdict {
        exit_code: Some(exit_code.to_owned()),
        exit_status: Some(exit_status),
        adopted: Adopted::Payload,
        ..Verdict::default()
    }
}
