//! The newest sign-in that can be found in a fleet without the token endpoint: in the database, or on this computer's disk.

use super::InFleet;
use crate::fleet::lease::{LastRenewal, Provenance, is_signed_out};
use crate::token::error::{Error, StoreError};
use crate::token::json::StoredSignIn;

/// A sign-in, with the store that it was found in.
pub(in crate::token) struct FoundSignIn {
    pub(in crate::token) record: StoredSignIn,
    pub(in crate::token) provenance: Provenance,
    pub(in crate::token) renewal: LastRenewal,
}

impl InFleet {
    /// Finds the newest sign-in, also where the database does not have it yet; none where nobody has signed in.
    pub(in crate::token) async fn newest(&self) -> Result<Option<FoundSignIn>, Error> {
        let Some(newest) = self.sign_in.newest().await.map_err(Error::Fleet)? else { return Ok(None) };
        let record = newest.record.ok_or(Error::Store(StoreError::OtherFleetKey))?;
        if is_signed_out(&record) {
            return Ok(None);
        }
        let record = StoredSignIn::from_json(record.expose()).ok_or(Error::Store(StoreError::OtherFleetKey))?;
        Ok(Some(FoundSignIn { record, provenance: newest.provenance, renewal: newest.renewal }))
    }
}
