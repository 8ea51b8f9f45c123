//! How long a device waits for its login when the mail server is 40 ms away, with and without warm connections.
//!
//! `make bench-latency`, as root: the device and packetboat are in one network namespace, the server in another, and between
//! them is a link that holds every packet for 20 ms (latency/link.py). Nothing is asserted but that every login goes well.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::bench::{device, upstream};

use support::certificates::Certificates;

use support::bench::device::Kind;
use support::bench::figures::Figures;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [role, directory] if role == upstream::ARGUMENT => upstream::serve_at("192.0.2.2", directory.into()),
        [role, directory, port] if role == NEAR => near(Path::new(directory), port),
        // `cargo test --all-targets` runs benches as well, without it.
        arguments if arguments.iter().any(|argument| argument == "--bench") => build(),
        _ => {}
    }
}

/// Makes the two namespaces and the link, and starts the server and the measurement in them.
fn build() {
    let directory = tempfile::tempdir().unwrap();
    Certificates::for_name("localhost", 30).write(directory.path());
    let namespaces = ["near", "far"].map(|side| Namespace::add(format!("packetboat-{side}-{}", std::process::id())));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/latency/link.py");
    let mut link = Command::new("python3");
    link.arg(script).args([&namespaces[0].0, &namespaces[1].0, ONE_WAY]);
    let (_link, said) = started(&mut link);
    assert_eq!(said.trim(), "up");
    let this = std::env::current_exe().unwrap();
    let (_server, ports) = started(namespaces[1].command().arg(&this).arg(upstream::ARGUMENT).arg(directory.path()));
    let port = ports.split_whitespace().next().unwrap().to_owned();
    let done = namespaces[0].command().arg(&this).arg(NEAR).arg(directory.path()).arg(port).status().unwrap();
    assert!(done.success());
}

/// In the near namespace: packetboat with no warm connection, then with some, and a device.
fn near(directory: &Path, port: &str) {
    println!(
        "The mail server is 40 ms away (round trip). A device's LOGIN to its OK, {LOGINS} logins, in milliseconds:"
    );
    for warm in [0, 2] {
        let proxy = Proxy::start(directory, port, warm);
        let mut taken = Figures::default();
        for _ in 0..LOGINS {
            // Devices come every now and then, not one upon the other.
            std::thread::sleep(Duration::from_millis(300));
            let mut device = Kind::old(device::SUITE).connect(proxy.address, None);
            let began = Instant::now();
            device.login("u", "p");
            taken.0.push(began.elapsed().as_secs_f64() * 1e3);
            device.log_out();
        }
        println!("warm_connections = {warm}: {taken:.1}, the slowest {:.1}", taken.quantile(1.0));
    }
}

struct Proxy {
    process: Child,
    address: SocketAddr,
}

impl Proxy {
    fn start(directory: &Path, server: &str, warm: usize) -> Self {
        let own = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let path = |name: &str| directory.join(name);
        let text = format!(
            "state_directory = {:?}\n[certificate.default]\nchain = {:?}\nkey = {:?}\n\
             [upstream.u]\nhost = \"192.0.2.2\"\nserver_name = \"localhost\"\nroots = {:?}\nimap_port = {server}\n\
             warm_connections = {warm}\n\
             [[listener]]\nprotocol = \"imap\"\nlisten = [\"{own}\"]\nentry = \"implicit\"\nlogins = \"pass-through\"\n",
            path("state"),
            path("server.pem"),
            path("server.key"),
            path("ca.pem"),
        );
        fs::write(path("packetboat.toml"), text).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_packetboat"))
            .args(["run", "--config"])
            .env("PACKETBOAT_ADMIN_LISTEN", "127.0.0.1:0")
            .arg(path("packetboat.toml"))
            .stderr(fs::File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(own).is_err() {
            assert!(Instant::now() < deadline, "{}", fs::read_to_string(path("log")).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, address: own }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
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

/// A program that says a line when it is ready, and ends with its guard.
struct Started(Child);

fn started(command: &mut Command) -> (Started, String) {
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Started(process), line)
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the program is called with to measure.
const NEAR: &str = "be-near";
/// In milliseconds.
const ONE_WAY: &str = "20";
const LOGINS: usize = 20;
