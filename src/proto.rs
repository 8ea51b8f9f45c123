//! The two mail protocols and the one translation of the login, as pure machines: octets in, steps out.
//!
//! Nothing here knows a socket, a clock, a log or the configuration. The driver in `proxy` carries the steps out.

pub mod imap;
pub mod line;
pub mod pop3;
mod preamble;
mod refusal;
pub mod sasl;

use zeroize::Zeroizing;

pub use crate::failure::{Failure, Kind, Side};
pub use preamble::is_client_hello;
pub use sasl::{Credentials, Method};

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
/// 4. After [`Step::Authenticate`] find the server, dial it, and call
///    [`upstream_connected`](Session::upstream_connected), or [`login_failed`](Session::login_failed) with the reason.
/// 5. After [`Step::StartTls`] flush, refuse any plaintext that is left on that side, shake hands, and call
///    [`tls_started`](Session::tls_started).
/// 6. After [`Step::LoginFailed`] drop the upstream connection with everything read from it. Then call
///    [`login_failed`](Session::login_failed), which tells the device and takes the session back to where it was before
///    the login; or go on as after `Authenticate`, with another connection.
///
/// # The laws
///
/// 1. Cutting the input anywhere gives the same output.
/// 2. Counts never exceed the length of the input.
/// 3. Whatever a peer sends, `recv` returns and never panics.
pub trait Session: Send {
    /// The first words to the device.
    fn greet(&mut self, out: &mut Outbox);

    /// Looks at what came from `side` and says what to do next.
    ///
    /// # Errors
    /// What a peer did that ends the connection; tell the device with [`bye`](Session::bye) and close.
    fn recv(&mut self, side: Side, input: &[u8], out: &mut Outbox) -> Result<Step, Failure>;

    /// The mail server's connection stands (TLS done, where it is implicit): log in there with `login`, try the mailbox
    /// where that is asked for, and from the login on pass on only what `terms` allow.
    fn upstream_connected(&mut self, login: Credentials, tls: UpstreamTls, terms: Terms);

    /// The TLS handshake on `side` is done.
    fn tls_started(&mut self, side: Side, out: &mut Outbox);

    /// The login came to nothing on the way: the device is told with the reply that `failure` calls for.
    fn login_failed(&mut self, failure: &Failure, out: &mut Outbox);

    /// The last words to the device, where its protocol has some and they can be said here.
    fn bye(&mut self, failure: &Failure, out: &mut Outbox);

    /// Whether a login was refused because there is no TLS, and there still is none.
    fn tried_in_clear(&self) -> bool;

    /// Whether a login is under way: the server is looked for, or asked.
    fn is_logging_in(&self) -> bool;

    /// Whether device and server talk to each other (after login).
    fn is_relaying(&self) -> bool;

    /// Whether something waits for the end of what the server says just now: an answer of ours, or what the device has sent. If
    /// the server says no more, it never comes.
    fn waits_for_response(&self) -> bool;

    /// Whether the device has read every response of the server to its end, after login: a close would break off none.
    fn is_between_responses(&self) -> bool;

    /// What becomes of octets of `side` that [`recv`](Session::recv) has left, once that side has closed after login. If
    /// they pass, nothing of ours is said behind them: they are half a line.
    fn leftover(&mut self, side: Side) -> Leftover;

    /// Whether the device has said LOGOUT or QUIT: the server's answer is still worth waiting for.
    fn has_logged_out(&self) -> bool;

    /// Commands that the device has sent.
    fn commands(&self) -> u64;
}

/// What the driver is to do next.
#[derive(Debug)]
pub enum Step {
    /// Find the account and the server, dial it, then tell the session.
    Authenticate(Credentials),
    /// The server has let the device in; both sides are relayed from here on.
    LoggedIn,
    /// The server refused; the device does not know yet. Drop the upstream connection.
    LoginFailed(Failure),
    /// The server has said something that an operator should know. Nothing is to be done for the session.
    Notice(Failure),
    /// Send what is in the outbox, then close.
    Close,
    /// The first octets of the input, this many, were addressed to us. With none, only the session's state has changed.
    Consume(usize),
    /// Pass the first octets of the input, this many, to the other side, from this very buffer.
    Forward(usize),
    /// Not enough yet; or nothing from this side is wanted now.
    Read,
    /// Flush, then shake hands on the side that the input came from. Plaintext left behind it is an attack.
    StartTls,
}

