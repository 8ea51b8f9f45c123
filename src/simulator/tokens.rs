//! What the token endpoint has issued and still remembers: access and refresh tokens, codes, assertions.

use std::collections::{HashMap, HashSet};

use tokio::time::Instant;

use super::scope::Scope;
use super::tenant::Principal;

/// All that is remembered.
#[derive(Default)]
pub(super) struct Tokens {
    access: HashMap<String, AccessGrant>,
    refresh: HashMap<String, RefreshGrant>,
    /// By family: the newest generation that has been used.
    used: HashMap<String, u64>,
    /// Authorization codes that have not been redeemed.
    pub(super) codes: HashMap<String, AuthorizationCode>,
    /// By device code.
    pub(super) device_codes: HashMap<String, PendingDeviceCode>,
    /// The `jti` of assertions.
    pub(super) assertions: HashSet<String>,
}

/// What stands behind an access token.
#[derive(Clone)]
pub(super) struct AccessGrant {
    pub(super) principal: Principal,
    pub(super) scope: Scope,
    pub(super) ends: Instant,
}

/// What stands behind a refresh token.
#[derive(Clone)]
pub(super) struct RefreshGrant {
    pub(super) user: String,
    pub(super) scope: Scope,
    family: String,
    generation: u64,
}

/// What stands behind an authorization code.
pub(super) struct AuthorizationCode {
    pub(super) user: String,
    pub(super) scope: Scope,
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
}

/// What stands behind a device code.
pub(super) struct PendingDeviceCode {
    pub(super) user_code: String,
    /// Who has approved.
    pub(super) approved: Option<String>,
    pub(super) scope: Scope,
    pub(super) ends: Instant,
}

impl Tokens {
    pub(super) fn access(&self, token: &str) -> Option<AccessGrant> {
        self.access.get(token).filter(|access| access.ends > Instant::now()).cloned()
    }

    /// Redeems a refresh token; with strict rotation only if no later one has been redeemed.
    pub(super) fn redeem(&mut self, token: &str, strict: bool) -> Option<RefreshGrant> {
        let refresh = self.refresh.get(token)?.clone();
        let used = self.used.entry(refresh.family.clone()).or_default();
        if strict && refresh.generation < *used {
            return None;
        }
        *used = refresh.generation.max(*used);
        Some(refresh)
    }

    /// Remembers an access token.
    pub(super) fn insert_access(&mut self, token: &str, grant: AccessGrant) {
        self.access.insert(token.to_owned(), grant);
    }

    /// Remembers a refresh token.
    pub(super) fn insert_refresh(&mut self, token: &str, grant: RefreshGrant) {
        self.refresh.insert(token.to_owned(), grant);
    }

    /// As an administrator's "revoke sessions": every refresh token is dead.
    pub(super) fn revoke(&mut self) {
        self.refresh.clear();
    }

    /// Every access token has expired.
    pub(super) fn expire(&mut self) {
        self.access.clear();
    }
}

impl RefreshGrant {
    /// The grant of a user's first refresh token, which begins a family.
    pub(super) fn first(user: &str, scope: &Scope, family: String) -> Self {
        Self { user: user.to_owned(), scope: scope.clone(), family, generation: 0 }
    }

    /// The grant of the refresh token that follows this one.
    pub(super) fn next(&self, scope: &Scope) -> Self {
        Self { scope: scope.clone(), generation: self.generation + 1, ..self.clone() }
    }
}
