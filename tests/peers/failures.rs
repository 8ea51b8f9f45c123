//! These tests prove that each failure gives the device a proper answer or alert, and the operator one clear line.

use std::io::{Read, Write};

use openssl::ssl::SslVersion;

use support::certificates::Certificates;
use support::device::{Device, tcp};
use support::dovecot::{Dovecot, PASSWORD};
use support::free_ports;
use support::imap::{Imap, status};
use support::message;
use support::pop3::Pop3;
use support::proxy::{Proxy, listener, upstreams};
use support::server;
use support::stacks::{Start, Version, java, old, openssl};

/// Checks that devices of both protocols get the answer and stay connected, and that the log has the reason once each.
fn both_are_told(proxy: &Proxy, imap_code: &str, pop3_code: &str, log: &str) {
    let mut imap = proxy.imap("imap");
    let answer = imap.command("LOGIN user0 whatever");
    assert!(status(&answer).starts_with(&format!("NO [{imap_code}] ")), "{answer:?}");
    imap.ok("NOOP");
    let mut pop3 = proxy.pop3("pop3");
    pop3.ok("USER user0");
    let answer = pop3.command("PASS whatever");
    assert!(answer.starts_with(&format!("-ERR [{pop3_code}] ")), "{answer}");
    pop3.ok("NOOP");
    for name in ["imap", "pop3"] {
        let of_this = |line: &str| line.contains("login failed") && line.contains(&format!("\"listener\":\"{name}\""));
        let line = proxy.log.wait_for("line about the login", of_this);
        assert!(line.contains(log) && line.contains("\"WARN\"") && line.contains("\"login\":\"user0\""), "{line}");
        assert_eq!(proxy.log.count(of_this), 1);
    }
}

#[test]
fn a_wrong_password_costs_the_login_and_no_more() {
    let dovecot = Dovecot::start();
    let proxy = Proxy::for_dovecot(&dovecot, ["implicit", "starttls"], "");
    both_are_told(&proxy, "AUTHENTICATIONFAILED", "AUTH", "mail server refused user name or password");
    // The right password follows on the same connection.
    let small = message(1024);
    let user = dovecot.user_with(&[&small]);
    let mut imap = proxy.imap("imap");
    for _ in 0..3 {
        assert!(status(&imap.command(&format!("LOGIN {user} wrong"))).starts_with("NO [AUTHENTICATIONFAILED]"));
    }
    imap.session(&user, PASSWORD, &[&small]);
    let user = dovecot.user_with(&[&small]);
    let mut pop3 = proxy.pop3("pop3");
    for _ in 0..3 {
        pop3.ok(&format!("USER {user}"));
        assert!(pop3.command("PASS wrong").starts_with("-ERR [AUTH]"));
    }
    pop3.session(&user, PASSWORD, &[&small]);
}

#[test]
fn upstream_is_down() {
    let [port] = free_ports();
    both_are_told(
        &Proxy::for_port(port, ""),
        "UNAVAILABLE",
        "SYS/TEMP",
        "mail server cannot be reached: 127.0.0.1 port",
    );
}

#[test]
fn upstream_name_does_not_resolve() {
    let configuration = format!(
        "[upstream.x]\nhost = \"no-such-host.invalid\"\n{}{}",
        listener("imap", "imap", "implicit", ""),
        listener("pop3", "pop3", "implicit", "")
    );
    both_are_told(
        &Proxy::start(&configuration),
        "UNAVAILABLE",
        "SYS/TEMP",
        "name does not resolve: no-such-host.invalid",
    );
}

#[test]
fn upstream_certificate_is_not_accepted() {
    let directory = tempfile::tempdir().unwrap();
    for (certificates, trusted, log) in [
        (Certificates::for_name("other.example", 30), true, "it is for another name than localhost"),
        (Certificates::for_name("localhost", -1), true, "it has expired"),
        (Certificates::for_name("localhost", 30), false, "its issuer is not among the trusted roots"),
    ] {
        certificates.write(directory.path());
        let port = server::tls(&certificates, SslVersion::TLS1_3, |stream| server::say(stream, "* OK never seen\r\n"));
        let roots = if trusted { format!("roots = {:?}", directory.path().join("ca.pem")) } else { String::new() };
        let log = format!("mail server's certificate is not accepted: 127.0.0.1: {log}");
        both_are_told(&Proxy::for_port(port, &roots), "CONTACTADMIN", "SYS/PERM", &log);
    }
}

