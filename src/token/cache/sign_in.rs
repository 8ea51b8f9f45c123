//! The sign-in behind a person's token: read by one process at a time, and on disk before it is used.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tracing::{error, info};

use super::credentials::{PATIENCE, gate_of};
use super::{CachedToken, LOOK};
use crate::failure::Failure;
use crate::lifecycle::{Lifecycle, Phase, unix_time};
use crate::pool::{self, Gate, NotDone};
use crate::secret::Secret;
use crate::state;
use crate::token::access::AccessToken;
use crate::token::error::Error;
use crate::token::json::StoredSignIn;

/// The state of a sign-in, which outlives reloads.
#[derive(Default)]
pub(in crate::token) struct SignInState {
    /// Held by the task that fetches; the others find what it has fetched.
    pub(super) flight: tokio::sync::Mutex<()>,
    pub(super) pending: Mutex<Pending>,
}

/// The sign-in's changes that are newer than the disk.
#[derive(Default)]
pub(super) struct Pending {
    /// The record that is not on disk yet.
    pub(super) unsaved: Option<Unsaved>,
    /// The last failure to write it, and the time of the next try.
    pub(super) unkept: Option<(String, Instant)>,
}

/// A record that is not on disk yet, for all that is known.
#[derive(Clone)]
pub(super) struct Unsaved {
    record: StoredSignIn,
    /// Refresh tokens that the disk may hold instead: the one that was read, and those of writes that hung.
    before: Vec<Secret>,
}

impl CachedToken {
    /// Locks the sign-in: no other process spends the same refresh token meanwhile.
    pub(super) async fn exclusive(&self) -> Result<Option<File>, Error> {
        let Some(store) = self.spec.store.as_ref().map(Arc::clone) else { return Ok(None) };
        let owner = self.spec.owner.clone();
        // A gate of its own: another process that keeps this lock delays no other sign-in.
        let gate = Gate::of(&store.path(&owner).display().to_string());
        let locked = pool::STATE.run_alone(&gate, LOCK, move || store.exclusive(&owner)).await;
        locked.map_err(unanswered)?
    }

    /// Returns the sign-in as it is on disk, and the newest one, which may not be on disk yet.
    pub(super) async fn record(&self) -> Result<Option<(StoredSignIn, StoredSignIn)>, Error> {
        let Some(store) = self.spec.store.as_ref().map(Arc::clone) else { return Ok(None) };
        let owner = self.spec.owner.clone();
        let gate = gate_of(&[store.path(&owner)]);
        let read = move || Ok::<_, Error>(store.read(&owner)?.ok_or_else(|| store.why_missing(&owner)));
        let record = pool::STATE.run_alone(&gate, PATIENCE, read).await;
        let record = record.map_err(unanswered)??;
        let record = record.map_err(|why| {
            let (user, account) = self.sign_in();
            Error::SignInMissing { user: user.to_owned(), why, account: account.to_owned() }
        })?;
        let mut state = self.state();
        if state.renewed.is_none() {
            let age = Duration::from_secs(unix_time().saturating_sub(record.renewed));
            state.renewed = Instant::now().checked_sub(age);
        }
        drop(state);
        let pending = self.pending();
        let unsaved = pending.unsaved.as_ref().filter(|unsaved| unsaved.may_stand_in_for(&record));
        let newest = unsaved.map(|unsaved| unsaved.record.clone());
        drop(pending);
        let newest = newest.unwrap_or_else(|| record.clone());
        Ok(Some((record, newest)))
    }

    /// Writes the new refresh token to disk before it is used. If that fails, it is used nevertheless, because an
    /// endpoint may take each of them only once; it is written as soon as the disk takes it.
    pub(super) async fn keep(&self, kept: StoredSignIn, newest: StoredSignIn, refresh_token: Option<Secret>) {
        let renewed = unix_time();
        let refresh_token = refresh_token.unwrap_or(newest.refresh_token);
        let new = StoredSignIn { refresh_token, signed_in: newest.signed_in, renewed };
        self.pending().is_to_hold(new, kept.refresh_token);
        self.keep_unsaved().await;
    }

    /// Writes the record of somebody who has just signed in, whatever was there.
    pub(in crate::token) async fn put_sign_in(&self, record: StoredSignIn) -> Result<(), Error> {
        let store = self.spec.store.as_ref().map(Arc::clone);
        let store = store.ok_or(Error::SignIn("this identity's grant needs no sign-in"))?;
        let (owner, gate) = (self.spec.owner.clone(), gate_of(&[store.path(&self.spec.owner)]));
        pool::STATE.run_alone(&gate, DISK, move || store.put(&owner, &record)).await.map_err(unanswered)?
    }

