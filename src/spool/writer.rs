//! The writer of one message's file, fed while the message goes up, without a wait on the event loop.

use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Spool;
use super::entry::Entry;
use super::envelope::{Answer, Envelope, Outcome};
use super::error::Error;
use super::file_name::{FileName, Id, Phase};
use super::record::{self, Record};
use super::reservation::Reservation;
use super::sealed_file::{self, Kind, LARGEST_ENVELOPE, Sealer};
use super::store::Store;
use crate::pool::{self, NotDone};
use crate::state::NewFile;

/// The writer of one message.
///
/// # The order of calls
///
/// 1. [`Spool::begin`], once the mail server waits for the content, or nobody is there to send it to.
/// 2. [`append`](Self::append) for all octets as they go up, with the final dot. Before each call wait for
///    [`ready`](Self::ready) or [`poll_ready`](Self::poll_ready): what the disk has not taken yet is in memory.
/// 3. [`commit`](Self::commit), or [`discard`](Self::discard), which a drop does as well.
pub struct Writer(Arc<Pipe>);

/// A message that is kept. Where its first attempt still waits for the mail server's answer, tell that by
/// [`answered`](Self::answered). A drop tells that the server is lost.
pub struct KeptMessage {
    spool: Arc<Spool>,
    id: Id,
    recipients: u32,
    is_awaited: bool,
}

/// The way from the connection to the thread that writes.
struct Pipe {
    spool: Arc<Spool>,
    store: Arc<Store>,
    id: Id,
    envelope: Envelope,
    octets_of_empty: u64,
    buffer: Mutex<Buffer>,
}

struct Buffer {
    pending: Vec<u8>,
    reserved: Option<Reservation>,
    octets: u64,
    file: Option<(NewFile, Sealer)>,
    is_running: bool,
    is_discarded: bool,
    failure: Option<Error>,
    commit: Option<Commit>,
    waker: Option<Waker>,
}

struct Commit {
    outcome: Outcome,
    at: Instant,
    done: oneshot::Sender<Result<Id, Error>>,
}

impl Spool {
    /// Begins a message. `None` where the spool or a share of it is full, or the spool is off or broken: then the message
    /// only streams.
    pub fn begin(self: &Arc<Self>, envelope: Envelope) -> Option<Writer> {
        let reserved = Writer::octets_of_empty(&envelope).and_then(|octets| Reservation::new(self, &envelope, octets));
        match reserved {
            Ok(reserved) => reserved.and_then(|(store, reserved)| Writer::new(store, envelope, reserved)),
            Err(why) => {
                self.not_kept(&why);
                None
            }
        }
    }
}

impl Writer {
    /// The octets of a file without content.
    ///
    /// # Errors
    /// The envelope does not fit in a file.
    fn octets_of_empty(envelope: &Envelope) -> Result<u64, Error> {
        let length = record::to_json(envelope).len();
        if length > LARGEST_ENVELOPE {
            return Err(Error::LongEnvelope);
        }
        Ok(sealed_file::length_of_empty(length as u64))
    }

    fn new(store: Arc<Store>, envelope: Envelope, reserved: Reservation) -> Option<Self> {
        let (spool, octets_of_empty) = (Arc::clone(reserved.spool()), reserved.octets());
        let buffer = Buffer {
            pending: Vec::new(),
            reserved: Some(reserved),
            octets: 0,
            file: None,
            is_running: false,
            is_discarded: false,
            failure: None,
            commit: None,
            waker: None,
        };
        let id = Id::new().ok()?;
        Some(Self(Arc::new(Pipe { spool, store, id, envelope, octets_of_empty, buffer: Mutex::new(buffer) })))
    }

    /// Takes octets exactly as they go up: rewritten, with dots doubled, and with the end of data.
    pub fn append(&mut self, octets: &[u8]) {
        let mut buffer = self.0.buffer.lock();
        if buffer.failure.is_some() {
            return;
        }
        buffer.octets = buffer.octets.saturating_add(octets.len() as u64);
        let on_disk =
            self.0.octets_of_empty.saturating_add(sealed_file::length_of_content(buffer.octets, FRAME as u64));
        if let Some(Err(error)) = buffer.reserved.as_mut().map(|reserved| reserved.grow_to(on_disk)) {
            buffer.fail(error);
            return;
        }
        buffer.pending.extend_from_slice(octets);
        if buffer.pending.len() >= FRAME {
            self.0.start(buffer);
        }
    }

