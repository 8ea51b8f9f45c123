//! A submission session whose server connection is away: it frees one of the mailbox's connections, and comes back for the next
//! message.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};

use super::Connection;
use super::network::Network;
use super::session_record::Ending;
use super::wait::{unless_over, within};
use crate::failure::Failure;
use crate::proto::{Awaited, Phase, Terms, logout};
use crate::proxy::backend::authorize::Authorized;

impl<N: Network> Connection<'_, '_, N> {
    /// Connects to the server again, because the device's next command needs it.
    pub(super) async fn reconnect(&mut self) -> Result<(), Ending> {
        // A device that does not read may have had no time left for it.
        if self.driver.session().phase() != Phase::LoggingIn {
            return Ok(());
        }
        let connected = match self.recently_unreachable() {
            Some(failure) => Err(failure),
            None => self.connect_again().await,
        };
        self.after_connecting(connected)
    }

    /// Has the device's next message wait, where its mailbox has sent many of late: QUIT and other devices do not have
    /// the wait.
    pub(super) async fn keep_pace(&mut self, pause: Duration) {
        if !pause.is_zero() && self.opened.is_some() {
            self.pause = Some(Instant::now() + pause);
            self.leave_server().await;
        }
    }

    /// Does what a login does behind the device's password, by the present configuration.
    async fn connect_again(&mut self) -> Result<(), Failure> {
        if let Some(until) = self.pause.take() {
            let paused = async {
                sleep_until(until).await;
                Ok(())
            };
            self.unless_left(paused).await?;
        }
        let (mailbox, device) = self.registered.mailbox()?;
        // Get the token first: whoever waits for a token must not hold one of the mailbox's sessions.
        self.unless_left(mailbox.token()).await?;
        let terms = Terms::translated(mailbox.server.protocol(), mailbox.settings(&device));
        let reserved = self.opened.as_mut().and_then(|opened| opened.admission.take());
        let admission = match reserved {
            Some(admission) => admission,
            None => self.admitted(&mailbox).await?,
        };
        let opened = self.unless_left(Authorized::with(mailbox, admission, terms)).await?;
        self.record.mailbox = Some(Arc::clone(&opened.mailbox));
        self.log_in_to(opened).await
    }

    /// Tells the device that no server was reached for its message. It stays logged in.
    pub(super) fn reconnecting_failed(&mut self, failure: &Failure) {
        if let (Some(opened), Some(wait)) = (&self.opened, failure.retry_after) {
            opened.mailbox.leave_alone(wait);
        }
        self.note_unreachable(failure);
        self.driver.login_failed(failure);
        self.retry = None;
        self.free_connection();
        self.record.not_reached(failure);
    }

    /// Goes on without the server that is lost, where the session can.
    pub(super) fn goes_on_without_server(&mut self) -> bool {
        let session = self.driver.session();
        let goes_on = !self.device_is_gone && session.awaited().is_some() && self.driver.upstream_lost();
        if goes_on {
            self.server_left();
        }
        goes_on
    }

    /// The server's connection is gone, and the session goes on. The mailbox's connection is free for another device, unless
    /// another connection takes the place of the lost one at once.
    pub(super) fn server_left(&mut self) {
        let session = self.driver.session();
        if session.phase() != Phase::LoggingIn && session.awaited() != Some(Awaited::Reply) {
            self.free_connection();
        }
    }

    /// Leaves the server, because the device is silent between two messages.
    pub(super) async fn leave_server(&mut self) {
        let Some(mut stream) = self.driver.release_upstream() else { return };
        let quit = logout(self.service.listener.protocol);
        let leave = async {
            // The server may be gone; nothing depends on it any more.
            let _ = stream.write_all(quit).await;
            let _ = stream.flush().await;
            // It counts the connection until it has closed it.
            let mut answer = [0; 256];
            while stream.read(&mut answer).await.is_ok_and(|count| count > 0) {}
            let _ = stream.shutdown().await;
            Ok(())
        };
        // A connection that has to end is handled by the next event.
        within(LEAVING, async { drop(unless_over(&self.registered, leave).await) }).await;
        self.free_connection();
    }

    pub(super) fn free_connection(&mut self) {
        if let Some(opened) = &mut self.opened {
            opened.admission = None;
        }
    }
}

/// The longest wait for a server's answer to QUIT. The device is not heard meanwhile.
const LEAVING: Duration = Duration::from_secs(2);
