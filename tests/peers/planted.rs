//! These tests prove that a device's password goes to packetboat alone, in every command and state that can carry one.
//!
//! They search every wire and record for planted secrets: the mail server, the token endpoint, the log, the page, the
//! disk.

use crate::secrets::{files_below, holds, shown_by};
use support::device::Device;
use support::issuer::Issuer;
use support::proxy::{Proxy, listener, translating_listener};
use support::recorder::Recorder;
use support::stacks::{Start, TLS_1_0};
use support::translated::{DEVICE_PASSWORD, account, device};

const PLANTED: &str = "planted-4k2x9-secret";

/// A server, a token endpoint, and the proxy between them, with one device that may delete and one that may not.
pub struct Wires {
    server: Recorder,
    issuer: Issuer,
    pub proxy: Proxy,
}

const LOGINS: [&str; 2] = ["deleting", "guarded"];

impl Wires {
    pub fn new() -> Self {
        Self::with("")
    }

    /// Starts them with additional limits.
    pub fn with(limits: &str) -> Self {
        let clear = "allow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\"]";
        let (server, issuer) = (Recorder::start(), Issuer::start());
        let configuration = [
            "[limits]\nfailure_delay = \"1ms\"\nlongest_failure_delay = \"10ms\"\nbad_commands = 1000\n",
            limits,
            &server.upstream("recorder"),
            &translating_listener("imap", "imap", "implicit", ""),
            &translating_listener("pop3", "pop3", "implicit", ""),
            &translating_listener("clear", "imap", "plaintext", clear),
            &translating_listener("clear3", "pop3", "plaintext", clear),
            &listener("through", "imap", "implicit", "upstream = \"recorder\""),
            &listener("through3", "pop3", "implicit", "upstream = \"recorder\""),
            &device(LOGINS[0], "one", DEVICE_PASSWORD, ""),
            &device(LOGINS[1], "two", DEVICE_PASSWORD, "delete = false"),
            &account("one", "one@contoso.example", "recorder", &issuer),
            &account("two", "two@contoso.example", "recorder", &issuer),
        ];
        let proxy = Proxy::start_at("trace", &configuration.concat());
        Self { server, issuer, proxy }
    }

    pub fn connect(&self, listener: &str) -> Device {
        let mut device = TLS_1_0.connect(self.proxy.address(listener), Start::Implicit);
        device.line();
        device
    }

    /// Everything that any party but the device has received.
    fn all(&self) -> String {
        let asked = format!("{:?}", self.issuer.requests());
        let files = files_below(&self.proxy.state_directory());
        let files = files.iter().map(|file| String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned());
        let files: String = files.collect();
        [self.server.heard(), asked, self.proxy.log.all(), shown_by(&self.proxy), files].join("\n")
    }

    fn assert_clean(&self) {
        let all = self.all();
        for secret in [PLANTED, DEVICE_PASSWORD] {
            let line = all.lines().find(|line| holds(line, secret));
            assert!(line.is_none(), "{secret} in {}", line.unwrap());
        }
    }
}

fn base64(text: impl AsRef<[u8]>) -> String {
    openssl::base64::encode_block(text.as_ref())
}

