//! The demo's story, told: who said what to whom, over which TLS.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::Path;

use super::{Scene, reachable, say};
use crate::simulator::Simulator;
use crate::simulator::device::{Step, fetch_by_imap, fetch_by_pop3};
use crate::transport::downstream::{self, device};

/// Lets the built-in device fetch its mail by IMAP and by POP3, and tells every step.
pub(super) async fn tell(
    simulator: &Simulator,
    authority: &Path,
    (imap, pop3): (SocketAddr, SocketAddr),
    (login, password): (&str, &str),
) -> Result<(), String> {
    let paint = Paint { on: std::io::stdout().is_terminal() };
    say(&format!(
        "\n{}\nAn old scanner, packetboat, and a pretend Exchange Online, all on this computer.\n",
        paint.bold("packetboat demo")
    ))?;
    let mut before = 0;
    for (protocol, address) in [("IMAP", imap), ("POP3", pop3)] {
        let tls = device::connect(address, authority).await?;
        let facts = downstream::facts(&tls);
        let steps = match protocol {
            "IMAP" => fetch_by_imap(tls, login, password).await?,
            _ => fetch_by_pop3(tls, login, password).await?,
        };
        let events = simulator.events();
        let news = events.get(before..).unwrap_or_default();
        before = events.len();
        let upstream = news.iter().find_map(|event| event.split("TLSv").nth(1)?.split(' ').next()).unwrap_or("1.3");
        say(&chapter(&paint, protocol, address, (facts.version, facts.cipher), (login, upstream), &steps, news))?;
    }
    say(&format!("\n{}\n", paint.green("The mail came through, both ways.")))
}

fn chapter(
    paint: &Paint,
    protocol: &str,
    address: SocketAddr,
    (version, cipher): (&str, &str),
    (login, upstream): (&str, &str),
    steps: &[Step],
    news: &[String],
) -> String {
    let version = if version == "TLSv1" { "TLSv1.0" } else { version };
    let mut text = format!(
        "\n{}  scanner {} packetboat {} Exchange Online\n",
        paint.bold(protocol),
        paint.red(&format!("== {} {cipher} ==>", version.replace('v', " "))),
        paint.green(&format!("== TLS {upstream} ==>"))
    );
    let _ =
        writeln!(text, "      (port {} of packetboat, the certificate is from the demo's own CA)\n", address.port());
    for step in steps {
        if !step.said.is_empty() {
            let _ = writeln!(text, "   scanner  {}", paint.bold(&step.said));
        }
        if step.said.contains("LOGIN") || step.said.starts_with("PASS") {
            behind(&mut text, paint, login, news);
        }
        for line in step.heard.lines() {
            let _ = writeln!(text, "            {}", paint.dim(&shortened(line)));
        }
    }
    text
}

/// What happens between the device's password and the answer to it.
fn behind(text: &mut String, paint: &Paint, login: &str, news: &[String]) {
    let fits = format!("the password fits the hash of {login}, which opens the account scans");
    let _ = writeln!(text, "              {} {fits}", paint.green("packetboat:"));
    for event in news {
        if let Some(token) = event.strip_prefix("token endpoint: ") {
            let _ = writeln!(text, "              {} {token}", paint.green("pretend Entra:"));
        } else if let Some((_, login)) = event.split_once(": login by ") {
            let _ = writeln!(text, "              {} login by {login}", paint.green("Exchange Online:"));
        }
    }
}

/// What to type next, for who wants to try it.
pub(super) fn by_hand(scene: &Scene, authority: &Path) -> String {
    let paint = Paint { on: std::io::stdout().is_terminal() };
    let [imap, imaps, pop3, pop3s] = scene.ports;
    let (login, password, ca) = (scene.login, scene.password.as_str(), authority.display());
    let mut text = format!("\n{}\n\n", paint.bold("It stays up: try it by hand (another terminal)"));
    let old = "--tlsv1.0 --tls-max 1.0 --ciphers DEFAULT@SECLEVEL=0";
    let _ = writeln!(
        text,
        "  curl {old} --cacert {ca} --user {login}:{password} 'imaps://localhost:{imaps}/INBOX;MAILINDEX=1'"
    );
    let _ = writeln!(text, "  curl {old} --cacert {ca} --user {login}:{password} pop3s://localhost:{pop3s}/1");
    let _ = writeln!(
        text,
        "  openssl s_client -quiet -crlf -tls1 -cipher DEFAULT:@SECLEVEL=0 -CAfile {ca} -starttls imap -connect localhost:{imap}"
    );
    let _ = writeln!(text, "      then: a LOGIN {login} {password}\n");
    let _ = writeln!(text, "{}\n", paint.bold("Or a real device on the LAN, before there is any tenant"));
    for address in reachable(scene.listen) {
        let _ = writeln!(text, "  server     {address}");
    }
    let _ = writeln!(text, "  IMAP       port {imaps} with SSL/TLS, port {imap} with STARTTLS (or SSL/TLS)");
    let _ = writeln!(text, "  POP3       port {pop3s} with SSL/TLS, port {pop3} with STLS (or SSL/TLS)");
    let _ = writeln!(text, "  user name  {login}\n  password   {password}");
    let _ = writeln!(text, "  CA         {ca} (DER: {})", scene.directory.join("ca.der").display());
    let _ = writeln!(
        text,
        "\nA device that does not get in is told of below, with what to change (--profile ancient lets older ones in). Its\n\
         configuration is {}. Ctrl-C ends it.\n",
        scene.directory.join("packetboat.toml").display()
    );
    text
}

fn shortened(line: &str) -> String {
    const LONGEST: usize = 100;
    let mut shown: String = line.chars().take(LONGEST).collect();
    if shown.len() < line.len() {
        shown.push_str(" ...");
    }
    shown
}

/// Colours, where somebody sees them.
struct Paint {
    on: bool,
}

impl Paint {
    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.with("2", text)
    }

    fn green(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn red(&self, text: &str) -> String {
        self.with("31", text)
    }

    fn with(&self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
