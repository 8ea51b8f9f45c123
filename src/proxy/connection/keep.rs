//! A message that the mail server does not take at once goes into the spool, and the device hears that it is kept.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::Connection;
use super::network::Network;
use crate::failure::{Failure, Kind, Reply};
use crate::lifecycle::Phase;
use crate::proto::sasl::{Credentials, Method};
use crate::proto::{KeepReason, MessageEnvelope, Terms, UpstreamLogin};
use crate::protocol::Security;
use crate::proxy::transaction::Transaction;
use crate::secret::Secret;
use crate::spool::{Answer, Envelope, Outcome};

impl<N: Network> Connection<'_, '_, N> {
    /// Makes ready to keep a message whose content comes next.
    pub(super) fn message_begins(&mut self, message: &MessageEnvelope) {
        self.record.message_begins(message);
        let spool = self.service.spool.as_ref();
        let writer = spool.and_then(|spool| spool.begin(self.envelope(message)?));
        self.driver.message_begun(writer);
    }

    /// The envelope for the spool. None where a reload has withdrawn the permission that a later attempt needs.
    fn envelope(&self, message: &MessageEnvelope) -> Option<Envelope> {
        let (mailbox, device) = self.registered.mailbox().ok()?;
        let received = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Some(Envelope {
            account: device.account.clone(),
            mailbox: mailbox.account.mailbox.clone(),
            device: device.name.clone(),
            upstream: mailbox.account.upstream.clone(),
            sender: message.sender.clone(),
            recipients: message.recipients.clone(),
            parameters: message.parameters.clone(),
            received,
            connection: self.record.number().to_string(),
        })
    }

    /// Keeps a message that no server has taken. The spool writes the line for it.
    pub(super) async fn keep(&mut self, reason: KeepReason) {
        let kind = if reason == KeepReason::Unknown { Kind::OutcomeUnknown } else { Kind::MessageDeferred };
        let outcome = match reason {
            KeepReason::Refused(reply, retry_after) => {
                if let (Some(opened), Some(wait)) = (&self.opened, retry_after) {
                    opened.mailbox.leave_alone(wait);
                }
                Outcome::Refused(reply)
            }
            KeepReason::ServerLost => {
                Outcome::ServerLost("the mail server was lost before it had the message".to_owned())
            }
            KeepReason::NoServer(why) => Outcome::NoServer(why),
            KeepReason::Unknown => Outcome::Unknown("it closed before it answered".to_owned()),
        };
        self.driver.take_message_ended();
        let why = outcome.text();
        // A device that has left hears no 250, and sends the message again.
        let is_kept = match self.driver.take_keeper().filter(|_| !self.device_is_gone) {
            Some(writer) => writer.commit(outcome).await.is_ok(),
            None => false,
        };
        if is_kept {
            self.record.message_kept();
        } else {
            self.record.noticed(&Failure::new(kind, format!("the message could not be kept; {why}")));
        }
        self.driver.message_kept(is_kept);
    }

    /// The time for the server's answer to the present message before it is kept.
    pub(super) fn patience(&self) -> Option<Duration> {
        let is_kept = self.driver.has_keeper() && !self.device_is_gone;
        self.service.spool.as_ref().filter(|_| is_kept).and_then(|spool| spool.patience())
    }

