//! The proxy in front of a scripted mail server, looked at from outside: connections, open files, memory, latency.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use openssl::ssl::SslVersion;
use tempfile::TempDir;

use support::certificates::Certificates;
use support::connection::TlsStream;
use support::fake;
use support::imap::Imap;
use support::process::PATIENCE;
use support::proxy::{Proxy, listener};
use support::stacks::{Stack, Start, Version};

pub const TLS_1_0: Stack = Stack::Openssl { version: Version::Tls1_0, ciphers: "AES128-SHA" };

pub struct House {
    pub proxy: Proxy,
    /// The mail server's port.
    pub server: u16,
    _directory: TempDir,
}

impl House {
    /// With these lines in front, and a server that lets everybody in and answers OK to everything.
    pub fn new(more: &str) -> Self {
        Self::with(more, converse)
    }

    /// The same with another server: what it does with a connection, in a thread of its own.
    pub fn with(more: &str, serve: impl Fn(TlsStream) + Clone + Send + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let certificates = Certificates::for_name("localhost", 30);
        certificates.write(directory.path());
        let port = fake::tls(&certificates, SslVersion::TLS1_3, move |stream| {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        });
        let authority: PathBuf = directory.path().join("ca.pem");
        let proxy = Proxy::start(&format!(
            "{more}\n[upstream.x]\nhost = \"127.0.0.1\"\nserver_name = \"localhost\"\nroots = {authority:?}\n\
             imap_port = {port}\npop3_port = {port}\n{}",
            listener("imap", "imap", "implicit", "") + &listener("clear", "imap", "starttls", "")
        ));
        Self { proxy, server: port, _directory: directory }
    }

    /// A value of `/metrics`, summed over its labels that contain this text.
    pub fn metric(&self, name: &str, labels: &str) -> u64 {
        let text = self.metrics();
        let of_name = text.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(labels));
        of_name.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    }

    fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.proxy.admin()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        text
    }

    pub fn open(&self) -> usize {
        usize::try_from(self.metric("packetboat_connections_open", "")).unwrap()
    }

    /// Waits until so many are open.
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

    /// What the process has in memory, in octets.
    pub fn memory(&self) -> usize {
        self.proxy.process.figure("VmRSS:") * 1024
    }

    pub fn files(&self) -> usize {
        self.proxy.process.open_files()
    }

    /// Waits until it has as many open files as before, or fewer.
    pub fn until_files(&self, before: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.files() > before {
            assert!(Instant::now() < deadline, "{} open files, and {before} before", self.files());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Time that its threads have had a processor.
    pub fn processor(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.proxy.process.0.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// A good device that has not logged in.
    pub fn greeted(&self) -> Imap {
        Imap::greeted(TLS_1_0.connect(self.proxy.address("imap"), Start::Implicit))
    }

    /// A good device that is in.
    pub fn session(&self) -> Imap {
        let mut imap = self.greeted();
        imap.login("u", "p");
        imap
    }

    /// A good device's whole visit: connection, handshake by TLS 1.0, greeting, login at the server, a command, farewell.
    pub fn visit(&self) -> Duration {
        let begun = Instant::now();
        let mut imap = self.session();
        imap.ok("NOOP");
        imap.ok("LOGOUT");
        begun.elapsed()
    }

    /// Several visits: the median and the longest. No more than a device's own patience, which nobody reaches.
    pub fn visits(&self, count: usize) -> (Duration, Duration) {
        let mut visits: Vec<Duration> = (0..count).map(|_| self.visit()).collect();
        visits.sort();
        let longest = visits[count - 1];
        assert!(longest < DEVICE_PATIENCE, "a good device waited for {longest:?}");
        (visits[count / 2], longest)
    }
}

/// Lets a device in, and answers OK to whatever it says.
pub fn converse(mut stream: TlsStream) {
    let _ = stream.write_all(b"* OK ready\r\n");
    fake::hear(&mut stream);
    let _ = stream.write_all(b"P2 OK in\r\n");
    answer(stream);
}

/// Answers OK to whatever a device says that is in.
pub fn answer(mut stream: TlsStream) {
    loop {
        let line = fake::hear(&mut stream);
        let Some((tag, command)) = line.trim_end().split_once(' ') else { return };
        let bye = if command == "LOGOUT" { "* BYE\r\n" } else { "" };
        let _ = stream.write_all(format!("{bye}{tag} OK done\r\n").as_bytes());
        if !bye.is_empty() {
            let _ = stream.shutdown();
            return;
        }
    }
}

/// Devices give up after half a minute and more; on a machine that is busy with other things, this is no measurement.
const DEVICE_PATIENCE: Duration = Duration::from_secs(30);
