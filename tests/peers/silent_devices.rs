//! Devices that make a mistake without a word: the log and the inventory name it, and the printed advice mends it.

mod logins;

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use openssl::x509::X509;
use serde_json::Value;

use support::connection::TlsStream;
use support::device::{Device, tcp};
use support::exchange::{BY_SECRET, Exchange, LOGIN, PASSWORD, Ran, SCAN, account};
use support::free_ports;
use support::imap::{Imap, status};
use support::pop3::Pop3;
use support::process::{PATIENCE, program};
use support::proxy::{Proxy, translating_listener};
use support::stacks::{Start, TLS_1_0, Version, old, openssl};

const PROTOCOLS: [&str; 2] = ["imap", "pop3"];

/// A proxy with one device's account, and these lines more.
fn start(exchange: &Exchange, more: &str) -> Proxy {
    exchange.proxy(&(exchange.configuration(BY_SECRET) + more))
}

fn run(proxy: &Proxy, arguments: &[&str]) -> String {
    let mut command = Command::new(program());
    command.args(arguments).arg("--config").arg(proxy.configuration()).stdin(Stdio::null());
    let ran = Ran::of(command.output().unwrap());
    assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.output, ran.errors);
    ran.output
}

/// Reads a message over TLS 1.0, as this protocol does.
fn logs_in(protocol: &str, device: Device, login: &str) {
    if protocol == "imap" {
        let mut imap = Imap::greeted(device);
        imap.login(login, PASSWORD);
        imap.log_out();
    } else {
        let mut pop3 = Pop3::greeted(device);
        pop3.login(login, PASSWORD);
        pop3.ok("QUIT");
    }
}

fn over_tls(address: SocketAddr) -> Device {
    TLS_1_0.connect(address, Start::Implicit)
}

/// Waits for the line that ends a session of this listener with a warning, and returns its message.
fn warning(proxy: &Proxy, listener: &str, reason: &str) -> String {
    let line = proxy.session_line(listener);
    assert_eq!((line["level"].as_str(), line["reason"].as_str()), (Some("WARN"), Some(reason)), "{line}");
    line["message"].as_str().unwrap().to_owned()
}

fn seen(proxy: &Proxy) -> Vec<Value> {
    let inventory: Value = serde_json::from_str(&proxy.get("/inventory.json")).unwrap();
    inventory["devices"].as_array().unwrap().clone()
}

/// The one device of this protocol that needs attention.
fn marked(proxy: &Proxy, protocol: &str) -> Value {
    let of_protocol = |one: &Value| one["attention"] == true && one["protocol"] == protocol.to_uppercase().as_str();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let devices = seen(proxy);
        if let Some(found) = devices.iter().find(|one| of_protocol(one)) {
            return found.clone();
        }
        assert!(Instant::now() < deadline, "{devices:#?}");
    }
}

/// Logs in until nothing needs attention: a login of the same second does not end it.
fn until_mended(proxy: &Proxy, mut log_in: impl FnMut()) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        log_in();
        let devices = seen(proxy);
        if devices.iter().all(|one| one["attention"] == false) {
            return;
        }
        assert!(Instant::now() < deadline, "{devices:#?}");
    }
}

/// `packetboat devices` has these words, and so have the data of the page, now or in a moment.
fn is_shown(proxy: &Proxy, words: &str) {
    let devices = run(proxy, &["devices"]);
    assert!(devices.contains(words), "{devices}");
    let deadline = Instant::now() + PATIENCE;
    while !proxy.get("/status.json").contains(words) {
        assert!(Instant::now() < deadline, "{}", proxy.get("/status.json"));
    }
}

