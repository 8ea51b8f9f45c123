//! The renewal of a person's sign-in by lease: of all instances one spends the refresh token, and the others take the
//! access token that it gets.
//!
//! ```text
//! read ──> newer than ours, and fresh: take it                       (one query)
//!   │ └──> behind ours, or ours is not there yet: deliver ours, read again
//!   └────> begin ──> no lease: look again each second
//!             └────> ask the endpoint ──> answer: save it on this disk, take it, commit ──> fenced: deliver as candidate
//!                                   └───> refusal: try the candidates, then note a pause for all
//! ```
//!
//! The protocol has no socket, no file and no clock but tokio's: records come by [`SignInRecords`], endpoint and disk by
//! [`Holder`]. An instance may be killed or stopped at any step:
//!
//! | end | effect |
//! |---|---|
//! | before the endpoint has the request | the lease ends, and the next holder spends the same refresh token |
//! | between the answer and the disk | the next holder spends the same refresh token again; a strict endpoint refuses it |
//! | between the disk and the commit | the next start delivers what the disk has |
//! | frozen beyond the lease | the commit is fenced; the answer becomes a candidate, which is tried before anybody is told to sign in |
//! | a failover loses the commit, or a backup is restored | an instance that knows a newer state puts it there again; at a strict endpoint the others wait for that |
//!
//! A person who signs out leaves an empty record with the next generation. Instances learn it like any other state, so
//! that no copy brings an earlier refresh token back.

mod asking;
mod delivery;
mod newest;
mod sealing;
mod settling;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::error::Error;
use super::records::{Lease, PATIENCE, Renewal, SignIn, SignInKey, SignInRecords};
use crate::crypto::Vault;
use crate::secret::Secret;
use asking::Tried;
pub use newest::{LastRenewal, Newest, Provenance};
use settling::KnownOrigin;

/// The sign-in of a person as one instance of the fleet has it. One task at a time renews it.
pub struct LeasedSignIn {
    records: Arc<dyn SignInRecords>,
    /// The id of the instance.
    holder: String,
    key: SignInKey,
    vault: Arc<Vault>,
    known: Mutex<Option<Known>>,
    origin: Mutex<Option<KnownOrigin>>,
}

/// The newest state of the sign-in that the instance knows. The local disk has it as well.
#[derive(Clone)]
pub struct Known {
    /// The number of the refresh token.
    pub generation: i64,
    /// The record with the refresh token; empty where the person has signed out.
    pub record: Secret,
    /// The access token that came with it.
    pub access: Option<Access>,
    /// The base of a state that the database may not have yet.
    pub unsent: Option<Base>,
}

/// The state that a newer one is to replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// The number of the refresh token that was spent.
    pub generation: i64,
    /// The number of the lease under which it was spent; none where the database was away.
    pub epoch: Option<i64>,
}

/// An access token.
#[derive(Clone)]
pub struct Access {
    /// The token.
    pub token: Secret,
    /// Its whole life.
    pub life: Duration,
    /// Its end.
    pub until: Instant,
}

/// The answer of the token endpoint.
pub struct Granted {
    /// The record with the new refresh token.
    pub record: Secret,
    /// The access token.
    pub access: Access,
}

/// A refusal of the token endpoint, or its silence.
pub struct Denied<E> {
    /// The reason, for the caller.
    pub error: E,
    /// The reason in words, for the operators of all instances.
    pub trouble: String,
    /// The time for which no instance shall ask again, if the endpoint has answered.
    pub pause: Duration,
    /// The subject of the refusal.
    pub cause: Cause,
}

/// The subject of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There was no answer: this instance does not reach the endpoint, and others may. The endpoint may have the
    /// request.
    Silence,
    /// The endpoint refuses everybody for now, or the application.
    Endpoint,
    /// The endpoint does not take this refresh token. Another one may be good.
    RefreshToken,
}

/// The instance's own means: token endpoint, disk, and the devices that use the access token.
pub trait Holder: Sync {
    /// The reason for a refusal.
    type Error: Send;

    /// Asks the token endpoint with the refresh token of this record, for [`ASKING`] at most.
    fn ask(&self, record: &Secret) -> impl Future<Output = Result<Granted, Denied<Self::Error>>> + Send;

    /// Writes the newest state to the local disk, and returns once it is there, or once that has failed.
    fn save(&self, known: Known) -> impl Future<Output = ()> + Send;

    /// Uses this access token from now on.
    fn take(&self, access: &Access);

    /// Returns whether the endpoint takes each refresh token once.
    fn is_strict(&self) -> bool;

    /// Returns once the instance ends: nobody waits for another holder then.
    fn ending(&self) -> impl Future<Output = ()> + Send;
}

