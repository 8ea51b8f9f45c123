//! One side of a connection: its stream, the octets that have come from it, and the progress of what goes to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use zeroize::{Zeroize, Zeroizing};

use crate::proxy::connection::relay::Flow;

/// One side.
pub(super) struct End<S> {
    /// The side's stream; `None` before the server is connected, during a TLS handshake, and once the side is lost.
    pub(super) stream: Option<S>,
    pub(super) half: Half,
}

/// All that is known of a side but its stream.
#[derive(Default)]
pub(super) struct Half {
    /// The octets that have come from it.
    pub(super) flow: Flow,
    /// The part of the outbox that is written to it.
    pub(super) written: usize,
    /// The outbox has come with octets of the other side that are released, and goes before them. Otherwise it goes behind
    /// what is being passed on: the session knows that as passed, while the side takes no more of it.
    pub(super) words_first: bool,
    /// `recv` is to be called: there is new input, or the session's state has changed.
    pub(super) stale: bool,
    /// Something is written and perhaps not flushed.
    pub(super) dirty: bool,
    /// Whether its end was reported.
    pub(super) end_reported: bool,
    /// The stream was asked, and had nothing. It wakes the task when that changes, and is not asked again before.
    pub(super) has_nothing: bool,
}

/// The outcome of a read.
pub(super) enum Filled {
    /// This many octets have arrived; 0 means that the side has closed just now.
    Count(usize),
    /// There is no stream, no room, or nothing to read.
    Nothing,
    /// The side has closed before.
    Ended,
}

/// The outcome of passing octets on.
pub(super) struct Forwarded {
    pub(super) has_moved: bool,
    pub(super) is_done: bool,
}

impl<S> Default for End<S> {
    fn default() -> Self {
        Self { stream: None, half: Half::default() }
    }
}

impl Half {
    /// Returns whether the session's own words for this side wait until octets of the other one have been passed on.
    pub(super) fn words_wait(&self, from: &Flow) -> bool {
        self.written == 0 && !self.words_first && from.is_forwarding()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> End<S> {
    /// Takes out the stream, with the octets that are neither consumed nor passed on.
    pub(super) fn take(&mut self) -> Option<(S, Zeroizing<Vec<u8>>)> {
        let flow = &mut self.half.flow;
        let unread = Zeroizing::new(flow.input().to_vec());
        flow.consume(unread.len());
        Some((self.stream.take()?, unread))
    }

    /// Closes our half of the stream.
    pub(super) async fn shut_down(&mut self) {
        if let Some(stream) = &mut self.stream {
            // The peer may be gone; nothing depends on it any more.
            let _ = stream.shutdown().await;
        }
    }

    /// Reads what has come.
    pub(super) fn fill(&mut self, cx: &mut Context<'_>) -> io::Result<Filled> {
        let flow = &mut self.half.flow;
        let Some(stream) = &mut self.stream else { return Ok(Filled::Nothing) };
        if self.half.has_nothing {
            flow.rest_drained();
            return Ok(Filled::Nothing);
        }
        if flow.has_ended() {
            return Ok(Filled::Ended);
        }
        if !flow.has_room() {
            return Ok(Filled::Nothing);
        }
        Ok(match flow.poll_fill(cx, stream)? {
            Poll::Ready(count) => {
                self.half.has_nothing = flow.is_drained();
                Filled::Count(count)
            }
            Poll::Pending => {
                self.half.has_nothing = true;
                Filled::Nothing
            }
        })
    }

    /// Writes what the other side's flow passes on, from the buffer in which it arrived. Our own words come first, unless
    /// they wait for that.
    pub(super) fn forward(&mut self, cx: &mut Context<'_>, from: &mut Flow, outbox: &[u8]) -> io::Result<Forwarded> {
        let Some(stream) = &mut self.stream else {
            from.discard();
            return Ok(Forwarded { has_moved: false, is_done: true });
        };
        if outbox.len() > self.half.written && !self.half.words_wait(from) {
            return Ok(Forwarded { has_moved: false, is_done: false });
        }
        self.half.dirty = true;
        let before = from.passed();
        let is_done = from.poll_forward(cx, stream)?.is_ready();
        Ok(Forwarded { has_moved: from.passed() != before, is_done })
    }

    /// Writes the session's own words, then wipes them: they may hold a password.
    pub(super) fn write(&mut self, cx: &mut Context<'_>, words: &mut Vec<u8>) -> io::Result<Poll<()>> {
        while let Some(unwritten) = words.get(self.half.written..).filter(|unwritten| !unwritten.is_empty()) {
            let Some(stream) = &mut self.stream else { break };
            self.half.dirty = true;
            match Pin::new(stream).poll_write(cx, unwritten)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => self.half.written += written,
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
        if !words.is_empty() {
            words.zeroize();
            *words = Vec::new();
        }
        (self.half.written, self.half.words_first) = (0, false);
        Ok(Poll::Ready(()))
    }

    /// Flushes what was written.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.half.dirty) else { return Ok(Poll::Ready(())) };
        let flushed = Pin::new(stream).poll_flush(cx)?;
        self.half.dirty = flushed.is_pending();
        Ok(flushed)
    }
}
