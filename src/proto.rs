//! The mail protocols and the one translation of the login, as pure machines: octets in, steps out.
//!
//! Nothing here knows a socket, a clock, a log or the configuration. The driver in `proxy` carries the steps out.
//! [`session()`] makes a session of any protocol: `session.rs` holds what all protocols do alike, and each protocol's
//! folder is a `Dialect` with what differs.

mod dialect;
mod imap;
mod kept;
mod line;
mod login_attempt;
pub mod parking;
mod pop3;
mod preamble;
pub mod sasl;
mod server_refusal;
mod session;
mod smtp;
mod terms;

use zeroize::Zeroizing;

pub use crate::failure::{Failure, Kind, Side};
use crate::protocol::Protocol;
use crate::submission::{Announcement, Reservation};
use dialect::Dialect;
use imap::Imap;
pub use kept::{KeepReason, MessageEnvelope};
use parking::ParkedState;
use pop3::Pop3;
pub use preamble::is_client_hello;
pub use sasl::{Credentials, Method};
use session::Machine;
use smtp::Smtp;
pub use smtp::{Judged, Refused, judge};
pub use terms::{AccessSettings, Deletes, MailboxTerms, Probe, Relogin, SubmissionTerms, Terms, UpstreamLogin};

/// Makes the session of one connection with a device, before anything is sent.
pub fn session(protocol: Protocol, offer: Offer, limits: CommandLimits) -> Box<dyn Session> {
    match protocol {
        Protocol::Imap => Box::new(Machine::<Imap>::new(offer, limits)),
        Protocol::Pop3 => Box::new(Machine::<Pop3>::new(offer, limits)),
        Protocol::Smtp => Box::new(Machine::<Smtp>::new(offer, limits)),
    }
}

/// Makes a session without a device, which logs in at a mail server and does no more. It waits for
/// [`upstream_connected`](Session::upstream_connected); drop what it writes for a device.
pub fn login(protocol: Protocol) -> Box<dyn Session> {
    match protocol {
        Protocol::Imap => Box::new(Machine::<Imap>::logging_in()),
        Protocol::Pop3 => Box::new(Machine::<Pop3>::logging_in()),
        Protocol::Smtp => Box::new(Machine::<Smtp>::logging_in()),
    }
}

/// The command that ends a session at the server (RFC 3501 §6.1.3, RFC 1939 §5, RFC 5321 §4.1.1.10).
pub fn logout(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Imap => Imap::LOGOUT,
        Protocol::Pop3 => Pop3::LOGOUT,
        Protocol::Smtp => Smtp::LOGOUT,
    }
}

/// One connection's protocol, between a device downstream and a mail server upstream.
///
/// # The driver's contract
///
/// 1. Once the device is ready (after TLS on an implicit port), call [`greet`](Session::greet).
/// 2. Call [`recv`](Session::recv) with a side and *all* octets of that side that are read and not yet consumed
///    or forwarded, whenever there are new ones or the session's state has changed since (any step but
///    [`Step::Read`] changes it, and so does every other method here).
/// 3. After each call send what is in the [`Outbox`], then carry out the step. A returned step is always
///    carried out, and no call is made for a side while a `Forward` from it is unfinished.
/// 4. After [`Action::Authenticate`] find the server, dial it, and call
///    [`upstream_connected`](Session::upstream_connected), or [`login_failed`](Session::login_failed) with the reason.
/// 5. After [`Action::StartTls`] flush, refuse any plaintext that is left on that side, shake hands, and call
///    [`tls_started`](Session::tls_started).
/// 6. After [`Action::LoginFailed`] drop the upstream connection with everything read from it. Then call
///    [`login_failed`](Session::login_failed), which tells the device and takes the session back to where it was before
///    the login; or go on as after `Authenticate`, with another connection.
///
/// 7. After [`Action::Connect`] go on as after `Authenticate`: find the server, and dial it. The device is logged in and
///    stays so, whatever comes of that; the phase is [`Phase::LoggingIn`] meanwhile.
///
/// # The laws
///
/// 1. Cutting the input anywhere gives the same output.
/// 2. Counts never exceed the length of the input.
/// 3. `recv` returns and never panics, for all octets that a peer can send.
pub trait Session: Send {
    /// Writes the greeting for the device.
    fn greet(&mut self, out: &mut Outbox);

    /// Reads what came from `side`, and returns what to do next.
    ///
    /// # Errors
    /// The failure names what a peer did that ends the connection. Tell the device with [`bye`](Session::bye), and
    /// close.
    fn recv(&mut self, side: Side, input: &[u8], out: &mut Outbox) -> Result<Step, Failure>;

    /// Starts the login at the mail server. Its connection stands, with TLS where that is implicit. After login it
    /// answers [`Action::Connect`].
    fn upstream_connected(&mut self, login: UpstreamLogin);

    /// Goes on behind the TLS handshake on `side`.
    fn tls_started(&mut self, side: Side, out: &mut Outbox);

