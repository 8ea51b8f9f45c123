//! One access token: fetched once for all who wait, renewed when half of its life is over, and its troubles remembered.

mod credentials;
mod sign_in;
mod status;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, error, info, warn};

use super::access::{AccessToken, jitter};
use super::error::Error;
use super::json::TokenResponse;
use super::refusal::{self, Endpoint};
use super::store::{Owner, Store};
use crate::config::{Account, Grant, Identity};
use crate::failure::{Failure, Kind};
use crate::lifecycle::{Lifecycle, Phase};
use crate::protocol::Protocol;
use crate::state::Stamp;
use crate::transport::http::{Client, Response};
use sign_in::Pending;
pub(super) use sign_in::SignInState;
pub use status::TokenStatus;

/// The token of an application, or of one person with that application: cached, and fetched when it is needed.
pub struct CachedToken {
    pub(super) spec: TokenSpec,
    state: Mutex<State>,
    kept: Arc<SignInState>,
    woken: Notify,
}

/// The person or the application that a token is for, and the way to it.
pub(super) struct TokenSpec {
    pub(super) owner: Owner,
    pub(super) identity: Identity,
    /// One of the accounts that are opened with the token: the person signs in for it.
    pub(super) account: Account,
    pub(super) account_name: String,
    pub(super) client: Client,
    /// The store of refresh tokens; none where the grant needs no sign-in.
    pub(super) store: Option<Arc<Store>>,
}

struct State {
    token: Option<Arc<AccessToken>>,
    trouble: Option<Trouble>,
    /// The last time that a device needed the token.
    used: Instant,
    /// The last time that a server's refusal made the token doubtful.
    doubted: Option<Instant>,
    /// The time when the refresh token came.
    renewed: Option<Instant>,
    /// The log has said that the token is nearly too long.
    warned: bool,
}

/// The last failure to fetch a token, and the end of the pause after it.
#[derive(Clone)]
struct Trouble {
    failure: Failure,
    /// The failure without what differs from one attempt to the next.
    topic: String,
    until: Instant,
    times: u32,
    /// The stamps of the files that were read: a change of theirs ends the pause.
    stamps: Vec<Option<Stamp>>,
}

impl CachedToken {
    /// Returns the state that a later token of the same sign-in continues.
    pub(super) fn sign_in_state(&self) -> Arc<SignInState> {
        Arc::clone(&self.kept)
    }

    pub(super) fn new(spec: TokenSpec, kept: Arc<SignInState>) -> Self {
        let state =
            State { token: None, trouble: None, used: Instant::now(), doubted: None, renewed: None, warned: false };
        let (state, woken) = (Mutex::new(state), Notify::new());
        Self { spec, state, kept, woken }
    }

    /// Returns a token with life in it: mostly the cached one, else one that is fetched once for all who wait.
    ///
    /// # Errors
    /// [`Kind::TokenUnavailable`] passes by itself, [`Kind::TokenRefused`] does not.
    pub async fn access(self: &Arc<Self>) -> Result<Arc<AccessToken>, Failure> {
        if let Some(token) = self.present(true) {
            return Ok(token);
        }
        match self.fetch(false).await {
            // A short session is better than none.
            Err(failure) => self.last_of_life().ok_or(failure),
            fetched => fetched,
        }
    }

    /// Returns another token in place of this one, which a mail server has refused. None if this one is young, if
    /// another one was tried lately, or if none can be had. The cached token stays for others: the mailbox may be to
    /// blame.
    pub async fn instead_of(self: &Arc<Self>, token: &Arc<AccessToken>) -> Option<Arc<AccessToken>> {
        let now = Instant::now();
        {
            let mut state = self.state();
            if let Some(current) = state.token.as_ref().filter(|current| !Arc::ptr_eq(current, token)) {
                return Some(Arc::clone(current));
            }
            let is_young = now.duration_since(token.obtained) < YOUNG;
            let was_doubted = state.doubted.is_some_and(|doubted| now.duration_since(doubted) < DOUBTED);
            if is_young || was_doubted {
                return None;
            }
            state.doubted = Some(now);
        }
        self.fetch(true).await.ok()
    }

