//! These tests prove, from the octets on the wire, that servers see the same TLS 1.2 or 1.3, whatever a listener allows
//! devices.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use openssl::ssl::{Ssl, SslContextBuilder, SslVersion};

use support::certificates::Certificates;
use support::device::Device;
use support::exchange::{APP, LOGIN, PASSWORD, SCAN, account, mode};
use support::imap::{Imap, status};
use support::pop3::Pop3;
use support::proxy::{Proxy, listener, translating_listener, upstream};
use support::record::Cursor;
use support::server;
use support::stacks::{Stack, Start, Version};

/// Listeners that allow more and more, and the weakest device that each accepts.
const LISTENERS: &[(&str, &str, Option<Stack>)] = &[
    (
        "modern",
        "profile = \"modern\"",
        Some(Stack::Openssl { version: Version::Tls1_2, ciphers: "ECDHE-RSA-AES128-SHA256" }),
    ),
    ("legacy", "profile = \"legacy\"", Some(Stack::Openssl { version: Version::Tls1_0, ciphers: "AES128-SHA" })),
    ("ancient", "profile = \"ancient\"", Some(Stack::Openssl { version: Version::Ssl3, ciphers: "RC4-MD5" })),
    (
        "everything",
        "profile = \"ancient\"\nminimum_version = \"ssl3\"\nmaximum_version = \"tls1.0\"\nsslv2_hello = true\n\
         ciphers = [\"RC4-MD5\", \"DES-CBC3-SHA\"]\nempty_fragments = true\nencrypt_then_mac = true",
        Some(Stack::Openssl { version: Version::Tls1_0, ciphers: "DES-CBC3-SHA" }),
    ),
    ("plaintext", "allow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\"]", None),
];

/// A proxy with each of [`LISTENERS`], by both protocols, to that upstream.
fn proxy(upstream: &str) -> Proxy {
    let mut configuration = upstream.to_owned();
    for (name, more, stack) in LISTENERS {
        let entry = if stack.is_some() { "implicit" } else { "plaintext" };
        for protocol in ["imap", "pop3"] {
            configuration += &listener(&format!("{protocol}-{name}"), protocol, entry, more);
        }
    }
    Proxy::start(&configuration)
}

/// Logs in as that device; returns the answer.
fn log_in(proxy: &Proxy, protocol: &str, name: &str, stack: Option<Stack>) -> String {
    let address = proxy.address(&format!("{protocol}-{name}"));
    let device = stack.map_or_else(|| Device::plain(address), |stack| stack.connect(address, Start::Implicit));
    if protocol == "imap" {
        return status(&Imap::greeted(device).command("LOGIN user0 secret"));
    }
    let mut pop3 = Pop3::greeted(device);
    pop3.ok("USER user0");
    pop3.command("PASS secret")
}

/// A ClientHello, without its random parts.
#[derive(Debug, PartialEq, Eq)]
struct Offer {
    legacy_version: u16,
    session_id: usize,
    suites: Vec<u16>,
    compressions: Vec<u8>,
    /// The order is lost, because rustls shuffles extensions each time.
    extensions: BTreeSet<u16>,
    server_name: String,
    versions: Vec<u16>,
    groups: Vec<u16>,
    signatures: Vec<u16>,
    shares: Vec<u16>,
}

