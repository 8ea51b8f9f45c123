//! Mistakes about protocol, port, TLS and certificate.

use std::net::{SocketAddr, TcpStream};

use openssl::ssl::SslVerifyMode;

use support::device::Device;
use support::exchange::{BY_SECRET, Exchange, LOGIN, PASSWORD};
use support::free_ports;
use support::imap::{Imap, status};
use support::proxy::translating_listener;
use support::record::{self, Hello};
use support::stacks::{Start, TLS_1_0, Version, old, openssl};
use support::tls_client::Client;

use super::{Told, start, technician_is_told, works};

const AES: u16 = 0x002f;
/// The type of a record that has an alert.
const ALERT: u8 = 21;
const DES: u16 = 0x0009;
const EXPORT: u16 = 0x0003;

/// A device that does not reach packetboat has never logged in; the ports are on the page and in `check`.
#[test]
fn closed_port() {
    let exchange = Exchange::new();
    let [imap, pop3, closed]: [u16; 3] = free_ports();
    let mut text = exchange.configuration(BY_SECRET);
    for port in [imap, pop3] {
        text = text.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1);
    }
    let proxy = exchange.proxy(&text);
    assert!(TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], closed))).is_err());
    let told = Told::now(&proxy);
    told.answer_is("never", "0 of 1 devices get their mail; scanner3 has never logged in");
    for (listener, protocol) in [("imap", "IMAP"), ("pop3", "POP3")] {
        let address = proxy.address(listener).to_string();
        assert!(told.check.output.contains(&format!("{listener}: {protocol} on {address}")), "{}", told.check.output);
        told.page_says("/listeners", &address);
        assert!(
            told.log.iter().any(|line| line.starts_with(&format!("INFO listening on {address} "))),
            "{:?}",
            told.log
        );
    }
    told.rest_is_well();
    technician_is_told("cannot connect", &["compare server and port", "Is the port open from this network?"]);
}

#[test]
fn port_of_the_other_protocol() {
    let exchange = Exchange::new();
    let proxy = start(&exchange, "[limits]\nlogin_timeout = \"300ms\"\n");
    let mut waiting = TLS_1_0.connect(proxy.address("imap"), Start::Implicit);
    waiting.line();
    assert!(waiting.line().contains("did not log in in time") && waiting.has_ended());
    drop(waiting);
    let told = Told::after(&proxy, "no_command");
    told.log_page_and_devices_say("the device sent no command: is it set to POP3? this port is IMAP; POP3 is on ");
    told.rest_is_well();
    technician_is_told("timeout", &["IMAP on 993 or 143, POP3 on 995 or 110", "sent no command?"]);
}

#[test]
fn tls_switched_off() {
    for (listener, reason, words) in [
        ("clear", "login_in_clear", "the device tried to log in without TLS"),
        ("clear", "speaks_in_clear", "the device speaks without TLS"),
        ("imap", "handshake", "the device speaks without TLS"),
    ] {
        let exchange = Exchange::new();
        let proxy = start(&exchange, &translating_listener("clear", "imap", "starttls", ""));
        let mut device = Device::plain(proxy.address(listener));
        match reason {
            "handshake" => {
                device.send("a LOGIN a b\r\n");
                assert!(device.has_ended());
            }
            "login_in_clear" => {
                let reply = status(&Imap::greeted(device).command("LOGIN a b"));
                assert!(reply.starts_with("NO [PRIVACYREQUIRED]"), "{reply}");
            }
            _ => drop(Imap::greeted(device).ok("CAPABILITY")),
        }
        let told = Told::after(&proxy, &format!("\"reason\":\"{reason}\""));
        told.log_says(words);
        let advice = if reason == "handshake" {
            "the device speaks without TLS: switch SSL/TLS on in the device"
        } else {
            "switch the device to SSL/TLS or STARTTLS"
        };
        told.log_page_and_devices_say(advice);
        told.rest_is_well();
        // A device that has no TLS at all: a listener with the keys of the line lets it in, and the others stay.
        if reason == "login_in_clear" {
            told.log_says(
                "a [[listener]] of its own, on another port, with entry = \"plaintext\", allow_plaintext = true",
            );
            told.log_says("and its address alone in allowed_networks");
            let text = std::fs::read_to_string(proxy.configuration()).unwrap();
            let keys = "allow_plaintext = true\nallowed_networks = [\"127.0.0.1/32\"]";
            let [port] = support::free_ports();
            let own = translating_listener("own", "imap", "plaintext", keys)
                .replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
            std::fs::write(proxy.configuration(), format!("{text}{own}")).unwrap();
            let (code, said) = proxy.reload();
            assert_eq!(code, 0, "{said}");
            Imap::greeted(Device::plain(([127, 0, 0, 1], port).into())).login(LOGIN, PASSWORD);
            works(&proxy);
        }
    }
    technician_is_told("connection closed", &["TLS is off", "switch SSL/TLS on"]);
}

