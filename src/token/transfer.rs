//! Sign-ins go from the state directory of one computer into the fleet, and back.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::Error;
use super::json::StoredSignIn;
use super::keeping::{InDirectory, InFleet, Instance, Keeper, Subject};
use super::store::{Owner, Store};
use crate::config::Config;
use crate::fleet::Fleet;
use crate::mode::Mode;

/// The direction of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the state directory into the fleet.
    Import,
    /// From the fleet into the state directory.
    Export,
}

/// The treatment of a newer sign-in at the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newer {
    /// It stays.
    Keep,
    /// It is replaced as well.
    Replace,
}

/// The fate of one sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// The name of the identity.
    pub identity: String,
    /// The person.
    pub user: String,
    /// Its fate.
    pub fate: Fate,
}

/// The fate of a sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The destination has it now.
    Done,
    /// The destination had the same one.
    Same,
    /// The destination has a newer one, which stays.
    KeptNewer,
    /// The source does not have it.
    Missing,
    /// The person has signed out of the fleet, and stays so.
    SignedOut,
}

/// Brings the sign-ins of all accounts to the other store. The source keeps its own.
///
/// # Errors
/// A store does not answer, or a sign-in was sealed with another key. The sign-ins before it are transferred.
pub async fn transfer(
    config: &Config,
    fleet: &Fleet,
    direction: Direction,
    newer: Newer,
) -> Result<Vec<Transferred>, Error> {
    let store = Store::open(&config.state_directory, config.store_key.as_deref(), Mode::Apply)?;
    let store = Arc::new(store);
    let (mut seen, mut transferred) = (BTreeSet::new(), Vec::new());
    for (name, account) in &config.accounts {
        let Some(identity) = config.identities.get(&account.identity).filter(|one| one.grant.needs_login()) else {
            continue;
        };
        let owner = Owner::new(&account.identity, &account.user.to_lowercase(), identity);
        if !seen.insert(owner.clone()) {
            continue;
        }
        let user = account.user.clone();
        let subject = Subject { identity: account.identity.clone(), user: user.clone(), account: name.clone() };
        let instance = Instance { fleet, state_directory: &config.state_directory };
        let in_fleet = InFleet::open(&instance, &store, &owner, subject.clone())?;
        let in_directory = InDirectory::new(Arc::clone(&store), owner, subject);
        let fate = match direction {
            // What was there before the person signed out does not come back.
            Direction::Import if newer == Newer::Keep && in_fleet.has_signed_out().await? => Fate::SignedOut,
            Direction::Import => bring(&in_directory, &in_fleet, newer).await?,
            Direction::Export => bring(&in_fleet, &in_directory, newer).await?,
        };
        transferred.push(Transferred { identity: account.identity.clone(), user, fate });
    }
    Ok(transferred)
}

async fn bring(from: &dyn Keeper, to: &dyn Keeper, newer: Newer) -> Result<Fate, Error> {
    let Some(record) = from.read().await? else { return Ok(Fate::Missing) };
    match to.read().await {
        Ok(Some(there)) if is_same(&there, &record) => return Ok(Fate::Same),
        Ok(Some(there)) if there.renewed >= record.renewed && newer == Newer::Keep => return Ok(Fate::KeptNewer),
        Ok(_) => {}
        // A record that does not open is no sign-in, and is replaced where that is wanted.
        Err(Error::Store(_)) if newer == Newer::Replace => {}
        Err(error) => return Err(error),
    }
    to.put(record).await?;
    Ok(Fate::Done)
}

fn is_same(one: &StoredSignIn, other: &StoredSignIn) -> bool {
    one.refresh_token.expose() == other.refresh_token.expose()
}
