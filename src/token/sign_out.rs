//! A person signs out: no refresh token of the sign-in stays, neither on this computer nor in the fleet.

use std::sync::Arc;

use super::error::Error;
use super::keeping::{InDirectory, InFleet, Instance, Keeper, Subject};
use super::store::{Owner, Store};
use crate::config::{Account, Config, Identity};
use crate::fleet::Fleet;
use crate::mode::Mode;

/// The account whose person signs out.
pub struct SigningOut<'a> {
    /// The name of the account.
    pub name: &'a str,
    /// The account.
    pub account: &'a Account,
    /// The identity of the account, whose grant needs a sign-in.
    pub identity: &'a Identity,
}

/// The state before the person signed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignedOut {
    /// There was a sign-in.
    pub was_there: bool,
    /// The sign-in in the fleet's database was sealed with another key than that of this computer.
    pub had_other_key: bool,
}

/// Removes the sign-in of an account's person: from the fleet, where there is one, and from the state directory.
///
/// # Errors
/// A store does not answer, or its files cannot be changed.
pub async fn sign_out(config: &Config, fleet: Option<&Fleet>, of: &SigningOut<'_>) -> Result<SignedOut, Error> {
    let store = Arc::new(Store::open(&config.state_directory, config.store_key.as_deref(), Mode::Apply)?);
    let SigningOut { name, account, identity } = of;
    let owner = Owner::new(&account.identity, &account.user.to_lowercase(), identity);
    let subject =
        Subject { identity: account.identity.clone(), user: account.user.clone(), account: (*name).to_owned() };
    let mut signed_out = SignedOut::default();
    if let Some(fleet) = fleet {
        let instance = Instance { fleet, state_directory: &config.state_directory };
        let in_fleet = InFleet::open(&instance, &store, &owner, subject.clone())?;
        signed_out.had_other_key = in_fleet.has_other_key().await?;
        signed_out.was_there = in_fleet.remove().await?;
    }
    signed_out.was_there |= InDirectory::new(store, owner, subject).remove().await?;
    Ok(signed_out)
}