    /// Keeps a message whose answer is late, and has a task wait for that answer in the place of the device. A server that
    /// has not taken all of the message has none, and is left.
    pub(super) async fn answer_is_late(&mut self) {
        let Some(writer) = self.driver.take_keeper() else { return };
        let is_sent = !self.driver.is_sending();
        let not_taken = || Outcome::ServerLost("the mail server did not take the whole message in time".to_owned());
        // Where it cannot be kept, the device waits on.
        let Ok(kept) = writer.commit(if is_sent { Outcome::Slow } else { not_taken() }).await else { return };
        self.record.message_kept();
        self.driver.take_message_ended();
        if !is_sent {
            // The end of the message never leaves.
            self.driver.drop_upstream();
            self.driver.message_kept(true);
            return self.free_connection();
        }
        let admission = self.opened.as_mut().and_then(|opened| opened.admission.take());
        let Some((stream, unread)) = self.driver.take_upstream() else {
            kept.answered(Answer::Lost("its connection has ended".to_owned()));
            return self.driver.message_kept(true);
        };
        self.driver.drop_upstream();
        let mailbox = self.record.mailbox.clone();
        // The device's own count has the message. That of the mailbox gets it with the answer.
        let reserved = mailbox.as_ref().map(|mailbox| mailbox.submission().quota.under_way(kept.recipients()));
        self.driver.message_kept(true);
        let mut transaction = Transaction::new(stream, &unread, self.service.limits.submission);
        let sent_mail = self.service.telemetry.sent_mail.clone();
        let account = self.record.device().map(|device| device.account.clone());
        let mut process = self.registered.process();
        tokio::spawn(async move {
            // The drain waits for it. A message without an answer at its end is sent once more after the next start.
            let outcome = tokio::select! {
                outcome = transaction.late_answer(kept.recipients()) => outcome,
                () = process.reached(Phase::Ending) => return,
            };
            if let (Some(mailbox), Some(account)) = (mailbox, account) {
                // The next message asks the mailbox itself.
                let _ = sent_mail.settled(&account, &mailbox, &outcome);
            }
            drop(reserved);
            kept.answered(outcome.answer);
            transaction.quit().await;
            // The server counts the connection until here.
            drop((admission, process));
        });
    }

    /// Returns whether the device may come in although there is no server now: its own password was right, the failure
    /// may pass, and its messages are kept.
    pub(super) fn may_begin_without_server(&self, failure: &Failure) -> bool {
        let may_pass = matches!(failure.kind.reply(), Reply::Unavailable | Reply::InUse);
        let is_end = matches!(failure.kind, Kind::Revoked | Kind::Drained);
        self.service.spool.is_some() && may_pass && !is_end && self.registered.mailbox().is_ok()
    }

    /// Lets the device in without a server. Returns whether its session can do that.
    pub(super) fn begin_without_server(&mut self, failure: &Failure) -> bool {
        let Ok((mailbox, device)) = self.registered.mailbox() else { return false };
        let terms = Terms::translated(mailbox.server.protocol(), mailbox.settings(&device));
        // The server's own login comes with the first message.
        let (login, authzid, secret) = (Vec::new(), Vec::new(), Secret::new(Vec::new()));
        let credentials = Credentials { method: Method::Command, login, authzid, secret };
        let is_in =
            self.driver.logged_in_without_server(UpstreamLogin { credentials, security: Security::Implicit, terms });
        if !is_in {
            return false;
        }
        self.retry = None;
        self.opened = None;
        self.note_unreachable(failure);
        self.record.mailbox = Some(Arc::clone(&mailbox));
        self.record.logged_in();
        self.record.not_reached(failure);
        self.admitted.became_known();
        // A permission that is withdrawn meanwhile ends the session by itself.
        let _ = self.registered.login_succeeded();
        true
    }

    /// Notes that there is no server, for a session that goes on nevertheless.
    pub(super) fn note_unreachable(&mut self, failure: &Failure) {
        if self.service.spool.is_some() {
            self.unreachable = Some(Box::new((Instant::now(), failure.clone())));
        }
    }

    /// The last failure to reach a server, where that is so recent that the device does not wait for another try.
    pub(super) fn recently_unreachable(&self) -> Option<Failure> {
        let (at, failure) = self.unreachable.as_deref()?;
        (at.elapsed() < RETRY).then(|| failure.clone())
    }
}

/// The time for which a server that was not reached is not dialled again for the same device.
const RETRY: Duration = Duration::from_secs(30);
