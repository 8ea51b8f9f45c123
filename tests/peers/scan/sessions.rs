//! These tests prove which TLS state outlives a connection, and that a device cannot abuse renegotiation.
//!
//! Nothing is handed out that would open a session: a device gets a number, and the keys stay in this process's memory,
//! for two hours. So there are no ticket keys to be rotated, kept or stolen.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use openssl::ssl::{SslSession, SslSessionCacheMode, SslVersion};

use super::profiles;
use support::certificates::Certificates;
use support::device::Device;
use support::imap::Imap;
use support::proxy::{Proxy, listener};
use support::record::{ALERT, DATA, Ending, HANDSHAKE, Hello, TLS1_0, TLS1_1, TLS1_2, answer};
use support::stacks::{Start, openssl};
use support::tls_client::{Client, ECDHE_SHA256, RSA_SHA};

/// A listener, a version and a suite for each case.
const EACH: &[(&str, u16, u16)] = &[
    ("modern", TLS1_2, ECDHE_SHA256),
    ("legacy", TLS1_0, RSA_SHA),
    ("legacy", TLS1_1, RSA_SHA),
    ("legacy", TLS1_2, RSA_SHA),
    ("ancient", TLS1_0, RSA_SHA),
];

/// The extension of RFC 5077.
const TICKET: u16 = 35;

#[test]
fn no_ticket_is_given_out_and_none_is_looked_at() {
    let proxy = profiles();
    for &(profile, version, suite) in EACH {
        // The client asks for a ticket, or sends one as if the listener had issued it.
        for ticket in [Vec::new(), vec![0x5a; 192], vec![0x5a; 16]] {
            let hello = Hello::new(version, &[suite]).with(TICKET, &ticket);
            let mut client = Client::with(proxy.address(profile), hello);
            assert_eq!(client.server.extension(TICKET), None, "{profile} {version:#06x}");
            assert_eq!(client.finish(), [20], "Finished alone, no NewSessionTicket: {profile} {version:#06x}");
            assert!(client.line().starts_with("* OK"));
        }
    }
}

/// A session of that listener, as the ClientHello that would resume it.
fn session(address: SocketAddr, version: u16, suite: u16) -> Hello {
    let mut client = Client::connect(address, version, suite);
    client.line();
    assert_eq!(client.server.session.len(), 32);
    Hello { session: client.server.session.clone(), ..client.hello }
}

fn is_resumed(address: SocketAddr, hello: &Hello) -> bool {
    answer(address, hello).is_ok_and(|server| server.session == hello.session)
}

/// A session names its cipher suite, and must not carry that suite to a listener that would refuse it.
#[test]
fn a_session_is_resumed_where_it_was_made_and_as_it_was_made() {
    let proxy = profiles();
    let another = profiles();
    for &(profile, version, suite) in EACH {
        let hello = session(proxy.address(profile), version, suite);
        assert!(is_resumed(proxy.address(profile), &hello), "{profile} {version:#06x}");
        for other in ["modern", "legacy", "ancient"].into_iter().filter(|other| *other != profile) {
            assert!(!is_resumed(proxy.address(other), &hello), "{profile} to {other}");
        }
        // Another process stands for a restart.
        assert!(!is_resumed(another.address(profile), &hello), "{profile} to another process");
        // The client asks for an older version than the session's, or for other suites.
        for other in [TLS1_0, TLS1_1, TLS1_2].into_iter().filter(|other| *other != version) {
            let older = Hello { version: other, ..hello.clone() };
            assert!(!is_resumed(proxy.address(profile), &older), "{profile} {version:#06x} as {other:#06x}");
        }
        let others = Hello { suites: vec![0xc030, 0x0035], ..hello.clone() };
        assert!(!is_resumed(proxy.address(profile), &others), "{profile} {version:#06x}");
        // One octet is wrong, as in a guess.
        let mut guessed = hello.clone();
        guessed.session[31] ^= 1;
        assert!(!is_resumed(proxy.address(profile), &guessed));
    }
}

