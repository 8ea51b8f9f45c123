//! This file speaks IMAP as a device does.

use crate::device::Device;

pub struct Imap {
    pub device: Device,
    tag: u32,
}

/// A literal in an answer, or a line of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    Line(String),
    Literal(Vec<u8>),
}

impl Imap {
    /// Reads the greeting.
    pub fn greeted(mut device: Device) -> Self {
        let greeting = device.line();
        assert!(greeting.starts_with("* OK [CAPABILITY IMAP4rev1 "), "{greeting}");
        Self::over(device)
    }

    /// Continues after STARTTLS, where no greeting comes.
    pub fn over(device: Device) -> Self {
        Self { device, tag: 0 }
    }

    /// Sends a command and reads up to its tagged answer, which comes last.
    pub fn command(&mut self, command: &str) -> Vec<Part> {
        let tag = self.begin(command);
        self.answer(&tag)
    }

    /// Sends a command without waiting for its answer.
    pub fn say(&mut self, command: &str) {
        self.device.send(format!("s {command}\r\n"));
    }

    pub fn answer(&mut self, tag: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        loop {
            let line = self.device.line();
            let literal =
                line.strip_suffix('}').and_then(|line| line.rsplit_once('{')).map(|(_, size)| size.parse().unwrap());
            let last = line.starts_with(&format!("{tag} "));
            parts.push(Part::Line(line));
            match literal {
                Some(size) if !last => parts.push(Part::Literal(self.device.octets(size))),
                _ if last => return parts,
                _ => {}
            }
        }
    }

    pub fn ok(&mut self, command: &str) -> Vec<Part> {
        let parts = self.command(command);
        assert!(status(&parts).starts_with("OK"), "{command}: {parts:?}");
        parts
    }

    pub fn login(&mut self, user: &str, password: &str) {
        self.ok(&format!("LOGIN {user} {password:?}"));
    }

    /// Fetches a whole message.
    pub fn fetch(&mut self, number: usize) -> Vec<u8> {
        let parts = self.ok(&format!("FETCH {number} BODY.PEEK[]"));
        parts.into_iter().find_map(|part| if let Part::Literal(octets) = part { Some(octets) } else { None }).unwrap()
    }

    /// Fetches a whole message, and keeps only its size.
    pub fn fetch_size(&mut self, number: usize) -> usize {
        let tag = self.begin(&format!("FETCH {number} BODY[]"));
        let size = loop {
            let line = self.device.line();
            if line.contains(" FETCH ") {
                break line.rsplit_once('{').unwrap().1.trim_end_matches('}').parse().unwrap();
            }
        };
        self.device.0.skip(size).unwrap();
        self.finish(&tag);
        size
    }

    /// Uploads a message of about this size, in pieces as large as a scanner sends.
    pub fn append(&mut self, size: usize) {
        let piece = vec![b'x'; 16 * 1024];
        let tag = self.begin(&format!("APPEND INBOX {{{size}}}"));
        self.is_told_to_go_on();
        for _ in 0..size / piece.len() {
            self.device.send(&piece);
        }
        self.device.send("\r\n");
        self.finish(&tag);
    }

    /// Sends so many NOOPs in one write, and reads their answers.
    pub fn noops(&mut self, count: u32) {
        let first = self.tag + 1;
        self.tag += count;
        self.device.send((first..=self.tag).map(|tag| format!("d{tag} NOOP\r\n")).collect::<String>());
        (first..=self.tag).for_each(|tag| self.finish(&format!("d{tag}")));
    }

    /// Begins to idle; returns the tag.
    pub fn idle(&mut self) -> String {
        let tag = self.begin("IDLE");
        self.is_told_to_go_on();
        tag
    }

    /// Waits for this many untagged lines, then ends the idling.
    pub fn pushed(&mut self, tag: &str, count: usize) {
        for _ in 0..count {
            let line = self.device.line();
            assert!(line.starts_with("* "), "{line}");
        }
        self.device.send("DONE\r\n");
        self.finish(tag);
    }

    /// Sends LOGOUT, and waits until the other side closes.
    pub fn log_out(mut self) {
        self.ok("LOGOUT");
        assert!(self.device.0.unread().is_empty());
        // The end of the connection does not matter here.
        let _ = self.device.0.close();
    }

    /// Sends a command; returns its tag.
    fn begin(&mut self, command: &str) -> String {
        self.tag += 1;
        let tag = format!("d{}", self.tag);
        self.device.send(format!("{tag} {command}\r\n"));
        tag
    }

    fn is_told_to_go_on(&mut self) {
        let line = self.device.line();
        assert!(line.starts_with('+'), "{line}");
    }

    fn finish(&mut self, tag: &str) {
        let parts = self.answer(tag);
        assert!(status(&parts).starts_with("OK"), "{parts:?}");
    }

    /// Does the session of a typical device: log in, list, fetch all, delete all, log out.
    pub fn session(mut self, user: &str, password: &str, messages: &[&[u8]]) {
        self.login(user, password);
        self.rest_of_session(user, messages);
    }

    /// Does the same session once it is logged in.
    pub fn rest_of_session(mut self, user: &str, messages: &[&[u8]]) {
        self.ok("LIST \"\" *");
        let select = self.ok("SELECT INBOX");
        assert!(select.contains(&Part::Line(format!("* {} EXISTS", messages.len()))), "{select:?}");
        for (number, message) in (1..).zip(messages) {
            assert!(self.fetch(number) == *message, "message {number} of {user} differs");
        }
        self.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)");
        self.ok("EXPUNGE");
        self.ok("LOGOUT");
        assert!(self.device.has_ended());
    }
}

/// The tagged answer, without its tag.
pub fn status(parts: &[Part]) -> String {
    match parts.last() {
        Some(Part::Line(line)) => line.split_once(' ').unwrap().1.to_owned(),
        other => panic!("{other:?}"),
    }
}
