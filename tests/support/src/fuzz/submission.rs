//! This watcher of a submission reads what a session takes and writes, octet by octet, and is slow on purpose. It is
//! written from RFC 5321 and the documented repairs of line ends.

use std::collections::VecDeque;

use crate::fuzz::pair::readable;

/// A session after login, as the server sees it.
pub struct Watch {
    at: At,
    /// The device's content passes but for its line ends, because no sender policy rewrites the head.
    is_passed: bool,
    command: Vec<u8>,
    /// The commands of the present message that the server has taken, and the one that it owes a reply to.
    envelope: Vec<String>,
    asked: String,
    /// The verb of the device's command for which a server is wanted.
    wanted: String,
    /// The commands that another server has to get before the device's next one.
    replay: VecDeque<String>,
    /// The last command was one of those.
    is_replaying: bool,
    /// The present message, as the device has sent it and as the server has received it.
    from_device: Vec<u8>,
    to_server: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    Ready,
    /// The server has this command, or a message, and owes a reply.
    Owed(String),
    Data,
    /// The connection to the server is dropped.
    Dropped,
    /// There is no server, and the session goes on.
    Away,
    /// Another server gets the login.
    LoggingIn,
}

impl Watch {
    pub fn new(is_passed: bool) -> Self {
        let (command, from_device, to_server) = Default::default();
        let (envelope, asked, wanted, replay) = Default::default();
        let (at, is_replaying) = (At::Ready, false);
        Self { at, is_passed, command, envelope, asked, wanted, replay, is_replaying, from_device, to_server }
    }

    /// Takes octets of the device that the session is done with, and all that it writes for the server because of them.
    pub fn device(&mut self, taken: &[u8], up: &[u8], own: &[u8]) {
        if self.at == At::Data {
            self.from_device.extend(taken);
            assert!(own.is_empty(), "the device is told {} within a message", readable(own));
        }
        if self.at == At::Away {
            assert!(up.is_empty(), "{} goes up without a server", readable(up));
            let verb = String::from_utf8_lossy(taken).trim().to_ascii_uppercase();
            let is_wanting = own.is_empty() && ["MAIL", "RCPT", "DATA"].iter().any(|one| verb.starts_with(one));
            if is_wanting {
                self.wanted = verb[..4].to_owned();
            }
            if own.starts_with(b"250-packetboat") || own == b"250 packetboat\r\n" || verb.starts_with("RSET") {
                self.envelope.clear();
            }
        }
        up.iter().for_each(|octet| self.up(*octet));
    }

    /// Another server gets the login.
    pub fn connected(&mut self) {
        self.at = At::LoggingIn;
        if self.wanted == "MAIL" {
            self.envelope.clear();
        }
        self.replay = self.envelope.iter().cloned().collect();
    }

    /// Notes that no other server was reached, or none has let the session in, and all that the device hears of that: its
    /// command fails, and with it the message; or the message goes on without a server, and is kept.
    pub fn not_connected(&mut self, down: &[u8]) {
        let is_one_line = down.ends_with(b"\r\n") && down.iter().filter(|octet| **octet == b'\n').count() == 1;
        let is_own = [&b"451 "[..], b"550 ", b"250 2.1."].iter().any(|begin| down.starts_with(begin));
        // DATA is answered later where the message is kept, and not at all where its content has come with it.
        assert!((is_own && is_one_line) || (down.is_empty() && self.wanted == "DATA"), "{}", readable(down));
        self.envelope.clear();
        self.wanted.clear();
        self.replay.clear();
        self.at = At::Away;
    }

    /// Notes that the session goes on without its server, and all that it writes for the device because of that.
    pub fn lost(&mut self, down: &[u8]) {
        let is_owed = self.is_owed();
        if down.is_empty() {
            self.wanted = if is_owed { self.asked[..4].to_owned() } else { String::new() };
        } else {
            assert!(is_owed, "{} answers nothing", readable(down));
            // The message is given up, or the command changes nothing.
            let is_failed = down.starts_with(b"451 ");
            assert!(is_failed || down.starts_with(b"250"), "{}", readable(down));
            if is_failed || self.asked.starts_with("RSET") {
                self.envelope.clear();
            }
        }
        self.at = At::Away;
        self.command.clear();
    }

