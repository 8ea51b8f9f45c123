//! The sign-in behind a person's token: its store, which outlives reloads, and the caller's side of a renewal.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;
use tracing::warn;

use super::{CachedToken, LOOK};
use crate::config::Rotation;
use crate::failure::Failure;
use crate::lifecycle::{Lifecycle, Phase};
use crate::secret::Secret;
use crate::token::access::AccessToken;
use crate::token::error::Error;
use crate::token::json::{StoredSignIn, TokenResponse};
use crate::token::keeping::{Asking, Keeper, Task};
use crate::token::refusal;

/// The state of a sign-in, which outlives reloads.
#[derive(Default)]
pub(in crate::token) struct SignInState {
    /// Held by the task that fetches; the others find what it has fetched.
    pub(in crate::token) flight: tokio::sync::Mutex<()>,
    /// The store of the refresh token; none where the grant needs no sign-in.
    keeper: Option<Arc<dyn Keeper>>,
}

impl SignInState {
    pub(in crate::token) fn with(keeper: Arc<dyn Keeper>) -> Self {
        Self { flight: tokio::sync::Mutex::default(), keeper: Some(keeper) }
    }

    /// The store of the refresh token; none where the grant needs no sign-in.
    pub(in crate::token) fn keeper(&self) -> Option<&dyn Keeper> {
        self.keeper.as_deref()
    }
}

impl CachedToken {
    /// Gets another access token from the endpoint, or from the store.
    pub(super) async fn renew(&self) -> Result<(), Error> {
        match self.keeper() {
            Some(keeper) => keeper.renew(self).await,
            None => {
                let token_response = self.ask_endpoint(None).await?;
                self.take(AccessToken::new(token_response));
                Ok(())
            }
        }
    }

    async fn ask_endpoint(&self, refresh_token: Option<Secret>) -> Result<TokenResponse, Error> {
        let request = self.request(refresh_token).await?;
        let response = self.spec.client.ask(request).await.map_err(Error::Unreachable)?;
        let judged = refusal::judge(self.endpoint(&self.spec.client), &response, SystemTime::now());
        let token_response = judged.map_err(Error::Refused)?;
        if let Some(skew) = refusal::skew(&response, SystemTime::now()) {
            warn!(identity = self.spec.owner.identity, "{skew}");
        }
        Ok(token_response)
    }

    /// Learns what other instances of the fleet have done to the sign-in.
    pub(super) async fn look(&self) {
        if let Some(keeper) = self.keeper() {
            let _flight = self.kept.flight.lock().await;
            keeper.look(self).await;
        }
    }

    /// Returns once the store may lack what this process knows.
    pub(super) async fn store_returned(&self) {
        match self.keeper() {
            Some(keeper) => keeper.returned().await,
            None => std::future::pending().await,
        }
    }

    /// Tries once more to store the refresh token that is not stored yet.
    pub(super) async fn keep_unsaved(&self) {
        if let Some(keeper) = self.keeper() {
            keeper.keep_unsaved(self).await;
        }
    }

    /// Stores the sign-in of somebody who has just signed in, whatever was there.
    pub(in crate::token) async fn put_sign_in(&self, record: StoredSignIn) -> Result<(), Error> {
        let keeper = self.keeper().ok_or(Error::SignIn("this identity's grant needs no sign-in"))?;
        keeper.put(record).await
    }

    /// Fetches a token with the refresh token that has just been stored: it proves that this works, and devices get it
    /// from now on.
    ///
    /// # Errors
    /// The endpoint gives none.
    pub async fn access_anew(self: &Arc<Self>) -> Result<Arc<AccessToken>, Failure> {
        self.end_pause();
        self.fetch(true).await
    }

    /// Returns whether a refresh token is not stored yet, or may be under way.
    pub(in crate::token) fn is_unsettled(&self) -> bool {
        self.keeper().is_some_and(|keeper| keeper.is_unsaved() || self.kept.flight.try_lock().is_err())
    }

    /// Stores the newest refresh token of an earlier configuration, as soon as the store takes it.
    pub(in crate::token) async fn keep_until_saved(self: Arc<Self>, mut lifecycle: Lifecycle) {
        while self.is_unsettled() {
            tokio::select! {
                () = sleep(LOOK) => {}
                () = lifecycle.reached(Phase::Draining) => return,
            }
            let _flight = self.kept.flight.lock().await;
            self.keep_unsaved().await;
        }
    }

    pub(super) fn keeper(&self) -> Option<&dyn Keeper> {
        self.kept.keeper()
    }
}

impl Asking for CachedToken {
    fn ask(&self, refresh_token: Secret) -> Task<'_, Result<TokenResponse, Error>> {
        Box::pin(self.ask_endpoint(Some(refresh_token)))
    }

    fn take(&self, token: AccessToken) {
        self.use_token(token);
    }

    fn pause_after(&self, error: &Error) -> Duration {
        self.pause(error).0
    }

    fn rotation(&self) -> Rotation {
        self.spec.identity.rotation
    }

    fn can_wait(&self) -> bool {
        self.can_wait_for_others()
    }
}
