//! `packetboat fleet import` and `export`: sign-ins go from the state directory into the fleet, and back.

use crate::cli::error::{CommandError, unavailable};
use crate::cli::output::print;
use crate::config::Config;
use crate::fleet::lease::{LastRenewal, Provenance};
use crate::fleet::{Fleet, check_schema};
use crate::token::{Direction, Fate, Newer, fleet_password, transfer};

/// Transfers the sign-ins of all accounts, and prints the fate of each.
pub(super) async fn run(config: &Config, direction: Direction, newer: Newer) -> Result<(), CommandError> {
    let fleet = Fleet::of(config, fleet_password(config).map_err(unavailable)?).map_err(unavailable)?;
    let Some(fleet) = fleet else { return Err(unavailable(super::ALONE)) };
    let facts = fleet.records().database().await.map_err(unavailable)?;
    check_schema(facts.schema).map_err(unavailable)?;
    let transferred = transfer(config, &fleet, direction, newer).await.map_err(unavailable)?;
    if transferred.is_empty() {
        return print("no account has an identity that a person signs in for: there is nothing to transfer\n");
    }
    let (source, destination) = match direction {
        Direction::Import => ("the state directory", "the fleet"),
        Direction::Export => ("the fleet", "the state directory"),
    };
    for one in &transferred {
        let fate = match one.fate {
            Fate::Done => format!("{destination} has this sign-in now"),
            Fate::Same => format!("{destination} had this sign-in already"),
            Fate::KeptNewer => {
                format!("{destination} has a newer sign-in, which stays; --replace puts the one of {source} there")
            }
            Fate::Missing => format!("{source} has no sign-in"),
            Fate::SignedOut => {
                format!("the person has signed out of the fleet; --replace puts the sign-in of {source} there")
            }
        };
        print(format_args!("{} with identity {}: {fate}\n", one.user, one.identity))?;
        if let Some((provenance, renewal)) = one.found {
            print(provenance_of(provenance, config))?;
            print(advice_on(renewal))?;
        }
    }
    if direction == Direction::Import && transferred.iter().any(|one| one.fate == Fate::Done) {
        print("The state directory keeps its copies, which a fleet does not use.\n")?;
    }
    if direction == Direction::Export {
        print(OTHER_DISKS)?;
    }
    Ok(())
}

/// Says where an exported sign-in comes from, if that is not the row of the database.
fn provenance_of(provenance: Provenance, config: &Config) -> String {
    match provenance {
        Provenance::Database => String::new(),
        Provenance::Candidate => "  This is an answer of the token endpoint that came after its lease had ended. The \
                                  database has it beside an earlier refresh token, which is spent.\n"
            .to_owned(),
        Provenance::Disk => format!(
            "  This is the copy on this computer, in {}. The database has an earlier refresh token, or none.\n",
            config.state_directory.join("fleet").display()
        ),
    }
}

/// Advice where a newer refresh token may be elsewhere.
fn advice_on(renewal: LastRenewal) -> &'static str {
    match renewal {
        LastRenewal::Known => "",
        LastRenewal::UnderWay => {
            "  An instance renews this sign-in now. Stop all instances, and run packetboat fleet export again.\n"
        }
        LastRenewal::Unknown => {
            "  An instance has set out to spend this refresh token, and has not brought the answer to the database. \
             packetboat fleet status names the instance. Start it once while the database is reachable, stop it, and \
             run packetboat fleet export again. Without its answer, the person may have to sign in again.\n"
        }
    }
}

/// The limits of an export, for the operator.
const OTHER_DISKS: &str = "This computer sees the database and its own disk. An answer of the token endpoint that another instance has on its \
     disk alone is not in this export. If another instance has ended while the database was away, start it once while \
     the database is reachable, until its metric packetboat_fleet_sign_ins_success is 1. Then stop it, and run \
     packetboat fleet export again.\n";
