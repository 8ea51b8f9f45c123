//! The driver carries out what a session decides: it reads, passes octets on, writes, and reports events.

mod end;
mod message;
mod poll;
mod progress;

use std::future::poll_fn;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::failure::{Failure, Side};
use crate::proto::parking::ParkedState;
use crate::proto::{
    Awaited, Credentials, KeepReason, MailboxTerms, MessageEnvelope, Outbox, Session, Submitted, UpstreamLogin,
};
use crate::spool::Writer;
use end::{End, Half};
use progress::Progress;

/// A session with its two streams: one to the device, one to the mail server.
///
/// The streams are sockets in the proxy and pipes in tests; the driver reads and writes them in the same way.
///
/// # The order of calls
///
/// 1. Call [`new`](Self::new), and [`greet`](Self::greet) once the device can read.
/// 2. Await [`next`](Self::next). Dropping its future loses nothing, so that it can stand in a `select!`.
/// 3. Answer the event that it returns, then go back to 2:
///
/// | event | answer |
/// |---|---|
/// | [`Authenticate`](Event::Authenticate) | [`connect`](Self::connect), or [`login_failed`](Self::login_failed) |
/// | [`Connect`](Event::Connect) | the same |
/// | [`LoginFailed`](Event::LoginFailed) | the same; the driver has dropped the server's stream |
/// | [`StartTls`](Event::StartTls) | see below |
/// | [`Ended`](Event::Ended), the server, during a login | [`login_failed`](Self::login_failed) |
/// | [`Ended`](Event::Ended), the device, after the login | [`close`](Self::close) the server's side, await its end |
/// | [`Park`](Event::Park) | [`take_upstream`](Self::take_upstream), then go to 4 |
/// | [`Close`](Event::Close), [`Stopped`](Event::Stopped), any other [`Ended`](Event::Ended) | go to 4 |
/// | [`Ended`](Event::Ended), the server, after the login | [`upstream_lost`](Self::upstream_lost), or go to 4 |
/// | [`MessageBegins`](Event::MessageBegins) | [`message_begun`](Self::message_begun) |
/// | [`Keep`](Event::Keep) | [`message_kept`](Self::message_kept) |
/// | all others | none |
///
/// 4. Call [`end_with`](Self::end_with) where the device should learn the reason, or else
///    [`close_both`](Self::close_both); then [`linger`](Self::linger). None of the three has a time limit of its own.
///
/// For [`StartTls`](Event::StartTls), take the stream ([`take_downstream`](Self::take_downstream),
/// [`take_upstream`](Self::take_upstream)), shake hands, and put it back
/// ([`downstream_secured`](Self::downstream_secured), [`upstream_secured`](Self::upstream_secured)). Unread octets that
/// come with it were sent in clear: treat them as an attack, unless they begin a ClientHello.
///
/// An `Err` of [`next`](Self::next) ends the connection as well, with two exceptions that the caller may make: a lost
/// server during a login calls for [`login_failed`](Self::login_failed), and a lost device whose last command the
/// server still carries out calls for [`abandon`](Self::abandon).
pub struct Driver<D, U> {
    session: Box<dyn Session>,
    downstream: End<D>,
    upstream: End<U>,
    outbox: Outbox,
    /// The event to report once everything before it is written.
    event: Option<Event>,
    last_move: Instant,
    /// The time at which octets last moved to the server.
    last_sent: Instant,
    /// The octets that servers of before have passed to the device.
    answered_before: u64,
    /// The octets that the device has sent.
    received: u64,
    /// The thing that submission waited for at the last step.
    awaited: Option<Awaited>,
    /// The device's progress in submission.
    progress: Progress,
    /// The file that gets the present message's content as well.
    keeper: Option<Box<Writer>>,
    /// The time since which something waits for the end of a response, while the server is silent. [`Event::Waits`] was
    /// reported.
    waits_since: Option<Instant>,
    /// The time at which the device had sent a whole message, until the server's answer is asked for.
    message_ended: Option<Instant>,
    /// [`Event::HalfClosed`] was reported.
    half_close_reported: bool,
    /// [`stop`](Self::stop) was called.
    is_stopping: bool,
}

