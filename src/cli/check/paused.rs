//! `packetboat check --online` tells which tokens the running proxy does not fetch for some time, after failures: what the
//! check has got, devices get only when that pause ends.

use std::time::Duration;

use crate::cli::ConfigFile;
use crate::cli::control_client::request_at_socket;
use crate::cli::edit::with_options;
use crate::cli::output::print_error;
use crate::cli::runtime;
use crate::config::{Config, Grant};

/// Prints the pauses of the running proxy for these accounts, or those of the identity, or all; and what ends them.
/// Prints nothing where no proxy answers at the control socket.
pub(super) fn print_pauses(file: &ConfigFile, config: &Config, accounts: &[String], identity: Option<&str>) {
    let Ok(runtime) = runtime() else { return };
    let asked = request_at_socket(&config.state_directory, "/pauses", PATIENCE, LONGEST);
    let Some(answer) = runtime.block_on(asked).filter(|answer| answer.status == 200) else { return };
    let text = String::from_utf8_lossy(&answer.body);
    let paused = text.lines().filter_map(|line| line.rsplit_once(' ')).filter(|(name, _)| {
        (accounts.is_empty() || accounts.iter().any(|one| one == name))
            && identity.is_none_or(|identity| config.accounts.get(*name).is_some_and(|one| one.identity == identity))
    });
    let (by_password, others): (Vec<_>, Vec<_>) = paused.partition(|(name, _)| has_password(config, name));
    let reload = with_options(file, "packetboat reload");
    for (paused, end) in [
        (others, format!("{reload} ends the pause now, and so does a fetch that succeeds")),
        (by_password, "a new password in password_file ends the pause; packetboat reload does not".to_owned()),
    ] {
        let longest = paused.iter().filter_map(|(_, left)| left.parse().ok()).max().map(Duration::from_secs);
        let Some(longest) = longest else { continue };
        let names: Vec<&str> = paused.iter().map(|(name, _)| *name).collect();
        print_error(format_args!(
            "note: the running packetboat has failed to get a token for {}, and tries again in {}: {end}",
            names.join(", "),
            humantime::format_duration(longest)
        ));
    }
}

/// Returns whether the account's person has a password: one that was refused is not sent again before it changes.
fn has_password(config: &Config, account: &str) -> bool {
    let identity = config.accounts.get(account).and_then(|account| config.identities.get(&account.identity));
    identity.is_some_and(|identity| matches!(identity.grant, Grant::Password(_)))
}

/// The longest time for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest answer, in octets.
const LONGEST: usize = 1024 * 1024;
