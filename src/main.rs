//! packetboat, the program. See the library for the map.

use std::process::ExitCode;

fn main() -> ExitCode {
    packetboat::cli::main()
}
