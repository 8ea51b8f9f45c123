//! These tests prove, in a network of their own, that ports 993 and 995 begin with TLS, however late the device does.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use openssl::ssl::{Ssl, SslContext, SslMethod};

use support::connection::TlsStream;
use support::network;
use support::proxy::Proxy;

/// Stays silent for this long; returns the proxy's first octets meanwhile, if any.
fn silent(port: u16, silence: Duration) -> (TcpStream, Option<String>) {
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    stream.set_read_timeout(Some(silence)).unwrap();
    let mut said = [0; 256];
    let said = match stream.read(&mut said) {
        Ok(count) => Some(String::from_utf8_lossy(&said[..count]).into_owned()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    };
    stream.set_read_timeout(None).unwrap();
    (stream, said)
}

/// Shakes hands; returns the greeting.
fn greeting(stream: TcpStream) -> String {
    let context = SslContext::builder(SslMethod::tls_client()).unwrap().build();
    let mut stream: TlsStream = Ssl::new(&context).unwrap().connect(stream.into()).unwrap();
    let mut said = [0; 256];
    let count = stream.read(&mut said).unwrap();
    String::from_utf8_lossy(&said[..count]).into_owned()
}

/// A small computer gathers randomness before its ClientHello.
#[test]
fn a_slow_device_gets_in_where_tls_is_usual() {
    const SEEDING: Duration = Duration::from_secs(3);
    network::alone();
    let listener = |name: &str, protocol: &str, ports: &str, more: &str| {
        format!(
            "[[listener]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\nlisten = [{ports}]\nlogins = \"pass-through\"\n{more}\n"
        )
    };
    let proxy = Proxy::start(
        &(listener("imap", "imap", "\"127.0.0.1:993\"", "")
            + &listener("pop3", "pop3", "\"127.0.0.1:110\", \"127.0.0.1:995\"", "detect_delay = \"100ms\"")
            + &listener("asked", "imap", "\"127.0.0.1:465\"", "entry = \"auto\"\ndetect_delay = \"100ms\"")),
    );
    std::thread::scope(|scope| {
        for (port, protocol) in [(993, "* OK "), (995, "+OK ")] {
            // The threads of this thread share its network.
            scope.spawn(move || {
                let (stream, said) = silent(port, SEEDING);
                assert_eq!(said, None, "port {port}");
                assert!(greeting(stream).starts_with(protocol), "port {port}");
            });
        }
    });
    for (port, protocol) in [(110, "+OK "), (465, "* OK ")] {
        let (_, said) = silent(port, SEEDING);
        assert!(said.is_some_and(|said| said.starts_with(protocol)), "port {port}");
    }
    // `packetboat setup` prints these settings for the operator to type into a device.
    for (listener, port, setting) in [
        ("imap", 993, "encryption \\\"SSL/TLS\\\","),
        ("pop3", 995, "encryption \\\"SSL/TLS\\\","),
        ("pop3", 110, "encryption \\\"SSL/TLS\\\" or \\\"STLS\\\","),
    ] {
        let said = proxy.log.all();
        let told =
            said.lines().any(|line| line.contains(&format!("port {port}, {setting}")) && line.contains(listener));
        assert!(told, "{said}");
    }
}

/// The port decides the form of a refusal, too: before TLS the proxy can send nothing on 993.
#[test]
fn over_a_limit_nothing_is_said_in_clear_where_tls_is_usual() {
    network::alone();
    let proxy = Proxy::start(
        "[limits]\nconnections_per_source = 1\n[[listener]]\nname = \"imap\"\nprotocol = \"imap\"\nlisten = \
         [\"127.0.0.1:143\", \"127.0.0.1:993\"]\nlogins = \"pass-through\"\ndetect_delay = \"100ms\"\n",
    );
    let (_first, said) = silent(143, Duration::from_secs(3));
    assert!(said.is_some_and(|said| said.starts_with("* OK ")));
    for (port, hears) in [(143, "* BYE too many connections from this source\r\n"), (993, "")] {
        let (_, said) = silent(port, Duration::from_secs(3));
        assert_eq!(said.as_deref(), Some(hears), "port {port}");
    }
    drop(proxy);
}