/// Login commands with the secret after them, in every form.
fn imap_logins() -> Vec<String> {
    let (user, password) = (base64("scanner3"), base64(PLANTED));
    let plain = base64(format!("\0scanner3\0{PLANTED}"));
    let length = PLANTED.len();
    vec![
        format!("x LOGIN scanner3 {PLANTED}\r\n"),
        format!("x login \"scanner3\" \"{PLANTED}\"\n"),
        format!(" \0x\tLoGiN  scanner3 {PLANTED}\r\n"),
        format!("LOGIN scanner3 {PLANTED}\r\n"),
        format!("\u{feff}LOGIN scanner3 {PLANTED}\r\n"),
        format!("LOGIN list {PLANTED}\r\n"),
        format!("x LOGIN {{8+}}\r\nscanner3 {{{length}+}}\r\n{PLANTED}\r\n"),
        format!("x LOGIN {{8}}\r\nscanner3 {{{length}}}\r\n{PLANTED}\r\n"),
        format!("x LOGIN scanner3 {{{}}}\r\nsome {PLANTED}\r\n", length + 5),
        // The passwords look like a command, and the literals that announce them are refused.
        format!("x LOGIN {{8}}\r\nscanner3 {{{}}}\r\nmy noop {PLANTED}\r\n", length + 8),
        format!("x LOGIN {{8+}}\r\nscanner3 {{{}}}\r\nmy list {PLANTED}\r\n", length + 8),
        format!("x LOGIN scanner3 {{{}}}\r\n\0{PLANTED} noop\r\n", length + 5),
        format!("x LOGIN {{8}}\r\nmy fetch \"{PLANTED}\"\r\n"),
        format!("x LOGIN {{8}}\r\nscanner3 \"list {PLANTED}\"\r\n"),
        format!("x AUTHENTICATE LOGIN\r\n\"list {PLANTED}\r\n"),
        format!("x AUTHENTICATE PLAIN {plain}\r\n"),
        format!("x AUTHENTICATE PLAIN\r\n{plain}\r\n"),
        format!("x authenticate LOGIN {user}\r\n{password}\r\n"),
        format!("x AUTHENTICATE LOGIN\r\n{user}\r\n{password}\r\n"),
        format!("x AUTHENTICATE CRAM-MD5\r\n{password}\r\n"),
        format!("x AUTHENTICATE XOAUTH2 {}\r\n", base64(format!("user=x\x01auth=Bearer {PLANTED}\x01\x01"))),
        format!("x AUTHENTICATE PLAIN {plain}{}\r\n", "A".repeat(9000)),
        format!("x STARTTLS\r\nx LOGIN scanner3 {PLANTED}\r\n"),
        format!("x COMPRESS DEFLATE\r\nx LOGIN scanner3 {PLANTED}\r\n"),
        format!("x UNAUTHENTICATE\r\nx LOGIN scanner3 {PLANTED}\r\n"),
    ]
}

fn pop3_logins() -> Vec<String> {
    let (user, password) = (base64("scanner3"), base64(PLANTED));
    let plain = base64(format!("\0scanner3\0{PLANTED}"));
    vec![
        format!("USER scanner3\r\nPASS {PLANTED}\r\n"),
        format!("pass {PLANTED}\n"),
        format!(" \0\tPaSs\t{PLANTED}\r\n"),
        format!("\u{feff}PASS {PLANTED}\r\n"),
        format!("APOP scanner3 {PLANTED}\r\n"),
        format!("AUTH PLAIN {plain}\r\n"),
        format!("auth PLAIN\r\n{plain}\r\n"),
        format!("AUTH LOGIN {user}\r\n{password}\r\n"),
        format!("AUTH LOGIN\r\n{user}\r\n{password}\r\n"),
        format!("AUTH PLAIN {plain}{}\r\n", "A".repeat(600)),
        format!("STLS\r\nPASS {PLANTED}\r\n"),
    ]
}

/// Sends these words and then NOOP; returns the lines before NOOP's answer.
fn heard_behind(device: &mut Device, words: &str, number: usize) -> Vec<String> {
    device.send(format!("{words}n{number} NOOP\r\n"));
    let mut heard = Vec::new();
    loop {
        let line = device.line();
        if line.starts_with(&format!("n{number} OK")) {
            return heard;
        }
        heard.push(line);
    }
}

