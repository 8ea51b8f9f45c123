//! Users sign in at the authorization endpoint, which lets every user in, or by device codes.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::grant;
use super::{DEVICE_LOGIN, TokenResponse, reply, required_field};
use crate::simulator::refusal::Refusal;
use crate::simulator::scope::Scope;
use crate::simulator::tokens::{AuthorizationCode, PendingDeviceCode};
use crate::simulator::world::World;
use crate::transport::http::encode;
use crate::transport::http::server::{Request, Response};

/// The authorization endpoint (RFC 6749 §4.1.1 with RFC 7636 §4.3), which sends the browser back with a code.
pub(super) fn authorize(world: &World, received: &Request) -> TokenResponse {
    world.count(|counts| counts.authorizations += 1);
    grant::check_client_id(world, received)?;
    let redirect_uri = required_field(received, "redirect_uri")?;
    if required_field(received, "response_type")? != "code" {
        return Err(Refusal::new(400, "unsupported_response_type", 70_005, "The 'response_type' must be 'code'."));
    }
    let challenge = required_field(received, "code_challenge")?;
    if received.field("code_challenge_method") != Some("S256") || URL_SAFE_NO_PAD.decode(challenge).is_err() {
        return Err(Refusal::new(400, "invalid_request", 501_471, "The code challenge must be one by S256."));
    }
    let scope = Scope::delegated(required_field(received, "scope")?)?;
    let state = received.field("state").unwrap_or_default();
    let hint = received.field("login_hint").unwrap_or_default();
    if let Some(error) = world.quirk(|quirks| quirks.endpoint.authorize_error.clone()) {
        let text = "AADSTS65004: User declined to consent to access the app.";
        return Ok(redirect(redirect_uri, &[("error", &error), ("error_description", text), ("state", state)]));
    }
    let Some(user) = world.tenant.user(hint) else {
        return Err(Refusal::new(400, "invalid_request", 50_034, "The user account does not exist in the directory."));
    };
    let code = world.random_text();
    let (user, challenge) = (user.address.clone(), challenge.to_owned());
    world.log_event(format!("{user} signs in with a browser"));
    let kept = AuthorizationCode { user, scope, redirect_uri: redirect_uri.to_owned(), challenge };
    world.tokens().codes.insert(code.clone(), kept);
    Ok(redirect(redirect_uri, &[("code", &code), ("state", state), ("session_state", "simulated")]))
}

/// The device authorization endpoint (RFC 8628 §3.1).
pub(super) fn device_code(world: &World, received: &Request) -> TokenResponse {
    grant::check_client_id(world, received)?;
    let scope = Scope::delegated(required_field(received, "scope")?)?;
    let quirks = world.quirk(|quirks| quirks.device_code.clone());
    let device_code = world.random_text();
    let user_code: String =
        world.random_text().chars().filter(char::is_ascii_alphanumeric).take(9).collect::<String>().to_uppercase();
    let verification = format!("https://localhost:{}{DEVICE_LOGIN}", world.endpoint.port());
    let ends = Instant::now().checked_add(Duration::from_secs(quirks.expires_in)).unwrap_or_else(Instant::now);
    let pending = PendingDeviceCode { user_code: user_code.clone(), approved: None, scope, ends };
    world.tokens().device_codes.insert(device_code.clone(), pending);
    world.count(|counts| counts.device_codes += 1);
    world.log_event(format!("a device code is asked for; its user code is {user_code}"));
    let message = format!(
        "To sign in, use a web browser to open the page {verification} and enter the code {user_code} to authenticate."
    );
    let body = json!({
        "user_code": user_code,
        "device_code": device_code,
        "verification_uri": verification,
        "expires_in": quirks.expires_in,
        "interval": quirks.interval,
        "message": message,
    });
    reply(200, body)
}

/// The page where a user types a code; a request with `user_code` approves it.
pub(super) fn approve(world: &World, received: &Request) -> TokenResponse {
    let user_code = received.field("user_code").or(received.field("otc")).unwrap_or_default();
    let user = received.field("login_hint").unwrap_or_default();
    let text = if approve_all(world, user, |pending| pending.user_code.eq_ignore_ascii_case(user_code)) > 0 {
        "approved"
    } else {
        "add ?user_code=CODE to this address to approve a code that is waiting"
    };
    reply(200, Value::from(text))
}

/// Approves the pending codes that a condition selects; returns their number.
pub(in crate::simulator) fn approve_all(
    world: &World,
    user: &str,
    which: impl Fn(&PendingDeviceCode) -> bool,
) -> usize {
    let Some(user) = world.tenant.user(user) else { return 0 };
    let mut tokens = world.tokens();
    let waiting = tokens.device_codes.values_mut().filter(|pending| pending.approved.is_none() && which(pending));
    waiting.map(|pending| pending.approved = Some(user.address.clone())).count()
}

fn redirect(to: &str, pairs: &[(&str, &str)]) -> Response {
    let mark = if to.contains('?') { '&' } else { '?' };
    let location = format!("{to}{mark}{}", encode(pairs).as_str());
    Response { status: 302, headers: vec![("location", location)], body: String::new().into() }
}
