//! IMAP as a device speaks it.

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

    /// Behind STARTTLS there is no greeting.
    pub fn over(device: Device) -> Self {
        Self { device, tag: 0 }
    }

    /// Sends a command and reads up to its tagged answer, which comes last.
    pub fn command(&mut self, command: &str) -> Vec<Part> {
        self.tag += 1;
        let tag = format!("d{}", self.tag);
        self.device.send(format!("{tag} {command}\r\n"));
        self.answer(&tag)
    }

    /// Sends a command, and does not wait for its answer.
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

    /// A whole message.
    pub fn fetch(&mut self, number: usize) -> Vec<u8> {
        let parts = self.ok(&format!("FETCH {number} BODY.PEEK[]"));
        parts.into_iter().find_map(|part| if let Part::Literal(octets) = part { Some(octets) } else { None }).unwrap()
    }

    /// What every device does: log in, list, fetch all, delete all, log out.
    pub fn session(mut self, user: &str, password: &str, messages: &[&[u8]]) {
        self.login(user, password);
        self.rest_of_session(user, messages);
    }

    /// The same once it is logged in.
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

/// The tagged answer, behind its tag.
pub fn status(parts: &[Part]) -> String {
    match parts.last() {
        Some(Part::Line(line)) => line.split_once(' ').unwrap().1.to_owned(),
        other => panic!("{other:?}"),
    }
}
