//! This file starts a proxy for each time-out that ends cells, between good and bad peers, and reads its use of
//! resources.

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

/// The address at which a faulty server is dialled. One login at a time goes there, so that each connection has a known
/// owner.
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
    /// The faulty servers of IMAP and POP3, with implicit TLS and with STARTTLS.
    bad: [[Bad; 2]; 2],
    pub context: SslContext,
    /// The process that reads the log.
    reader: Process,
    _directory: tempfile::TempDir,
}

/// Resources that a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Holdings {
    pub files: usize,
    pub resident_kib: usize,
}

impl Setup {
    pub fn new(clock: Clock) -> Self {
        let (certificates, directory) = Certificates::ecdsa_for_name("localhost", 30).in_directory();
        let context = server(&certificates);
        let good = Protocol::MAILBOX.map(|protocol| Good::start(protocol, context.clone()));
        let bad = [0, 1].map(|_| [Bad::new(), Bad::new()]);
        let command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
        let (reader, stderr, log) = reader();
        let text = configuration(clock, &good, &bad, directory.path());
        let proxy = Proxy::start_by(command, None, "debug", &text, Some((stderr, log)));
        // The admin address is read while its line can still be read.
        proxy.admin();
        Self { proxy, good, bad, context, reader, _directory: directory }
    }

    /// The address for devices; `entry` is "good", "clear" (greeted without TLS), "auto" (either), "bad" or
    /// "bad-starttls".
    pub fn address(&self, protocol: Protocol, entry: &str) -> SocketAddr {
        self.proxy.address(&format!("{}-{entry}", protocol.key()))
    }

    pub fn good(&self, protocol: Protocol) -> &Good {
        &self.good[protocol as usize]
    }

    pub fn bad(&self, protocol: Protocol, starttls: bool) -> &Bad {
        &self.bad[protocol as usize][usize::from(starttls)]
    }

    /// Stops the reader of standard error, and fills all buffers for lines.
    pub fn block_log(&self) {
        self.reader.signal("STOP");
        let before = self.proxy.metric(LINES_LOST, "");
        until("lost lines", || {
            for _ in 0..200 {
                // The octets are neither TLS nor IMAP, and cause a log line.
                let mut stream = TcpStream::connect(self.address(Protocol::Imap, "good")).unwrap();
                let _ = stream.write_all(&[0; 16]);
                let _ = stream.read(&mut [0; 64]);
            }
            self.proxy.metric(LINES_LOST, "") > before
        });
    }

    /// Resumes the reader of standard error, which then gets the number of lost lines.
    pub fn unblock_log(&self) {
        self.reader.signal("CONT");
        let told = self.proxy.log.wait_for("line of what is lost", |line| line.contains("log lines are lost"));
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        // The metric follows every second.
        until(&format!("as many lost lines as {told} tells"), || told["left_out"] == self.proxy.metric(LINES_LOST, ""));
    }

    /// The resources held once nothing is open, with no more than `files` files. After a second without a decrease the
    /// present number counts, because the page's connections close on their own.
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

    /// The log lines about sessions, by the device's address.
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

/// The TLS of a mail server, as new as it has to be.
pub fn server(certificates: &Certificates) -> SslContext {
    support::server::context(certificates, |context| context.set_min_proto_version(Some(SslVersion::TLS1_2)).unwrap())
}

const LINES_LOST: &str = "packetboat_log_lines_lost_total";
