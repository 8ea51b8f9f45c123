//! These tests prove that a device without a login sends mail from its own address, and that nobody else does.

mod bounds;
mod withdrawn;

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Output, Stdio};

use packetboat::simulator::quirks::smtp::LoginRefusal;
use support::device::{Device, tcp_from};
use support::exchange::*;
use support::proxy::{Proxy, translating_listener};

/// The address of the device without a login, and one where no device is.
const HP: [u8; 4] = [127, 0, 0, 2];
const NOBODY: [u8; 4] = [127, 0, 0, 9];
const OUTSIDE: &str = "out@fabrikam.example";
const OLD: &str = "AES128-SHA:@SECLEVEL=0";

/// A device without a login at this address, with more lines.
fn without_login(login: &str, address: [u8; 4], more: &str) -> String {
    let address = IpAddr::from(address);
    format!(
        "[[device]]\nlogin = \"{login}\"\naccount = \"scans\"\nsend_without_login = true\nnetworks = [\"{address}\"]\n{more}\n"
    )
}

/// packetboat with listeners `smtp` (TLS or not, as the device likes), `tls` (STARTTLS before MAIL) and `smtps`.
fn configuration(exchange: &Exchange, devices: &str) -> String {
    // Each device on this listener waits for a greeting in clear.
    let clear = "allow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\"]\ndetect_delay = \"50ms\"";
    exchange.submission_frame().replace(
        &translating_listener("smtp", "smtp", "auto", ""),
        &(translating_listener("smtp", "smtp", "auto", clear)
            + &translating_listener("tls", "smtp", "starttls", "")
            + &translating_listener("smtps", "smtp", "implicit", "")),
    ) + &exchange.identity(BY_SECRET)
        + &account("scans", SCAN, "")
        + devices
}

fn proxy(exchange: &Exchange) -> Proxy {
    let devices = without_login("hp-cm6040", HP, "recipients = [\"*@contoso.example\"]");
    exchange.proxy(&configuration(exchange, &devices))
}

/// A device at an address, in clear.
struct Peer(Device);

impl Peer {
    fn greeted(proxy: &Proxy, listener: &str, address: [u8; 4]) -> Self {
        let mut peer = Self(Device::over(tcp_from(address, proxy.address(listener))));
        assert!(peer.reply().starts_with("220 "));
        peer
    }

    fn ask(&mut self, line: impl AsRef<[u8]>) -> String {
        self.0.send([line.as_ref(), b"\r\n"].concat());
        self.reply()
    }

    #[track_caller]
    fn hears(&mut self, line: &str, code: &str) {
        let answer = self.ask(line);
        assert!(answer.starts_with(code), "{line}: {answer}");
    }