#[test]
fn upstream_offers_only_tls_1_1() {
    let (certificates, directory) = Certificates::for_name("localhost", 30).in_directory();
    let port = server::tls(&certificates, SslVersion::TLS1_1, |stream| server::say(stream, "* OK never seen\r\n"));
    let roots = format!("roots = {:?}", directory.path().join("ca.pem"));
    both_are_told(&Proxy::for_port(port, &roots), "CONTACTADMIN", "SYS/PERM", "offers nothing newer than TLS 1.1");
}

#[test]
fn upstream_speaks_no_tls() {
    let port = server::plain(|stream| server::say(stream, "* OK hello in clear\r\n"));
    both_are_told(&Proxy::for_port(port, ""), "CONTACTADMIN", "SYS/PERM", "set security = \\\"starttls\\\"");
}

/// The server breaks a handshake message off after one octet and sends an alert; rustls has neither words nor an alert
/// for that.
#[test]
fn upstream_breaks_a_handshake_message_off() {
    let port = server::plain(|mut stream| {
        let _ = stream.write_all(&[0x16, 3, 3, 0, 1, 2, 0x15, 3, 3, 0, 2, 2, 0x28]);
        server::say(stream, "");
    });
    both_are_told(
        &Proxy::for_port(port, ""),
        "CONTACTADMIN",
        "SYS/PERM",
        "peer misbehaved: MessageInterleavedWithHandshakeMessage",
    );
}

#[test]
fn upstream_does_not_answer_in_time() {
    let (certificates, directory) = Certificates::for_name("localhost", 30).in_directory();
    let port = server::tls(&certificates, SslVersion::TLS1_3, |stream| server::say(stream, ""));
    let more = format!("roots = {:?}\n[limits]\nupstream_login_timeout = \"200ms\"", directory.path().join("ca.pem"));
    both_are_told(&Proxy::for_port(port, &more), "UNAVAILABLE", "SYS/TEMP", "limits.upstream_login_timeout = 200ms");
}

#[test]
fn answers_injected_behind_starttls_upstream_are_not_believed() {
    let port = server::plain(|mut stream| {
        let _ = stream.write_all(b"* OK hello\r\n");
        server::hear(&mut stream);
        // The server answers STARTTLS, and at once a login that has not been sent.
        server::say(stream, "P1 OK begin\r\nP2 OK LOGIN completed\r\n");
    });
    let proxy = Proxy::for_port(port, "security = \"starttls\"");
    let mut imap = proxy.imap("imap");
    assert!(status(&imap.command("LOGIN user0 whatever")).starts_with("NO [UNAVAILABLE]"));
    let line = proxy.log.wait_for("line about the login", |line| line.contains("login failed"));
    assert!(line.contains("plaintext behind STARTTLS: the server's side sent answers in clear"), "{line}");
}

#[test]
fn commands_injected_behind_starttls_downstream_are_not_executed() {
    let dovecot = Dovecot::start();
    let proxy = Proxy::start(
        &(upstreams(&dovecot)
            + &listener("imap", "imap", "starttls", "upstream = \"implicit\"")
            + &listener("pop3", "pop3", "auto", "upstream = \"implicit\"\ndetect_delay = \"10ms\"")),
    );
    for (name, words) in [
        ("imap", format!("a STARTTLS\r\nb LOGIN user0 {PASSWORD}\r\n")),
        ("pop3", format!("STLS\r\nUSER user0\r\nPASS {PASSWORD}\r\n")),
    ] {
        let mut device = Device::plain(proxy.address(name));
        device.line();
        device.send(words);
        assert!(device.line().contains("OK begin TLS negotiation"));
        assert!(device.has_ended());
        let line = proxy.session_line(name);
        assert_eq!(line["reason"], "injection");
        assert_eq!(line["login"], "-");
    }
    assert_eq!(proxy.log.count(|line| line.contains("user0")), 0);
    assert!(!dovecot.log().contains("user0"), "{}", dovecot.log());
}

