//! This file sets up a simulator with two users and an app, curl, and a mail client by OpenSSL.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::process::Command;

use base64::{Engine, engine::general_purpose::STANDARD};
use openssl::ssl::{SslConnector, SslMethod};
use packetboat::simulator::{Tenant, User};
use serde_json::Value;
use support::connection::Connection;
use support::exchange::Exchange;
pub use support::exchange::{APP, SCAN, SCAN_PASSWORD, SECRET, SHARED, TENANT};

pub const OTHER: &str = "other@contoso.example";
pub const APP_SCOPE: &str = "https://outlook.office365.com/.default";
pub const SCOPE: &str = "https://outlook.office.com/IMAP.AccessAsUser.All \
                         https://outlook.office.com/POP.AccessAsUser.All offline_access";
pub const SEND_SCOPE: &str = "https://outlook.office.com/SMTP.Send";

/// The simulator of every test, with a second user, and curl.
pub struct Scene(Exchange);

impl Deref for Scene {
    type Target = Exchange;

    fn deref(&self) -> &Exchange {
        &self.0
    }
}

impl Scene {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// Starts a simulator whose tenant the function has changed.
    pub fn with(change: impl FnOnce(&mut Tenant)) -> Self {
        Self(Exchange::with(|tenant| {
            tenant.users.push(User::new(OTHER, "Pa55word2"));
            change(tenant);
        }))
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{}/{TENANT}/oauth2/v2.0/{path}", self.simulator.endpoint())
    }

    /// Status, headers and body, or curl's exit code.
    pub fn curl(&self, arguments: &[&str]) -> Result<(u16, String, String), i32> {
        let output = Command::new("curl")
            .args(["-s", "-i", "--max-time", "60", "--cacert"])
            .arg(self.simulator.authority())
            .args(arguments)
            .output()
            .unwrap();
        if !output.status.success() {
            return Err(output.status.code().unwrap());
        }
        let text = String::from_utf8(output.stdout).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok((status, head.to_ascii_lowercase(), body.to_owned()))
    }

