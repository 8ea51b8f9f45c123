//! HTTP/1.1 in its simplest form: one request, one response. Only this file and its parts know hyper.

mod error;
pub mod event_stream;
pub mod server;

use std::pin::pin;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, DATE, HOST, LOCATION, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::host;
use super::upstream::Connector;
use crate::config::{Limits, Roots, url};
use crate::failure::{Failure, Kind};
pub use error::Error;

/// A request to a server.
#[derive(Debug, Default)]
pub struct Request {
    /// The form of a `POST`; none for a `GET`.
    pub form: Option<Zeroizing<String>>,
    /// The query, without `?`.
    pub query: String,
    /// Header fields beside the usual ones.
    pub headers: Vec<(&'static str, &'static str)>,
}

/// The response of a server.
#[derive(Default)]
pub struct Response {
    /// The status code, as 200.
    pub status: u16,
    /// The server's clock, where it sends it.
    pub date: Option<SystemTime>,
    /// The time after which to try again.
    pub retry_after: Option<Duration>,
    /// The compression of the body, which nobody asked for (RFC 9110 §8.4).
    pub compression: Option<String>,
    /// The host that it redirects to (RFC 9110 §10.2.2). The redirect is never followed: the request holds secrets.
    pub redirect: Option<String>,
    /// The body, no longer than [`LONGEST_BODY`]; it may hold tokens.
    pub body: Zeroizing<Vec<u8>>,
}

/// A client of one resource on one server.
pub struct Client {
    /// The TLS connector; `None` without TLS.
    connector: Option<Connector>,
    host: String,
    port: u16,
    authority: String,
    path: String,
    patience: Duration,
    keep_alive: Duration,
}

/// Returns the host of an address, as its certificate has to name it.
pub fn host_of(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    Some(uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned())
}

impl Client {
    /// A client for this address: `https`, except for services of this computer or network (IMDS).
    ///
    /// # Errors
    /// It is no such address, or the roots cannot be read.
    pub fn new(url: &str, roots: &Roots, limits: &Limits) -> Result<Self, Error> {
        let uri: Uri = url.parse().map_err(|_| Error::NoUrl)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(Error::NoUrl);
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (connector, port) = match scheme {
            "https" => {
                let connector = Connector::new(&host, roots, limits).map_err(Error::Connector)?;
                (Some(connector), 443)
            }
            "http" if url::is_local(&host) => (None, 80),
            _ => return Err(Error::NoHttps),
        };
        let port = authority.port_u16().unwrap_or(port);
        let path = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let authority = authority.as_str().to_owned();
        Ok(Self { connector, host, port, authority, path, patience: PATIENCE, keep_alive: limits.keep_alive })
    }

    /// Returns the name of the host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Sends a request over a connection of its own.
    ///
    /// # Errors
    /// [`Kind::TokenUnavailable`]: the server is not reached, its certificate is not accepted, it breaks off, or its
    /// response is too long or malformed. A response with an error status is a [`Response`].
    pub async fn ask(&self, request: Request) -> Result<Response, Failure> {
        let asking = async {
            match &self.connector {
                Some(connector) => {
                    let tcp = connector.dial(self.port).await?;
                    self.ask_over(connector.handshake(tcp).await?, request).await
                }
                None => {
                    let addresses = host::resolve(&self.host, self.port, self.patience).await;
                    let addresses = addresses.map_err(|error| self.failed(&error))?;
                    let tcp = tokio::net::TcpStream::connect(addresses.as_slice()).await;
                    let tcp = tcp.map_err(|error| self.failed(&error))?;
                    super::tune(&tcp, self.keep_alive).map_err(|error| self.failed(&error))?;
                    self.ask_over(tcp, request).await
                }
            }
        };
        match within(self.patience, asking).await {
            Ok(result) => result.map_err(|failure| {
                let why = match failure.kind {
                    Kind::Resolve => "the endpoint's name does not resolve: ",
                    Kind::Connect => "the endpoint cannot be reached: ",
                    Kind::UpstreamCertificate => "the endpoint's certificate is not accepted: ",
                    Kind::UpstreamTls => "TLS with the endpoint fails: ",
                    Kind::UpstreamTimeout => "the endpoint does not answer: ",
                    _ => "",
                };
                Failure::new(Kind::TokenUnavailable, format!("{why}{}", failure.detail))
            }),
            Err(_) => Err(self.failed(&"no answer in time")),
        }
    }

