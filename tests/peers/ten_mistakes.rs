//! Each mistake of a first hour has one test here: what log, page and commands say to the administrator, and what the
//! log line and docs/technician.md say to the technician, who has no account on the server.

mod login;
mod page;
mod server;
mod tls;

use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use support::exchange::{BY_SECRET, Exchange, LOGIN, PASSWORD, Ran};
use support::imap::status;
use support::pages;
use support::process::{PATIENCE, program};
use support::proxy::Proxy;

/// Everything that people can look at while a proxy runs.
struct Told {
    /// Level and message of each line of the log.
    log: Vec<String>,
    /// The data of the page.
    page: Value,
    /// The output of `packetboat devices`.
    devices: String,
    /// The outputs of `packetboat health`, without and with `--ready`.
    health: [Ran; 2],
    /// The output of `packetboat check`.
    check: Ran,
}

/// A proxy with one device's account and both listeners, and these lines more.
fn start(exchange: &Exchange, more: &str) -> Proxy {
    exchange.proxy(&(exchange.configuration(BY_SECRET) + more))
}

/// Runs a command of the operator on this proxy's configuration.
fn run(proxy: &Proxy, arguments: &[&str]) -> Ran {
    let mut command = Command::new(program());
    command.args(arguments).arg("--config").arg(proxy.configuration()).stdin(Stdio::null());
    Ran::of(command.output().unwrap())
}

/// The reply to a login by IMAP, which fails.
fn refused(proxy: &Proxy, login: &str, password: &str) -> String {
    let reply = status(&proxy.imap("imap").command(&format!("LOGIN {login} {password}")));
    assert!(reply.starts_with("NO "), "{login}: {reply}");
    reply
}

/// Logs in as a device without a mistake does.
fn works(proxy: &Proxy) {
    let mut imap = proxy.imap("imap");
    imap.login(LOGIN, PASSWORD);
    imap.log_out();
}

impl Told {
    /// Looks once the log has a line with this text; the page has its data then, or in a moment.
    fn after(proxy: &Proxy, text: &str) -> Self {
        proxy.log.wait_for(text, |line| line.contains(text));
        Self::now(proxy)
    }

    fn now(proxy: &Proxy) -> Self {
        proxy.until_open(0);
        Self {
            log: proxy.log.all().lines().map(structured).collect(),
            page: proxy.status(),
            devices: run(proxy, &["devices"]).output,
            health: [run(proxy, &["health"]), run(proxy, &["health", "--ready"])],
            check: run(proxy, &["check"]),
        }
    }

    /// Log, page and `packetboat devices` have these words.
    #[track_caller]
    fn log_page_and_devices_say(&self, words: &str) {
        self.log_says(words);
        self.page_says("/devices", words);
        assert!(self.devices.contains(words), "devices lacks {words}\n{}", self.devices);
    }

    /// A warning or an error has these words.
    #[track_caller]
    fn log_says(&self, words: &str) {
        let is_loud = |line: &&String| line.starts_with("WARN ") || line.starts_with("ERROR ");
        assert!(self.log.iter().filter(is_loud).any(|line| line.contains(words)), "{words}: {:#?}", self.log);
    }

    /// A text in this part of the page's data has these words.
    #[track_caller]
    fn page_says(&self, part: &str, words: &str) {
        let part = self.page.pointer(part).unwrap_or_else(|| panic!("{part}: {:#}", self.page));
        assert!(texts(part).iter().any(|text| text.contains(words)), "the page lacks {words}\n{part:#}");
    }

    /// The device has this state on the page, and `packetboat devices` begins with this answer.
    #[track_caller]
    fn answer_is(&self, state: &str, answer: &str) {
        let of_device = |one: &&Value| one["device"] == LOGIN;
        let device = self.page["configured"].as_array().unwrap().iter().find(of_device).unwrap();
        assert_eq!(device["state"], state, "{device:#}");
        assert_eq!(self.devices.lines().next(), Some(answer), "{}", self.devices);
    }

    /// The process is healthy, serves others, and the file has no mistake.
    #[track_caller]
    fn rest_is_well(&self) {
        let [health, ready] = &self.health;
        assert_eq!((health.code, ready.code, self.check.code), (0, 0, 0), "{}{}", ready.errors, self.check.errors);
        assert_eq!((&self.page["ready"], &self.page["problem"]), (&Value::Bool(true), &Value::Null));
    }
}

/// docs/technician.md has a row for what the device's display says, with this advice.
#[track_caller]
fn technician_is_told(display: &str, advice: &[&str]) {
    let page = pages::read("docs/technician.md");
    let mut rows =
        page.lines().filter(|line| line.starts_with("| ") && line.split('|').nth(1).unwrap().contains(display));
    let row = rows.next().unwrap_or_else(|| panic!("no row for {display}"));
    advice.iter().for_each(|words| assert!(row.contains(words), "{words}: {row}"));
}

/// Level and message of a line in JSON.
fn structured(line: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap();
    format!("{} {}", line["level"].as_str().unwrap(), line["message"].as_str().unwrap())
}

/// All texts inside a value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::Object(values) => values.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// Waits until the condition holds.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
    }
}
