//! Sign-ins go from the state directory of one computer into the fleet, and back.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::Error;
use super::json::StoredSignIn;
use super::keeping::{FoundSignIn, InDirectory, InFleet, Instance, Keeper, Subject};
use super::store::{Owner, Store};
use crate::config::Config;
use crate::fleet::Fleet;
use crate::fleet::lease::{LastRenewal, Provenance};
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
    /// The store of the fleet that it comes from, and its last renewal there; none where the fleet is not the source, or
    /// does not have it.
    pub found: Option<(Provenance, LastRenewal)>,
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

/// Brings the sign-ins of all accounts to the other store. The source keeps its own. An export takes the newest of the
/// database and of this computer's copy, which may have an answer of the token endpoint that the database lacks.
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
        let (fate, found) = match direction {
            // What was there before the person signed out does not come back.
            Direction::Import if newer == Newer::Keep && in_fleet.has_signed_out().await? => (Fate::SignedOut, None),
            Direction::Import => (import(&in_directory, &in_fleet, newer).await?, None),
            Direction::Export => export(&in_fleet, &in_directory, newer).await?,
        };
        transferred.push(Transferred { identity: account.identity.clone(), user, fate, found });
    }
    Ok(transferred)
}

async fn import(from: &InDirectory, to: &InFleet, newer: Newer) -> Result<Fate, Error> {
    let Some(record) = from.read().await? else { return Ok(Fate::Missing) };
    let there = to.newest().await;
    // What this computer's copy alone has is not in the fleet yet.
    let is_unsent = matches!(&there, Ok(Some(there)) if there.provenance == Provenance::Disk);
    match fate(there.map(|there| there.map(|there| there.record)), &record, newer)? {
        Some(Fate::Same) if is_unsent => {}
        Some(fate) => return Ok(fate),
        None => {}
    }
    to.put(record).await?;
    Ok(Fate::Done)
}

/// Takes the newest sign-in of the fleet's database and of this computer's copy.
async fn export(
    from: &InFleet,
    to: &InDirectory,
    newer: Newer,
) -> Result<(Fate, Option<(Provenance, LastRenewal)>), Error> {
    let Some(FoundSignIn { record, provenance, renewal }) = from.newest().await? else {
        return Ok((Fate::Missing, None));
    };
    let found = Some((provenance, renewal));
    if let Some(fate) = fate(to.read().await, &record, newer)? {
        return Ok((fate, found));
    }
    to.put(record).await?;
    Ok((Fate::Done, found))
}

/// The fate of a record where the destination has this; none where it is to be put there.
fn fate(
    there: Result<Option<StoredSignIn>, Error>,
    record: &StoredSignIn,
    newer: Newer,
) -> Result<Option<Fate>, Error> {
    match there {
        Ok(Some(there)) if there.refresh_token.expose() == record.refresh_token.expose() => Ok(Some(Fate::Same)),
        Ok(Some(there)) if there.renewed >= record.renewed && newer == Newer::Keep => Ok(Some(Fate::KeptNewer)),
        Ok(_) => Ok(None),
        // A record that does not open is no sign-in, and is replaced where that is wanted.
        Err(Error::Store(_)) if newer == Newer::Replace => Ok(None),
        Err(error) => Err(error),
    }
}
