//! This watcher judges whether a connection may be parked: device and server are in step, and no command was sent that
//! leaves something in the connection. It is written from RFC 3501, RFC 2177 and RFC 7888, and is slow on purpose.

use crate::fuzz::model::{announced, first_word};
use crate::fuzz::pair::readable;

/// The octets of a connection after its login.
#[derive(Default)]
pub struct StepWatch {
    to_server: Stream,
    from_server: Stream,
    /// The tags and the verbs of the commands that are not completed.
    open: Vec<(Vec<u8>, String)>,
    /// The server has to ask for the literal.
    asks: bool,
    /// The server has asked for the end of IDLE.
    idles: bool,
    /// Whatever forbids parking for good.
    spoilt: Option<String>,
}

/// One direction of it.
#[derive(Default)]
struct Stream {
    line: Vec<u8>,
    literal: u64,
    /// The line goes on behind a literal.
    goes_on: bool,
}

impl StepWatch {
    /// Follows octets that go to the server.
    pub fn sent(&mut self, octets: &[u8]) {
        for &octet in octets {
            let stream = &mut self.to_server;
            if stream.literal > 0 {
                stream.literal -= 1;
                if self.asks {
                    self.spoil("a literal before the server has asked for it");
                }
                continue;
            }
            stream.line.push(octet);
            if octet == b'\n' {
                let line = std::mem::take(&mut stream.line);
                let goes_on = std::mem::replace(&mut stream.goes_on, false);
                self.command_line(&line, goes_on);
            }
        }
    }

    fn command_line(&mut self, line: &[u8], goes_on: bool) {
        let text = line.trim_ascii_end().to_ascii_uppercase();
        if SWITCHES.iter().any(|word| String::from_utf8_lossy(&text).contains(word)) {
            self.spoil("a word that switches something on");
        }
        if !goes_on {
            self.command(line, &text);
        }
        if let Some((size, asks)) = announced(line) {
            (self.to_server.literal, self.to_server.goes_on, self.asks) = (size, true, asks);
        }
    }

    fn command(&mut self, line: &[u8], text: &[u8]) {
        if let Some((_, verb)) = self.open.iter_mut().find(|(_, verb)| verb == "IDLE") {
            match text == b"DONE" && std::mem::take(&mut self.idles) {
                true => verb.clear(),
                false => self.spoil("something else than DONE"),
            }
            return;
        }
        let (tag, _) = first_word(line);
        let mut words = text.split(|octet| *octet == b' ').skip(1);
        let mut next = || String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
        let verb = next();
        let is_known = match verb.as_str() {
            "UID" => OF_MESSAGES.contains(&next().as_str()),
            verb => OF_MESSAGES.contains(&verb) || KNOWN.contains(&verb),
        };
        if !is_known || self.open.iter().any(|(open, _)| open == tag) {
            self.spoil("an unknown command, or a tag twice");
        }
        self.open.push((tag.to_vec(), verb));
    }

    /// Follows octets that the server has sent.
    pub fn heard(&mut self, octets: &[u8]) {
        for &octet in octets {
            let stream = &mut self.from_server;
            if stream.literal > 0 {
                stream.literal -= 1;
                continue;
            }
            stream.line.push(octet);
            if octet == b'\n' {
                let line = std::mem::take(&mut stream.line);
                let goes_on = std::mem::replace(&mut stream.goes_on, false);
                self.response_line(&line, goes_on);
            }
        }
    }

    fn response_line(&mut self, line: &[u8], goes_on: bool) {
        let (tag, rest) = first_word(line);
        let keyword = String::from_utf8_lossy(first_word(rest).0).trim_end().to_ascii_uppercase();
        let is_status = ["OK", "NO", "BAD", "BYE", "PREAUTH"].contains(&keyword.as_str());
        if goes_on || (tag == b"*" && !is_status) {
            // Only data has literals.
            if let Some((size, _)) = announced(line) {
                (self.from_server.literal, self.from_server.goes_on) = (size, true);
            }
        } else if tag == b"*" {
            if keyword == "BYE" {
                self.spoil("BYE");
            }
        } else if line.starts_with(b"+") {
            let is_idle = self.open.last().is_some_and(|(_, verb)| verb == "IDLE");
            match (std::mem::take(&mut self.asks), is_idle && !self.idles) {
                (true, _) => {}
                (false, true) => self.idles = true,
                (false, false) => self.spoil("a continuation that nobody waits for"),
            }
        } else if let Some(at) = self.open.iter().position(|(open, _)| open == tag) {
            self.open.remove(at);
            let is_last = at == self.open.len();
            if is_last && std::mem::take(&mut self.asks) {
                // The server refuses the literal.
                (self.to_server.literal, self.to_server.goes_on) = (0, false);
            }
        } else {
            self.spoil("an answer to no command");
        }
    }

    fn spoil(&mut self, why: &str) {
        self.spoilt.get_or_insert_with(|| why.to_owned());
    }

    /// Checks that the connection may be parked.
    pub fn check(&self) {
        assert!(self.spoilt.is_none(), "parked behind {:?}", self.spoilt);
        assert!(self.open.is_empty(), "parked with {:?}", self.open);
        for stream in [&self.to_server, &self.from_server] {
            let is_whole = stream.line.is_empty() && stream.literal == 0 && !stream.goes_on;
            assert!(is_whole, "parked within {} and {} octets", readable(&stream.line), stream.literal);
        }
    }
}

/// The words that switch something on for the rest of a connection (RFC 7162).
const SWITCHES: &[&str] = &["MODSEQ", "CONDSTORE", "QRESYNC", "CHANGEDSINCE"];
/// The commands that stand alone and behind UID.
const OF_MESSAGES: &[&str] = &["FETCH", "STORE", "SEARCH", "COPY", "MOVE", "EXPUNGE", "SORT", "THREAD"];
/// The other commands that leave nothing in a connection, or only a selected mailbox.
const KNOWN: &[&str] = &[
    "NOOP",
    "CHECK",
    "LIST",
    "LSUB",
    "XLIST",
    "STATUS",
    "APPEND",
    "CAPABILITY",
    "ID",
    "NAMESPACE",
    "CREATE",
    "DELETE",
    "RENAME",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "GETQUOTA",
    "GETQUOTAROOT",
    "GETACL",
    "MYRIGHTS",
    "GETMETADATA",
    "SELECT",
    "EXAMINE",
    "CLOSE",
    "UNSELECT",
    "IDLE",
];
