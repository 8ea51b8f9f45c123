//! Records are sealed before they go to the database, and opened when they come from there.

use std::time::Duration;

use tokio::time::Instant;

use super::{Access, Known, LeasedSignIn};
use crate::fleet::records::{SealedAccess, SealedKind};
use crate::secret::Secret;

impl LeasedSignIn {
    /// Seals record and access token of this state; none where there is no cryptography, or no access token.
    pub(super) fn seal(&self, known: &Known) -> Option<(Vec<u8>, SealedAccess)> {
        let access = known.access.as_ref()?;
        let octets = encode(access);
        let sealed = self.vault.seal(&self.key.label(SealedKind::Access, known.generation), octets.expose()).ok()?;
        let left = access.until.saturating_duration_since(Instant::now());
        Some((self.seal_record(known)?, SealedAccess { sealed, left }))
    }

    pub(super) fn seal_record(&self, known: &Known) -> Option<Vec<u8>> {
        self.vault.seal(&self.key.label(SealedKind::SignIn, known.generation), known.record.expose()).ok()
    }

    pub(super) fn open_record(&self, generation: i64, sealed: &[u8]) -> Option<Secret> {
        let opened = self.vault.open(&self.key.label(SealedKind::SignIn, generation), sealed)?;
        Some(Secret::new(opened.to_vec()))
    }

    pub(super) fn open_access(&self, generation: i64, access: &SealedAccess) -> Option<Access> {
        let opened = self.vault.open(&self.key.label(SealedKind::Access, generation), &access.sealed)?;
        let (life, token) = opened.split_first_chunk::<8>()?;
        let life = Duration::from_millis(u64::from_be_bytes(*life));
        // A database whose clock has jumped shall not lengthen a life.
        let until = Instant::now() + access.left.min(life);
        Some(Access { token: Secret::new(token.to_vec()), life, until })
    }
}

/// The whole life in milliseconds, as eight octets in network order, and the token.
fn encode(access: &Access) -> Secret {
    let life = u64::try_from(access.life.as_millis()).unwrap_or(u64::MAX);
    Secret::new([&life.to_be_bytes(), access.token.expose()].concat())
}
