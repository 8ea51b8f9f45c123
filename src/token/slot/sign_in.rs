//! The sign-in behind a person's token: read by one process at a time, and on disk before it is used.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tracing::{error, info};

use super::{Setback, Slot, refused};
use crate::lifecycle::since_1970;
use crate::secret::Secret;
use crate::token::wire::Record;

impl Slot {
    /// No other process spends the same refresh token meanwhile.
    pub(super) async fn exclusive(&self) -> Result<Option<File>, Setback> {
        let Some(store) = self.store.as_ref().map(Arc::clone) else { return Ok(None) };
        let owner = self.owner.clone();
        let locked = spawn_blocking(move || store.exclusive(&owner)).await;
        locked.unwrap_or_else(|_| Err("packetboat is going down".to_owned())).map(Some).map_err(refused)
    }

    pub(super) fn record(&self) -> Result<Option<Record>, Setback> {
        let Some(store) = &self.store else { return Ok(None) };
        let record = store.read(&self.owner).map_err(refused)?;
        let Some(record) = record else {
            let (user, account) = self.sign_in();
            return Err(refused(format!("{user} has not signed in yet: packetboat login {account}")));
        };
        let mut state = self.state();
        if state.renewed.is_none() {
            let age = Duration::from_secs(since_1970().saturating_sub(record.renewed));
            state.renewed = Instant::now().checked_sub(age);
        }
        drop(state);
        Ok(Some(record))
    }

    /// The new refresh token is on disk before it is used. If it cannot be, the old one is used again.
    pub(super) async fn keep(&self, old: Record, refresh_token: Option<Secret>) {
        let renewed = since_1970();
        let refresh_token = refresh_token.unwrap_or_else(|| old.refresh_token.clone());
        let new = Record { refresh_token, signed_in: old.signed_in, renewed };
        self.state().unsaved = Some((old, new));
        self.keep_unsaved().await;
    }

    /// Brings to the disk what it has not taken yet.
    pub(super) async fn keep_unsaved(&self) {
        let Some(store) = self.store.as_ref().map(Arc::clone) else { return };
        let Some((old, new)) = self.state().unsaved.take() else { return };
        let owner = self.owner.clone();
        let (before, after) = (old.clone(), new.clone());
        let kept = spawn_blocking(move || store.replace(&owner, Some(&before), &after)).await;
        match kept.unwrap_or_else(|_| Err("packetboat is going down".to_owned())) {
            Ok(true) => self.state().renewed = Some(Instant::now()),
            Ok(false) => info!(identity = self.owner.identity, user = self.owner.user, "somebody has signed in anew"),
            Err(error) => {
                self.state().unsaved = Some((old, new));
                error!(
                    identity = self.owner.identity,
                    user = self.owner.user,
                    "the new refresh token cannot be kept, and the old one is used until it can: {error}"
                );
            }
        }
    }
}
