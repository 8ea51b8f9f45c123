//! This file speaks POP3 as a device does.

use crate::device::Device;

pub struct Pop3 {
    pub device: Device,
}

impl Pop3 {
    /// Reads the greeting.
    pub fn greeted(mut device: Device) -> Self {
        let greeting = device.line();
        assert!(greeting.starts_with("+OK ") && !greeting.contains('<'), "{greeting}");
        Self::over(device)
    }

    /// Continues after STLS, where no greeting comes.
    pub fn over(device: Device) -> Self {
        Self { device }
    }

    pub fn command(&mut self, command: &str) -> String {
        self.device.send(format!("{command}\r\n"));
        self.device.line()
    }

    pub fn ok(&mut self, command: &str) -> String {
        let answer = self.command(command);
        assert!(answer.starts_with("+OK"), "{command}: {answer}");
        answer
    }

    /// The lines of a multi-line answer, unstuffed, as one text.
    pub fn multi(&mut self, command: &str) -> Vec<u8> {
        self.ok(command);
        self.lines()
    }

    pub fn lines(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        loop {
            let line = self.device.try_line().expect("ended in the middle of an answer");
            if line == b"." {
                return text;
            }
            text.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            text.extend_from_slice(b"\r\n");
        }
    }

    pub fn login(&mut self, user: &str, password: &str) {
        self.ok(&format!("USER {user}"));
        self.ok(&format!("PASS {password}"));
    }

    /// Does the session of a typical device: log in, list, fetch all, delete all, quit.
    pub fn session(mut self, user: &str, password: &str, messages: &[&[u8]]) {
        self.login(user, password);
        self.rest_of_session(user, messages);
    }

    /// Does the same session once it is logged in.
    pub fn rest_of_session(mut self, user: &str, messages: &[&[u8]]) {
        self.ok("STAT");
        assert_eq!(self.multi("LIST").iter().filter(|&&octet| octet == b'\n').count(), messages.len());
        for (number, message) in (1..).zip(messages) {
            assert!(self.multi(&format!("RETR {number}")) == *message, "message {number} of {user} differs");
            self.ok(&format!("DELE {number}"));
        }
        self.ok("QUIT");
        assert!(self.device.has_ended());
    }
}
