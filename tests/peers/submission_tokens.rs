//! These tests prove that devices with TLS 1.0 and a password submit to Postfix and Exim, which take a token over
//! TLS 1.2. Dovecot judges the tokens for Postfix, the issuer itself for Exim.

use std::path::{Path, PathBuf};
use std::process::Command;

use support::delivered::Delivered;
use support::dovecot::{Dovecot, PASSWORD};
use support::exim::Exim;
use support::issuer::Issuer;
use support::message;
use support::postfix::Postfix;
use support::proxy::{Proxy, listener, translating_listener};
use support::smtp::{Login, Smtp};
use support::stacks::{Start, TLS_1_0};
use support::translated::{DEVICE_PASSWORD, account, device};

pub const MAILBOX: &str = "scans@contoso.example";
pub const RECIPIENT: &str = "office@example.test";
const DEVICE: &str = "scanner@example.test";
/// OpenSSL's words for a device of 2005.
const OLD: &str = "AES128-SHA:@SECLEVEL=0";

/// A mail server, by each kind of security.
pub struct Server {
    roots: PathBuf,
    submission: u16,
    submissions: u16,
}

impl From<&Postfix> for Server {
    fn from(postfix: &Postfix) -> Self {
        Self { roots: postfix.roots(), submission: postfix.submission, submissions: postfix.submissions }
    }
}

impl From<&Exim> for Server {
    fn from(exim: &Exim) -> Self {
        Self { roots: exim.roots(), submission: exim.submission, submissions: exim.submissions }
    }
}

/// Postfix, whose logins Dovecot judges by tokens of the issuer.
pub fn postfix() -> (Issuer, Dovecot, Postfix) {
    let issuer = Issuer::start();
    let judge = Dovecot::start_as_judge(&issuer);
    let postfix = Postfix::start(&judge);
    (issuer, judge, postfix)
}

impl Server {
    fn upstreams(&self) -> String {
        let roots = &self.roots;
        [("starttls", self.submission), ("implicit", self.submissions)]
            .map(|(name, port)| {
                format!(
                    "[upstream.{name}]\nroots = {roots:?}\n[upstream.{name}.smtp]\nhost = \"127.0.0.1\"\n\
                     server_name = \"localhost\"\nport = {port}\nsecurity = \"{name}\"\n"
                )
            })
            .concat()
    }

    /// packetboat in front of it, with a device and a mailbox by each kind of security.
    fn proxy(&self, issuer: &Issuer) -> Proxy {
        self.proxy_with(issuer, &translating_listener("smtp", "smtp", "implicit", ""))
    }

    /// The same with other listeners.
    pub fn proxy_with(&self, issuer: &Issuer, listeners: &str) -> Proxy {
        let mut text = "[submission]\nmessages_per_minute = 1000\n\
             recipients_per_hour_of_device = 100000\n"
            .to_owned()
            + &self.upstreams();
        for upstream in ["starttls", "implicit"] {
            text += &account(upstream, MAILBOX, upstream, issuer);
            text += &device(upstream, upstream, DEVICE_PASSWORD, "");
        }
        Proxy::start(&(text + listeners))
    }
}

fn greeted(proxy: &Proxy) -> Smtp {
    Smtp::greeted(TLS_1_0.connect(proxy.address("smtp"), Start::Implicit))
}

/// The documented changes: the envelope has the mailbox as its sender, From as well, and Reply-To the old address.
pub fn changed(content: &[u8]) -> Delivered {
    let rest = content.strip_prefix(b"From: scanner@example.test\r\n").expect("the message begins with its sender");
    let head = format!("From: <{MAILBOX}>\r\nReply-To: <scanner@example.test>\r\n");
    let content = [head.as_bytes(), rest].concat();
    Delivered { sender: MAILBOX.to_owned(), recipients: RECIPIENT.to_owned(), content }
}

/// Sends by each kind of security; the device is refused where the issuer's key is another one.
fn send_and_be_refused(issuer: &Issuer, server: &Server, taken: &dyn Fn() -> Delivered, accepted: &str) {
    let proxy = server.proxy(issuer);
    let content = message(1024);
    for login in ["starttls", "implicit"] {
        let mut device = greeted(&proxy);
        device.log_in(Login::UserAsked, login, DEVICE_PASSWORD);
        let answer = device.submit("scanner@example.test", RECIPIENT, &content);
        assert!(answer.starts_with(accepted), "{answer}");
        assert_eq!(taken(), changed(&content), "{login}");
        device.say("MAIL FROM:<a@b.example>", "250 ");
        device.say("RCPT TO:<nobody@example.test>", "55");
        device.say("QUIT", "221 ");
    }
    assert!(!proxy.log.all().contains(DEVICE_PASSWORD));
    issuer.forge();
    let proxy = server.proxy(issuer);
    let answer = greeted(&proxy).ask(&Login::Plain.dialogue("starttls", DEVICE_PASSWORD)[0].0);
    assert!(answer.starts_with("535 5.7."), "{answer}");
    let line = proxy.log.wait_for("line of the refusal", |line| line.contains("\"reason\":\"not_authorized\""));
    assert!(line.contains(MAILBOX), "{line}");
    let log = proxy.log.all();
    assert!(!issuer.secrets().iter().any(|secret| log.contains(secret.as_str())), "{log}");
}

