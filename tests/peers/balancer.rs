//! These tests prove that the PROXY protocol of a configured load balancer is believed, and that of any other peer is
//! not.

use std::io::Write;
use std::net::TcpStream;

use openssl::ssl::Ssl;

use support::device::{Device, tcp};
use support::dovecot::{Dovecot, PASSWORD};
use support::imap::Imap;
use support::process::PATIENCE;
use support::proxy::{Proxy, listener, upstreams};
use support::stacks::{Version, context, old};

fn proxy(dovecot: &Dovecot, more: &str) -> Proxy {
    let limits = "[limits]\nconnections_per_source = 2\nhandshake_timeout = \"2s\"\n";
    Proxy::start(
        &(upstreams(dovecot) + limits + &listener("imap", "imap", "auto", &format!("upstream = \"implicit\"\n{more}"))),
    )
}

/// Connects with this PROXY header, and then with TLS 1.0.
fn announced(proxy: &Proxy, header: &[u8]) -> Imap {
    let mut stream = tcp(proxy.address("imap"));
    stream.write_all(header).unwrap();
    let context = context(|context| old(context, Version::Tls1_0, "AES128-SHA"));
    Imap::greeted(Device::over(Ssl::new(&context).unwrap().connect(stream).unwrap()))
}

fn v2(source: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(source);
    header.extend([10, 0, 0, 5, 0x30, 0x39, 3, 0xe1]);
    header
}

