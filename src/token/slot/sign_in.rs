//! The sign-in behind a person's token: read by one process at a time, and on disk before it is used.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info};

use super::credentials::{PATIENCE, unavailable};
use super::{LOOK, Pending, Setback, Slot, refused};
use crate::lifecycle::since_1970;
use crate::pool;
use crate::secret::Secret;
use crate::token::wire::Record;

impl Slot {
    /// No other process spends the same refresh token meanwhile.
    pub(super) async fn exclusive(&self) -> Result<Option<File>, Setback> {
        let Some(store) = self.store.as_ref().map(Arc::clone) else { return Ok(None) };
        let owner = self.owner.clone();
        let locked = pool::STATE
            .run(move || store.exclusive(&owner))
            .await
            .map_err(|why| unavailable("the state directory", why))?;
        locked.map(Some).map_err(refused)
    }

    /// The sign-in as it is on disk, and as it is by now: newer, where the disk has not taken what came.
    pub(super) async fn record(&self) -> Result<Option<(Record, Record)>, Setback> {
        let Some(store) = self.store.as_ref().map(Arc::clone) else { return Ok(None) };
        let owner = self.owner.clone();
        let record = pool::STATE.run_within(PATIENCE, move || store.read(&owner)).await;
        let record = record.map_err(|why| unavailable("the state directory", why))?.map_err(refused)?;
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
        let is_as_kept = |kept: &Record| kept.refresh_token.expose() == record.refresh_token.expose();
        let pending = self.pending();
        let newest = pending.unsaved.as_ref().filter(|(kept, _)| is_as_kept(kept)).map(|(_, newest)| newest.clone());
        drop(pending);
        let newest = newest.unwrap_or_else(|| record.clone());
        Ok(Some((record, newest)))
    }

    /// The new refresh token is on disk before it is used. If it cannot be, it is used nevertheless, because an endpoint
    /// may take each of them only once; and brought to the disk as soon as that takes it.
    pub(super) async fn keep(&self, kept: Record, newest: Record, refresh_token: Option<Secret>) {
        let renewed = since_1970();
        let refresh_token = refresh_token.unwrap_or(newest.refresh_token);
        let new = Record { refresh_token, signed_in: newest.signed_in, renewed };
        self.pending().unsaved = Some((kept, new));
        self.keep_unsaved().await;
    }

    /// Brings to the disk what it has not taken yet. What keeps it from that is told once.
    pub(super) async fn keep_unsaved(&self) {
        let Some(store) = self.store.as_ref().map(Arc::clone) else { return };
        let Some((old, new)) = self.pending().unsaved.take() else { return };
        let owner = self.owner.clone();
        let (before, after) = (old.clone(), new.clone());
        let kept = pool::STATE.run(move || store.replace(&owner, Some(&before), &after)).await;
        let kept = kept.unwrap_or_else(|why| Err(format!("the state directory: {why}")));
        let was_told = self.pending().unkept.take();
        match kept {
            Ok(is_as_read) => {
                if is_as_read {
                    self.state().renewed = Some(Instant::now());
                }
                if !is_as_read {
                    info!(identity = self.owner.identity, user = self.owner.user, "somebody has signed in anew");
                } else if was_told.is_some() {
                    info!(identity = self.owner.identity, user = self.owner.user, "the newest refresh token is kept");
                }
            }
            Err(error) => {
                let is_news = was_told.is_none_or(|(why, _)| why != error);
                let unkept = Some((error.clone(), Instant::now() + LOOK));
                *self.pending() = Pending { unsaved: Some((old, new)), unkept };
                // The sign-in lives on with the newest token, wherever that is.
                self.state().renewed = Some(Instant::now());
                if is_news {
                    self.woken.notify_one();
                    error!(
                        identity = self.owner.identity,
                        user = self.owner.user,
                        "the new refresh token cannot be kept, and is used from memory until it can: {error}"
                    );
                }
            }
        }
    }
}
