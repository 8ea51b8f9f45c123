//! This file has a device that submits mail by SMTP, and the forms in which devices say user and password.

use crate::device::Device;
use crate::each;

each! {
    /// The ways to say user and password (RFC 4954 §4, and AUTH LOGIN).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Login {
        Plain,
        PlainAsked,
        UserAsked,
        UserSent,
    }
}

impl Login {
    /// The lines of the device, and the beginnings of the replies.
    pub fn dialogue(self, user: &str, password: &str) -> Vec<(String, &'static str)> {
        let plain = base64(&format!("\0{user}\0{password}"));
        let (user, password) = (base64(user), base64(password));
        let (asked, done) = ("334 UGFzc3dvcmQ6", "235 ");
        match self {
            Login::Plain => vec![(format!("AUTH PLAIN {plain}"), done)],
            Login::PlainAsked => vec![("AUTH PLAIN".to_owned(), "334 "), (plain, done)],
            Login::UserAsked => {
                vec![("auth login".to_owned(), "334 VXNlcm5hbWU6"), (user, asked), (password, done)]
            }
            Login::UserSent => vec![(format!("AUTH LOGIN {user}"), asked), (password, done)],
        }
    }
}

pub fn base64(text: &str) -> String {
    openssl::base64::encode_block(text.as_bytes())
}

/// Content as it goes on the way: a line that begins with a dot gets a second one, and CRLF, dot, CRLF ends it all
/// (RFC 5321 §4.5.2). The content ends with CRLF.
pub fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(content.len() + content.len() / 64);
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if line[0] == b'.' {
            data.push(b'.');
        }
        data.extend(line);
    }
    data.extend(b".\r\n");
    data
}

pub struct Smtp {
    device: Device,
}

crate::deref!(Smtp, device: Device);

impl Smtp {
    /// A device from which nothing has been read, or the greeting alone.
    pub fn over(device: Device) -> Self {
        Self { device }
    }

    /// A device that reads its greeting, and says EHLO.
    pub fn greeted(device: Device) -> Self {
        let mut smtp = Self::over(device);
        let greeting = smtp.reply();
        assert!(greeting.starts_with("220 "), "{greeting}");
        smtp.say("EHLO printer_3", "250 ");
        smtp
    }

    /// The last line of a reply.
    pub fn reply(&mut self) -> String {
        loop {
            let line = self.line();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n"));
        self.reply()
    }

    /// Sends a line, and expects this beginning of the reply.
    #[track_caller]
    pub fn say(&mut self, line: &str, expected: &str) {
        let answer = self.ask(line);
        assert!(answer.starts_with(expected), "{line}: {answer}");
    }

    #[track_caller]
    pub fn log_in(&mut self, login: Login, user: &str, password: &str) {
        for (line, expected) in login.dialogue(user, password) {
            self.say(&line, expected);
        }
    }

    /// Submits a message; returns the reply to its end.
    #[track_caller]
    pub fn submit(&mut self, sender: &str, recipient: &str, content: &[u8]) -> String {
        self.say(&format!("MAIL FROM:<{sender}>"), "250 ");
        self.say(&format!("RCPT TO:<{recipient}>"), "250 ");
        self.say("DATA", "354 ");
        self.send(stuffed(content));
        self.reply()
    }
}
