//! The metadata service of a virtual machine (IMDS) hands out tokens of its managed identity.

use serde_json::json;

use super::{issue, json};
use crate::simulator::scope::Scope;
use crate::simulator::tenant::Principal;
use crate::simulator::world::World;
use crate::transport::http::server::{Request, Response};

/// Answers one request.
pub(super) fn answer(world: &World, received: &Request) -> Response {
    world.count(|counts| counts.metadata_requests += 1);
    let no = |text: &str| json(400, &json!({"error": "invalid_request", "error_description": text}));
    if received.method != "GET" || received.path != PATH {
        return json(404, &json!({"error": "not_found", "error_description": "no such resource"}));
    }
    if !received.has_metadata_header() {
        return no("Required metadata header not specified");
    }
    if received.field("api-version").is_none() {
        return no("Required parameter 'api-version' not specified");
    }
    let Some(resource) = received.field("resource") else {
        return no("Required query variable 'resource' is missing");
    };
    let token = match &world.tenant.federated_token {
        Some(token) if resource.starts_with(EXCHANGE) => token.clone(),
        Some(_) => issue::access_token(world, &Principal::App, &Scope::of_app(resource)),
        None => return no("Identity not found"),
    };
    world.log_event(format!("metadata service: a token for {resource}"));
    let seconds = world.quirk(|quirks| quirks.endpoint.expires_in);
    let expires_on = world.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs() + seconds;
    // Numbers are strings here.
    let body = json!({
        "access_token": token,
        "client_id": world.tenant.client_id,
        "expires_in": seconds.to_string(),
        "expires_on": expires_on.to_string(),
        "resource": resource,
        "token_type": "Bearer",
    });
    json(200, &body)
}

const PATH: &str = "/metadata/identity/oauth2/token";
/// The resource of a token that is exchanged for the app's.
const EXCHANGE: &str = "api://AzureADTokenExchange";
