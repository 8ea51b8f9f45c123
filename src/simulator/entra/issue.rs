//! Tokens are issued here: access tokens that look like a JWT, and refresh tokens in families.

use std::time::UNIX_EPOCH;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::simulator::scope::Scope;
use crate::simulator::tenant::Principal;
use crate::simulator::tokens::{AccessGrant, RefreshGrant};
use crate::simulator::world::World;

/// Makes an access token in the shape of a JWT, because some programs read its claims.
pub(super) fn access_token(world: &World, principal: &Principal, scope: &Scope) -> String {
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
        Principal::App => {
            insert(&mut claims, "roles", json!(["IMAP.AccessAsApp", "POP.AccessAsApp", "SMTP.SendAsApp"]))
        }
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
        // Group claims make real tokens as long.
        insert(&mut claims, "groups", json!("g".repeat(missing * 3 / 4 + 1)));
        token = text(&claims);
    }
    let ends = Instant::now().checked_add(life).unwrap_or_else(Instant::now);
    let grant = AccessGrant { principal: principal.clone(), scope: scope.clone(), ends };
    world.tokens().insert_access(&token, grant);
    token
}

/// Makes a refresh token, in the family of the one before it.
pub(super) fn refresh_token(world: &World, user: &str, scope: &Scope, before: Option<&RefreshGrant>) -> String {
    let token = format!("1.{}", world.random_text());
    let grant = match before {
        Some(before) => before.next(scope),
        None => RefreshGrant::first(user, scope, world.random_text()),
    };
    world.tokens().insert_refresh(&token, grant);
    token
}

/// Adds a field to an object.
pub(super) fn insert(object: &mut Value, name: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}
