//! A disk that hangs: the longest wait for it, and what is known about it.
//!
//! A file system whose server is gone, or that is frozen, reports no fault: a call does not return until the disk is back.
//! The threads of the pool wait for it; devices do not. A message that its disk does not take in time only streams, and
//! later ones do not ask that disk again until the thread that waits for it is back.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep};
use tracing::info;

use super::Spool;
use super::error::{Error, PATIENCE};

/// The wait for a disk that takes nothing. It lasts for [`PATIENCE`], and on a disk that is only busy as long as the last
/// message that the disk has taken is not older than that.
pub(super) struct Stall {
    begun: Instant,
    timer: Pin<Box<Sleep>>,
    #[cfg(test)]
    _clock: std::sync::mpsc::Sender<()>,
}

impl Stall {
    pub(super) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            timer: Box::pin(sleep(PATIENCE)),
            #[cfg(test)]
            _clock: crate::pool::hold_paused_clock(),
        }
    }

    /// Whether the wait is over; if not, it wakes the task then.
    pub(super) fn poll(&mut self, spool: &Spool, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let Some(left) = spool.patience_left(self.begun) else { return Poll::Ready(()) };
            self.timer = Box::pin(sleep(left));
        }
        Poll::Pending
    }
}

impl Spool {
    /// Notes that the disk has taken a whole message.
    pub(super) fn disk_has_answered(&self) {
        self.queue.lock().answered = Some(Instant::now());
    }

    /// The time that a wait has yet which began then, because the disk has taken a message since.
    fn patience_left(&self, begun: Instant) -> Option<Duration> {
        let answered = self.queue.lock().answered.filter(|answered| *answered > begun)?;
        let left = PATIENCE.saturating_sub(answered.elapsed());
        (!left.is_zero() && begun.elapsed() < LONGEST).then_some(left)
    }

    /// The reason why no message waits for the disk now, if so: a thread waits for it already, and has for too long.
    pub(super) fn hangs(&self) -> Option<Error> {
        let queue = self.queue.lock();
        if queue.late == 0 {
            return None;
        }
        queue.store.as_ref().map(|store| store.hangs())
    }

    /// Notes that a thread did not end its work in time.
    pub(super) fn work_is_late(&self) {
        self.queue.lock().late += 1;
        if let Some(why) = self.hangs() {
            self.note_problem(&why);
        }
    }

    /// Notes that a thread has ended such work after all.
    pub(super) fn late_work_has_ended(&self) {
        let mut queue = self.queue.lock();
        queue.late = queue.late.saturating_sub(1);
        let hung = queue.store.as_ref().map(|store| store.hangs().to_string());
        if queue.late > 0 || queue.problem.is_none() || queue.problem != hung {
            return;
        }
        queue.problem = None;
        drop(queue);
        info!("the disk of the spool answers again, and packetboat keeps messages");
    }
}

/// The longest wait for a disk that takes other messages.
const LONGEST: Duration = Duration::from_secs(60);