#[test]
fn a_planted_secret_in_imap_reaches_nobody() {
    let wires = Wires::new();
    let states = [("", ""), ("s SELECT INBOX\r\n", ""), ("i IDLE\r\n", "DONE\r\n"), ("f FETCH 1 ALL\r\n", "")];
    for login in LOGINS {
        let mut device = wires.connect("imap");
        for words in imap_logins() {
            // Before the login some answers are `+`, and then NOOP is the response to them.
            let mut early = wires.connect("imap");
            early.send(format!("{words}*\r\ny NOOP\r\ny LOGOUT\r\n"));
            while early.try_line().is_some() {}
        }
        device.send(format!("a LOGIN {login} {DEVICE_PASSWORD}\r\n"));
        assert!(device.line().starts_with("a OK"));
        for (number, (words, (before, behind))) in
            imap_logins().iter().flat_map(|words| states.iter().map(move |state| (words, state))).enumerate()
        {
            device.send(before);
            if !before.is_empty() {
                device.line();
            }
            let heard = heard_behind(&mut device, &format!("{words}{behind}"), number);
            let refused = |line: &String| line.starts_with("x BAD ") || line.starts_with("* BAD ");
            assert!(heard.iter().any(refused), "{login}: {before}{words}: {heard:?}");
        }
        // The words come pipelined after the login, while it is under way.
        for words in imap_logins() {
            let mut device = wires.connect("imap");
            let heard = heard_behind(&mut device, &format!("a LOGIN {login} {DEVICE_PASSWORD}\r\n{words}"), 0);
            assert!(heard[0].starts_with("a OK"), "{heard:?}");
        }
    }
    assert!(wires.server.heard().matches("AUTHENTICATE XOAUTH2").count() > 2 * imap_logins().len());
    assert!(wires.server.heard().contains("s SELECT INBOX"));
    wires.assert_clean();
}

#[test]
fn a_planted_secret_in_pop3_reaches_nobody() {
    let wires = Wires::new();
    for login in LOGINS {
        for words in pop3_logins() {
            let mut early = wires.connect("pop3");
            early.send(format!("{words}*\r\nQUIT\r\n"));
            while early.try_line().is_some() {}
        }
        let mut device = wires.connect("pop3");
        let is_in = |device: &mut Device| {
            device.send(format!("USER {login}\r\nPASS {DEVICE_PASSWORD}\r\n"));
        };
        is_in(&mut device);
        assert_eq!([device.line(), device.line()], ["+OK send PASS", "+OK logged in"]);
        // There are as many answers as lines, in the same order.
        let refused = |device: &mut Device, words: &str| {
            device.send(format!("STAT\r\n{words}LIST\r\n"));
            assert_eq!(device.line(), "+OK", "{words}");
            for _ in words.matches('\n') {
                assert!(device.line().starts_with("-ERR "), "{words}");
            }
            assert_eq!([device.line(), device.line()], ["+OK", "."], "{words}");
        };
        for words in pop3_logins() {
            refused(&mut device, &words);
            let mut device = wires.connect("pop3");
            is_in(&mut device);
            device.send(&words);
            assert_eq!([device.line(), device.line()], ["+OK send PASS", "+OK logged in"]);
            for _ in words.matches('\n') {
                assert!(device.line().starts_with("-ERR "), "{words}");
            }
        }
    }
    assert!(wires.server.heard().matches("AUTH XOAUTH2").count() > 2 * pop3_logins().len());
    wires.assert_clean();
}

/// A pass-through server knows the password anyway, and it decides about further logins.
#[test]
fn a_second_login_that_is_passed_through_reaches_the_server() {
    let wires = Wires::new();
    let mut imap = wires.connect("through");
    imap.send(format!("a LOGIN u p\r\nb LOGIN u {PLANTED}\r\nc AUTHENTICATE PLAIN {PLANTED}\r\n"));
    for tag in ["a", "b", "c"] {
        assert!(imap.line().starts_with(&format!("{tag} OK")));
    }
    let mut pop3 = wires.connect("through3");
    pop3.send(format!("USER u\r\nPASS p\r\nPASS {PLANTED}\r\n"));
    for _ in 0..3 {
        assert!(pop3.line().starts_with("+OK"));
    }
    let heard = wires.server.heard();
    for line in ["b LOGIN u ", "c AUTHENTICATE PLAIN ", "PASS "] {
        assert!(heard.contains(&format!("{line}{PLANTED}\r\n")), "{line}: {heard}");
    }
}