/// An event that the driver's caller has to answer.
#[derive(Debug)]
pub enum Event {
    /// The device has sent credentials. Find the server and dial it.
    Authenticate(Credentials),
    /// The server has let the device in.
    LoggedIn,
    /// The server has refused the login. Its stream is dropped already; the device does not know yet.
    LoginFailed(Failure),
    /// The server has sent something that an operator should know.
    Notice(Failure),
    /// The content of a message comes next, and may be kept.
    MessageBegins(Box<MessageEnvelope>),
    /// A message is at its end that no server has taken.
    Keep(KeepReason),
    /// The server has taken a message.
    Submitted(Submitted),
    /// The session needs a server, although the device has logged in before. Find it and dial it.
    Connect,
    /// The server has closed, and the session goes on without it.
    ServerLeft,
    /// The session begins to wait for something that has less time: the end of a response, the next message, the
    /// content of a message, or the answer to one that may be kept.
    Waits,
    /// The device has closed its half during a login. It may still read the answer, which has less time now.
    HalfClosed,
    /// A TLS handshake is due on this side.
    StartTls(Side),
    /// The server's response is over, and nothing of the device has passed since [`Driver::stop`].
    Stopped,
    /// The device has logged out, and its last reply is written. The server's connection may be parked.
    Park(ParkedState),
    /// The session is over, and its last reply is written.
    Close,
    /// This side has closed, and everything that it sent is handled.
    Ended(Side),
}

