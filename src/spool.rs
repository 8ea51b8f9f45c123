//! The spool keeps messages on disk that a mail server has not taken yet, and sends them later.
//!
//! A message goes to the mail server while it comes in, and at the same time into a [`Writer`]. The device hears 250 by
//! the server's own answer, and the file is forgotten. Only where the server refuses the message for the moment, is
//! lost, or does not answer in time, the file is kept: fsync of the file and its directory come before the 250 of
//! packetboat. From then on packetboat has to send the message, or to report that it could not (RFC 5321 §6.1).
//!
//! | module | content |
//! |---|---|
//! | `envelope` | what goes with a message, and what became of an attempt |
//! | `writer` | takes the octets of one message without a wait on the event loop |
//! | `sealed_file`, `file_name`, `record`, `store` | files: their format, their names, their directory |
//! | `entry`, `entries` | one message in the queue, and its schedule; all messages, in their order |
//! | `share`, `reservation` | room for a message, as a whole and for each mailbox and device |
//! | `hanging` | a disk that does not answer |
//! | `settle` | what an answer means for a message |
//! | `outgoing`, `delivery`, `report` | attempts: what is sent, when, and the report about what was given up |
//! | `operator` | list, show, remove, retry |

mod delivery;
mod entries;
mod entry;
mod envelope;
mod error;
mod file_name;
mod hanging;
mod operator;
mod outgoing;
mod record;
mod report;
mod reservation;
mod sealed_file;
mod settle;
mod share;
mod store;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use crate::config::SpoolSettings;
use crate::pool;
use entries::Entries;
use entry::{Entry, MailboxKey};
use file_name::{FileName, Phase};
use store::Store;

pub use delivery::{Answered, Attempt, Hold, Submit, run};
pub use envelope::{Answer, Envelope, Outcome};
pub use error::Error;
pub use file_name::Id;
pub use operator::{Details, Item, ItemState, Refusal, Retried};
pub use outgoing::{Outgoing, Piece};
pub use share::Share;
pub use writer::{KeptMessage, Writer};

/// The spool of the process. A reload changes its settings.
#[derive(Default)]
pub struct Spool {
    queue: Mutex<Queue>,
    /// Held while the directory is being opened.
    opening: Mutex<()>,
    /// Something has changed that the next attempt may depend on.
    changed: Notify,
}

#[derive(Default)]
struct Queue {
    store: Option<Arc<Store>>,
    settings: Option<SpoolSettings>,
    /// The directory that could not be opened yet, because of a fault that passes.
    unopened: Option<Unopened>,
    entries: Entries,
    /// Mailboxes with an attempt under way.
    sending: BTreeSet<MailboxKey>,
    held: BTreeMap<MailboxKey, HeldMailbox>,
    counts: Counts,
    /// The reason why messages are not kept, if so.
    problem: Option<String>,
    /// The reason is the disk, whichever file it was.
    is_problem_of_disk: bool,
    /// Threads that wait for the disk, and for which nobody waits any more.
    late: usize,
    /// The time at which the disk has last taken a whole message.
    answered: Option<std::time::Instant>,
}

/// A directory that is to be opened once the disk lets it, with the key.
#[derive(Clone)]
struct Unopened {
    settings: SpoolSettings,
    key: Arc<Zeroizing<Vec<u8>>>,
}

/// A mailbox whose messages wait.
struct HeldMailbox {
    until: Instant,
    step: u32,
    hold: Hold,
}

/// Counters since the start of the process, and the state of the spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that were kept.
    pub kept: u64,
    /// Kept messages that a mail server has taken.
    pub delivered: u64,
    /// Reports that a mail server has taken.
    pub reported: u64,
    /// Messages that were given up because of their age.
    pub expired: u64,
    /// Attempts behind an attempt whose outcome is not known: each may have made a second copy.
    pub repeated: u64,
    /// Files that were damaged.
    pub damaged: u64,
    /// Messages that could not be kept, and only streamed.
    pub not_kept: u64,
    /// Messages that an operator has removed.
    pub removed: u64,
}

/// The state of the spool for metrics and the page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The counters.
    pub counts: Counts,
    /// Messages that wait, those of reports included.
    pub waiting: usize,
    /// Messages that an operator has to look at.
    pub needs_operator: usize,
    /// The octets of all messages.
    pub octets: u64,
    /// The age of the oldest message that waits.
    pub oldest: Duration,
    /// Mailboxes whose login the mail server refuses.
    pub refused_logins: usize,
    /// The shares of mailboxes and devices that are full.
    pub full_shares: Vec<Share>,
    /// The reason why messages are not kept, if so.
    pub problem: Option<String>,
    /// Whether the spool is open.
    pub is_open: bool,
}

