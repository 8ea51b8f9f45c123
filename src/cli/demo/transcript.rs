//! The demo's transcript shows what device, proxy and mail server say to each other, and over which TLS.

use std::fmt::{Display, Write as _};
use std::net::SocketAddr;
use std::path::Path;

use super::{Setting, reachable, show as print};
use crate::cli::error::{CommandError, unavailable};
use crate::cli::output::has_colours;
use crate::protocol::{ByProtocol, Protocol};
use crate::simulator::Simulator;
use crate::simulator::client::{self, Exchange};
use crate::text::{Printable, Style};
use crate::transport::Facts;
use crate::transport::downstream::{self, legacy_client};

/// One session of the built-in device.
struct Session<'a> {
    protocol: Protocol,
    address: SocketAddr,
    /// TLS between device and packetboat.
    facts: Facts,
    login: &'a str,
    exchanges: Vec<Exchange>,
    /// The simulator's events meanwhile.
    events: &'a [String],
}

/// Lets the built-in device send a scan to its own mailbox, and fetch mail by each protocol; shows every exchange.
pub(super) async fn show(
    simulator: &Simulator,
    setting: &Setting,
    authority: &Path,
    addresses: &ByProtocol<SocketAddr>,
) -> Result<(), CommandError> {
    let mut text = Painted::new();
    text.plain("\n").bold("packetboat demo");
    text.plain("\nAn old scanner, packetboat, and a pretend Exchange Online, all on this computer.\n");
    print(text.text)?;
    let mut before = 0;
    for protocol in [Protocol::Smtp, Protocol::Imap, Protocol::Pop3] {
        let address = *addresses.of(protocol);
        let tls = legacy_client::connect(address, authority).await.map_err(unavailable)?;
        let facts = downstream::facts(&tls);
        let exchanges = match protocol {
            Protocol::Smtp => client::submit(tls, &scan(setting)).await,
            Protocol::Imap | Protocol::Pop3 => client::fetch(protocol, tls, setting.login, &setting.password).await,
        };
        let exchanges = exchanges.map_err(unavailable)?;
        let all = simulator.events();
        let events = all.get(before..).unwrap_or_default();
        before = all.len();
        print(Session { protocol, address, facts, login: setting.login, exchanges, events }.painted())?;
    }
    let mut text = Painted::new();
    text.plain("\n").green("The scan was sent, and came back; the mail came through, both ways.").plain("\n");
    print(text.text)
}

/// The scan that the built-in device sends to its own mailbox.
fn scan(setting: &Setting) -> client::Job<'_> {
    client::Job {
        hello: client::Hello::Ehlo,
        name: "scanner",
        login: Some(client::Login { form: client::LoginForm::Login, user: setting.login, password: &setting.password }),
        sender: setting.mailbox,
        recipients: std::slice::from_ref(&setting.mailbox),
        message: SCAN.as_bytes(),
    }
}

impl Session<'_> {
    fn painted(&self) -> Printable {
        let cipher = self.facts.cipher;
        let version = if self.facts.version == "TLSv1" { "TLSv1.0" } else { self.facts.version };
        let upstream = self.events.iter().find_map(|event| event.split("TLSv").nth(1)?.split(' ').next());
        let upstream = upstream.unwrap_or("1.3");
        let mut text = Painted::new();
        text.plain("\n").bold(self.protocol.name()).plain("  scanner ");
        text.red(format_args!("== {} {cipher} ==>", version.replace('v', " "))).plain(" packetboat ");
        text.green(format_args!("== TLS {upstream} ==>")).plain(" Exchange Online\n");
        let port = self.address.port();
        text.plain(format_args!("      (port {port} of packetboat, the certificate is from the demo's own CA)\n\n"));
        for exchange in &self.exchanges {
            if !exchange.command.is_empty() {
                text.plain("   scanner  ").bold(&exchange.command).plain("\n");
            }
            if exchange.command.contains("****") {
                login_events(&mut text, self.login, self.events);
            }
            if exchange.command.ends_with("the dot)") {
                delivery_events(&mut text, self.events);
            }
            for line in exchange.answer.lines() {
                text.plain("            ").dim(shortened(line)).plain("\n");
            }
        }
        text.text
    }
}

/// Shows what happens between the device's password and the response to it.
fn login_events(text: &mut Painted, login: &str, events: &[String]) {
    let mut line = |who: &str, what: &dyn Display| {
        text.plain("              ").green(who).plain(format_args!(" {what}\n"));
    };
    line("packetboat:", &format_args!("the password matches the hash of {login}; {login} may open the account scans"));
    for event in events {
        if let Some(token) = event.strip_prefix("token endpoint: ") {
            line("pretend Entra:", &token);
        } else if let Some((_, login)) = event.split_once(": login by ") {
            line("Exchange Online:", &format_args!("login by {login}"));
        }
    }
}

