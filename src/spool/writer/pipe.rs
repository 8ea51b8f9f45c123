//! The way of a message from its connection to the thread that writes it.

use std::mem;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::pool::{self, NotDone};
use crate::spool::Spool;
use crate::spool::entry::Entry;
use crate::spool::envelope::{Envelope, Outcome};
use crate::spool::error::Error;
use crate::spool::file_name::{FileName, Id, Phase};
use crate::spool::record::Record;
use crate::spool::reservation::Reservation;
use crate::spool::sealed_file::{Kind, Sealer};
use crate::spool::store::Store;
use crate::state::NewFile;

/// The way from the connection to the thread that writes.
pub(super) struct Pipe {
    // Dropped in this order: who finds that the spool is gone may open its directory.
    pub(super) store: Arc<Store>,
    pub(super) spool: Arc<Spool>,
    pub(super) id: Id,
    pub(super) envelope: Envelope,
    pub(super) octets_of_empty: u64,
    pub(super) buffer: Mutex<Buffer>,
}

/// The octets that are on their way, and what became of those before.
pub(super) struct Buffer {
    pub(super) pending: Vec<u8>,
    pub(super) reserved: Option<Reservation>,
    pub(super) octets: u64,
    pub(super) file: Option<(NewFile, Sealer)>,
    /// A thread writes, or is to.
    pub(super) is_running: bool,
    /// The wait for that thread was given up, because the disk hangs.
    pub(super) is_late: bool,
    pub(super) is_discarded: bool,
    pub(super) failure: Option<Error>,
    pub(super) commit: Option<Commit>,
    pub(super) waker: Option<Waker>,
}

/// The wish that the message is kept.
pub(super) struct Commit {
    pub(super) outcome: Outcome,
    pub(super) at: Instant,
    pub(super) done: oneshot::Sender<Result<Id, Error>>,
}

impl Pipe {
    /// Has a thread write what is pending, unless one does already.
    pub(super) fn start(self: &Arc<Self>, mut buffer: MutexGuard<'_, Buffer>) {
        if mem::replace(&mut buffer.is_running, true) {
            return;
        }
        let is_discarded = buffer.is_discarded;
        // A pool without room drops the work here, which takes the lock.
        drop(buffer);
        let work = Work { pipe: Arc::clone(self), has_run: false };
        if is_discarded {
            // Without a thread, the event loop itself would remove the file.
            pool::SPOOL.hand_over_cleanup(move || work.run());
        } else {
            pool::SPOOL.hand_over(move || work.run());
        }
    }

    /// Gives the copy up, because the disk hangs: the message only streams.
    pub(super) fn give_up(&self) {
        let why = self.is_late();
        self.buffer.lock().fail(why);
    }

    /// Notes that nobody waits any more for the thread that writes. Returns the reason.
    pub(super) fn is_late(&self) -> Error {
        let mut buffer = self.buffer.lock();
        if buffer.is_running && !mem::replace(&mut buffer.is_late, true) {
            self.spool.work_is_late();
        }
        self.store.hangs()
    }

    /// Ends the work of a thread. Another one may begin.
    fn rest(&self, mut buffer: MutexGuard<'_, Buffer>) {
        buffer.is_running = false;
        let was_late = mem::take(&mut buffer.is_late);
        drop(buffer);
        if was_late {
            self.spool.late_work_has_ended();
        }
    }

    /// Writes whole frames. At the end it writes the rest, and gives the file its name.
    fn write(&self) {
        loop {
            let mut buffer = self.buffer.lock();
            if buffer.is_discarded || buffer.failure.is_some() {
                let left = (buffer.file.take(), buffer.reserved.take());
                drop(buffer);
                drop(left);
                return self.rest(self.buffer.lock());
            }
            let is_whole = buffer.pending.len() >= FRAME;
            if !is_whole && buffer.commit.is_none() {
                return self.rest(buffer);
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
                return self.rest(self.buffer.lock());
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
            (None, Some(file), Some(reserved)) => self.give_name(name, file, &commit).map(|()| {
                self.spool.disk_has_answered();
                reserved
            }),
            (None, ..) => Err(Error::Full),
        };
        let reserved = match placed {
            Ok(reserved) => reserved,
            // The caller has counted a message that nobody waits for any more.
            Err(_) if commit.done.is_closed() => return,
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

    /// Ends the file, and gives it its name once its content is on disk and somebody still waits for it.
    fn give_name(
        &self,
        name: FileName,
        (mut file, mut sealer): (NewFile, Sealer),
        commit: &Commit,
    ) -> Result<(), Error> {
        file.write(&sealer.frame(Kind::End, b"")?)?;
        let is_wanted = || !commit.done.is_closed();
        Ok(file.finish_if(&name.path(self.store.directory()), is_wanted)?)
    }

    fn file_name(&self, unknown: u8) -> FileName {
        FileName { id: self.id, unknown, phase: Phase::Message }
    }
}

impl Buffer {
    pub(super) fn fail(&mut self, error: Error) {
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
        if buffer.is_running && buffer.failure.is_none() {
            buffer.fail(Error::NotDone(NotDone::Full));
            buffer.commit = None;
        }
        self.pipe.rest(buffer);
    }
}

/// The octets of a frame.
pub(super) const FRAME: usize = 64 * 1024;
/// The octets that wait for the disk before the message has to.
pub(super) const LARGEST_BUFFER: usize = 512 * 1024;
