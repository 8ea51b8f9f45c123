//! What the token endpoint has issued and still remembers: access and refresh tokens, codes, assertions.

use std::collections::{HashMap, HashSet};
use std::time::UNIX_EPOCH;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::entra::scope::Scope;
use super::tenant::Principal;
use super::world::World;

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

    /// A new refresh token, in the family of the one before it.
    pub(super) fn issue_refresh(
        &mut self,
        world: &World,
        user: &str,
        scope: &Scope,
        after: Option<&RefreshGrant>,
    ) -> String {
        let token = format!("1.{}", world.random_text());
        let (family, generation) =
            after.map_or_else(|| (world.random_text(), 0), |before| (before.family.clone(), before.generation + 1));
        let refresh = RefreshGrant { user: user.to_owned(), scope: scope.clone(), family, generation };
        self.refresh.insert(token.clone(), refresh);
        token
    }

    /// Makes an access token that looks like a JWT, because some people look into it.
    pub(super) fn issue_access(&mut self, world: &World, principal: &Principal, scope: &Scope) -> String {
        let quirks = world.quirk(|quirks| quirks.endpoint.clone());
        let life = quirks.token_life.unwrap_or(Duration::from_secs(quirks.expires_in));
        let now = world.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut claims = json!({
            "aud": scope.resource,
            "iss": format!("https://sts.windows.net/{}/", world.tenant.name),
            "tid": world.tenant.name,
            "appid": world.tenant.client_id,
            "iat": now,
            // Entra's clocks differ, and so do others.
            "nbf": now.saturating_sub(300),
            "exp": now + quirks.expires_in,
            "uti": world.random_text(),
        });
        match principal {
            Principal::App => insert(&mut claims, "roles", json!(["IMAP.AccessAsApp", "POP.AccessAsApp"])),
            Principal::User(address) => {
                insert(&mut claims, "scp", json!(scope.names.join(" ")));
                insert(&mut claims, "upn", json!(address));
            }
        }
        let text = |claims: &Value| {
            let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
            format!("{header}.{}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()), world.random_text())
        };
        let mut token = text(&claims);
        if let Some(missing) = quirks.token_length.and_then(|length| length.checked_sub(token.len())) {
            // As group claims do it.
            insert(&mut claims, "groups", json!("g".repeat(missing * 3 / 4 + 1)));
            token = text(&claims);
        }
        let ends = Instant::now().checked_add(life).unwrap_or_else(Instant::now);
        self.access.insert(token.clone(), AccessGrant { principal: principal.clone(), scope: scope.clone(), ends });
        token
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

/// Adds a field to an object.
pub(super) fn insert(object: &mut Value, name: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}
