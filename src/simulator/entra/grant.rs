//! The token endpoint (RFC 6749 §3.2) has one function for each grant.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::issue::{self, insert};
use super::{TokenResponse, assertion, reply, required_field};
use crate::crypto::sha256;
use crate::simulator::quirks::Poll;
use crate::simulator::refusal::Refusal;
use crate::simulator::scope::Scope;
use crate::simulator::tenant::Principal;
use crate::simulator::tokens::RefreshGrant;
use crate::simulator::world::World;
use crate::transport::http::server::Request;

/// Answers a token request.
pub(super) fn answer(world: &World, received: &Request) -> TokenResponse {
    let grant = required_field(received, "grant_type")?;
    world.count(|counts| *counts.token_requests.entry(grant.to_owned()).or_default() += 1);
    check_client_id(world, received)?;
    let issued = match grant {
        "client_credentials" => client_credentials(world, received)?,
        "authorization_code" => authorization_code(world, received)?,
        "urn:ietf:params:oauth:grant-type:device_code" => device_code(world, received)?,
        "refresh_token" => refresh_token(world, received)?,
        "password" => password(world, received)?,
        _ => {
            let text = format!("The app requested an unsupported grant type '{grant}'.");
            return Err(Refusal::new(400, "unsupported_grant_type", 70_003, text));
        }
    };
    reply(200, token_response(world, grant, &issued))
}

/// Checks that the app is the tenant's.
pub(super) fn check_client_id(world: &World, received: &Request) -> Result<(), Refusal> {
    let client = required_field(received, "client_id")?;
    if client == world.tenant.client_id {
        return Ok(());
    }
    let text = format!("Application with identifier '{client}' was not found in the directory.");
    Err(Refusal::new(400, "unauthorized_client", 700_016, text))
}

/// The tokens that a request may have.
struct Issued {
    principal: Principal,
    scope: Scope,
    /// The grant of the refresh token that the request presented.
    after: Option<RefreshGrant>,
}

fn token_response(world: &World, grant: &str, issued: &Issued) -> Value {
    let quirks = world.quirk(Clone::clone);
    let access_token = issue::access_token(world, &issued.principal, &issued.scope);
    let seconds = quirks.endpoint.expires_in;
    let seconds = if quirks.endpoint.expires_in_as_string { json!(seconds.to_string()) } else { json!(seconds) };
    let mut body = json!({
        "token_type": "Bearer",
        "expires_in": seconds,
        "ext_expires_in": seconds,
        "access_token": access_token,
    });
    let whose = match &issued.principal {
        Principal::App => format!("app {}", world.tenant.client_id),
        Principal::User(user) => {
            insert(&mut body, "scope", json!(issued.scope.text()));
            if issued.scope.offline && !(issued.after.is_some() && quirks.refresh.omit_new) {
                let refresh = issue::refresh_token(world, user, &issued.scope, issued.after.as_ref());
                insert(&mut body, "refresh_token", json!(refresh));
            }
            user.clone()
        }
    };
    world.count(|counts| counts.tokens_issued += 1);
    let grant = grant.rsplit(':').next().unwrap_or(grant);
    world.log_event(format!(
        "token endpoint: an access token for {whose} by {grant}, {} characters",
        access_token.len()
    ));
    body
}

fn client_credentials(world: &World, received: &Request) -> Result<Issued, Refusal> {
    if !authenticate_client(world, received)? {
        let text =
            "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.";
        return Err(Refusal::client(7_000_216, text));
    }
    let scope = Scope::app_only(required_field(received, "scope")?)?;
    Ok(Issued { principal: Principal::App, scope, after: None })
}

/// Redeems a code; the verifier proves that the client is the one that requested it (RFC 7636 §4.6).
fn authorization_code(world: &World, received: &Request) -> Result<Issued, Refusal> {
    if authenticate_client_of_user(world, received)? && world.tenant.public_client {
        let text = "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.";
        return Err(Refusal::client(700_025, text));
    }
    let (code, verifier) = (required_field(received, "code")?, required_field(received, "code_verifier")?);
    let redirect_uri = required_field(received, "redirect_uri")?;
    // Any attempt uses the code up.
    let Some(kept) = world.tokens().codes.remove(code) else {
        return Err(Refusal::grant(54_005, "OAuth2 Authorization code was already redeemed, or is not one."));
    };
    if kept.redirect_uri != redirect_uri {
        let text = "The provided value for the input parameter 'redirect_uri' is not the one of the code.";
        return Err(Refusal::grant(50_011, text));
    }
    if kept.challenge != URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes())) {
        let text = "The Code_Verifier does not match the code_challenge supplied in the authorization request.";
        return Err(Refusal::grant(501_481, text));
    }
    Ok(Issued { principal: Principal::User(kept.user), scope: kept.scope, after: None })
}

