//! `packetboat health` prints whether the running proxy is healthy, or ready for devices.

use std::time::Duration;

use super::control_client::request;
use super::error::{CommandError, unavailable};
use super::output::print;
use super::{ConfigFile, runtime};
use crate::text::Printable;

#[derive(clap::Args)]
pub(super) struct HealthArguments {
    /// Test whether the proxy can serve devices, not only whether its process is healthy
    #[arg(long)]
    ready: bool,
}

/// Prints the proxy's health in one line; the exit code says the same.
pub(super) fn health(file: &ConfigFile, arguments: &HealthArguments) -> Result<(), CommandError> {
    let (path, patience) = if arguments.ready { ("/ready", READY) } else { ("/live", PATIENCE) };
    let answer = runtime()?.block_on(request(file, path, patience, LONGEST_LINE))?;
    // A warning about the fleet's database has its reason, and what mends it.
    let words: String = String::from_utf8_lossy(answer.body.trim_ascii()).chars().take(LONGEST_WORDS).collect();
    let line = Printable::line(words);
    if answer.status == 200 { print(format_args!("{}\n", line.as_str())) } else { Err(unavailable(line.as_str())) }
}

/// The longest line that is shown, in characters.
const LONGEST_WORDS: usize = 1000;
/// The longest answer about health, in octets.
const LONGEST_LINE: usize = 64 * 1024;
/// The longest time that `/live` may take; container health checks and people wait little longer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest time that `/ready` may take, which may try mail servers.
const READY: Duration = Duration::from_secs(8);
