//! The writer of one message's file, fed while the message goes up, without a wait on the event loop.

mod pipe;

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Spool;
use super::envelope::{Answer, Envelope, Outcome};
use super::error::Error;
use super::file_name::Id;
use super::hanging::Stall;
use super::record;
use super::reservation::Reservation;
use super::sealed_file::{self, LARGEST_ENVELOPE};
use super::store::Store;
use crate::pool::NotDone;
use pipe::{Buffer, Commit, FRAME, LARGEST_BUFFER, Pipe};

/// The writer of one message.
///
/// # The order of calls
///
/// 1. [`Spool::begin`], once the mail server waits for the content, or nobody is there to send it to.
/// 2. [`append`](Self::append) for all octets as they go up, with the final dot. Before each call wait for
///    [`ready`](Self::ready) or [`poll_ready`](Self::poll_ready): what the disk has not taken yet is in memory.
/// 3. [`commit`](Self::commit), or [`discard`](Self::discard), which a drop does as well.
///
/// Neither 2 nor 3 waits longer than `PATIENCE` for the disk.
pub struct Writer {
    pipe: Arc<Pipe>,
    /// The wait for the disk, while there is one.
    stall: Option<Stall>,
}

/// A message that is kept. Where its first attempt still waits for the mail server's answer, tell that by
/// [`answered`](Self::answered). A drop tells that the server is lost.
pub struct KeptMessage {
    spool: Arc<Spool>,
    id: Id,
    recipients: u32,
    is_awaited: bool,
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
            is_late: false,
            is_discarded: false,
            failure: None,
            commit: None,
            waker: None,
        };
        let id = Id::new().ok()?;
        let pipe = Pipe { spool, store, id, envelope, octets_of_empty, buffer: Mutex::new(buffer) };
        Some(Self { pipe: Arc::new(pipe), stall: None })
    }

    /// Takes octets exactly as they go up: rewritten, with dots doubled, and with the end of data.
    pub fn append(&mut self, octets: &[u8]) {
        let mut buffer = self.pipe.buffer.lock();
        if buffer.failure.is_some() {
            return;
        }
        buffer.octets = buffer.octets.saturating_add(octets.len() as u64);
        let on_disk =
            self.pipe.octets_of_empty.saturating_add(sealed_file::length_of_content(buffer.octets, FRAME as u64));
        if let Some(Err(error)) = buffer.reserved.as_mut().map(|reserved| reserved.grow_to(on_disk)) {
            buffer.fail(error);
            return;
        }
        buffer.pending.extend_from_slice(octets);
        if buffer.pending.len() >= FRAME {
            self.pipe.start(buffer);
        }
    }

    /// Returns whether there is room for more, or else wakes the task once there is. A disk that takes nothing for
    /// `PATIENCE` gets no more of the message, which goes on without a copy.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut buffer = self.pipe.buffer.lock();
            if buffer.pending.len() < LARGEST_BUFFER || buffer.failure.is_some() {
                self.stall = None;
                return Poll::Ready(());
            }
            buffer.waker = Some(cx.waker().clone());
        }
        let is_over = self.stall.get_or_insert_with(Stall::begin).poll(&self.pipe.spool, cx).is_ready();
        if !is_over && self.pipe.spool.hangs().is_none() {
            return Poll::Pending;
        }
        self.stall = None;
        self.pipe.give_up();
        Poll::Ready(())
    }

    /// Waits until there is room for more.
    pub async fn ready(&mut self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }

    /// Returns whether the message can still be kept. Once it cannot, it only streams.
    pub fn is_able(&self) -> bool {
        self.pipe.buffer.lock().failure.is_none()
    }

    /// Keeps the message. File and directory are on disk when this returns, and the message is packetboat's to send:
    /// the device may be told 250.
    ///
    /// # Errors
    /// The message is not kept, and the device has to hear what it would have heard without a spool. A disk that takes
    /// the message after `PATIENCE` does not keep it either.
    pub async fn commit(self, outcome: Outcome) -> Result<KeptMessage, Error> {
        let is_awaited = outcome == Outcome::Slow;
        let (done, result) = oneshot::channel();
        {
            let mut buffer = self.pipe.buffer.lock();
            if buffer.failure.is_none() {
                let room = || buffer.reserved.as_mut().and_then(|reserved| reserved.take_message().err());
                buffer.failure = self.pipe.spool.hangs().or_else(room);
            }
            if let Some(error) = buffer.failure.take() {
                self.pipe.spool.not_kept(&error);
                return Err(error);
            }
            buffer.commit = Some(Commit { outcome, at: Instant::now(), done });
            self.pipe.start(buffer);
        }
        let id = self.placed(result).await?;
        let recipients = u32::try_from(self.pipe.envelope.recipients.len()).unwrap_or(u32::MAX);
        Ok(KeptMessage { spool: Arc::clone(&self.pipe.spool), id, recipients, is_awaited })
    }

    /// Waits until the file is on disk, or it is known that it will not be.
    async fn placed(&self, mut result: oneshot::Receiver<Result<Id, Error>>) -> Result<Id, Error> {
        let mut stall = Stall::begin();
        let in_time = poll_fn(|cx| match Pin::new(&mut result).poll(cx) {
            Poll::Ready(placed) => Poll::Ready(Some(placed)),
            Poll::Pending => stall.poll(&self.pipe.spool, cx).map(|()| None),
        });
        if let Some(placed) = in_time.await {
            return placed.unwrap_or(Err(Error::NotDone(NotDone::Full)));
        }
        // From here on the thread finds that nobody waits, and keeps nothing.
        result.close();
        if let Ok(placed) = result.try_recv() {
            return placed;
        }
        let why = self.pipe.is_late();
        self.pipe.spool.not_kept(&why);
        Err(why)
    }

    /// Forgets the message: the server has taken or refused it for good, or the device is lost in the middle of it.
    pub fn discard(self) {}
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut buffer = self.pipe.buffer.lock();
        buffer.is_discarded = true;
        buffer.pending = Vec::new();
        // A thread may come to this message much later, and the room is free now.
        buffer.reserved = None;
        if buffer.file.is_some() {
            // The thread removes the file.
            self.pipe.start(buffer);
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
