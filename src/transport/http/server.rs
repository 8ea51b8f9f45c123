//! The server's side of HTTP: for the page and metrics, for a sign-in's redirect, and for the simulator.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::event_stream::{EventStream, Outgoing};
use super::{collect, collect_up_to};
use crate::secret::Secret;

/// A request that was received.
#[derive(Default)]
pub struct Request {
    /// The method, as `GET`.
    pub method: String,
    /// The path, as `/tenant/oauth2/v2.0/token`.
    pub path: String,
    /// The fields of the query and of the form, decoded.
    pub fields: Vec<(String, String)>,
    /// The `Host` header.
    pub host: Option<String>,
    /// The bearer token (RFC 6750 §2.1).
    pub bearer: Option<Secret>,
    /// The origin of the page whose script or form has sent it, as `http://127.0.0.1:9143`.
    pub origin: Option<String>,
    /// The relation of that page to this server, as browsers tell it in `Sec-Fetch-Site`.
    pub fetch_site: Option<String>,
    /// The form token, from the header `X-Form-Token`: a page of another site can neither read nor send it.
    pub form_token: Option<Secret>,
    /// True if it has the header `Metadata: true`.
    metadata: bool,
}

impl Request {
    /// Returns the first field of that name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns whether it has the header `Metadata: true`, which IMDS insists on.
    pub fn has_metadata_header(&self) -> bool {
        self.metadata
    }
}

/// A response to be sent.
#[derive(Clone)]
pub struct Response {
    /// The status code, as 200.
    pub status: u16,
    /// The header fields, with the content type.
    pub headers: Vec<(&'static str, String)>,
    /// The body, of that content type.
    pub body: Body,
}

/// An answer: a response, whole or with a stream of events in the place of its body.
pub struct Answer {
    /// The response.
    pub response: Response,
    events: Option<EventStream>,
}

impl Answer {
    /// An answer that goes on.
    pub fn events(stream: EventStream) -> Self {
        let mut response = Response::of(200, "text/event-stream", "");
        // The connection ends with the stream.
        response.headers.push(("connection", "close".to_owned()));
        Self { response, events: Some(stream) }
    }

    /// Returns whether it goes on.
    pub fn is_stream(&self) -> bool {
        self.events.is_some()
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self { response, events: None }
    }
}

/// The octets of a response: one copy for all peers that it is sent to.
#[derive(Clone)]
pub struct Body(Arc<Vec<u8>>);

/// A watch on a body: it tells whether the body is still being sent.
pub struct BodyWatch(Weak<Vec<u8>>);

impl Body {
    /// Returns whether anybody but the holder of this one holds the octets.
    pub fn is_held_elsewhere(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Returns a watch on this body. It keeps nothing of the body.
    pub fn watch(&self) -> BodyWatch {
        BodyWatch(Arc::downgrade(&self.0))
    }
}

impl BodyWatch {
    /// Returns whether the last holder of the body has dropped it.
    pub fn is_done(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self(Arc::new(text.into_bytes()))
    }
}

impl From<Vec<u8>> for Body {
    fn from(octets: Vec<u8>) -> Self {
        Self(Arc::new(octets))
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Response {
    /// A response of this content type.
    pub fn of(status: u16, content_type: &str, body: impl Into<Body>) -> Self {
        Self { status, headers: vec![("content-type", content_type.to_owned())], body: body.into() }
    }

    /// A response in plain text.
    pub fn text(status: u16, body: impl Into<Body>) -> Self {
        Self::of(status, "text/plain; charset=utf-8", body)
    }
}

/// The treatment of request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bodies {
    /// The server reads request bodies, as forms.
    Read,
    /// The server reads short forms of `POST` requests, and does not wait for other bodies.
    Forms,
}

/// Serves one connection until the peer closes it.
pub async fn serve<S, F, A>(stream: S, bodies: Bodies, answer: impl Fn(Request) -> F + Send + Sync + 'static)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = A> + Send,
    A: Into<Answer>,
{
    let answer = Arc::new(answer);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answer = Arc::clone(&answer);
        async move {
            let Some(request) = read(request, bodies).await else {
                let mut refusal = hyper::Response::new(Outgoing::Whole(Full::new(Bytes::from_static(b"bad request"))));
                *refusal.status_mut() = StatusCode::BAD_REQUEST;
                return Ok::<_, Infallible>(refusal);
            };
            let Answer { response, events } = answer(request).await.into();
            let mut built = hyper::Response::builder().status(response.status);
            for (name, value) in response.headers {
                built = built.header(name, value);
            }
            let whole = || Outgoing::Whole(Full::new(Bytes::from_owner(response.body)));
            Ok(built.body(events.map_or_else(whole, Outgoing::Events)).unwrap_or_default())
        }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    // A client that is silent for this long is disconnected, also between two requests.
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    if bodies == Bodies::Forms {
        // Requests that are sent ahead of their answers wait in the kernel.
        server.max_buf_size(LARGEST_REQUEST);
    }
    // A peer that breaks off has broken off.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn read(request: hyper::Request<Incoming>, bodies: Bodies) -> Option<Request> {
    let (head, body) = request.into_parts();
    let is_form = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(FORM));
    let body = match bodies {
        Bodies::Read => collect(body).await.ok()?,
        Bodies::Forms if head.method == Method::POST && is_form => {
            timeout(FORM_PATIENCE, collect_up_to(LONGEST_FORM, body)).await.ok()?.ok()?
        }
        Bodies::Forms => Zeroizing::default(),
    };
    let text = |name: &str| text(&head.headers, name);
    let query = head.uri.query().unwrap_or_default().as_bytes();
    let fields = [query, body.as_slice()].into_iter().flat_map(form_urlencoded::parse);
    Some(Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        fields: fields.map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
        host: text(HOST.as_str()),
        bearer: head.headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())),
        origin: text(ORIGIN.as_str()),
        fetch_site: text("sec-fetch-site"),
        form_token: head.headers.get("x-form-token").map(|value| Secret::new(value.as_bytes().to_vec())),
        metadata: head.headers.get("metadata").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true")),
    })
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn bearer(value: &[u8]) -> Option<Secret> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| Secret::new(token.trim_ascii().to_vec()))
}

const FORM: &[u8] = b"application/x-www-form-urlencoded";
/// In octets.
const LONGEST_FORM: usize = 16 * 1024;
const FORM_PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest request: browsers send the cookies of every other program of this computer along.
const LARGEST_REQUEST: usize = 32 * 1024;
