//! The login: chooses server and credentials, connects, and tries once more where that can help.

use std::pin::pin;
use std::sync::Arc;

use tokio::time::Instant;

use super::Connection;
use super::driver::Event;
use super::network::{Network, ServerStream};
use super::wait::{unless_over, until};
use crate::failure::{Failure, Kind};
use crate::inventory::LoginWay;
use crate::proto::{Credentials, Terms, UpstreamLogin};
use crate::protocol::Security;
use crate::proxy::backend::Backend;
use crate::proxy::backend::authorize::Authorized;
use crate::proxy::backend::mailbox::{Admission, Mailbox};
use crate::proxy::revocation::Login;
use crate::transport::upstream::Server;

impl<N: Network> Connection<'_, '_, N> {
    /// Finds the server, connects, and logs in there, now that the device has sent its credentials.
    pub(super) async fn log_in(&mut self, credentials: Credentials) -> Result<(), Failure> {
        // A reload may have come since the greeting.
        let logins = self.registered.logins();
        let source = self.record.source.ip();
        match logins.as_ref() {
            Backend::PassThrough(pass_through) => {
                let server = &pass_through.server;
                let attempt = self.unless_left(pass_through.attempt(&credentials.login, source)).await?;
                self.registered.login_started(Login::PassThrough(Arc::clone(server)))?;
                // A warm connection is for a known device, and not for a guesser.
                let stream = if attempt.is_familiar() {
                    self.warm_or_dialled(server).await?
                } else {
                    self.dialled(server).await?
                };
                self.attempt = Some(Box::new(attempt));
                self.connect(stream, server, credentials, Terms::pass_through(server.protocol()));
            }
            Backend::Observe => {
                let name = &self.service.listener.name;
                let detail =
                    format!("listener {name} only observes; remove observe = true from it, and run packetboat reload");
                return Err(Failure::new(Kind::Observed, detail));
            }
            Backend::Translate(translation) => {
                let verified = Authorized::verified(translation, &credentials, source);
                let (mailbox, verified) = self.unless_left(verified).await?;
                self.record.verified(&verified.device);
                let device = Arc::clone(&verified.device);
                let terms = || Terms::translated(mailbox.server.protocol(), mailbox.settings(&device));
                // A reload may come at any time from here on.
                self.registered.login_started(Login::Translated(verified, Arc::clone(&mailbox)))?;
                if self.take_parked(&mailbox, &terms()).await? {
                    return Ok(());
                }
                // A parked connection that was lost makes the login probe the mailbox.
                let terms = terms();
                // Get the token first: a login that waits for a token must not hold one of the mailbox's sessions.
                self.unless_left(mailbox.token()).await?;
                let admission = self.admitted(&mailbox).await?;
                let opened = self.unless_left(Authorized::with(mailbox, admission, terms)).await?;
                self.record.mailbox = Some(Arc::clone(&opened.mailbox));
                self.log_in_to(opened).await?;
            }
        }
        Ok(())
    }

    /// Waits for one of the mailbox's sessions, unless the device has closed its half. Such a device may be gone, and
    /// may come again.
    pub(super) async fn admitted(&mut self, mailbox: &Mailbox) -> Result<Admission, Failure> {
        // Count first: a connection that is about to be parked sees it, or is seen.
        let _waiting = mailbox.waiting();
        if mailbox.has_no_session() {
            self.service.parking.give_way(mailbox);
        }
        let is_full = || mailbox.is_full("the device has closed its half, and is not waited for");
        let admitted = tokio::select! {
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
        };
        if admitted.is_err() && mailbox.is_left_alone() {
            // Another instance of the fleet has learnt it.
            self.service.parking.refused(mailbox);
        }
        admitted
    }

    /// Tries a failed login once more, where that can help: on a dialled connection in place of a warm one that was
    /// lost, or with another token in place of one that the server refused. Every other refusal stands.
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

    pub(super) async fn log_in_to(&mut self, opened: Authorized) -> Result<(), Failure> {
        let mailbox = Arc::clone(&opened.mailbox);
        let stream = self.warm_or_dialled(&mailbox.server).await?;
        self.connect(stream, &mailbox.server, mailbox.credentials(&opened.token), opened.terms.clone());
        self.opened = Some(opened);
        Ok(())
    }

    /// Returns whether a dialled connection may succeed where this failure ended the login. The server may close a warm
    /// connection just when it is taken, which the device need not learn. An answer to the login stands, even "busy".
    pub(super) fn is_worth_another_dial(&self, failure: &Failure) -> bool {
        self.retry.is_some() && failure.kind == Kind::UpstreamLost
    }

    /// Dials for a login whose warm connection was lost.
    async fn dial_again(&mut self) -> Result<(), Failure> {
        let (Some(retry), Some(server)) = (self.retry.take(), self.server.take()) else { return Ok(()) };
        let UpstreamLogin { credentials, terms, .. } = *retry;
        self.driver.drop_upstream();
        let stream = self.dialled(&server).await?;
        self.connect(stream, &server, credentials, terms);
        Ok(())
    }

    /// Takes a warm connection to the server, or dials.
    async fn warm_or_dialled(&mut self, server: &Server) -> Result<ServerStream<N::Stream>, Failure> {
        match self.network.take_warm(server) {
            Some(stream) => Ok(ServerStream { stream, security: Security::Implicit, was_warm: true }),
            None => self.dialled(server).await,
        }
    }

    /// Dials the server.
    pub(super) async fn dialled(&mut self, server: &Server) -> Result<ServerStream<N::Stream>, Failure> {
        let network = self.network;
        let dial = network.dial(server);
        self.unless_left(dial).await
    }

    /// Logs in on a connection to the server.
    pub(super) fn connect(
        &mut self,
        to: ServerStream<N::Stream>,
        server: &Arc<Server>,
        credentials: Credentials,
        terms: Terms,
    ) {
        let ServerStream { stream, security, was_warm } = to;
        let login = UpstreamLogin { credentials, security, terms };
        self.record.way = Some(if was_warm { LoginWay::Warm } else { LoginWay::Dialled });
        self.retry = was_warm.then(|| Box::new(login.clone()));
        self.record.upstream_tls = N::facts(&stream);
        self.server = Some(Arc::clone(server));
        self.connected = Instant::now();
        self.driver.connect(stream, login);
    }

    /// Does a part of the login, unless the device leaves meanwhile. A device that has closed its half may still read
    /// the answer; it has the close timeout.
    pub(super) async fn unless_left<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut work = pin!(unless_over(&self.registered, work));
        loop {
            let answer = self.half_closed.map(|since| since + self.service.limits.close_timeout);
            tokio::select! {
                done = &mut work => return done,
                left = self.driver.next() => match left {
                    Ok(Event::HalfClosed) => self.half_closed = Some(Instant::now()),
                    Ok(_) => return Err(self.left_during_login()),
                    Err(failure) => return Err(Failure::new(Kind::DeviceLost, failure.detail)),
                },
                () = async { if let Some(answer) = answer { until(answer).await } }, if answer.is_some() => {
                    return Err(self.left_during_login());
                }
            }
        }
    }
}
