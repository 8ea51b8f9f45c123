//! `packetboat certificate push` and `pull`: the certificates that packetboat makes are the same at all instances of a
//! fleet. A start runs the same by itself, in another process.

use std::time::Duration;

use tokio::time::timeout;

use super::error::{CommandError, Exit, unavailable};
use super::exchange::Exchange;
use super::fleet::ALONE;
use super::output::print;
use super::runtime;
use crate::config::Config;
use crate::crypto::Vault;
use crate::fleet::{FleetCertificates, Postgres, Settled};
use crate::mode::Mode;
use crate::token::{Store, fleet_password};
use crate::transport::downstream::certificate::Made;

/// Exchanges the certificates, and prints the outcome for each.
pub(super) fn exchange(config: &Config, how: Exchange) -> Result<(), CommandError> {
    run(config, how == Exchange::Settle, async |certificates: &FleetCertificates<'_>| {
        let done = match how {
            Exchange::Push { replace } => certificates.push(replace).await,
            Exchange::Pull => certificates.pull().await,
            Exchange::Settle => certificates.settle().await,
        };
        let done = done.map_err(unavailable)?;
        let lines: Vec<String> = done.iter().filter_map(|(made, settled)| line(made, settled, how)).collect();
        print(lines.concat())
    })
}

/// Puts a certificate into the database that was renewed a moment ago, and prints what has become of it.
pub(super) fn push_renewed(config: &Config, name: &str) -> Result<(), CommandError> {
    run(config, false, async |certificates: &FleetCertificates<'_>| {
        let done = certificates.push_renewed(name).await.map_err(unavailable)?;
        // The CA is mostly the same, which is no news.
        let lines = done.iter().filter_map(|(made, settled)| line(made, settled, Exchange::Settle));
        print(lines.collect::<String>())
    })
}

/// Connects to the database, and does some work on its certificates.
fn run(
    config: &Config,
    may_migrate: bool,
    work: impl AsyncFnOnce(&FleetCertificates<'_>) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let Some(fleet) = &config.fleet else { return Err(Exit::Usage.because(ALONE)) };
    if FleetCertificates::all(config).is_empty() {
        return Err(Exit::Usage.because(OWN_FILES));
    }
    let key = Store::key(&config.state_directory, config.store_key.as_deref(), Mode::Apply);
    let vault = Vault::new(&key.map_err(unavailable)?).map_err(unavailable)?;
    let database = Postgres::new(fleet, config, fleet_password(config).map_err(unavailable)?);
    let certificates = FleetCertificates::new(&database, &vault, config);
    let migrates = may_migrate && fleet.migrate;
    let all = async {
        if migrates {
            let done = database.migrate().await.map_err(unavailable)?;
            if done.from != Some(done.to) {
                print(format_args!("the fleet's tables have version {} now\n", done.to))?;
            }
        }
        database.connect().await.map_err(unavailable)?;
        work(&certificates).await
    };
    let done = runtime()?.block_on(async { timeout(LONGEST, all).await });
    done.unwrap_or_else(|_| Err(unavailable("the database has not answered in time")))
}

/// Prints the outcome for a certificate. A start prints only what has changed.
fn line(made: &Made, settled: &Settled, how: Exchange) -> Option<String> {
    match settled {
        Settled::Pushed => Some(format!("{made}: the fleet keeps that of this instance\n")),
        Settled::Pulled(None) => Some(format!("{made}: taken from the fleet\n")),
        Settled::Pulled(Some(before)) => {
            Some(format!("{made}: taken from the fleet; the one before is kept as {}\n", before.display()))
        }
        Settled::Same if how == Exchange::Settle => None,
        Settled::Same => Some(format!("{made}: this instance and the fleet have the same\n")),
    }
}

const OWN_FILES: &str = "the certificates are your own files: give the same files to all instances";
/// The longest time of an exchange: a start waits for it.
const LONGEST: Duration = Duration::from_secs(15);
