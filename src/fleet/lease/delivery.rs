//! The state that an instance knows comes to the database, and what is newer there comes to the instance.

use std::ops::RangeInclusive;

use tokio::time::timeout;

use super::{Base, Holder, Known, LeasedSignIn, is_signed_out};
use crate::fleet::error::Error;
use crate::fleet::records::{Candidate, Lease, Renewal, SignIn};
use crate::secret::Secret;

/// The relation of the database to the state that an instance knows.
enum Relation {
    /// The instance knows nothing newer.
    Told,
    /// The database does not have the sign-in, or an earlier state of it: by a failover that lost a commit, or because
    /// the instance was away.
    Behind,
    /// The lease under which the state came is the last one: it can be committed.
    Committable(Base),
    /// Another instance has spent the same refresh token, or is about to. A lease may have an answer that counts.
    Fenced(Base),
    /// Another instance is at work on the same refresh token.
    Waits,
}

impl LeasedSignIn {
    /// Puts a record there, whatever was there: a person has just signed in. The generation is that of the clock where
    /// that is higher, so that no instance takes it for an earlier state, even if the database was lost before. The
    /// candidates of before go.
    ///
    /// # Errors
    /// The database does not answer, or others change the sign-in all the time.
    pub async fn put(&self, record: &Secret, now: i64) -> Result<Known, Error> {
        for _ in 0..ROUNDS {
            let row = self.records.sign_in(&self.key).await?;
            let before = row.as_ref().map(|row| row.generation);
            let earlier = self.records.candidates(&self.key).await?.first().map(|newest| newest.id);
            let known = self.known.lock().as_ref().map(|known| known.generation);
            let counted = before.filter(|before| *before < NEVER_COUNTED);
            // A number that has no next one was written by no packetboat.
            let next = counted.max(known).and_then(|last| last.checked_add(1));
            let generation = next.map_or(now, |next| now.max(next));
            let new = Known { generation, record: record.clone(), access: None, unsent: None };
            let sealed = self.seal_record(&new).ok_or(Error::Crypto(crate::crypto::Unavailable))?;
            if self.records.put(&self.key, before, generation, &sealed).await? {
                *self.known.lock() = Some(new.clone());
                self.forget_origin();
                if let Some(earlier) = earlier {
                    // Those that stay are removed once the endpoint has refused them.
                    let _ = self.records.remove_candidates(&self.key, earlier).await;
                }
                return Ok(new);
            }
        }
        Err(Error::Late(super::PATIENCE))
    }

    /// Puts an empty record there, whatever was there: the person has signed out. Instances that have a copy of the
    /// sign-in take it for an earlier state from now on.
    ///
    /// # Errors
    /// See [`put`](Self::put).
    pub async fn sign_out(&self, now: i64) -> Result<Known, Error> {
        self.put(&Secret::new(Vec::new()), now).await
    }

