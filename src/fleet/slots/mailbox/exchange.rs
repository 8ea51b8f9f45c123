//! The exchange of a mailbox with the database: sessions, the end of a throttled time, and parts of the pace.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::super::SESSION_LIFE;
use super::MailboxSlots;
use super::state::Requests;
use crate::fleet::records::{SessionRecords, SessionRequest};

impl MailboxSlots {
    /// Carries out what the mailbox wants of the database, until it wants nothing or the database is away.
    pub(in crate::fleet::slots) async fn request(&self, records: &dyn SessionRecords, instance: &str) {
        loop {
            let Some(requests) = self.state.lock().requests(self.key.kind) else { return };
            let is_done = (!requests.borrows || self.borrow(records, instance).await)
                && self.publish_quiet(records, requests.quiet).await
                && self.exchange_pace(records, &requests).await;
            if !is_done {
                self.state.lock().is_requesting = false;
                return;
            }
        }
    }

    /// Writes for how long the mail server throttles the mailbox. Returns whether the database has answered.
    async fn publish_quiet(&self, records: &dyn SessionRecords, quiet: Option<Duration>) -> bool {
        let Some(quiet) = quiet else { return true };
        let is_done = self.known.answer_about(records.throttle(&self.key, quiet)).await.is_some();
        let mut state = self.state.lock();
        // A longer one may have come meanwhile.
        let is_longer = state.quiet_for(Instant::now()).is_some_and(|left| left > quiet);
        state.is_quiet_unknown &= !is_done || is_longer;
        is_done
    }

    /// Takes a part of the pace, and gives back what was not sent. Returns whether the database has answered.
    async fn exchange_pace(&self, records: &dyn SessionRecords, requests: &Requests) -> bool {
        if requests.unused > 0 {
            let time = self.state.lock().pace.time(requests.unused);
            // A part that is not given back is over within the time of these messages.
            if self.known.answer_about(records.return_pace(&self.key, time)).await.is_none() {
                return false;
            }
        }
        if requests.messages == 0 {
            return true;
        }
        let time = self.state.lock().pace.time(requests.messages);
        let Some(ahead) = self.known.answer_about(records.draw_pace(&self.key, time)).await else { return false };
        self.state.lock().pace.add(requests.messages, ahead);
        true
    }

    /// Borrows what is wanted. Returns whether the database has answered.
    async fn borrow(&self, records: &dyn SessionRecords, instance: &str) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        let (count, holds) = {
            let mut state = self.state.lock();
            let (wanted, holds) = (std::mem::take(&mut state.wanted), state.held.len());
            (wanted.min(most.saturating_sub(holds)).max(1), holds)
        };
        let small = |number: usize| i16::try_from(number).unwrap_or(i16::MAX);
        let (most, count, holds) = (small(most), small(count), small(holds));
        let sent = Instant::now();
        let request = SessionRequest { instance, most, count, holds, life: SESSION_LIFE };
        let answer = self.known.answer_about(records.borrow_sessions(&self.key, request)).await;
        let is_answered = answer.is_some();
        let is_refused = answer.as_ref().is_some_and(|borrowed| borrowed.sessions.is_empty());
        self.state.lock().add(answer, sent);
        if is_refused {
            self.known.want(&self.key);
        }
        self.changed.notify_one();
        is_answered
    }
}