/// The device waits for its own greeting until the proxy's time is up. The port that the line names is the right one.
#[test]
fn a_device_on_the_port_of_the_other_protocol_is_sent_to_its_own() {
    for (protocol, other) in [("imap", "pop3"), ("pop3", "imap")] {
        let exchange = Exchange::new();
        let ports: [u16; 2] = free_ports();
        let mut text = exchange.configuration(BY_SECRET) + "[limits]\nlogin_timeout = \"3s\"\n";
        for port in ports {
            text = text.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1);
        }
        let proxy = exchange.proxy(&text);
        let mut device = over_tls(proxy.address(protocol));
        device.line();
        assert!(device.line().contains("did not log in in time") && device.has_ended());
        let message = warning(&proxy, protocol, "no_command");
        let (here, there) = (protocol.to_uppercase(), other.to_uppercase());
        let words =
            format!("the device sent no command: is it set to {there}? this port is {here}; {there} is on port ");
        let port = message.split_once(&words).unwrap_or_else(|| panic!("{message}")).1;
        let (port, listener) = port.split_once(" (listener ").unwrap();
        assert_eq!(listener, format!("{other})"));
        let failure = marked(&proxy, protocol)["failure"].as_str().unwrap().to_owned();
        assert!(failure.starts_with(&words), "{failure}");
        is_shown(&proxy, &words);
        let address = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
        until_mended(&proxy, || logs_in(other, over_tls(address), LOGIN));
    }
}

/// The device gives up by itself, after some seconds. A listener alone says so.
#[test]
fn a_device_that_waits_and_leaves_has_the_wrong_protocol() {
    let exchange = Exchange::new();
    let text = exchange.configuration(BY_SECRET) + &translating_listener("clear", "imap", "starttls", "");
    let without_pop3 = text.replace("protocol = \"pop3\"", "protocol = \"imap\"");
    for (text, listeners, place) in [
        (&text, ["imap", "pop3", "clear"], " is on listener "),
        (&without_pop3, ["imap", "pop3", "clear"], "; no listener has POP3: set the device to IMAP"),
    ] {
        let proxy = exchange.proxy(text);
        let patience = Instant::now() + Duration::from_millis(5500);
        let devices = listeners.map(|listener| {
            if listener == "clear" {
                let mut stream = tcp(proxy.address(listener));
                stream.read_exact(&mut [0]).unwrap();
                return Err(stream);
            }
            let tls = openssl(proxy.address(listener), Start::Implicit, |tls| old(tls, Version::Tls1_0, "AES128-SHA"));
            Ok(tls.unwrap())
        });
        // What the devices do is to wait.
        while Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(devices);
        for listener in listeners {
            let line = proxy.log.wait_for("line", |line| {
                line.contains("no_command") && line.contains(&format!("\"listener\":\"{listener}\""))
            });
            assert!(line.contains(place) && line.contains("WARN"), "{line}");
        }
    }
}

/// The device is set to STARTTLS on a port where TLS comes first: it waits for a greeting, and gives up. Each half of the
/// advice mends it. A health check of the port gets no line.
#[test]
fn a_device_with_starttls_on_the_port_of_tls_is_told_to_change_it() {
    let exchange = Exchange::new();
    let listeners = PROTOCOLS.map(|one| translating_listener(&format!("{one}-tls"), one, "implicit", "")).concat();
    let text = exchange.configuration(BY_SECRET) + &listeners;
    let proxy = exchange.proxy(&text);
    let names = PROTOCOLS.map(|protocol| format!("{protocol}-tls"));
    let patience = Instant::now() + Duration::from_millis(5500);
    let waiting: Vec<_> = names.iter().map(|name| tcp(proxy.address(name))).collect();
    names.iter().for_each(|name| drop(tcp(proxy.address(name))));
    while Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(waiting);
    let words = "the device sent no command: if it waits for a greeting, choose SSL/TLS in the device in place of \
                 STARTTLS, or set entry = \"auto\" on this listener";
    for (protocol, name) in PROTOCOLS.into_iter().zip(&names) {
        let line = proxy
            .log
            .wait_for("line", |line| line.contains("no_command") && line.contains(&format!("\"listener\":\"{name}\"")));
        assert!(line.contains("WARN") && line.contains(&words.replace('"', "\\\"")), "{line}");
        assert_eq!(marked(&proxy, protocol)["failure"], words);
    }
    is_shown(&proxy, "choose SSL/TLS in the device in place of STARTTLS");
    assert_eq!(proxy.log.count(|line| line.contains("no_command")), 2, "{}", proxy.log.all());
    let by_tls = |name: &str, protocol| logs_in(protocol, over_tls(proxy.address(name)), LOGIN);
    until_mended(&proxy, || names.iter().zip(PROTOCOLS).for_each(|(name, protocol)| by_tls(name, protocol)));
    proxy.configure(&text.replace("entry = \"implicit\"", "entry = \"auto\"\ndetect_delay = \"10ms\""));
    assert_eq!(proxy.reload().0, 0);
    let start_tls = |protocol| TLS_1_0.connect(proxy.address(&format!("{protocol}-tls")), Start::StartTls(protocol));
    Imap::over(start_tls("imap")).login(LOGIN, PASSWORD);
    Pop3::over(start_tls("pop3")).login(LOGIN, PASSWORD);
}