    /// Sends a request over an open connection; bound it with a timeout.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask).
    pub async fn ask_over<S>(&self, stream: S, request: Request) -> Result<Response, Failure>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let target = match (request.query.as_str(), self.path.contains('?')) {
            ("", _) => self.path.clone(),
            (query, true) => format!("{}&{query}", self.path),
            (query, false) => format!("{}?{query}", self.path),
        };
        let mut head = hyper::Request::builder()
            .uri(target)
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("packetboat/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "identity");
        for (name, value) in request.headers {
            head = head.header(name, value);
        }
        let request = match request.form {
            Some(form) => head
                .method(Method::POST)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Full::new(Bytes::from_owner(form))),
            None => head.body(Full::default()),
        };
        let request = request.map_err(|error| self.failed(&error))?;
        // Gateways add header fields of their own, not all of them well-formed.
        let mut client = http1::Builder::new();
        client.max_headers(MOST_HEADERS).max_buf_size(LONGEST_HEAD).ignore_invalid_headers_in_responses(true);
        client.allow_obsolete_multiline_headers_in_responses(true);
        let (mut sender, connection) =
            client.handshake(TokioIo::new(stream)).await.map_err(|error| self.failed(&error))?;
        let response = async {
            let response = sender.send_request(request).await.map_err(|error| self.failed(&Error::Exchange(error)))?;
            self.read(response).await
        };
        tokio::select! {
            response = response => response,
            // The connection ends after its last answer. An earlier end is a failure, which the answer reports.
            () = async { let _ = connection.await; std::future::pending().await } => Err(self.failed(&"it broke off")),
        }
    }

    async fn read(&self, response: hyper::Response<Incoming>) -> Result<Response, Failure> {
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok().map(str::trim));
        let date = header(DATE).and_then(|date| httpdate::parse_http_date(date).ok());
        let retry_after = header(RETRY_AFTER).and_then(|value| retry_after(value, date));
        let compression = header(CONTENT_ENCODING).filter(|coding| !coding.eq_ignore_ascii_case("identity"));
        let compression = compression.filter(|coding| !coding.is_empty()).map(str::to_owned);
        let status = response.status();
        let redirect = header(LOCATION).filter(|_| status.is_redirection()).map(|target| self.host_of(target));
        let body = collect(response.into_body()).await;
        let body = body.map_err(|why| self.failed(&format_args!("its answer cannot be read: {why}")))?;
        Ok(Response { status: status.as_u16(), date, retry_after, compression, redirect, body })
    }

    /// Returns the host that a redirect leads to; the rest of it may repeat the request.
    fn host_of(&self, target: &str) -> String {
        let uri: Option<Uri> = target.parse().ok();
        uri.and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_else(|| self.host.clone())
    }

    fn failed(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure::new(Kind::TokenUnavailable, format!("{}: {why}", self.host))
    }
}

/// Waits for a future, and a moment longer where the time is over: a process that was stopped meanwhile finds both the
/// end of the time and the answer, and the answer may hold a refresh token that comes once.
///
/// # Errors
/// The time is over.
pub async fn within<F: Future>(patience: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    match timeout(patience, &mut future).await {
        Ok(output) => Ok(output),
        Err(_) => timeout(MOMENT, future).await,
    }
}

/// Sends a `GET` over a connection to a server of this computer. Returns its status and its body, up to `most` octets.
///
/// # Errors
/// It breaks off, says more, or does not answer in time.
pub async fn get<S>(stream: S, path: &str, patience: Duration, most: usize) -> Result<(u16, Zeroizing<Vec<u8>>), Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let request = hyper::Request::builder().uri(path).header(HOST, "localhost").body(Full::<Bytes>::default())?;
    exchange(stream, request, patience, most).await
}

