//! A TCP connection that reads ahead and gathers what is written: one system call for what would be several.
//!
//! A TLS library reads five octets of a record, then the rest, and writes record by record. Here it finds what came in
//! one `recv`, and what it writes goes out in one `send`: up to eight records, or the end of a handshake with the
//! greeting behind it. Both buffers are lent only while they hold something.
//!
//! The law: **whoever waits for the peer has sent first.** `poll_fill` sends what is gathered before it waits, so that
//! nothing can be forgotten here. Otherwise it goes when it is flushed, or when there is no more room.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::buffer::{Buffer, CAPACITY};

/// A TCP connection with what was read ahead of it and what is gathered for it.
pub struct Socket {
    tcp: TcpStream,
    /// The octets that are received, and not yet read.
    pub(super) incoming: Buffer,
    /// The octets that are written, and not yet sent.
    pub(super) outgoing: Buffer,
    /// A TLS library reads and writes here: its flushes come in the middle of things, and small reads are its way.
    under_tls: bool,
    /// The peer has closed.
    ended: bool,
    /// The error of a failed send. Octets that the peer has sent before are read all the same.
    broken: Option<io::Error>,
    /// Our half is being closed.
    pub(super) closing: bool,
    /// The number of further receives that a TLS library's read may cause before others have their turn; `None` is no
    /// limit.
    pub(super) refills: Option<u8>,
}

impl Socket {
    /// A connection that nothing has been read of.
    pub fn new(tcp: TcpStream) -> Self {
        let (incoming, outgoing) = (Buffer::default(), Buffer::default());
        Self { tcp, incoming, outgoing, under_tls: false, ended: false, broken: None, closing: false, refills: None }
    }

    /// Returns the port that the peer connected to; 0 where the connection is gone already.
    pub fn local_port(&self) -> u16 {
        self.tcp.local_addr().map_or(0, |address| address.port())
    }

    /// Returns whether the peer is on this computer.
    pub fn is_with_this_computer(&self) -> bool {
        self.tcp.peer_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback())
    }

    /// Puts octets back in front of what is read next.
    pub fn put_back(&mut self, octets: &[u8]) {
        self.incoming.put_back(octets);
    }

    /// Returns the connection alone.
    pub(super) fn into_tcp(self) -> TcpStream {
        self.tcp
    }

    /// Hands the socket to a TLS library, which calls [`poll_send`](Self::poll_send) when it wants to send.
    pub(super) fn put_under_tls(&mut self) {
        self.under_tls = true;
    }

    /// Returns whether there is something to read without waiting.
    pub(super) fn has_input(&self) -> bool {
        self.ended || !self.incoming.is_empty()
    }

    /// Sends all gathered octets, then receives as many as have room. Returns their number; 0 means that the peer has
    /// closed.
    ///
    /// # Errors
    /// The connection broke, and what came before is read.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.send_first(cx);
        let mut room = ReadBuf::new(self.incoming.room(CAPACITY));
        let read = Pin::new(&mut self.tcp).poll_read(cx, &mut room);
        let count = room.filled().len();
        if count == 0 {
            if self.under_tls {
                self.incoming.rest();
            } else {
                self.incoming.rest_closely();
            }
        }
        ready!(self.unless_broken(read, count))?;
        self.incoming.filled_by(count);
        self.ended |= count == 0;
        Poll::Ready(Ok(count))
    }

    /// A QUIT, say, in front of the reset of a device that does not wait for the answer, is still to be read.
    fn send_first(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            self.broken = Some(error);
        }
    }

    fn unless_broken(&mut self, read: Poll<io::Result<()>>, count: usize) -> Poll<io::Result<()>> {
        match self.broken.take_if(|_| count == 0) {
            Some(error) => Poll::Ready(Err(error)),
            None => read,
        }
    }

    /// Sends all that is gathered.
    ///
    /// # Errors
    /// The connection broke.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            match ready!(Pin::new(&mut self.tcp).poll_write(cx, self.outgoing.filled())) {
                Ok(sent) => self.outgoing.pass(sent),
                Err(error) => {
                    self.outgoing = Buffer::default();
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends all gathered octets, and tells the kernel that more follows. The last octets and the end of the connection
    /// are one segment then, and the peer wakes up once.
    fn poll_send_before_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            ready!(self.tcp.poll_write_ready(cx))?;
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            let sending = || Ok(send(&self.tcp, self.outgoing.filled(), flags)?);
            match self.tcp.try_io(Interest::WRITABLE, sending) {
                Ok(sent) => self.outgoing.pass(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.incoming.is_empty() {
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            if !this.under_tls {
                // Plaintext has room enough, and needs one copy less.
                this.send_first(cx);
                let before = buffer.filled().len();
                let read = Pin::new(&mut this.tcp).poll_read(cx, buffer);
                return this.unless_broken(read, buffer.filled().len() - before);
            }
            match &mut this.refills {
                Some(0) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(left) => *left -= 1,
                None => {}
            }
            ready!(this.poll_fill(cx))?;
        }
        let octets = this.incoming.filled();
        let taken = octets.len().min(buffer.remaining());
        buffer.put_slice(octets.get(..taken).unwrap_or_default());
        if this.under_tls {
            this.incoming.pass(taken);
        } else {
            this.incoming.wipe(taken);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if octets.len() >= LARGE && this.outgoing.is_empty() {
            return Pin::new(&mut this.tcp).poll_write(cx, octets);
        }
        if this.outgoing.len() + octets.len() > CAPACITY {
            ready!(this.poll_send(cx))?;
        }
        Poll::Ready(Ok(this.outgoing.take_in(octets)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // OpenSSL flushes at the end of each flight, and takes a flush that has to wait for an error.
        if self.under_tls { Poll::Ready(Ok(())) } else { self.get_mut().poll_send(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.closing = true;
        ready!(this.poll_send_before_end(cx))?;
        Pin::new(&mut this.tcp).poll_shutdown(cx)
    }
}

/// A write of this size is not worth a copy.
const LARGE: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A TLS library that could read for ever has to come back, and is asked again at once.
    #[tokio::test]
    async fn others_have_their_turn_behind_so_many_refills() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut device = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut socket = Socket::new(listener.accept().await.unwrap().0);
        socket.put_under_tls();
        let flood = tokio::spawn(async move {
            let chunk = vec![1; 64 * 1024];
            while device.write_all(&chunk).await.is_ok() {}
        });
        let (mut total, mut asked_again) = (0, 0);
        while total < 16 * CAPACITY {
            // More than one turn may take is there.
            socket.tcp.readable().await.unwrap();
            socket.refills = Some(1);
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            let mut cx = Context::from_waker(&waker);
            let mut turn = 0;
            let mut octets = vec![0; 4096];
            loop {
                let mut room = ReadBuf::new(&mut octets);
                match Pin::new(&mut socket).poll_read(&mut cx, &mut room) {
                    Poll::Ready(read) => read.unwrap(),
                    Poll::Pending => break,
                }
                turn += room.filled().len();
            }
            assert!(turn <= CAPACITY, "{turn} octets in one turn");
            asked_again += woken.0.load(Ordering::SeqCst);
            total += turn;
            tokio::task::yield_now().await;
        }
        assert!(asked_again > 0);
        flood.abort();
    }
}
