//! A sign-in in the state directory: read by one process at a time, and on disk before it is used.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use tracing::{error, info};

use super::{AGAIN, Asking, Keeper, Look, Mark, StoreKind, Subject, Task};
use crate::lifecycle::unix_time;
use crate::pool::{self, Closing, Gate, NotDone};
use crate::secret::Secret;
use crate::state;
use crate::token::access::AccessToken;
use crate::token::error::Error;
use crate::token::json::StoredSignIn;
use crate::token::store::{Owner, Store};

/// A sign-in in the state directory.
pub(in crate::token) struct InDirectory {
    store: Arc<Store>,
    owner: Owner,
    subject: Subject,
    state: Mutex<State>,
}

/// The changes that are newer than the disk.
#[derive(Default)]
struct State {
    /// The record that is not on disk yet.
    unsaved: Option<Unsaved>,
    /// The last failure to write it, and the time of the next try.
    unkept: Option<(String, Instant)>,
    /// The time when the refresh token came.
    renewed: Option<Instant>,
}

/// A record that is not on disk yet, for all that is known.
#[derive(Clone)]
struct Unsaved {
    record: StoredSignIn,
    /// Refresh tokens that the disk may hold instead: the one that was read, and those of writes that hung.
    before: Vec<Secret>,
}

impl Keeper for InDirectory {
    fn renew<'a>(&'a self, asking: &'a dyn Asking) -> Task<'a, Result<(), Error>> {
        Box::pin(async move {
            let _exclusive = self.exclusive().await?;
            self.write_unsaved().await;
            let (kept, newest) = self.record().await?;
            let mut token_response = asking.ask(newest.refresh_token.clone()).await?;
            self.keep(kept, newest, token_response.refresh_token.take()).await;
            asking.take(AccessToken::new(token_response));
            Ok(())
        })
    }

    /// Writes the record of somebody who has just signed in, whatever was there.
    fn put(&self, record: StoredSignIn) -> Task<'_, Result<(), Error>> {
        Box::pin(async move {
            self.state().renewed = None;
            let (store, owner, gate) = (Arc::clone(&self.store), self.owner.clone(), self.gate());
            pool::STATE.run_alone(&gate, DISK, move || store.put(&owner, &record)).await.map_err(unanswered)?
        })
    }

    fn remove(&self) -> Task<'_, Result<bool, Error>> {
        Box::pin(async move {
            self.state().renewed = None;
            let (store, owner, gate) = (Arc::clone(&self.store), self.owner.clone(), self.gate());
            pool::STATE.run_alone(&gate, DISK, move || store.remove(&owner)).await.map_err(unanswered)?
        })
    }

    fn read(&self) -> Task<'_, Result<Option<StoredSignIn>, Error>> {
        Box::pin(async move {
            let (store, owner) = (Arc::clone(&self.store), self.owner.clone());
            pool::STATE.run_alone(&self.gate(), PATIENCE, move || store.read(&owner)).await.map_err(unanswered)?
        })
    }

    fn mark(&self, _: Look) -> Task<'_, Option<Mark>> {
        Box::pin(async move {
            let path = self.store.path(&self.owner);
            let stamp = pool::STATE.run_alone(&self.gate(), PATIENCE, move || state::stamp(&path)).await;
            stamp.ok().map(Mark::File)
        })
    }

    fn look<'a>(&'a self, _: &'a dyn Asking) -> Task<'a, ()> {
        Box::pin(async {})
    }

    /// The renewal finds no file then.
    fn is_signed_out(&self) -> bool {
        false
    }

    fn returned(&self) -> Task<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn keep_unsaved<'a>(&'a self, _: &'a dyn Asking) -> Task<'a, ()> {
        Box::pin(self.write_unsaved())
    }

    fn again(&self) -> Option<Instant> {
        self.state().unkept.as_ref().map(|(_, again)| *again)
    }

    fn unkept(&self) -> Option<String> {
        self.state().unkept.as_ref().map(|(why, _)| why.clone())
    }

    fn is_unsaved(&self) -> bool {
        self.state().unsaved.is_some()
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    fn renewed(&self) -> Option<Instant> {
        self.state().renewed
    }

    fn end(&self) {}

    fn kind(&self) -> StoreKind {
        StoreKind::Directory
    }
}

impl InDirectory {
    pub(in crate::token) fn new(store: Arc<Store>, owner: Owner, subject: Subject) -> Self {
        Self { store, owner, subject, state: Mutex::default() }
    }