/// No mistake at all: a listener with `entry = "auto"` takes SSL/TLS and STARTTLS at the same port.
#[test]
fn ssl_on_the_plain_port() {
    let exchange = Exchange::new();
    let proxy = start(&exchange, &translating_listener("both", "imap", "auto", ""));
    let mut imap = Imap::greeted(TLS_1_0.connect(proxy.address("both"), Start::Implicit));
    imap.login(LOGIN, PASSWORD);
    imap.log_out();
    let mut imap = Imap::over(TLS_1_0.connect(proxy.address("both"), Start::StartTls("imap")));
    imap.login(LOGIN, PASSWORD);
    imap.log_out();
    let told = Told::after(&proxy, "session ended");
    told.answer_is("ok", "the one device gets its mail");
    assert!(!told.log.iter().any(|line| line.starts_with("WARN session ended")), "{:#?}", told.log);
    assert!(told.check.output.contains("SSL/TLS or STARTTLS"), "{}", told.check.output);
    told.page_says("/listeners", "SSL/TLS or STARTTLS");
    told.rest_is_well();
}

#[test]
fn ca_that_the_device_does_not_know() {
    let exchange = Exchange::new();
    let proxy = start(&exchange, "");
    let verifying = openssl(proxy.address("imap"), Start::Implicit, |tls| {
        old(tls, Version::Tls1_0, "AES128-SHA");
        tls.set_verify(SslVerifyMode::PEER);
    });
    assert!(verifying.is_err());
    let told = Told::after(&proxy, "handshake with the device failed");
    told.log_page_and_devices_say(
        "the device does not accept the certificate: import the CA into it (packetboat certificate export)",
    );
    let exported = proxy.state.join("exported.pem");
    let export = super::run(&proxy, &["certificate", "export", "-o", exported.to_str().unwrap()]);
    assert_eq!(export.code, 0, "{}", export.errors);
    let knowing = openssl(proxy.address("imap"), Start::Implicit, |tls| {
        old(tls, Version::Tls1_0, "AES128-SHA");
        tls.set_verify(SslVerifyMode::PEER);
        tls.set_ca_file(&exported).unwrap();
    });
    assert!(knowing.is_ok(), "{:?}", knowing.err());
    let sha256 = told.page["ca"]["sha256"].as_str().unwrap();
    let show = super::run(&proxy, &["certificate", "show"]).output;
    assert!(show.contains(sha256), "{sha256}: {show}");
    told.rest_is_well();
    technician_is_told("certificate error", &["import the CA", "May I have the CA?"]);
}

/// The device looks for the name in its server field, and leaves without an alert.
#[test]
fn name_that_is_not_in_the_certificate() {
    let exchange = Exchange::new();
    let proxy = start(&exchange, "");
    drop(TLS_1_0.connect(proxy.address("imap"), Start::Implicit));
    let told = Told::after(&proxy, "left_after_handshake");
    told.log_page_and_devices_say("it may not accept the certificate, which is for ");
    told.log_page_and_devices_say(
        "write all names into certificate.default.names, then run packetboat certificate renew",
    );
    told.rest_is_well();
    technician_is_told("certificate error", &["type the certificate's name", "Which names has the certificate?"]);
}