/// A reason why there is no newer access token.
#[derive(Debug)]
pub enum NotRenewed<E> {
    /// The sign-in is missing: the person has not signed in.
    Missing,
    /// The person has signed out.
    SignedOut,
    /// Another instance holds the lease, and has not come to an end; or the database came back a moment ago, and other
    /// instances may bring a newer refresh token.
    Held,
    /// An instance was refused, and nobody asks again before this time is over.
    Paused {
        /// The time that is left.
        left: Duration,
        /// The reason, as that instance has noted it.
        trouble: String,
    },
    /// The token endpoint refuses.
    Denied(E),
    /// The record in the database was sealed with another key.
    OtherKey,
    /// The database does not answer as it should.
    Database(Error),
}

impl<E> From<Error> for NotRenewed<E> {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl LeasedSignIn {
    /// The sign-in with this key, for the instance with this id; what the local disk has of it comes along.
    pub fn new(
        records: Arc<dyn SignInRecords>,
        holder: &str,
        key: SignInKey,
        vault: Arc<Vault>,
        known: Option<Known>,
    ) -> Self {
        let (known, origin) = (Mutex::new(known), Mutex::default());
        Self { records, holder: holder.to_owned(), key, vault, known, origin }
    }

    /// Returns the newest state that is known.
    pub fn known(&self) -> Option<Known> {
        self.known.lock().clone()
    }

    /// Returns whether the person has signed out, as far as this instance knows.
    pub fn is_signed_out(&self) -> bool {
        self.known.lock().as_ref().is_some_and(|known| is_signed_out(&known.record))
    }

    /// Returns the key of the sign-in.
    pub fn key(&self) -> &SignInKey {
        &self.key
    }

    /// Returns whether the database may not have the newest state yet.
    pub fn is_unsent(&self) -> bool {
        self.known.lock().as_ref().is_some_and(|known| known.unsent.is_some())
    }

    /// Gets a newer access token: another instance's, or one for which it spends the refresh token itself. The
    /// questions to the database before the endpoint is asked take [`PATIENCE`] at most; while another instance holds
    /// the lease, they come again each second.
    ///
    /// # Errors
    /// See [`NotRenewed`].
    pub async fn renew<H: Holder>(&self, holder: &H) -> Result<(), NotRenewed<H::Error>> {
        let mut deadline = Instant::now() + LONGEST_LOOK;
        loop {
            let (lease, begun) = match timeout(PATIENCE, self.begin(holder)).await {
                // This process was stopped meanwhile, and another instance may have the next lease already.
                Ok(Ok(Some((_, begun)))) if !has_room(begun) => {
                    deadline = Instant::now() + LONGEST_LOOK;
                    continue;
                }
                Ok(Ok(Some(begun))) => begun,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(NotRenewed::Held)) if Instant::now() < deadline => {
                    tokio::select! {
                        () = sleep(LOOK) => continue,
                        () = holder.ending() => return Err(NotRenewed::Held),
                    }
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(NotRenewed::Database(Error::Late(PATIENCE))),
            };
            return self.spend(holder, &lease, begun).await;
        }
    }

    /// Spends the refresh token that the instance knows without a lease, because the database is away. Only where the
    /// endpoint lets earlier refresh tokens live.
    ///
    /// # Errors
    /// The endpoint refuses, or the instance knows no sign-in.
    pub async fn renew_alone<H: Holder>(&self, holder: &H) -> Result<(), NotRenewed<H::Error>> {
        let Some(known) = self.known() else { return Err(NotRenewed::Missing) };
        if is_signed_out(&known.record) {
            return Err(NotRenewed::SignedOut);
        }
        let granted = holder.ask(&known.record).await.map_err(|denied| NotRenewed::Denied(denied.error))?;
        // The generation stays that of the first renewal without the database: the first instance to deliver counts.
        let base = Base { generation: known.unsent.map_or(known.generation, |base| base.generation), epoch: None };
        let access = granted.access.clone();
        let known = Known {
            generation: base.generation + 1,
            record: granted.record,
            access: Some(granted.access),
            unsent: Some(base),
        };
        self.remember(holder, known).await;
        holder.take(&access);
        Ok(())
    }

    /// Takes the lease. Returns it with a time at or before its beginning; none if there is a newer access token, so that
    /// no lease is needed.
    async fn begin<H: Holder>(&self, holder: &H) -> Result<Option<(Lease, Instant)>, NotRenewed<H::Error>> {
        let begun = Instant::now();
        let before = self.known().map(|known| known.generation);
        let row = self.current(holder).await?;
        if before != Some(row.generation) && self.has_fresh_access() {
            return Ok(None);
        }
        self.check(holder, &row)?;
        if let Some((by, left)) = &row.lease {
            return self.own_lease(&row, by, *left).map(Some).ok_or(NotRenewed::Held);
        }
        let lease = self.records.begin(&self.key, &self.holder, LIFE).await?.ok_or(NotRenewed::Held)?;
        if lease.generation != row.generation {
            self.records.give_back(&self.key, &lease).await?;
            // The next look takes what came in between, or brings what the database has lost in between.
            return Err(NotRenewed::Held);
        }
        Ok(Some((lease, begun)))
    }

