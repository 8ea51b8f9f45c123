//! These tests play the mistakes of docs/troubleshoot.md, and prove that the log has each line that the page shows.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use openssl::ssl::SslVerifyMode;

use packetboat::simulator::quirks::Fault;
use support::device::{Device, tcp};
use support::exchange::*;
use support::imap::{Imap, status};
use support::pages;
use support::process::program;
use support::proxy::{Proxy, translating_listener};
use support::record::{self, Hello};
use support::stacks::{Start, Version, old, openssl};
use support::tls_client::Client;

/// A device whose password is right, and whose address is not.
const ELSEWHERE: &str = "elsewhere";
/// An account with a misspelt mailbox.
const MISSPELT: &str = "scans3";
const TLS_1_0: u16 = 0x0301;
const SSL_3: u16 = 0x0300;
const RC4: u16 = 0x0005;
const DES: u16 = 0x0009;
const AES: u16 = 0x002f;
/// The type of a record that has an alert, and the alert.
const ALERT: u8 = 21;
const CERTIFICATE_UNKNOWN: u8 = 46;

#[test]
fn the_log_has_each_line_of_the_page() {
    let page = pages::read("docs/troubleshoot.md");
    let shown: Vec<&str> = page
        .split("```text\n")
        .skip(1)
        .flat_map(|rest| rest.split("```").next().unwrap().lines())
        .filter(|line| !line.is_empty())
        .collect();
    assert!(shown.len() > 15, "{shown:#?}");
    let printed = [devices(), other_protocol(), wrong_encryption(), token_endpoint(), second_process(), taken_port()];
    let printed = printed.concat();
    let missing: Vec<&&str> =
        shown.iter().filter(|shown| !printed.iter().any(|line| pages::is_as(shown, line))).collect();
    assert!(missing.is_empty(), "nothing prints {missing:#?}, of {printed:#?}");
    assert!(!printed.iter().any(|line| pages::is_as("WARN login failed: the moon is full", line)));
}

/// Every section about a device says what to do for the administrator and for the technician.
#[test]
fn the_page_has_advice_for_both_readers() {
    let page = pages::read("docs/troubleshoot.md");
    let (of_devices, _) = page.split_once("## The proxy does not start").unwrap();
    let sections: Vec<&str> = of_devices.split("\n## ").skip(1).collect();
    assert!(sections.len() > 6, "{sections:?}");
    for section in sections {
        let count = |reader: &str| section.matches(&format!("\n- {reader}: ")).count();
        let (of_administrator, of_technician) = (count("Administrator"), count("Technician"));
        assert!(of_administrator > 0 && of_administrator == of_technician, "{section}");
    }
}

/// Lines about devices with a mistake each, and about one without.
fn devices() -> Vec<String> {
    let exchange = Exchange::new();
    let accounts = account("scans", SCAN, "")
        + &account(MISSPELT, SHARED, "")
        + &account(ELSEWHERE, SCAN, "").replace(
            &format!("login = \"{ELSEWHERE}\""),
            &format!("login = \"{ELSEWHERE}\"\nnetworks = [\"192.168.1.21/32\"]"),
        );
    let configuration = exchange.configured(BY_SECRET, &accounts)
        + &translating_listener("both", "imap", "auto", "")
        + &translating_listener("far", "imap", "implicit", "allowed_networks = [\"10.0.0.0/8\"]")
        + &translating_listener("watch", "imap", "implicit", "observe = true");
    let proxy = exchange.proxy(&configuration);
    let mut imap = proxy.imap("imap");
    for (login, password) in
        [(LOGIN, "wrong"), ("nobody", PASSWORD), (SHARED, PASSWORD), (ELSEWHERE, PASSWORD), (MISSPELT, PASSWORD)]
    {
        let answer = status(&imap.command(&format!("LOGIN {login} {password}")));
        assert!(answer.starts_with("NO "), "{login}: {answer}");
    }
    imap.login(LOGIN, PASSWORD);
    imap.log_out();
    // The device does not find its name in the certificate.
    drop(proxy.pop3("pop3"));
    let answer = status(&proxy.imap("watch").command(&format!("LOGIN {LOGIN} {PASSWORD}")));
    assert!(answer.starts_with("NO [UNAVAILABLE]"), "{answer}");
    assert!(Device::plain(proxy.address("far")).has_ended());
    without_tls(&proxy);
    let verifying = openssl(proxy.address("imap"), Start::Implicit, |tls| {
        old(tls, Version::Tls1_0, "AES128-SHA");
        tls.set_verify(SslVerifyMode::PEER);
    });
    assert!(verifying.is_err());
    let mut refusing = Client::connect(proxy.address("imap"), TLS_1_0, AES);
    refusing.line();
    refusing.send(ALERT, &[2, CERTIFICATE_UNKNOWN]);
    drop(refusing);
    for (version, suite) in [(TLS_1_0, RC4), (TLS_1_0, DES), (SSL_3, AES)] {
        assert!(record::answer(proxy.address("imap"), &Hello::new(version, &[suite])).is_err());
    }
    until_quiet(&proxy);
    lines(&proxy)
}