/// Dovecot says in a challenge why it refuses a token, as Google does.
#[test]
fn postfix_takes_tokens() {
    let (issuer, _judge, postfix) = postfix();
    send_and_be_refused(&issuer, &Server::from(&postfix), &|| postfix.take(), "250 2.0.0 Ok: queued as ");
    let log = postfix.log();
    assert!(log.contains(&format!("sasl_method=XOAUTH2, sasl_username={MAILBOX}")), "{log}");
}

#[test]
fn exim_takes_tokens() {
    let issuer = Issuer::start();
    let exim = Exim::start_with_tokens_of(&issuer);
    send_and_be_refused(&issuer, &Server::from(&exim), &|| exim.take(), "250 OK id=");
    let log = exim.log();
    assert!(log.contains(&format!("A=xoauth2:{MAILBOX}")), "{log}");
}

/// Where packetboat only passes a login through, Postfix takes the device's own password, by PLAIN or LOGIN.
#[test]
fn postfix_takes_passwords() {
    let (_issuer, _judge, postfix) = postfix();
    let mut text = Server::from(&postfix).upstreams();
    for upstream in ["starttls", "implicit"] {
        text += &listener(upstream, "smtp", "implicit", &format!("upstream = \"{upstream}\""));
    }
    let proxy = Proxy::start(&text);
    let content = message(1024);
    for (name, login) in ["starttls", "implicit"].into_iter().flat_map(|name| Login::ALL.map(|login| (name, login))) {
        let mut device = Smtp::greeted(TLS_1_0.connect(proxy.address(name), Start::Implicit));
        device.log_in(login, "scanner", PASSWORD);
        let answer = device.submit("scanner@example.test", RECIPIENT, &content);
        assert!(answer.starts_with("250 2.0.0 Ok: queued as "), "{answer}");
        let one = postfix.take();
        assert!(one.content == content && one.sender == "scanner@example.test", "{name} {login:?}: {one:?}");
    }
    let log = postfix.log();
    assert!(log.contains("sasl_method=PLAIN, sasl_username=scanner"), "{log}");
}

/// A mail program's command, for a port with STARTTLS and a message in a file.
fn programs(port: u16, file: &Path) -> Vec<Command> {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--insecure", "--tlsv1.0", "--tls-max", "1.0", "--ciphers", OLD, "--ssl-reqd"]);
    curl.args(["--user", &format!("starttls:{DEVICE_PASSWORD}"), "--mail-from", DEVICE, "--mail-rcpt", RECIPIENT]);
    curl.arg("--upload-file").arg(file).arg(format!("smtp://127.0.0.1:{port}/MFP"));
    let mut swaks = Command::new("swaks");
    swaks.args(["--server", &format!("127.0.0.1:{port}"), "--tls", "--tls-protocol", "tlsv1", "--tls-cipher", OLD]);
    swaks.args(["--auth", "LOGIN", "--auth-user", "starttls", "--auth-password", DEVICE_PASSWORD]);
    swaks.args(["--from", DEVICE, "--to", RECIPIENT, "--data"]).arg(format!("@{}", file.display()));
    let mut msmtp = Command::new("msmtp");
    msmtp.args(["--file=/dev/null", "--host=127.0.0.1", "--tls=on", "--tls-certcheck=off", "--auth=login"]);
    msmtp.arg("--tls-priorities=NORMAL:-VERS-ALL:+VERS-TLS1.0:+RSA:+AES-128-CBC:+SHA1:%NO_EXTENSIONS");
    msmtp.arg(format!("--port={port}")).arg("--user=starttls").arg(format!("--passwordeval=echo {DEVICE_PASSWORD}"));
    msmtp.arg(format!("--from={DEVICE}")).arg(RECIPIENT);
    vec![curl, swaks, msmtp]
}

/// Mail that programs send through a token arrives as they sent it, but for the sender.
#[test]
fn mail_programs_send_by_token() {
    let (issuer, _judge, postfix) = postfix();
    let listeners = translating_listener("smtp", "smtp", "starttls", "");
    let proxy = Server::from(&postfix).proxy_with(&issuer, &listeners);
    let content = b"From: scanner@example.test\r\nTo: office@example.test\r\nSubject: page\r\n\
        Date: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.test>\r\n\r\n.\r\n..\r\nhello\r\n.last\r\n";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("message");
    for mut program in programs(proxy.address("smtp").port(), &file) {
        let text = String::from_utf8_lossy(content).into_owned();
        let text = match program.get_program().to_str() {
            Some("curl") => text,
            // swaks puts a line end behind the file.
            Some("swaks") => text.replace("\r\n", "\n").trim_end().to_owned(),
            _ => text.replace("\r\n", "\n"),
        };
        std::fs::write(&file, text).unwrap();
        let output = program.stdin(std::fs::File::open(&file).unwrap()).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{program:?}: {said}");
        assert_eq!(postfix.take(), changed(content), "{program:?}");
        let line = proxy.session_of("listener", "smtp").to_string();
        assert!(line.contains("\"device_tls\":\"TLSv1 "), "{line}");
    }
}
