//! The delivery tries messages that are due: one at a time for each mailbox, and never one twice at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::entry::{Entry, MailboxKey, interval};
use super::envelope::Answer;
use super::error::Error;
use super::settle::Settling;
use super::{HeldMailbox, Id, Outgoing, Queue, Spool};
use crate::lifecycle::{Lifecycle, Phase};
use crate::pool::{self, Gate};

/// The way of a message to its mail server.
pub trait Submit: Send + Sync + 'static {
    /// Submits one message by its account.
    fn submit(&self, outgoing: Outgoing) -> impl Future<Output = Attempt> + Send;
}

/// The outcome of an attempt.
pub enum Attempt {
    /// The server has answered, or was lost.
    Answered(Answered),
    /// The message did not get as far as its sender, and nor would another one of the mailbox.
    Held(Hold),
    /// The message's file does not let itself be sent.
    Unreadable(Error),
}

/// The server's answers to an attempt.
pub struct Answered {
    /// The answer to the message.
    pub answer: Answer,
    /// The recipients that the server has refused for good, each with its reply.
    pub refused: Vec<(String, String)>,
    /// The recipients that the server does not take for the moment, each with its reply. Where it has accepted the
    /// message, they have not got it.
    pub deferred: Vec<(String, String)>,
    /// The reason why the mailbox's next message waits, if so.
    pub hold: Option<Hold>,
}

/// The reason why all messages of a mailbox wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Devices use all sessions of the mailbox.
    Busy,
    /// The mailbox has sent enough for now, and goes on after this time.
    Pace(Duration),
    /// The server throttles the mailbox.
    Throttled {
        /// The time after which it may be tried again.
        wait: Duration,
        /// The reason in words.
        why: String,
    },
    /// The mailbox has sent to as many recipients in a day as the configuration lets it.
    OverQuota(String),
    /// The server is not reached, or there is no token for now.
    Unreachable(String),
    /// The server, or the token endpoint, refuses the login: an operator has to act.
    RefusedLogin(String),
    /// The configuration has no such account any more, or it opens another mailbox.
    NoAccount(String),
}

impl Hold {
    /// Whether the login is refused.
    pub fn is_refused_login(&self) -> bool {
        matches!(self, Self::RefusedLogin(_) | Self::NoAccount(_))
    }

    /// The reason in words; none where it passes by itself in a moment.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Busy | Self::Pace(_) => None,
            Self::Throttled { why, .. }
            | Self::OverQuota(why)
            | Self::Unreachable(why)
            | Self::RefusedLogin(why)
            | Self::NoAccount(why) => Some(why),
        }
    }

    /// The wait behind this hold, by the number of waits of the mailbox that came before.
    fn wait(&self, step: u32) -> Duration {
        match self {
            Self::Busy => BUSY,
            Self::Pace(wait) | Self::Throttled { wait, .. } => *wait,
            Self::OverQuota(_) => OVER_QUOTA,
            Self::Unreachable(_) | Self::RefusedLogin(_) | Self::NoAccount(_) => interval(step),
        }
    }

    /// Returns whether each wait is longer than the one before.
    fn is_prolonged(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::RefusedLogin(_) | Self::NoAccount(_))
    }
}

impl Answered {
    /// The answer to a message with all its recipients.
    pub fn whole(answer: Answer) -> Self {
        Self { answer, refused: Vec::new(), deferred: Vec::new(), hold: None }
    }
}