    /// Notes that the server has said 421, and the session goes on without it.
    pub fn away(&mut self) {
        self.at = At::Away;
    }

    /// Takes octets of the server that the session is done with, and all that it writes for the device because of them.
    pub fn server(&mut self, taken: &[u8], up: &[u8], down: &[u8]) {
        if self.at == At::LoggingIn {
            return self.logging_in(taken, up);
        }
        let is_replaying = self.is_replaying;
        assert!(up.is_empty() || is_replaying, "a reply makes no command: {}", readable(up));
        let is_odd = |two: &[u8]| (two[0] == b'\r') != (two[1] == b'\n');
        let framed = [b" ", down, b" "].concat();
        assert!(!framed.windows(2).any(is_odd) && !down.contains(&0), "the device hears {}", readable(down));
        for line in taken.split_inclusive(|octet| *octet == b'\n') {
            let code: u16 = String::from_utf8_lossy(&line[..3]).parse().unwrap();
            let is_last = line[3] != b'-';
            let at = self.at.clone();
            match at {
                At::Owed(_) if !is_last => assert!(down.is_empty(), "a part of a reply: {}", readable(down)),
                At::Owed(_) if is_replaying && code / 100 == 2 => {
                    assert!(down.is_empty(), "the device hears {} of another server", readable(down));
                    self.at = At::Ready;
                }
                At::Owed(_) if is_replaying => {
                    // The message is given up, or goes on without a server.
                    let is_own = [&b"451 "[..], b"250 2.1.", b"503 "].iter().any(|begin| down.starts_with(begin));
                    assert!(is_own || down.is_empty(), "{}", readable(down));
                    self.envelope.clear();
                    self.replay.clear();
                    self.is_replaying = false;
                }
                At::Owed(verb) => {
                    self.at = if verb == "DATA" && code == 354 { At::Data } else { At::Ready };
                    self.answered(&verb, code);
                    // Another server may be wanted for the command. MAIL that comes again replaces the envelope.
                    self.wanted = verb;
                }
                At::Ready => {
                    assert_eq!(code, 421, "{} answers nothing", readable(line));
                    self.wanted.clear();
                }
                // A server may give up within a message. Its connection is dropped, and no message comes of that.
                At::Data if code >= 400 && is_last => self.at = At::Dropped,
                At::Data if code >= 400 => {}
                At::Data | At::Dropped | At::Away | At::LoggingIn => {
                    panic!("{} is taken within a message", readable(line))
                }
            }
        }
        up.iter().for_each(|octet| self.up(*octet));
    }

    /// Takes octets of another server during the login there.
    fn logging_in(&mut self, taken: &[u8], up: &[u8]) {
        // A reply may have several lines; the last one lets the session in.
        let is_in = taken.starts_with(b"235") && !taken.starts_with(b"235-");
        if is_in {
            self.at = At::Ready;
            up.iter().for_each(|octet| self.up(*octet));
        } else {
            let words = ["EHLO ", "STARTTLS\r\n", "AUTH "];
            let is_base64 = |octet: &u8| octet.is_ascii_alphanumeric() || b"+/=*\r\n".contains(octet);
            let is_login = up.iter().all(is_base64) || words.iter().any(|word| up.starts_with(word.as_bytes()));
            assert!(is_login, "{} goes up before the login", readable(up));
        }
    }

    /// Notes the server's reply to a command.
    fn answered(&mut self, verb: &str, code: u16) {
        match (verb, code / 100 == 2) {
            ("MAIL", true) => self.envelope = vec![self.asked.clone()],
            ("RCPT", true) => self.envelope.push(self.asked.clone()),
            ("RSET", true) | ("message", _) => self.envelope.clear(),
            _ => {}
        }
    }

    /// Notes that the device is told that its message is sent.
    pub fn submitted(&self) {
        assert!(self.at == At::Ready && ends(&self.to_server), "sent without the end of the data");
    }

    /// Returns whether the server owes a reply.
    pub fn is_owed(&self) -> bool {
        matches!(self.at, At::Owed(_))
    }

    pub fn dropped(&mut self) {
        self.at = At::Dropped;
    }

