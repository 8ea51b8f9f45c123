//! The way to the server: which it is, with whose credentials, and once more where that is worth it.

use std::sync::Arc;
use std::time::Instant;

use super::driver::Event;
use super::{Connection, unless_over};
use crate::failure::{Failure, Kind};
use crate::proto::{AccessSettings, Credentials, Terms, UpstreamLogin};
use crate::proxy::backend::Backend;
use crate::proxy::backend::authorize::Authorized;
use crate::proxy::backend::mailbox::{Admission, Mailbox};
use crate::proxy::registry::Login;
use crate::proxy::service::{Reached, dial, reach};
use crate::transport::upstream::Server;

impl Connection<'_, '_> {
    /// Finds and dials the server, now that the device has said who it is.
    pub(super) async fn log_in(&mut self, credentials: Credentials) -> Result<(), Failure> {
        // A reload may have come since the greeting.
        let service = self.registered.service();
        let source = self.record.source.ip();
        match &service.logins {
            Backend::PassThrough(pass_through) => {
                let server = &pass_through.server;
                let attempt = self.unless_left(pass_through.attempt(&credentials.login, source)).await?;
                self.registered.login_started(Login::PassThrough(Arc::clone(server)))?;
                // A connection that is ready is for a device that is known, and no guesser's.
                let reached = if attempt.is_familiar() {
                    self.unless_left(reach(server)).await?
                } else {
                    self.unless_left(dial(server)).await?
                };
                self.attempt = Some(Box::new(attempt));
                self.connect(reached, server, credentials, Terms::pass_through(server.protocol()));
            }
            Backend::Observe => {
                let detail = "observe = true on this listener; remove that to let devices in";
                return Err(Failure::new(Kind::Observed, detail));
            }
            Backend::Translate(translation) => {
                let verified = Authorized::verified(translation, &credentials, source);
                let (mailbox, verified) = self.unless_left(verified).await?;
                let settings = AccessSettings { probe: mailbox.account.probe, delete: verified.device.delete };
                let terms = Terms::translated(mailbox.server.protocol(), settings);
                // One may have come since then, too.
                self.registered.login_started(Login::Translated(verified, Arc::clone(&mailbox)))?;
                let admission = self.admitted(&mailbox).await?;
                let opened = self.unless_left(Authorized::with(mailbox, admission, terms)).await?;
                self.record.mailbox = Some(Arc::clone(&opened.mailbox));
                self.log_in_to(opened).await?;
            }
        }
        Ok(())
    }

    /// Waits for one of the mailbox's sessions, unless the device has closed its half: it may be gone, and come again.
    async fn admitted(&mut self, mailbox: &Mailbox) -> Result<Admission, Failure> {
        let is_full = || mailbox.is_full("the device has closed its half, and is not waited for");
        tokio::select! {
            biased;
            done = unless_over(&self.registered, mailbox.admit()) => done,
            () = std::future::ready(()), if self.half_closed.is_some() => Err(is_full()),
            left = self.driver.next() => match left {
                Ok(Event::HalfClosed) => {
                    self.half_closed = Some(Instant::now());
                    Err(is_full())
                }
                Ok(_) => Err(self.left_during_login()),
                Err(failure) => Err(Failure::new(Kind::DeviceLost, failure.detail)),
            }
        }
    }

    /// The server has refused, or a ready connection was lost. That is replaced by one of its own, and a token that the server
    /// did not like by another, once; every other refusal stands.
    pub(super) async fn log_in_again(&mut self, failure: Failure) -> Result<(), Failure> {
        if self.is_worth_another_dial(&failure) {
            return self.dial_again().await;
        }
        let Some(mut opened) = self.opened.take() else { return Err(failure) };
        let is_about_token = matches!(failure.kind, Kind::LoginRefused | Kind::TokenExpired);
        let other = if is_about_token && !opened.is_second {
            let other = opened.mailbox.token_instead_of(&opened.token);
            self.unless_left(async { Ok(other.await) }).await?
        } else {
            None
        };
        let Some(other) = other else {
            let explained = opened.mailbox.explain(failure);
            self.opened = Some(opened);
            return Err(explained);
        };
        opened.is_second = true;
        opened.token = other;
        self.log_in_to(opened).await
    }

    async fn log_in_to(&mut self, opened: Authorized) -> Result<(), Failure> {
        let mailbox = Arc::clone(&opened.mailbox);
        let reached = self.unless_left(reach(&mailbox.server)).await?;
        self.connect(reached, &mailbox.server, mailbox.credentials(&opened.token), opened.terms);
        self.opened = Some(opened);
        Ok(())
    }

    /// A connection that was ready may be closed by the server just when it is taken: that is not the device's affair. What
    /// the server answers to the login, be it only that it is busy, is.
    pub(super) fn is_worth_another_dial(&self, failure: &Failure) -> bool {
        self.spare.is_some() && failure.kind == Kind::UpstreamLost
    }

    /// Makes a connection of its own for a login whose ready one was lost.
    async fn dial_again(&mut self) -> Result<(), Failure> {
        let (Some(spare), Some(server)) = (self.spare.take(), self.server.take()) else { return Ok(()) };
        let UpstreamLogin { credentials, terms, .. } = *spare;
        self.driver.drop_upstream();
        let reached = self.unless_left(dial(&server)).await?;
        self.connect(reached, &server, credentials, terms);
        Ok(())
    }

    fn connect(&mut self, reached: Reached, server: &Arc<Server>, credentials: Credentials, terms: Terms) {
        let Reached { stream, tls, was_ready } = reached;
        let login = UpstreamLogin { credentials, tls, terms };
        self.spare = was_ready.then(|| Box::new(login.clone()));
        self.record.upstream_tls = stream.facts();
        self.server = Some(Arc::clone(server));
        self.phase = Instant::now();
        self.driver.connect(stream, login);
    }
}
