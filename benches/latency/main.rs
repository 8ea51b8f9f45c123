//! This bench measures a device's wait for its login, 40 ms away from the mail server, with and without warm
//! connections.
//!
//! `make bench-latency`, as root: the device and packetboat are in one network namespace, the server in another, and
//! between them is a link that holds every packet for 20 ms (latency/link.py). Nothing is asserted but that every login
//! goes well.

#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::bench::device::{self, Kind};
use support::bench::figures::Figures;
use support::bench::{self, upstream as server};
use support::certificates::Certificates;
use support::process::Process;
use support::proxy::{Proxy, listener, upstream};

fn main() {
    bench::main(|words| match words {
        [directory, port] => near(Path::new(directory), port.parse().unwrap()),
        _ => build(),
    });
}

/// Makes the two namespaces and the link, and starts the server and the measurement in them.
fn build() {
    let (_, directory) = Certificates::for_name("localhost", 30).in_directory();
    let namespaces = ["near", "far"].map(|side| Namespace::add(format!("packetboat-{side}-{}", std::process::id())));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/latency/link.py");
    let mut link = Command::new("python3");
    link.arg(script).args([&namespaces[0].0, &namespaces[1].0, ONE_WAY]);
    let (_link, said) = started(&mut link);
    assert_eq!(said.trim(), "up");
    let this = std::env::current_exe().unwrap();
    let (_server, ports) =
        started(namespaces[1].command().arg(&this).args([server::ARGUMENT, FAR]).arg(directory.path()));
    let port = ports.split_whitespace().next().unwrap().to_owned();
    let done = namespaces[0].command().arg(&this).arg("--bench").arg(directory.path()).arg(port).status().unwrap();
    assert!(done.success());
}

/// Runs in the near namespace: packetboat without warm connections and then with some, and a device.
fn near(directory: &Path, port: u16) {
    println!(
        "The mail server is 40 ms away (round trip). A device's LOGIN to its OK, {LOGINS} logins, in milliseconds:"
    );
    for warm in [0, 2] {
        let (chain, key) = (directory.join("server.pem"), directory.join("server.key"));
        let upstream = upstream("u", [port; 2], directory, &format!("warm_connections = {warm}"));
        let proxy = Proxy::start(&format!(
            "[certificate.default]\nchain = {chain:?}\nkey = {key:?}\n{}{}",
            upstream.replace("127.0.0.1", FAR),
            listener("imap", "imap", "implicit", "")
        ));
        let mut taken = Figures::default();
        for _ in 0..LOGINS {
            // The pause separates the devices' visits.
            std::thread::sleep(Duration::from_millis(300));
            let mut device = Kind::old(device::SUITE).connect(proxy.address("imap"), None);
            let began = Instant::now();
            device.login("u", "p");
            taken.0.push(began.elapsed().as_secs_f64() * 1e3);
            device.log_out();
        }
        println!("warm_connections = {warm}: {taken:.1}, the slowest {:.1}", taken.quantile(1.0));
    }
}

/// A network namespace, deleted with its guard.
struct Namespace(String);

impl Namespace {
    fn add(name: String) -> Self {
        let done = Command::new("ip").args(["netns", "add", &name]).status().unwrap();
        assert!(done.success(), "only root can make network namespaces");
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
const FAR: &str = "192.0.2.2";
/// The delay of one direction in milliseconds.
const ONE_WAY: &str = "20";
const LOGINS: usize = 20;