    fn up(&mut self, octet: u8) {
        match &self.at {
            At::Ready => {
                self.command.push(octet);
                if octet == b'\n' {
                    let line = std::mem::take(&mut self.command);
                    self.at = At::Owed(verb(&line));
                    let line = String::from_utf8(line).unwrap();
                    let path = |line: &str| line.split('>').next().unwrap().to_owned();
                    let expected = self.replay.pop_front();
                    self.is_replaying = expected.is_some();
                    if let Some(expected) = expected {
                        assert_eq!(path(&line), path(&expected), "another server gets the same envelope");
                    } else {
                        self.asked = line;
                    }
                    self.from_device.clear();
                    self.to_server.clear();
                }
            }
            At::Data => {
                self.to_server.push(octet);
                if ends(&self.to_server) {
                    self.message();
                    self.at = At::Owed("message".to_owned());
                }
            }
            at => panic!("{} goes up at {at:?}", readable(&[octet])),
        }
    }

    /// Checks a whole message.
    fn message(&self) {
        let sent = readable(&self.to_server);
        let lines = lines(&self.to_server);
        let (last, before) = lines.split_last().unwrap();
        assert!(lines.iter().all(|line| line.end == b"\r\n") && last.text == b".", "{sent}");
        let hides_end = |line: &&Line<'_>| {
            let text: Vec<u8> = line.text.iter().copied().filter(|octet| *octet != 0).collect();
            text == b"." || line.text.starts_with(b".\0")
        };
        assert!(!before.iter().any(|line| hides_end(&line)), "{sent}");
        if self.is_passed {
            let expected = repaired(&self.from_device);
            assert!(expected == self.to_server, "{sent}\nof\n{}", readable(&expected));
        }
    }
}

/// Returns whether the data are at their end.
fn ends(data: &[u8]) -> bool {
    data == b".\r\n" || data.ends_with(b"\r\n.\r\n")
}

/// The verb of a command for the server, all of which packetboat writes itself.
fn verb(line: &[u8]) -> String {
    let text = std::str::from_utf8(line).ok().and_then(|line| line.strip_suffix("\r\n"));
    let text = text.unwrap_or_else(|| panic!("{} is no command", readable(line)));
    assert!(text.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic()), "{text:?}");
    let path = |rest: &str| {
        let (address, parameters) = rest.split_once('>').unwrap();
        assert!(!address.contains([' ', '<']) && address.len() <= 256, "{text}");
        assert!(parameters.is_empty() || parameters.starts_with(' '), "{text}");
        let known = |one: &str| one == "BODY=8BITMIME" || one == "BODY=7BIT" || one.starts_with("SIZE=");
        assert!(parameters.split_whitespace().all(known), "{text}");
    };
    if let Some(rest) = text.strip_prefix("MAIL FROM:<").or_else(|| text.strip_prefix("RCPT TO:<")) {
        path(rest);
    } else {
        assert!(["DATA", "RSET", "NOOP", "QUIT"].contains(&text), "{text}");
    }
    text[..4].to_owned()
}

#[derive(Debug)]
struct Line<'a> {
    text: &'a [u8],
    end: &'a [u8],
}

/// Splits at CRLF, bare CR and bare LF.
fn lines(data: &[u8]) -> Vec<Line<'_>> {
    let (mut lines, mut start, mut at) = (Vec::new(), 0, 0);
    while at < data.len() {
        let len = match &data[at..] {
            [b'\r', b'\n', ..] => 2,
            [b'\r' | b'\n', ..] => 1,
            _ => 0,
        };
        if len > 0 {
            lines.push(Line { text: &data[start..at], end: &data[at..at + len] });
            start = at + len;
        }
        at += len.max(1);
    }
    lines
}

/// Returns the octets that go up for a whole message: every line ends with CRLF, and a dot that some server might take for the end is
/// doubled.
fn repaired(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut is_clean = true;
    for line in lines(data) {
        let is_crlf = line.end == b"\r\n";
        let nuls = line.text.iter().take_while(|octet| **octet == 0).count();
        let (before, rest) = line.text.split_at(nuls);
        let is_end = line.text == b"." && is_clean && is_crlf;
        let is_alone = rest.first() == Some(&b'.') && matches!(rest.get(1), None | Some(0));
        out.extend(before);
        out.extend(if is_alone && !is_end { &b"."[..] } else { b"" });
        out.extend(rest);
        out.extend(b"\r\n");
        is_clean = is_crlf;
    }
    out
}