    /// The lease that this instance holds without having heard so, as long as there is time for the endpoint's answer.
    fn own_lease(&self, row: &SignIn, by: &str, left: Duration) -> Option<(Lease, Instant)> {
        let begun = Instant::now().checked_sub(LIFE.saturating_sub(left))?;
        let lease = Lease {
            epoch: row.epoch,
            generation: row.generation,
            sealed: row.sealed.clone(),
            access: None,
            is_perhaps_spent: row.spending == Some(row.generation),
        };
        (by == self.holder && has_room(begun)).then_some((lease, begun))
    }

    /// Asks the endpoint under a lease that began at this time, and commits its answer.
    async fn spend<H: Holder>(&self, holder: &H, lease: &Lease, begun: Instant) -> Result<(), NotRenewed<H::Error>> {
        let Some(record) = self.open_record(lease.generation, &lease.sealed) else {
            self.records.give_back(&self.key, lease).await?;
            return Err(NotRenewed::OtherKey);
        };
        let mut tried = Tried::default();
        let granted = match self.ask(holder, (lease, begun), record, &mut tried).await {
            Ok(Some(granted)) => granted,
            Ok(None) => {
                // Candidates took the time of the lease. The next one begins with the refresh token itself.
                let lease = Lease { is_perhaps_spent: false, ..lease.clone() };
                self.records.give_back(&self.key, &lease).await?;
                self.forget_refused(&tried).await;
                return Err(NotRenewed::Held);
            }
            Err(denied) => {
                self.note_denial(lease, &denied, &tried).await;
                return Err(NotRenewed::Denied(denied.error));
            }
        };
        let base = Base { generation: lease.generation, epoch: Some(lease.epoch) };
        let known = Known {
            generation: base.generation + 1,
            record: granted.record,
            access: Some(granted.access.clone()),
            unsent: Some(base),
        };
        self.remember(holder, known.clone()).await;
        holder.take(&granted.access);
        // The access token serves devices from here on. A commit that fails is tried again until the database has it.
        if begun.elapsed() >= LIFE || !self.commit(lease, &known).await {
            let _ = timeout(PATIENCE, self.deliver(holder)).await;
            return Ok(());
        }
        self.remember(holder, Known { unsent: None, ..known }).await;
        if let Some(newest) = tried.newest {
            // Candidates that stay are tried once more, one day, and removed then.
            let _ = self.records.remove_candidates(&self.key, newest).await;
        }
        Ok(())
    }

    /// Returns whether the commit has been carried out, for all that is known.
    async fn commit(&self, lease: &Lease, known: &Known) -> bool {
        let Some((sealed, access)) = self.seal(known) else { return false };
        let renewal = Renewal { sealed: &sealed, access: &access };
        matches!(self.records.commit(&self.key, lease, renewal).await, Ok(true))
    }

    /// Remembers the newest state, and writes it to the local disk.
    async fn remember<H: Holder>(&self, holder: &H, known: Known) {
        *self.known.lock() = Some(known.clone());
        holder.save(known).await;
    }

    /// Returns whether the newest access token that is known has more than half of its life before it.
    fn has_fresh_access(&self) -> bool {
        let known = self.known.lock();
        known
            .as_ref()
            .and_then(|known| known.access.as_ref())
            .is_some_and(|access| access.until.saturating_duration_since(Instant::now()) > access.life / 2)
    }

    /// Reads the sign-in, once the database has what this instance knows, and takes in what is newer there.
    async fn current<H: Holder>(&self, holder: &H) -> Result<SignIn, NotRenewed<H::Error>> {
        self.deliver(holder).await?.ok_or(NotRenewed::Missing)
    }
}

/// Returns whether a record says that the person has signed out: it is empty.
pub fn is_signed_out(record: &Secret) -> bool {
    record.expose().is_empty()
}

/// Returns whether the endpoint can be asked under a lease that began at this time.
fn has_room(begun: Instant) -> bool {
    begun.elapsed() + ASKING < LIFE
}

/// The longest wait for the endpoint's answer.
pub const ASKING: Duration = Duration::from_secs(30);
/// The life of a lease: the endpoint's answer, the disk and the commit fit into it.
pub const LIFE: Duration = Duration::from_secs(45);
/// The time between two looks while another instance holds the lease.
const LOOK: Duration = Duration::from_secs(1);
/// The time after which a caller stops looking: a holder that died has lost its lease by then.
const LONGEST_LOOK: Duration = Duration::from_secs(50);
