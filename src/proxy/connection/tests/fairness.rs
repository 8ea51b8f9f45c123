//! These tests prove that neither side keeps the other one from being read, however much it sends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;
use crate::proto::{CommandLimits, Offer, UpstreamLogin};

/// A device that never pauses cannot starve the server, nor a server the device.
#[tokio::test]
async fn both_sides_are_read_while_neither_pauses() {
    let is_endless = Arc::new(AtomicBool::new(false));
    let (mut device, stream) = endless(&is_endless, "b NOOP\r\n");
    let offer = Offer { encrypted: true, starttls: false, plaintext_login: false, xoauth2: false, ..Offer::NONE };
    let session = crate::proto::session(Protocol::Imap, offer, CommandLimits::default());
    let mut driver = Driver::new(session, stream);
    driver.greet();
    send(&mut device, "a LOGIN u p\r\n").await;
    let Ok(Event::Authenticate(credentials)) = driver.next().await else { panic!("no login") };
    let (mut server, stream) = endless(&is_endless, "* 1 EXISTS\r\n");
    let terms = Terms::pass_through(Protocol::Imap);
    driver.connect(stream, UpstreamLogin { credentials, security: Security::Implicit, terms });
    send(&mut server, "* OK ready\r\nP2 OK in\r\n").await;
    assert!(matches!(driver.next().await, Ok(Event::LoggedIn)));
    is_endless.store(true, Ordering::Relaxed);
    let enough = async {
        while driver.passed().0.min(driver.passed().1) < 1 << 20 {
            tokio::select! {
                biased;
                event = driver.next() => panic!("{event:?}"),
                () = std::future::ready(()) => {}
            }
            let (sent, received) = driver.passed();
            assert!(sent.max(received) < 1 << 26, "{sent} octets of the device passed, {received} of the server");
        }
    };
    enough.await;
}

/// A stream that never pauses once its input is full, and that takes every octet.
struct Endless {
    stream: DuplexStream,
    is_endless: Arc<AtomicBool>,
    line: &'static str,
    at: AtomicU64,
}

fn endless(is_endless: &Arc<AtomicBool>, line: &'static str) -> (DuplexStream, Endless) {
    let (other, stream) = duplex(PIPE);
    (other, Endless { stream, is_endless: Arc::clone(is_endless), line, at: AtomicU64::new(0) })
}

impl AsyncRead for Endless {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.is_endless.load(Ordering::Relaxed) {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        while buffer.remaining() > 0 {
            let at = self.at.fetch_add(1, Ordering::Relaxed) as usize;
            buffer.put_slice(&self.line.as_bytes()[at % self.line.len()..][..1]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_endless.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(octets.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