/// Shows what happens to a message between its last dot and the response to it.
fn delivery_events(text: &mut Painted, events: &[String]) {
    for event in events.iter().filter_map(|event| event.strip_prefix("SMTP: message ")) {
        text.plain("              ").green("Exchange Online:").plain(format_args!(" message {event}\n"));
    }
}

/// The commands and settings with which a person can try the demo by hand.
pub(super) fn by_hand(setting: &Setting, authority: &Path) -> Printable {
    let ([imap, imaps], [pop3, pop3s], [smtp, smtps]) = (setting.ports.imap, setting.ports.pop3, setting.ports.smtp);
    let (login, password, ca) = (setting.login, setting.password.as_str(), authority.display());
    let mut painted = Painted::new();
    painted.plain("\n").bold("packetboat keeps running: try it by hand, in another terminal").plain("\n\n");
    let mut text = String::new();
    let old = "--tlsv1.0 --tls-max 1.0 --ciphers DEFAULT@SECLEVEL=0";
    let _ = writeln!(
        text,
        "  curl {old} --cacert {ca} --user {login}:{password} 'imaps://localhost:{imaps}/INBOX;MAILINDEX=1'"
    );
    let _ = writeln!(text, "  curl {old} --cacert {ca} --user {login}:{password} pop3s://localhost:{pop3s}/1");
    let (from, end) = (setting.mailbox, "\\r\\n");
    let _ = writeln!(
        text,
        "  printf 'From: {from}{end}Subject: by hand{end}{end}hello{end}' | curl {old} --cacert {ca} --user {login}:{password} \
         --mail-from {from} --mail-rcpt {from} --upload-file - smtps://localhost:{smtps}"
    );
    let _ = writeln!(
        text,
        "  openssl s_client -quiet -crlf -tls1 -cipher DEFAULT:@SECLEVEL=0 -CAfile {ca} -starttls imap -connect localhost:{imap}"
    );
    let _ = writeln!(text, "      then: a LOGIN {login} {password}\n");
    painted.plain(&text).bold("Or connect a real device on the LAN, without Microsoft 365").plain("\n\n");
    text.clear();
    for address in reachable(setting.listen) {
        let _ = writeln!(text, "  server     {address}");
    }
    let _ = writeln!(text, "  IMAP       port {imaps} with SSL/TLS, port {imap} with STARTTLS (or SSL/TLS)");
    let _ = writeln!(text, "  POP3       port {pop3s} with SSL/TLS, port {pop3} with STLS (or SSL/TLS)");
    let _ = writeln!(text, "  SMTP       port {smtps} with SSL/TLS, port {smtp} with STARTTLS (or SSL/TLS)");
    let _ = writeln!(text, "  user name  {login}\n  password   {password}");
    let _ = writeln!(text, "  CA         {ca} (DER: {})", setting.directory.join("ca.der").display());
    let _ = writeln!(
        text,
        "\nBelow, packetboat logs each device that does not get in, and what to change (--profile ancient takes older ones).\n\
         The demo's configuration is {}. Ctrl-C ends the demo.\n",
        setting.directory.join("packetboat.toml").display()
    );
    painted.plain(text);
    painted.text
}

/// A page with one dot, as a scanner of 2005 sends it.
const SCAN: &str = "From: Scanner on the second floor <scans@contoso.example>\r\n\
To: <scans@contoso.example>\r\n\
Subject: Scanned page\r\n\
MIME-Version: 1.0\r\n\
Content-Type: image/x-portable-bitmap; name=\"page.pbm\"\r\n\
Content-Transfer-Encoding: base64\r\n\
\r\n\
UDEKMyAzCjAgMCAwCjAgMSAwCjAgMCAwCg==\r\n";

fn shortened(line: &str) -> String {
    const LONGEST: usize = 100;
    let mut shown: String = line.chars().take(LONGEST).collect();
    if shown.len() < line.len() {
        shown.push_str(" ...");
    }
    shown
}

/// A text with colours, where standard output is a terminal.
struct Painted {
    text: Printable,
    has_colours: bool,
}

impl Painted {
    fn new() -> Self {
        Self { text: Printable::default(), has_colours: has_colours() }
    }

    fn plain(&mut self, text: impl Display) -> &mut Self {
        self.with(Style::Plain, text)
    }

    fn bold(&mut self, text: impl Display) -> &mut Self {
        self.with(Style::Bold, text)
    }

    fn dim(&mut self, text: impl Display) -> &mut Self {
        self.with(Style::Dim, text)
    }

    fn green(&mut self, text: impl Display) -> &mut Self {
        self.with(Style::Green, text)
    }

    fn red(&mut self, text: impl Display) -> &mut Self {
        self.with(Style::Red, text)
    }

    fn with(&mut self, style: Style, text: impl Display) -> &mut Self {
        self.text.push_styled(if self.has_colours { style } else { Style::Plain }, text);
        self
    }
}
