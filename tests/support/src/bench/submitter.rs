//! The bench's device that sends: it submits messages by SMTP, as a scanner does.

use crate::device::Device;

/// A connection on which a device submits messages.
pub struct Submitter(Device);

impl Submitter {
    /// Reads the greeting, and says EHLO.
    pub fn greeted(device: Device) -> Self {
        let mut submitter = Self(device);
        submitter.expect("220 ");
        submitter.ask("EHLO scanner", "250 ");
        submitter
    }

    /// Logs in with AUTH PLAIN and its initial response (RFC 4954 §4, RFC 4616).
    pub fn login(&mut self, user: &str, password: &str) {
        let response = openssl::base64::encode_block(format!("\0{user}\0{password}").as_bytes());
        self.ask(&format!("AUTH PLAIN {response}"), "235 ");
    }

    /// Submits a message to one recipient; its content has the end of the data. Returns the server's reply to it.
    pub fn submit(&mut self, content: &[u8]) -> String {
        self.ask(&format!("MAIL FROM:<{SENDER}>"), "250 ");
        self.ask("RCPT TO:<office@contoso.example>", "250 ");
        self.ask("DATA", "354 ");
        self.0.send(content);
        self.expect("250 ")
    }

    /// Says QUIT, and closes the connection.
    pub fn quit(mut self) {
        self.ask("QUIT", "221 ");
        assert!(self.0.0.unread().is_empty());
        // The end of the connection does not matter here.
        let _ = self.0.0.close();
    }

    /// The connection itself.
    pub fn device(&self) -> &Device {
        &self.0
    }

    fn ask(&mut self, line: &str, expected: &str) {
        self.0.send(format!("{line}\r\n"));
        self.expect(expected);
    }

    /// Reads a reply, which may have several lines.
    fn expect(&mut self, expected: &str) -> String {
        loop {
            let line = self.0.line();
            if line.as_bytes().get(3) != Some(&b'-') {
                assert!(line.starts_with(expected), "{line}");
                return line;
            }
        }
    }
}

/// The content of a message of this many octets, with the end of the data: a head, and lines of base64.
pub fn content(size: usize) -> Vec<u8> {
    let mut content = HEAD.as_bytes().to_vec();
    while content.len() < size {
        content.extend_from_slice(LINE);
    }
    content.truncate(size - 2);
    // The last line is short, and must not end in half a line end.
    if let Some(last) = content.last_mut() {
        *last = b'x';
    }
    content.extend_from_slice(b"\r\n.\r\n");
    content
}

/// The server's reply to a message of this many octets that reached it as it was.
pub fn taken(size: usize) -> String {
    format!("250 2.6.0 {size} octets")
}

/// The device's own address.
pub const SENDER: &str = "scanner@contoso.example";
const HEAD: &str = "Date: Sat, 28 Nov 2026 10:00:00 +0100\r\nFrom: \"Scanner, 2nd floor\" <scanner@contoso.example>\r\n\
    To: office@contoso.example\r\nSubject: Scanned document\r\nMessage-ID: <1@scanner.contoso.example>\r\n\
    MIME-Version: 1.0\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n";
/// A line of base64 (RFC 2045 §6.8).
const LINE: &[u8] = b"JVBERi0xLjQKJcOkw7zDtsOfCjIgMCBvYmoKPDwvTGVuZ3RoIDMgMCBSL0ZpbHRlci9GbGF0ZURl\r\n";