    /// Tells the device that its login failed, with the reply that `failure` calls for; or, after login, that the
    /// server asked for with [`Action::Connect`] was not reached.
    fn login_failed(&mut self, failure: &Failure, out: &mut Outbox);

    /// Writes the last response to the device, where its protocol allows one at this point.
    fn bye(&mut self, failure: &Failure, out: &mut Outbox);

    /// Returns the part of its life that the session is in.
    fn phase(&self) -> Phase;

    /// Returns what the device has done so far.
    fn activity(&self) -> Activity;

    /// Returns what submission waits for, after login; none in another protocol. If the server is lost while its answer
    /// to a message is awaited, nobody knows whether it sends the message.
    fn awaited(&self) -> Option<Awaited>;

    /// Returns the number of the message whose envelope or content is under way, in submission. The next message has
    /// another number, once the present one has come to its end.
    fn present_message(&self) -> Option<u32>;

    /// Returns the number of recipients of a message that the server has and has not answered, in submission.
    fn unanswered_recipients(&self) -> u32;

    /// Goes on without the server after login, if the session can: its connection is lost, or was given up. Drop the
    /// connection first. Returns whether the session goes on.
    fn upstream_lost(&mut self, out: &mut Outbox) -> bool;

    /// Goes on after [`Action::MessageBegins`]: the octets for the server, from here to the end of the data, are kept as
    /// well, or are not.
    fn message_begun(&mut self, is_kept: bool, out: &mut Outbox);

    /// Goes on after [`Action::Keep`]: the message is kept, or could not be. Where the server's answer to a message
    /// takes long, call it without that action, once the message is kept; the connection to the server is not the
    /// session's any more.
    fn message_kept(&mut self, is_kept: bool, out: &mut Outbox);

    /// Lets the device in although no server was reached, in answer to [`Action::Authenticate`]. Its messages are kept.
    /// Returns whether the session can.
    fn logged_in_without_server(&mut self, login: UpstreamLogin, out: &mut Outbox) -> bool;

    /// Lets the device in at a connection that was parked, in answer to [`Action::Authenticate`]. Returns whether the
    /// session can.
    fn resumed(&mut self, terms: MailboxTerms, state: ParkedState, out: &mut Outbox) -> bool;

    /// Decides what becomes of octets of `side` that [`recv`](Session::recv) has left, once that side has closed
    /// after login. The session sends nothing behind octets that are forwarded: they are half a line.
    fn leftover(&mut self, side: Side) -> Leftover;
}

/// The next thing that the driver does.
#[derive(Debug)]
pub enum Step {
    /// Drop this many octets of the input's beginning: they were addressed to packetboat. With 0, only the session's
    /// state has changed.
    Consume(usize),
    /// Drop this many octets of the input's beginning, then carry out the action.
    Act(usize, Action),
    /// Pass this many octets of the input's beginning to the other side, from this very buffer.
    Forward(usize),
    /// Wait: more has to come, or nothing from this side is wanted now.
    Read,
}

/// The things that happen beside moving octets.
#[derive(Debug)]
pub enum Action {
    /// Find the account and the server, dial it, then tell the session.
    Authenticate(Credentials),
    /// The server has let the device in. The driver relays both sides from here on.
    LoggedIn,
    /// The server has refused the login, and the device does not know yet. Drop the upstream connection.
    LoginFailed(Failure),
    /// The server has sent something that an operator should know. The session needs nothing.
    Notice(Failure),
    /// The content of this message comes next. Make ready to keep it, then call
    /// [`message_begun`](Session::message_begun).
    MessageBegins(Box<MessageEnvelope>),
    /// All of the message has come, and no server has taken it. Keep it, then call
    /// [`message_kept`](Session::message_kept).
    Keep(KeepReason),
    /// The server has taken a message. The session needs nothing.
    Submitted(Submitted),
    /// Drop the upstream connection at once, for this reason: half a message there must not become a whole one.
    DropServer(Failure),
    /// Drop the upstream connection, if there is one, and make another: the server was lost, or is not needed all the
    /// time.
    Connect,
    /// Drop the upstream connection: the server closes it. The session goes on without it.
    LeaveServer,
    /// Send what is in the outbox, then close the device's side. The server's connection may be parked.
    Park(ParkedState),
    /// Send what is in the outbox, then close.
    Close,
    /// Flush, then shake hands on the side that the input came from. Plaintext left behind it is an attack.
    StartTls,
}

/// A message that the server has taken.
#[derive(Debug)]
pub struct Submitted {
    /// The number of recipients that the server has taken.
    pub recipients: u32,
    /// The octets of the message as the device sent them, with the end of the data.
    pub octets: u64,
    /// It went to the mailbox alone, in the place of the recipients.
    pub is_trial: bool,
    /// The domain of its first recipient outside of the mailbox's own domain.
    pub outside: Option<Box<str>>,
    /// The server's reply, in which it mostly names the message.
    pub answer: String,
    /// The recipients in the quotas. Drop it once they are counted.
    pub reserved: Reservation,
}