/// A reload keeps the TLS sessions of a listener whose TLS it does not change: otherwise all devices of a house would
/// shake hands in full at once. Sessions end with the certificate and with the policy under which they were made.
#[test]
fn sessions_outlive_a_reload_that_leaves_their_tls_alone() {
    let certificates = |days| Certificates::for_name("localhost", days);
    let own = tempfile::tempdir().unwrap();
    certificates(30).write(own.path());
    let text = |minutes: u32, policy: &str| {
        let directory = own.path().display();
        format!(
            "[certificate.own]\nchain = \"{directory}/server.pem\"\nkey = \"{directory}/server.key\"\n\
             [limits]\nidle_timeout = \"{minutes}m\"\n"
        ) + &listener("legacy", "imap", "implicit", &format!("profile = \"legacy\"\ncertificate = \"own\"\n{policy}"))
            + &listener("other", "imap", "implicit", "profile = \"legacy\"\ncertificate = \"own\"")
    };
    let proxy = Proxy::start(&text(35, ""));
    let reload = |configuration: &str| {
        proxy.configure(configuration);
        let (code, said) = proxy.reload();
        assert!(code == 0 && said.starts_with("configuration reloaded"), "{said}");
    };
    let sessions = || ["legacy", "other"].map(|name| (name, session(proxy.address(name), TLS1_0, RSA_SHA)));
    let resumed =
        |sessions: &[(&str, Hello); 2]| sessions.each_ref().map(|(name, hello)| is_resumed(proxy.address(name), hello));
    let before = sessions();
    // Another setting, and the same file once more.
    for minutes in [36, 36, 37] {
        reload(&text(minutes, ""));
        assert_eq!(resumed(&before), [true, true], "{minutes}");
    }
    // The policy of one of two listeners.
    reload(&text(37, "maximum_version = \"tls1.1\""));
    assert_eq!(resumed(&before), [false, true]);
    let between = sessions();
    assert_eq!(resumed(&between), [true, true]);
    // The certificate of both, in the same file.
    certificates(60).write(own.path());
    reload(&text(37, "maximum_version = \"tls1.1\""));
    assert_eq!(resumed(&between), [false, false]);
}

/// A forgery ends its session for good (RFC 5246 §7.2.2).
#[test]
fn a_session_that_was_tampered_with_is_not_resumed() {
    let proxy = profiles();
    for &(profile, version, suite) in EACH {
        let mut client = Client::connect(proxy.address(profile), version, suite);
        client.line();
        let hello = Hello { session: client.server.session.clone(), ..client.hello.clone() };
        client.send_blocks(DATA, &[0; 96]);
        assert_eq!(client.fatal_alert(), 20);
        assert!(!is_resumed(proxy.address(profile), &hello), "{profile} {version:#06x}");
    }
}

/// TLS 1.3 has only tickets, and here they are numbers as well. They live two hours, and allow no early data.
#[test]
fn tickets_of_tls_1_3_are_numbers() {
    let proxy = profiles();
    for profile in ["modern", "legacy", "ancient"] {
        // The tickets are copied on arrival, because a broken connection invalidates its own.
        let given: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let keep = Arc::clone(&given);
        let stream = openssl(proxy.address(profile), Start::Implicit, |context| {
            context.set_min_proto_version(Some(SslVersion::TLS1_3)).unwrap();
            context.set_session_cache_mode(SslSessionCacheMode::CLIENT);
            context.set_new_session_callback(move |_, session| keep.lock().unwrap().push(session.to_der().unwrap()));
        });
        Imap::greeted(Device::over(stream.unwrap())).ok("LOGOUT");
        let given = given.lock().unwrap().clone();
        assert!(!given.is_empty());
        for der in &given {
            let session = SslSession::from_der(der).unwrap();
            assert_eq!(session.timeout(), 7200, "{profile}");
            assert_eq!(session.max_early_data(), 0, "{profile}");
            assert_eq!(ticket_length(der), 32, "{profile}: a number, and nothing sealed in it");
        }
        assert!(resumes(proxy.address(profile), &given[0]), "{profile}");
        for other in ["modern", "legacy", "ancient"].into_iter().filter(|other| *other != profile) {
            assert!(!resumes(proxy.address(other), &given[0]), "{profile} to {other}");
        }
    }
}