fn device_code(world: &World, received: &Request) -> Result<Issued, Refusal> {
    world.count(|counts| counts.polls += 1);
    authenticate_client_of_user(world, received)?;
    let code = required_field(received, "device_code")?;
    let mut scripted = None;
    world.quirks.send_if_modified(|quirks| {
        scripted = quirks.device_code.script.pop_front();
        false
    });
    let is_approved = world.quirk(|quirks| quirks.device_code.approved);
    let mut tokens = world.tokens();
    let Some(pending) = tokens.device_codes.get(code) else {
        return Err(Refusal::new(400, "bad_verification_code", 70_018, "Bad verification code."));
    };
    let approved = pending.approved.clone();
    let anybody = || world.tenant.user("").filter(|_| is_approved).map(|user| user.address.clone());
    let poll = match scripted {
        Some(poll) => poll,
        None if pending.ends <= Instant::now() => Poll::Expired,
        None => match approved.or_else(anybody) {
            Some(user) => {
                let scope = pending.scope.clone();
                tokens.device_codes.remove(code);
                return Ok(Issued { principal: Principal::User(user), scope, after: None });
            }
            None => Poll::Pending,
        },
    };
    Err(match poll {
        Poll::Pending => {
            let text = "OAuth 2.0 device flow error. Authorization is pending. Continue polling.";
            Refusal::new(400, "authorization_pending", 70_016, text)
        }
        Poll::SlowDown => Refusal::new(400, "slow_down", 70_016, "Authorization is pending. Poll less often."),
        Poll::Declined => Refusal::new(400, "authorization_declined", 70_000, "The user declined."),
        Poll::Expired => Refusal::new(400, "expired_token", 70_019, "Verification code expired."),
    })
}

fn refresh_token(world: &World, received: &Request) -> Result<Issued, Refusal> {
    authenticate_client_of_user(world, received)?;
    let token = required_field(received, "refresh_token")?;
    world.count(|counts| counts.last_refresh_token = Some(token.to_owned()));
    let rotation = world.quirk(|quirks| quirks.refresh);
    let asked = received.field("scope").map(Scope::delegated).transpose()?;
    let Some(refresh) = world.tokens().redeem(token, rotation) else {
        return Err(Refusal::grant(700_082, "The refresh token has expired due to inactivity, or was revoked."));
    };
    let mut scope = asked.unwrap_or_else(|| refresh.scope.clone());
    // A client that has presented a refresh token keeps getting one.
    scope.offline = true;
    Ok(Issued { principal: Principal::User(refresh.user.clone()), scope, after: Some(refresh) })
}

fn password(world: &World, received: &Request) -> Result<Issued, Refusal> {
    authenticate_client_of_user(world, received)?;
    let (name, password) = (required_field(received, "username")?, required_field(received, "password")?);
    let scope = Scope::delegated(required_field(received, "scope")?)?;
    match world.tenant.user(name) {
        None => Err(Refusal::grant(50_034, "The user account does not exist in the directory.")),
        Some(user) if user.password != password => {
            Err(Refusal::grant(50_126, "Error validating credentials due to invalid username or password."))
        }
        Some(user) => Ok(Issued { principal: Principal::User(user.address.clone()), scope, after: None }),
    }
}

/// Authenticates the client of a user, which a public client may omit; returns whether it did.
fn authenticate_client_of_user(world: &World, received: &Request) -> Result<bool, Refusal> {
    let is_proven = authenticate_client(world, received)?;
    if is_proven || world.tenant.public_client {
        return Ok(is_proven);
    }
    let text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
    Err(Refusal::client(7_000_218, text))
}

/// Authenticates the app; returns false if it presents nothing, and refuses a wrong proof.
fn authenticate_client(world: &World, received: &Request) -> Result<bool, Refusal> {
    if let Some(assertion) = received.field("client_assertion") {
        assertion::check(world, received.field("client_assertion_type"), assertion)?;
        return Ok(true);
    }
    match received.field("client_secret") {
        Some(secret) if world.tenant.client_secret.as_deref() == Some(secret) => Ok(true),
        Some(_) => {
            let text = format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret \
                 value, not the client secret ID, for a secret added to app '{}'.",
                world.tenant.client_id
            );
            Err(Refusal::client(7_000_215, text))
        }
        None => Ok(false),
    }
}
