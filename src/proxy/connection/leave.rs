//! The end of a connection: either side closes, the device logs out, or something fails.

use std::time::Duration;

use super::Connection;
use super::network::Network;
use super::session_record::Ending;
use super::wait::within;
use crate::failure::{Failure, Kind, Side};
use crate::proto::Awaited;

impl<N: Network> Connection<'_, '_, N> {
    /// One side has closed, and all that it sent is handled.
    pub(super) async fn ended(&mut self, side: Side) -> Result<(), Ending> {
        if side == Side::Upstream && self.goes_on_without_server() {
            return Ok(());
        }
        let session = self.driver.session();
        match side {
            // No server is there whose last octets are waited for.
            Side::Downstream if session.phase().is_relaying() && !self.driver.has_upstream() => {
                Err(if session.activity().has_logged_out { Ending::LoggedOut } else { Ending::DeviceClosed })
            }
            Side::Downstream if session.phase().is_relaying() => {
                self.device_closed().await;
                Ok(())
            }
            Side::Downstream if session.activity().tried_in_clear => Err(in_clear()),
            Side::Downstream => Err(Ending::DeviceClosed),
            Side::Upstream if session.awaited() == Some(Awaited::Answer) => {
                Err(unanswered(&Failure::new(Kind::UpstreamLost, "before it answered")))
            }
            // The device is told, because it waits for a reply, or will once its message is sent.
            Side::Upstream if matches!(session.awaited(), Some(Awaited::Reply | Awaited::Content)) => {
                let is_leaving = self.device_is_gone || session.activity().has_logged_out;
                let lost = || Ending::Failed(Failure::new(Kind::UpstreamLost, "in the middle of a message"));
                Err(if is_leaving { self.server_closed() } else { lost() })
            }
            Side::Upstream if session.phase().is_relaying() => Err(self.server_closed()),
            Side::Upstream => {
                let failure = Failure::new(Kind::UpstreamLost, "in the middle of the login");
                if self.is_worth_another_dial(&failure) {
                    let connected = self.log_in_again(failure).await;
                    return self.after_connecting(connected);
                }
                self.login_failed(&failure);
                Ok(())
            }
        }
    }

    /// The device has closed its half. The server learns of it; behind LOGOUT or QUIT only by its own answer and close,
    /// so that what was to be deleted is. It is never sent QUIT on the device's behalf.
    async fn device_closed(&mut self) {
        self.device_is_gone = true;
        if self.driver.session().awaited() == Some(Awaited::Answer) {
            // The server may take a close for a device that gives up.
            self.driver.stop();
        } else if !self.driver.session().activity().has_logged_out {
            // A server that does not take it in time is closed all the same.
            within(self.service.limits.close_timeout, self.driver.close(Side::Upstream)).await;
        }
    }

    /// Decides whether the connection survives a failure while a message is at the server. A device that is gone does
    /// not change what becomes of the message, and the server's answer is still worth a line.
    pub(super) fn survive_unanswered(&mut self, failure: Failure) -> Result<(), Ending> {
        if failure.kind != Kind::DeviceLost {
            return Err(unanswered(&failure));
        }
        self.device_is_gone = true;
        self.driver.abandon(Side::Downstream);
        self.driver.stop();
        Ok(())
    }

    /// Returns how a connection ends whose server has closed.
    pub(super) fn server_closed(&self) -> Ending {
        if self.driver.session().activity().has_logged_out {
            Ending::LoggedOut
        } else if self.device_is_gone {
            Ending::DeviceClosed
        } else {
            Ending::ServerClosed
        }
    }

    /// Returns how a connection ends whose session is over before the login.
    pub(super) fn logged_out(&self) -> Ending {
        if self.driver.session().activity().tried_in_clear { in_clear() } else { Ending::LoggedOut }
    }

    /// Closes both sides, and writes the line.
    pub(super) async fn leave(mut self, ending: Ending) {
        self.attempt.take().into_iter().for_each(|attempt| attempt.abandoned());
        let is_by_server = match &ending {
            Ending::ServerClosed => true,
            Ending::Failed(failure) => failure.kind.side() == Some(Side::Upstream),
            Ending::LoggedOut | Ending::DeviceClosed => false,
        };
        if let Some(opened) = self.opened.as_ref().filter(|_| is_by_server) {
            opened.mailbox.connection_lost();
        }
        let mistake = self.mistake(&ending);
        if matches!(&ending, Ending::Failed(failure) if failure.kind == Kind::OutcomeUnknown) {
            self.record.may_be_sent(self.driver.session().unanswered_recipients());
        }
        let activity = self.driver.session().activity();
        (self.record.commands, self.record.fetched) = (activity.commands, activity.fetched);
        self.record.passed = self.driver.passed();
        let close = async {
            match &ending {
                Ending::Failed(failure) => self.driver.end_with(failure).await,
                Ending::LoggedOut | Ending::DeviceClosed | Ending::ServerClosed => self.driver.close_both().await,
            }
        };
        // A device that does not take the last line in time does without.
        within(self.service.limits.close_timeout, close).await;
        self.record.close(mistake.as_ref().unwrap_or(&ending));
        // At the end of the process no task remains to wait for the device's close.
        let is_drained = matches!(&ending, Ending::Failed(failure) if failure.kind == Kind::Drained);
        if !is_drained {
            within(LINGER, self.driver.linger()).await;
        }
    }
}

/// The end of a connection whose server has a message and is lost.
pub(super) fn unanswered(cause: &Failure) -> Ending {
    Ending::Failed(Failure::new(
        Kind::OutcomeUnknown,
        format!("{cause}; look for the message in Sent Items before the device sends it again"),
    ))
}

/// The commonest mistake of all, with the advice that mends it.
pub(super) fn in_clear() -> Ending {
    Ending::Failed(Failure::new(Kind::LoginInClear, IN_CLEAR))
}

/// The advice about a device without TLS.
pub(super) const IN_CLEAR: &str = "switch the device to SSL/TLS or STARTTLS; if it has neither, write a [[listener]] \
                                   of its own, on another port, with entry = \"plaintext\", allow_plaintext = true, \
                                   and its address alone in allowed_networks";

/// The longest wait for a device to close in its turn.
const LINGER: Duration = Duration::from_secs(2);
