//! The endpoint is asked under a lease: with the refresh token of the lease, and with candidates. A refusal is noted for all
//! instances.

use tokio::time::Instant;

use super::{Cause, Denied, Granted, Holder, LeasedSignIn, has_room};
use crate::fleet::records::Lease;
use crate::secret::Secret;

/// The candidates that the endpoint was asked with.
#[derive(Default)]
pub(super) struct Tried {
    /// The newest of them.
    pub(super) newest: Option<i64>,
    /// Those that it has refused.
    refused: Vec<i64>,
}

impl LeasedSignIn {
    /// Asks the endpoint with the refresh token of the lease, and with candidates where that may be spent, or is
    /// refused. None where candidates were refused, and the lease has no room for another answer.
    pub(super) async fn ask<H: Holder>(
        &self,
        holder: &H,
        (lease, begun): (&Lease, Instant),
        record: Secret,
        tried: &mut Tried,
    ) -> Result<Option<Granted>, Denied<H::Error>> {
        if lease.is_perhaps_spent {
            // Where an earlier holder has left its answer, the refresh token of the lease is spent: to send it again
            // could end them all.
            let left = self.candidates(lease.generation..=lease.generation).await;
            if let Some(granted) = ask_candidates(holder, left, begun, tried).await? {
                return Ok(Some(granted));
            }
            if !has_room(begun) {
                return Ok(None);
            }
        }
        let denied = match holder.ask(&record).await {
            Ok(granted) => return Ok(Some(granted)),
            Err(denied) => denied,
        };
        if denied.cause == Cause::RefreshToken && tried.newest.is_none() {
            let left = self.candidates(i64::MIN..=i64::MAX).await;
            if let Some(granted) = ask_candidates(holder, left, begun, tried).await? {
                return Ok(Some(granted));
            }
        }
        Err(denied)
    }

    /// Notes a refusal for all instances; ends the lease where there was no answer. Where the database does not answer
    /// either, the lease ends by itself.
    pub(super) async fn note_denial<E>(&self, lease: &Lease, denied: &Denied<E>, tried: &Tried) {
        match denied.cause {
            Cause::Silence => {
                let lease = Lease { is_perhaps_spent: true, ..lease.clone() };
                let _ = self.records.give_back(&self.key, &lease).await;
            }
            Cause::Endpoint => {
                let _ = self.records.refuse(&self.key, lease, denied.pause, &denied.trouble).await;
            }
            Cause::RefreshToken => {
                let refused = self.records.refuse(&self.key, lease, denied.pause, &denied.trouble).await;
                if matches!(refused, Ok(true)) {
                    self.promote_late_candidate(lease, tried.newest).await;
                }
            }
        }
        self.forget_refused(tried).await;
    }

    /// Removes the candidates that the endpoint has refused: a strict one may take a second use for a theft.
    pub(super) async fn forget_refused(&self, tried: &Tried) {
        for id in &tried.refused {
            if self.records.remove_candidate(&self.key, *id).await.is_err() {
                return;
            }
        }
    }
}

/// Asks the endpoint with one candidate after the other, as long as the lease that began at this time has room for an
/// answer. None where it takes none of them.
async fn ask_candidates<H: Holder>(
    holder: &H,
    candidates: Vec<(i64, Secret)>,
    begun: Instant,
    tried: &mut Tried,
) -> Result<Option<Granted>, Denied<H::Error>> {
    for (id, candidate) in candidates {
        if !has_room(begun) {
            break;
        }
        // The newest comes first.
        tried.newest = tried.newest.max(Some(id));
        match holder.ask(&candidate).await {
            Ok(granted) => return Ok(Some(granted)),
            Err(denied) if denied.cause == Cause::RefreshToken => tried.refused.push(id),
            Err(denied) => return Err(denied),
        }
    }
    Ok(None)
}
