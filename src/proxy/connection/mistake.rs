//! Mistakes that a device makes without a word: it waits for another protocol, does not like the certificate, or looks
//! in vain for a login without TLS.
//!
//! | the device | TLS | it was silent | failure |
//! |---|---|---|---|
//! | sent nothing, and left | from the start | shortly | [`Kind::LeftAfterHandshake`], with both causes |
//! | sent nothing, and left | by STARTTLS or STLS | shortly | the same, with the certificate alone |
//! | sent an alert that refuses the certificate | any | | the same, as a fact |
//! | sent nothing, and left or ran out of time | from the start, or none | for long | [`Kind::NoCommand`] |
//! | sent commands, and left | none | | [`Kind::SpeaksInClear`], where no login is offered without TLS |
//! | began a message without a login, and left | any, or none | | [`Kind::MailWithoutLogin`], unless a login has failed |
//!
//! Health checks are no mistakes: a check by TCP sends nothing in clear and leaves at once; a balancer that speaks for
//! itself is exempt, and so is a device that has logged in within the last hour.

use std::time::Duration;

use super::Connection;
use super::leave::IN_CLEAR;
use super::network::Network;
use super::session_record::Ending;
use crate::failure::{Failure, Kind};
use crate::proto::Phase;

impl<N: Network> Connection<'_, '_, N> {
    /// Returns the mistake behind an ending that says nothing by itself.
    pub(super) fn mistake(&self, ending: &Ending) -> Option<Ending> {
        let departure = Departure::of(ending)?;
        let (session, listener) = (self.driver.session(), &self.service.listener);
        let (phase, activity) = (session.phase(), session.activity());
        let is_ours = !matches!(phase, Phase::NotAuthenticated | Phase::LoggedOut);
        if is_ours || listener.proxy_protocol.contain(self.record.source.ip()) {
            return None;
        }
        let has_tls = self.record.device_tls.is_some();
        let failure = if activity.tried_without_login && !self.record.has_failed_login() {
            let detail = self.service.hints.without_login.advice(self.record.source.ip());
            Some(Failure::new(Kind::MailWithoutLogin, detail))
        } else if !activity.has_spoken && phase == Phase::NotAuthenticated {
            self.silent(departure, has_tls, activity.commands > 0)
        } else {
            let asked = activity.commands > u64::from(activity.has_logged_out);
            let in_vain = !has_tls && !listener.allow_plaintext && !activity.tried_in_clear;
            (asked && in_vain).then(|| Failure::new(Kind::SpeaksInClear, IN_CLEAR))
        };
        failure.map(Ending::Failed)
    }

    /// A device that has sent nothing since the greeting, or since STARTTLS.
    fn silent(&self, departure: Departure, has_tls: bool, is_starttls: bool) -> Option<Failure> {
        let hints = &self.service.hints;
        if departure == Departure::Refused {
            let detail = format!("it does not {}; else {IMPORT}", hints.certificate);
            return Some(Failure::new(Kind::LeftAfterHandshake, detail));
        }
        if self.record.has_logged_in_lately() {
            return None;
        }
        let left_soon = departure == Departure::Left && self.channel_began.elapsed() < SOON;
        match (left_soon, has_tls, is_starttls) {
            (true, true, true) => {
                Some(Failure::new(Kind::LeftAfterHandshake, format!("it may not {}", hints.certificate)))
            }
            (true, true, false) => {
                let both = format!("it may not {}; or {}", hints.certificate, hints.protocol);
                Some(Failure::new(Kind::LeftAfterHandshake, both))
            }
            (false, _, false) => Some(Failure::new(Kind::NoCommand, hints.protocol.as_str())),
            (true, false, _) | (false, _, true) => None,
        }
    }
}

/// The way in which a device has gone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Departure {
    /// It closed, or broke the connection off without a reason.
    Left,
    /// Its TLS alert says that it does not accept the certificate.
    Refused,
    /// Its time was up.
    Late,
}

impl Departure {
    /// Another alert, or an end that is not the device's own, is none: it says more.
    fn of(ending: &Ending) -> Option<Self> {
        match ending {
            Ending::DeviceClosed | Ending::LoggedOut => Some(Self::Left),
            Ending::Failed(failure) if failure.refuses_certificate => Some(Self::Refused),
            Ending::Failed(failure) if failure.kind == Kind::DeviceLost && failure.is_abrupt => Some(Self::Left),
            Ending::Failed(failure) if failure.kind == Kind::LoginTimeout => Some(Self::Late),
            Ending::Failed(_) | Ending::ServerClosed => None,
        }
    }
}

/// The advice for a device that has the right name, and does not know the CA.
const IMPORT: &str = "import the CA into it (packetboat certificate export), or switch off its check";
/// The time within which a device leaves for what the handshake or the greeting has shown it. Old devices take seconds
/// over a certificate; a device that waits for another greeting waits for longer.
pub(super) const SOON: Duration = Duration::from_secs(5);
