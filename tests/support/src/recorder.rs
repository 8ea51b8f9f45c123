//! This file plays a mail server that records its input and accepts everything.
//!
//! Message 8 is long. Message 9 is shorter than announced (IMAP), or has no end (POP3).

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use crate::certificates::Certificates;
use crate::connection::TlsStream;
use crate::{proxy, server};

/// An IMAP and a POP3 server behind TLS.
pub struct Recorder {
    directory: tempfile::TempDir,
    pub imap: u16,
    pub pop3: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    pub fn start() -> Self {
        let (certificates, directory) = Certificates::for_name("localhost", 30).in_directory();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let serve = |session: fn(&mut Heard)| {
            let heard = Arc::clone(&heard);
            server::threads(&certificates, move |stream| session(&mut Heard { stream, all: Arc::clone(&heard) }))
        };
        let (imap, pop3) = (serve(imap), serve(pop3));
        Self { directory, imap, pop3, heard }
    }

    /// All recorded input, in clear.
    pub fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }

    /// `[upstream.NAME]` of this server.
    pub fn upstream(&self, name: &str) -> String {
        assert!(self.directory.path().join("ca.pem").exists());
        proxy::upstream(name, [self.imap, self.pop3], self.directory.path(), "")
    }
}

struct Heard {
    stream: TlsStream,
    all: Arc<Mutex<Vec<u8>>>,
}

impl Heard {
    fn octets(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut octets = vec![0; count];
        self.stream.read_exact(&mut octets).ok()?;
        self.all.lock().unwrap().extend(&octets);
        Some(octets)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.extend(self.octets(1)?);
        }
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn say(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes());
    }
}

/// The length of message 8, which exceeds any socket buffer.
const LONG: usize = 16 << 20;

fn imap(heard: &mut Heard) {
    heard.say("* OK ready\r\n");
    while let Some(line) = heard.line() {
        let (tag, rest) = line.split_once(' ').unwrap_or((&line, ""));
        if rest.eq_ignore_ascii_case("IDLE") {
            heard.say("+ idling\r\n");
            heard.line();
        }
        if let Some(size) = rest.strip_suffix('}').and_then(|rest| rest.rsplit_once('{')?.1.parse().ok()) {
            heard.say("+ go on\r\n");
            heard.octets(size);
            heard.line();
        }
        if rest.starts_with("FETCH 9") {
            heard.say("* 9 FETCH (BODY[] {500}\r\nhello\r\n)\r\n");
        }
        if rest.starts_with("FETCH 8") {
            heard.say(&format!("* 8 FETCH (BODY[] {{{LONG}}}\r\n{})\r\n", "x".repeat(LONG)));
        }
        heard.say(&format!("{tag} OK done\r\n"));
        if rest.eq_ignore_ascii_case("LOGOUT") {
            let _ = heard.stream.shutdown();
            return;
        }
    }
}

fn pop3(heard: &mut Heard) {
    heard.say("+OK ready\r\n");
    while let Some(line) = heard.line() {
        match line.trim_matches(char::from(0)).to_ascii_uppercase().as_str() {
            "AUTH XOAUTH2" => {
                heard.say("+ \r\n");
                heard.line();
                heard.say("+OK in\r\n");
            }
            "RETR 9" => heard.say("+OK\r\nhello\r\n"),
            "LIST" | "UIDL" => heard.say("+OK\r\n.\r\n"),
            "QUIT" => {
                heard.say("+OK bye\r\n");
                let _ = heard.stream.shutdown();
                return;
            }
            "XREFUSED" => heard.say("-ERR what\r\n"),
            _ => heard.say("+OK\r\n"),
        }
    }
}
