//! `packetboat fleet import` and `export`: sign-ins go from the state directory into the fleet, and back.

use crate::cli::error::{CommandError, unavailable};
use crate::cli::output::print;
use crate::config::Config;
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
    }
    if direction == Direction::Import && transferred.iter().any(|one| one.fate == Fate::Done) {
        print("The state directory keeps its copies, which a fleet does not use.\n")?;
    }
    Ok(())
}