impl Offer {
    fn parse(record: &[u8]) -> Self {
        let mut record = Cursor(record);
        assert_eq!(record.take(1), [22], "the first record is a handshake's");
        // RFC 8446 §5.1 allows both record versions.
        assert!([0x0301, 0x0303].contains(&record.u16()));
        let mut message = Cursor(record.vector(2));
        assert!(record.0.is_empty());
        assert_eq!(message.take(1), [1], "a ClientHello");
        let mut body = Cursor(message.vector(3));
        let legacy_version = body.u16();
        body.take(32);
        let session_id = body.vector(1).len();
        let suites = body.numbers(2);
        let compressions = body.vector(1).to_vec();
        let mut offer = Self {
            legacy_version,
            session_id,
            suites,
            compressions,
            extensions: BTreeSet::new(),
            server_name: String::new(),
            versions: Vec::new(),
            groups: Vec::new(),
            signatures: Vec::new(),
            shares: Vec::new(),
        };
        let mut extensions = Cursor(body.vector(2));
        assert!(body.0.is_empty());
        while !extensions.0.is_empty() {
            let number = extensions.u16();
            assert!(offer.extensions.insert(number), "extension {number} twice");
            let mut content = Cursor(extensions.vector(2));
            match number {
                0 => {
                    let mut names = Cursor(content.vector(2));
                    assert_eq!(names.take(1), [0]);
                    offer.server_name = String::from_utf8(names.vector(2).to_vec()).unwrap();
                }
                10 => offer.groups = content.numbers(2),
                13 => offer.signatures = content.numbers(2),
                43 => offer.versions = content.numbers(1),
                51 => {
                    let mut shares = Cursor(content.vector(2));
                    while !shares.0.is_empty() {
                        offer.shares.push(shares.u16());
                        shares.vector(2);
                    }
                }
                _ => {}
            }
        }
        offer
    }

    /// Checks that the offer is as strong as TLS towards a server must be.
    fn is_strong(&self) {
        assert_eq!(self.legacy_version, 0x0303);
        assert_eq!(self.versions, [0x0304, 0x0303]);
        assert_eq!(self.compressions, [0]);
        // The suites are those of TLS 1.3, ECDHE with AES-GCM or ChaCha20-Poly1305, and the signal of RFC 5746.
        let strong = [0x1301, 0x1302, 0x1303, 0xc02b, 0xc02c, 0xc02f, 0xc030, 0xcca8, 0xcca9, 0x00ff];
        assert!(self.suites.iter().all(|suite| strong.contains(suite)), "{:04x?}", self.suites);
        assert!(self.suites.contains(&0x1301) && self.suites.contains(&0xc02f));
        // The groups are P-256 and above, X25519, and that with ML-KEM. There is no finite field, and no curve of 160
        // or 192 bits.
        assert!(self.groups.iter().all(|group| [23, 24, 25, 29, 4588].contains(group)), "{:?}", self.groups);
        assert!(self.shares.iter().all(|share| self.groups.contains(share)) && !self.shares.is_empty());
        // Signatures use SHA-256 and above: neither SHA-1 (hash 2) nor MD5 (hash 1).
        assert!(!self.signatures.is_empty());
        assert!(self.signatures.iter().all(|one| ![1, 2, 3].contains(&(one >> 8))), "{:04x?}", self.signatures);
        // The offer has the extended master secret. It has neither heartbeat, early data, nor encrypt-then-MAC, which
        // concerns CBC.
        assert!(self.extensions.contains(&23), "{:?}", self.extensions);
        assert!([15, 42, 22].iter().all(|number| !self.extensions.contains(number)), "{:?}", self.extensions);
    }
}

/// Starts servers that record the first TLS record and then stay silent, with implicit TLS or after STARTTLS.
fn listening(is_starttls: bool) -> (u16, Receiver<Vec<u8>>) {
    let (sender, heard) = channel();
    let port = server::plain(move |mut stream: TcpStream| {
        if is_starttls {
            let _ = stream.write_all(b"* OK IMAP4rev1\r\n");
            let line = server::hear(&mut stream);
            let tag = line.split(' ').next().unwrap().to_owned();
            let _ = stream.write_all(format!("{tag} OK begin\r\n").as_bytes());
        }
        let mut record = vec![0; 5];
        if stream.read_exact(&mut record).is_ok() {
            let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
            record.resize(5 + length, 0);
            stream.read_exact(&mut record[5..]).unwrap();
            sender.send(record).unwrap();
        }
    });
    (port, heard)
}

