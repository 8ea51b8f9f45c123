//! A dialect is what a protocol adds to the session machine: its commands, its responses, its client and its relay.

use zeroize::Zeroizing;

use super::parking::ParkedState;
use super::{
    Activity, Awaited, CommandLimits, Failure, Leftover, MailboxTerms, Offer, Outbox, Responses, Side, Step,
    UpstreamLogin,
};
use crate::failure::Reply;
use crate::proto::sasl::{Credentials, Mechanism};

/// A protocol. Its value reads the device's commands before login, and keeps the state of a command that is not
/// whole.
pub(super) trait Dialect: Default + Send {
    /// The name that a command's response bears; `()` where responses come in the order of the commands.
    type Tag: Default + Send;
    /// The client that logs in at the server.
    type Client: Client;
    /// The relay of both directions after login.
    type Relay: Relay;

    /// The command that ends a session at the server.
    const LOGOUT: &'static [u8];

    /// Writes the greeting for the device.
    fn greet(offer: &Offer, out: &mut Vec<u8>);

    /// Returns whether the device's next octet begins a command.
    fn is_between_commands(&self) -> bool {
        true
    }

    /// Reads the command that `input` begins with. It answers a command that changes nothing in `out` at once.
    ///
    /// # Errors
    /// The command is longer than the limits allow.
    fn read(
        &mut self,
        input: &[u8],
        offer: &Offer,
        limits: &CommandLimits,
        out: &mut Vec<u8>,
    ) -> Result<Read<Self::Tag>, Failure>;

    /// Makes the reader behind a login that has failed. The command that asked for it may stand in the input still.
    fn after_failed_login(_: &Self::Tag) -> Self {
        Self::default()
    }

    /// Writes the response to a command.
    fn respond(tag: &Self::Tag, response: Response<'_>, out: &mut Vec<u8>);

    /// Tells the device that the server has let it in, and starts the relay.
    fn logged_in(tag: &Self::Tag, client: Self::Client, offer: &Offer, out: &mut Vec<u8>) -> Self::Relay;

    /// Tells the device that it is in, at a connection that was parked, and starts the relay. None where the protocol has
    /// no such connections.
    fn resumed(_: &Self::Tag, _: MailboxTerms, _: ParkedState, _: &mut Vec<u8>) -> Option<Self::Relay> {
        None
    }

    /// Writes the last response before the connection is closed.
    fn bye(failure: &Failure, out: &mut Vec<u8>);
}

/// The beginning of the input, before login.
pub(super) enum Read<Tag> {
    /// More of the command has to come.
    Incomplete,
    /// This many octets belong to a command that goes on; they are done with.
    Part(usize),
    /// A command with its tag, and its length in octets.
    Command(Tag, Request, usize),
}

/// The wish of a device before login.
pub(super) enum Request {
    /// A command that the dialect has answered already.
    Answered,
    /// A login with the protocol's own command.
    Login(Credentials),
    /// A login by the device's address. The command stays in the input, and is obeyed behind the login.
    LoginBySource,
    /// A login by SASL (RFC 4422), with an initial response or without.
    Authenticate(Mechanism, Option<Zeroizing<Vec<u8>>>),
    /// The first part of a login, which the offer does not allow without TLS.
    LoginInClear,
    /// A command that needs the login before it. The dialect has answered it already.
    NotLoggedIn,
    /// A login by a SASL mechanism that packetboat does not know.
    UnknownMechanism,
    /// TLS on this connection.
    StartTls,
    /// The end of the session.
    Logout,
    /// A command that the dialect has refused already, and behind which octets may stand that are no commands.
    Closed,
    /// A command that makes no sense here, for this reason.
    Bad(&'static str),
    /// Octets that are no command, for this reason. They do not count as one.
    Malformed(&'static str),
}

/// The responses that the session machine gives to commands.
pub(super) enum Response<'a> {
    /// The next challenge of a SASL exchange, in base64.
    Challenge(&'a str),
    /// The device has cancelled the SASL exchange.
    Cancelled,
    /// The SASL mechanism is not known, or not offered.
    UnknownMechanism,
    /// TLS has to come before a login.
    TlsRequired,
    /// TLS begins.
    BeginTls,
    /// The session ends as the device asks.
    LoggedOut,
    /// The command makes no sense, for this reason.
    Bad(Fault, &'a str),
    /// The login has failed.
    LoginFailed(Reply),
}

/// The parts of a command that can make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The command is not known, or not one.
    Command,
    /// The command has no place here.
    Sequence,
    /// The argument cannot be read.
    Syntax,
}

/// The client that logs in at the server, from the server's greeting on.
pub(super) trait Client: Send {
    /// Makes a client that has read nothing.
    fn new(login: UpstreamLogin) -> Self;

    /// Reads a line of the server, without its line end, and writes the answer.
    fn receive(&mut self, line: &[u8], out: &mut Vec<u8>) -> Progress;

    /// Goes on behind the TLS handshake. Server and client forget what was sent before.
    fn tls_started(&mut self, out: &mut Vec<u8>);
}

/// The result of a line of the server, during the login.
pub(super) enum Progress {
    /// The server is to send more.
    Wait,
    /// TLS begins.
    StartTls,
    /// The server has let the device in.
    LoggedIn,
    /// The login has failed.
    Failed(Failure),
}

/// The relay of both directions after login.
pub(super) trait Relay: Send {
    /// Follows the octets of `side`, as [`Session::recv`](super::Session::recv) does. The machine calls it without
    /// input as well, because the relay may have something of its own to send.
    ///
    /// # Errors
    /// The failure names what a peer did that ends the connection.
    fn recv(&mut self, side: Side, input: &[u8], activity: &mut Activity, out: &mut Outbox) -> Result<Step, Failure>;

    /// Returns the device's progress in the server's responses.
    fn responses(&self) -> Responses;

    /// Returns whether the last response to the device may stand at this point.
    fn takes_bye(&self, failure: &Failure) -> bool;

    /// Returns what submission waits for; none in another protocol.
    fn awaited(&self) -> Option<Awaited> {
        None
    }

    /// Returns the number of the message whose envelope or content is under way, in submission.
    fn present_message(&self) -> Option<u32> {
        None
    }

    /// Returns the number of recipients of a message that the server has and has not answered, in submission.
    fn unanswered_recipients(&self) -> u32 {
        0
    }

    /// Returns whether the relay waits for a login at another connection to the server.
    fn is_connecting(&self) -> bool {
        false
    }

    /// Starts the login at the connection to the server that the relay has asked for.
    fn upstream_connected(&mut self, _: UpstreamLogin) {}

    /// Goes on behind the TLS handshake with that server.
    fn tls_started(&mut self, _: &mut Outbox) {}

    /// Tells the device that there is no connection to the server, for this reason.
    fn connect_failed(&mut self, _: &Failure, _: &mut Outbox) {}

    /// Goes on without the server, whose connection is lost. Returns whether the session can.
    fn upstream_lost(&mut self, _: &mut Outbox) -> bool {
        false
    }

    /// Goes on with a message's content, which is kept or is not.
    fn message_begun(&mut self, _is_kept: bool, _: &mut Outbox) {}

    /// Goes on behind a message that is kept, or could not be.
    fn message_kept(&mut self, _is_kept: bool, _: &mut Outbox) {}

    /// Decides what becomes of octets that a side has left when it closed.
    fn leftover(&mut self, side: Side) -> Leftover;
}