/// The device compares the name in its server field with the certificate behind the handshake, and leaves.
fn accepts(address: SocketAddr, name: &str) -> Result<TlsStream, Vec<String>> {
    let stream = openssl(address, Start::Implicit, |tls| old(tls, Version::Tls1_0, "AES128-SHA")).unwrap();
    let names = names_of(&stream.ssl().peer_certificate().unwrap());
    if names.iter().any(|one| one == name) { Ok(stream) } else { Err(names) }
}

fn names_of(certificate: &X509) -> Vec<String> {
    let names = certificate.subject_alt_names().unwrap();
    let text = |octets: &[u8]| match octets.len() {
        4 => std::net::IpAddr::from(<[u8; 4]>::try_from(octets).unwrap()).to_string(),
        _ => std::net::IpAddr::from(<[u8; 16]>::try_from(octets).unwrap()).to_string(),
    };
    names.iter().filter_map(|one| one.dnsname().map(str::to_owned).or_else(|| one.ipaddress().map(text))).collect()
}

#[test]
fn a_device_that_misses_its_name_in_the_certificate_gets_it() {
    const NAME: &str = "mail.contoso.example";
    let exchange = Exchange::new();
    let proxy = start(&exchange, "");
    let mut names = Vec::new();
    for protocol in PROTOCOLS {
        names = accepts(proxy.address(protocol), NAME).expect_err("the certificate has the name already");
        let message = warning(&proxy, protocol, "left_after_handshake");
        let words = format!("may not accept the certificate, which is for {}; if its server field", names.join(" "));
        assert!(message.contains(&words) && message.contains("; or is it set to "), "{message}");
        let advice = "into certificate.default.names, then run packetboat certificate renew";
        assert!(message.contains(advice), "{message}");
        let failure = marked(&proxy, protocol)["failure"].as_str().unwrap().to_owned();
        assert!(failure.contains(advice), "{failure}");
        is_shown(&proxy, "the device left right after the TLS handshake");
    }
    names.push(NAME.to_owned());
    let text = fs::read_to_string(proxy.configuration()).unwrap();
    fs::write(proxy.configuration(), format!("{text}[certificate.default]\nnames = {names:?}\n")).unwrap();
    run(&proxy, &["certificate", "renew"]);
    proxy.log.wait_for("new certificate", |line| line.contains("certificates reloaded"));
    for protocol in PROTOCOLS {
        let device = accepts(proxy.address(protocol), NAME).expect("a certificate with the name");
        logs_in(protocol, Device::over(device), LOGIN);
    }
    until_mended(&proxy, || PROTOCOLS.iter().for_each(|one| logs_in(one, over_tls(proxy.address(one)), LOGIN)));
    let left = || proxy.log.count(|line| line.contains("left_after_handshake"));
    let before = left();
    // A device that has logged in likes the certificate: it may look whether the server is there.
    for protocol in PROTOCOLS {
        drop(over_tls(proxy.address(protocol)));
    }
    proxy.until_open(0);
    assert_eq!(left(), before, "{}", proxy.log.all());
}

