//! The relay of one direction: a flow reads octets into a buffer and writes them from that very buffer.
//!
//! A flow has a buffer only while it holds octets. An idle connection has none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::transport::buffer::{Buffer, PLAINTEXT};

/// The octets that one side has sent and that are not handled yet.
#[derive(Default)]
pub(super) struct Flow {
    buffer: Buffer,
    /// The number of octets at the buffer's head that are released to the other side.
    forward: usize,
    ended: bool,
    /// The last read has found nothing behind what it returned. The stream wakes the task when there is more.
    is_drained: bool,
    /// The side's connection broke after what was read. The stream reports that once, so the flow keeps it.
    broken: Option<io::Error>,
    passed: u64,
}

impl Flow {
    /// Returns the octets that are read and neither consumed nor passed on.
    pub(super) fn input(&self) -> &[u8] {
        self.buffer.filled()
    }

    /// Reads as much as there is and as has room; returns how much. Once the side has closed, that is nothing.
    ///
    /// # Errors
    /// The connection broke; an earlier call returned what came before.
    pub(super) fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(error));
        }
        let mut filled = 0;
        self.is_drained = false;
        while !self.ended {
            let room = self.buffer.room(PLAINTEXT);
            if room.is_empty() {
                break;
            }
            let mut room = ReadBuf::new(room);
            let read = match Pin::new(&mut *from).poll_read(cx, &mut room) {
                Poll::Ready(Ok(())) => room.filled().len(),
                // A peer that closes without close_notify has closed all the same.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                Poll::Ready(Err(error)) if filled > 0 => {
                    // A QUIT, say, in front of the reset of a device that does not wait for the answer.
                    self.broken = Some(error);
                    break;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if filled > 0 => {
                    self.is_drained = true;
                    break;
                }
                Poll::Pending => {
                    // Only half a line can remain, because bulk is passed on at once.
                    self.buffer.rest_closely();
                    return Poll::Pending;
                }
            };
            self.buffer.filled_by(read);
            filled += read;
            self.ended = read == 0;
        }
        if self.buffer.is_empty() {
            self.buffer.rest();
        }
        Poll::Ready(Ok(filled))
    }

    /// Releases the first `count` octets to the other side.
    pub(super) fn forward(&mut self, count: usize) {
        self.forward = count.min(self.input().len());
    }

    /// Returns whether released octets are left to write.
    pub(super) fn is_forwarding(&self) -> bool {
        self.forward > 0
    }

    /// Writes the released octets, from where they were read to.
    ///
    /// # Errors
    /// The other side's connection broke.
    pub(super) fn poll_forward<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while self.forward > 0 {
            let Some(octets) = self.input().get(..self.forward) else { break };
            let written = ready!(Pin::new(&mut *to).poll_write(cx, octets))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pass(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Returns the released octets that are left to write.
    pub(super) fn released(&self) -> &[u8] {
        self.input().get(..self.forward).unwrap_or_default()
    }

    /// Drops the released octets: the other side is gone.
    pub(super) fn discard(&mut self) {
        self.pass(self.forward);
    }

    /// Drops and wipes the first `count` octets: they were for us, and may hold a password.
    pub(super) fn consume(&mut self, count: usize) {
        self.buffer.wipe(count);
    }

    /// Returns whether the side has closed.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Returns whether the last read has found nothing behind what it returned.
    pub(super) fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// Gives back the room behind what a read has left that has emptied its stream. Only half a line can remain, because
    /// bulk is passed on at once.
    pub(super) fn rest_drained(&mut self) {
        if std::mem::take(&mut self.is_drained) {
            self.buffer.rest_closely();
        }
    }

    /// Returns whether more can be read before octets are consumed or passed on.
    pub(super) fn has_room(&self) -> bool {
        self.input().len() < PLAINTEXT
    }

    /// Returns the number of octets passed on so far.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    fn pass(&mut self, count: usize) {
        self.buffer.pass(count);
        self.forward = self.forward.saturating_sub(count);
        self.passed += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// Two TLS libraries in one: notes where it was made to read to, and where from it was made to write.
    #[derive(Default)]
    struct Ends {
        chunks: Vec<Vec<u8>>,
        read_to: Vec<usize>,
        written: Vec<u8>,
        written_from: Vec<usize>,
    }

    impl AsyncRead for Ends {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let Some(chunk) = self.chunks.pop() else { return Poll::Pending };
            let start = room.initialize_unfilled().as_ptr().addr();
            self.read_to.extend(start..start + chunk.len());
            room.put_slice(&chunk);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Ends {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
            let start = octets.as_ptr().addr();
            self.written_from.extend(start..start + octets.len());
            self.written.extend_from_slice(octets);
            Poll::Ready(Ok(octets.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn octets_go_on_from_where_they_were_read_to() {
        let chunks = vec![vec![3; 16_384], vec![2; 1400], vec![1; 16_384]];
        let mut ends = Ends { chunks, ..Ends::default() };
        let mut cx = Context::from_waker(Waker::noop());
        let mut flow = Flow::default();
        assert!(matches!(flow.poll_fill(&mut cx, &mut ends), Poll::Ready(Ok(34_168))));
        let first = flow.input().as_ptr().addr();
        flow.consume(100);
        flow.forward(34_068);
        assert!(flow.poll_forward(&mut cx, &mut ends).is_ready());
        assert_eq!(ends.read_to[0], first);
        assert_eq!(ends.written_from, ends.read_to[100..]);
        assert_eq!(ends.written.len(), 34_068);
        assert_eq!(flow.passed(), 34_068);
    }

    /// Octets in front of a reset are read first, and the reset is not forgotten.
    #[test]
    fn a_reset_does_not_swallow_what_came_before_it() {
        struct Reset(Option<Vec<u8>>);
        impl AsyncRead for Reset {
            fn poll_read(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
                room: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.0.take() {
                    Some(octets) => room.put_slice(&octets),
                    None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                }
                Poll::Ready(Ok(()))
            }
        }
        let mut cx = Context::from_waker(Waker::noop());
        let mut flow = Flow::default();
        let mut reset = Reset(Some(b"QUIT\r\n".to_vec()));
        assert!(matches!(flow.poll_fill(&mut cx, &mut reset), Poll::Ready(Ok(6))));
        assert_eq!(flow.input(), b"QUIT\r\n");
        assert!(matches!(flow.poll_fill(&mut cx, &mut reset), Poll::Ready(Err(_))));
    }

    #[test]
    fn an_idle_flow_has_no_buffer() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut flow = Flow::default();
        assert!(flow.poll_fill(&mut cx, &mut Ends::default()).is_pending());
        assert!(flow.buffer.filled().is_empty());
    }
}
