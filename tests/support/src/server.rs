//! This file has mail servers that misbehave as a test wants them to.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslVersion};

use crate::certificates::Certificates;
use crate::connection::TlsStream;

/// Serves each connection with the function; returns the port. The thread ends with the test.
pub fn plain(serve: impl Fn(TcpStream) + Send + 'static) -> u16 {
    plain_at("127.0.0.1:0", serve)
}

/// Serves at another address.
pub fn plain_at(address: &str, serve: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind(address).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            serve(stream);
        }
    });
    port
}

/// Serves over TLS of at most this version; drops connections that fail the handshake.
pub fn tls(certificates: &Certificates, newest: SslVersion, serve: impl Fn(TlsStream) + Send + 'static) -> u16 {
    tls_at("127.0.0.1:0", certificates, newest, serve)
}

/// Serves each connection in a thread of its own, behind TLS 1.3.
pub fn threads(certificates: &Certificates, serve: impl Fn(TlsStream) + Clone + Send + 'static) -> u16 {
    tls(certificates, SslVersion::TLS1_3, move |stream| {
        let serve = serve.clone();
        std::thread::spawn(move || serve(stream));
    })
}

/// Serves over TLS at another address.
pub fn tls_at(
    address: &str,
    certificates: &Certificates,
    newest: SslVersion,
    serve: impl Fn(TlsStream) + Send + 'static,
) -> u16 {
    let context = context(certificates, |context| {
        context.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
        context.set_max_proto_version(Some(newest)).unwrap();
    });
    plain_at(address, move |stream| {
        if let Ok(stream) = Ssl::new(&context).unwrap().accept(stream.into()) {
            serve(stream);
        }
    })
}

/// A server's TLS with this certificate, and with what the function sets.
pub fn context(certificates: &Certificates, set: impl FnOnce(&mut SslContextBuilder)) -> SslContext {
    let mut context = SslContext::builder(SslMethod::tls_server()).unwrap();
    context.set_security_level(0);
    context.set_certificate(&certificates.leaf).unwrap();
    context.set_private_key(&certificates.key).unwrap();
    set(&mut context);
    context.build()
}

/// Sends these words, then reads until the peer closes.
pub fn say(mut stream: impl Read + Write, words: &str) {
    let _ = stream.write_all(words.as_bytes());
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Plays an IMAP server that agrees to everything, until the peer closes.
pub fn agree(mut stream: TlsStream) {
    let _ = stream.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2] ready\r\n");
    answer(stream);
}

/// Plays the same server without capabilities, so that devices are passed through by LOGIN.
pub fn take_passwords(mut stream: TlsStream) {
    let _ = stream.write_all(b"* OK ready\r\n");
    answer(stream);
}

/// Answers every command with OK, up to LOGOUT.
pub fn answer(mut stream: TlsStream) {
    answer_by(&mut stream, |_| Some("OK done"));
}

/// The same with answers by the function, to each command without its tag. It may end the conversation.
pub fn answer_by(stream: &mut TlsStream, mut status: impl FnMut(&str) -> Option<&'static str>) {
    loop {
        let line = hear(stream);
        let Some((tag, command)) = line.trim_end().split_once(' ') else { return };
        let Some(status) = status(command) else { return };
        let bye = if command == "LOGOUT" { "* BYE\r\n" } else { "" };
        let said = stream.write_all(format!("{bye}{tag} {status}\r\n").as_bytes());
        if said.is_err() || !bye.is_empty() {
            let _ = stream.shutdown();
            return;
        }
    }
}

/// An IMAP server that lets in whoever has this password, and says of every other login that it was one.
pub fn judge(mut stream: TlsStream, password: &str, wrong: impl Fn()) {
    let _ = stream.write_all(b"* OK ready\r\n");
    answer_by(&mut stream, |command| {
        if !command.contains("LOGIN") || command.contains(password) {
            return Some("OK done");
        }
        wrong();
        Some("NO [AUTHENTICATIONFAILED] no")
    });
}

/// Reads up to the next line end; returns the line.
pub fn hear(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut octet = [0];
    while octet != *b"\n" && stream.read_exact(&mut octet).is_ok() {
        line.push(octet[0]);
    }
    String::from_utf8_lossy(&line).into_owned()
}

/// Answers one token request (RFC 6749 §5.1) with this access token, whatever it asks.
pub fn hand_out(mut stream: TlsStream, token: &str) {
    let mut length = 0;
    loop {
        let line = hear(&mut stream).to_ascii_lowercase();
        match line.trim_end() {
            "" => break,
            line => length = line.strip_prefix("content-length: ").map_or(length, |length| length.parse().unwrap()),
        }
    }
    stream.read_exact(&mut vec![0; length]).unwrap();
    let body = format!("{{\"token_type\":\"Bearer\",\"expires_in\":36000,\"access_token\":\"{token}\"}}");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length:";
    stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
    let _ = stream.shutdown();
}