/// Tries messages until the configuration's lifecycle ends. `process` is the lifecycle of the process: its drain waits
/// for attempts that are under way.
pub async fn run<S: Submit>(spool: Arc<Spool>, submit: Arc<S>, mut configuration: Lifecycle, process: Lifecycle) {
    loop {
        let is_unopened = tokio::select! {
            biased;
            () = configuration.reached(Phase::Draining) => return,
            // The disk may hang.
            is_unopened = spool.open_now() => is_unopened,
        };
        let (due, mut next) = spool.take_due();
        if is_unopened {
            next = next.min(Instant::now() + OPENING);
        }
        for (id, mailbox) in due {
            let attempt = attempt(Arc::clone(&spool), Arc::clone(&submit), id, process.clone());
            let sending = Sending { spool: Arc::clone(&spool), id, mailbox, held: Some(aborted()) };
            tokio::spawn(async move {
                let held = attempt.await;
                sending.end(held);
            });
        }
        tokio::select! {
            // A change that comes with a reload is for the loop of the next configuration.
            biased;
            () = configuration.reached(Phase::Draining) => return,
            () = spool.changed.notified() => {}
            () = sleep_until(next) => {}
        }
    }
}

/// Tries one message. Returns why its mailbox is held, if so.
async fn attempt<S: Submit>(spool: Arc<Spool>, submit: Arc<S>, id: Id, mut process: Lifecycle) -> Option<Hold> {
    // What hangs on the disk is waited for before anything else is done about the message.
    let gate = Gate::new();
    let (opening, of_message, now) = (Arc::clone(&spool), gate.clone(), Instant::now());
    let opened = pool::SPOOL.run(move || {
        if opening.settle_left(id, now) {
            return Ok(None);
        }
        if opening.is_tried_enough(id) {
            let answer = Answer::Lost("packetboat ended behind the message".to_owned());
            opening.settle(id, Settling { at: now, ..Settling::new(answer) });
            return Ok(None);
        }
        Outgoing::open(&opening, id, of_message).map(Some)
    });
    let opened = tokio::select! {
        opened = opened => opened,
        // Nobody was asked yet, and the disk may hang: the next start tries the message.
        () = process.reached(Phase::Draining) => return None,
    };
    let attempt = match opened.map_err(Error::from).and_then(|opened| opened) {
        Ok(None) => return None,
        Ok(Some(outgoing)) => tokio::select! {
            attempt = submit.submit(outgoing) => attempt,
            () = process.reached(Phase::Ending) => Attempt::Answered(Answered::whole(Answer::Lost(
                "packetboat ended in the middle of the attempt".to_owned(),
            ))),
        },
        Err(error) => Attempt::Unreadable(error),
    };
    let (settled, now) = (Arc::clone(&spool), Instant::now());
    let settle = move || settled.settle_attempt(id, attempt, now);
    let settled = pool::SPOOL.run_alone(&gate, Duration::MAX, settle).await;
    settled.unwrap_or_else(|why| {
        spool.free(id);
        Some(Hold::Unreachable(why.to_string()))
    })
}

/// A mailbox whose message is being tried. It is free again on drop, so that an attempt that panics does not keep the
/// mailbox for ever.
struct Sending {
    spool: Arc<Spool>,
    id: Id,
    mailbox: MailboxKey,
    held: Option<Hold>,
}

impl Sending {
    /// The attempt has come to its end.
    fn end(mut self, held: Option<Hold>) {
        self.held = held;
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if self.held.as_ref() == Some(&aborted()) {
            error!(id = %self.id, "an attempt to send a kept message ended by a fault of packetboat: report it, please");
            // Where the server had the whole message, the file's name says that the outcome is unknown.
            self.spool.free(self.id);
        }
        self.spool.mailbox_is_free(&self.mailbox, self.held.take());
    }
}

/// The reason for the wait behind an attempt that has come to no end.
fn aborted() -> Hold {
    Hold::Unreachable("the last attempt ended by a fault of packetboat".to_owned())
}

impl Spool {
    /// Takes the messages that are due, one for each mailbox that is free. Returns when the next one is due, too.
    fn take_due(&self) -> (Vec<(Id, MailboxKey)>, Instant) {
        let now = Instant::now();
        let mut queue = self.queue.lock();
        let Queue { entries, held, sending, .. } = &mut *queue;
        let (mut due, mut next) = (Vec::new(), now + LONGEST_SLEEP);
        for (mailbox, at, id) in entries.next_of_mailboxes().filter(|(mailbox, ..)| !sending.contains(*mailbox)) {
            let at = held.get(mailbox).map_or(at, |held| held.until.max(at));
            if at > now {
                next = next.min(at);
            } else {
                due.push((id, mailbox.clone()));
            }
        }
        for (id, mailbox) in &due {
            sending.insert(mailbox.clone());
            entries.change(*id, |entry| entry.is_busy = true);
        }
        (due, next)
    }