/// Lines about a device that waits for the greeting of the other protocol.
fn other_protocol() -> Vec<String> {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&(exchange.configuration(BY_SECRET) + "[limits]\nlogin_timeout = \"200ms\"\n"));
    let _waiting = proxy.imap("imap");
    proxy.session_line("imap");
    lines(&proxy)
}

/// Lines about a device that waits for a greeting where TLS comes first, and gives up.
fn wrong_encryption() -> Vec<String> {
    let exchange = Exchange::new();
    let proxy =
        exchange.proxy(&(exchange.configuration(BY_SECRET) + &translating_listener("tls", "imap", "implicit", "")));
    let device = tcp(proxy.address("tls"));
    let patience = Instant::now() + Duration::from_millis(5500);
    while Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(device);
    proxy.session_line("tls");
    lines(&proxy)
}

/// Devices with TLS switched off: one tries to log in, one asks and leaves, one meets a port that begins with TLS.
fn without_tls(proxy: &Proxy) {
    let clear = |listener: &str| -> Device { Device::plain(proxy.address(listener)) };
    let mut imap = Imap::greeted(clear("both"));
    assert!(status(&imap.command("LOGIN a b")).starts_with("NO [PRIVACYREQUIRED]"));
    drop(imap);
    Imap::greeted(clear("both")).ok("CAPABILITY");
    let mut rude = clear("imap");
    rude.send("a LOGIN a b\r\n");
    assert!(rude.has_ended());
}

/// Waits until every connection has its line.
fn until_quiet(proxy: &Proxy) {
    proxy.until_open(0);
    for reason in
        ["handshake", "login_in_clear", "speaks_in_clear", "left_after_handshake", "logged_out", "not_allowed"]
    {
        proxy.log.wait_for(reason, |line| line.contains(&format!("\"reason\":\"{reason}\"")));
    }
}

/// Lines while the token endpoint refuses the secret, and while it does not answer; and while Exchange is away.
fn token_endpoint() -> Vec<String> {
    let mut printed = Vec::new();
    for fault in [Fault::Error("invalid_client", 7_000_222), Fault::Down] {
        let exchange = Exchange::new();
        exchange.quirk(|quirks| quirks.endpoint.fault = Some(fault.clone()));
        printed.extend(refused_login(&exchange.proxy(&exchange.configuration(BY_SECRET))));
    }
    let exchange = Exchange::new();
    let nowhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let configuration = exchange.configuration(BY_SECRET).replace(
        &format!("imap_port = {}", exchange.simulator.imap().port()),
        &format!("imap_port = {}", nowhere.port()),
    );
    printed.extend(refused_login(&exchange.proxy(&configuration)));
    printed
}

/// The lines of a proxy that refuses the right login.
fn refused_login(proxy: &Proxy) -> Vec<String> {
    let answer = status(&proxy.imap("imap").command(&format!("LOGIN {LOGIN} {PASSWORD}")));
    assert!(answer.starts_with("NO ["), "{answer}");
    proxy.log.wait_for("login line", |line| line.contains("login failed: "));
    lines(proxy)
}

/// Lines of a proxy whose state directory is in use.
fn second_process() -> Vec<String> {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_SECRET);
    let proxy = exchange.proxy(&configuration);
    failed_start(Command::new(program()).args(["run", "--config"]).arg(proxy.configuration()))
}

/// Lines of a proxy whose port is in use.
fn taken_port() -> Vec<String> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let exchange = Exchange::new();
    let address = format!("listen = [\"{}\"]", taken.local_addr().unwrap());
    let configuration = exchange.configuration(BY_SECRET).replacen("listen = [\"127.0.0.1:0\"]", &address, 1);
    failed_start(&mut exchange.command(&["run"], &configuration))
}

/// The lines of a start that fails, without their times.
fn failed_start(command: &mut Command) -> Vec<String> {
    let ran = Ran::of(command.output().unwrap());
    assert_ne!(ran.code, 0);
    let after_time = |line: &str| line.split_once(' ').map(|(_, rest)| rest.trim_start().to_owned());
    ran.errors
        .lines()
        .filter_map(|line| if line.contains("\"level\"") { structured(line) } else { after_time(line) })
        .collect()
}

/// Level and message of each line of the log.
fn lines(proxy: &Proxy) -> Vec<String> {
    proxy.log.all().lines().filter_map(structured).collect()
}

/// Level and message of a line in JSON.
fn structured(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(format!("{} {}", line["level"].as_str()?, line["message"].as_str()?))
}
