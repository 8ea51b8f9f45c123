//! The store of what the token endpoint has issued: access and refresh tokens, codes, assertions.

use std::collections::{HashMap, HashSet};

use tokio::time::Instant;

use super::quirks::Refresh;
use super::scope::Scope;
use super::tenant::Principal;

/// Everything that was issued.
#[derive(Default)]
pub(super) struct Tokens {
    access: HashMap<String, AccessGrant>,
    refresh: HashMap<String, RefreshGrant>,
    /// The newest used generation of each family of refresh tokens.
    used: HashMap<String, u64>,
    /// The refresh tokens that were redeemed, and how often.
    redeemed: HashMap<String, u64>,
    /// The families that a second use has ended.
    ended: HashSet<String>,
    /// Authorization codes that have not been redeemed.
    pub(super) codes: HashMap<String, AuthorizationCode>,
    /// Pending device codes.
    pub(super) device_codes: HashMap<String, PendingDeviceCode>,
    /// The `jti` of assertions that were presented.
    pub(super) assertions: HashSet<String>,
}

/// The grant behind an access token.
#[derive(Clone)]
pub(super) struct AccessGrant {
    pub(super) principal: Principal,
    pub(super) scope: Scope,
    pub(super) ends: Instant,
}

/// The grant behind a refresh token.
#[derive(Clone)]
pub(super) struct RefreshGrant {
    pub(super) user: String,
    pub(super) scope: Scope,
    family: String,
    generation: u64,
}

/// The sign-in behind an authorization code.
pub(super) struct AuthorizationCode {
    pub(super) user: String,
    pub(super) scope: Scope,
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
}

/// The sign-in that a device code waits for.
pub(super) struct PendingDeviceCode {
    pub(super) user_code: String,
    /// The user who has approved, if any.
    pub(super) approved: Option<String>,
    pub(super) scope: Scope,
    pub(super) ends: Instant,
}

impl Tokens {
    pub(super) fn access(&self, token: &str) -> Option<AccessGrant> {
        self.access.get(token).filter(|access| access.ends > Instant::now()).cloned()
    }

    /// Redeems a refresh token; with strict rotation only if no later one has been redeemed. Where a second use ends the
    /// family, it is no longer good for anything.
    pub(super) fn redeem(&mut self, token: &str, rotation: Refresh) -> Option<RefreshGrant> {
        let refresh = self.refresh.get(token)?.clone();
        let times = self.redeemed.entry(token.to_owned()).or_default();
        *times += 1;
        if rotation.reuse_ends_family && *times > 1 {
            self.ended.insert(refresh.family.clone());
        }
        if self.ended.contains(&refresh.family) {
            return None;
        }
        let strict = rotation.strict_rotation;
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

    /// Uses of refresh tokens beyond the first of each.
    pub(super) fn reuses(&self) -> u64 {
        self.redeemed.values().map(|times| times - 1).sum()
    }

    /// Revokes every refresh token, like an administrator's "revoke sessions".
    pub(super) fn revoke(&mut self) {
        self.refresh.clear();
    }

    /// Lets every access token expire.
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
