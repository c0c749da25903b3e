// SPDX-License-Identifier: Apache-2.0
//! wharf-relay: moves a container's bytes to the journal. All of it is in [`wharf::relay`].

use std::process::ExitCode;

fn main() -> ExitCode {
    wharf::relay::main()
}
