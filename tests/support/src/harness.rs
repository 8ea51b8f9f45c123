//! This file runs packetboat before a scripted mail server, and reads its connections, open files, memory and latency
//! from outside.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::connection::TlsStream;
use crate::imap::Imap;
use crate::proxy::{Proxy, listener, upstream};
use crate::server;

/// The proxy with the listeners `imap` and `pop3` (implicit TLS) and `clear` (IMAP, STARTTLS), which pass logins
/// through.
pub struct Harness {
    proxy: Proxy,
    /// The mail server's port.
    pub server: u16,
    _directory: TempDir,
}

crate::deref!(Harness, proxy: Proxy);

impl Harness {
    /// Starts it with these lines first, and a server that accepts every login and answers OK to everything.
    pub fn new(more: &str) -> Self {
        Self::with(more, server::take_passwords)
    }

    /// Starts it with another server; `serve` handles each connection in a thread of its own.
    pub fn with(more: &str, serve: impl Fn(TlsStream) + Clone + Send + 'static) -> Self {
        let (certificates, directory) = Certificates::for_name("localhost", 30).in_directory();
        let port = server::threads(&certificates, serve);
        let proxy = Proxy::start(&format!(
            "{more}\n{}{}{}{}",
            upstream("x", [port, port], directory.path(), ""),
            listener("imap", "imap", "implicit", ""),
            listener("pop3", "pop3", "implicit", ""),
            listener("clear", "imap", "starttls", "")
        ));
        Self { proxy, server: port, _directory: directory }
    }

    /// The memory of the process, in octets.
    pub fn memory(&self) -> usize {
        self.process.figure("VmRSS:") * 1024
    }

    /// A good device without a login.
    pub fn greeted(&self) -> Imap {
        self.imap("imap")
    }

    /// A good device that is logged in.
    pub fn session(&self) -> Imap {
        let mut imap = self.greeted();
        imap.login("u", "p");
        imap
    }

    /// Makes a good device's whole visit, and returns its duration: connection, handshake by TLS 1.0, greeting, login,
    /// a command, farewell.
    pub fn visit(&self) -> Duration {
        let begun = Instant::now();
        let mut imap = self.session();
        imap.ok("NOOP");
        imap.ok("LOGOUT");
        begun.elapsed()
    }

    /// Makes several visits; returns the median and the longest. Each must stay within a device's patience.
    pub fn visits(&self, count: usize) -> (Duration, Duration) {
        let mut visits: Vec<Duration> = (0..count).map(|_| self.visit()).collect();
        visits.sort();
        let longest = visits[count - 1];
        assert!(longest < DEVICE_PATIENCE, "a good device waited for {longest:?}");
        (visits[count / 2], longest)
    }
}

/// The patience of real devices, half a minute and more. On a busy machine it is a bound, and no measurement.
const DEVICE_PATIENCE: Duration = Duration::from_secs(30);
