//! The sign-in of one computer alone, from before it was an instance of a fleet. A fleet does not use it, and a person who
//! signs out of the fleet leaves no refresh token there either: a later import, or an instance that goes on alone, would
//! bring the sign-in back.

use std::sync::Arc;

use tracing::{error, info};

use super::{DISK, InFleet};
use crate::fleet::lease::is_signed_out;
use crate::mode::Mode;
use crate::pool::{self, Gate};
use crate::state;
use crate::token::error::Error;
use crate::token::keeping::Subject;
use crate::token::store::{Owner, Store};

/// The sign-in of this computer alone.
pub(super) struct Earlier {
    store: Arc<Store>,
    owner: Owner,
    /// The sign-in was there when the process began.
    is_there: bool,
}

impl Earlier {
    pub(super) fn new(store: &Arc<Store>, owner: &Owner) -> Self {
        let is_there = matches!(store.read(owner), Ok(Some(_)));
        Self { store: Arc::clone(store), owner: owner.clone(), is_there }
    }

    /// Returns whether it was there when the process began.
    pub(super) fn is_there(&self) -> bool {
        self.is_there
    }

    /// Removes it, because the person has signed out of the fleet.
    pub(super) async fn remove(&self, subject: &Subject) {
        // A check changes nothing.
        if self.store.mode() == Mode::DryRun {
            return;
        }
        let (store, owner, path) = (Arc::clone(&self.store), self.owner.clone(), self.store.path(&self.owner));
        let gate = Gate::of(&store.directory().display().to_string());
        let removed = pool::STATE.run_alone(&gate, DISK, move || store.remove(&owner)).await;
        let Subject { identity, user, .. } = subject;
        match removed.unwrap_or_else(|why| Err(state::Error::from(why).into())) {
            Ok(true) => info!(identity, user, "removed {}: the person has signed out of the fleet", path.display()),
            Ok(false) => {}
            Err(error) => error!(
                identity,
                user,
                "the person has signed out of the fleet, and a refresh token from before stays in {}: {error}; remove the \
                 file",
                path.display()
            ),
        }
    }
}

impl InFleet {
    /// Returns whether the person has signed out of the fleet. One who has never signed in has not.
    ///
    /// # Errors
    /// The database does not answer.
    pub(in crate::token) async fn has_signed_out(&self) -> Result<bool, Error> {
        let record = self.sign_in.read().await.map_err(Error::Fleet)?;
        Ok(record.flatten().is_some_and(|record| is_signed_out(&record)))
    }

    /// Returns whether the database has a sign-in that another key has sealed.
    ///
    /// # Errors
    /// The database does not answer.
    pub(in crate::token) async fn has_other_key(&self) -> Result<bool, Error> {
        Ok(matches!(self.sign_in.read().await.map_err(Error::Fleet)?, Some(None)))
    }
}
