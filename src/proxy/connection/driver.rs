//! Carries out what a session says: reads, hands over, writes, until something happens that the connection has to see.

mod end;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::failure::{Failure, Kind, Side};
use crate::proto::{Action, Credentials, Leftover, Outbox, Phase, Responses, Session, Step, UpstreamLogin};
use crate::transport::Stream;
use end::End;

/// A session with both its streams.
pub(super) struct Driver {
    session: Box<dyn Session>,
    downstream: End,
    upstream: End,
    outbox: Outbox,
    /// What the connection is to see once everything before it is written.
    event: Option<Event>,
    last_move: Instant,
    /// Since when something waits for the end of a response, and the server says nothing. The connection knows it.
    waits_since: Option<Instant>,
    /// The connection knows that the device has closed its half.
    told_of_end: bool,
    /// Nothing more of the device passes, and the connection is to end behind the present response.
    is_stopping: bool,
}

/// What the connection has to see to.
#[derive(Debug)]
pub(super) enum Event {
    /// Find the server and dial it.
    Authenticate(Credentials),
    /// The device is let in.
    LoggedIn,
    /// The server refused; the upstream connection is dropped already, and the device does not know yet.
    LoginFailed(Failure),
    /// The server has said something that an operator should know.
    Notice(Failure),
    /// From now on something waits for the end of a response: that has less time.
    Waits,
    /// The device has closed its half behind a login, and may still read: the answer has less time.
    HalfClosed,
    /// Shake hands on this side.
    StartTls(Side),
    /// The server's response is over, and nothing of the device has passed since [`Driver::stop`].
    Stopped,
    /// All is said.
    Close,
    /// This side has closed, and all it sent is handled.
    Ended(Side),
}

impl Driver {
    /// A session that has not greeted yet.
    pub(super) fn new(session: Box<dyn Session>, downstream: Stream) -> Self {
        Self {
            session,
            downstream: End { stream: Some(downstream), ..End::default() },
            upstream: End::default(),
            outbox: Outbox::default(),
            event: None,
            last_move: Instant::now(),
            waits_since: None,
            told_of_end: false,
            is_stopping: false,
        }
    }

    /// Says the first words.
    pub(super) fn greet(&mut self) {
        self.session.greet(&mut self.outbox);
        self.touch();
    }

    /// The next event.
    ///
    /// # Errors
    /// A stream broke, or the device did what ends a connection; its [`Kind`] says which.
    pub(super) async fn next(&mut self) -> Result<Event, Failure> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Hands over the connection to the server, and with what to log in there.
    pub(super) fn connect(&mut self, upstream: Stream, login: UpstreamLogin) {
        self.drop_upstream();
        self.upstream.stream = Some(upstream);
        self.session.upstream_connected(login);
        self.touch();
    }

    /// The login came to nothing; the device is told, and may try again.
    pub(super) fn login_failed(&mut self, failure: &Failure) {
        self.drop_upstream();
        self.session.login_failed(failure, &mut self.outbox);
        self.touch();
    }

    /// Takes a side's stream out, to put TLS over it, with what it has sent and nobody has read.
    pub(super) fn take(&mut self, side: Side) -> Option<(Stream, Zeroizing<Vec<u8>>)> {
        let end = self.end(side);
        let unread = Zeroizing::new(end.flow.input().to_vec());
        end.flow.consume(unread.len());
        Some((end.stream.take()?, unread))
    }

    /// Puts it back, encrypted.
    pub(super) fn secured(&mut self, side: Side, stream: Stream) {
        self.end(side).stream = Some(stream);
        self.session.tls_started(side, &mut self.outbox);
        self.touch();
    }

    /// Says the last words, where there are any, and closes both sides; bound it with a timeout.
    pub(super) async fn end_with(&mut self, failure: &Failure) {
        if !self.downstream.flow.is_forwarding() && !self.upstream.flow.is_forwarding() {
            self.session.bye(failure, &mut self.outbox);
            let words = std::mem::take(&mut self.outbox.downstream);
            let rest = words.get(self.downstream.said..).unwrap_or_default();
            if let Some(stream) = &mut self.downstream.stream {
                // The device may be gone; nothing depends on it any more.
                let _ = stream.write_all(rest).await;
            }
        }
        self.close_both().await;
    }

    /// Closes both sides; neither waits for the other one's peer.
    pub(super) async fn close_both(&mut self) {
        tokio::join!(self.upstream.shut_down(), self.downstream.shut_down());
    }

