//! These tests prove that devices submit mail through packetboat to a pretend Exchange Online, at TLS 1.0 and with a
//! password.

mod attacks;
mod counted;
mod held_back;
mod kept;
mod kept_commands;
mod kept_delivery;
mod kept_disk;
mod kept_hanging;
mod kept_kills;
mod keys;
mod reconnected;
mod refusals;
mod senders;
mod sessions;
mod slow;

use std::process::{Command, Stdio};

use packetboat::simulator::client::stuffed;
use packetboat::simulator::quirks::smtp::{Afterwards, Smtp, SmtpFault, SmtpMoment};
use packetboat::simulator::{Defect, Submission};
use support::device::Device;
use support::exchange::*;
use support::proxy::{Proxy, translating_listener};
use support::stacks::{Start, TLS_1_0};

const MESSAGE: &[u8] = b"From: Scanner <scan@contoso.example>\r\nTo: <scan@contoso.example>\r\n\
    Date: Fri, 27 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@contoso.example>\r\nSubject: page\r\n\r\n.hidden\r\nhello\r\n";

/// packetboat with a listener for SMTP that begins with TLS.
fn proxy(exchange: &Exchange, identity: &str) -> Proxy {
    proxy_with(exchange, identity, "")
}

/// The same, with more lines for the account.
pub fn proxy_with(exchange: &Exchange, identity: &str, more: &str) -> Proxy {
    proxy_at(exchange, "", &(exchange.identity(identity) + &account("scans", SCAN, more)))
}

/// The same, with more lines for the listener, and everything below it.
fn proxy_at(exchange: &Exchange, listener: &str, below: &str) -> Proxy {
    exchange
        .proxy(&(exchange.submission_frame() + &translating_listener("smtps", "smtp", "implicit", listener) + below))
}

/// A device that is logged in.
pub struct Scanner(pub Device);

impl Scanner {
    pub fn log_in(proxy: &Proxy) -> Self {
        Self::log_in_as(proxy, LOGIN)
    }

    pub fn log_in_as(proxy: &Proxy, login: &str) -> Self {
        let mut scanner = Self::greeted(proxy);
        let answer = scanner.ask(&format!("AUTH PLAIN {}", base64(&format!("\0{login}\0{PASSWORD}"))));
        assert!(answer.starts_with("235 "), "{answer}");
        scanner
    }

    pub fn greeted(proxy: &Proxy) -> Self {
        let mut scanner = Self(TLS_1_0.connect(proxy.address("smtps"), Start::Implicit));
        assert!(scanner.reply().starts_with("220 "));
        scanner.ok("EHLO scanner");
        scanner
    }

    /// A device, and the response to its login.
    fn try_to_log_in(proxy: &Proxy) -> (Self, String) {
        let mut scanner = Self::greeted(proxy);
        let login = base64(&format!("\0{LOGIN}\0{PASSWORD}"));
        let answer = scanner.ask(&format!("AUTH PLAIN {login}"));
        (scanner, answer)
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.0.send(format!("{line}\r\n"));
        self.reply()
    }

    pub fn ok(&mut self, line: &str) {
        let answer = self.ask(line);
        assert!(answer.starts_with(['2', '3']), "{line}: {answer}");
    }

    /// The last line of a response.
    pub fn reply(&mut self) -> String {
        loop {
            let line = self.0.line();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    /// Submits data with its end; returns the response.
    fn submit(&mut self, data: &[u8]) -> String {
        self.submit_in(&[data])
    }

    /// Submits data in these pieces, each in a TLS record of its own.
    pub fn submit_in(&mut self, pieces: &[&[u8]]) -> String {
        self.ok(&format!("MAIL FROM:<{SCAN}>"));
        self.ok(&format!("RCPT TO:<{SCAN}>"));
        self.ok("DATA");
        pieces.iter().for_each(|piece| self.0.send(piece));
        self.reply()
    }
}

fn base64(text: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(text)
}

pub fn whole(submissions: &[Submission]) -> &Submission {
    let [one] = submissions else { panic!("{submissions:?}") };
    // NUL passes; the dots around it are doubled.
    let defects: Vec<Defect> = one.defects().into_iter().filter(|one| !matches!(one, Defect::Nul(_))).collect();
    assert_eq!((one.is_delivered, defects), (true, Vec::new()));
    one
}

#[test]
fn a_scan_is_sent_and_read_back() {
    for identity in [BY_SECRET, BY_PERSON] {
        let exchange = Exchange::new();
        if identity == BY_PERSON {
            let frame = exchange.submission_frame() + &exchange.identity(identity) + &account("scans", SCAN, "");
            exchange.sign_in(&frame);
        }
        let proxy = proxy(&exchange, identity);
        let file = exchange.file("scan", MESSAGE);
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "60", "--insecure", "--tlsv1.0", "--tls-max", "1.0", "--ssl-reqd"]);
        curl.args(["--ciphers", "AES128-SHA:@SECLEVEL=0", "--user", &format!("{LOGIN}:{PASSWORD}")]);
        curl.args(["--mail-from", SCAN, "--mail-rcpt", SCAN, "--upload-file"]).arg(&file);
        let output =
            curl.arg(format!("smtp://{}/scanner", proxy.address("smtp"))).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let submissions = exchange.simulator.submissions();
        let one = whole(&submissions);
        assert!(one.message() == MESSAGE && one.mailbox == SCAN, "{one:?}");
        let principal = if identity == BY_SECRET { format!("app {APP}") } else { SCAN.to_owned() };
        assert_eq!(one.principal, principal);
        let mut device = imap(&proxy);
        device.login(LOGIN, PASSWORD);
        device.ok("SELECT INBOX");
        assert!(device.fetch(1) == MESSAGE, "read back");
        assert_eq!(exchange.simulator.counts().submissions.unknown_commands, 0);
    }
}

