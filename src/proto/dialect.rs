//! What a protocol adds to the session machine: its commands, its replies, its client and its relay.

use zeroize::Zeroizing;

use super::{Activity, Failure, Leftover, Limits, Offer, Outbox, Responses, Side, Step, UpstreamLogin};
use crate::failure::Reply;
use crate::proto::sasl::{Credentials, Mechanism};

/// A protocol. A value of it reads the device's commands before login, and keeps what is known of one that is not whole.
pub(super) trait Dialect: Default + Send {
    /// The name that a command's response bears; nothing where responses come in the order of the commands.
    type Tag: Default + Send;
    /// Our side of the login at the server.
    type Client: Client;
    /// Both directions after login.
    type Relay: Relay;

    /// The command that ends a session at the server.
    const LOGOUT: &'static [u8];

    /// Writes the greeting for the device.
    fn greet(offer: &Offer, out: &mut Vec<u8>);

    /// Returns whether the device's next octet begins a command.
    fn is_between_commands(&self) -> bool {
        true
    }

    /// Reads the command that `input` begins with. A command that changes nothing is answered in `out` at once.
    ///
    /// # Errors
    /// The command is longer than it may be.
    fn read(
        &mut self,
        input: &[u8],
        offer: &Offer,
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> Result<Read<Self::Tag>, Failure>;

    /// Writes the response to a command.
    fn respond(tag: &Self::Tag, response: Response<'_>, out: &mut Vec<u8>);

    /// Tells the device that the server has let it in, and begins the relay.
    fn logged_in(tag: &Self::Tag, client: Self::Client, offer: &Offer, out: &mut Vec<u8>) -> Self::Relay;

    /// Writes the last words before the connection is closed.
    fn bye(failure: &Failure, out: &mut Vec<u8>);
}

/// What the input begins with, before login.
pub(super) enum Read<Tag> {
    /// More of the command has to come.
    Incomplete,
    /// Octets of a command that goes on: so many are done with.
    Part(usize),
    /// A command of so many octets.
    Command(Tag, Request, usize),
}

/// What a device asks for before login.
pub(super) enum Request {
    /// Something that is answered already.
    Answered,
    /// To be logged in with the protocol's own command.
    Login(Credentials),
    /// To be logged in by SASL (RFC 4422), with an initial response or without.
    Authenticate(Mechanism, Option<Zeroizing<Vec<u8>>>),
    /// The first part of a login, which the offer does not allow without TLS.
    LoginInClear,
    /// A SASL mechanism that nobody knows.
    UnknownMechanism,
    /// TLS on this connection.
    StartTls,
    /// The end of the session.
    Logout,
    /// A command that makes no sense here, for this reason.
    Bad(&'static str),
    /// Not a command, for this reason. It does not count as one.
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
    Bad(&'a str),
    /// The login came to nothing.
    LoginFailed(Reply),
}

/// Our side of the login at the server, from its greeting on.
pub(super) trait Client: Send {
    /// A client that has read nothing.
    fn new(login: UpstreamLogin) -> Self;

    /// Reads a line of the server, without its line end, and writes what is sent back.
    fn receive(&mut self, line: &[u8], out: &mut Vec<u8>) -> Progress;

    /// The server speaks TLS now; it has forgotten what was sent before, and so have we.
    fn tls_started(&mut self, out: &mut Vec<u8>);
}

/// What a line of the server led to, during the login.
pub(super) enum Progress {
    /// The server is to send more.
    Wait,
    /// TLS begins.
    StartTls,
    /// The server has let the device in.
    LoggedIn,
    /// The login came to nothing.
    Failed(Failure),
}

/// Both directions after login.
pub(super) trait Relay: Send {
    /// Follows the octets of `side`, as [`Session::recv`](super::Session::recv) does. It is called without input as well:
    /// it may have something of its own to send.
    ///
    /// # Errors
    /// What a peer did that ends the connection.
    fn recv(&mut self, side: Side, input: &[u8], activity: &mut Activity, out: &mut Outbox) -> Result<Step, Failure>;

    /// How far the device has the server's responses.
    fn responses(&self) -> Responses;

    /// Returns whether the last words to the device may stand here.
    fn takes_bye(&self, failure: &Failure) -> bool;

    /// What becomes of octets that a side has left when it closed.
    fn leftover(&mut self, side: Side) -> Leftover;
}
