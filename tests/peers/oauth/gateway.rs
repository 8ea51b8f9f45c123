//! These tests prove that a gateway's changes to a token endpoint's answer are accepted where possible, and named
//! otherwise.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use support::exchange::*;
use support::server;

const JSON: &str = "{\"token_type\":\"Bearer\",\"expires_in\":3599,\"access_token\":\"abc\"}";

/// The output of `check --online` about a token with this answer, and the request's head.
fn told(answer: impl Into<Vec<u8>>) -> (String, String) {
    let (answer, heard) = (answer.into(), Arc::new(Mutex::new(String::new())));
    let keep = Arc::clone(&heard);
    let port = server::plain(move |mut stream| {
        *keep.lock().unwrap() = request(&mut stream);
        let _ = stream.write_all(&answer);
    });
    let exchange = Exchange::new();
    let endpoint = format!("token_endpoint = \"http://localhost:{port}/token\"\n{BY_SECRET}");
    let ran = exchange.run(&["check", "--online"], &exchange.configuration(&endpoint));
    let line = ran.output.lines().find(|line| line.trim_start().starts_with("identity office: token "));
    let heard = heard.lock().unwrap().clone();
    (line.unwrap_or_else(|| panic!("{}{}", ran.output, ran.errors)).to_owned(), heard)
}

/// Reads a request with its body; returns the head.
fn request(stream: &mut TcpStream) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head += &server::hear(stream);
    }
    let length = head.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap().parse().unwrap();
    stream.take(length).read_to_end(&mut Vec::new()).unwrap();
    head
}

fn answer(head: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("{head}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A good answer stays good, whatever a gateway adds or changes.
#[test]
fn changes_of_gateways_are_accepted() {
    let many: String = (0..500).map(|number| format!("\r\nX-Gateway-{number}: {number}")).collect();
    let chunked = format!("{:x}\r\n{JSON}\r\n0\r\nX-Trailer: 1\r\n\r\n", JSON.len());
    for good in [
        answer("HTTP/1.1 200 OK\r\nContent-Type: application/json", format!("\u{feff}{JSON}")),
        answer(&format!("HTTP/1.1 200 OK{many}"), JSON),
        answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK", JSON),
        answer(
            "HTTP/1.1 200\r\nCONTENT-ENCODING: IDENTITY\r\nCONTENT-TYPE: TEXT/JSON;CHARSET=ISO-8859-1",
            format!("\r\n{JSON}"),
        ),
        answer("HTTP/1.1 200 OK\r\nX Gateway: a name that is none\r\nX-Folded: one,\r\n two", JSON),
        format!("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n{JSON}").into_bytes(),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}").into_bytes(),
        answer("HTTP/1.1 200 OK", JSON.replace("3599", "[3599]").replace("\"Bearer\"", "null")),
    ] {
        let (line, heard) = told(good.clone());
        assert!(line.contains("ok: "), "{line} of {}", String::from_utf8_lossy(&good));
        assert!(heard.contains("\r\naccept-encoding: identity\r\n"), "{heard}");
    }
}

/// An unusable answer is named, with the likely culprit.
#[test]
fn answers_spoilt_by_gateways_are_named() {
    let many: String = (0..1001).map(|number| format!("\r\nX-Gateway-{number}: {number}")).collect();
    let long = format!("\r\nX-Gateway: {}", "x".repeat(1 << 20));
    let page = "\u{feff}\r\n<!DOCTYPE html><title>Sign in</title>";
    let refusal =
        b"{\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: Ung\xfcltig\",\"correlation_id\":1}";
    let utf_16: Vec<u8> = JSON.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bad, words) in [
        (
            answer("HTTP/1.1 200 OK\r\nContent-Encoding: gzip", b"\x1f\x8b\x08"),
            "compressed (gzip), though packetboat asks",
        ),
        (answer("HTTP/1.1 200 OK\r\nContent-Encoding: br", b"\x0b\x02"), "compressed (br), though packetboat asks"),
        (answer("HTTP/1.1 200 OK", b"\x1f\x8b\x08\0"), "compressed (gzip), though packetboat asks"),
        (answer(&format!("HTTP/1.1 200 OK{many}"), JSON), "more than 1000 header fields"),
        (answer(&format!("HTTP/1.1 200 OK{long}"), JSON), "or more than 262144 octets of them"),
        (answer("HTTP/1.1 200 OK", "x".repeat(1 << 20)), "its answer cannot be read: more than 262144 octets"),
        (answer("HTTP/1.1 200 OK", page), "the answer is a web page: a gateway or its sign-in page"),
        (
            answer("HTTP/1.1 302 Found\r\nLocation: https://portal.example:8443/?back=s", ""),
            "redirects to portal.example: a web proxy",
        ),
        (
            answer("HTTP/1.1 511 Network Authentication Required", page),
            "a web proxy stands in between, and wants a sign-in",
        ),
        (answer("HTTP/1.1 200 OK", utf_16), "the answer is in UTF-16"),
        (
            answer("HTTP/1.1 401 Unauthorized", refusal),
            "says invalid_client, AADSTS7000215: the client secret is wrong",
        ),
        (b"220 mail.example ESMTP\r\n".to_vec(), "answers something else than HTTP/1.1"),
    ] {
        let (line, _) = told(bad.clone());
        assert!(line.contains("failed: ") && line.contains(words), "{words} not in {line}");
    }
}

/// `aud` may be a list, and a claim of an unexpected form hides no other (RFC 7519 §4.1.3).
#[test]
fn a_token_with_several_audiences_is_described() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let claims = "{\"aud\":[\"https://outlook.office365.com\",\"b\"],\"exp\":\"1.5e9\",\"roles\":\"IMAP.AccessAsApp\",\"upn\":{}}";
    let token = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims));
    let (line, _) = told(answer("HTTP/1.1 200 OK", JSON.replace("abc", &token)));
    assert!(line.contains("ok: for https://outlook.office365.com and b, roles IMAP.AccessAsApp, "), "{line}");
}