/// After STARTTLS the protocol is right, which leaves the certificate.
#[test]
fn a_device_that_leaves_after_starttls_does_not_accept_the_certificate() {
    let exchange = Exchange::new();
    let listeners = PROTOCOLS.map(|one| translating_listener(&format!("{one}-clear"), one, "starttls", "")).concat();
    let proxy = start(&exchange, &listeners);
    for protocol in PROTOCOLS {
        let listener = format!("{protocol}-clear");
        drop(TLS_1_0.connect(proxy.address(&listener), Start::StartTls(protocol)));
        let message = warning(&proxy, &listener, "left_after_handshake");
        assert!(message.contains("may not accept") && !message.contains("is it set to"), "{message}");
    }
}

/// A balancer's check connects, perhaps reads the greeting, and leaves.
#[test]
fn checks_by_tcp_are_no_mistakes() {
    let exchange = Exchange::new();
    let listeners = translating_listener("auto", "imap", "auto", "detect_delay = \"10ms\"")
        + &translating_listener("clear", "pop3", "starttls", "");
    let proxy = start(&exchange, &listeners);
    for listener in ["imap", "pop3", "auto", "clear"] {
        for _ in 0..3 {
            drop(tcp(proxy.address(listener)));
        }
    }
    for listener in ["auto", "clear"] {
        for _ in 0..3 {
            let mut check = Device::plain(proxy.address(listener));
            check.line();
        }
    }
    // The lines are in order: this one comes last.
    logs_in("imap", over_tls(proxy.address("imap")), LOGIN);
    proxy.until_open(0);
    proxy.log.wait_for("login", |line| line.contains("session ended") && line.contains(LOGIN));
    let log = proxy.log.all();
    let of_sessions = |line: &&str| line.contains("session ended") && line.contains("WARN");
    assert!(!log.lines().any(|line| of_sessions(&line)), "{log}");
    let devices = seen(&proxy);
    assert!(devices.len() == 1 && devices[0]["attention"] == false, "{devices:#?}");
}

/// The device asks what the server offers, sees no login, and leaves politely or not.
#[test]
fn a_polite_device_without_tls_is_in_the_inventory() {
    for observe in ["", "observe = true"] {
        for is_polite in [true, false] {
            let exchange = Exchange::new();
            let listeners =
                PROTOCOLS.map(|one| translating_listener(&format!("{one}-clear"), one, "starttls", observe)).concat();
            let proxy = start(&exchange, &listeners);
            for (protocol, ask, leave) in [("imap", "CAPABILITY", "LOGOUT"), ("pop3", "CAPA", "QUIT")] {
                let listener = format!("{protocol}-clear");
                let device = Device::plain(proxy.address(&listener));
                if protocol == "imap" {
                    let mut imap = Imap::greeted(device);
                    imap.ok(ask);
                    is_polite.then(|| imap.ok(leave));
                } else {
                    let mut pop3 = Pop3::greeted(device);
                    pop3.multi(ask);
                    is_polite.then(|| pop3.ok(leave));
                }
                let message = warning(&proxy, &listener, "speaks_in_clear");
                assert!(message.contains("switch the device to SSL/TLS or STARTTLS"), "{message}");
                let device = marked(&proxy, protocol);
                assert_eq!(device["verdict"]["kind"], "needs", "{device}");
                assert_eq!(device["verdict"]["text"], "needs packetboat: speaks without TLS", "{device}");
                is_shown(&proxy, "needs packetboat: speaks without TLS");
            }
            if observe.is_empty() {
                until_mended(&proxy, || {
                    for protocol in PROTOCOLS {
                        let address = proxy.address(&format!("{protocol}-clear"));
                        let device = TLS_1_0.connect(address, Start::StartTls(protocol));
                        log_in_secured(protocol, device);
                    }
                });
            }
        }
    }
}

/// Logs in behind STARTTLS or STLS, where no second greeting comes.
fn log_in_secured(protocol: &str, device: Device) {
    if protocol == "imap" {
        let mut imap = Imap::over(device);
        imap.login(LOGIN, PASSWORD);
        imap.log_out();
    } else {
        let mut pop3 = Pop3::over(device);
        pop3.login(LOGIN, PASSWORD);
        pop3.ok("QUIT");
    }
}
