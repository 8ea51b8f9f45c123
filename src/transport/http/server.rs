//! The other side of HTTP: for the page and metrics, for a redirect that comes back, and for the simulator.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http_body_util::Full;
use hyper::StatusCode;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HOST};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::collect;
use crate::secret::Secret;

/// A request that came to us.
pub struct Request {
    /// As `GET`.
    pub method: String,
    /// As `/tenant/oauth2/v2.0/token`.
    pub path: String,
    /// The fields of the query and of the form, decoded.
    pub fields: Vec<(String, String)>,
    /// Whom it is meant for.
    pub host: Option<String>,
    /// Its bearer token (RFC 6750 §2.1).
    pub bearer: Option<Secret>,
    /// Whether it has this header with this value.
    metadata: bool,
}

impl Request {
    /// The first field of that name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether it has the header `Metadata: true`, which IMDS insists on.
    pub fn has_metadata_header(&self) -> bool {
        self.metadata
    }
}

/// What we answer.
#[derive(Clone)]
pub struct Response {
    /// As 200.
    pub status: u16,
    /// With the content type.
    pub headers: Vec<(&'static str, String)>,
    /// Text of the content type.
    pub body: Body,
}

/// The octets of an answer: one copy for all peers that it is sent to.
#[derive(Clone)]
pub struct Body(Arc<Vec<u8>>);

/// Tells whether a body is still being sent.
pub struct BodyWatch(Weak<Vec<u8>>);

impl Body {
    /// Whether anybody but the holder of this one holds it.
    pub fn is_held_elsewhere(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// What tells later whether this one is still being sent. It keeps nothing of the body.
    pub fn watch(&self) -> BodyWatch {
        BodyWatch(Arc::downgrade(&self.0))
    }
}

impl BodyWatch {
    /// Whether the last holder of the body has let go of it.
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

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Response {
    /// Of this content type.
    pub fn of(status: u16, content_type: &str, body: impl Into<Body>) -> Self {
        Self { status, headers: vec![("content-type", content_type.to_owned())], body: body.into() }
    }

    /// For people.
    pub fn text(status: u16, body: impl Into<Body>) -> Self {
        Self::of(status, "text/plain; charset=utf-8", body)
    }
}

/// What becomes of the bodies of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bodies {
    /// They are forms.
    Read,
    /// Nobody waits for them.
    Ignored,
}

/// Serves one connection until the peer closes it.
pub async fn serve<S, F>(stream: S, bodies: Bodies, answer: impl Fn(Request) -> F + Send + Sync + 'static)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = Response> + Send,
{
    let answer = Arc::new(answer);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answer = Arc::clone(&answer);
        async move {
            let Some(request) = read(request, bodies).await else {
                let mut refusal = hyper::Response::new(Full::new(Bytes::from_static(b"bad request")));
                *refusal.status_mut() = StatusCode::BAD_REQUEST;
                return Ok::<_, Infallible>(refusal);
            };
            let response = answer(request).await;
            let mut built = hyper::Response::builder().status(response.status);
            for (name, value) in response.headers {
                built = built.header(name, value);
            }
            Ok(built.body(Full::new(Bytes::from_owner(response.body))).unwrap_or_default())
        }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    // Who says nothing for so long is let go, also between two requests.
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    if bodies == Bodies::Ignored {
        // Requests that are sent ahead of their answers wait in the kernel.
        server.max_buf_size(LARGEST_REQUEST);
    }
    // A peer that breaks off has broken off.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn read(request: hyper::Request<Incoming>, bodies: Bodies) -> Option<Request> {
    let (head, body) = request.into_parts();
    let body = match bodies {
        Bodies::Read => collect(body).await.ok()?,
        Bodies::Ignored => Zeroizing::default(),
    };
    let query = head.uri.query().unwrap_or_default().as_bytes();
    let fields = [query, body.as_slice()].into_iter().flat_map(form_urlencoded::parse);
    Some(Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        fields: fields.map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
        host: head.headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned),
        bearer: head.headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())),
        metadata: head.headers.get("metadata").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true")),
    })
}

fn bearer(value: &[u8]) -> Option<Secret> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| Secret::new(token.trim_ascii().to_vec()))
}

const PATIENCE: Duration = Duration::from_secs(60);
/// Browsers send the cookies of every other program of this computer along.
const LARGEST_REQUEST: usize = 32 * 1024;
