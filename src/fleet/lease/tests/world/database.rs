//! The records of the sign-in in memory, with the rules of the statements in PostgreSQL.

use std::time::Duration;

use tokio::time::Instant;

use super::node::Link;
use super::{Row, key};
use crate::crypto::SEALED_EMPTY;
use crate::fleet::records::{
    Answer, Candidate, Lease, Origin, Renewal, SealedAccess, SignIn, SignInKey, SignInRecords, UnfinishedRenewal,
};

impl SignInRecords for Link {
    fn sign_in<'a>(&'a self, _: &'a SignInKey) -> Answer<'a, Option<SignIn>> {
        Box::pin(self.query(|state| state.row.as_ref().map(|row| row.read(state.restored))))
    }

    fn sign_ins(&self) -> Answer<'_, Vec<SignInKey>> {
        Box::pin(async { Ok(vec![key()]) })
    }

    fn signed_out(&self) -> Answer<'_, Vec<(SignInKey, i64)>> {
        Box::pin(self.query(|state| {
            let is_empty = |row: &&Row| row.sealed.len() <= SEALED_EMPTY as usize;
            state.row.iter().filter(is_empty).map(|row| (key(), row.generation)).collect()
        }))
    }

    fn unfinished_renewals(&self) -> Answer<'_, Vec<UnfinishedRenewal>> {
        Box::pin(self.query(|state| {
            let is_over = |row: &&Row| row.lease.as_ref().is_none_or(|(_, until)| *until < Instant::now());
            let unfinished = state.row.iter().filter(is_over).filter(|row| row.spending == Some(row.generation));
            let holder = |row: &Row| row.lease.as_ref().map(|(holder, _)| holder.clone());
            unfinished.map(|row| UnfinishedRenewal { key: key(), holder: holder(row) }).collect()
        }))
    }

    fn begin<'a>(&'a self, _: &'a SignInKey, holder: &'a str, life: Duration) -> Answer<'a, Option<Lease>> {
        Box::pin(self.query(move |state| {
            let (now, restored) = (Instant::now(), state.restored);
            let row = state.row.as_mut()?;
            if row.lease.as_ref().is_some_and(|(_, until)| *until >= now) || row.not_before > now {
                return None;
            }
            let is_perhaps_spent = row.spending == Some(row.generation);
            row.epoch += 1;
            row.spending = Some(row.generation);
            row.lease = Some((holder.to_owned(), now + life));
            let SignIn { generation, sealed, access, epoch, .. } = row.read(restored);
            Some(Lease { epoch, generation, sealed, access, is_perhaps_spent })
        }))
    }

    fn commit<'a>(&'a self, _: &'a SignInKey, lease: &'a Lease, renewal: Renewal<'a>) -> Answer<'a, bool> {
        Box::pin(self.query(move |state| {
            let Some(row) = state.row.as_mut() else { return false };
            if (row.epoch, row.generation) != (lease.epoch, lease.generation) {
                return false;
            }
            let access = (renewal.access.sealed.clone(), Instant::now() + renewal.access.left);
            let epoch = row.epoch;
            *row = Row { access: Some(access), ..fresh_row(row.generation + 1, renewal.sealed.to_vec(), epoch) };
            true
        }))
    }

    fn refuse<'a>(&'a self, _: &'a SignInKey, lease: &'a Lease, pause: Duration, trouble: &'a str) -> Answer<'a, bool> {
        Box::pin(self.query(move |state| {
            let Some(row) = state.row.as_mut().filter(|row| row.epoch == lease.epoch) else { return false };
            row.not_before = Instant::now() + pause;
            (row.trouble, row.spending, row.lease) = (Some(trouble.to_owned()), None, None);
            true
        }))
    }

    fn give_back<'a>(&'a self, _: &'a SignInKey, lease: &'a Lease) -> Answer<'a, bool> {
        Box::pin(self.query(move |state| {
            let Some(row) = state.row.as_mut().filter(|row| row.epoch == lease.epoch) else { return false };
            (row.spending, row.lease) = (lease.is_perhaps_spent.then_some(lease.generation), None);
            true
        }))
    }

    fn put<'a>(&'a self, _: &'a SignInKey, before: Option<i64>, generation: i64, sealed: &'a [u8]) -> Answer<'a, bool> {
        Box::pin(self.query(move |state| {
            if state.row.as_ref().map(|row| row.generation) != before {
                return false;
            }
            let epoch = state.row.as_ref().map_or(0, |row| row.epoch + 1);
            state.row = Some(fresh_row(generation, sealed.to_vec(), epoch));
            true
        }))
    }

    fn add_candidate<'a>(&'a self, _: &'a SignInKey, from_generation: i64, sealed: &'a [u8]) -> Answer<'a, ()> {
        Box::pin(self.query(move |state| state.add_candidate(from_generation, sealed.to_vec())))
    }

    fn candidates<'a>(&'a self, _: &'a SignInKey) -> Answer<'a, Vec<Candidate>> {
        Box::pin(self.query(|state| state.candidates.iter().map(|(candidate, _)| candidate.clone()).collect()))
    }

    fn remove_candidate<'a>(&'a self, _: &'a SignInKey, id: i64) -> Answer<'a, ()> {
        Box::pin(self.query(move |state| state.candidates.retain(|(candidate, _)| candidate.id != id)))
    }

    fn remove_candidates<'a>(&'a self, _: &'a SignInKey, up_to: i64) -> Answer<'a, ()> {
        Box::pin(self.query(move |state| state.candidates.retain(|(candidate, _)| candidate.id > up_to)))
    }
}

impl Row {
    fn read(&self, restored: u64) -> SignIn {
        let left = |until: Instant| Some(until.saturating_duration_since(Instant::now())).filter(|one| !one.is_zero());
        let access = self.access.as_ref();
        SignIn {
            generation: self.generation,
            sealed: self.sealed.clone(),
            access: access
                .and_then(|(sealed, until)| Some(SealedAccess { sealed: sealed.clone(), left: left(*until)? })),
            epoch: self.epoch,
            spending: self.spending,
            lease: self.lease.as_ref().and_then(|(holder, until)| Some((holder.clone(), left(*until)?))),
            pause: left(self.not_before),
            trouble: self.trouble.clone(),
            origin: Origin(restored.to_string()),
        }
    }
}

pub(super) fn fresh_row(generation: i64, sealed: Vec<u8>, epoch: i64) -> Row {
    let not_before = Instant::now();
    Row { generation, sealed, access: None, epoch, spending: None, lease: None, not_before, trouble: None }
}
