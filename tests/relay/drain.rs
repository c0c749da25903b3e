// SPDX-License-Identifier: Apache-2.0
//! What `wharf cleanup` does first, alone: `relay-drain NAME` brings what the FIFOs of the unit
//! NAME.service still hold to the journal. For tests/lab_relay.rs.

use std::path::Path;
use std::time::Duration;

use wharf::journal::stream::{Header, drain};

fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    let header = Header {
        identifier: &name,
        unit: &format!("{name}.service"),
        priority: 6,
    };
    for stream in ["stdout", "stderr"] {
        let fifo = Path::new("/run/relay-test").join(&name).join(stream);
        drain(&fifo, &header, Duration::from_secs(30))?;
    }
    Ok(())
}
