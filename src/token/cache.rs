//! One access token: fetched once for all who wait, renewed when half of its life is over, and its troubles remembered.

mod credentials;
mod sign_in;
mod status;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, error, info, warn};

use super::access::AccessToken;
use super::error::Error;
use super::keeping::{Keeper, Look, Mark};
use super::refusal::Endpoint;
use super::store::Owner;
use crate::config::{Account, Identity};
use crate::crypto::jitter;
use crate::failure::{Failure, Kind};
use crate::lifecycle::{Lifecycle, Phase};
use crate::protocol::Protocol;
use crate::state::Stamp;
use crate::transport::http::Client;
pub(super) use sign_in::SignInState;
pub use status::TokenStatus;
use trouble::Trouble;

/// The token of an application, or of one person with that application: cached, and fetched when it is needed.
pub struct CachedToken {
    pub(super) spec: TokenSpec,
    state: Mutex<State>,
    kept: Arc<SignInState>,
    woken: Notify,
    /// Told whenever a token arrives: a device waits neither for the store nor for the disk behind that.
    arrived: Notify,
}

/// The person or the application that a token is for, and the way to it.
pub(super) struct TokenSpec {
    pub(super) owner: Owner,
    pub(super) identity: Identity,
    /// One of the accounts that are opened with the token: the person signs in for it.
    pub(super) account: Account,
    pub(super) account_name: String,
    pub(super) client: Client,
}

struct State {
    token: Option<Arc<AccessToken>>,
    trouble: Option<Trouble>,
    /// The last time that a device needed the token.
    used: Instant,
    /// The last time that a server's refusal made the token doubtful.
    doubted: Option<Instant>,
    /// The time before which a store that is away is not asked for another token, because this one serves.
    later: Option<Instant>,
    /// The log has said that the token is nearly too long.
    warned: bool,
}

/// The state of what a request is made from.
#[derive(Clone, Default, PartialEq, Eq)]
struct Stamps {
    /// The mark of the sign-in; none where the store has not answered.
    sign_in: Option<Mark>,
    files: Vec<Option<Stamp>>,
}

impl CachedToken {
    /// Returns the state that a later token of the same sign-in continues.
    pub(super) fn sign_in_state(&self) -> Arc<SignInState> {
        Arc::clone(&self.kept)
    }

    pub(super) fn new(spec: TokenSpec, kept: Arc<SignInState>, token: Option<AccessToken>) -> Self {
        let token = token.map(Arc::new);
        let state = State { token, trouble: None, used: Instant::now(), doubted: None, later: None, warned: false };
        let (state, woken, arrived) = (Mutex::new(state), Notify::new(), Notify::new());
        Self { spec, state, kept, woken, arrived }
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
            let was_doubted = state.doubted.is_some_and(|doubted| now.duration_since(doubted) < DOUBTED);
            if token.is_young() || was_doubted {
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
            let again = self.keeper().and_then(Keeper::again);
            let look = again.map_or(look, |again| look.min(again));
            tokio::select! {
                () = sleep_until(look) => {}
                () = self.woken.notified() => {}
                // What the store has lost goes there again, before another instance spends an earlier refresh token.
                () = self.store_returned() => self.look().await,
                () = lifecycle.reached(Phase::Draining) => return,
            }
            if again.is_some_and(|again| again <= Instant::now()) {
                let _flight = self.kept.flight.lock().await;
                self.keep_unsaved().await;
            }
            if self.due() <= Instant::now() && self.is_idle() {
                // Another instance of the fleet may have kept the sign-in alive.
                self.look().await;
            }
            self.forget_signed_out().await;
            let has_changed = self.has_changed().await;
            if has_changed {
                // A fleet's database says so once a second at most, and the fetch would not hear it again.
                self.end_pause();
            }
            if has_changed || self.due() <= Instant::now() {
                // The log has the result.
                let _ = self.fetch(true).await;
            }
        }
    }

