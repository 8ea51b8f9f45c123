//! The means of an instance to renew a sign-in: the token endpoint, the disk of its computer, and the devices that wait.

use tokio::time::Instant;

use super::{InFleet, to_octets};
use crate::config::Rotation;
use crate::fleet::lease::{ASKING, Access, Denied, Granted, Holder, Known};
use crate::lifecycle::unix_time;
use crate::secret::Secret;
use crate::token::access::{self, AccessToken};
use crate::token::error::{Error, StoreError};
use crate::token::json::StoredSignIn;
use crate::token::keeping::Asking;
use crate::transport::http::within;

/// The instance's own means: endpoint and devices by the caller, the disk by the store.
pub(super) struct Means<'a> {
    pub(super) keeper: &'a InFleet,
    pub(super) asking: &'a dyn Asking,
}

impl Holder for Means<'_> {
    type Error = Error;

    async fn ask(&self, record: &Secret) -> Result<Granted, Denied<Error>> {
        let denied = |error| self.denied(error);
        let record = StoredSignIn::from_json(record.expose());
        let record = record.ok_or_else(|| denied(Error::Store(StoreError::OtherFleetKey)))?;
        let answer = within(ASKING, self.asking.ask(record.refresh_token.clone())).await;
        let mut token_response = answer.unwrap_or(Err(Error::Late)).map_err(denied)?;
        let refresh_token = token_response.refresh_token.take().unwrap_or(record.refresh_token);
        let new = StoredSignIn { refresh_token, signed_in: record.signed_in, renewed: unix_time() };
        let life = access::life_of(&token_response);
        let access = Access { token: token_response.access_token, life, until: Instant::now() + life };
        Ok(Granted { record: to_octets(&new).map_err(denied)?, access })
    }

    async fn save(&self, known: Known) {
        self.keeper.write_copy(known).await;
    }

    fn take(&self, access: &Access) {
        self.asking.take(AccessToken::taken(access.token.clone(), access.life, access.until));
    }

    fn is_strict(&self) -> bool {
        self.asking.rotation() == Rotation::Strict
    }

    async fn ending(&self) {
        // The sender lives as long as the keeper.
        let _ = self.keeper.ending.subscribe().wait_for(|is_ending| *is_ending).await;
    }
}

impl Means<'_> {
    fn denied(&self, error: Error) -> Denied<Error> {
        let pause = self.asking.pause_after(&error);
        let cause = error.cause();
        Denied { trouble: error.as_trouble(), error, pause, cause }
    }
}
