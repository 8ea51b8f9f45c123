//! A pretend Entra ID answers requests to the token endpoint and to the endpoints beside it, by path.

mod assertion;
pub(super) mod authorize;
mod grant;
mod issue;
mod metadata;

use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use super::quirks::Fault;
use super::refusal::Refusal;
use super::world::World;
use crate::transport::http::server::{self, Request, Response};

/// Serves one connection to the token endpoint.
pub(super) async fn serve<S>(world: Arc<World>, stream: S)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    serve_by(stream, move |received| {
        let world = Arc::clone(&world);
        async move { answer(&world, &received).await }
    })
    .await;
}

/// Serves one connection to the metadata service.
pub(super) async fn serve_metadata<S>(world: Arc<World>, stream: S)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    serve_by(stream, move |received| {
        std::future::ready(match world.quirk(|quirks| quirks.metadata_fault.clone()) {
            Some(fault) => fault_response(&world, &fault),
            None => Some(metadata::answer(&world, &received)),
        })
    })
    .await;
}

/// Serves a connection by a function; where that gives no response, the connection is closed.
async fn serve_by<S, F>(stream: S, answer: impl Fn(Request) -> F + Send + Sync + 'static)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = Option<Response>> + Send,
{
    let (answer, down) = (Arc::new(answer), Arc::new(Notify::new()));
    let closed = Arc::clone(&down);
    let serving = server::serve(stream, server::Bodies::Read, move |received| {
        let (answer, down) = (Arc::clone(&answer), Arc::clone(&down));
        async move {
            match answer(received).await {
                Some(response) => response,
                None => {
                    down.notify_one();
                    std::future::pending().await
                }
            }
        }
    });
    tokio::select! {
        () = serving => {}
        () = closed.notified() => {}
    }
}

async fn answer(world: &World, received: &Request) -> Option<Response> {
    tokio::time::sleep(world.quirk(|quirks| quirks.endpoint.delay)).await;
    if let Some(fault) = next_fault(world) {
        world.log_event(format!("token endpoint: {fault:?} instead of an answer to {}", received.path));
        if !matches!(fault, Fault::Error(..)) {
            world.count(|counts| counts.token_refusals += 1);
        }
        return fault_response(world, &fault).map(|response| with_date(world, response));
    }
    let response = match (received.method.as_str(), route(world, &received.path)) {
        ("GET", Route::DeviceLogin) => authorize::approve(world, received),
        (_, Route::DeviceLogin) => reply(405, Value::Null),
        (_, Route::OtherTenant(tenant)) => Err(Refusal::tenant(&tenant)),
        ("GET", Route::Authorize) => authorize::authorize(world, received),
        ("POST", Route::DeviceCode) => authorize::device_code(world, received),
        ("POST", Route::Token) => grant::answer(world, received),
        _ => reply(404, Value::Null),
    };
    let response = with_date(world, response.unwrap_or_else(|refusal| refusal_response(world, &refusal)));
    tokio::time::sleep(world.quirk(|quirks| quirks.endpoint.answer_delay)).await;
    Some(response)
}

enum Route {
    Authorize,
    DeviceCode,
    Token,
    DeviceLogin,
    OtherTenant(String),
    Nowhere,
}

fn route(world: &World, path: &str) -> Route {
    if path == DEVICE_LOGIN {
        return Route::DeviceLogin;
    }
    let Some((tenant, rest)) = path.trim_start_matches('/').split_once('/') else { return Route::Nowhere };
    if !tenant.eq_ignore_ascii_case(&world.tenant.name) {
        return Route::OtherTenant(tenant.to_owned());
    }
    match rest {
        "oauth2/v2.0/authorize" => Route::Authorize,
        "oauth2/v2.0/devicecode" => Route::DeviceCode,
        "oauth2/v2.0/token" => Route::Token,
        _ => Route::Nowhere,
    }
}

/// The fault of the next request, if any; a counted fault is used up.
fn next_fault(world: &World) -> Option<Fault> {
    let mut taken = None;
    world.quirks.send_if_modified(|quirks| {
        let endpoint = &mut quirks.endpoint;
        taken = match &mut endpoint.fault_times {
            Some(0) => None,
            Some(times) => {
                *times -= 1;
                endpoint.fault.clone()
            }
            None => endpoint.fault.clone(),
        };
        // A change of the count wakes no waiting task.
        false
    });
    taken
}

fn fault_response(world: &World, fault: &Fault) -> Option<Response> {
    let html = |status, headers, body: &str| Some(Response { status, headers, body: body.into() });
    let of_html = ("content-type", "text/html".to_owned());
    match fault {
        Fault::Down => None,
        Fault::Status(status, retry_after) => {
            let retry_after = retry_after.map(|seconds| ("retry-after", seconds.to_string()));
            html(*status, retry_after.into_iter().chain([of_html]).collect(), "")
        }
        Fault::Html => html(503, vec![of_html], "<html><body><h2>Our services aren't available right now</h2>"),
        Fault::Garbage => html(200, vec![of_html], "<!DOCTYPE html><title>Sign in to your account</title>"),
        Fault::Error(error, code) => {
            Some(refusal_response(world, &Refusal::new(400, error, *code, "as the simulator was told.")))
        }
    }
}

fn refusal_response(world: &World, refusal: &Refusal) -> Response {
    world.count(|counts| counts.token_refusals += 1);
    world.log_event(format!("token endpoint: refused with {} (AADSTS{})", refusal.error, refusal.code));
    let id = || world.random_text().chars().take(22).collect::<String>();
    json(refusal.status, &refusal.body(world.now(), &id(), &id()))
}

fn with_date(world: &World, mut response: Response) -> Response {
    if world.quirk(|quirks| quirks.endpoint.clock_offset) != 0 {
        response.headers.push(("date", httpdate::fmt_http_date(world.now())));
    }
    response
}

type TokenResponse = Result<Response, Refusal>;

fn reply(status: u16, body: Value) -> TokenResponse {
    Ok(json(status, &body))
}

fn json(status: u16, body: &Value) -> Response {
    let headers =
        vec![("content-type", "application/json; charset=utf-8".to_owned()), ("cache-control", "no-store".to_owned())];
    Response { status, headers, body: body.to_string().into() }
}

/// A field of the request, or Entra's error about a missing one.
fn required_field<'a>(received: &'a Request, name: &str) -> Result<&'a str, Refusal> {
    received.field(name).ok_or_else(|| {
        let text = format!("The request body must contain the following parameter: '{name}'.");
        Refusal::new(400, "invalid_request", 900_144, text)
    })
}

/// The path of the page where a user types a device code.
const DEVICE_LOGIN: &str = "/devicelogin";
