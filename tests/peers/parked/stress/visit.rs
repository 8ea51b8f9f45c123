//! A visit of a device, whose answers are read as they come, up to an end that may come at any time.

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use openssl::ssl::SslContext;
use support::connection::Connection;
use support::device::Device;
use support::exchange::PASSWORD;
use support::fuzz::random::Random;
use support::process::PATIENCE;
use support::proxy::Proxy;
use support::stacks::{Version, context, old};

pub struct Visit {
    device: Device,
    name: String,
    count: u32,
}

impl Visit {
    /// Connects, and logs in. All tags of the visit begin with this name. Returns the answer to the login, too.
    pub fn begin(proxy: &Proxy, login: &str, name: &str) -> (Self, Vec<String>) {
        static TLS: LazyLock<SslContext> =
            LazyLock::new(|| context(|context| old(context, Version::Tls1_0, "AES128-SHA")));
        let mut connection = Connection::connect(Ipv4Addr::LOCALHOST, proxy.address("imap")).unwrap();
        connection.set_patience(PATIENCE).unwrap();
        connection.connect_tls(&TLS, &mut None).unwrap();
        let mut device = Device(connection);
        let greeting = device.line();
        assert!(greeting.starts_with("* OK "), "{greeting}");
        let mut visit = Self { device, name: name.to_owned(), count: 0 };
        let answer = visit.ask(&format!("LOGIN {login} {PASSWORD}"));
        (visit, answer)
    }

    /// Sends a command, and reads up to its tagged answer.
    pub fn ask(&mut self, command: &str) -> Vec<String> {
        let (octets, tag) = self.command(command);
        self.send(octets);
        self.answer(&tag)
    }

    /// Sends commands together, and reads the answers of all.
    pub fn ask_all(&mut self, commands: &[String]) -> Vec<String> {
        let (octets, tags): (Vec<_>, Vec<_>) = commands.iter().map(|command| self.command(command)).unzip();
        self.send(octets.concat());
        self.answers(&tags)
    }

    /// Sends a command that has literals, each once the server has asked for it.
    pub fn ask_with(&mut self, command: &str, literals: &[Vec<u8>]) -> Vec<String> {
        let sized = |literal: &Vec<u8>| format!("{{{}}}\r\n", literal.len()).into_bytes();
        let (mut octets, tag) = self.command(command);
        octets.truncate(octets.len() - 2);
        let mut lines = Vec::new();
        for literal in literals {
            octets.push(b' ');
            octets.extend(sized(literal));
            self.send(octets);
            let Some(asks) = self.until_asked(&tag, &mut lines) else { return lines };
            lines.push(asks);
            octets = literal.clone();
        }
        octets.extend(b"\r\n");
        self.send(octets);
        lines.extend(self.answer(&tag));
        lines
    }

    /// Begins to idle, and ends that at once.
    pub fn idle(&mut self) -> Vec<String> {
        let (octets, tag) = self.command("IDLE");
        self.send(octets);
        let mut lines = Vec::new();
        if let Some(asks) = self.until_asked(&tag, &mut lines) {
            lines.push(asks);
            self.send(b"DONE\r\n");
            lines.extend(self.answer(&tag));
        }
        lines
    }

    /// Reads up to the server's request to go on. None where the command is completed before, or the connection ends.
    fn until_asked(&mut self, tag: &str, lines: &mut Vec<String>) -> Option<String> {
        loop {
            let line = self.line();
            if line.starts_with('+') {
                return Some(line);
            }
            let is_last = line.starts_with(&format!("{tag} ")) || line == END;
            lines.push(line);
            if is_last {
                return None;
            }
        }
    }

    fn answer(&mut self, tag: &str) -> Vec<String> {
        self.answers(&[tag.to_owned()])
    }

    /// Reads up to the last of these tagged answers, which come in any order, or to the end. A literal is a line of its
    /// own.
    fn answers(&mut self, tags: &[String]) -> Vec<String> {
        let (mut lines, mut is_behind_literal, mut left) = (Vec::new(), false, tags.len());
        loop {
            let line = self.line();
            left -= usize::from(tags.iter().any(|tag| line.starts_with(&format!("{tag} "))));
            let literal = line.strip_suffix('}').and_then(|line| line.rsplit_once('{')?.1.parse().ok());
            let is_end = line == END;
            let is_own = line.starts_with(['*', '+']) || line.starts_with(&format!("{}.", self.name));
            assert!(is_own || is_end || is_behind_literal, "{}: {line} answers nothing of this visit", self.name);
            is_behind_literal = literal.is_some();
            lines.push(line);
            match literal {
                _ if left == 0 || is_end => return lines,
                Some(size) => lines.push(String::from_utf8_lossy(&self.device.octets(size)).into_owned()),
                None => {}
            }
        }
    }

    /// A command with a new tag, and that tag.
    pub fn command(&mut self, command: &str) -> (Vec<u8>, String) {
        self.count += 1;
        let tag = format!("{}.{}", self.name, self.count);
        (format!("{tag} {command}\r\n").into_bytes(), tag)
    }

    /// Sends octets. A server that has closed shows at the next read.
    pub fn send(&mut self, octets: impl AsRef<[u8]>) {
        let _ = self.device.0.send(octets.as_ref());
    }

    fn line(&mut self) -> String {
        self.device.try_line().map_or_else(|| END.to_owned(), |line| String::from_utf8_lossy(&line).into_owned())
    }

    /// Leaves without LOGOUT, in the middle of something.
    pub fn break_off(mut self, random: &mut Random) {
        self.part(random.below(8));
        match random.below(3) {
            0 => self.device.0.reset(),
            1 => self.device.0.close_half(),
            // The end of the connection does not matter here.
            _ => drop(self.device.0.close()),
        }
    }

    /// Sends a part of something, or something whose answer nobody reads.
    fn part(&mut self, which: usize) {
        let (idle, _) = self.command("IDLE");
        let (fetch, _) = self.command("FETCH 1:* BODY.PEEK[]");
        let (select, _) = self.command("SELECT INBOX");
        let (append, _) = self.command("APPEND INBOX {50}");
        let (append_at_once, _) = self.command("APPEND INBOX {50+}\r\nSubject: never whole");
        match which {
            0 => {}
            1 => self.send(idle),
            2 => self.send([select, fetch].concat()),
            3 => self.send(select),
            4 => self.send(append),
            5 => self.send(append_at_once.trim_ascii_end()),
            6 => self.send(fetch.trim_ascii_end()),
            _ => self.send([fetch, b"x LOGOUT".to_vec()].concat()),
        }
    }
}

/// The line in place of one that does not come, because the connection has ended.
pub const END: &str = "(the connection has ended)";
