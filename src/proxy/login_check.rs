//! A login at the mail server without a device: what `packetboat check --online` tries.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::backend::mailbox::{Mailbox, Mailboxes};
use super::connection::network::{Network, ServerStream, Tcp};
use super::prepare::servers;
use crate::config::Config;
use crate::diagnostic::Diagnostic;
use crate::failure::{Failure, Kind, Side};
use crate::mode::Mode;
use crate::proto::{self, AccessSettings, Action, Outbox, Step, Terms, UpstreamLogin, UpstreamTls};
use crate::protocol::Protocol;
use crate::token::{AccessToken, Store, Tokens};
use crate::transport::{Facts, Stream};

/// All accounts, ready to be tried.
pub struct LoginChecks {
    mailboxes: Mailboxes,
    tokens: Tokens,
    patience: Duration,
}

impl LoginChecks {
    /// Prepares them.
    ///
    /// # Errors
    /// Each thing that is missing or wrong.
    pub fn new(config: &Config) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let servers = servers(config, None, &mut diagnostics);
        // Where nobody has signed in yet, no store is made: it might be root who tries.
        let mode = if Store::exists(&config.state_directory) { Mode::Apply } else { Mode::DryRun };
        match Tokens::open(config, mode, None) {
            Ok(tokens) if diagnostics.is_empty() => {
                let mailboxes = Mailboxes::new(config, &tokens, &servers, None);
                Ok(Self { mailboxes, tokens, patience: config.limits.upstream_login_timeout })
            }
            Ok(_) => Err(diagnostics),
            Err(found) => {
                diagnostics.extend(found);
                Err(diagnostics)
            }
        }
    }

    /// A token of the account, as devices get it.
    ///
    /// # Errors
    /// There is none.
    pub async fn token(&self, account: &str) -> Result<Arc<AccessToken>, Failure> {
        // A token that is too long for one protocol is reported where that protocol is tried.
        match self.tokens.of(account) {
            Some(source) => source.access().await,
            None => Err(no_account()),
        }
    }

    /// Connects, verifies, logs in, tries the mailbox, and leaves.
    ///
    /// # Errors
    /// What a device would have been told, and why.
    pub async fn login(&self, account: &str, protocol: Protocol) -> Result<Facts, Failure> {
        let mailbox = self.mailboxes.of(account, protocol).ok_or_else(no_account)?;
        let token = mailbox.token().await?;
        let ServerStream { stream, tls, .. } = Tcp.dial(&mailbox.server).await?;
        let conversation = converse(mailbox, &token, stream, tls);
        let ended = timeout(self.patience, conversation).await;
        ended
            .unwrap_or_else(|_| Err(Failure::new(Kind::UpstreamTimeout, "")))
            .map_err(|failure| mailbox.explain(failure))
    }

    /// Waits for refresh tokens to reach the disk.
    pub async fn settle(&self) {
        self.tokens.settle().await;
    }
}

fn no_account() -> Failure {
    Failure::new(Kind::ContactAdmin, "there is no such account")
}

/// The same session that serves devices, without one.
async fn converse(
    mailbox: &Mailbox,
    token: &AccessToken,
    mut stream: Stream,
    tls: UpstreamTls,
) -> Result<Facts, Failure> {
    let protocol = mailbox.server.protocol();
    let terms = Terms::translated(protocol, AccessSettings { probe: true, delete: true });
    let login = UpstreamLogin { credentials: mailbox.credentials(token), tls, terms };
    let mut session = proto::login(protocol, login);
    let mut out = Outbox::default();
    let mut input = Vec::new();
    loop {
        let step = session.recv(Side::Upstream, &input, &mut out)?;
        if !out.upstream.is_empty() {
            stream.write_all(&out.upstream).await.map_err(|error| lost(&error))?;
            stream.flush().await.map_err(|error| lost(&error))?;
            out = Outbox::default();
        }
        let action = match step {
            Step::Consume(count) => {
                input.drain(..count.min(input.len()));
                continue;
            }
            Step::Read => {
                if stream.read_buf(&mut input).await.map_err(|error| lost(&error))? == 0 {
                    return Err(Failure::new(Kind::UpstreamLost, "in the middle of the login"));
                }
                continue;
            }
            Step::Act(count, action) => {
                input.drain(..count.min(input.len()));
                action
            }
            Step::Forward(_) => return Err(Failure::new(Kind::UpstreamProtocol, "")),
        };
        match action {
            Action::StartTls => {
                let Stream::Plain(plain) = stream else { return Err(Failure::new(Kind::UpstreamTls, "")) };
                if !input.is_empty() {
                    return Err(Failure::new(
                        Kind::Injection,
                        "the server's side sent answers in clear behind STARTTLS",
                    ));
                }
                stream = mailbox.server.handshake(plain).await?;
                session.tls_started(Side::Upstream, &mut out);
            }
            Action::LoggedIn => {
                // It has shown what it was to show; how it takes the goodbye changes nothing.
                let _ = stream.write_all(proto::logout(protocol)).await;
                let _ = stream.shutdown().await;
                return stream.facts().ok_or_else(|| Failure::new(Kind::UpstreamTls, "no TLS"));
            }
            Action::LoginFailed(failure) => return Err(failure),
            Action::Authenticate(_) | Action::Close | Action::Notice(_) => {
                return Err(Failure::new(Kind::UpstreamProtocol, ""));
            }
        }
    }
}

fn lost(error: &std::io::Error) -> Failure {
    Failure::new(Kind::UpstreamLost, error.to_string())
}