    /// Returns whether there is room for more, or else wakes the task once there is.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut buffer = self.0.buffer.lock();
        if buffer.pending.len() < LARGEST_BUFFER || buffer.failure.is_some() {
            return Poll::Ready(());
        }
        buffer.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until there is room for more.
    pub async fn ready(&mut self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }

    /// Returns whether the message can still be kept. Once it cannot, it only streams.
    pub fn is_able(&self) -> bool {
        self.0.buffer.lock().failure.is_none()
    }

    /// Keeps the message. File and directory are on disk when this returns, and the message is packetboat's to send:
    /// the device may be told 250.
    ///
    /// # Errors
    /// The message is not kept, and the device has to hear what it would have heard without a spool.
    pub async fn commit(self, outcome: Outcome) -> Result<KeptMessage, Error> {
        let is_awaited = outcome == Outcome::Slow;
        let (done, result) = oneshot::channel();
        {
            let mut buffer = self.0.buffer.lock();
            if buffer.failure.is_none() {
                buffer.failure = buffer.reserved.as_mut().and_then(|reserved| reserved.take_message().err());
            }
            if let Some(error) = buffer.failure.take() {
                self.0.spool.not_kept(&error);
                return Err(error);
            }
            buffer.commit = Some(Commit { outcome, at: Instant::now(), done });
            self.0.start(buffer);
        }
        let id = match result.await {
            Ok(Ok(id)) => id,
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(Error::NotDone(NotDone::Full)),
        };
        let recipients = u32::try_from(self.0.envelope.recipients.len()).unwrap_or(u32::MAX);
        Ok(KeptMessage { spool: Arc::clone(&self.0.spool), id, recipients, is_awaited })
    }

    /// Forgets the message: the server has taken or refused it for good, or the device is lost in the middle of it.
    pub fn discard(self) {}
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut buffer = self.0.buffer.lock();
        buffer.is_discarded = true;
        buffer.pending = Vec::new();
        if buffer.file.is_some() {
            // The thread removes the file.
            self.0.start(buffer);
        }
    }
}

impl KeptMessage {
    /// The message's id, as the commands and the page show it.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The number of its recipients.
    pub fn recipients(&self) -> u32 {
        self.recipients
    }

    /// Tells what the mail server has answered after all, behind [`Outcome::Slow`]. Nothing is to be told behind
    /// another outcome.
    pub fn answered(mut self, answer: Answer) {
        self.pass_answer(answer);
    }

    fn pass_answer(&mut self, answer: Answer) {
        if mem::take(&mut self.is_awaited) {
            self.spool.settle_later(self.id, answer);
        }
    }
}

impl Drop for KeptMessage {
    fn drop(&mut self) {
        self.pass_answer(Answer::Lost("its connection has ended".to_owned()));
    }
}

impl Pipe {
    /// Has a thread write what is pending, unless one does already.
    fn start(self: &Arc<Self>, mut buffer: MutexGuard<'_, Buffer>) {
        if mem::replace(&mut buffer.is_running, true) {
            return;
        }
        // A pool without room drops the work here, which takes the lock.
        drop(buffer);
        let work = Work { pipe: Arc::clone(self), has_run: false };
        pool::SPOOL.hand_over(move || work.run());
    }