    /// Locks the sign-in: no other process spends the same refresh token meanwhile.
    async fn exclusive(&self) -> Result<Closing<Option<File>>, Error> {
        let (store, owner) = (Arc::clone(&self.store), self.owner.clone());
        // A gate of its own: another process that keeps this lock delays no other sign-in.
        let gate = Gate::of(&store.path(&owner).display().to_string());
        let locked = pool::STATE.run_alone(&gate, LOCK, move || store.exclusive(&owner)).await;
        Ok(Closing::on(&pool::STATE, locked.map_err(unanswered)??))
    }

    /// Returns the sign-in as it is on disk, and the newest one, which may not be on disk yet.
    async fn record(&self) -> Result<(StoredSignIn, StoredSignIn), Error> {
        let (store, owner) = (Arc::clone(&self.store), self.owner.clone());
        let read = move || Ok::<_, Error>(store.read(&owner)?.ok_or_else(|| store.why_missing(&owner)));
        let record = pool::STATE.run_alone(&self.gate(), PATIENCE, read).await.map_err(unanswered)??;
        let record = record.map_err(|why| self.subject.missing(why))?;
        let mut state = self.state();
        if state.renewed.is_none() {
            let age = Duration::from_secs(unix_time().saturating_sub(record.renewed));
            state.renewed = Instant::now().checked_sub(age);
        }
        let unsaved = state.unsaved.as_ref().filter(|unsaved| unsaved.may_stand_in_for(&record));
        let newest = unsaved.map_or_else(|| record.clone(), |unsaved| unsaved.record.clone());
        Ok((record, newest))
    }

    /// Writes the new refresh token to disk before it is used. If that fails, it is used nevertheless, because an
    /// endpoint may take each of them only once; it is written as soon as the disk takes it.
    async fn keep(&self, kept: StoredSignIn, newest: StoredSignIn, refresh_token: Option<Secret>) {
        let renewed = unix_time();
        let refresh_token = refresh_token.unwrap_or(newest.refresh_token);
        let new = StoredSignIn { refresh_token, signed_in: newest.signed_in, renewed };
        self.state().is_to_hold(new, kept.refresh_token);
        self.write_unsaved().await;
    }

    /// Writes the record that is not on disk yet. The log names a failure once.
    async fn write_unsaved(&self) {
        let Some(unsaved) = self.state().unsaved.clone() else { return };
        let (store, owner) = (Arc::clone(&self.store), self.owner.clone());
        let Unsaved { record, before } = unsaved.clone();
        let kept = pool::STATE.run_alone(&self.gate(), DISK, move || store.replace(&owner, &before, &record)).await;
        let kept = kept.unwrap_or_else(|why| {
            self.state().may_hold(unsaved.record.refresh_token);
            Err(state::Error::from(why).into())
        });
        let Subject { identity, user, .. } = &self.subject;
        let was_told = self.state().unkept.take();
        match kept {
            Ok(is_as_read) => {
                self.state().unsaved = None;
                if is_as_read {
                    self.state().renewed = Some(Instant::now());
                }
                if !is_as_read {
                    info!(identity, user, "somebody has signed in anew");
                } else if was_told.is_some() {
                    info!(identity, user, "the newest refresh token is kept");
                }
            }
            Err(error) => {
                let error = error.to_string();
                let is_news = was_told.is_none_or(|(why, _)| why != error);
                let mut state = self.state();
                state.unkept = Some((error.clone(), Instant::now() + AGAIN));
                // The sign-in lives on with the newest token, wherever that is.
                state.renewed = Some(Instant::now());
                drop(state);
                if is_news {
                    error!(
                        identity,
                        user, "the new refresh token cannot be kept, and is used from memory until it can: {error}"
                    );
                }
            }
        }
    }

    /// The gate of the state directory's files: one that hangs holds one thread only.
    fn gate(&self) -> Gate {
        Gate::of(&self.store.directory().display().to_string())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Unsaved {
    /// Returns whether this record was to replace the one that is on disk.
    fn may_stand_in_for(&self, on_disk: &StoredSignIn) -> bool {
        self.before.iter().any(|before| before.expose() == on_disk.refresh_token.expose())
    }
}

impl State {
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
/// Longest wait for a file that is read.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most refresh tokens that the disk may hold, however long it hangs.
const MOST_BEFORE: usize = 64;
