//! The sign-ins, each with the lease of its renewal.

use std::time::Duration;

use packetboat::crypto::SEALED_EMPTY;
use packetboat::fleet::{
    Answer, Candidate, Lease, Origin, Renewal, SealedAccess, SignIn, SignInKey, SignInRecords, UnfinishedRenewal,
};
use tokio::time::Instant;

use super::{Statement, Tables, Way, left};

/// The row of a sign-in. Times are instants of the database's clock.
pub(super) struct Row {
    generation: i64,
    sealed: Vec<u8>,
    access: Option<(Vec<u8>, Instant)>,
    epoch: i64,
    spending: Option<i64>,
    lease: Option<(String, Instant)>,
    not_before: Option<Instant>,
    trouble: Option<String>,
    /// The answers of holders that were fenced, the newest first.
    candidates: Vec<(Candidate, Instant)>,
}

impl Row {
    fn new(generation: i64, sealed: &[u8], epoch: i64) -> Self {
        Self {
            generation,
            sealed: sealed.to_vec(),
            access: None,
            epoch,
            spending: None,
            lease: None,
            not_before: None,
            trouble: None,
            candidates: Vec::new(),
        }
    }

    fn read(&self, now: Instant, origin: Origin) -> SignIn {
        SignIn {
            generation: self.generation,
            sealed: self.sealed.clone(),
            access: self.access(now),
            epoch: self.epoch,
            spending: self.spending,
            lease: self.lease.as_ref().and_then(|(holder, until)| Some((holder.clone(), left(*until, now)?))),
            pause: self.not_before.and_then(|until| left(until, now)),
            trouble: self.trouble.clone(),
            origin,
        }
    }

    fn access(&self, now: Instant) -> Option<SealedAccess> {
        let (sealed, until) = self.access.as_ref()?;
        Some(SealedAccess { sealed: sealed.clone(), left: left(*until, now)? })
    }

    fn begin(&mut self, holder: &str, now: Instant, life: Duration) -> Option<Lease> {
        let is_held = self.lease.as_ref().is_some_and(|(_, until)| *until >= now);
        if is_held || self.not_before.is_some_and(|until| until > now) {
            return None;
        }
        let is_perhaps_spent = self.spending == Some(self.generation);
        self.epoch += 1;
        self.spending = Some(self.generation);
        self.lease = Some((holder.to_owned(), now + life));
        let (generation, sealed, access) = (self.generation, self.sealed.clone(), self.access(now));
        Some(Lease { epoch: self.epoch, generation, sealed, access, is_perhaps_spent })
    }

    fn commit(&mut self, lease: &Lease, renewal: Renewal<'_>, now: Instant) -> bool {
        if (self.epoch, self.generation) != (lease.epoch, lease.generation) {
            return false;
        }
        let candidates = std::mem::take(&mut self.candidates);
        let access = Some((renewal.access.sealed.clone(), now + renewal.access.left));
        *self = Self { access, candidates, ..Self::new(self.generation + 1, renewal.sealed, self.epoch) };
        true
    }
}

impl Tables {
    /// The row of a sign-in whose last lease is this one.
    fn leased(&mut self, key: &SignInKey, lease: &Lease) -> Option<&mut Row> {
        self.sign_ins.get_mut(key).filter(|row| row.epoch == lease.epoch)
    }

    fn put(&mut self, key: &SignInKey, before: Option<i64>, generation: i64, sealed: &[u8]) -> bool {
        let old = self.sign_ins.get_mut(key);
        if old.as_ref().map(|row| row.generation) != before {
            return false;
        }
        match old {
            Some(row) => {
                let candidates = std::mem::take(&mut row.candidates);
                *row = Row { candidates, ..Row::new(generation, sealed, row.epoch + 1) };
            }
            None => drop(self.sign_ins.insert(key.clone(), Row::new(generation, sealed, 0))),
        }
        true
    }
}

impl SignInRecords for Way {
    fn sign_in<'a>(&'a self, key: &'a SignInKey) -> Answer<'a, Option<SignIn>> {
        self.run(Statement::ReadSignIn, move |tables, now| {
            tables.sign_ins.get(key).map(|row| row.read(now, tables.origin()))
        })
    }