    /// Fetches a token with the refresh token that has just been stored: it proves that this works, and devices get it
    /// from now on.
    ///
    /// # Errors
    /// The endpoint gives none.
    pub async fn access_anew(self: &Arc<Self>) -> Result<Arc<AccessToken>, Failure> {
        self.end_pause();
        self.state().renewed = None;
        self.fetch(true).await
    }

    /// Writes the record that is not on disk yet. The log names a failure once.
    pub(super) async fn keep_unsaved(&self) {
        let Some(store) = self.spec.store.as_ref().map(Arc::clone) else { return };
        let Some(unsaved) = self.pending().unsaved.clone() else { return };
        let (owner, gate) = (self.spec.owner.clone(), gate_of(&[store.path(&self.spec.owner)]));
        let Unsaved { record, before } = unsaved.clone();
        let kept = pool::STATE.run_alone(&gate, DISK, move || store.replace(&owner, &before, &record)).await;
        let kept = kept.unwrap_or_else(|why| {
            self.pending().may_hold(unsaved.record.refresh_token);
            Err(state::Error::from(why).into())
        });
        let was_told = self.pending().unkept.take();
        match kept {
            Ok(is_as_read) => {
                self.pending().unsaved = None;
                if is_as_read {
                    self.state().renewed = Some(Instant::now());
                }
                if !is_as_read {
                    info!(
                        identity = self.spec.owner.identity,
                        user = self.spec.owner.user,
                        "somebody has signed in anew"
                    );
                } else if was_told.is_some() {
                    info!(
                        identity = self.spec.owner.identity,
                        user = self.spec.owner.user,
                        "the newest refresh token is kept"
                    );
                }
            }
            Err(error) => {
                let error = error.to_string();
                let is_news = was_told.is_none_or(|(why, _)| why != error);
                let unkept = Some((error.clone(), Instant::now() + LOOK));
                self.pending().unkept = unkept;
                // The sign-in lives on with the newest token, wherever that is.
                self.state().renewed = Some(Instant::now());
                if is_news {
                    self.woken.notify_one();
                    error!(
                        identity = self.spec.owner.identity,
                        user = self.spec.owner.user,
                        "the new refresh token cannot be kept, and is used from memory until it can: {error}"
                    );
                }
            }
        }
    }
}

impl CachedToken {
    /// Returns whether a refresh token is not on disk yet, or may be under way.
    pub(in crate::token) fn is_unsettled(&self) -> bool {
        self.spec.store.is_some() && (self.pending().unsaved.is_some() || self.kept.flight.try_lock().is_err())
    }

    /// Writes the newest refresh token of an earlier configuration, as soon as the disk takes it.
    pub(in crate::token) async fn keep_until_saved(self: Arc<Self>, mut lifecycle: Lifecycle) {
        while self.is_unsettled() {
            tokio::select! {
                () = sleep(LOOK) => {}
                () = lifecycle.reached(Phase::Draining) => return,
            }
            let _flight = self.kept.flight.lock().await;
            self.keep_unsaved().await;
        }
    }
}

impl Unsaved {
    /// Returns whether this record was to replace the one that is on disk.
    fn may_stand_in_for(&self, on_disk: &StoredSignIn) -> bool {
        self.before.iter().any(|before| before.expose() == on_disk.refresh_token.expose())
    }
}

impl Pending {
    /// Takes in a record that is to replace the one that was read.
    fn is_to_hold(&mut self, record: StoredSignIn, read: Secret) {
        let mut before = self.unsaved.take().map(|unsaved| unsaved.before).unwrap_or_default();
        before.push(read);
        self.unsaved = Some(Unsaved { record, before });
    }

    /// Takes in a refresh token that a hanging write may bring to the disk later.
    fn may_hold(&mut self, refresh_token: Secret) {
        let Some(unsaved) = &mut self.unsaved else { return };
        if unsaved.before.iter().all(|before| before.expose() != refresh_token.expose()) {
            unsaved.before.push(refresh_token);
        }
        let too_many = unsaved.before.len().saturating_sub(MOST_BEFORE);
        unsaved.before.drain(..too_many);
    }
}

fn unanswered(source: NotDone) -> Error {
    Error::NotRead { files: "the state directory".to_owned(), source }
}

/// Longest wait for the lock: another process holds it for as long as its request takes.
const LOCK: Duration = Duration::from_secs(20);
/// Longest wait for the disk; the token is used from memory meanwhile.
const DISK: Duration = Duration::from_secs(10);
/// Most refresh tokens that the disk may hold, however long it hangs.
const MOST_BEFORE: usize = 64;