    /// Passes the close on: close_notify, then the end of our half of the connection.
    pub(super) async fn close(&mut self, side: Side) {
        self.end(side).shut_down().await;
    }

    /// Passes nothing more of the device, and reports once the server's present response is over.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Lets go of the connection to the server, with what was meant for it.
    pub(super) fn drop_upstream(&mut self) {
        self.upstream = End::default();
        self.outbox.upstream = Zeroizing::default();
    }

    /// Lets go of a side that is gone: what is meant for it is dropped from here on.
    pub(super) fn abandon(&mut self, side: Side) {
        let end = self.end(side);
        end.stream = None;
        end.reported = true;
        self.touch();
    }

    /// Waits until the device has closed as well, so that our last octets are not lost to a reset.
    pub(super) async fn linger(&mut self) {
        let Some(stream) = &mut self.downstream.stream else { return };
        let flow = &mut self.downstream.flow;
        loop {
            flow.consume(flow.input().len());
            match poll_fn(|cx| flow.poll_fill(cx, stream)).await {
                Ok(count) if count > 0 => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// The session.
    pub(super) fn session(&self) -> &dyn Session {
        self.session.as_ref()
    }

    /// Octets passed from the device to the server, and back.
    pub(super) fn passed(&self) -> (u64, u64) {
        (self.downstream.flow.passed(), self.upstream.flow.passed())
    }

    /// When octets last moved.
    pub(super) fn last_move(&self) -> Instant {
        self.last_move
    }

    /// Since when the server's octets, and nothing else, are waited for in the middle of a response.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.waits_since
    }

    /// Whether something of the server's waits for something else than the server: its octets, or our own, which the device
    /// does not take.
    fn is_held_up(&self) -> bool {
        self.upstream.flow.is_forwarding() || self.downstream.dirty || !self.outbox.downstream.is_empty()
    }

    /// Whether a close would break off no response, and none of our own words.
    fn is_between_responses(&self) -> bool {
        let is_forwarding = self.upstream.flow.is_forwarding() || self.downstream.flow.is_forwarding();
        !is_forwarding && self.outbox.downstream.is_empty() && self.session.phase() == Phase::Relaying(Responses::Whole)
    }

    /// Looks whether the end of a response is waited for. Whether that is new.
    fn begins_to_wait(&mut self) -> bool {
        if self.session.phase() != Phase::Relaying(Responses::Awaited) || self.is_held_up() {
            self.waits_since = None;
            return false;
        }
        let is_new = self.waits_since.is_none();
        self.waits_since.get_or_insert_with(Instant::now);
        is_new
    }

    /// Octets of this side have moved.
    fn has_moved(&mut self, side: Side) {
        self.last_move = Instant::now();
        if side == Side::Upstream && self.waits_since.is_some() {
            self.waits_since = Some(self.last_move);
        }
    }

    fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Downstream => &mut self.downstream,
            Side::Upstream => &mut self.upstream,
        }
    }

