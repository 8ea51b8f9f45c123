//! A client assertion is a JWT signed with the app's certificate, or the token of a managed identity.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::simulator::refusal::Refusal;
use crate::simulator::tenant::ClientCertificate;
use crate::simulator::world::World;

/// Checks an assertion against the app registration.
pub(super) fn check(world: &World, kind: Option<&str>, assertion: &str) -> Result<(), Refusal> {
    if kind != Some(KIND) {
        let text = "The 'client_assertion_type' must be 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'.";
        return Err(Refusal::new(400, "invalid_request", 50_027, text));
    }
    if world.tenant.federated_token.as_deref() == Some(assertion) {
        return Ok(());
    }
    // An assertion that the app has signed itself is compared with the app's certificates, also where it has none (any
    // more); a token of another issuer with its federated credentials.
    let is_own = issuer(assertion).as_deref() == Some(&world.tenant.client_id);
    match world.certificates() {
        certificates if is_own || !certificates.is_empty() => check_signed(world, &certificates, assertion),
        _ => Err(Refusal::client(700_213, "No matching federated identity record found for presented assertion.")),
    }
}

/// The issuer that an assertion names; none where it is no JWT.
fn issuer(assertion: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

/// Checks a signed assertion as Entra documents it: PS256, `x5t#S256`, and the token endpoint as `aud`.
fn check_signed(world: &World, certificates: &[Arc<ClientCertificate>], assertion: &str) -> Result<(), Refusal> {
    let malformed = || Refusal::client(50_027, "JWT token is invalid or malformed.");
    let unproven = |why: &str| {
        Refusal::client(
            700_027,
            format!(
                "The certificate with identifier used to sign the client assertion is not registered on application. \
                 {why}"
            ),
        )
    };
    let (signed, signature) = assertion.rsplit_once('.').ok_or_else(malformed)?;
    let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
    let object = |text: &str| -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok() };
    let (header, claims) = (object(header).ok_or_else(malformed)?, object(claims).ok_or_else(malformed)?);
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed())?;
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    if text(&header, "alg") != "PS256" || text(&header, "typ") != "JWT" {
        return Err(unproven("The header must say PS256 and JWT."));
    }
    let thumbprint = text(&header, "x5t#S256");
    let certificate = certificates.iter().find(|one| one.thumbprint == thumbprint);
    let certificate = certificate.ok_or_else(|| unproven("[Reason - The key was not found.]"))?;
    if !certificate.key.has_signed_ps256(signed.as_bytes(), &signature) {
        return Err(unproven("[Reason - The key was found, but use of the key to verify the signature failed.]"));
    }
    if !is_audience(world, &text(&claims, "aud")) {
        return Err(Refusal::client(700_023, "Client assertion audience claim does not match Realm issuer."));
    }
    if text(&claims, "iss") != world.tenant.client_id || text(&claims, "sub") != world.tenant.client_id {
        return Err(Refusal::client(700_021, "Client assertion application identifier doesn't match 'client_id'."));
    }
    let time = |name: &str| claims.get(name).and_then(Value::as_u64);
    let (Some(not_before), Some(expires)) = (time("nbf"), time("exp")) else { return Err(malformed()) };
    let now = world.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let is_early = now + SKEW < Duration::from_secs(not_before);
    if is_early || now > Duration::from_secs(expires).saturating_add(SKEW) {
        let text = format!(
            "Client assertion is not within its valid time range. Current time: {}, expiry time of assertion {}.",
            now.as_secs(),
            expires
        );
        return Err(Refusal::client(700_024, text));
    }
    let id = text(&claims, "jti");
    if id.is_empty() || !world.tokens().assertions.insert(id) {
        return Err(unproven("The assertion's jti is missing, or has been seen before."));
    }
    Ok(())
}

/// Returns whether an audience is the token endpoint's address, by any name of this computer.
fn is_audience(world: &World, audience: &str) -> bool {
    if let Some(only) = world.quirk(|quirks| quirks.endpoint.audience.clone()) {
        return audience == only;
    }
    let (port, tenant) = (world.endpoint.port(), &world.tenant.name);
    ["localhost", "127.0.0.1", "[::1]"]
        .iter()
        .any(|host| audience == format!("https://{host}:{port}/{tenant}/oauth2/v2.0/token"))
}

const KIND: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The clock skew that Entra tolerates.
const SKEW: Duration = Duration::from_secs(300);
