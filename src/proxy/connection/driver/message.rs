//! The driver's part in a message that a device sends: its content may be kept on disk, and its time is bounded.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Driver;
use super::progress::Progress;
use crate::proto::UpstreamLogin;
use crate::spool::Writer;

impl<D, U> Driver<D, U>
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// Goes on with a message's content, which this writer gets as well.
    pub fn message_begun(&mut self, writer: Option<Writer>) {
        self.session.message_begun(writer.is_some(), &mut self.outbox);
        self.keeper = writer.map(Box::new);
        self.state_has_changed();
    }

    /// Goes on behind a message that is kept, or could not be. The connection to a server that has not answered it yet
    /// is to be taken before.
    pub fn message_kept(&mut self, is_kept: bool) {
        self.session.message_kept(is_kept, &mut self.outbox);
        self.state_has_changed();
    }

    /// Returns whether the present message's content can be kept.
    pub fn has_keeper(&self) -> bool {
        self.keeper.is_some()
    }

    /// Takes the writer of the present message.
    pub fn take_keeper(&mut self) -> Option<Writer> {
        self.keeper.take().map(|writer| *writer)
    }

    /// Lets the device in without a server. Returns whether the session can do that.
    pub fn logged_in_without_server(&mut self, login: UpstreamLogin) -> bool {
        self.drop_upstream();
        let is_in = self.session.logged_in_without_server(login, &mut self.outbox);
        self.state_has_changed();
        is_in
    }

    /// Takes the time at which the device had sent the message that the server has just answered.
    pub fn take_message_ended(&mut self) -> Option<Instant> {
        self.message_ended.take()
    }

    /// The device's progress in submission, and the octets that it has sent in all.
    pub fn progress(&self) -> (&Progress, u64) {
        (&self.progress, self.received)
    }

    /// Returns whether the server has not taken all that is released to it.
    pub fn is_sending(&self) -> bool {
        self.downstream.half.flow.is_forwarding() || !self.outbox.upstream.is_empty()
    }
}