#[test]
fn a_named_balancer_speaks_for_devices() {
    let dovecot = Dovecot::start();
    let user = dovecot.user_with(&[]);
    let proxy = proxy(&dovecot, "proxy_protocol = [\"127.0.0.1/32\"]\nallowed_networks = [\"10.0.0.0/8\"]");
    for (header, source) in [
        (b"PROXY TCP4 10.1.2.3 10.0.0.5 4711 993\r\n".to_vec(), "10.1.2.3:4711"),
        (v2([10, 1, 2, 4]), "10.1.2.4:12345"),
    ] {
        let mut device = announced(&proxy, &header);
        device.login(&user, PASSWORD);
        device.ok("LOGOUT");
        let line = proxy.log.wait_for("session", |line| {
            line.contains("logged_out") && line.contains(&format!("\"source\":\"{source}\""))
        });
        assert!(line.contains("TLSv1 AES128-SHA"), "{line}");
    }
    // A silent device in clear gets its greeting after the balancer's header.
    let mut stream = tcp(proxy.address("imap"));
    stream.write_all(&v2([10, 1, 2, 5])).unwrap();
    assert!(Device::over(stream).line().starts_with("* OK "));
    // A device behind the balancer must be allowed, and counts towards the limit of its source.
    let mut stranger = tcp(proxy.address("imap"));
    stranger.write_all(b"PROXY TCP4 192.0.2.9 10.0.0.5 4711 993\r\n").unwrap();
    assert!(Device::over(stranger).has_ended());
    proxy.log.wait_for("refusal", |line| line.contains("192.0.2.9/32") && line.contains("192.0.2.9:4711"));
    let many: Vec<Imap> = (0..2).map(|_| announced(&proxy, &v2([10, 1, 2, 6]))).collect();
    let mut third = tcp(proxy.address("imap"));
    third.write_all(&v2([10, 1, 2, 6])).unwrap();
    let mut third = Device::over(third);
    assert_eq!(third.line(), "* BYE too many connections from this source");
    assert!(third.has_ended());
    proxy.log.wait_for("refusal", |line| line.contains("limits.connections_per_source = 2"));
    drop(many);
    // The balancer itself has no session, because it is not among the allowed devices.
    let mut itself = tcp(proxy.address("imap"));
    itself.write_all(b"PROXY UNKNOWN\r\n").unwrap();
    assert!(Device::over(itself).has_ended());
    // Health checks leave no line in the log.
    let mut local = tcp(proxy.address("imap"));
    local.write_all(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").unwrap();
    drop(local);
    drop(TcpStream::connect(proxy.address("imap")).unwrap());
    let sources: Vec<String> =
        proxy.status()["devices"].as_array().unwrap().iter().map(|one| one["source"].to_string()).collect();
    assert!(
        sources.contains(&"\"10.1.2.3\"".to_owned()) && sources.contains(&"\"192.0.2.9\"".to_owned()),
        "{sources:?}"
    );
    assert!(!sources.contains(&"\"127.0.0.1\"".to_owned()), "{sources:?}");
}

/// Without a header, with a late one or with nonsense, the log tells the operator what to switch on. A reload that
/// names other balancers ends the connections that came through the earlier one.
#[test]
fn a_reload_removes_a_balancer() {
    let dovecot = Dovecot::start();
    let user = dovecot.user_with(&[]);
    let listeners = |balancer: &str| {
        upstreams(&dovecot)
            + &listener("imap", "imap", "auto", &format!("upstream = \"implicit\"\nproxy_protocol = [\"{balancer}\"]"))
    };
    let proxy = Proxy::start(&listeners("127.0.0.1/32"));
    let mut device = announced(&proxy, &v2([10, 1, 2, 3]));
    device.login(&user, PASSWORD);
    proxy.configure(&listeners("127.0.0.0/8"));
    assert_eq!(proxy.reload().1.lines().next(), Some("configuration reloaded; open sessions are unaffected"));
    device.ok("NOOP");
    proxy.configure(&listeners("127.0.0.9/32"));
    let (code, said) = proxy.reload();
    assert!(code == 0 && said.contains("1 session ended (load balancer no longer in proxy_protocol: 1)"), "{said}");
    assert!(device.device.line().starts_with("* BYE "));
}

#[test]
fn a_balancer_without_its_header_is_turned_away() {
    let dovecot = Dovecot::start();
    let proxy = proxy(&dovecot, "proxy_protocol = [\"127.0.0.0/8\"]");
    for words in [&b"PROXY TCP4 nonsense\r\n"[..], b"a1 CAPABILITY\r\n", b"\x16\x03\x01\x00\x05\x01", b"PROXY TCP4 "] {
        let mut stream = tcp(proxy.address("imap"));
        stream.write_all(words).unwrap();
        assert!(Device::over(stream).has_ended(), "{words:?}");
    }
    // The log lines arrive through a pipe, and so a little later.
    let deadline = std::time::Instant::now() + PATIENCE;
    while proxy.log.all().matches("\"reason\":\"proxy_header\"").count() < 4 {
        assert!(std::time::Instant::now() < deadline, "{}", proxy.log.all());
        std::thread::yield_now();
    }
    let log = proxy.log.all();
    assert!(log.contains("HAProxy: send-proxy-v2"), "{log}");
    assert!(
        proxy
            .get("/metrics")
            .contains("packetboat_connections_refused_total{listener=\"imap\",reason=\"proxy_header\"} 4")
    );
}

/// A device cannot pretend to be a balancer: its header is neither a command nor a ClientHello.
#[test]
fn headers_of_other_peers_are_not_believed() {
    let dovecot = Dovecot::start();
    let proxy = proxy(&dovecot, "proxy_protocol = [\"10.9.9.9/32\"]");
    let mut stream = tcp(proxy.address("imap"));
    stream.write_all(b"PROXY TCP4 10.1.2.3 10.0.0.5 4711 993\r\n").unwrap();
    let mut device = Device::over(stream);
    assert!(device.line().starts_with("* OK "));
    assert!(device.line().starts_with("PROXY BAD "));
    drop(device);
    let line = proxy.session_line("imap");
    assert!(line["source"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
}

/// The line that the log prints lets the device in, and nobody else gains or loses anything.
#[test]
fn the_line_that_is_printed_for_a_refused_device_lets_it_in() {
    let dovecot = Dovecot::start();
    let (device, neighbour) = ([203, 0, 113, 9], [203, 0, 113, 10]);
    for (networks, served, refused) in [
        // The default is the private networks, and the key is not in the file.
        ("", [[10, 1, 2, 3], [192, 168, 1, 7], [172, 16, 0, 1]], [neighbour, [198, 51, 100, 1]]),
        (
            "allowed_networks = [\"10.0.0.0/8\", \"fd00::/8\", \"192.0.2.1\", \"192.0.2.2/32\"]",
            [[10, 1, 2, 3], [192, 0, 2, 1], [192, 0, 2, 2]],
            [neighbour, [192, 168, 1, 7]],
        ),
    ] {
        let listeners = |networks: &str| {
            let more = format!(
                "upstream = \"implicit\"\ndetect_delay = \"50ms\"\nproxy_protocol = [\"127.0.0.1\"]\n{networks}"
            );
            upstreams(&dovecot) + &listener("imap", "imap", "auto", &more)
        };
        let proxy = Proxy::start(&listeners(networks));
        let is_greeted = |source: [u8; 4]| {
            let mut stream = tcp(proxy.address("imap"));
            stream.write_all(&v2(source)).unwrap();
            Device::over(stream).try_line().is_some_and(|line| line.starts_with(b"* OK "))
        };
        assert!(served.into_iter().all(is_greeted) && !refused.into_iter().any(is_greeted));
        assert!(!is_greeted(device));
        let line = proxy.log.wait_for("refusal", |line| line.contains("203.0.113.9/32"));
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let message = line["message"].as_str().unwrap();
        let (_, advice) = message.split_once("write in listener imap: ").unwrap_or_else(|| panic!("{message}"));
        proxy.configure(&listeners(advice));
        let (code, said) = proxy.reload();
        assert_eq!(code, 0, "{said}");
        assert!(is_greeted(device), "{advice}");
        assert!(served.into_iter().all(is_greeted) && !refused.into_iter().any(is_greeted), "{advice}");
    }
}
