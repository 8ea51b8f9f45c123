//! A wall clock that is years off, or leaps by years: tokens and sessions go by a clock that does not leap, and nothing is
//! thrown away, kept for ever or stuck. The clock is Debian's libfaketime, between the program and its C library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use openssl::x509::X509;

use support::exchange::*;
use support::process::{Lines, PATIENCE, Process};
use support::stacks::{Stack, Start, Version};
use support::strain;

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;

/// A clock that can be set.
struct Clock {
    file: PathBuf,
}

impl Clock {
    fn new(exchange: &Exchange) -> Self {
        let clock = Self { file: exchange.state().with_file_name("clock") };
        clock.set(0);
        clock
    }

    /// So many seconds ahead of what is right.
    fn set(&self, ahead: i64) {
        // Written elsewhere first: it is read with each look at the clock.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{ahead:+}\n")).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    /// `packetboat ARGUMENTS` by this clock.
    fn run(&self, exchange: &Exchange, arguments: &[&str], configuration: &str) -> std::process::Command {
        let library = ["x86_64", "aarch64", "arm"]
            .map(|machine| format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"))
            .into_iter()
            .find(|path| Path::new(path).exists())
            .expect("libfaketime is missing: apt-get install faketime");
        let mut command = exchange.command(arguments, configuration);
        command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        // Read at every look, and the clock that counts on from the boot stays what it is.
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    }
}

/// A proxy by such a clock.
struct Running {
    process: Process,
    log: Lines,
}

impl Running {
    fn start(clock: &Clock, exchange: &Exchange, configuration: &str) -> Self {
        let mut command = clock.run(exchange, &["run"], configuration);
        let mut process = Process::start(command.env("PACKETBOAT_LOG_LEVEL", "debug").stderr(Stdio::piped()));
        let log = Lines::of(process.0.stderr.take().unwrap());
        log.wait_for("line that it is ready", |line| line.ends_with("ready"));
        Self { process, log }
    }

    fn address(&self) -> std::net::SocketAddr {
        let line = self.log.wait_for("address", |line| line.contains("listening on ") && line.contains(" for IMAP"));
        line.split("listening on ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
    }

    fn imap(&self) -> support::imap::Imap {
        let old = Stack::Openssl { version: Version::Tls1_0, ciphers: "AES128-SHA" };
        support::imap::Imap::greeted(old.connect(self.address(), Start::Implicit))
    }

    fn login(&self) -> String {
        support::imap::status(&self.imap().command(&format!("LOGIN {LOGIN} {PASSWORD}")))
    }

    fn get(&self, path: &str) -> String {
        let line = self.log.wait_for("line of the page", |line| line.contains("the page is at http://"));
        let admin = line.split("http://").nth(1).unwrap().split('/').next().unwrap();
        let output =
            std::process::Command::new("curl").args(["-sS", &format!("http://{admin}{path}")]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// In seconds since 1970.
    fn metric(&self, name: &str) -> i64 {
        let text = self.get("/metrics");
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as i64
    }

    fn end(mut self) {
        self.process.signal("TERM");
        assert!(self.process.wait().success());
        let said = self.log.to_the_end();
        assert!(!said.contains("panicked") && !said.contains("ERROR"), "{said}");
    }
}

/// Years ahead, years back, and right again, while it runs.
#[test]
fn it_leaps_while_it_runs() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    let clock = Clock::new(&exchange);
    let proxy = Running::start(&clock, &exchange, &configuration);
    assert!(proxy.login().starts_with("OK"));
    let issued = exchange.simulator.counts().tokens_issued;
    let mut device = proxy.imap();
    device.login(LOGIN, PASSWORD);
    for ahead in [5 * YEAR, -20 * YEAR, 300 * DAY, 0] {
        clock.set(ahead);
        let until = now() + ahead;
        // What was made before the leap may be told for a second.
        let ends = || proxy.metric("packetboat_access_token_expiry_timestamp_seconds") - until;
        strain::until("expiry by the new clock", || (60..6_000).contains(&ends()));
        let ends = proxy.metric("packetboat_refresh_token_expiry_timestamp_seconds");
        assert!((89 * DAY..91 * DAY).contains(&(ends - until)), "{ahead}: {ends} {until}");
        device.ok("NOOP");
        // In five years the mail server's certificate will have ended, and somebody has to look.
        let answer = if ahead > YEAR { "NO [CONTACTADMIN]" } else { "OK" };
        let said = proxy.login();
        assert!(said.starts_with(answer), "{ahead}: {said}");
        // Guesses are slowed down by the clock that does not leap.
        if ahead == -20 * YEAR {
            let wrong = support::imap::status(&proxy.imap().command(&format!("LOGIN {LOGIN} wrong")));
            assert!(wrong.starts_with("NO [AUTHENTICATIONFAILED]"), "{ahead}: {wrong}");
        }
        let status = || serde_json::from_str::<serde_json::Value>(&proxy.get("/status.json")).unwrap();
        let end = || status()["history"]["end"].as_i64().unwrap();
        strain::until("end of the charts by the new clock", || (end() - until).abs() < 600);
        let status = status();
        assert_eq!(status["devices"].as_array().unwrap().len(), 1, "{ahead}: {status}");
    }
    assert_eq!(exchange.simulator.counts().tokens_issued, issued, "the token that is there is used");
    proxy.end();
}

/// It was wrong when tokens were kept and devices seen, or is wrong now.
#[test]
fn it_is_wrong_at_the_start() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    let clock = Clock::new(&exchange);
    for ahead in [300 * DAY, 0, -20 * YEAR, 0] {
        clock.set(ahead);
        let before = exchange.simulator.counts().tokens_issued;
        let proxy = Running::start(&clock, &exchange, &configuration);
        assert!(proxy.login().starts_with("OK"), "{ahead}");
        exchange.until("refresh", |counts| counts.tokens_issued > before);
        let ends = proxy.metric("packetboat_refresh_token_expiry_timestamp_seconds");
        let until = now() + ahead;
        assert!((89 * DAY..91 * DAY).contains(&(ends - until)), "{ahead}: {ends} {until}");
        proxy.end();
    }
    let counts = exchange.simulator.counts();
    assert_eq!((counts.authorizations, counts.token_refusals), (1, 0));
}

/// A computer without a battery begins in 1970. What is made then is good when the clock has been set.
#[test]
fn certificates_that_are_made_in_1970() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_SECRET);
    let clock = Clock::new(&exchange);
    clock.set(100 - now());
    // The mail server's certificate is not valid yet, and the device is told to come again.
    let proxy = Running::start(&clock, &exchange, &configuration);
    let answer = proxy.login();
    assert!(answer.starts_with("NO [UNAVAILABLE]"), "{answer}");
    let line =
        proxy.log.wait_for("warning of the certificate", |line| line.contains("WARN") && line.contains("certificate"));
    assert!(line.to_lowercase().contains("clock") || line.contains("not valid yet"), "{line}");
    let made = fs::read(exchange.state().join("default.pem")).unwrap();
    for name in ["default.pem", "ca.pem"] {
        let made = X509::from_pem(&fs::read(exchange.state().join(name)).unwrap()).unwrap();
        let in_nine_years = openssl::asn1::Asn1Time::days_from_now(9 * 365).unwrap();
        assert!(made.not_after() > &*in_nine_years, "{name} until {}", made.not_after());
    }
    // The clock is set by the network, and all is well without a restart.
    clock.set(0);
    let deadline = Instant::now() + PATIENCE;
    while !proxy.login().starts_with("OK") {
        assert!(Instant::now() < deadline, "{}", proxy.log.all());
        std::thread::sleep(Duration::from_millis(200));
    }
    proxy.end();
    assert!(fs::read(exchange.state().join("default.pem")).unwrap() == made);
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}
