//! The times of an account's logins by IMAP: dialled step by step, on a warm connection, and on one that is kept after a
//! session. They say whether it is worth keeping connections after LOGOUT, and whether the mail server is fit for that.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, empty};
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use super::backend::mailbox::Mailbox;
use super::connection::driver::{Driver, Event};
use super::connection::network::{Network, Tcp};
use super::kept_connection::{Answer, KeptConnection};
use super::login_check::{LoginChecks, no_account};
use crate::failure::{Failure, Kind, Side};
use crate::proto::{self, AccessSettings, Terms, UpstreamLogin};
use crate::protocol::{Protocol, Security};
use crate::token::AccessToken;
use crate::transport::Stream;

/// The measures of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginTimes {
    /// A login on a connection that is dialled for it.
    pub dialled: Steps,
    /// The same connection after its session.
    pub parked: Parking,
}

/// The steps of a login. A step that cannot be told apart from the next one has no time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// The host's name is resolved.
    pub resolve: Duration,
    /// The connection is established.
    pub connect: Duration,
    /// The TLS handshake, where it comes first.
    pub tls: Option<Duration>,
    /// From there to the greeting.
    pub greeting: Option<Duration>,
    /// From there to the OK to the login.
    pub login: Duration,
}

impl Steps {
    /// The time of all steps together.
    pub fn total(&self) -> Duration {
        let more = [self.tls, self.greeting].into_iter().flatten().sum::<Duration>();
        self.resolve + self.connect + self.login + more
    }
}

/// The fate of a connection after its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parking {
    /// The server does not announce UNSELECT, and so the session's folder would stay selected.
    NoUnselect,
    /// The connection was lost, or the server answered something other than OK.
    Unfit(String),
    /// The connection is fit for another session.
    Fit {
        /// The time of the NOOP that comes first in place of a login.
        noop: Duration,
        /// The time of a login on a connection that has been greeted before.
        warm: Duration,
        /// Whether mail that came in between shows.
        mail: NewMail,
    },
}

/// Whether a kept connection shows the mail that a new login shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewMail {
    /// Mail came in between, and it shows.
    Shows,
    /// A new login shows mail that the kept connection does not.
    Hidden,
    /// No mail came.
    None,
    /// The server does not give UIDNEXT, by which new mail is found.
    Unknown,
}

impl LoginChecks {
    /// Measures an account's logins by IMAP. It logs in twice, opens the inbox for reading only, and changes nothing.
    /// Between the two logins it waits for `pause`.
    ///
    /// # Errors
    /// The failure that a device's login would have met.
    pub async fn measure(&self, account: &str, pause: Duration) -> Result<LoginTimes, Failure> {
        let mailbox = self.mailbox(account, Protocol::Imap).ok_or_else(no_account)?;
        let token = mailbox.token().await?;
        let logins = Logins { mailbox, token, limit: self.answer_timeout() };
        logins.measure(pause).await.map_err(|failure| mailbox.explain(failure))
    }
}

/// Logins to one mailbox.
struct Logins<'a> {
    mailbox: &'a Mailbox,
    token: Arc<AccessToken>,
    /// The longest wait for an answer of the server.
    limit: Duration,
}

