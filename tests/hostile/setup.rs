//! A proxy for each time-out that is to end a cell, between good and bad peers; and what it holds before and after.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use openssl::ssl::{SslContext, SslVersion};

use packetboat::protocol::Protocol;

use crate::expect::Clock;
use crate::good::Good;
use support::certificates::Certificates;
use support::process::{PATIENCE, Process};
use support::proxy::{Proxy, listener, upstream};
use support::strain::{reader, until};

/// Where a server with a fault is dialled. One login at a time is on its way there, so that it is known whose the
/// connection is.
pub struct Bad {
    pub listener: TcpListener,
    pub turn: Mutex<()>,
}

impl Bad {
    fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap(), turn: Mutex::new(()) }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }
}

pub struct Setup {
    pub proxy: Proxy,
    pub good: [Good; 2],
    /// Of IMAP and POP3, with implicit TLS and with STARTTLS.
    bad: [[Bad; 2]; 2],
    pub context: SslContext,
    /// Reads the log.
    reader: Process,
    _directory: tempfile::TempDir,
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Holdings {
    pub files: usize,
    pub resident_kib: usize,
}

impl Setup {
    pub fn new(clock: Clock) -> Self {
        let (certificates, directory) = Certificates::ecdsa_for_name("localhost", 30).in_directory();
        let context = server(&certificates);
        let good = Protocol::ALL.map(|protocol| Good::start(protocol, context.clone()));
        let bad = [0, 1].map(|_| [Bad::new(), Bad::new()]);
        let command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
        let (reader, stderr, log) = reader();
        let text = configuration(clock, &good, &bad, directory.path());
        let proxy = Proxy::start_by(command, None, "debug", &text, Some((stderr, log)));
        // It is asked for before nobody reads the line that names it.
        proxy.admin();
        Self { proxy, good, bad, context, reader, _directory: directory }
    }

    /// Where devices come to; `entry` is "good", "clear" (greeted without TLS), "auto" (or not), "bad" or "bad-starttls".
    pub fn address(&self, protocol: Protocol, entry: &str) -> SocketAddr {
        self.proxy.address(&format!("{}-{entry}", protocol.key()))
    }

    pub fn good(&self, protocol: Protocol) -> &Good {
        &self.good[protocol as usize]
    }

    pub fn bad(&self, protocol: Protocol, starttls: bool) -> &Bad {
        &self.bad[protocol as usize][usize::from(starttls)]
    }

    /// From here on nobody reads standard error, and whatever would hold more lines is full.
    pub fn block_log(&self) {
        self.reader.signal("STOP");
        let before = self.proxy.metric(LINES_LOST, "");
        until("lost lines", || {
            for _ in 0..200 {
                // Neither TLS nor IMAP: a line of the log.
                let mut stream = TcpStream::connect(self.address(Protocol::Imap, "good")).unwrap();
                let _ = stream.write_all(&[0; 16]);
                let _ = stream.read(&mut [0; 64]);
            }
            self.proxy.metric(LINES_LOST, "") > before
        });
    }

    /// Somebody reads it again, and is told how many lines are missing.
    pub fn unblock_log(&self) {
        self.reader.signal("CONT");
        let told = self.proxy.log.wait_for("line of what is lost", |line| line.contains("log lines are lost"));
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        // The metric follows from second to second.
        until(&format!("as many lost lines as {told} tells"), || told["left_out"] == self.proxy.metric(LINES_LOST, ""));
    }

    /// Once nothing is open any more, and no more files than these, or for a second no fewer than before: the page's
    /// connections close when they like.
    pub fn holdings(&self, files: usize) -> Holdings {
        self.proxy.until_open(0);
        let process = &self.proxy.process;
        let mut fewest = process.open_files();
        let patience = if files == 0 { Duration::from_secs(1) } else { PATIENCE };
        let deadline = Instant::now() + patience;
        while fewest > files && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            fewest = fewest.min(process.open_files());
        }
        Holdings { files: fewest, resident_kib: process.figure("VmRSS:") }
    }

    /// The lines of the log about sessions, by the address of the device.
    pub fn lines(&self) -> HashMap<String, Vec<serde_json::Value>> {
        let mut lines: HashMap<String, Vec<serde_json::Value>> = HashMap::new();
        for line in self.proxy.log.all().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some((source, _)) = line["source"].as_str().and_then(|source| source.rsplit_once(':')) {
                lines.entry(source.to_owned()).or_default().push(line);
            }
        }
        lines
    }
}

fn configuration(clock: Clock, good: &[Good; 2], bad: &[[Bad; 2]; 2], directory: &Path) -> String {
    let limit = |of: Clock, short: &str| if clock == of { short.to_owned() } else { "5m".to_owned() };
    // The file begins with the section of the log.
    let mut text = format!(
        "lines_per_minute = 1000000\nlines_per_minute_of_source = 1000000\n[admin]\nlisten = [\"127.0.0.1:0\"]\n\
         [limits]\nhandshake_timeout = \"{}\"\nlogin_timeout = \"{}\"\nidle_timeout = \"{}\"\n\
         upstream_handshake_timeout = \"{}\"\nupstream_login_timeout = \"{}\"\nkeep_alive = \"{}\"\n",
        limit(Clock::Handshake, "1500ms"),
        limit(Clock::Login, "3s"),
        limit(Clock::Idle, "5s"),
        limit(Clock::UpstreamHandshake, "1500ms"),
        limit(Clock::UpstreamLogin, "3s"),
        limit(Clock::KeepAlive, "1s"),
    );
    let upstreams = [
        ("good", [good[0].port, good[1].port], "implicit"),
        ("bad", [bad[0][0].port(), bad[1][0].port()], "implicit"),
        ("bad-starttls", [bad[0][1].port(), bad[1][1].port()], "starttls"),
    ];
    for (name, [imap, pop3], security) in upstreams {
        text += &upstream(name, [imap, pop3], directory, &format!("security = \"{security}\""));
    }
    for protocol in ["imap", "pop3"] {
        for (entry, upstream) in
            [("good", "good"), ("clear", "good"), ("auto", "good"), ("bad", "bad"), ("bad-starttls", "bad-starttls")]
        {
            let start = match entry {
                "clear" => "starttls",
                "auto" => "auto",
                _ => "implicit",
            };
            text += &listener(&format!("{protocol}-{entry}"), protocol, start, &format!("upstream = \"{upstream}\""));
        }
    }
    text
}

/// A mail server's TLS, as new as it has to be.
pub fn server(certificates: &Certificates) -> SslContext {
    support::server::context(certificates, |context| context.set_min_proto_version(Some(SslVersion::TLS1_2)).unwrap())
}

const LINES_LOST: &str = "packetboat_log_lines_lost_total";