    /// Waits for a fetch under way: a refresh token that has come must reach the disk.
    pub(super) async fn settle(self: Arc<Self>) {
        // Without a sign-in no refresh token has to reach the disk.
        let patience = if self.keeper().is_some() { SETTLE } else { MOMENT };
        if let Some(keeper) = self.keeper() {
            keeper.end();
        }
        let settled = timeout(patience, async {
            let _flight = self.kept.flight.lock().await;
            self.keep_unsaved().await;
        });
        // The disk, or an endpoint, does not answer: the process ends all the same.
        let is_settled = settled.await.is_ok();
        let Some(keeper) = self.keeper() else { return };
        if keeper.is_unsaved() || !is_settled {
            let why = keeper.unkept();
            let why = why.as_deref().unwrap_or("the disk or the token endpoint does not answer");
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
        let flight = async {
            tokio::pin!(flight);
            loop {
                let arrived = self.arrived.notified();
                let fetched = self.fetched_since(request).filter(|token| token.left() > token.spare);
                if let Some(token) = fetched {
                    return Ok(Ok(token));
                }
                tokio::select! {
                    ended = &mut flight => return ended,
                    () = arrived => {}
                }
            }
        };
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

    /// Advice for a token that is almost too long for a protocol, or is.
    fn advice_for_long_token(&self, length: usize) -> Option<String> {
        Protocol::ALL.into_iter().find_map(|protocol| {
            let limit = self.spec.identity.longest_token(protocol).filter(|limit| length + MARGIN > *limit)?;
            let name = protocol.name();
            Some(format!("over {name} Exchange Online takes {limit}; remove group claims from the app registration"))
        })
    }

    async fn ask(&self) -> Result<Arc<AccessToken>, Failure> {
        let stamps = self.stamps(Look::Known).await.unwrap_or_default();
        let renewed = self.renew().await;
        if self.keeper().is_some_and(|keeper| keeper.again().is_some()) {
            // The task that keeps the token fresh plans the next try.
            self.woken.notify_one();
        }
        let error = match renewed {
            // A store that is away is its own trouble, as long as the present token serves.
            Err(Error::Fleet(error)) if error.is_away() && self.present(false).is_some() => {
                self.state().later = Some(Instant::now() + LOOK.mul_f64(jitter(0.8, 1.2)));
                return Err(Failure::from(Error::Fleet(error)));
            }
            Err(error) => error,
            Ok(()) => match &self.state().token {
                Some(token) => return Ok(Arc::clone(token)),
                // No store succeeds without a token.
                None => Error::Held,
            },
        };
        Err(self.trouble(error, stamps))
    }

    /// Uses a token from now on, and ends trouble.
    fn use_token(&self, token: AccessToken) {
        let token = Arc::new(token);
        let length = token.secret().expose().len();
        let mut state = self.state();
        let had_trouble = state.trouble.take().is_some();
        (state.token, state.later) = (Some(Arc::clone(&token)), None);
        let advice = self.advice_for_long_token(length).filter(|_| !state.warned);
        state.warned |= advice.is_some();
        drop(state);
        self.arrived.notify_waiters();
        if let Some(advice) = advice {
            warn!(identity = self.spec.owner.identity, "the access token has {length} characters: {advice}");
        }
        let life = humantime::format_duration(Duration::from_secs(token.left().as_secs() + 1));
        if had_trouble {
            info!(identity = self.spec.owner.identity, user = self.spec.owner.user, "access token again, for {life}");
        } else {
            debug!(identity = self.spec.owner.identity, user = self.spec.owner.user, "new access token, for {life}");
        }
    }

    /// Forgets the token of a person who has signed out: no device is to be served with it any more. The fetch that is due
    /// then says why there is no other one.
    async fn forget_signed_out(&self) {
        let is_signed_out = || self.keeper().is_some_and(Keeper::is_signed_out);
        if !is_signed_out() {
            return;
        }
        // A fetch that is under way may bring a new sign-in with its token.
        let _flight = self.kept.flight.lock().await;
        if is_signed_out() {
            let mut state = self.state();
            (state.token, state.later) = (None, None);
        }
    }

    /// Returns whether the present token serves for a while yet.
    fn can_wait_for_others(&self) -> bool {
        self.state().token.as_ref().is_some_and(|token| Instant::now() < token.alone && token.left() > token.spare)
    }

    /// Returns the time when the next token is to be fetched.
    fn due(&self) -> Instant {
        let now = Instant::now();
        let state = self.state();
        let is_idle = state.is_idle(now);
        let by_trouble = state.trouble.as_ref().map(|trouble| trouble.until);
        if !is_idle {
            let stale = state.token.as_ref().map_or(now, |token| token.stale);
            return by_trouble.unwrap_or_else(|| state.later.map_or(stale, |later| stale.max(later)));
        }
        let Some(keeper) = self.keeper() else {
            // An application needs nothing until a device comes back, but that its trouble has an end.
            return by_trouble.unwrap_or(now + IDLE);
        };
        let weekly = keeper.renewed().unwrap_or(now) + RENEWAL;
        by_trouble.map_or(weekly, |until| until.max(weekly))
    }

    fn is_idle(&self) -> bool {
        self.state().is_idle(Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// Returns whether no device has needed the token lately.
    fn is_idle(&self, now: Instant) -> bool {
        now.duration_since(self.used) > IDLE
    }
}

/// The time without a device after which nothing is fetched ahead.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);
/// Time after which a refresh token is renewed: it ends when it is not used for 90 days.
const RENEWAL: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Distance in characters from a limit of the mail server, from which on the log warns.
const MARGIN: usize = 296;
/// The time for which no second token is tried.
const DOUBTED: Duration = Duration::from_secs(5 * 60);
/// Least life of a token for a device that fetches its mail and leaves.
const LAST: Duration = Duration::from_secs(10);
/// Time between two looks for a new sign-in while one is missing.
const LOOK: Duration = Duration::from_secs(10);
/// Longest wait for a fetch at the end: a request, and a little for the disk.
const SETTLE: Duration = Duration::from_secs(32);
/// Longest wait at the end for a token that need not be stored.
const MOMENT: Duration = Duration::from_secs(1);
/// Longest wait of a device for a token, whatever hangs behind it.
const LONGEST_WAIT: Duration = SETTLE;