#[test]
fn a_refusal_at_the_end_reaches_the_device_and_is_not_tried_again() {
    let exchange = Exchange::new();
    let proxy = proxy(&exchange, BY_SECRET);
    exchange.quirk(|quirks| quirks.smtp.mailbox_full = true);
    let mut scanner = Scanner::log_in(&proxy);
    let answer = scanner.submit(&stuffed(MESSAGE));
    assert!(answer.starts_with(['4', '5']), "{answer}");
    exchange.quirk(|quirks| quirks.smtp.mailbox_full = false);
    let answer = scanner.submit(&stuffed(MESSAGE));
    assert!(answer.starts_with("250 "), "{answer}");
    let delivered: Vec<bool> = exchange.simulator.submissions().iter().map(|one| one.is_delivered).collect();
    assert_eq!(delivered, [false, true]);
}

/// The device hears no success where the server says nothing behind the dot, whether it has kept the message or not.
#[test]
fn a_server_lost_behind_the_dot_is_no_success() {
    for is_kept in [false, true] {
        let exchange = Exchange::new();
        let proxy = proxy(&exchange, BY_SECRET);
        let fault = SmtpFault::silent(SmtpMoment::EndOfData, Afterwards::Close).times(1);
        let fault = if is_kept { fault.kept() } else { fault };
        exchange.quirk(|quirks| quirks.smtp.faults.push(fault));
        let answer = Scanner::log_in(&proxy).submit(&stuffed(MESSAGE));
        assert!(answer.starts_with('4'), "{answer}");
        assert_eq!(exchange.simulator.messages(SCAN), usize::from(is_kept));
        assert_eq!(exchange.simulator.submissions().len(), 1, "sent once");
    }
}

#[test]
fn a_device_lost_inside_data_leaves_no_message() {
    let exchange = Exchange::new();
    let proxy = proxy(&exchange, BY_SECRET);
    let mut scanner = Scanner::log_in(&proxy);
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    scanner.ok(&format!("RCPT TO:<{SCAN}>"));
    scanner.ok("DATA");
    scanner.0.send(&MESSAGE[..MESSAGE.len() - 9]);
    drop(scanner);
    exchange.until("end of the half message", |counts| counts.submissions.cut == 1);
    assert_eq!((exchange.simulator.submissions().len(), exchange.simulator.messages(SCAN)), (0, 0));
}

/// Exchange Online opens three sessions of a mailbox at a time. packetboat keeps to them, and lets the fourth device wait.
#[test]
fn four_scanners_share_three_sessions() {
    let exchange = Exchange::new();
    exchange
        .quirk(|quirks| quirks.smtp = Smtp { final_delay: std::time::Duration::from_millis(300), ..Smtp::default() });
    let proxy = proxy(&exchange, BY_SECRET);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut scanner = Scanner::log_in(&proxy);
                let answer = scanner.submit(&stuffed(MESSAGE));
                assert!(answer.starts_with("250 "), "{answer}");
                scanner.ask("QUIT");
            });
        }
    });
    let counts = exchange.simulator.counts();
    assert_eq!((counts.submissions.delivered, counts.smtp().refused), (4, 0));
    assert!(counts.submissions.most_sessions <= 3, "{counts:?}");
}