    /// Keeps the token fresh, and the sign-in behind it alive, until the drain.
    pub(super) async fn keep_fresh(self: Arc<Self>, mut lifecycle: Lifecycle) {
        loop {
            let due = self.due();
            // A new sign-in is noticed soon.
            let look = if self.state().trouble.is_some() { due.min(Instant::now() + LOOK) } else { due };
            let again = self.pending().unkept.as_ref().map(|(_, again)| *again);
            let look = again.map_or(look, |again| look.min(again));
            tokio::select! {
                () = sleep_until(look) => {}
                () = self.woken.notified() => {}
                () = lifecycle.reached(Phase::Draining) => return,
            }
            if again.is_some_and(|again| again <= Instant::now()) {
                let _flight = self.kept.flight.lock().await;
                self.keep_unsaved().await;
            }
            if self.due() <= Instant::now() || self.has_changed().await {
                // The log has the result.
                let _ = self.fetch(true).await;
            }
        }
    }

    /// Ends the pause after a failure: whoever reloads has probably mended the cause. A password that was refused is not
    /// sent again before its file changes, because the provider may lock the account.
    pub fn end_pause(&self) {
        if matches!(self.spec.identity.grant, Grant::Password(_)) {
            return;
        }
        if let Some(trouble) = &mut self.state().trouble {
            trouble.until = Instant::now();
        }
    }

    /// Waits for a fetch under way: a refresh token that has come must reach the disk.
    pub(super) async fn settle(self: Arc<Self>) {
        // Without a sign-in no refresh token has to reach the disk.
        let patience = if self.spec.store.is_some() { SETTLE } else { MOMENT };
        let settled = timeout(patience, async {
            let _flight = self.kept.flight.lock().await;
            self.keep_unsaved().await;
        });
        // The disk, or an endpoint, does not answer: the process ends all the same.
        let is_settled = settled.await.is_ok();
        let pending = self.pending();
        if pending.unsaved.is_some() || (self.spec.store.is_some() && !is_settled) {
            let why = pending.unkept.as_ref().map_or("the disk or the token endpoint does not answer", |(why, _)| why);
            error!(
                identity = self.spec.owner.identity,
                user = self.spec.owner.user,
                "the newest refresh token is lost: {why}"
            );
        }
    }

    /// Returns the person who signs in, and the account that `packetboat login` is called with.
    pub fn sign_in(&self) -> (&str, &str) {
        (&self.spec.account.user, &self.spec.account_name)
    }

    /// Returns the account that `packetboat login` is called with; none where the grant knows no sign-in.
    pub(super) fn login_name(&self) -> Option<&str> {
        self.spec.identity.grant.needs_login().then_some(self.spec.account_name.as_str())
    }

    /// Returns the endpoint that a client asks about this account.
    pub(super) fn endpoint<'a>(&'a self, client: &'a Client) -> Endpoint<'a> {
        Endpoint { host: client.host(), login: self.login_name() }
    }

    fn present(&self, by_device: bool) -> Option<Arc<AccessToken>> {
        let mut state = self.state();
        if by_device {
            let now = Instant::now();
            if now.duration_since(state.used) > IDLE {
                self.woken.notify_one();
            }
            state.used = now;
        }
        state.token.as_ref().filter(|token| token.left() > token.spare).map(Arc::clone)
    }

    fn last_of_life(&self) -> Option<Arc<AccessToken>> {
        self.state().token.as_ref().filter(|token| token.left() > LAST).map(Arc::clone)
    }