    /// Lets the mailbox's next message come, or holds it.
    fn mailbox_is_free(&self, mailbox: &MailboxKey, held: Option<Hold>) {
        let mut queue = self.queue.lock();
        queue.sending.remove(mailbox);
        match held {
            None => drop(queue.held.remove(mailbox)),
            Some(hold) => {
                let before = queue.held.get(mailbox);
                let is_same = before.is_some_and(|before| before.hold.text() == hold.text());
                let step = before.filter(|_| hold.is_prolonged()).map_or(0, |before| before.step + 1);
                let wait = hold.wait(step);
                if let Some(why) = hold.text().filter(|_| !is_same) {
                    let (mailbox, next) = (&mailbox.1, humantime::format_duration(wait));
                    match hold {
                        Hold::RefusedLogin(_) | Hold::NoAccount(_) => {
                            warn!(
                                mailbox,
                                "kept messages wait, because the login is refused; next try in {next}: {why}"
                            );
                        }
                        Hold::OverQuota(_) => {
                            info!(mailbox, "kept messages wait, because of a limit; next try in {next}: {why}");
                        }
                        _ => info!(mailbox, "kept messages wait for their mail server; next try in {next}: {why}"),
                    }
                }
                queue.held.insert(mailbox.clone(), HeldMailbox { until: Instant::now() + wait, step, hold });
            }
        }
        drop(queue);
        self.changed.notify_one();
    }

    /// Settles an attempt. Returns why its mailbox is held, if so. It blocks.
    fn settle_attempt(&self, id: Id, attempt: Attempt, at: Instant) -> Option<Hold> {
        let lost = |why: String| Settling { at, ..Settling::new(Answer::Lost(why)) };
        match attempt {
            Attempt::Answered(Answered { answer, refused, deferred, hold }) => {
                self.settle(id, Settling { answer, refused, deferred, at });
                hold
            }
            // Nobody was asked, and so it is no try.
            Attempt::Held(hold @ (Hold::Busy | Hold::Pace(_) | Hold::Throttled { .. })) => {
                self.free(id);
                Some(hold)
            }
            Attempt::Held(hold) => {
                let why = hold.text().unwrap_or_default().to_owned();
                self.settle(id, lost(why));
                Some(hold)
            }
            Attempt::Unreadable(why @ Error::Damaged(_)) => {
                self.settle_damaged(id, &why, at);
                None
            }
            Attempt::Unreadable(why) => {
                self.take_back_end(id);
                self.settle(id, lost(why.to_string()));
                None
            }
        }
    }

    /// Whether a message was tried often enough with an unknown outcome, the last time before a restart.
    fn is_tried_enough(&self, id: Id) -> bool {
        let mut queue = self.queue.lock();
        if !queue.entries.get(&id).is_some_and(|entry| entry.name.is_tried_enough()) {
            return false;
        }
        queue.entries.change(id, |entry| entry.is_ending = true).is_some()
    }

    fn free(&self, id: Id) {
        self.queue.lock().entries.change(id, Entry::free);
    }
}

/// The wait for a session of a mailbox that devices use.
const BUSY: Duration = Duration::from_secs(20);
/// The wait of a mailbox that is over its quota of a day: the quota is counted by ten minutes.
const OVER_QUOTA: Duration = Duration::from_secs(10 * 60);
/// The time between two tries to open the spool where no message comes.
const OPENING: Duration = Duration::from_secs(60);
const LONGEST_SLEEP: Duration = Duration::from_secs(60 * 60);
