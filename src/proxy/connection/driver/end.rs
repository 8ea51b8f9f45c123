//! One side of a connection: its stream, what it has sent, and what we say to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncWrite, AsyncWriteExt};
use zeroize::Zeroize;

use crate::proxy::connection::relay::Flow;
use crate::transport::Stream;

/// One side.
#[derive(Default)]
pub(super) struct End {
    pub(super) stream: Option<Stream>,
    pub(super) flow: Flow,
    /// How much of our own words is written.
    pub(super) said: usize,
    /// `recv` is to be called: there is new input, or the session's state has changed.
    pub(super) stale: bool,
    /// Written, but perhaps not flushed.
    pub(super) dirty: bool,
    /// Its end was reported.
    pub(super) reported: bool,
}

impl End {
    pub(super) async fn shut_down(&mut self) {
        if let Some(stream) = &mut self.stream {
            // The peer may be gone; nothing depends on it any more.
            let _ = stream.shutdown().await;
        }
    }

    /// Writes what the session has to say. It may have been a password: it is wiped.
    pub(super) fn write_out(&mut self, cx: &mut Context<'_>, words: &mut Vec<u8>) -> io::Result<Poll<()>> {
        while let Some(rest) = words.get(self.said..).filter(|rest| !rest.is_empty()) {
            let Some(stream) = &mut self.stream else { break };
            self.dirty = true;
            match Pin::new(stream).poll_write(cx, rest)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => self.said += written,
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
        if !words.is_empty() {
            words.zeroize();
            *words = Vec::new();
        }
        self.said = 0;
        Ok(Poll::Ready(()))
    }
}