#[test]
fn servers_see_the_same_strong_offer_whatever_the_listener_takes() {
    let mut first: Option<Offer> = None;
    for is_starttls in [false, true] {
        let (port, heard) = listening(is_starttls);
        let security = if is_starttls { "security = \"starttls\"\n" } else { "" };
        let proxy = proxy(&format!(
            "[upstream.x]\nhost = \"127.0.0.1\"\nserver_name = \"mail.example\"\nimap_port = {port}\npop3_port = {port}\n{security}"
        ));
        for (name, _, stack) in LISTENERS {
            for protocol in if is_starttls { &["imap"][..] } else { &["imap", "pop3"] } {
                let answer = log_in(&proxy, protocol, name, *stack);
                assert!(answer.starts_with("NO") || answer.starts_with("-ERR"), "{answer}");
                let offer = Offer::parse(&heard.recv_timeout(support::process::PATIENCE).unwrap());
                offer.is_strong();
                assert_eq!(offer.server_name, "mail.example");
                match &first {
                    Some(first) => assert_eq!(offer, *first, "{protocol} {name}"),
                    None => first = Some(offer),
                }
                // One login makes one connection.
                assert!(heard.try_recv().is_err());
            }
        }
    }
}

/// The token endpoint receives secrets, so its TLS is as strong.
#[test]
fn the_token_endpoint_sees_the_same_strong_offer() {
    let (port, heard) = listening(false);
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "app secret").unwrap();
    mode(&secret, 0o600);
    let mut configuration = format!(
        "[upstream.exchange]\nhost = \"127.0.0.1\"\n[identity.office]\nauthority = \"https://localhost:{port}\"\n\
         tenant = \"contoso.onmicrosoft.com\"\nclient_id = \"{APP}\"\nclient_secret_file = {secret:?}\n"
    ) + &account("scans", SCAN, "");
    for (name, more, _) in LISTENERS.iter().filter(|(_, _, stack)| stack.is_some()) {
        configuration += &translating_listener(name, "imap", "implicit", more);
    }
    let proxy = Proxy::start(&configuration);
    for (name, _, stack) in LISTENERS {
        let Some(stack) = stack else { continue };
        let mut imap = Imap::greeted(stack.connect(proxy.address(name), Start::Implicit));
        assert!(status(&imap.command(&format!("LOGIN {LOGIN} {PASSWORD}"))).starts_with("NO"), "{name}");
    }
    let offers: Vec<Offer> = heard.try_iter().map(|record| Offer::parse(&record)).collect();
    assert!(!offers.is_empty());
    for offer in &offers {
        offer.is_strong();
        assert_eq!((offer.server_name.as_str(), offer), ("localhost", &offers[0]));
    }
}

/// Starts a server with that certificate, set up by the function; returns its port and the user names that it gets.
fn server(
    certificates: &Certificates,
    configure: impl FnOnce(&mut SslContextBuilder),
) -> (u16, Arc<Mutex<Vec<String>>>) {
    let context = server::context(certificates, configure);
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let telling = Arc::clone(&told);
    let port = server::plain(move |stream| {
        if let Ok(mut stream) = Ssl::new(&context).unwrap().accept(stream) {
            let _ = stream.write_all(b"* OK IMAP4rev1 +OK POP3\r\n");
            let line = server::hear(&mut stream);
            telling.lock().unwrap().push(line);
        }
    });
    (port, told)
}

const NOTHING_IN_COMMON: &str = "no cipher suite, curve or signature in common";
const TOO_OLD: &str = "offers nothing newer than TLS 1.1";