    /// Posts a form; the app's client_id goes with it.
    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> (u16, Value) {
        let mut arguments = vec![self.url(path), "--data-urlencode".to_owned(), format!("client_id={APP}")];
        for (name, value) in fields {
            arguments.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (status, _, body) = self.curl(&arguments).unwrap();
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    pub fn token(&self, fields: &[(&str, &str)]) -> (u16, Value) {
        self.post("token", fields)
    }

    /// An access token of the app itself.
    pub fn app_token(&self) -> String {
        let fields = [("grant_type", "client_credentials"), ("client_secret", SECRET), ("scope", APP_SCOPE)];
        let (status, answer) = self.token(&fields);
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// The answer to the password grant of the first user.
    pub fn user_answer(&self) -> Value {
        let fields = [("grant_type", "password"), ("username", SCAN), ("password", SCAN_PASSWORD), ("scope", SCOPE)];
        let (status, answer) = self.token(&fields);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// An access token of the first user for sending.
    pub fn send_token(&self) -> String {
        let person = [("grant_type", "password"), ("username", SCAN), ("password", SCAN_PASSWORD)];
        let (status, answer) = self.token(&[person.as_slice(), &[("scope", SEND_SCOPE)]].concat());
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// An SMTP connection in clear, behind its greeting.
    pub fn smtp(&self) -> Mail {
        let mut mail = Mail::clear(self.simulator.smtp());
        assert!(mail.reply().starts_with("220 "));
        mail
    }

    /// An SMTP connection under TLS, behind EHLO.
    pub fn smtp_tls(&self) -> Mail {
        self.smtp_tls_with("250-AUTH LOGIN XOAUTH2")
    }

    /// An SMTP connection under TLS, behind EHLO, whose response has this line.
    pub fn smtp_tls_with(&self, extension: &str) -> Mail {
        let mut smtp = self.smtp();
        assert!(smtp.smtp("EHLO proxy.example").contains("250-STARTTLS"));
        assert_eq!(smtp.smtp("STARTTLS"), "220 2.0.0 SMTP server ready");
        smtp.begin_tls(self);
        assert!(smtp.smtp("EHLO proxy.example").contains(extension));
        smtp
    }

    /// An SMTP session that the app's token has opened.
    pub fn smtp_session(&self) -> Mail {
        let mut smtp = self.smtp_tls();
        assert_eq!(smtp.xoauth2(SCAN, &self.app_token()), "235 2.7.0 Authentication successful");
        smtp
    }

    pub fn imap(&self) -> Mail {
        let mut mail = Mail::connect(self, self.simulator.imap());
        assert!(mail.line().starts_with("* OK "));
        mail
    }

    pub fn pop3(&self) -> Mail {
        let mut mail = Mail::connect(self, self.simulator.pop3());
        assert!(mail.line().starts_with("+OK "));
        mail
    }

    /// An IMAP session that the app's token has opened.
    pub fn imap_session(&self) -> Mail {
        let mut imap = self.imap();
        let answer = imap.authenticate(SCAN, &self.app_token());
        assert_eq!(answer, "a OK AUTHENTICATE completed.");
        imap
    }

    pub fn pop3_session(&self) -> Mail {
        let mut pop3 = self.pop3();
        assert_eq!(pop3.auth(SCAN, &self.app_token()), "+OK User successfully authenticated.");
        pop3
    }
}

pub fn xoauth2(user: &str, token: &str) -> String {
    STANDARD.encode(format!("user={user}\x01auth=Bearer {token}\x01\x01"))
}

/// The `error` and the number of a refusal.
pub fn refusal((status, answer): (u16, Value)) -> (u16, String, u64) {
    let code = answer["error_codes"][0].as_u64().unwrap_or_else(|| panic!("{answer}"));
    assert!(answer["error_description"].as_str().unwrap().starts_with(&format!("AADSTS{code}: ")), "{answer}");
    (status, answer["error"].as_str().unwrap().to_owned(), code)
}

pub struct Mail(Connection);

impl Mail {
    pub fn connect(scene: &Scene, address: SocketAddr) -> Self {
        let mut mail = Self::clear(address);
        mail.begin_tls(scene);
        mail
    }

    pub fn clear(address: SocketAddr) -> Self {
        Self(Connection::over(TcpStream::connect(address).unwrap()).unwrap())
    }

    pub fn begin_tls(&mut self, scene: &Scene) {
        let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
        connector.set_ca_file(scene.simulator.authority()).unwrap();
        let ssl = connector.build().configure().unwrap().into_ssl("127.0.0.1").unwrap();
        self.0.connect_with(ssl).unwrap();
    }

    pub fn send_octets(&mut self, octets: &[u8]) {
        self.0.send(octets).unwrap();
    }

    /// A response of SMTP, with all its lines.
    pub fn reply(&mut self) -> String {
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line: &String| line.as_bytes().get(3) == Some(&b'-')) {
            lines.push(self.line());
        }
        lines.join("\n")
    }

    /// Sends an SMTP command; returns the response to it.
    pub fn smtp(&mut self, command: &str) -> String {
        self.send(command);
        self.reply()
    }

    /// Logs in to SMTP in two lines; returns the last response.
    pub fn xoauth2(&mut self, user: &str, token: &str) -> String {
        assert_eq!(self.smtp("AUTH XOAUTH2"), "334 ");
        self.smtp(&xoauth2(user, token))
    }

    /// Submits data, which may end the message in its own way; returns the response to it.
    pub fn submit(&mut self, sender: &str, recipients: &[&str], data: &[u8]) -> String {
        assert_eq!(self.smtp(&format!("MAIL FROM:<{sender}>")), "250 2.1.0 Sender OK");
        for recipient in recipients {
            assert_eq!(self.smtp(&format!("RCPT TO:<{recipient}>")), "250 2.1.5 Recipient OK");
        }
        assert!(self.smtp("DATA").starts_with("354 "));
        self.send_octets(data);
        self.reply()
    }

    pub fn send(&mut self, line: &str) {
        self.0.send(format!("{line}\r\n").as_bytes()).unwrap();
    }

    /// The next line; empty at the end.
    pub fn line(&mut self) -> String {
        match self.0.octets_of_line() {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.unread(),
            line => String::from_utf8(line.unwrap()).unwrap(),
        }
    }

    pub fn octets(&mut self, count: usize) -> Vec<u8> {
        self.0.octets(count).unwrap()
    }

    /// Everything up to the end; an error where the connection did not end properly.
    pub fn rest(&mut self) -> std::io::Result<String> {
        while self.0.fill()? > 0 {}
        Ok(self.unread())
    }

    fn unread(&mut self) -> String {
        let count = self.0.unread().len();
        String::from_utf8(self.0.take(count)).unwrap()
    }

    /// Sends a command with tag `a`; returns all lines of the answer.
    pub fn ask(&mut self, command: &str) -> Vec<String> {
        self.send(&format!("a {command}"));
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line: &String| !line.starts_with("a ")) {
            let line = self.line();
            assert!(!line.is_empty(), "{command}: ended after {lines:?}");
            lines.push(line);
        }
        lines
    }

    /// Sends a POP3 command; returns the one line of the answer.
    pub fn say(&mut self, command: &str) -> String {
        self.send(command);
        self.line()
    }

    pub fn authenticate(&mut self, user: &str, token: &str) -> String {
        self.ask(&format!("AUTHENTICATE XOAUTH2 {}", xoauth2(user, token))).pop().unwrap()
    }

    pub fn auth(&mut self, user: &str, token: &str) -> String {
        assert_eq!(self.say("AUTH XOAUTH2"), "+");
        self.say(&xoauth2(user, token))
    }
}