/// A device that sends its ClientHello before the answer to STARTTLS is let in.
#[test]
fn a_client_hello_right_behind_starttls_is_taken() {
    let dovecot = Dovecot::start();
    let proxy = Proxy::start(&(upstreams(&dovecot) + &listener("imap", "imap", "starttls", "upstream = \"implicit\"")));
    let small = message(1024);
    let user = dovecot.user_with(&[&small]);
    /// A stream that drops the two lines in clear before the handshake's first record.
    #[derive(Debug)]
    struct Eager(support::connection::Socket, bool);
    impl Read for Eager {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            while !self.1 {
                let line = server::hear(&mut self.0);
                self.1 = line.starts_with("a OK");
            }
            self.0.read(buffer)
        }
    }
    impl Write for Eager {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            if self.1 {
                return self.0.write(octets);
            }
            self.0.write_all(&[b"a STARTTLS\r\n", octets].concat())?;
            Ok(octets.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.0.flush()
        }
    }
    let context = support::stacks::context(|context| old(context, Version::Tls1_0, "AES128-SHA"));
    let ssl = openssl::ssl::Ssl::new(&context).unwrap();
    let stream = ssl.connect(Eager(tcp(proxy.address("imap")), false)).unwrap();
    Imap::over(Device::over(stream)).session(&user, PASSWORD, &[&small]);
}

/// Each refusal is an alert for the device, and a line that says what to change.
#[test]
fn handshakes_that_a_legacy_listener_refuses() {
    let proxy = Proxy::start(&format!(
        "{}{}",
        listener("imap", "imap", "implicit", "profile = \"legacy\""),
        listener("modern", "imap", "implicit", "profile = \"modern\"")
    ));
    for (name, version, ciphers, log) in [
        ("imap", Version::Tls1_0, "RC4-SHA", "offers only RC4-SHA: set profile = \\\"ancient\\\" on this listener"),
        (
            "imap",
            Version::Tls1_0,
            "DES-CBC3-SHA",
            "offers only DES-CBC3-SHA: set profile = \\\"ancient\\\" on this listener",
        ),
        ("imap", Version::Ssl3, "AES128-SHA", "offers at most SSLv3: set profile = \\\"ancient\\\" on this listener"),
        (
            "modern",
            Version::Tls1_1,
            "AES128-SHA",
            "offers at most TLS 1.1: set profile = \\\"legacy\\\" on this listener",
        ),
        ("modern", Version::Tls1_2, "AES256-SHA256", "offers only AES256-SHA256: set profile = \\\"legacy\\\""),
    ] {
        let error =
            openssl(proxy.address(name), Start::Implicit, |context| old(context, version, ciphers)).unwrap_err();
        assert!(format!("{error:?}").contains("alert"), "{error:?}");
        let line = proxy.log.wait_for(log, |line| line.contains(log));
        assert!(line.contains("the device offers up to ") && line.contains("the listener allows TLS 1."), "{line}");
        assert!(line.contains("\"source\":\"127.0.0.1:") && line.contains("\"WARN\""), "{line}");
        assert_eq!(proxy.log.count(|line| line.contains(log)), 1);
    }
}

#[test]
fn an_sslv2_format_client_hello_is_not_for_modern() {
    let proxy = Proxy::start(&listener("imap", "imap", "implicit", "profile = \"modern\""));
    assert!(java(proxy.address("imap"), Start::Implicit, "SSLv2Hello,TLSv1", "-").has_ended());
    let line = proxy.session_line("imap");
    let message = line["message"].as_str().unwrap();
    assert!(message.contains("in SSLv2 format, and offers at most TLS 1.0: set profile = \"legacy\" on"), "{message}");
}

#[test]
fn tls_and_no_tls_on_the_wrong_listener() {
    let proxy =
        Proxy::start(&(listener("implicit", "imap", "implicit", "") + &listener("starttls", "pop3", "starttls", "")));
    let mut device = Device::plain(proxy.address("implicit"));
    device.send("a1 LOGIN scan secret\r\n");
    assert!(device.has_ended());
    let line = proxy.session_line("implicit").to_string();
    assert!(line.contains("the device speaks without TLS") && !line.contains("secret"), "{line}");
    // A real device closes at once when it gets a greeting in clear, and may take its ClientHello with it.
    let mut device = Device::plain(proxy.address("starttls"));
    device.line();
    device.send([22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1]);
    assert!(device.line().starts_with("-ERR ") && device.has_ended());
    let line = proxy.session_line("starttls").to_string();
    assert!(line.contains("set entry = \\\"implicit\\\" on this listener"), "{line}");
}

