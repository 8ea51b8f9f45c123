//! This file starts the proxy as the operator does: the binary with a configuration file.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::connection::TlsStream;
use crate::device::tcp;
use crate::dovecot::Dovecot;
use crate::imap::Imap;
use crate::pop3::Pop3;
use crate::process::{Lines, PATIENCE, Process, program};
use crate::stacks::{Start, TLS_1_0, Version, old, openssl};

pub struct Proxy {
    pub process: Process,
    pub log: Lines,
    /// The state directory.
    pub state: PathBuf,
    directory: TempDir,
    addresses: BTreeMap<String, SocketAddr>,
}

impl Proxy {
    /// Starts the proxy with this configuration; `state_directory` and the log's form are set here.
    pub fn start(configuration: &str) -> Self {
        Self::start_at("info", configuration)
    }

    pub fn start_at(level: &str, configuration: &str) -> Self {
        Self::start_with(None, level, configuration)
    }

    /// Starts the proxy with an existing state directory, which outlives it.
    pub fn start_with(state: Option<&Path>, level: &str, configuration: &str) -> Self {
        let command = Command::new(program());
        Self::start_by(command, state, level, configuration, None)
    }

    /// Starts the proxy by this command. The reader of standard error comes as its own standard input and the lines
    /// read.
    pub fn start_by(
        mut command: Command,
        state: Option<&Path>,
        level: &str,
        configuration: &str,
        reader: Option<(Stdio, Lines)>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let state = state.map_or_else(|| directory.path().join("state"), Path::to_path_buf);
        let file = directory.path().join("packetboat.toml");
        fs::write(&file, text(&state, level, configuration)).unwrap();
        let policy = directory.path().join("openssl.cnf");
        fs::write(&policy, POLICY).unwrap();
        command.args(["run", "--config"]).arg(&file).env("OPENSSL_CONF", &policy).stdin(Stdio::null());
        let (process, log) = match reader {
            Some((stderr, log)) => (Process::start(command.stderr(stderr)), log),
            None => Process::logged(&mut command),
        };
        log.wait_for("line that it is ready", |line| line.contains("\"message\":\"ready\""));
        let mut addresses = BTreeMap::new();
        for line in log.all().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let message = line["message"].as_str().unwrap();
            if let Some(address) = message.strip_prefix("listening on ") {
                let address = address.split(' ').next().unwrap().parse().unwrap();
                addresses.insert(line["listener"].as_str().unwrap().to_owned(), address);
            }
        }
        Self { process, log, state, directory, addresses }
    }

    /// Starts in front of this Dovecot, with more lines: the listeners `imap` and `pop3` pass logins through to these
    /// upstreams.
    pub fn for_dovecot(dovecot: &Dovecot, [imap, pop3]: [&str; 2], more: &str) -> Self {
        let to = |protocol, name| listener(protocol, protocol, "implicit", &format!("upstream = {name:?}"));
        Self::start(&(upstreams(dovecot) + more + &to("imap", imap) + &to("pop3", pop3)))
    }

    /// Starts with the same two listeners in front of a mail server at this port; the upstream has more lines.
    pub fn for_port(port: u16, more: &str) -> Self {
        Self::start(&format!(
            "[upstream.x]\nhost = \"127.0.0.1\"\nserver_name = \"localhost\"\nimap_port = {port}\npop3_port = {port}\n\
             {more}\n{}{}",
            listener("imap", "imap", "implicit", ""),
            listener("pop3", "pop3", "implicit", "")
        ))
    }

    /// A device that speaks TLS 1.0 and has been greeted at this listener.
    pub fn imap(&self, listener: &str) -> Imap {
        Imap::greeted(TLS_1_0.connect(self.address(listener), Start::Implicit))
    }

    /// The same by POP3.
    pub fn pop3(&self, listener: &str) -> Pop3 {
        Pop3::greeted(TLS_1_0.connect(self.address(listener), Start::Implicit))
    }

    /// A device's TLS 1.0 stream at this listener, from which nothing has been read.
    pub fn tls(&self, listener: &str) -> TlsStream {
        openssl(self.address(listener), Start::Implicit, |tls| old(tls, Version::Tls1_0, "AES128-SHA")).unwrap()
    }

    /// Replaces the configuration file; [`Self::reload`] makes the proxy take it.
    pub fn configure(&self, configuration: &str) {
        fs::write(self.configuration(), text(&self.state, "info", configuration)).unwrap();
    }

    /// Runs `packetboat reload`; returns its exit code and output.
    pub fn reload(&self) -> (i32, String) {
        let output = self.reload_command().output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    pub fn reload_command(&self) -> Command {
        let mut command = Command::new(program());
        command.arg("reload").arg("--config").arg(self.configuration());
        command.args(["--pid", &self.process.0.id().to_string()]);
        command
    }

    /// The address of the page and the metrics.
    pub fn admin(&self) -> SocketAddr {
        let line = self.log.wait_for("line of the page", |line| line.contains("the page is at http://"));
        line.split("http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap()
    }

    /// The body of the answer from the page, the metrics or the inventory.
    pub fn get(&self, path: &str) -> String {
        let output = Command::new("curl").args(["-sS", &format!("http://{}{path}", self.admin())]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// `/metrics`, fetched without another process, which the test may forbid.
    pub fn metrics(&self) -> String {
        let mut stream = tcp(self.admin());
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, metrics) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.split(' ').nth(1) == Some("200"), "{text}");
        metrics.to_owned()
    }

    /// A metric, summed over its labels that contain this text.
    pub fn metric(&self, name: &str, labels: &str) -> u64 {
        sum(&self.metrics(), name, labels)
    }

    /// The number of open connections.
    pub fn open(&self) -> usize {
        usize::try_from(self.metric("packetboat_connections_open", "")).unwrap()
    }

    /// Does this, and returns the time that it took without what other programs have taken of the computer meanwhile.
    pub fn time_of(&self, work: impl FnOnce()) -> Duration {
        let (begun, before) = (Instant::now(), self.process.taken_by_others());
        work();
        begun.elapsed().saturating_sub(self.process.taken_by_others().saturating_sub(before))
    }

    /// Waits until this many connections are open.
    pub fn until_open(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let open = self.open();
            if open == count {
                return;
            }
            assert!(Instant::now() < deadline, "{open} connections are open, not {count}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the proxy has as many open files as before, or fewer.
    pub fn until_files(&self, before: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.process.open_files() > before {
            let files = self.process.open_files();
            assert!(Instant::now() < deadline, "{files} open files, and {before} before");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The data behind the page.
    pub fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.get("/status.json")).unwrap()
    }

    pub fn address(&self, listener: &str) -> SocketAddr {
        *self.addresses.get(listener).unwrap_or_else(|| panic!("no listener {listener} in {}", self.log.all()))
    }

    /// The CA that devices import.
    pub fn authority(&self) -> PathBuf {
        self.state.join("ca.pem")
    }

    pub fn configuration(&self) -> PathBuf {
        self.directory.path().join("packetboat.toml")
    }

    pub fn state_directory(&self) -> PathBuf {
        self.state.clone()
    }

    /// Waits until this many lines of the log contain this text.
    pub fn logs(&self, count: usize, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.log.count(|line| line.contains(text)) < count {
            assert!(Instant::now() < deadline, "no {count} lines with {text} in {}", self.log.all());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the line that ends a session of this listener.
    pub fn session_line(&self, listener: &str) -> serde_json::Value {
        self.session_of("listener", listener)
    }

    /// The same for a session whose line has this value at this key.
    pub fn session_of(&self, key: &str, value: &str) -> serde_json::Value {
        let entry = format!("\"{key}\":\"{value}\"");
        let is_it = |line: &str| line.contains("session ended") && line.contains(&entry);
        serde_json::from_str(&self.log.wait_for("session line", is_it)).unwrap()
    }
}

/// Prints the log, which tells why a test has failed.
impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log.all());
        }
    }
}

/// A complete configuration file.
fn text(state: &Path, level: &str, configuration: &str) -> String {
    let admin = if configuration.contains("[admin]") { "" } else { "[admin]\nlisten = [\"127.0.0.1:0\"]\n" };
    // Keys without a section stay in front of all sections; without store_key they belong to [log].
    let (top, sections) = configuration.split_at(configuration.find('[').unwrap_or(configuration.len()));
    let (top, sections) = if top.contains("store_key = ") { (top, sections) } else { ("", configuration) };
    format!("state_directory = {state:?}\n{top}[log]\nformat = \"json\"\nlevel = \"{level}\"\n{admin}{sections}")
}

/// A metric of `/metrics`, summed over its labels that contain this text.
pub fn sum(metrics: &str, name: &str, labels: &str) -> u64 {
    let is_of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let values = metrics.lines().filter(is_of_name).filter(|line| line.contains(labels));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

/// `[upstream.NAME]`, a mail server on loopback with additional lines. Its certificate comes from `ca.pem` in this
/// directory.
pub fn upstream(name: &str, [imap, pop3]: [u16; 2], directory: &Path, more: &str) -> String {
    let roots = directory.join("ca.pem");
    format!(
        "[upstream.{name}]\nhost = \"127.0.0.1\"\nserver_name = \"localhost\"\nroots = {roots:?}\nimap_port = {imap}\n\
         pop3_port = {pop3}\n{more}\n"
    )
}

/// `[upstream.implicit]` and `[upstream.starttls]`, both to this Dovecot.
pub fn upstreams(dovecot: &Dovecot) -> String {
    let directory = dovecot.roots();
    let directory = directory.parent().unwrap();
    upstream("implicit", [dovecot.imaps, dovecot.pop3s], directory, "")
        + &upstream("starttls", [dovecot.imap, dovecot.pop3], directory, "security = \"starttls\"")
}

/// A listener on a free loopback port that passes logins through.
pub fn listener(name: &str, protocol: &str, entry: &str, more: &str) -> String {
    translating_listener(name, protocol, entry, &format!("logins = \"pass-through\"\n{more}"))
}

/// A listener on a free loopback port that translates logins.
pub fn translating_listener(name: &str, protocol: &str, entry: &str, more: &str) -> String {
    format!(
        "[[listener]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\nlisten = [\"127.0.0.1:0\"]\nentry = \"{entry}\"\n{more}\n"
    )
}

/// Listeners that detect TLS: one for devices that begin with it, however late they do on a busy computer, and one for
/// devices that wait for a greeting in clear.
pub const AUTO_SLOW: &str = "auto-slow";
pub const AUTO_FAST: &str = "auto-fast";

/// The entry of a listener of this name.
pub fn entry(name: &str) -> &str {
    if [AUTO_SLOW, AUTO_FAST].contains(&name) { "auto" } else { name }
}

/// The line that makes a listener of this name slow or fast.
pub fn detect_delay(name: &str) -> &'static str {
    match name {
        AUTO_SLOW => "detect_delay = \"1m\"",
        AUTO_FAST => "detect_delay = \"10ms\"",
        _ => "",
    }
}

/// A distribution's OpenSSL policy, which packetboat must ignore: it forbids TLS 1.0, and stops every program that
/// reads it.
const POLICY: &str = "config_diagnostics = 1\nopenssl_conf = all\n[all]\nssl_conf = ssl\nno_such_module = x\n\
    [ssl]\nsystem_default = policy\n[policy]\nMinProtocol = TLSv1.2\nCipherString = DEFAULT@SECLEVEL=2\n";