    /// Fetches a token in a task of its own: a device that leaves must not end the request.
    async fn fetch(self: &Arc<Self>, anew: bool) -> Result<Arc<AccessToken>, Failure> {
        let token = Arc::clone(self);
        let request = Instant::now();
        let flight = tokio::spawn(async move {
            let _flight = token.kept.flight.lock().await;
            // A caller that has waited takes the token that came meanwhile, however short its life: another request
            // would bring no better one.
            if let Some(token) = token.fetched_since(request).or_else(|| token.present(false).filter(|_| !anew)) {
                return Ok(token);
            }
            if let Some(failure) = token.still_in_trouble().await {
                return Err(failure);
            }
            token.ask().await
        });
        let unavailable = |why: &str| Err(Failure::new(Kind::TokenUnavailable, why));
        match timeout(LONGEST_WAIT, flight).await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(ended)) if ended.is_panic() => unavailable("an internal error, which the log names"),
            Ok(Err(_)) => unavailable("packetboat is going down"),
            Err(_) => unavailable(
                "no access token in time: the token endpoint, a file or the state directory does not answer",
            ),
        }
    }

    fn fetched_since(&self, request: Instant) -> Option<Arc<AccessToken>> {
        self.state().token.as_ref().filter(|token| token.obtained > request).map(Arc::clone)
    }

    async fn still_in_trouble(&self) -> Option<Failure> {
        if self.has_changed().await {
            return None;
        }
        let state = self.state();
        state.trouble.as_ref().filter(|trouble| trouble.until > Instant::now()).map(|trouble| trouble.failure.clone())
    }

    /// Returns whether somebody has signed in, or changed a file, since the last failure.
    async fn has_changed(&self) -> bool {
        let in_trouble = self.state().trouble.as_ref().map(|trouble| trouble.stamps.clone());
        let Some(stamps) = in_trouble else { return false };
        self.stamps().await.is_some_and(|present| stamps != present)
    }

    /// Advice for a token that is almost too long for a protocol, or is.
    fn advice_for_long_token(&self, length: usize) -> Option<String> {
        Protocol::ALL.into_iter().find_map(|protocol| {
            let limit = self.spec.identity.longest_token(protocol).filter(|limit| length + MARGIN > *limit)?;
            let name = protocol.name();
            Some(format!("over {name} Exchange Online takes {limit}; remove group claims from the app registration"))
        })
    }

    async fn ask(&self) -> Result<Arc<AccessToken>, Failure> {
        let stamps = self.stamps().await.unwrap_or_default();
        match self.ask_endpoint().await {
            Ok((token_response, response)) => {
                let token = Arc::new(AccessToken::new(token_response));
                let length = token.secret().expose().len();
                let mut state = self.state();
                let had_trouble = state.trouble.take().is_some();
                state.token = Some(Arc::clone(&token));
                let advice = self.advice_for_long_token(length).filter(|_| !state.warned);
                state.warned |= advice.is_some();
                drop(state);
                if let Some(advice) = advice {
                    warn!(identity = self.spec.owner.identity, "the access token has {length} characters: {advice}");
                }
                let life = humantime::format_duration(Duration::from_secs(token.left().as_secs() + 1));
                if had_trouble {
                    info!(
                        identity = self.spec.owner.identity,
                        user = self.spec.owner.user,
                        "access token again, for {life}"
                    );
                } else {
                    debug!(
                        identity = self.spec.owner.identity,
                        user = self.spec.owner.user,
                        "new access token, for {life}"
                    );
                }
                if let Some(skew) = refusal::skew(&response, SystemTime::now()) {
                    warn!(identity = self.spec.owner.identity, "{skew}");
                }
                Ok(token)
            }
            Err(error) => Err(self.trouble(error, stamps)),
        }
    }

    async fn ask_endpoint(&self) -> Result<(TokenResponse, Response), Error> {
        let _exclusive = self.exclusive().await?;
        self.keep_unsaved().await;
        let record = self.record().await?;
        let request = self.request(record.as_ref().map(|(_, newest)| newest.refresh_token.clone())).await?;
        let response = self.spec.client.ask(request).await.map_err(Error::Unreachable)?;
        let judged = refusal::judge(self.endpoint(&self.spec.client), &response, SystemTime::now());
        let mut token_response = judged.map_err(Error::Refused)?;
        if let Some((kept, newest)) = record {
            self.keep(kept, newest, token_response.refresh_token.take()).await;
        }
        Ok((token_response, response))
    }

    fn trouble(&self, error: Error, stamps: Vec<Option<Stamp>>) -> Failure {
        let (retry_after, topic) = (error.retry_after(), error.topic());
        let failure = Failure::from(error);
        let mut state = self.state();
        let last = state.trouble.take();
        let times = last.as_ref().filter(|last| last.failure.kind == failure.kind).map_or(0, |last| last.times + 1);
        let (first, longest) = if failure.kind == Kind::TokenRefused { REFUSED } else { UNAVAILABLE };
        let pause = first.saturating_mul(1 << times.min(16)).min(longest).mul_f64(jitter(0.8, 1.2));
        let mut pause = pause.max(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER));
        if failure.kind == Kind::TokenRefused && matches!(self.spec.identity.grant, Grant::Password(_)) {
            // A wrong password that is sent again and again locks the account; a new file is noticed.
            pause = IDLE;
        }
        let is_news = last.is_none_or(|last| last.failure.kind != failure.kind || last.topic != topic);
        state.trouble = Some(Trouble { failure: failure.clone(), topic, until: Instant::now() + pause, times, stamps });
        let left = state.token.as_ref().map(|token| token.left().as_secs()).filter(|left| *left > 0);
        drop(state);
        let still = left.map_or_else(String::new, |left| {
            format!("; the present token lasts for another {}", humantime::format_duration(Duration::from_secs(left)))
        });
        if is_news {
            warn!(
                identity = self.spec.owner.identity,
                user = self.spec.owner.user,
                reason = failure.kind.label(),
                "{failure}{still}"
            );
        } else {
            debug!(identity = self.spec.owner.identity, user = self.spec.owner.user, "{failure}{still}");
        }
        failure
    }

    /// Returns the time when the next token is to be fetched.
    fn due(&self) -> Instant {
        let now = Instant::now();
        let state = self.state();
        let is_idle = now.duration_since(state.used) > IDLE;
        let by_trouble = state.trouble.as_ref().map(|trouble| trouble.until);
        if !is_idle {
            return by_trouble.unwrap_or_else(|| state.token.as_ref().map_or(now, |token| token.stale));
        }
        if self.spec.store.is_none() {
            // An application needs nothing until a device comes back, but that its trouble has an end.
            return by_trouble.unwrap_or(now + IDLE);
        }
        let weekly = state.renewed.unwrap_or(now) + RENEWAL;
        by_trouble.map_or(weekly, |until| until.max(weekly))
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.kept.pending.lock()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// The time without a device after which nothing is fetched ahead.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);
/// Time after which a refresh token is renewed: it ends when it is not used for 90 days.
const RENEWAL: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Distance in characters from a limit of the mail server, from which on the log warns.
const MARGIN: usize = 296;
/// A refused token that is younger than this is not to blame.
const YOUNG: Duration = Duration::from_secs(60);
const DOUBTED: Duration = Duration::from_secs(5 * 60);
/// Least life of a token for a device that fetches its mail and leaves.
const LAST: Duration = Duration::from_secs(10);
/// Time between two looks for a new sign-in while one is missing.
const LOOK: Duration = Duration::from_secs(10);
/// First pause and longest one, after what passes and after what does not: even that may be mended elsewhere.
const UNAVAILABLE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5 * 60));
const REFUSED: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15 * 60));
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);
/// Longest wait for a fetch at the end: a request, and a little for the disk.
const SETTLE: Duration = Duration::from_secs(32);
/// Longest wait at the end for a token that need not be stored.
const MOMENT: Duration = Duration::from_secs(1);
/// Longest wait of a device for a token, whatever hangs behind it.
const LONGEST_WAIT: Duration = SETTLE;