/// Every listener refuses a server that is too old, or not the intended one.
#[test]
fn a_weak_server_is_refused_whatever_the_listener_takes() {
    type Configure = Box<dyn Fn(&mut SslContextBuilder)>;
    let versions = |oldest: SslVersion, newest: SslVersion| -> Configure {
        Box::new(move |context| {
            context.set_min_proto_version(Some(oldest)).unwrap();
            context.set_max_proto_version(Some(newest)).unwrap();
        })
    };
    let suites = |ciphers: &'static str| -> Configure {
        Box::new(move |context| {
            context.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
            context.set_cipher_list(ciphers).unwrap();
        })
    };
    let good = || Certificates::for_name("localhost", 30);
    let any = || versions(SslVersion::TLS1_2, SslVersion::TLS1_3);
    // RC4 and 3DES need a provider that the tests' other stacks have loaded.
    support::stacks::context(|_| {});
    let servers: Vec<(&str, Certificates, Configure, &str)> = vec![
        ("TLS 1.1", good(), versions(SslVersion::TLS1, SslVersion::TLS1_1), TOO_OLD),
        ("SSLv3", good(), versions(SslVersion::SSL3, SslVersion::SSL3), TOO_OLD),
        ("static RSA", good(), suites("AES128-GCM-SHA256:AES128-SHA"), NOTHING_IN_COMMON),
        ("CBC", good(), suites("ECDHE-RSA-AES128-SHA:ECDHE-RSA-AES128-SHA256"), NOTHING_IN_COMMON),
        ("DHE", good(), suites("DHE-RSA-AES128-GCM-SHA256"), NOTHING_IN_COMMON),
        ("3DES", good(), suites("ECDHE-RSA-DES-CBC3-SHA:DES-CBC3-SHA"), NOTHING_IN_COMMON),
        ("RC4", good(), suites("ECDHE-RSA-RC4-SHA:RC4-SHA:RC4-MD5"), NOTHING_IN_COMMON),
        ("expired", Certificates::for_name("localhost", -1), any(), "it has expired"),
        ("another name", Certificates::for_name("other.example", 30), any(), "it is for another name"),
        ("SHA-1", Certificates::sha1_for_name("localhost", 30), any(), "is signed with SHA-1, which can be forged"),
    ];
    let directory = tempfile::tempdir().unwrap();
    for (what, certificates, configure, log) in servers {
        certificates.write(directory.path());
        let (port, told) = server(&certificates, configure);
        let proxy = proxy(&upstream("x", [port; 2], directory.path(), ""));
        for (name, _, stack) in LISTENERS {
            let answer = log_in(&proxy, "imap", name, *stack);
            assert!(answer.starts_with("NO [CONTACTADMIN]"), "{what}, {name}: {answer}");
            let of_this = format!("\"listener\":\"imap-{name}\"");
            let line = proxy
                .log
                .wait_for("line about the login", |line| line.contains("login failed") && line.contains(&of_this));
            assert!(line.contains(log), "{what}, {name}: {line}");
        }
        // POP3 takes the same path, so the strictest and the weakest listener suffice.
        for (name, _, stack) in [&LISTENERS[0], &LISTENERS[3]] {
            let answer = log_in(&proxy, "pop3", name, *stack);
            assert!(answer.starts_with("-ERR [SYS/PERM]"), "{what}, {name}: {answer}");
        }
        assert!(told.lock().unwrap().is_empty(), "{what} was told something: {told:?}");
    }
}

/// The same servers are accepted once their one fault is gone, which proves the reason of each refusal above.
#[test]
fn a_strong_server_is_taken_whatever_the_listener_takes() {
    let (certificates, directory) = Certificates::for_name("localhost", 30).in_directory();
    let (port, told) = server(&certificates, |context| {
        context.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
        context.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
        context.set_cipher_list("AES128-SHA:ECDHE-RSA-AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256").unwrap();
    });
    let proxy = proxy(&upstream("x", [port; 2], directory.path(), ""));
    for (name, _, stack) in LISTENERS {
        log_in(&proxy, "imap", name, *stack);
        let line = proxy.session_line(&format!("imap-{name}"));
        let tls = line["upstream_tls"].as_str().unwrap();
        // From the second connection on, the session may be resumed.
        assert!(tls.starts_with("TLSv1.2 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), "{name}: {tls}");
    }
    assert_eq!(told.lock().unwrap().len(), LISTENERS.len());
}
