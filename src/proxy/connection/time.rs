//! How long each phase of a connection may last, and what it means when it does not end.

use std::time::Instant;

use super::Connection;
use crate::failure::{Failure, Kind};
use crate::proto::{Phase, Responses};
use crate::proxy::service::setting;

impl Connection<'_, '_> {
    /// Until when the present phase may last, and what it means when it does not end. Never [`Kind::DeviceLost`] after the
    /// login: that comes from a stream alone, and may be survived.
    pub(super) fn time_left(&self) -> (Instant, Failure) {
        let limits = &self.service.limits;
        if let Some((since, failure)) = &self.revoked {
            return (*since + limits.close_timeout, failure.clone());
        }
        let session = self.driver.session();
        let last_move = self.driver.last_move();
        let (since, kind, key, limit) = if self.device_is_gone && session.activity().has_logged_out {
            (last_move, Kind::UpstreamTimeout, "close_timeout", limits.close_timeout)
        } else if self.device_is_gone {
            // It has closed its half, and may still read the answer to what it asked.
            (last_move, Kind::UpstreamTimeout, "upstream_login_timeout", limits.upstream_login_timeout)
        } else if let Some(since) =
            self.driver.waits_since().filter(|_| session.phase() == Phase::Relaying(Responses::Awaited))
        {
            // A literal shorter than it was announced: what waits for its end would do so for ever.
            let why = "it has announced more than it sends, and an answer waits for the rest";
            return (since + limits.upstream_login_timeout, Failure::new(Kind::UpstreamProtocol, why));
        } else if session.phase().is_relaying() {
            (last_move, Kind::IdleTimeout, "idle_timeout", limits.idle_timeout)
        } else if session.phase() == Phase::LoggingIn {
            let deadline = self.phase + limits.upstream_login_timeout;
            if let Some(answer) = self.half_closed.map(|since| since + limits.close_timeout).filter(|by| *by < deadline)
            {
                return (answer, self.left_during_login());
            }
            (self.phase, Kind::UpstreamTimeout, "upstream_login_timeout", limits.upstream_login_timeout)
        } else {
            return (self.login_ends(), self.login_timeout());
        };
        (since + limit, Failure::new(kind, setting(key, limit)))
    }

    /// Until when the device may log in. Failed logins give it the time back that they took, and not for ever: whoever sends
    /// wrong passwords would stay as long as it liked.
    pub(super) fn login_ends(&self) -> Instant {
        let limit = self.service.limits.login_timeout;
        self.greeted + limit + self.held.min(limit)
    }

    pub(super) fn login_timeout(&self) -> Failure {
        Failure::new(Kind::LoginTimeout, setting("login_timeout", self.service.limits.login_timeout))
    }
}
