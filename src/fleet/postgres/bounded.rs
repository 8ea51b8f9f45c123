//! A stream from the database whose messages are bounded: whoever writes to the tables, or is the server, makes no instance
//! hold more than one such message in memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::warn;

/// A stream of PostgreSQL's messages: one octet for the kind, four for the length of the rest with themselves
/// (PostgreSQL's documentation, section "Message Formats"). It breaks in front of a message that is too long.
pub(super) struct Bounded<S> {
    stream: S,
    messages: Messages,
}

/// The position in the messages.
#[derive(Default)]
struct Messages {
    /// The octets that are left of the present message.
    left: usize,
    /// The octets of the next message's head that have come, and their number.
    head: [u8; 5],
    come: usize,
}

impl<S> Bounded<S> {
    /// The stream from its first message on.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, messages: Messages::default() }
    }
}

impl Messages {
    /// Reads on. Returns whether all messages that have begun are short enough.
    fn read(&mut self, mut octets: &[u8]) -> bool {
        loop {
            let passed = self.left.min(octets.len());
            self.left -= passed;
            octets = octets.get(passed..).unwrap_or_default();
            let Some((first, rest)) = octets.split_first() else { return true };
            if let Some(octet) = self.head.get_mut(self.come) {
                *octet = *first;
            }
            (self.come, octets) = (self.come + 1, rest);
            if self.come == self.head.len() {
                let [_, length @ ..] = self.head;
                let length = u32::from_be_bytes(length).saturating_sub(4);
                self.left = usize::try_from(length).unwrap_or(usize::MAX);
                self.come = 0;
                if self.left > LONGEST {
                    return false;
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let is_bounded = self.messages.read(buf.filled().get(before..).unwrap_or_default());
        if is_bounded {
            return Poll::Ready(Ok(()));
        }
        buf.set_filled(before);
        warn!("the connection to the fleet's database ends: {TOO_LONG}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, TOO_LONG)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The longest message. Statements cut what they read to a quarter of that.
const LONGEST: usize = 1024 * 1024;
const TOO_LONG: &str = "the database sends a message of more than 1 MiB; see who else writes to its tables";

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    fn message(length: usize) -> Vec<u8> {
        let head = u32::try_from(length + 4).unwrap().to_be_bytes();
        [b"D".as_slice(), &head, &vec![b'x'; length]].concat()
    }

    /// At every cut.
    #[test]
    fn long_messages_are_found_behind_short_ones() {
        let good = [message(0), message(7), message(300), message(1)].concat();
        let bad = [message(3), message(LONGEST + 1)].concat();
        for cut in 0..good.len() {
            let mut messages = Messages::default();
            assert!(messages.read(&good[..cut]) && messages.read(&good[cut..]));
            assert_eq!((messages.left, messages.come), (0, 0));
        }
        for cut in 0..20 {
            let mut messages = Messages::default();
            assert!(!(messages.read(&bad[..cut]) && messages.read(&bad[cut..])), "{cut}");
        }
    }

    #[tokio::test]
    async fn the_stream_breaks_in_front_of_a_long_message() {
        let octets = [message(5), message(LONGEST), message(LONGEST + 1)].concat();
        let mut read = Vec::new();
        let mut stream = Bounded::new(std::io::Cursor::new(octets));
        let error = stream.read_to_end(&mut read).await.unwrap_err();
        assert!(error.to_string().contains("more than 1 MiB"));
        assert!(read.len() < 2 * LONGEST + 100);
    }
}
