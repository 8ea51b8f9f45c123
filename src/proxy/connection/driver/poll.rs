//! The driver's loop: write what the session has put into the outbox, then move what either side has sent.

use std::io::{self, ErrorKind};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::end::{Filled, Forwarded};
use super::{Driver, Event};
use crate::failure::{Failure, Kind, Side};
use crate::proto::{Action, Awaited, Leftover, Phase, Responses, Step};
use crate::transport::downstream;

impl<D, U> Driver<D, U>
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// Works until there is an event, or until nothing can be done before a stream is ready.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Failure>> {
        (self.downstream.half.has_nothing, self.upstream.half.has_nothing) = (false, false);
        for _ in 0..STEPS {
            let written = self.write(cx)?;
            // It is about time alone, which passes while a peer does not read as well.
            if matches!(self.event, Some(Event::Waits)) {
                self.event = None;
                return Poll::Ready(Ok(Event::Waits));
            }
            if self.event.is_some() {
                // Everything before an event is sent before the caller sees it; before an end it goes out with that.
                ready!(written);
                if !matches!(self.event, Some(Event::Ended(_) | Event::Close)) {
                    ready!(self.flush(cx))?;
                }
                if let Some(event) = self.event.take() {
                    return Poll::Ready(Ok(event));
                }
            }
            if self.is_stopping && self.is_between_responses() {
                return Poll::Ready(Ok(Event::Stopped));
            }
            // A step is carried out before the next one is asked for, whichever side that is for.
            let mut has_moved = self.forward(cx, Side::Downstream)?;
            has_moved |= self.forward(cx, Side::Upstream)?;
            has_moved |= self.receive(cx, Side::Downstream)?;
            // The device goes first while something that it has sent is not looked at: a server answers nothing that it
            // has not received, and so the outcome never depends on how octets arrive.
            let device_goes_on = has_moved && self.downstream.half.stale;
            if self.event.is_none() && !device_goes_on {
                has_moved |= self.receive(cx, Side::Upstream)?;
                // A device that never pauses changes the session's state each time: the server is read nevertheless.
                if self.event.is_none() && !self.upstream.half.stale {
                    has_moved |= self.receive(cx, Side::Upstream)?;
                }
            }
            if !has_moved && self.event.is_none() {
                let _ = self.flush(cx)?;
                return if self.begins_to_wait() { Poll::Ready(Ok(Event::Waits)) } else { Poll::Pending };
            }
        }
        // Other tasks run, and the caller looks at its deadlines.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads what one side has sent, or asks the session about it. Returns whether anything has changed.
    fn receive(&mut self, cx: &mut Context<'_>, side: Side) -> Result<bool, Failure> {
        if self.half(side).flow.is_forwarding() {
            return Ok(false);
        }
        if self.is_stopping && side == Side::Downstream {
            return Ok(false);
        }
        // Reading waits until the outbox is written, so that a peer that does not read cannot fill our memory.
        if !self.outbox.downstream.is_empty() || !self.outbox.upstream.is_empty() {
            return Ok(false);
        }
        if self.half(side).stale {
            if side == Side::Downstream && self.keeper.is_some() {
                return self.receive_kept(cx);
            }
            let input = match side {
                Side::Downstream => self.downstream.half.flow.input(),
                Side::Upstream => self.upstream.half.flow.input(),
            };
            let step = self.session.recv(side, input, &mut self.outbox)?;
            self.note_order(side);
            self.carry_out(side, step);
            return Ok(true);
        }
        let filled = match side {
            Side::Downstream => self.downstream.fill(cx),
            Side::Upstream => self.upstream.fill(cx),
        };
        match filled.map_err(|error| lost(side, &error))? {
            Filled::Count(count) => {
                self.half(side).stale = count > 0;
                if side == Side::Downstream {
                    self.received += count as u64;
                }
                self.has_moved(side);
                Ok(true)
            }
            Filled::Nothing => Ok(false),
            Filled::Ended => Ok(self.handle_end(side)),
        }
    }

    /// Asks the session about what the device has sent of a message that is kept: what goes up goes into the file as well.
    fn receive_kept(&mut self, cx: &mut Context<'_>) -> Result<bool, Failure> {
        let Some(keeper) = &mut self.keeper else { return Ok(false) };
        // The disk may be slower than the device.
        if keeper.poll_ready(cx).is_pending() {
            return Ok(false);
        }
        let is_content = self.session.awaited() == Some(Awaited::Content);
        let input = self.downstream.half.flow.input();
        let step = self.session.recv(Side::Downstream, input, &mut self.outbox)?;
        if is_content {
            keeper.append(&self.outbox.upstream);
            if let Step::Forward(count) = step {
                keeper.append(input.get(..count).unwrap_or_default());
            }
        }
        self.note_order(Side::Downstream);
        self.carry_out(Side::Downstream, step);
        Ok(true)
    }

    /// Notes that what the session has just said to the other side comes before what it releases of this one.
    fn note_order(&mut self, side: Side) {
        match side {
            Side::Downstream => self.upstream.half.words_first = !self.outbox.upstream.is_empty(),
            Side::Upstream => self.downstream.half.words_first = !self.outbox.downstream.is_empty(),
        }
    }

    /// Notes what submission waits for behind a step. The caller learns of what has less time than what came before.
    fn note_awaited(&mut self, side: Side) {
        let awaited = self.session.awaited();
        if awaited.is_some() || self.awaited.is_some() {
            self.progress.note(self.session.as_ref(), awaited, self.received);
        }
        if awaited == self.awaited {
            return;
        }
        self.awaited = awaited;
        if side == Side::Downstream && awaited == Some(Awaited::Answer) {
            self.message_ended.get_or_insert_with(Instant::now);
        }
        // The server has answered the message, and its file is forgotten.
        if !matches!(awaited, Some(Awaited::Content | Awaited::Answer)) {
            self.keeper = None;
        }
        let has_less_time = match awaited {
            Some(Awaited::Mail | Awaited::Content) => true,
            Some(Awaited::Answer) => self.has_keeper(),
            Some(Awaited::Command) => self.progress.is_slow(),
            Some(Awaited::Reply) | None => false,
        };
        if has_less_time && self.event.is_none() {
            self.event = Some(Event::Waits);
        }
    }

    /// Passes on the octets of this side that the session has released. Returns whether the last of them has gone now.
    fn forward(&mut self, cx: &mut Context<'_>, from: Side) -> Result<bool, Failure> {
        if !self.half(from).flow.is_forwarding() {
            return Ok(false);
        }
        let (downstream, upstream) = (&mut self.downstream, &mut self.upstream);
        let forwarded = match from {
            Side::Downstream => upstream.forward(cx, &mut downstream.half.flow, &self.outbox.upstream),
            Side::Upstream => downstream.forward(cx, &mut upstream.half.flow, &self.outbox.downstream),
        };
        let Forwarded { has_moved, is_done } = forwarded.map_err(|error| lost(other(from), &error))?;
        if has_moved {
            self.has_moved(from);
            if from == Side::Downstream {
                self.last_sent = self.last_move;
            }
        }
        Ok(is_done)
    }

    /// Carries out a step of the session.
    fn carry_out(&mut self, side: Side, step: Step) {
        match step {
            Step::Read => {
                self.half(side).stale = false;
                return;
            }
            Step::Consume(count) => self.half(side).flow.consume(count),
            Step::Forward(count) => self.half(side).flow.forward(count),
            Step::Act(count, action) => {
                self.half(side).flow.consume(count);
                self.event = Some(match action {
                    Action::Authenticate(credentials) => Event::Authenticate(credentials),
                    Action::LoggedIn => Event::LoggedIn,
                    Action::LoginFailed(failure) => {
                        self.drop_upstream();
                        Event::LoginFailed(failure)
                    }
                    Action::Notice(failure) => Event::Notice(failure),
                    Action::MessageBegins(envelope) => Event::MessageBegins(envelope),
                    Action::Keep(reason) => Event::Keep(reason),
                    Action::Submitted(submitted) => Event::Submitted(submitted),
                    Action::DropServer(failure) => {
                        self.keeper = None;
                        self.drop_upstream();
                        Event::Notice(failure)
                    }
                    Action::Connect => {
                        self.keep_reply();
                        self.drop_upstream();
                        Event::Connect
                    }
                    Action::LeaveServer => {
                        self.drop_upstream();
                        Event::ServerLeft
                    }
                    Action::Park(state) => Event::Park(state),
                    Action::Close => Event::Close,
                    Action::StartTls => Event::StartTls(side),
                });
            }
        }
        self.note_awaited(side);
        self.state_has_changed();
    }

    /// Decides about the octets that a closed side has left, and reports its end. Returns whether anything has changed.
    fn handle_end(&mut self, side: Side) -> bool {
        let left = self.half(side).flow.input().len();
        if self.session.phase().is_relaying() && left > 0 {
            let leftover = self.session.leftover(side);
            let flow = &mut self.half(side).flow;
            match leftover {
                Leftover::Forward => flow.forward(left),
                Leftover::Wait => return false,
                Leftover::Discard => flow.consume(left),
            }
            return true;
        }
        if side == Side::Downstream && self.session.phase() == Phase::LoggingIn {
            if self.half_close_reported {
                return false;
            }
            self.half_close_reported = true;
            self.event = Some(Event::HalfClosed);
            return true;
        }
        if self.half(side).end_reported {
            return false;
        }
        self.half(side).end_reported = true;
        self.event = Some(Event::Ended(side));
        true
    }

    /// Writes the outbox, to both sides. Ready once all of it is written.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Failure> {
        let down = match self.makes_way(cx, Side::Downstream)? {
            true => self.downstream.write(cx, &mut self.outbox.downstream),
            false => Ok(Poll::Pending),
        };
        let down = down.map_err(|error| lost(Side::Downstream, &error))?;
        let is_asking = !self.outbox.upstream.is_empty();
        let up = match self.makes_way(cx, Side::Upstream)? {
            true => self.upstream.write(cx, &mut self.outbox.upstream),
            false => Ok(Poll::Pending),
        };
        if is_asking && matches!(up, Ok(Poll::Ready(()))) {
            self.last_sent = Instant::now();
        }
        let up = up.map_err(|error| lost(Side::Upstream, &error))?;
        Ok(if down.is_ready() && up.is_ready() { Poll::Ready(()) } else { Poll::Pending })
    }

    /// Passes on what stands before the outbox for this side, if there is something for it. Returns whether its turn has come.
    fn makes_way(&mut self, cx: &mut Context<'_>, side: Side) -> Result<bool, Failure> {
        let is_empty = match side {
            Side::Downstream => self.outbox.downstream.is_empty(),
            Side::Upstream => self.outbox.upstream.is_empty(),
        };
        if !is_empty && self.words_wait(side) {
            self.forward(cx, other(side))?;
        }
        Ok(is_empty || !self.words_wait(side))
    }

    fn words_wait(&self, side: Side) -> bool {
        match side {
            Side::Downstream => self.downstream.half.words_wait(&self.upstream.half.flow),
            Side::Upstream => self.upstream.half.words_wait(&self.downstream.half.flow),
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let down = self.downstream.flush(cx).map_err(|error| lost(Side::Downstream, &error))?;
        let up = self.upstream.flush(cx).map_err(|error| lost(Side::Upstream, &error))?;
        if down.is_ready() && up.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Notes that octets of this side have moved.
    fn has_moved(&mut self, side: Side) {
        self.last_move = Instant::now();
        if side == Side::Upstream && self.waits_since.is_some() {
            self.waits_since = Some(self.last_move);
        }
    }

    /// Notes whether the end of a response is waited for. Returns whether that is new.
    fn begins_to_wait(&mut self) -> bool {
        if self.session.phase() != Phase::Relaying(Responses::Awaited) || self.is_held_up() {
            self.waits_since = None;
            return false;
        }
        let is_new = self.waits_since.is_none();
        self.waits_since.get_or_insert_with(Instant::now);
        is_new
    }

    /// Returns whether the device holds up a response: it does not take the server's octets, or our own.
    fn is_held_up(&self) -> bool {
        self.upstream.half.flow.is_forwarding() || self.downstream.half.dirty || !self.outbox.downstream.is_empty()
    }

    /// Returns whether a close would break off no response, and no reply of our own.
    fn is_between_responses(&self) -> bool {
        let is_forwarding = self.upstream.half.flow.is_forwarding() || self.downstream.half.flow.is_forwarding();
        !is_forwarding && self.outbox.downstream.is_empty() && self.session.phase() == Phase::Relaying(Responses::Whole)
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
    let is_abrupt = matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof
    );
    let refuses_certificate = side == Side::Downstream && downstream::refuses_certificate(error);
    Failure { is_abrupt, refuses_certificate, ..Failure::new(kind, error.to_string()) }
}

/// Steps in one call. A read of a relay takes two or three, a command before login takes one: some hundred short
/// commands are answered before other tasks run.
const STEPS: usize = 512;