impl<D, U> Driver<D, U>
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// A driver of a session that has not greeted yet.
    pub fn new(session: Box<dyn Session>, downstream: D) -> Self {
        Self {
            session,
            downstream: End { stream: Some(downstream), ..End::default() },
            upstream: End::default(),
            outbox: Outbox::default(),
            event: None,
            last_move: Instant::now(),
            last_sent: Instant::now(),
            answered_before: 0,
            received: 0,
            awaited: None,
            progress: Progress::default(),
            keeper: None,
            waits_since: None,
            message_ended: None,
            half_close_reported: false,
            is_stopping: false,
        }
    }

    /// Writes the greeting.
    pub fn greet(&mut self) {
        self.session.greet(&mut self.outbox);
        self.state_has_changed();
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// A stream broke, or a peer did what ends a connection; the failure's [`Kind`](crate::failure::Kind) says which.
    pub async fn next(&mut self) -> Result<Event, Failure> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Takes over a connection to the server, and logs in there.
    pub fn connect(&mut self, upstream: U, login: UpstreamLogin) {
        self.drop_upstream();
        self.upstream.stream = Some(upstream);
        self.session.upstream_connected(login);
        self.state_has_changed();
    }

    /// Takes over a connection to the server that was parked, and lets the device in. [`Event::LoggedIn`] follows.
    ///
    /// # Errors
    /// The connection: the session cannot do that.
    pub fn resume(&mut self, upstream: U, terms: MailboxTerms, state: ParkedState) -> Result<(), U> {
        self.drop_upstream();
        let is_in = self.session.resumed(terms, state, &mut self.outbox);
        self.state_has_changed();
        if !is_in {
            return Err(upstream);
        }
        self.upstream.stream = Some(upstream);
        self.event = Some(Event::LoggedIn);
        Ok(())
    }

    /// Drops the connection to the server and tells the device that its login has failed. The device may try again.
    pub fn login_failed(&mut self, failure: &Failure) {
        self.drop_upstream();
        self.session.login_failed(failure, &mut self.outbox);
        self.state_has_changed();
    }

    /// Takes out the device's stream for a TLS handshake, with the octets that the session has not consumed.
    pub fn take_downstream(&mut self) -> Option<(D, Zeroizing<Vec<u8>>)> {
        self.downstream.take()
    }

    /// The device's stream, if it is there.
    pub fn downstream_mut(&mut self) -> Option<&mut D> {
        self.downstream.stream.as_mut()
    }

    /// Takes out the server's stream for a TLS handshake, with the octets that the session has not consumed.
    pub fn take_upstream(&mut self) -> Option<(U, Zeroizing<Vec<u8>>)> {
        self.upstream.take()
    }

    /// Puts back the device's stream, with TLS.
    pub fn downstream_secured(&mut self, stream: D) {
        self.downstream.stream = Some(stream);
        self.tls_started(Side::Downstream);
    }

    /// Puts back the server's stream, with TLS.
    pub fn upstream_secured(&mut self, stream: U) {
        self.upstream.stream = Some(stream);
        self.tls_started(Side::Upstream);
    }

    fn tls_started(&mut self, side: Side) {
        self.session.tls_started(side, &mut self.outbox);
        self.state_has_changed();
    }

    /// Tells the device why the connection ends, where its protocol allows that now, and closes both sides.
    pub async fn end_with(&mut self, failure: &Failure) {
        // In submission a message that goes up leaves the replies alone; in IMAP the server may have answered in part.
        let is_in_command = self.downstream.half.flow.is_forwarding() && self.session.awaited().is_none();
        if !is_in_command && !self.upstream.half.flow.is_forwarding() {
            self.session.bye(failure, &mut self.outbox);
            let reply = std::mem::take(&mut self.outbox.downstream);
            let unwritten = reply.get(self.downstream.half.written..).unwrap_or_default();
            if let Some(stream) = &mut self.downstream.stream {
                // The device may be gone; nothing depends on it any more.
                let _ = stream.write_all(unwritten).await;
            }
        }
        self.close_both().await;
    }

    /// Closes both sides at the same time: neither waits for the other.
    pub async fn close_both(&mut self) {
        tokio::join!(self.upstream.shut_down(), self.downstream.shut_down());
    }

    /// Closes our half towards one side: close_notify where there is TLS, then the end of the TCP stream.
    pub async fn close(&mut self, side: Side) {
        match side {
            Side::Downstream => self.downstream.shut_down().await,
            Side::Upstream => self.upstream.shut_down().await,
        }
    }

    /// Passes nothing more of the device, and reports [`Event::Stopped`] once the server's present response is over.
    pub fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Drops the connection to the server with all that was meant for it.
    pub fn drop_upstream(&mut self) {
        self.answered_before += self.upstream.half.flow.passed();
        self.upstream = End::default();
        self.outbox.upstream = Zeroizing::default();
    }

    /// Drops the connection to a server that is lost, and lets the session go on without it. Returns whether the session
    /// can.
    pub fn upstream_lost(&mut self) -> bool {
        self.keep_reply();
        self.drop_upstream();
        let goes_on = self.session.upstream_lost(&mut self.outbox);
        self.state_has_changed();
        goes_on
    }

    /// Returns whether there is a connection to a server.
    pub fn has_upstream(&self) -> bool {
        self.upstream.stream.is_some()
    }

    /// Takes out the server's stream, and lets the session go on without it. None where the session cannot.
    pub fn release_upstream(&mut self) -> Option<U> {
        let stream = self.upstream.stream.take();
        if self.upstream_lost() { stream } else { None }
    }

    /// Keeps what the device still has to get of the server's reply.
    fn keep_reply(&mut self) {
        let flow = &mut self.upstream.half.flow;
        let reply = &mut self.outbox.downstream;
        // The session's own words come first, unless they wait for that.
        let at = if self.downstream.half.words_wait(flow) { 0 } else { reply.len() };
        drop(reply.splice(at..at, flow.released().iter().copied()));
        flow.discard();
    }

    /// Drops the stream of a side that is lost. From here on, octets for it are discarded.
    pub fn abandon(&mut self, side: Side) {
        match side {
            Side::Downstream => self.downstream.stream = None,
            Side::Upstream => self.upstream.stream = None,
        }
        self.half(side).end_reported = true;
        self.state_has_changed();
    }

    /// Reads and discards until the device has closed as well, so that a reset does not destroy our last octets.
    pub async fn linger(&mut self) {
        let Some(stream) = &mut self.downstream.stream else { return };
        let flow = &mut self.downstream.half.flow;
        loop {
            flow.consume(flow.input().len());
            match poll_fn(|cx| flow.poll_fill(cx, stream)).await {
                Ok(count) if count > 0 => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// The session.
    pub fn session(&self) -> &dyn Session {
        self.session.as_ref()
    }

    /// The number of octets passed from the device to the server, and from the server to the device.
    pub fn passed(&self) -> (u64, u64) {
        (self.downstream.half.flow.passed(), self.answered_before + self.upstream.half.flow.passed())
    }

    /// The time at which octets last moved.
    pub fn last_move(&self) -> Instant {
        self.last_move
    }

    /// The time at which octets last moved to the server: a command, or the end of a message.
    pub fn last_sent(&self) -> Instant {
        self.last_sent
    }

    /// The time since which a response goes on and only the server's next octets are waited for.
    pub fn waits_since(&self) -> Option<Instant> {
        self.waits_since
    }

    /// Marks both sides: the session's next [`recv`](Session::recv) may decide differently.
    fn state_has_changed(&mut self) {
        self.downstream.half.stale = true;
        self.upstream.half.stale = true;
    }

    fn half(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Downstream => &mut self.downstream.half,
            Side::Upstream => &mut self.upstream.half,
        }
    }
}