    /// The session's state has changed: it is asked again, on both sides.
    fn touch(&mut self) {
        self.downstream.stale = true;
        self.upstream.stale = true;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Failure>> {
        for _ in 0..TURNS {
            let said = self.poll_say(cx)?;
            if self.event.is_some() {
                // Everything before an event is on the wire before it is seen; before an end it goes out with that.
                ready!(said);
                if !matches!(self.event, Some(Event::Ended(_) | Event::Close)) {
                    ready!(self.poll_flush(cx))?;
                }
                if let Some(event) = self.event.take() {
                    return Poll::Ready(Ok(event));
                }
            }
            if self.is_stopping && self.is_between_responses() {
                return Poll::Ready(Ok(Event::Stopped));
            }
            let mut moved = false;
            for side in [Side::Downstream, Side::Upstream] {
                moved |= self.poll_side(cx, side)?;
                if self.event.is_some() {
                    break;
                }
            }
            if !moved && self.event.is_none() {
                let _ = self.poll_flush(cx)?;
                return if self.begins_to_wait() { Poll::Ready(Ok(Event::Waits)) } else { Poll::Pending };
            }
        }
        // Others have their turn, and the time is looked at.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Moves what one side has sent. Whether anything has changed.
    fn poll_side(&mut self, cx: &mut Context<'_>, side: Side) -> Result<bool, Failure> {
        let (from, to, words) = match side {
            Side::Downstream => (&mut self.downstream, &mut self.upstream, self.outbox.upstream.len()),
            Side::Upstream => (&mut self.upstream, &mut self.downstream, self.outbox.downstream.len()),
        };
        if from.flow.is_forwarding() {
            match &mut to.stream {
                None => from.flow.discard(),
                // Our own words come first.
                Some(_) if words > to.said => return Ok(false),
                Some(stream) => {
                    to.dirty = true;
                    let before = from.flow.passed();
                    let done = from.flow.poll_forward(cx, stream).map_err(|error| lost(other(side), &error))?;
                    if from.flow.passed() != before {
                        self.has_moved(side);
                    }
                    if done.is_pending() {
                        return Ok(false);
                    }
                }
            }
            return Ok(true);
        }
        if self.is_stopping && side == Side::Downstream {
            return Ok(false);
        }
        // Nothing more is heard until what was said is taken: a peer that does not read cannot fill our memory.
        if !self.outbox.downstream.is_empty() || !self.outbox.upstream.is_empty() {
            return Ok(false);
        }
        if from.stale {
            let step = self.session.recv(side, from.flow.input(), &mut self.outbox)?;
            self.carry_out(side, step);
            return Ok(true);
        }
        let Some(stream) = &mut from.stream else { return Ok(false) };
        if !from.flow.has_ended() {
            if !from.flow.has_room() {
                return Ok(false);
            }
            let Poll::Ready(filled) = from.flow.poll_fill(cx, stream).map_err(|error| lost(side, &error))? else {
                return Ok(false);
            };
            from.stale = filled > 0;
            self.has_moved(side);
            return Ok(true);
        }
        if self.session.phase().is_relaying() && !from.flow.input().is_empty() {
            let rest = from.flow.input().len();
            match self.session.leftover(side) {
                Leftover::Forward => from.flow.forward(rest),
                Leftover::Wait => return Ok(false),
                Leftover::Discard => from.flow.consume(rest),
            }
            return Ok(true);
        }
        if side == Side::Downstream && self.session.phase() == Phase::LoggingIn {
            if self.told_of_end {
                return Ok(false);
            }
            self.told_of_end = true;
            self.event = Some(Event::HalfClosed);
            return Ok(true);
        }
        if !from.reported {
            from.reported = true;
            self.event = Some(Event::Ended(side));
            return Ok(true);
        }
        Ok(false)
    }

    fn carry_out(&mut self, side: Side, step: Step) {
        match step {
            Step::Read => {
                self.end(side).stale = false;
                return;
            }
            Step::Consume(count) => self.end(side).flow.consume(count),
            Step::Forward(count) => self.end(side).flow.forward(count),
            Step::Act(count, action) => {
                self.end(side).flow.consume(count);
                self.event = Some(match action {
                    Action::Authenticate(credentials) => Event::Authenticate(credentials),
                    Action::LoggedIn => Event::LoggedIn,
                    Action::LoginFailed(failure) => {
                        self.drop_upstream();
                        Event::LoginFailed(failure)
                    }
                    Action::Notice(failure) => Event::Notice(failure),
                    Action::Close => Event::Close,
                    Action::StartTls => Event::StartTls(side),
                });
            }
        }
        self.touch();
    }

    /// Writes our own words, to both sides. Ready once all are written.
    fn poll_say(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Failure> {
        let down = self
            .downstream
            .write_out(cx, &mut self.outbox.downstream)
            .map_err(|error| lost(Side::Downstream, &error))?;
        let up =
            self.upstream.write_out(cx, &mut self.outbox.upstream).map_err(|error| lost(Side::Upstream, &error))?;
        Ok(if down.is_ready() && up.is_ready() { Poll::Ready(()) } else { Poll::Pending })
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let mut flushed = Poll::Ready(Ok(()));
        for (side, end) in [(Side::Downstream, &mut self.downstream), (Side::Upstream, &mut self.upstream)] {
            let Some(stream) = end.stream.as_mut().filter(|_| end.dirty) else { continue };
            match Pin::new(stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => end.dirty = false,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(lost(side, &error))),
                Poll::Pending => flushed = Poll::Pending,
            }
        }
        flushed
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Downstream => Side::Upstream,
        Side::Upstream => Side::Downstream,
    }
}

fn lost(side: Side, error: &io::Error) -> Failure {
    let kind = match side {
        Side::Downstream => Kind::DeviceLost,
        Side::Upstream => Kind::UpstreamLost,
    };
    Failure::new(kind, error.to_string())
}

/// Steps in one go. A read of a relay takes two or three of them, a command before login one: no more than some hundred
/// short commands are answered before others are served.
const TURNS: usize = 512;