/// What becomes of what a side has left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// It goes on as it is: its other half never comes.
    Forward,
    /// It is looked at again once the other side has spoken.
    Wait,
    /// It is dropped: nobody can tell what it would have been.
    Discard,
}

/// What the session itself says, to either side.
#[derive(Default)]
pub struct Outbox {
    /// To the device.
    pub downstream: Vec<u8>,
    /// To the server. Holds credentials at times, and is wiped.
    pub upstream: Zeroizing<Vec<u8>>,
}

/// How TLS comes about on the upstream side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamTls {
    /// It stands already.
    Implicit,
    /// By STARTTLS or STLS, before anything else.
    StartTls,
}

/// Whether the mailbox is tried before the device is told that it is in. Exchange Online lets logins in whose mailbox it
/// does not open afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The server's word is enough.
    Skip,
    /// One command of our own, whose answer the device does not see.
    Run,
}

/// Whether the device may delete in the mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletes {
    /// What it says after login is not looked at.
    Allowed,
    /// Nothing that it says after login makes the mailbox lose anything: only commands that are known to delete nothing
    /// reach the server. In POP3, DELE is answered with +OK all the same, because devices need it to go on; in IMAP
    /// the others are answered with NO.
    Refused,
}

/// Whether a login that the device says after the login reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relogin {
    /// It passes like any other command: the server knows the device's password anyway.
    Allowed,
    /// It is answered here: the device's password is for us alone. So are the commands behind which a login could not
    /// be seen (STARTTLS, COMPRESS).
    Refused,
}

/// The conditions of one login, and of the session behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whether the mailbox is tried first.
    pub probe: Probe,
    /// Whether the device may delete.
    pub deletes: Deletes,
    /// Whether another login passes.
    pub relogin: Relogin,
}

impl Terms {
    /// Of a login that is passed through: the server's word is enough, and everything passes.
    pub const PASS_THROUGH: Self = Self { probe: Probe::Skip, deletes: Deletes::Allowed, relogin: Relogin::Allowed };
}

/// What the device finds before login.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// The connection is encrypted from the start.
    pub encrypted: bool,
    /// STARTTLS or STLS is offered while it is not.
    pub starttls: bool,
    /// Logins are taken without TLS as well.
    pub plaintext_login: bool,
    /// XOAUTH2 is announced, and taken, beside PLAIN and LOGIN.
    pub xoauth2: bool,
}

impl Offer {
    /// Whether a login may be sent now.
    pub(crate) fn login_allowed(&self) -> bool {
        self.encrypted || self.plaintext_login
    }

    /// Whether a device may log in by it; else it is refused as unknown (RFC 3501 §6.2.2, RFC 5034 §4).
    pub(crate) fn takes(&self, mechanism: sasl::Mechanism) -> bool {
        self.xoauth2 || mechanism != sasl::Mechanism::Xoauth2
    }

    /// Whether STARTTLS or STLS may be sent now.
    pub(crate) fn starttls_now(&self) -> bool {
        self.starttls && !self.encrypted
    }
}

/// The longest things a device may send before login, and how often it may talk nonsense.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A command line, in octets without its line end (RFC 2683 §3.2.1.5 asks for 8000).
    pub line: usize,
    /// A line of base64 in a SASL exchange, in octets.
    pub sasl_line: usize,
    /// All literals of one command together, in octets.
    pub literal: usize,
    /// Commands that make no sense, before the connection is closed.
    pub bad_commands: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line: 8192, sasl_line: 16384, literal: 4096, bad_commands: 20 }
    }
}

/// The longest line that is looked at as a whole after login, and from a server before it; a longer one passes unread
/// after login, and ends the login before.
pub(crate) const RESPONSE_LINE: usize = 16 * 1024;