fn resumes(address: SocketAddr, session: &[u8]) -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    let pem = openssl::base64::encode_block(session);
    let label = "SSL SESSION PARAMETERS-----\n";
    std::fs::write(file.path(), format!("-----BEGIN {label}{pem}\n-----END {label}")).unwrap();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address.to_string(), "-tls1_3", "-sess_in"]).arg(file.path());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let reused = said.contains("Reused, TLSv1.3");
    assert!(reused || said.contains("New, TLSv1.3"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    reused
}

/// The ticket's length in an OpenSSL session: `[10] EXPLICIT OCTET STRING`.
fn ticket_length(der: &[u8]) -> usize {
    // An element has tag, length and content; a length above 127 stands behind its own count of octets.
    fn element(der: &[u8]) -> (u8, &[u8], &[u8]) {
        let (length, head) = match der[1] {
            0x81 => (usize::from(der[2]), 3),
            0x82 => (usize::from(der[2]) * 256 + usize::from(der[3]), 4),
            short => (usize::from(short), 2),
        };
        (der[0], &der[head..head + length], &der[head + length..])
    }
    let (_, mut rest, _) = element(der);
    while !rest.is_empty() {
        let (tag, content, behind) = element(rest);
        if tag == 0xaa {
            return element(content).1.len();
        }
        rest = behind;
    }
    panic!("no ticket in it")
}

/// A device may ask for renegotiation as often as it likes, signalled (RFC 5746) or not (CVE-2009-3555). It is refused
/// and served on, and nothing is computed for it.
#[test]
fn a_device_may_ask_to_renegotiate_in_vain() {
    let proxy = profiles();
    for &(profile, version, suite) in EACH {
        for secure in [true, false] {
            let first = Hello::new(version, &[suite]);
            let first = if secure { first.with(0xff01, &[0]) } else { first };
            let mut client = Client::with(proxy.address(profile), first);
            client.finish();
            client.line();
            let again = Hello::new(version, &[suite]);
            let again = if secure { again.with(0xff01, &[&[12][..], &client.verify_data].concat()) } else { again };
            for _ in 0..50 {
                client.send(HANDSHAKE, &again.message());
                assert_eq!(client.receive(), Ok((ALERT, vec![1, NO_RENEGOTIATION])), "{profile} {version:#06x}");
            }
            client.is_served();
        }
    }
}

/// BEAST predicts the first block of a TLS 1.0 record. A device's own records are its own concern, and the proxy's
/// carry no secret of the device. Splitting is off unless a listener asks for it.
#[test]
fn records_are_not_cut_unless_the_listener_says_so() {
    let proxy = Proxy::start(
        &(listener("plain", "imap", "implicit", "")
            + &listener("fragments", "imap", "implicit", "empty_fragments = true")),
    );
    for (name, version, cut) in [
        ("plain", TLS1_0, false),
        ("fragments", TLS1_0, true),
        // From TLS 1.1 on, each record has its own IV (RFC 4346 §6.2.3.2).
        ("fragments", TLS1_1, false),
        ("fragments", TLS1_2, false),
    ] {
        let mut client = Client::connect(proxy.address(name), version, RSA_SHA);
        let mut greeting = Vec::new();
        let mut lengths = Vec::new();
        while !greeting.ends_with(b"\r\n") {
            let (kind, body) = client.receive().unwrap();
            assert_eq!(kind, DATA);
            lengths.push(body.len());
            greeting.extend(body);
        }
        let expected = if cut { vec![0, greeting.len()] } else { vec![greeting.len()] };
        assert_eq!(lengths, expected, "{name} {version:#06x}");
        client.send(DATA, b"q LOGOUT\r\n");
        let (_, no) = client.receive_all();
        assert_eq!(no, Ending::Closed);
    }
}

const NO_RENEGOTIATION: u8 = 100;
