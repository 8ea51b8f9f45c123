//! This file feeds any octets to the parsers of untrusted input: none panics, and each result is true of its input.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use packetboat::config::{Config, Limits, Roots};
use packetboat::proto::sasl::{Exchange, Mechanism, Next};
use packetboat::token;
use packetboat::transport::detect::hello::{self, ClientHello};
use packetboat::transport::http::{Client, Request};
use packetboat::transport::proxy_header;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A SASL exchange: the first octet chooses the mechanism, lines are responses.
pub fn sasl(input: &[u8]) {
    let Some((first, lines)) = input.split_first() else { return };
    let mechanism = match first % 3 {
        0 => Mechanism::Plain,
        1 => Mechanism::Login,
        _ => Mechanism::Xoauth2,
    };
    let mut exchange = Exchange::new(mechanism);
    let mut next = if first & 128 == 0 { exchange.begin(None) } else { Next::Challenge("") };
    for line in lines.split(|&octet| octet == b'\n').take(8) {
        match next {
            Next::Challenge(_) => {}
            Next::Done(credentials) => {
                // No octet in the credentials ends a line or a field towards the server, where each is read as such.
                assert!(credentials.is_sane());
                let mut again = Exchange::new(mechanism);
                let mut read = again.begin(None);
                for response in credentials.responses() {
                    assert!(response.iter().all(|octet| octet.is_ascii_alphanumeric() || b"+/=".contains(octet)));
                    assert!(matches!(read, Next::Challenge(_)), "{read:?}");
                    read = again.respond(&response);
                }
                let Next::Done(read) = read else { panic!("{read:?}") };
                assert_eq!(read.login, credentials.login);
                assert_eq!(read.authzid, credentials.authzid);
                assert_eq!(read.secret.expose(), credentials.secret.expose());
                return;
            }
            Next::Cancelled | Next::Malformed(_) => return,
        }
        next = exchange.respond(line);
    }
}

/// Parses a connection's first octets. Octets that do not begin TLS never become TLS, and a complete
/// beginning never changes its kind.
pub fn client_hello(input: &[u8]) {
    let whole = ClientHello::parse(input);
    if let hello::Parsed::Complete(hello) = &whole {
        let words = hello.describe();
        assert!(words.len() < 4096, "{} octets", words.len());
        assert!(!words.contains(|c: char| c.is_control()), "{words:?}");
        let fingerprint = hello.fingerprint();
        assert!(fingerprint.len() == 36 && fingerprint.is_ascii(), "{fingerprint:?}");
    }
    let mut decided = None;
    // Short input is cut everywhere, long input at some places.
    for cut in (0..input.len()).step_by(1 + input.len() / 256) {
        let parsed = ClientHello::parse(&input[..cut]);
        match &decided {
            None if parsed == hello::Parsed::Incomplete => {}
            None => decided = Some(parsed),
            Some(before) => assert_eq!(&parsed, before, "at {cut}"),
        }
    }
    if let Some(before) = decided {
        assert_eq!(before, whole);
    }
}

/// Parses a balancer's header: the length is within the input, and the source is one that the header names.
pub fn proxy_header(input: &[u8]) {
    let whole = proxy_header::parse(input);
    if let proxy_header::Parsed::Header { len, .. } = whole {
        assert!(len <= input.len());
        assert_eq!(proxy_header::parse(&input[..len]), whole, "what comes behind it has no say");
        for cut in (0..len).step_by(1 + len / 128) {
            assert_eq!(proxy_header::parse(&input[..cut]), proxy_header::Parsed::Incomplete, "at {cut}");
        }
    }
}

/// Parses a token endpoint's answer, from the first octet on the wire: a token, or an error that repeats nothing of
/// one.
pub fn endpoint(input: &[u8]) {
    match token_of(input) {
        Some(Ok(token)) => {
            let secret = token.secret().expose();
            assert!(!secret.is_empty() && secret.iter().all(u8::is_ascii_graphic));
            let _ = token.claims();
            assert!(token.left() > std::time::Duration::ZERO);
        }
        Some(Err(words)) => {
            assert!(words.len() < 2048, "{} octets", words.len());
            assert!(!words.contains(|c: char| c.is_control()), "{words:?}");
            // The seeds and the dictionary use these strings in the place of a token.
            assert!(!words.contains("eyJ") && !words.contains("secretrefresh"), "{words:?}");
        }
        // The input is no HTTP response.
        None => {}
    }
}

/// The result of an answer.
pub fn token_of(input: &[u8]) -> Option<Result<token::AccessToken, String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let client = Client::new("http://127.0.0.1/token", &Roots::Bundled, &LIMITS).unwrap();
    let wire = Wire { says: input.to_vec(), was_asked: false, waiting: None };
    let answered = runtime.block_on(client.ask_over(wire, Request::default())).ok()?;
    assert!(answered.body.len() <= 1 << 20);
    let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000);
    Some(token::read(client.host(), &answered, now).map_err(|refusal| refusal.to_string()))
}

/// Parses a configuration: it is proven, or refused with problems that name the file and a line of it.
pub fn configuration(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let file = Path::new("packetboat.toml");
    let problems = match Config::parse(text, file) {
        Ok(proven) => proven.warnings,
        Err(problems) => {
            assert!(!problems.is_empty());
            problems
        }
    };
    let lines = text.lines().count().max(1);
    for problem in problems {
        assert!(problem.line.is_none_or(|line| (1..=lines + 1).contains(&line)), "{problem:?} of {lines}");
        assert!(!problem.message.is_empty());
        assert!(problem.to_string().starts_with("packetboat.toml:"), "{problem}");
    }
}

static LIMITS: LazyLock<Limits> = LazyLock::new(|| {
    // This configuration is proven without reading a file.
    Config::parse(OBSERVING, Path::new("packetboat.toml")).unwrap().config.limits
});

const OBSERVING: &str = "[[listener]]\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:0\"]\nobserve = true\n";

/// A stream that returns the same answer to any request.
struct Wire {
    says: Vec<u8>,
    was_asked: bool,
    waiting: Option<Waker>,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.was_asked {
            self.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = room.remaining().min(self.says.len());
        room.put_slice(&self.says.drain(..count).collect::<Vec<_>>());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.was_asked = true;
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