impl Spool {
    /// Opens the directory of these settings, and finds the messages there. One that is open stays until the process
    /// ends. It blocks.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn open(&self, settings: &SpoolSettings, key: &[u8]) -> Result<(), Error> {
        let _opening = self.opening.lock();
        // Messages wait in the directory that is open, and others come into it now: a reload rejects another one.
        let mut queue = self.queue.lock();
        if queue.store.is_some() {
            queue.settings = Some(settings.clone());
            return Ok(());
        }
        drop(queue);
        let store = Store::open(&settings.directory, key)?;
        let (found, now) = (store.scan()?, Instant::now());
        let mut damaged = 0;
        let mut entries = Vec::new();
        for one in found {
            let mut entry = Entry::found(one.name, one.octets, one.record, now);
            match one.envelope {
                Ok(envelope) => entry.set_envelope(envelope),
                Err(why @ Error::Damaged(_)) => {
                    damaged += 1;
                    set_aside(&store, &mut entry, &why);
                }
                Err(why) => set_unreadable(&mut entry, &why),
            }
            entries.push(entry);
        }
        if !entries.is_empty() {
            info!(messages = entries.len(), "messages found in the spool");
        }
        let mut queue = self.queue.lock();
        queue.store = Some(Arc::new(store));
        queue.settings = Some(settings.clone());
        for entry in entries {
            queue.entries.insert(entry.name.id, entry);
        }
        queue.counts.damaged += damaged;
        queue.unopened = None;
        queue.problem = None;
        drop(queue);
        self.changed.notify_one();
        Ok(())
    }

    /// Notes why the spool is not open, where that passes: with each message and every minute it is tried again.
    /// Messages only stream meanwhile.
    pub fn open_later(&self, settings: &SpoolSettings, key: &[u8], why: &Error) {
        let mut queue = self.queue.lock();
        queue.problem = Some(why.to_string());
        queue.is_problem_of_disk = why.is_of_disk();
        queue.unopened = Some(Unopened { settings: settings.clone(), key: Arc::new(Zeroizing::new(key.to_vec())) });
        drop(queue);
        self.changed.notify_one();
    }

    /// Opens what could not be opened before. Returns whether there is something left to open.
    async fn open_now(self: &Arc<Self>) -> bool {
        let Some(Unopened { settings, key }) = self.queue.lock().unopened.clone() else { return false };
        let spool = Arc::clone(self);
        let opened = pool::SPOOL.run(move || spool.open(&settings, &key)).await;
        match opened.map_err(Error::from).and_then(|opened| opened) {
            Ok(()) => {
                info!("the spool is open now, and keeps messages");
                false
            }
            Err(why) => {
                self.note_problem(&why);
                true
            }
        }
    }

    /// Returns whether a directory has messages: they are sent even where no listener uses the spool any more.
    pub fn has_messages(directory: &Path) -> bool {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_str().and_then(FileName::parse).is_some())
    }

    /// The time for the mail server's answer to a whole message, before [`Outcome::Slow`].
    pub fn patience(&self) -> Option<Duration> {
        self.queue.lock().settings.as_ref().map(|settings| settings.patience)
    }

    /// The state of the spool.
    pub fn summary(&self) -> Summary {
        let queue = self.queue.lock();
        let now = Instant::now();
        let waiting = || queue.entries.values().filter(|entry| entry.is_tried());
        Summary {
            counts: queue.counts.clone(),
            waiting: waiting().count(),
            needs_operator: queue.entries.values().filter(|entry| entry.needs_operator()).count(),
            octets: queue.entries.shares.total().octets,
            oldest: waiting().map(|entry| entry.age(now)).max().unwrap_or_default(),
            refused_logins: queue.held.values().filter(|held| held.hold.is_refused_login()).count(),
            full_shares: queue.entries.shares.full().cloned().collect(),
            problem: queue.problem.clone(),
            is_open: queue.store.is_some(),
        }
    }

    /// Counts a message that only streamed, and notes why.
    fn not_kept(&self, why: &Error) {
        self.queue.lock().counts.not_kept += 1;
        self.note_problem(why);
    }

    fn note_problem(&self, why: &Error) {
        if let Error::ShareFull(share) = why {
            return self.note_full_share(share);
        }
        let mut queue = self.queue.lock();
        if matches!(why, Error::Hangs(_)) && queue.late == 0 {
            // The disk is back.
            return;
        }
        let problem = why.to_string();
        let is_same = queue
            .problem
            .as_ref()
            .is_some_and(|before| *before == problem || (queue.is_problem_of_disk && why.is_of_disk()));
        queue.is_problem_of_disk = why.is_of_disk();
        queue.problem = Some(problem);
        drop(queue);
        if !is_same {
            warn!("messages are not kept in the spool, and only stream: {why}{}", why.advice());
        }
    }

    /// Removes a message that was kept for nobody: its connection had ended before.
    fn forget_unclaimed(&self, id: Id) {
        let mut queue = self.queue.lock();
        let entry = queue.remove(id);
        let store = queue.store.clone();
        queue.counts.kept = queue.counts.kept.saturating_sub(1);
        drop(queue);
        if let (Some(entry), Some(store)) = (entry, store)
            && let Err(why) = store.remove(entry.name)
        {
            error!(%id, "a message in the spool cannot be removed, and may be sent after a restart: {why}");
        }
    }
}

/// Leaves a file alone that the disk does not give. An operator may have it read anew, and the next start does.
fn set_unreadable(entry: &mut Entry, why: &Error) {
    let id = entry.name.id;
    entry.fault = Some(format!("{why}; let packetboat read it, then run packetboat spool retry {id}"));
    error!(%id, "a message in the spool is not sent: {why}; let packetboat read it, then run packetboat spool retry {id}");
}

/// Sets a damaged file aside. It is never sent.
fn set_aside(store: &Store, entry: &mut Entry, why: &Error) {
    let name = FileName { phase: Phase::Damaged, ..entry.name };
    // Where the disk does not let it be renamed, the next start finds it again.
    let _ = if entry.name == name { Ok(()) } else { store.rename(entry.name, name) };
    if entry.name.phase != Phase::Damaged {
        error!(id = %entry.name.id, "a message in the spool is set aside, and is not sent: {why}");
    }
    entry.name = name;
}
