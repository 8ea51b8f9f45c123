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
//! | `entry` | one message in the queue, and its schedule |
//! | `settle` | what an answer means for a message |
//! | `outgoing`, `delivery`, `report` | attempts: what is sent, when, and the report about what was given up |
//! | `operator` | list, show, remove, retry |

mod delivery;
mod entry;
mod envelope;
mod error;
mod file_name;
mod operator;
mod outgoing;
mod record;
mod report;
mod sealed_file;
mod settle;
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
use entry::{Entry, MailboxKey};
use file_name::{FileName, Phase};
use store::Store;

pub use delivery::{Answered, Attempt, Hold, Submit, run};
pub use envelope::{Answer, Envelope, Outcome};
pub use error::Error;
pub use file_name::Id;
pub use operator::{Details, Item, ItemState, Refusal};
pub use outgoing::{Outgoing, Piece};
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
    entries: BTreeMap<Id, Entry>,
    /// The share of the spool that messages coming in have.
    reserved: Used,
    /// Mailboxes with an attempt under way.
    sending: BTreeSet<MailboxKey>,
    held: BTreeMap<MailboxKey, HeldMailbox>,
    counts: Counts,
    /// The reason why messages are not kept, if so.
    problem: Option<String>,
    /// The reason is the disk, whichever file it was.
    is_problem_of_disk: bool,
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    octets: u64,
    messages: usize,
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
    /// The reason why messages are not kept, if so.
    pub problem: Option<String>,
    /// Whether the spool is open.
    pub is_open: bool,
}

/// A share of the spool for a message that comes in.
struct Reserved {
    spool: Arc<Spool>,
    octets: u64,
}

impl Spool {
    /// Opens the directory of these settings, and finds the messages there. One that is open stays until the process
    /// ends. It blocks.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn open(&self, settings: &SpoolSettings, key: &[u8]) -> Result<(), Error> {
        let _opening = self.opening.lock();
        // Messages wait in the directory that is open, and others come into it now.
        let open = self.queue.lock().store.as_ref().map(|store| store.directory().to_path_buf());
        if let Some(open) = open {
            if open != settings.directory {
                warn!("spool.directory has changed: restart packetboat; until then the spool is {}", open.display());
            }
            self.queue.lock().settings = Some(settings.clone());
            return Ok(());
        }
        let store = Store::open(&settings.directory, key)?;
        let (found, now) = (store.scan()?, Instant::now());
        let mut entries = BTreeMap::new();
        let mut damaged = 0;
        for one in found {
            let mut entry = Entry::found(one.name, one.octets, one.record, now);
            match one.envelope {
                Ok(envelope) => entry.set_envelope(envelope),
                Err(why) => {
                    damaged += 1;
                    set_aside(&store, &mut entry, &why);
                }
            }
            entries.insert(one.name.id, entry);
        }
        if !entries.is_empty() {
            info!(messages = entries.len(), "messages found in the spool");
        }
        let mut queue = self.queue.lock();
        queue.store = Some(Arc::new(store));
        queue.settings = Some(settings.clone());
        queue.entries = entries;
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

    /// Begins a message. `None` where the spool is full, off or broken: then the message only streams.
    pub fn begin(self: &Arc<Self>, envelope: Envelope) -> Option<Writer> {
        let queue = self.queue.lock();
        if queue.unopened.is_some() {
            // This message only streams; the next one may be kept.
            self.changed.notify_one();
        }
        let store = Arc::clone(queue.store.as_ref()?);
        let most = queue.settings.as_ref()?.max_messages;
        let is_full = queue.entries.len() + queue.reserved.messages >= most;
        drop(queue);
        if is_full {
            self.not_kept(&Error::Full);
            return None;
        }
        let reserved = Reserved::new(self);
        Writer::new(Arc::clone(self), store, envelope, reserved)
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
            octets: queue.octets(),
            oldest: waiting().map(|entry| entry.age(now)).max().unwrap_or_default(),
            refused_logins: queue.held.values().filter(|held| held.hold.is_refused_login()).count(),
            problem: queue.problem.clone(),
            is_open: queue.store.is_some(),
        }
    }

    /// Takes a message that is on disk into the queue.
    fn register(&self, entry: Entry, outcome: &Outcome) {
        let (id, envelope) = (entry.name.id, entry.envelope.clone().unwrap_or_default());
        let mut queue = self.queue.lock();
        queue.counts.kept += 1;
        queue.problem = None;
        queue.entries.insert(id, entry);
        drop(queue);
        self.changed.notify_one();
        let Envelope { connection, device: login, mailbox, .. } = envelope;
        warn!(%id, connection, login, mailbox, "message kept in the spool: {}", outcome.text());
    }

    /// Notes that a message only streamed.
    fn not_kept(&self, why: &Error) {
        self.queue.lock().counts.not_kept += 1;
        self.note_problem(why);
    }

    fn note_problem(&self, why: &Error) {
        let mut queue = self.queue.lock();
        let problem = why.to_string();
        let is_same = queue
            .problem
            .as_ref()
            .is_some_and(|before| *before == problem || (queue.is_problem_of_disk && why.is_of_disk()));
        queue.is_problem_of_disk = why.is_of_disk();
        queue.problem = Some(problem);
        drop(queue);
        if !is_same {
            let advice = if why.is_of_disk() { "; make room on the disk, or let packetboat write there" } else { "" };
            warn!("messages are not kept in the spool, and only stream: {why}{advice}");
        }
    }

    /// Removes a message that was kept for nobody: its connection had ended before.
    fn forget_unclaimed(&self, id: Id) {
        let mut queue = self.queue.lock();
        let entry = queue.entries.remove(&id);
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

impl Queue {
    fn octets(&self) -> u64 {
        self.entries.values().map(|entry| entry.octets).sum::<u64>().saturating_add(self.reserved.octets)
    }
}

impl Reserved {
    fn new(spool: &Arc<Spool>) -> Self {
        spool.queue.lock().reserved.messages += 1;
        Self { spool: Arc::clone(spool), octets: 0 }
    }

    /// Takes further octets. Returns false where the spool has no more.
    fn grow(&mut self, octets: u64) -> bool {
        let mut queue = self.spool.queue.lock();
        let most = queue.settings.as_ref().map_or(0, |settings| settings.max_size);
        if queue.octets().saturating_add(octets) > most {
            return false;
        }
        queue.reserved.octets += octets;
        self.octets += octets;
        true
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut queue = self.spool.queue.lock();
        queue.reserved.messages = queue.reserved.messages.saturating_sub(1);
        queue.reserved.octets = queue.reserved.octets.saturating_sub(self.octets);
    }
}
