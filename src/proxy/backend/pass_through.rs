//! Logins that are passed through: after a refusal by the server, the next login of the same source and name is
//! delayed.
//!
//! The server judges the password, so the result comes with the server's answer. The delays are those of translated
//! logins ([`Delays`]): guesses are as slow, and the server sees no more of them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::config::Limits;
use crate::device::{Delays, KnownSources, Origin, PASSED, Permit, normal_form};
use crate::failure::{Failure, Kind};
use crate::source::Source;
use crate::transport::upstream::Server;

/// State of all listeners that pass logins through. It outlives every configuration.
pub(in crate::proxy) struct PassThroughState {
    known: Arc<KnownSources>,
    strangers: Arc<Semaphore>,
    delays: Mutex<Arc<Delays>>,
}

/// A mail server that logins are passed to.
pub(in crate::proxy) struct PassThrough {
    pub(in crate::proxy) server: Arc<Server>,
    known: Arc<KnownSources>,
    /// Permits for logins of strangers at the server.
    strangers: Arc<Semaphore>,
    delays: Arc<Delays>,
}

/// A login at the server. Dropping it without a result counts neither as success nor as failure.
pub(in crate::proxy) struct Attempt {
    who: Origin,
    turn: Permit,
    known: Arc<KnownSources>,
    _stranger: Option<OwnedSemaphorePermit>,
}

impl PassThroughState {
    pub(in crate::proxy) fn new(limits: &Limits, known: &Arc<KnownSources>) -> Self {
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        Self { known: Arc::clone(known), strangers, delays: Mutex::new(Arc::new(delays(limits))) }
    }

    /// A backend for this server. Earlier failures count on if the delays are the same.
    pub(in crate::proxy) fn to(&self, server: &Arc<Server>, limits: &Limits) -> PassThrough {
        let (other, mut present) = (delays(limits), self.delays.lock());
        if !present.is_like(&other) {
            *present = Arc::new(other);
        }
        let (known, strangers) = (Arc::clone(&self.known), Arc::clone(&self.strangers));
        PassThrough { server: Arc::clone(server), known, strangers, delays: Arc::clone(&present) }
    }
}

impl PassThrough {
    /// Waits until this login may be tried.
    ///
    /// # Errors
    /// [`Kind::NotVerified`]: too many logins failed lately, or are at the server.
    pub(in crate::proxy) async fn attempt(&self, login: &[u8], source: IpAddr) -> Result<Attempt, Failure> {
        let (source, name) = (Source::from(source), format!("{PASSED}{}", normal_form(login)));
        let is_familiar = self.known.has(&name, source);
        let who = Origin { source, name, is_familiar };
        let turn = self.delays.admit(&who).await?;
        let _stranger = if is_familiar { None } else { Some(self.stranger().await?) };
        Ok(Attempt { who, turn, known: Arc::clone(&self.known), _stranger })
    }

    /// Waits for a permit. A mail server limits connections without a login, and strangers must not use that limit up.
    async fn stranger(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let waiting = timeout(PATIENCE, Arc::clone(&self.strangers).acquire_owned());
        waiting.await.ok().and_then(Result::ok).ok_or_else(|| {
            let detail = format!("{STRANGERS} logins that were never let in from their source are at the mail server");
            Failure::new(Kind::NotVerified, detail)
        })
    }
}

impl Attempt {
    /// Returns whether this login has succeeded from this source before.
    pub(in crate::proxy) fn is_familiar(&self) -> bool {
        self.who.is_familiar
    }

    /// Notes that the login succeeded.
    pub(in crate::proxy) fn succeeded(self) {
        self.turn.succeeded();
        self.known.add(&self.who.name, self.who.source);
    }

    /// Notes that the login failed.
    pub(in crate::proxy) fn failed(self, failure: &Failure) {
        let is_refusal = matches!(failure.kind, Kind::LoginRefused | Kind::NotAuthorized | Kind::ContactAdmin);
        // A server that is down does not delay a known device. For a stranger every answer to its credentials counts as
        // a refusal.
        if is_refusal || (!self.who.is_familiar && !is_before_credentials(failure.kind)) {
            self.turn.failed();
        }
    }

    /// Notes that the device left before the server's answer. A stranger's attempt counts as failed.
    pub(in crate::proxy) fn abandoned(self) {
        if !self.who.is_familiar {
            self.turn.failed();
        }
    }
}

/// Returns whether the failure came before the server had the credentials.
fn is_before_credentials(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::UpstreamCertificate
            | Kind::UpstreamTls
            | Kind::UpstreamStartTls
            | Kind::UpstreamGreeting
            | Kind::Injection
    )
}

fn delays(limits: &Limits) -> Delays {
    Delays::with(limits.failure_delay, limits.longest_failure_delay, AT_ONCE)
}

/// Logins of one source at the server at a time, while the server has refused none. A server takes its time over each,
/// and many devices may share one address.
const AT_ONCE: usize = 16;
/// Logins of strangers at the server at a time, of all sources.
const STRANGERS: usize = 64;
/// The time to wait for a permit.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::time::Instant;

    /// Returns whether the next login waits after this failure.
    async fn is_delayed(is_familiar: bool, kind: Kind) -> bool {
        let delays = Arc::new(Delays::with(Duration::from_millis(500), Duration::from_secs(15), AT_ONCE));
        let source = Source::from(IpAddr::from([192, 0, 2, 1]));
        let who = Origin { source, name: format!("{PASSED}scanner3"), is_familiar };
        let turn = delays.admit(&who).await.unwrap();
        Attempt { who: who.clone(), turn, known: Arc::default(), _stranger: None }.failed(&Failure::new(kind, ""));
        let begun = Instant::now();
        delays.admit(&who).await.unwrap();
        begun.elapsed() >= Duration::from_millis(500)
    }

    #[tokio::test(start_paused = true)]
    async fn all_but_a_login_counts_for_a_stranger() {
        let no_verdict =
            [Kind::UpstreamLost, Kind::UpstreamTimeout, Kind::UpstreamProtocol, Kind::Unavailable, Kind::Mechanism];
        for kind in no_verdict.into_iter().chain([Kind::InUse, Kind::TokenExpired]) {
            assert!(is_delayed(false, kind).await, "{kind:?}");
            assert!(!is_delayed(true, kind).await, "{kind:?}");
        }
        for kind in [Kind::LoginRefused, Kind::NotAuthorized, Kind::ContactAdmin] {
            assert!(is_delayed(false, kind).await && is_delayed(true, kind).await, "{kind:?}");
        }
        assert!(!is_delayed(false, Kind::UpstreamGreeting).await && !is_delayed(false, Kind::UpstreamTls).await);
    }
}