    /// Writes whole frames. At the end it writes the rest, and gives the file its name.
    fn write(self: &Arc<Self>) {
        loop {
            let mut buffer = self.buffer.lock();
            if buffer.is_discarded || buffer.failure.is_some() {
                let left = (buffer.file.take(), buffer.reserved.take());
                buffer.is_running = false;
                drop(buffer);
                drop(left);
                return;
            }
            let is_whole = buffer.pending.len() >= FRAME;
            if !is_whole && buffer.commit.is_none() {
                buffer.is_running = false;
                return;
            }
            let rest = if is_whole { buffer.pending.split_off(FRAME) } else { Vec::new() };
            let piece = mem::replace(&mut buffer.pending, rest);
            let file = buffer.file.take();
            if buffer.pending.len() < LARGEST_BUFFER {
                buffer.wake();
            }
            drop(buffer);
            let written = self.write_frame(file, &piece);
            let mut buffer = self.buffer.lock();
            match written {
                Ok(file) => buffer.file = Some(file),
                Err(error) => buffer.fail(error),
            }
            if (!is_whole || buffer.failure.is_some())
                && let Some(commit) = buffer.commit.take()
            {
                let failure = buffer.failure.take();
                let (file, reserved) = (buffer.file.take(), buffer.reserved.take());
                // Nothing comes behind a commit.
                drop(buffer);
                self.finish(commit, failure, file, reserved);
                return;
            }
        }
    }

    fn write_frame(&self, file: Option<(NewFile, Sealer)>, piece: &[u8]) -> Result<(NewFile, Sealer), Error> {
        let (mut file, mut sealer) = match file {
            Some(file) => file,
            None => self.store.create(self.file_name(0), &self.envelope)?,
        };
        if !piece.is_empty() {
            file.write(&sealer.frame(Kind::Content, piece)?)?;
        }
        Ok((file, sealer))
    }

    fn finish(
        &self,
        commit: Commit,
        failure: Option<Error>,
        file: Option<(NewFile, Sealer)>,
        reserved: Option<Reservation>,
    ) {
        let name = self.file_name(u8::from(commit.outcome.is_unknown()));
        let placed = match (failure, file, reserved) {
            (Some(error), ..) => Err(error),
            (None, Some((mut file, mut sealer)), Some(reserved)) => sealer
                .frame(Kind::End, b"")
                .map_err(Error::from)
                .and_then(|end| Ok(file.write(&end)?))
                .and_then(|()| Ok(file.finish(&name.path(self.store.directory()))?))
                .map(|()| reserved),
            (None, ..) => Err(Error::Full),
        };
        let reserved = match placed {
            Ok(reserved) => reserved,
            Err(error) => {
                self.spool.not_kept(&error);
                drop(commit.done.send(Err(error)));
                return;
            }
        };
        // Whoever waited for the disk may be gone, and the device then takes the message for not sent.
        if commit.done.is_closed() {
            let _ = self.store.remove(name);
            return;
        }
        let mut entry = Entry::found(name, reserved.octets(), Record::default(), commit.at);
        entry.envelope = Some(self.envelope.clone());
        entry.note_attempt(&commit.outcome.text(), commit.at);
        entry.is_busy = commit.outcome == Outcome::Slow;
        entry.is_ending = entry.is_busy;
        // The record is for people. A disk that is full now has room for the message, and that is what counts.
        let _ = self.store.write_record(self.id, &entry.record);
        self.spool.register(entry, reserved, &commit.outcome);
        if commit.done.send(Ok(self.id)).is_err() {
            self.spool.forget_unclaimed(self.id);
        }
    }

    fn file_name(&self, unknown: u8) -> FileName {
        FileName { id: self.id, unknown, phase: Phase::Message }
    }
}

impl Buffer {
    fn fail(&mut self, error: Error) {
        self.failure = Some(error);
        self.pending = Vec::new();
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A job of the thread. Where the pool has no room for it, the message only streams.
struct Work {
    pipe: Arc<Pipe>,
    /// The work has come to its end. Another one may be on its way already.
    has_run: bool,
}

impl Work {
    fn run(mut self) {
        self.pipe.write();
        self.has_run = true;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.has_run {
            return;
        }
        let mut buffer = self.pipe.buffer.lock();
        if mem::take(&mut buffer.is_running) && buffer.failure.is_none() {
            buffer.fail(Error::NotDone(NotDone::Full));
            buffer.commit = None;
        }
    }
}

/// The octets of a frame.
const FRAME: usize = 64 * 1024;
/// The octets that wait for the disk before the message has to.
const LARGEST_BUFFER: usize = 512 * 1024;