/// A device that looks at the certificate behind the handshake, and says by an alert that it does not accept it.
#[test]
fn certificate_that_is_refused_after_the_handshake() {
    const FATAL: u8 = 2;
    const CLOSE_NOTIFY: u8 = 0;
    for (alert, is_refusal) in [(46, true), (42, true), (48, true), (CLOSE_NOTIFY, false), (80, false)] {
        let exchange = Exchange::new();
        let proxy = start(&exchange, "[limits]\nlogin_timeout = \"5s\"\n");
        // A device that has logged in before means its alert as well.
        works(&proxy);
        let mut device = Client::connect(proxy.address("imap"), 0x0301, AES);
        device.line();
        device.send(ALERT, &[FATAL, alert]);
        drop(device);
        let words = "the device left right after the TLS handshake: it does not accept the certificate, which is for ";
        if !is_refusal {
            proxy.until_open(0);
            let log = proxy.log.all();
            assert!(!log.contains("accept the certificate"), "{alert}: {log}");
            continue;
        }
        let told = Told::after(&proxy, "left_after_handshake");
        told.log_says(words);
        told.page_says("/devices", words);
        told.log_says(
            "write all names into certificate.default.names, then run packetboat certificate renew; else import",
        );
        told.rest_is_well();
    }
    technician_is_told("certificate error", &["import the CA", "type the certificate's name"]);
}

/// The log line has a listener for this device alone. It goes into the file as it is, and the others stay as they are.
#[test]
fn only_ciphers_that_the_profile_ancient_accepts() {
    let exchange = Exchange::new();
    let proxy = start(&exchange, "");
    let old_cipher = |address| openssl(address, Start::Implicit, |tls| old(tls, Version::Tls1_0, "RC4-SHA"));
    assert!(old_cipher(proxy.address("imap")).is_err());
    let told = Told::after(&proxy, "handshake with the device failed");
    told.log_page_and_devices_say("offers only RC4-SHA: set profile = \"ancient\" on this listener; ");
    let before = "to accept that from this device alone, write a listener of its own, each key on its own line: ";
    told.log_page_and_devices_say(before);
    assert!(told.devices.contains("refused: offers RC4 only"), "{}", told.devices);
    told.rest_is_well();

    let line = told.log.iter().find(|line| line.contains(before)).unwrap();
    let (section, rest) = line.split_once(before).unwrap().1.split_once("; then run packetboat reload").unwrap();
    let port: u16 = rest.split_once("device to port ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    let text = std::fs::read_to_string(proxy.configuration()).unwrap();
    // The printed port is the same for everybody: the test may not take it.
    let [free]: [u16; 1] = free_ports();
    let section = section.replace(", ", "\n").replace(&format!(":{port}\""), &format!(":{free}\""));
    std::fs::write(proxy.configuration(), format!("{text}\n{section}\n")).unwrap();
    let (code, said) = proxy.reload();
    assert_eq!(code, 0, "{section}\n{said}");
    let mut imap = Imap::greeted(Device::over(old_cipher(SocketAddr::from(([127, 0, 0, 1], free))).unwrap()));
    imap.login(LOGIN, PASSWORD);
    imap.log_out();
    assert!(old_cipher(proxy.address("imap")).is_err());
    let told = Told::after(&proxy, "to accept that from this device alone, set it to listener imap-ancient, port ");
    told.page_says("/devices", &format!("set it to listener imap-ancient, port {free}"));
    works(&proxy);
    technician_is_told("SSL error", &["look for a firmware update", "Which port shall I use?"]);
}

#[test]
fn only_ciphers_that_nobody_accepts() {
    let exchange = Exchange::new();
    let proxy = start(&exchange, "");
    assert!(record::answer(proxy.address("imap"), &Hello::new(0x0301, &[DES, EXPORT])).is_err());
    let told = Told::after(&proxy, "handshake with the device failed");
    let words = "nothing that packetboat can do; what is left is entry = \"plaintext\" on a network of its own";
    told.log_page_and_devices_say(words);
    assert!(!told.log.iter().any(|line| line.contains("from this device alone")), "{:#?}", told.log);
    assert!(told.devices.contains("refused: offers "), "{}", told.devices);
    told.rest_is_well();
    works(&proxy);
    technician_is_told("SSL error", &["the device's encryption is too old", "look for a firmware update"]);
}