    /// The last line of a reply.
    fn reply(&mut self) -> String {
        loop {
            let line = self.0.line();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    /// Sends a message to the mailbox.
    fn send(&mut self) {
        self.hears("MAIL FROM:<hp@device.example>", "250 2.1.0");
        self.hears(&format!("RCPT TO:<{SCAN}>"), "250 ");
        self.hears("DATA", "354 ");
        self.hears("Subject: page\r\n\r\nbody\r\n.", "250 ");
    }
}

fn checked(output: Output) -> String {
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// The messages that the pretend Exchange Online has delivered, each as its sender and recipients.
#[track_caller]
fn delivered(exchange: &Exchange, count: usize) {
    let submissions = exchange.simulator.submissions();
    assert_eq!(submissions.len(), count);
    for one in submissions {
        assert_eq!((one.sender.as_str(), one.recipients.as_slice()), (SCAN, [SCAN.to_owned()].as_slice()));
        assert!(one.is_delivered && one.defects().is_empty(), "{one:?}");
    }
}

fn python(script: &str) -> String {
    let mut python = Command::new("python3");
    python.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut python = python.spawn().unwrap();
    python.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    checked(python.wait_with_output().unwrap())
}

/// swaks with EHLO in clear and over TLS 1.0, curl without credentials, and Python with HELO.
#[test]
fn real_programs_send_without_a_login() {
    let exchange = Exchange::new();
    let proxy = proxy(&exchange);
    let swaks = |listener: &str, more: &[&str]| {
        let mut command = Command::new("swaks");
        command.args(["--server", &proxy.address(listener).to_string(), "--local-interface", "127.0.0.2"]);
        command.args(["--from", "hp@device.example", "--to", SCAN, "--helo", "[192.168.1.21]"]).args(more);
        checked(command.output().unwrap())
    };
    let said = swaks("smtp", &[]);
    assert!(!said.contains("235 ") && said.contains("250 2.1.0"), "{said}");
    swaks("smtp", &["--protocol", "SMTP"]);
    for listener in ["tls", "smtps"] {
        let how = if listener == "tls" { "--tls" } else { "--tls-on-connect" };
        let said = swaks(listener, &[how, "--tls-protocol", "tlsv1", "--tls-cipher", OLD]);
        assert!(said.contains("TLS started with cipher TLSv1:AES128-SHA"), "{said}");
    }
    let file = exchange.file("scan", "Subject: page\r\n\r\nbody\r\n");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "60", "--interface", "127.0.0.2", "--mail-from", "hp@device.example"]);
    curl.args(["--mail-rcpt", SCAN, "--upload-file"]).arg(&file);
    checked(curl.arg(format!("smtp://{}/hp", proxy.address("smtp"))).output().unwrap());
    let said = python(&format!(
        "import smtplib\n\
         smtp = smtplib.SMTP('127.0.0.1', {port}, source_address=('127.0.0.2', 0))\nprint(smtp.helo(''))\n\
         for number in range(2):\n    smtp.sendmail('hp@device.example', [{SCAN:?}], b'Subject: %d\\r\\n\\r\\n' % number)\n\
         try:\n    smtp.sendmail('hp@device.example', [{OUTSIDE:?}], b'\\r\\n')\n\
         except smtplib.SMTPRecipientsRefused as refused:\n    print(refused)\nprint(smtp.quit())\n",
        port = proxy.address("smtp").port()
    ));
    assert!(said.contains("550, b'5.7.1 ") && said.contains("(221, "), "{said}");
    delivered(&exchange, 7);
    // Log, metrics and page name the device.
    let line = proxy.session_of("login", "hp-cm6040").to_string();
    assert!(line.contains(&format!("\"mailbox\":\"{SCAN}\"")) && line.contains("the device logged out"), "{line}");
    assert_eq!(proxy.metric("packetboat_submitted_messages_total", "result=\"accepted\""), 7);
    let status = proxy.status().to_string();
    assert!(status.contains("hp-cm6040"), "{status}");
    assert!(!exchange.simulator.smtp_commands().iter().any(|one| one.line.contains("fabrikam")));
}

/// An address without a device, a listener that wants TLS first, and one whose logins are passed through.
#[test]
fn anybody_else_has_to_log_in() {
    let exchange = Exchange::new();
    let proxy = proxy(&exchange);
    let mut stranger = Peer::greeted(&proxy, "smtp", NOBODY);
    for greeting in ["EHLO x", "HELO x"] {
        stranger.hears(greeting, "250 ");
        for line in ["MAIL FROM:<a@b.example>", "RCPT TO:<a@b.example>", "DATA"] {
            stranger.hears(line, "530 5.7.0 ");
        }
    }
    stranger.hears("AUTH PLAIN AGhwLWNtNjA0MAA=", "535 5.7.8");
    let mut device = Peer::greeted(&proxy, "tls", HP);
    device.hears("MAIL FROM:<a@b.example>", "530 5.7.0 start TLS");
    let mut device = Peer::greeted(&proxy, "smtp", HP);
    device.hears("RCPT TO:<a@b.example>", "503 5.5.1 MAIL");
    device.hears("QUIT", "221 ");
    // The device's name is no user name without a password.
    let mut device = Peer::greeted(&proxy, "smtp", HP);
    device.hears("AUTH PLAIN AGhwLWNtNjA0MABndWVzcw==", "535 5.7.8");
    proxy.log.wait_for("reason", |line| line.contains("device \\\"hp-cm6040\\\" has no password"));
    assert_eq!(exchange.simulator.counts().smtp().accepted, 0);
}

/// A device that has a password as well logs in with it elsewhere, and at home, too.
#[test]
fn a_password_works_beside_the_address() {
    let exchange = Exchange::new();
    let device =
        format!("send_without_login = true\nnetworks = [\"127.0.0.2\", \"127.0.0.9\"]\nrecipients = [\"{SCAN}\"]");
    let proxy = exchange.proxy(&(configuration(&exchange, "") + &device));
    let login = "AUTH PLAIN AHNjYW5uZXIzAGs3bTJ4cDlhdA==";
    for address in [HP, NOBODY] {
        let mut device = Peer::greeted(&proxy, "smtp", address);
        device.hears(login, "235 ");
        device.send();
        let mut device = Peer::greeted(&proxy, "smtp", address);
        device.send();
        device.hears(login, "503 5.5.1");
    }
    let mut elsewhere = Peer::greeted(&proxy, "smtp", [127, 0, 0, 3]);
    elsewhere.hears(login, "535 5.7.8");
    elsewhere.hears("MAIL FROM:<a@b.example>", "530 5.7.0");
    delivered(&exchange, 4);
}

/// A login that fails costs one MAIL: the device hears one reply for each of its commands, and may try again.
#[test]
fn a_login_that_fails_is_the_answer_to_mail() {
    let exchange = Exchange::new();
    let proxy = proxy(&exchange);
    exchange.quirk(|quirks| quirks.smtp.login_refusal = Some(LoginRefusal::DisabledForMailbox));
    let mut device = Peer::greeted(&proxy, "smtp", HP);
    device.0.send("EHLO hp\r\nMAIL FROM:<hp@device.example>\r\nRCPT TO:<scan@contoso.example>\r\nDATA\r\nNOOP\r\n");
    let heard: Vec<String> = (0..5).map(|_| device.reply()[..3].to_owned()).collect();
    assert_eq!(heard, ["250", "550", "503", "503", "250"]);
    proxy.log.wait_for("line of the failure", |line| {
        line.contains("login failed") && line.contains("\"login\":\"hp-cm6040\"")
    });
    exchange.quirk(|quirks| quirks.smtp.login_refusal = None);
    device.send();
    device.send();
    device.hears("QUIT", "221 ");
    delivered(&exchange, 2);
}