    /// Reads the record of the sign-in in the database; none where nobody has signed in. The outer error is the
    /// database's; none inside is a record that was sealed with another key.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn read(&self) -> Result<Option<Option<Secret>>, Error> {
        let row = self.records.sign_in(&self.key).await?;
        Ok(row.map(|row| self.open_record(row.generation, &row.sealed)))
    }

    /// Reads the number of the present refresh token; none where nobody has signed in.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn generation(&self) -> Result<Option<i64>, Error> {
        Ok(self.records.sign_in(&self.key).await?.map(|row| row.generation))
    }

    /// Reads the sign-in, brings to the database what it does not have, and takes in what is newer there.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn deliver<H: Holder>(&self, holder: &H) -> Result<Option<SignIn>, Error> {
        for _ in 0..ROUNDS {
            let row = self.records.sign_in(&self.key).await?;
            if let Some(row) = &row {
                self.note_origin(&row.origin);
            }
            let Some(known) = self.known() else {
                self.learn(holder, row.as_ref()).await;
                return Ok(row);
            };
            match self.relation(row.as_ref(), &known) {
                Relation::Told => {
                    self.learn(holder, row.as_ref()).await;
                    return Ok(row);
                }
                Relation::Waits => return Ok(row),
                Relation::Behind => {
                    let Some(sealed) = self.seal_record(&known) else { return Ok(row) };
                    let before = row.map(|row| row.generation);
                    self.records.put(&self.key, before, known.generation, &sealed).await?;
                }
                Relation::Committable(base) => {
                    let Some((sealed, access)) = self.seal(&known) else { return Ok(row) };
                    let renewal = Renewal { sealed: &sealed, access: &access };
                    self.records.commit(&self.key, &lease_of(base), renewal).await?;
                }
                Relation::Fenced(base) => {
                    let Some(sealed) = self.seal_record(&known) else { return Ok(row) };
                    self.records.add_candidate(&self.key, base.generation, &sealed).await?;
                    self.forget_old_candidates().await?;
                    *self.known.lock() = None;
                }
            }
        }
        Err(Error::Late(super::PATIENCE))
    }

    /// The same within [`PATIENCE`](super::PATIENCE), for a caller that others wait for.
    ///
    /// # Errors
    /// The database does not answer in time.
    pub async fn deliver_in_time<H: Holder>(&self, holder: &H) -> Result<Option<SignIn>, Error> {
        let late = |_| Err(Error::Late(super::PATIENCE));
        timeout(super::PATIENCE, self.deliver(holder)).await.unwrap_or_else(late)
    }

    fn relation(&self, row: Option<&SignIn>, known: &Known) -> Relation {
        let Some(row) = row else { return Relation::Behind };
        let Some(base) = known.unsent else {
            return if row.generation < known.generation { Relation::Behind } else { Relation::Told };
        };
        if row.generation >= known.generation {
            let record = self.open_record(row.generation, &row.sealed);
            let is_out = record.as_ref().is_some_and(is_signed_out);
            let is_ours = row.generation == known.generation
                && record.is_some_and(|record| record.expose() == known.record.expose());
            // Where the database was away, the endpoint lets earlier refresh tokens live: the database's is as good.
            let is_told = is_ours || is_out || base.epoch.is_none();
            return if is_told { Relation::Told } else { Relation::Fenced(base) };
        }
        if row.generation == base.generation && base.epoch == Some(row.epoch) {
            return Relation::Committable(base);
        }
        match (row.lease.is_some(), base.epoch) {
            (false, _) => Relation::Behind,
            (true, Some(_)) => Relation::Fenced(base),
            (true, None) => Relation::Waits,
        }
    }

    /// Takes in the state of the database. One that does not open is left alone: the renewal says so.
    async fn learn<H: Holder>(&self, holder: &H, row: Option<&SignIn>) {
        let Some(row) = row else { return };
        let before = self.known();
        let is_known = before.as_ref().is_some_and(|known| {
            known.generation == row.generation && (known.access.is_some() || row.access.is_none())
        });
        if is_known && before.as_ref().is_some_and(|known| known.unsent.is_none()) {
            return;
        }
        let Some(record) = self.open_record(row.generation, &row.sealed) else { return };
        let access = row.access.as_ref().and_then(|access| self.open_access(row.generation, access));
        if let Some(access) = &access {
            holder.take(access);
        }
        self.remember(holder, Known { generation: row.generation, record, access, unsent: None }).await;
    }

    /// Returns the candidates that open, the newest first, which were got for a refresh token with such a number.
    pub(super) async fn candidates(&self, from: RangeInclusive<i64>) -> Vec<(i64, Secret)> {
        // A database that does not answer has none.
        let all = self.records.candidates(&self.key).await.unwrap_or_default();
        let fitting = all.into_iter().filter(|candidate| from.contains(&candidate.from_generation));
        fitting.filter_map(|candidate| Some((candidate.id, self.open_candidate(&candidate)?))).collect()
    }

    pub(super) fn open_candidate(&self, candidate: &Candidate) -> Option<Secret> {
        self.open_record(candidate.from_generation.checked_add(1)?, &candidate.sealed)
    }

    /// Puts the candidate that came while the endpoint refused this lease's token in the place of that.
    pub(super) async fn promote_late_candidate(&self, lease: &Lease, tried: Option<i64>) {
        let late = self.candidates(lease.generation..=lease.generation).await.into_iter().next();
        let Some((_, record)) = late.filter(|(id, _)| tried.is_none_or(|tried| *id > tried)) else { return };
        let promoted = Known { generation: lease.generation + 1, record, access: None, unsent: None };
        if let Some(sealed) = self.seal_record(&promoted) {
            // If this fails, the candidate is tried after the pause.
            let _ = self.records.put(&self.key, Some(lease.generation), promoted.generation, &sealed).await;
        }
    }

    /// Bounds the candidates of a sign-in.
    async fn forget_old_candidates(&self) -> Result<(), Error> {
        let newest = self.records.candidates(&self.key).await?;
        match newest.get(MOST_CANDIDATES..).and_then(|old| old.first()) {
            Some(oldest) => self.records.remove_candidates(&self.key, oldest.id).await,
            None => Ok(()),
        }
    }
}

/// The lease under which a state came.
fn lease_of(base: Base) -> Lease {
    Lease {
        epoch: base.epoch.unwrap_or_default(),
        generation: base.generation,
        sealed: Vec::new(),
        access: None,
        is_perhaps_spent: false,
    }
}

/// Reads and changes until an instance gives up; each round means that somebody else has changed the sign-in meanwhile.
const ROUNDS: usize = 5;
/// No renewals count that far. Somebody else has written such a generation, and a new sign-in replaces it.
const NEVER_COUNTED: i64 = i64::MAX / 2;
/// Candidates that are kept for a sign-in.
const MOST_CANDIDATES: usize = 8;
