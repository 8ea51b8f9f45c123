//! These tests prove the advice on a device that sends mail without a login: the command or the lines that log and page
//! print let it send.

use support::browser::Browser;
use support::device::Device;
use support::exchange::{self, BY_SECRET, Exchange, SCAN};
use support::proxy::Proxy;

use super::{legacy, open, pasted, run, tls_from};

/// A session of SMTP over TLS 1.0 from 127.0.0.`host`.
pub struct Sender(Device);

impl Sender {
    fn greeted(proxy: &Proxy, host: u8) -> Self {
        let mut sender = Self(Device::over(tls_from(host, proxy.address("smtp"), legacy).unwrap()));
        assert!(sender.0.line().starts_with("220 "));
        sender
    }

    fn ask(&mut self, line: &str) -> String {
        self.0.send(format!("{line}\r\n"));
        self.0.line()
    }

    /// Begins a message as a device that has no login, and leaves.
    pub fn in_vain(proxy: &Proxy, host: u8) {
        let mut sender = Self::greeted(proxy, host);
        assert!(sender.ask("HELO old").starts_with("250 "));
        let answer = sender.ask("MAIL FROM:<ups@device.example>");
        assert!(answer.starts_with("530 5.7.0 "), "{answer}");
        assert!(sender.ask("QUIT").starts_with("221 "));
    }

    /// Sends a message to the mailbox without a login.
    pub fn sends(proxy: &Proxy, host: u8) {
        let mut sender = Self::greeted(proxy, host);
        for (line, code) in [
            ("HELO old", "250 "),
            ("MAIL FROM:<ups@device.example>", "250 "),
            (&format!("RCPT TO:<{SCAN}>"), "250 "),
            ("DATA", "354 "),
            ("Subject: alarm\r\n\r\nbattery\r\n.", "250 "),
            ("RCPT TO:<out@fabrikam.example>", "5"),
            ("QUIT", "221 "),
        ] {
            let answer = sender.ask(line);
            assert!(answer.starts_with(code), "{line}: {answer}");
        }
    }
}

fn configuration(exchange: &Exchange) -> String {
    exchange.submission_frame() + &exchange.identity(BY_SECRET) + &exchange::account("scans", exchange::SCAN, "")
}

/// The message of the warning about the device at this address.
fn warning(proxy: &Proxy, source: &str) -> String {
    let line = proxy.log.wait_for("warning", |line| line.contains("mail_without_login") && line.contains(source));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "WARN");
    line["message"].as_str().unwrap().strip_prefix("session ended: ").unwrap().to_owned()
}

fn said(proxy: &Proxy, arguments: &str) -> String {
    run(&format!("packetboat {arguments}"), proxy)
}

fn needs_nobody(browser: &Browser) {
    browser.wait_for("no advice", "!document.querySelector('.admission')");
    let console = browser.console();
    assert!(console.is_empty(), "{console:?}");
}

/// The command of the page, and that of the log for another device.
#[test]
fn the_command_lets_a_device_send_without_a_login() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&configuration(&exchange));
    for host in [81, 82] {
        Sender::in_vain(&proxy, host);
        Sender::in_vain(&proxy, host);
    }
    let told = warning(&proxy, "127.0.0.82");
    let (_, behind) = told.split_once("if its menu has none, run ").unwrap_or_else(|| panic!("{told}"));
    let (command, risk) = behind.split_once("; ").unwrap();
    assert_eq!(risk, "every computer at that address can send then");
    proxy.logs(4, "mail_without_login");
    let devices = said(&proxy, "devices");
    assert!(devices.contains(&told), "{devices}");
    assert_eq!(proxy.metric("packetboat_sessions_total", "reason=\"mail_without_login\""), 4);
    let seen = proxy.status()["devices"].clone();
    let of_one = |one: &&serde_json::Value| one["source"] == "127.0.0.82";
    assert_eq!(seen.as_array().unwrap().iter().find(of_one).unwrap()["failures"], 2);

    let browser = open(&proxy);
    let texts = pasted(&browser, "127.0.0.81");
    let text = "packetboat device add sender-127-0-0-81 --without-login --network 127.0.0.81 --account scans \
                --recipient '*@contoso.example'";
    assert_eq!(texts, [text]);
    assert_eq!(command, text.replace("0-81", "0-82").replace("0.81", "0.82"));
    for (text, host) in [(texts[0].as_str(), 81), (command, 82)] {
        run(text, &proxy);
        Sender::sends(&proxy, host);
    }
    assert_eq!(exchange.simulator.submissions().len(), 2);
    Sender::in_vain(&proxy, 83);
    needs_nobody_but(&browser, "127.0.0.83");
}

fn needs_nobody_but(browser: &Browser, source: &str) {
    let sources = "[...document.querySelectorAll('#devices tr')].filter(row => row.querySelector('.admission'))\
                   .map(row => row.dataset.source).join()";
    browser.wait_for("advice on the other alone", &format!("{sources} === '{source}'"));
    let console = browser.console();
    assert!(console.is_empty(), "{console:?}");
}

/// A device that has a login, and an address of its own: the lines of page and log go into its section.
#[test]
fn the_lines_let_a_device_with_a_login_send_without_it() {
    let exchange = Exchange::new();
    let configuration = configuration(&exchange) + "networks = [\"127.0.0.84\"]\n";
    let proxy = exchange.proxy(&configuration);
    Sender::in_vain(&proxy, 84);
    let told = warning(&proxy, "127.0.0.84");
    let lines = "send_without_login = true\nrecipients = [\"*@contoso.example\"]";
    assert!(told.contains(&format!("write {} into the section of that device", lines.replace('\n', ", "))), "{told}");
    let browser = open(&proxy);
    let texts = pasted(&browser, "127.0.0.84");
    assert_eq!(texts, [lines, "packetboat reload"]);
    proxy.configure(&format!("{configuration}{}\n", texts[0]));
    assert_eq!(proxy.reload().0, 0);
    Sender::sends(&proxy, 84);
    needs_nobody(&browser);
}

/// A device that leaves because its password is wrong is told about that, and not about MAIL.
#[test]
fn a_login_that_fails_is_the_reason() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&configuration(&exchange));
    let mut sender = Sender::greeted(&proxy, 85);
    let answer = sender.ask("AUTH PLAIN AHNjYW5uZXIzAGd1ZXNz");
    assert!(answer.starts_with("535 "), "{answer}");
    assert!(sender.ask("MAIL FROM:<ups@device.example>").starts_with("530 "));
    assert!(sender.ask("QUIT").starts_with("221 "));
    proxy.log.wait_for("end", |line| line.contains("session ended") && line.contains("127.0.0.85"));
    assert!(!proxy.log.all().contains("mail_without_login"));
    let seen = proxy.status()["devices"].clone();
    assert_eq!(seen[0]["reason"], "wrong_password", "{seen:#}");
}
