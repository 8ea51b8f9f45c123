//! This file measures a device's wait for its login, from LOGIN to OK: the mail server is 40 ms away, or its logins take
//! five seconds as well.
//!
//! Only root can run it: the device and packetboat are in one network namespace, the server in another, and between them
//! is a link that holds every packet for 20 ms (link.py).

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::bench::device::{self, Kind};
use support::bench::emailproxy::{self, Task};
use support::bench::figures::Figures;
use support::bench::upstream::{self as server, Ports};
use support::certificates::Certificates;
use support::imap::Imap;
use support::process::Process;
use support::proxy;
use support::stacks::{Stack, Start, Version};

use crate::imapproxy;
use crate::measure::Row;
use crate::parked::{IMAPPROXY, WAYS};
use crate::translated::{self, Endpoint};

/// The first word of the command line that makes this program the near side.
pub const NEAR: &str = "be-near";

/// Makes the two namespaces and the link, starts the server and the measures in them, and returns their rows.
pub fn measure(directory: &Path) -> Vec<Row> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !is_root {
        println!("the wait for a login is not measured: only root can make network namespaces");
        return Vec::new();
    }
    let namespaces = ["near", "far"].map(|side| Namespace::add(format!("packetboat-{side}-{}", std::process::id())));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/link.py");
    let mut link = Command::new("python3");
    link.arg(script).args([&namespaces[0].0, &namespaces[1].0, ONE_WAY]);
    let (_link, said) = started(&mut link);
    assert_eq!(said.trim(), "up");
    let this = std::env::current_exe().unwrap();
    let (_server, ports) = started(namespaces[1].command().arg(&this).args([server::ARGUMENT, FAR]).arg(directory));
    let mut near = namespaces[0].command();
    near.arg(&this).args(["--bench", NEAR]).arg(directory).args(ports.split_whitespace());
    let mut near = Process::start(near.stdout(Stdio::piped()));
    let mut text = String::new();
    near.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(near.wait().success(), "{text}");
    text.lines().filter_map(row).collect()
}

/// Runs in the near namespace, and prints a row for each server and way.
pub fn near(directory: &Path, ports: &[&str]) {
    let Ports { manners, slow, starttls } = Ports::of(&ports.join(" "));
    let path = directory.join("near");
    std::fs::create_dir(&path).unwrap();
    let certificates = Certificates::read(directory);
    certificates.write(&path);
    let endpoint = Endpoint::start(&certificates, &path);
    for (what, port) in [(NEXT, manners[0]), (SLOW, slow)] {
        for (way, more) in WAYS {
            let name = format!("LOGIN to OK, {what}, {way}");
            let text = proxy::upstream("u", [port; 2], directory, more).replace("127.0.0.1", FAR);
            let started = translated::start(&format!("{way}-{port}"), &path, &endpoint, &text);
            let Some((_process, address)) = started else {
                println!("{name}:");
                continue;
            };
            let count = if port == slow && way != "parked" { SLOW_LOGINS } else { LOGINS };
            waits(&name, count, "u0", || Kind::old(device::SUITE).connect(address, None));
        }
        others(what, &endpoint, port);
    }
    if let Some(proxy) = imapproxy::start(directory, (FAR, starttls), imapproxy::EXPIRATION) {
        let name = format!("LOGIN to OK, {NEXT}, {IMAPPROXY}, parked");
        waits(&name, LOGINS, "u0", || Kind::old(device::SUITE).connect(proxy.addresses[0], None));
    }
}

/// Measures email-oauth2-proxy, which dials for each login, with a device at TLS 1.2: it takes nothing older.
fn others(what: &str, endpoint: &Endpoint<'_>, port: u16) {
    let Some(python) = emailproxy::python() else { return };
    let token_url = format!("https://localhost:{}/token", endpoint.port);
    let task = Task {
        protocol: "IMAP",
        server: (FAR, port),
        mailbox: "scans@contoso.example",
        token_url: &token_url,
        client_id: "1",
        client_secret: "anything",
        roots: &endpoint.directory.join("ca.pem"),
    };
    let scripts = [
        ("email-oauth2-proxy", emailproxy::PROGRAM),
        ("email-oauth2-proxy without its key derivation", emailproxy::PROGRAM_WITHOUT_KEY),
    ];
    for (program, script) in scripts {
        let (_process, address) = emailproxy::start(&python, script, endpoint.directory, &task);
        let stack = Stack::Openssl { version: Version::Tls1_2, ciphers: "ECDHE-RSA-AES128-GCM-SHA256" };
        let count = if what == SLOW { SLOW_LOGINS } else { LOGINS };
        let name = format!("LOGIN to OK, {what}, {program}");
        waits(&name, count, task.mailbox, || Imap::greeted(stack.connect(address, Start::Implicit)));
    }
}

/// Prints the milliseconds of so many logins.
fn waits(name: &str, count: usize, login: &str, connect: impl Fn() -> Imap) {
    // The token is fetched and the password verified before the first measurement.
    wait_of(login, connect());
    let waits: Vec<String> = (0..count).map(|_| wait_of(login, connect()).to_string()).collect();
    println!("{name}: {}", waits.join(" "));
}

/// One visit of a device; its milliseconds from LOGIN to OK.
fn wait_of(login: &str, mut device: Imap) -> f64 {
    let began = Instant::now();
    device.login(login, "p");
    let wait = began.elapsed().as_secs_f64() * 1e3;
    device.log_out();
    // The pause separates the device's visits.
    std::thread::sleep(Duration::from_millis(300));
    wait
}

/// A row out of a line of the near side.
fn row(line: &str) -> Option<Row> {
    let (name, figures) = line.split_once(':')?;
    let figures: Vec<f64> = figures.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
    let figures = Some(Figures(figures)).filter(|figures| !figures.0.is_empty());
    Some(Row { name: name.to_owned(), unit: "ms", figures: vec![figures] })
}

/// A network namespace, deleted with its guard.
struct Namespace(String);

impl Namespace {
    fn add(name: String) -> Self {
        let done = Command::new("ip").args(["netns", "add", &name]).status().unwrap();
        assert!(done.success(), "cannot make the network namespace {name}");
        Self(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// A program that says a line when it is ready; and that line.
fn started(command: &mut Command) -> (Process, String) {
    let mut process = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (process, line)
}

/// The server's address in the far namespace, which link.py gives it.
pub const FAR: &str = "192.0.2.2";
/// The servers.
const NEXT: &str = "server 40 ms away";
const SLOW: &str = "server 40 ms away whose login takes 5 s";
/// The delay of one direction in milliseconds.
const ONE_WAY: &str = "20";
const LOGINS: usize = 20;
/// Logins in each way that waits for the slow server.
const SLOW_LOGINS: usize = 3;