/// Sends a form in a `POST` over a connection to a server of this computer. Returns its status and its body.
///
/// # Errors
/// It breaks off, says too much, or does not answer in time.
pub async fn post<S>(
    stream: S,
    path: &str,
    form: String,
    patience: Duration,
) -> Result<(u16, Zeroizing<Vec<u8>>), Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let request = hyper::Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form)))?;
    exchange(stream, request, patience, LONGEST_BODY).await
}

async fn exchange<S>(
    stream: S,
    request: hyper::Request<Full<Bytes>>,
    patience: Duration,
    most: usize,
) -> Result<(u16, Zeroizing<Vec<u8>>), Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let asking = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let asking = async {
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            Ok((status, collect_up_to(most, response.into_body()).await?))
        };
        tokio::select! {
            response = asking => response,
            () = async { let _ = connection.await; std::future::pending().await } => Err(Error::BrokenOff),
        }
    };
    timeout(patience, asking).await.unwrap_or(Err(Error::Late))
}

/// Encodes pairs as a form or a query.
pub fn encode(pairs: &[(&str, &str)]) -> Zeroizing<String> {
    let mut serializer = form_urlencoded::Serializer::new(String::new());
    serializer.extend_pairs(pairs);
    Zeroizing::new(serializer.finish())
}

/// Decodes the pairs of a query.
pub fn decode(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(query.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

async fn collect(body: impl Body<Data = Bytes, Error = hyper::Error> + Unpin) -> Result<Zeroizing<Vec<u8>>, Error> {
    collect_up_to(LONGEST_BODY, body).await
}

async fn collect_up_to(
    most: usize,
    body: impl Body<Data = Bytes, Error = hyper::Error> + Unpin,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    match Limited::new(body, most).collect().await {
        Ok(body) => Ok(Zeroizing::new(body.to_bytes().to_vec())),
        Err(error) if error.is::<LengthLimitError>() => Err(Error::TooLong(most)),
        Err(error) => Err(Error::Body(error)),
    }
}

/// Reads `Retry-After`: seconds, or a date (RFC 9110 §10.2.3), counted from the server's own clock.
fn retry_after(value: &str, now: Option<SystemTime>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(value).ok()?.duration_since(now.unwrap_or_else(SystemTime::now)).ok()
}

/// Longest exchange, from the name's resolution on.
const PATIENCE: Duration = Duration::from_secs(30);
/// The wait for an answer that came while this process was stopped.
const MOMENT: Duration = Duration::from_millis(200);
/// Longest body of a request or a response, in octets.
pub const LONGEST_BODY: usize = 256 * 1024;
/// Most header fields of a response: hyper's own limit is 100, and gateways have been seen to go beyond.
const MOST_HEADERS: usize = 1000;
/// Longest header of a response, in octets.
const LONGEST_HEAD: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_over_https_alone() {
        let limits = crate::config::Config::parse("", std::path::Path::new("x")).unwrap().config.limits;
        let client = |url| Client::new(url, &Roots::Bundled, &limits).map(|client| (client.host, client.port)).ok();
        assert_eq!(client("https://login.example.com/t/token"), Some(("login.example.com".to_owned(), 443)));
        assert_eq!(client("http://169.254.169.254/metadata"), Some(("169.254.169.254".to_owned(), 80)));
        assert_eq!(client("https://[::1]:8443/"), Some(("::1".to_owned(), 8443)));
        for bad in ["http://login.example.com/", "login.example.com", "/token", "ftp://login.example.com/"] {
            assert!(client(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn retry_after_in_both_forms() {
        let now = httpdate::parse_http_date("Sat, 21 Nov 2026 10:00:00 GMT").unwrap();
        assert_eq!(retry_after("120", None), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sat, 21 Nov 2026 10:01:00 GMT", Some(now)), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("soon", None), None);
    }
}
