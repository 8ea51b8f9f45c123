//! `packetboat fleet` creates and migrates the tables that the instances of a fleet share, and shows the instances.

#[cfg(feature = "fleet")]
mod status;
#[cfg(feature = "fleet")]
mod transfer;

use super::ConfigFile;
#[cfg(feature = "fleet")]
use super::as_service::{WithoutRights, run_as_service};
use super::error::{CommandError, Exit};
#[cfg(feature = "fleet")]
use super::{error::unavailable, output::print, runtime};
#[cfg(feature = "fleet")]
use crate::fleet::Postgres;
#[cfg(feature = "fleet")]
use crate::token::{Direction, Newer, fleet_password};

#[derive(clap::Subcommand)]
pub(super) enum Action {
    /// Create packetboat's tables in the database, or bring them to the version of this packetboat
    ///
    /// Changes nothing where they have that version or a later one. Instances of the version before go on meanwhile.
    /// The user of fleet.database needs the right to create a schema, which the owner of the database has.
    Migrate,
    /// Show the database, the version of its tables, the instances, and the sessions of mailboxes that they hold
    ///
    /// Exits with 69 if the database is not reached, or if its tables do not fit this packetboat.
    Status {
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Bring the sign-ins of the state directory into the fleet
    ///
    /// For an instance that was alone before. A newer sign-in in the fleet stays.
    Import {
        /// Replace newer sign-ins as well
        #[arg(long)]
        replace: bool,
    },
    /// Bring the sign-ins of the fleet into the state directory
    ///
    /// For an instance that is to go on alone: stop all instances first, because an endpoint may take each refresh token
    /// only once. Run it on the computer of that instance: it takes the newest of the database and of the copy that this
    /// computer has. A newer sign-in in the state directory stays.
    Export {
        /// Replace newer sign-ins as well
        #[arg(long)]
        replace: bool,
    },
}

/// Does what the action says, as the service's user: the password is that user's.
#[cfg(feature = "fleet")]
pub(super) fn act(file: &ConfigFile, action: &Action) -> Result<(), CommandError> {
    let proven = file.load()?;
    let Some(fleet) = &proven.config.fleet else { return Err(Exit::Usage.because(ALONE)) };
    if run_as_service(&proven.config, WithoutRights::GoOn)? {
        return Ok(());
    }
    let password = fleet_password(&proven.config).map_err(unavailable)?;
    let database = Postgres::new(fleet, &proven.config, password);
    runtime()?.block_on(async {
        match action {
            Action::Migrate => {
                let done = database.migrate().await.map_err(unavailable)?;
                print(match done.from {
                    None => format!("created the tables, version {}, in {}\n", done.to, fleet.database),
                    Some(from) if from == done.to => format!("the tables have version {from} already\n"),
                    Some(from) => format!("migrated the tables from version {from} to version {}\n", done.to),
                })
            }
            Action::Import { replace } => transfer::run(&proven.config, Direction::Import, newer(*replace)).await,
            Action::Export { replace } => transfer::run(&proven.config, Direction::Export, newer(*replace)).await,
            Action::Status { json } => {
                database.connect().await.map_err(unavailable)?;
                let has_several = fleet.database.servers.len() > 1;
                let servers = if has_several { database.servers().await } else { Vec::new() };
                status::show(&database, (fleet, servers), *json).await
            }
        }
    })
}

#[cfg(feature = "fleet")]
fn newer(replace: bool) -> Newer {
    if replace { Newer::Replace } else { Newer::Keep }
}

/// Refuses: the configuration cannot have the section `[fleet]` either.
#[cfg(not(feature = "fleet"))]
pub(super) fn act(file: &ConfigFile, _: &Action) -> Result<(), CommandError> {
    file.load()?;
    Err(Exit::Usage.because(NOT_BUILT))
}

/// The message of each command of a fleet in a packetboat without the cargo feature.
#[cfg(not(feature = "fleet"))]
pub(super) const NOT_BUILT: &str =
    "this packetboat is built without the cargo feature fleet; take a package that has it";
#[cfg(feature = "fleet")]
pub(super) const ALONE: &str =
    "this packetboat is no instance of a fleet: the configuration has no section [fleet] with a database";