/// The device does not use TLS, which is the commonest mistake. Both the device and the operator get the reason.
#[test]
fn a_login_in_clear_is_named() {
    let proxy = Proxy::start(
        &(listener("imap", "imap", "starttls", "") + &listener("pop3", "pop3", "auto", "detect_delay = \"10ms\"")),
    );
    let mut imap = Imap::greeted(Device::plain(proxy.address("imap")));
    assert!(status(&imap.command("LOGIN scan secret")).starts_with("NO [PRIVACYREQUIRED]"));
    imap.ok("LOGOUT");
    let mut pop3 = Pop3::greeted(Device::plain(proxy.address("pop3")));
    assert!(pop3.command("USER scan").starts_with("-ERR start TLS"));
    drop(pop3);
    for name in ["imap", "pop3"] {
        let line = proxy.session_line(name);
        assert_eq!((line["reason"].as_str(), line["level"].as_str()), (Some("login_in_clear"), Some("WARN")), "{line}");
        assert!(line["message"].as_str().unwrap().contains("switch the device to SSL/TLS or STARTTLS"), "{line}");
    }
}

#[test]
fn a_device_that_does_not_trust_the_certificate_and_one_that_does() {
    let proxy = Proxy::start(&listener("imap", "imap", "implicit", ""));
    let verify = |trusted: bool| {
        openssl(proxy.address("imap"), Start::Implicit, |context| {
            old(context, Version::Tls1_0, "AES128-SHA");
            context.set_verify(openssl::ssl::SslVerifyMode::PEER);
            if trusted {
                context.set_ca_file(proxy.authority()).unwrap();
            }
            let address = context.verify_param_mut();
            address.set_ip("127.0.0.1".parse().unwrap()).unwrap();
        })
    };
    assert!(verify(false).is_err());
    let line = proxy.log.wait_for("advice", |line| line.contains("does not accept the certificate"));
    assert!(line.contains("packetboat certificate export"), "{line}");
    let mut imap = Imap::greeted(Device::over(verify(true).unwrap()));
    imap.ok("LOGOUT");
}

#[test]
fn sources_that_may_not_come_are_refused_before_anything_is_spent() {
    let proxy = Proxy::start(
        &(listener("far", "imap", "implicit", "allowed_networks = [\"192.0.2.0/24\", \"2001:db8::/32\"]")
            + &listener("near", "imap", "starttls", "")
            + "[limits]\nconnections_per_source = 2\n"),
    );
    assert!(Device::plain(proxy.address("far")).has_ended());
    let line = proxy.log.wait_for("refusal", |line| line.contains("\"listener\":\"far\"") && line.contains("refused"));
    let words = "source not in allowed_networks: if this is a device of yours, write in listener far: allowed_networks = \
                 [\\\"192.0.2.0/24\\\", \\\"2001:db8::/32\\\", \\\"127.0.0.1/32\\\"]";
    assert!(line.contains(words), "{line}");
    let _both = [0, 1].map(|_| {
        let mut device = Device::plain(proxy.address("near"));
        device.line();
        device
    });
    let mut third = Device::plain(proxy.address("near"));
    assert_eq!(third.line(), "* BYE too many connections from this source");
    assert!(third.has_ended());
    proxy.log.wait_for("refusal", |line| line.contains("limits.connections_per_source = 2"));
}

#[test]
fn time_outs_say_goodbye() {
    let dovecot = Dovecot::start();
    let limits = "[limits]\nhandshake_timeout = \"200ms\"\nlogin_timeout = \"400ms\"\nidle_timeout = \"400ms\"\n";
    let proxy = Proxy::start(
        &(upstreams(&dovecot)
            + limits
            + &listener("silent", "imap", "implicit", "upstream = \"implicit\"")
            + &listener("imap", "imap", "starttls", "upstream = \"implicit\"")
            + &listener("pop3", "pop3", "starttls", "upstream = \"implicit\"")
            + &listener("idle", "imap", "implicit", "upstream = \"implicit\"")),
    );
    assert!(Device::plain(proxy.address("silent")).has_ended());
    assert_eq!(proxy.session_line("silent")["reason"], "handshake_timeout");
    for (name, goodbye) in [("imap", "* BYE "), ("pop3", "-ERR ")] {
        let mut device = Device::plain(proxy.address(name));
        device.line();
        assert!(device.line().starts_with(&format!("{goodbye}the device did not log in in time")));
        assert!(device.has_ended());
        assert_eq!(proxy.session_line(name)["reason"], "no_command");
    }
    let user = dovecot.user_with(&[]);
    let mut imap = proxy.imap("idle");
    imap.login(&user, PASSWORD);
    assert!(imap.device.line().starts_with("* BYE nothing moved for too long"));
    assert!(imap.device.has_ended());
    assert_eq!(proxy.session_line("idle")["reason"], "idle_timeout");
}