    fn sign_ins(&self) -> Answer<'_, Vec<SignInKey>> {
        self.run(Statement::ReadSignIn, |tables, _| tables.sign_ins.keys().cloned().collect())
    }

    fn signed_out(&self) -> Answer<'_, Vec<(SignInKey, i64)>> {
        self.run(Statement::ReadSignIn, |tables, _| {
            let is_empty = |row: &Row| row.sealed.len() <= SEALED_EMPTY as usize;
            let signed_out = tables.sign_ins.iter().filter(|(_, row)| is_empty(row));
            signed_out.map(|(key, row)| (key.clone(), row.generation)).collect()
        })
    }

    fn unfinished_renewals(&self) -> Answer<'_, Vec<UnfinishedRenewal>> {
        self.run(Statement::ReadSignIn, |tables, now| {
            let is_over = |row: &Row| row.lease.as_ref().is_none_or(|(_, until)| *until < now);
            let is_unfinished = |row: &Row| is_over(row) && row.spending == Some(row.generation);
            let unfinished = tables.sign_ins.iter().filter(|(_, row)| is_unfinished(row));
            let name = |id: &String| tables.registrations.name(id).unwrap_or_else(|| id.clone());
            let holder = |row: &Row| row.lease.as_ref().map(|(id, _)| name(id));
            unfinished.map(|(key, row)| UnfinishedRenewal { key: key.clone(), holder: holder(row) }).collect()
        })
    }

    fn begin<'a>(&'a self, key: &'a SignInKey, holder: &'a str, life: Duration) -> Answer<'a, Option<Lease>> {
        self.run(Statement::Begin, move |tables, now| tables.sign_ins.get_mut(key)?.begin(holder, now, life))
    }

    fn commit<'a>(&'a self, key: &'a SignInKey, lease: &'a Lease, renewal: Renewal<'a>) -> Answer<'a, bool> {
        self.run(Statement::Commit, move |tables, now| {
            tables.sign_ins.get_mut(key).is_some_and(|row| row.commit(lease, renewal, now))
        })
    }

    fn refuse<'a>(
        &'a self,
        key: &'a SignInKey,
        lease: &'a Lease,
        pause: Duration,
        trouble: &'a str,
    ) -> Answer<'a, bool> {
        self.run(Statement::ChangeSignIn, move |tables, now| {
            let Some(row) = tables.leased(key, lease) else { return false };
            row.not_before = Some(now + pause);
            (row.trouble, row.spending, row.lease) = (Some(trouble.to_owned()), None, None);
            true
        })
    }

    fn give_back<'a>(&'a self, key: &'a SignInKey, lease: &'a Lease) -> Answer<'a, bool> {
        self.run(Statement::ChangeSignIn, move |tables, _| {
            let Some(row) = tables.leased(key, lease) else { return false };
            (row.spending, row.lease) = (lease.is_perhaps_spent.then_some(lease.generation), None);
            true
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a SignInKey,
        before: Option<i64>,
        generation: i64,
        sealed: &'a [u8],
    ) -> Answer<'a, bool> {
        self.run(Statement::ChangeSignIn, move |tables, _| tables.put(key, before, generation, sealed))
    }

    fn add_candidate<'a>(&'a self, key: &'a SignInKey, from_generation: i64, sealed: &'a [u8]) -> Answer<'a, ()> {
        self.run(Statement::ChangeSignIn, move |tables, now| {
            tables.candidates += 1;
            let (id, sealed) = (tables.candidates, sealed.to_vec());
            let candidate = Candidate { id, from_generation, sealed, age: Duration::ZERO };
            if let Some(row) = tables.sign_ins.get_mut(key) {
                row.candidates.insert(0, (candidate, now));
            }
        })
    }

    fn candidates<'a>(&'a self, key: &'a SignInKey) -> Answer<'a, Vec<Candidate>> {
        self.run(Statement::ReadSignIn, move |tables, now| {
            let candidates = tables.sign_ins.get(key).map(|row| row.candidates.as_slice()).unwrap_or_default();
            let aged = |(one, since): &(Candidate, Instant)| Candidate { age: now - *since, ..one.clone() };
            candidates.iter().take(MOST_LISTED).map(aged).collect()
        })
    }

    fn remove_candidate<'a>(&'a self, key: &'a SignInKey, id: i64) -> Answer<'a, ()> {
        self.run(Statement::ChangeSignIn, move |tables, _| {
            if let Some(row) = tables.sign_ins.get_mut(key) {
                row.candidates.retain(|(candidate, _)| candidate.id != id);
            }
        })
    }

    fn remove_candidates<'a>(&'a self, key: &'a SignInKey, up_to: i64) -> Answer<'a, ()> {
        self.run(Statement::ChangeSignIn, move |tables, _| {
            if let Some(row) = tables.sign_ins.get_mut(key) {
                row.candidates.retain(|(candidate, _)| candidate.id > up_to);
            }
        })
    }
}

const MOST_LISTED: usize = 16;
