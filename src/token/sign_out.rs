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

/// Removes the sign-in of an account's person: from the fleet, where there is one, and from the state directory. Returns
/// whether there was one.
///
/// # Errors
/// A store does not answer, or its files cannot be changed.
pub async fn sign_out(config: &Config, fleet: Option<&Fleet>, of: &SigningOut<'_>) -> Result<bool, Error> {
    let store = Arc::new(Store::open(&config.state_directory, config.store_key.as_deref(), Mode::Apply)?);
    let SigningOut { name, account, identity } = of;
    let owner = Owner::new(&account.identity, &account.user.to_lowercase(), identity);
    let subject =
        Subject { identity: account.identity.clone(), user: account.user.clone(), account: (*name).to_owned() };
    let mut was_there = false;
    if let Some(fleet) = fleet {
        let instance = Instance { fleet, state_directory: &config.state_directory };
        was_there |= InFleet::open(&instance, &store, &owner, subject.clone())?.remove().await?;
    }
    was_there |= InDirectory::new(store, owner, subject).remove().await?;
    Ok(was_there)
}