impl Logins<'_> {
    async fn measure(&self, pause: Duration) -> Result<LoginTimes, Failure> {
        let (dialled, mut kept) = self.log_in().await?;
        let parked = match self.park(&mut kept, pause).await? {
            Ok(parked) => parked,
            Err(Unfit::NoUnselect) => Parking::NoUnselect,
            Err(Unfit::Lost(why)) => Parking::Unfit(why),
        };
        kept.log_out().await;
        Ok(LoginTimes { dialled, parked })
    }

    /// Ends the session on a connection, waits, and compares it with a new login.
    async fn park(&self, kept: &mut KeptConnection, pause: Duration) -> Result<Result<Parking, Unfit>, Failure> {
        let before = match self.begin(kept).await {
            Ok(before) => before,
            Err(unfit) => return Ok(Err(unfit)),
        };
        sleep(pause).await;
        let begun = Instant::now();
        if let Err(why) = kept.ask("NOOP", SOON).await.and_then(Answer::into_ok) {
            return Ok(Err(Unfit::Lost(format!("after {}: {why}", humantime::format_duration(pause)))));
        }
        let noop = begun.elapsed();
        let (fresh, mut new) = self.log_in().await?;
        let now = new.next_uid(self.limit).await;
        new.log_out().await;
        // The new login may have taken long, and so the kept connection is asked behind it.
        let shown = kept.next_uid(self.limit).await;
        let (now, shown) = match (now, shown) {
            (Ok(now), Ok(shown)) => (now, shown),
            (_, Err(why)) => return Ok(Err(Unfit::Lost(why.to_string()))),
            (Err(why), _) => return Err(Failure::new(Kind::UpstreamLost, why.to_string())),
        };
        let mail = match (before, now, shown) {
            (Some(_), Some(now), Some(shown)) if shown < now => NewMail::Hidden,
            (Some(before), Some(_), Some(shown)) if shown > before => NewMail::Shows,
            (Some(_), Some(_), Some(_)) => NewMail::None,
            _ => NewMail::Unknown,
        };
        Ok(Ok(Parking::Fit { noop, warm: fresh.login, mail }))
    }

    /// Opens the inbox and leaves it again, as a session that ends. Returns its UIDNEXT.
    async fn begin(&self, kept: &mut KeptConnection) -> Result<Option<u32>, Unfit> {
        let lost = |why: &dyn std::fmt::Display| Unfit::Lost(why.to_string());
        let announced = kept.ask("CAPABILITY", self.limit).await.and_then(Answer::into_ok);
        if !announced.map_err(|why| lost(&why))?.announces("UNSELECT") {
            return Err(Unfit::NoUnselect);
        }
        let before = kept.next_uid(self.limit).await.map_err(|why| lost(&why))?;
        kept.ask("UNSELECT", SOON).await.and_then(Answer::into_ok).map_err(|why| lost(&why))?;
        Ok(before)
    }

    /// Dials the server and logs in.
    async fn log_in(&self) -> Result<(Steps, KeptConnection), Failure> {
        let server = &self.mailbox.server;
        let begun = Instant::now();
        server.resolve().await?;
        let resolved = Instant::now();
        let socket = server.dial().await?;
        let connected = Instant::now();
        let (stream, tls) = match server.security() {
            Security::Implicit => (server.handshake(socket).await?, Some(connected.elapsed())),
            Security::StartTls => (Stream::Plain(socket), None),
        };
        let secured = Instant::now();
        let login = timeout(self.limit, self.log_in_on(stream)).await;
        let (stream, unread, greeted) = login.unwrap_or_else(|_| Err(Failure::new(Kind::UpstreamTimeout, "")))?;
        // STARTTLS comes between greeting and login, and is part of the latter.
        let greeted = greeted.filter(|_| tls.is_some());
        let steps = Steps {
            resolve: resolved - begun,
            connect: connected - resolved,
            tls,
            greeting: greeted.map(|greeted| greeted - secured),
            login: greeted.unwrap_or(secured).elapsed(),
        };
        Ok((steps, KeptConnection::new(stream, unread)))
    }

    /// Logs in on a stream; returns it with unread octets, and the time of the greeting.
    async fn log_in_on(&self, stream: Stream) -> Result<(Stream, Vec<u8>, Option<Instant>), Failure> {
        let server = &self.mailbox.server;
        let settings =
            AccessSettings { probe: false, delete: true, parks: false, submission: self.mailbox.submission() };
        let terms = Terms::translated(Protocol::Imap, settings);
        let credentials = self.mailbox.credentials(&self.token);
        let login = UpstreamLogin { credentials, security: server.security(), terms };
        let mut driver = Driver::new(proto::login(Protocol::Imap), empty());
        driver.connect(Timed { stream, read_first: None }, login);
        loop {
            match driver.next().await? {
                Event::StartTls(Side::Upstream) => {
                    let stream = self.secured(driver.take_upstream()).await?;
                    driver.upstream_secured(stream);
                }
                Event::LoggedIn => break,
                Event::LoginFailed(failure) => return Err(failure),
                Event::Ended(Side::Upstream) => {
                    return Err(Failure::new(Kind::UpstreamLost, "in the middle of the login"));
                }
                // The empty device has closed; nothing depends on it.
                _ => {}
            }
        }
        let Some((timed, unread)) = driver.take_upstream() else {
            return Err(Failure::new(Kind::UpstreamLost, "after the login"));
        };
        Ok((timed.stream, unread.to_vec(), timed.read_first))
    }

    /// Shakes hands behind STARTTLS. Octets that come in clear behind its answer are an attack.
    async fn secured(&self, clear: Option<(Timed, Zeroizing<Vec<u8>>)>) -> Result<Timed, Failure> {
        let Some((Timed { stream, read_first }, unread)) = clear else {
            return Err(Failure::new(Kind::UpstreamTls, "STARTTLS without a server"));
        };
        if !unread.is_empty() {
            return Err(Failure::new(Kind::Injection, "the server's side sent answers in clear behind STARTTLS"));
        }
        Ok(Timed { stream: Tcp.secure_server(&self.mailbox.server, stream).await?, read_first })
    }
}

/// The reason why a connection serves no second session.
enum Unfit {
    NoUnselect,
    Lost(String),
}

/// A stream that notes when the server first said something.
struct Timed {
    stream: Stream,
    read_first: Option<Instant>,
}

impl AsyncRead for Timed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() {
            self.read_first.get_or_insert_with(Instant::now);
        }
        read
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The time for an answer that needs no work of the server.
const SOON: Duration = Duration::from_secs(2);