/// The parts of a session's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The device talks to packetboat.
    NotAuthenticated,
    /// A login is under way: the driver looks for the server, or the server is asked. In submission that also comes
    /// between two messages, and in one whose server was lost.
    LoggingIn,
    /// Device and server talk to each other.
    Relaying(Responses),
    /// The device has logged out before a login.
    LoggedOut,
}

impl Phase {
    /// Returns whether device and server talk to each other.
    pub fn is_relaying(self) -> bool {
        matches!(self, Phase::Relaying(_))
    }
}

/// The device's progress in the server's responses, after login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Responses {
    /// The device has each response to its end. A close would break off none.
    Whole,
    /// The device has a response in part.
    Partial,
    /// The device has a response in part, and something waits for its end: an answer of packetboat's, or octets of
    /// the device. If the server sends no more, the end never comes.
    Awaited,
}

/// The things that submission waits for: RFC 5321 §4.5.3.2 has a time for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The device's next command.
    Command,
    /// The device's next command, while the server is there and has nothing of a message: another one serves as well.
    Mail,
    /// The server's reply to a command.
    Reply,
    /// The device's next octets of a message.
    Content,
    /// The server's answer to a whole message.
    Answer,
}

/// The things that a device has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// The number of commands that the device has sent.
    pub commands: u64,
    /// The device has sent something, since the connection began or since TLS did.
    pub has_spoken: bool,
    /// The number of messages of which the device has fetched something after login: RETR, or a response with a
    /// literal.
    pub fetched: u64,
    /// The device has sent LOGOUT or QUIT. The server's answer is still worth waiting for.
    pub has_logged_out: bool,
    /// A login was refused because there is no TLS, and there still is none.
    pub tried_in_clear: bool,
    /// The device has begun a message before any login, where it may log in.
    pub tried_without_login: bool,
}

/// The treatment of octets that a side has left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// Pass them on as they are: their other half never comes.
    Forward,
    /// Read them again once the other side has sent something.
    Wait,
    /// Drop them: nobody can tell what they would have become.
    Discard,
}

/// The octets that the session itself sends, to either side.
#[derive(Default)]
pub struct Outbox {
    /// Octets for the device.
    pub downstream: Vec<u8>,
    /// Octets for the server. They hold credentials at times, and are wiped.
    pub upstream: Zeroizing<Vec<u8>>,
}

/// The ways to log in that a listener offers its devices.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// The connection is encrypted from the start.
    pub encrypted: bool,
    /// STARTTLS or STLS is offered while the connection is not encrypted.
    pub starttls: bool,
    /// Logins are taken without TLS as well.
    pub plaintext_login: bool,
    /// XOAUTH2 is announced and taken, beside PLAIN and LOGIN.
    pub xoauth2: bool,
    /// The answer to EHLO, in SMTP.
    pub submission: Announcement,
    /// A message that the server does not take at once is kept here, in SMTP.
    pub keeps: bool,
    /// The device's address may stand for a login, in SMTP: MAIL logs in where the device has not.
    pub by_source: bool,
}

impl Offer {
    /// An offer of nothing, with the default answer to EHLO.
    pub const NONE: Self = Self {
        encrypted: false,
        starttls: false,
        plaintext_login: false,
        xoauth2: false,
        submission: Announcement::DEFAULT,
        keeps: false,
        by_source: false,
    };

    /// Returns whether a login may be sent now.
    fn login_allowed(&self) -> bool {
        self.encrypted || self.plaintext_login
    }

    /// Returns whether a device may log in by this mechanism. Any other is refused as unknown (RFC 3501 §6.2.2, RFC
    /// 5034 §4).
    fn takes(&self, mechanism: sasl::Mechanism) -> bool {
        self.xoauth2 || mechanism != sasl::Mechanism::Xoauth2
    }

    /// Returns whether STARTTLS or STLS may be sent now.
    fn starttls_now(&self) -> bool {
        self.starttls && !self.encrypted
    }
}

/// Limits on what a device sends before login.
#[derive(Clone, Copy, Debug)]
pub struct CommandLimits {
    /// A command line, in octets without its line end (RFC 2683 §3.2.1.5 asks for 8000).
    pub line: usize,
    /// A line of base64 in a SASL exchange, in octets.
    pub sasl_line: usize,
    /// All literals of one command together, in octets.
    pub literal: usize,
    /// The number of commands without sense at which the connection is closed.
    pub bad_commands: u32,
}

impl Default for CommandLimits {
    fn default() -> Self {
        Self { line: 8192, sasl_line: 16384, literal: 4096, bad_commands: 20 }
    }
}

/// The longest line of a server that is read as a whole. A longer one passes unread after login, and ends a login.
const RESPONSE_LINE: usize = 16 * 1024;
