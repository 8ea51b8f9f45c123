//! The login check of `packetboat check --online` and of the page: a login at the mail server, without a device.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, duplex, empty};
use tokio::time::timeout;

use super::backend::Servers;
use super::backend::mailbox::{Mailbox, Mailboxes, Surroundings};
use super::connection::alone::log_in;
use super::connection::driver::Driver;
use super::connection::network::{Network, ServerStream, Tcp};
use super::prepare::servers;
use super::probe_message::ProbeMessage;
use crate::config::Config;
use crate::diagnostic::Diagnostic;
use crate::failure::{Failure, Kind};
use crate::fleet::Fleet;
use crate::mode::Mode;
use crate::proto::{self, AccessSettings, Terms, UpstreamLogin};
use crate::protocol::Protocol;
use crate::token::{AccessToken, Store, Tokens, fleet_password};
use crate::transport::{Facts, Stream};

/// The login checks of all accounts.
pub struct LoginChecks {
    config: Config,
    mailboxes: Mailboxes,
    tokens: Arc<Tokens>,
    /// The longest wait for the server, from its greeting to its answer to the login.
    answer_timeout: Duration,
}

impl LoginChecks {
    /// Loads servers and tokens.
    ///
    /// # Errors
    /// One diagnostic for each thing that is missing or wrong.
    pub fn new(config: &Config) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let servers = servers(config, None, &mut diagnostics);
        // Without an earlier sign-in no store is made, because the user who checks may be root.
        let mode = if Store::exists(&config.state_directory) { Mode::Apply } else { Mode::DryRun };
        let password =
            fleet_password(config).map_err(|error| vec![Diagnostic::new("fleet.password_identity", error)])?;
        let fleet = match Fleet::of(config, password) {
            Ok(fleet) => fleet,
            Err(error) => return Err(vec![Diagnostic::new("fleet", error)]),
        };
        match Tokens::open(config, mode, None, fleet.as_ref()) {
            Ok(tokens) if diagnostics.is_empty() => Ok(Self::with(config.clone(), Arc::new(tokens), &servers)),
            Ok(_) => Err(diagnostics),
            Err(found) => {
                diagnostics.extend(found);
                Err(diagnostics)
            }
        }
    }

    /// The checks of a running proxy: its servers and tokens, and mailboxes of their own. A check takes no session from
    /// a device, and a mailbox's history does not show it.
    pub(super) fn with(config: Config, tokens: Arc<Tokens>, servers: &Servers) -> Self {
        let mailboxes = Mailboxes::new(&config, &tokens, servers, None, Surroundings::default());
        let answer_timeout = config.limits.upstream_login_timeout;
        Self { config, mailboxes, tokens, answer_timeout }
    }

    /// The configuration of the accounts.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Gets an access token of the account, in the way in which a device's login gets it.
    ///
    /// # Errors
    /// The token endpoint gives none, or there is no such account.
    pub async fn token(&self, account: &str) -> Result<Arc<AccessToken>, Failure> {
        // A token that is too long for one protocol is reported where that protocol is tried.
        match self.tokens.of(account) {
            Some(source) => source.access().await,
            None => Err(no_account()),
        }
    }

    /// Ends the pause after a failure to get the account's token: whoever tries it has probably mended the cause.
    pub fn end_pause(&self, account: &str) {
        if let Some(source) = self.tokens.of(account) {
            source.end_pause();
        }
    }

    /// Returns whether two accounts are opened with the same token.
    pub fn have_same_token(&self, one: &str, other: &str) -> bool {
        self.tokens.of(one).zip(self.tokens.of(other)).is_some_and(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// Connects to the account's mail server, logs in, probes the mailbox, and logs out. In submission the probe gives
    /// the sender, and takes it back. Calls `connected` once the server is reached, with the facts of TLS unless that
    /// begins later.
    ///
    /// # Errors
    /// The failure that a device's login would have met.
    pub async fn login(
        &self,
        account: &str,
        protocol: Protocol,
        connected: impl FnOnce(Option<Facts>),
    ) -> Result<Facts, Failure> {
        let checked = self.checked(account, protocol, None, connected).await?;
        Ok(checked.facts)
    }

    /// Sends a message to this recipient from the account's mailbox, as a device would. Returns the server's answer.
    ///
    /// # Errors
    /// The failure that a device would have met.
    pub async fn send(&self, account: &str, recipient: &str) -> Result<String, Failure> {
        let checked = self.checked(account, Protocol::SUBMISSION, Some(recipient), |_| {}).await?;
        Ok(checked.answer)
    }

    async fn checked(
        &self,
        account: &str,
        protocol: Protocol,
        recipient: Option<&str>,
        connected: impl FnOnce(Option<Facts>),
    ) -> Result<Checked, Failure> {
        let mailbox = self.mailboxes.of(account, protocol).ok_or_else(no_account)?;
        let token = mailbox.token().await?;
        let server = Tcp.dial(&mailbox.server).await?;
        connected(server.stream.facts());
        // A server may take long over its answer to a whole message.
        let more = recipient.map_or(Duration::ZERO, |_| self.config.limits.submission.answer_timeout);
        let checked = timeout(self.answer_timeout + more, check(mailbox, &token, server, recipient)).await;
        checked
            .unwrap_or_else(|_| Err(Failure::new(Kind::UpstreamTimeout, "")))
            .map_err(|failure| mailbox.explain(failure))
    }

    /// A mailbox by its account and protocol.
    pub(super) fn mailbox(&self, account: &str, protocol: Protocol) -> Option<&Arc<Mailbox>> {
        self.mailboxes.of(account, protocol)
    }

    /// The longest wait for the server, from its greeting to its answer to the login.
    pub(super) fn answer_timeout(&self) -> Duration {
        self.answer_timeout
    }

    /// Waits until refresh tokens are on the disk.
    pub async fn settle(&self) {
        self.tokens.settle().await;
    }
}

/// A login that has succeeded.
struct Checked {
    facts: Facts,
    /// The server's last answer to the pretend device; empty where there is none.
    answer: String,
}

/// The failure to find an account of the configuration.
pub(super) fn no_account() -> Failure {
    Failure::new(Kind::ContactAdmin, "there is no such account")
}

/// Logs in and out with the driver and the session that serve devices. No device is there: its stream has closed
/// already, and discards what is written to it. In submission a pretend device gives its sender.
async fn check(
    mailbox: &Mailbox,
    token: &AccessToken,
    server: ServerStream<Stream>,
    recipient: Option<&str>,
) -> Result<Checked, Failure> {
    let protocol = mailbox.server.protocol();
    let terms = Terms::translated(
        protocol,
        AccessSettings { probe: true, delete: true, parks: false, submission: mailbox.submission() },
    );
    let login = UpstreamLogin { credentials: mailbox.credentials(token), security: server.security, terms };
    let session = proto::login(protocol);
    let (mut stream, answer) = if protocol.submits() {
        let (near, far) = duplex(DEVICE_BUFFER);
        let mut driver = Driver::new(session, far);
        driver.connect(server.stream, login);
        log_in(&Tcp, &mut driver, mailbox).await?;
        let answer = ProbeMessage::new(&mailbox.account.mailbox, recipient).play(&mut driver, near).await?;
        (driver.take_upstream(), answer)
    } else {
        let mut driver = Driver::new(session, empty());
        driver.connect(server.stream, login);
        log_in(&Tcp, &mut driver, mailbox).await?;
        (driver.take_upstream(), String::new())
    };
    let Some((stream, _)) = &mut stream else {
        return Err(Failure::new(Kind::UpstreamLost, "after the login"));
    };
    // The login has succeeded, whatever the server answers to the logout.
    let _ = stream.write_all(proto::logout(protocol)).await;
    let _ = stream.shutdown().await;
    let facts = stream.facts().ok_or_else(|| Failure::new(Kind::UpstreamTls, "no TLS"))?;
    Ok(Checked { facts, answer })
}

/// The octets that a pretend device has room for: every reply to it is shorter.
const DEVICE_BUFFER: usize = 64 * 1024;
