//! The device of the bench: an IMAP client over TLS 1.0, as old as the devices that packetboat is for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use openssl::ssl::{Ssl, SslContext, SslMethod, SslOptions, SslSession, SslStream, SslVersion};

/// A kind of device.
#[derive(Clone)]
pub struct Kind {
    context: SslContext,
}

/// One connection of it.
pub struct Device {
    stream: SslStream<TcpStream>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// The suite of every measure that does not say otherwise.
pub const SUITE: &str = "ECDHE-RSA-AES256-SHA";

impl Kind {
    /// TLS 1.0 with this suite, and without encrypt-then-MAC: that is from 2014 (RFC 7366), and no such device has it.
    pub fn old(suite: &str) -> Self {
        Self::with(suite, false)
    }

    /// The same, but its OpenSSL is of today and offers encrypt-then-MAC: old settings, not an old device.
    pub fn new_library(suite: &str) -> Self {
        Self::with(suite, true)
    }

    fn with(suite: &str, encrypt_then_mac: bool) -> Self {
        let mut context = SslContext::builder(SslMethod::tls_client()).unwrap();
        context.set_security_level(0);
        context.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
        context.set_max_proto_version(Some(SslVersion::TLS1)).unwrap();
        context.set_cipher_list(suite).unwrap();
        context.set_options(SslOptions::IGNORE_UNEXPECTED_EOF);
        if !encrypt_then_mac {
            context.set_options(SslOptions::from_bits_retain(1 << 19));
        }
        Self { context: context.build() }
    }

    /// Connects, shakes hands, and reads the greeting. With a session it must be resumed.
    pub fn connect(&self, address: SocketAddr, session: Option<&SslSession>) -> Device {
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut ssl = Ssl::new(&self.context).unwrap();
        if let Some(session) = session {
            // SAFETY: the session comes from this very context.
            #[allow(unsafe_code)]
            unsafe { ssl.set_session(session) }.unwrap();
        }
        let stream = ssl.connect(tcp).unwrap();
        assert_eq!(stream.ssl().session_reused(), session.is_some(), "at {address}");
        let mut device = Device { stream, buffer: vec![0; 4096], start: 0, end: 0 };
        let greeting = device.line();
        assert!(greeting.starts_with("* OK"), "{greeting}");
        device
    }
}

impl Device {
    /// For the next connection to resume.
    pub fn session(&self) -> SslSession {
        self.stream.ssl().session().unwrap().to_owned()
    }

    pub fn log_in(&mut self, login: &str, password: &str) {
        self.ok(&format!("LOGIN \"{login}\" \"{password}\""));
    }

    /// Sends a command and reads to its tagged OK.
    pub fn ok(&mut self, command: &str) {
        self.say(command);
        self.finish();
    }

    /// Fetches a message; its size.
    pub fn fetch(&mut self, number: usize) -> usize {
        self.say(&format!("FETCH {number} BODY[]"));
        let size = loop {
            let line = self.line();
            if line.contains(" FETCH ") {
                break line.rsplit_once('{').unwrap().1.trim_end_matches('}').parse().unwrap();
            }
        };
        // From then on the buffer is as large as a large read, as long as the device lives.
        self.buffer.resize(self.buffer.len().max(64 * 1024), 0);
        let mut left: usize = size;
        loop {
            let taken = left.min(self.end - self.start);
            self.start += taken;
            left -= taken;
            if left == 0 {
                break;
            }
            self.fill();
        }
        self.finish();
        size
    }

    /// Uploads a message of this size, in pieces as large as a scanner's.
    pub fn append(&mut self, size: usize) {
        let piece = vec![b'x'; 16 * 1024];
        self.say(&format!("APPEND INBOX {{{size}}}"));
        let go = self.line();
        assert!(go.starts_with('+'), "{go}");
        for _ in 0..size / piece.len() {
            self.stream.write_all(&piece).unwrap();
        }
        self.stream.write_all(b"\r\n").unwrap();
        self.finish();
    }

    /// Begins to idle.
    pub fn idle(&mut self) {
        self.say("IDLE");
        let line = self.line();
        assert!(line.starts_with('+'), "{line}");
    }

    /// Waits for so many untagged lines, then ends the idling.
    pub fn pushed(&mut self, count: usize) {
        for _ in 0..count {
            let line = self.line();
            assert!(line.starts_with("* "), "{line}");
        }
        self.stream.write_all(b"DONE\r\n").unwrap();
        self.finish();
    }

    /// LOGOUT, and the wait for the other side to close.
    pub fn log_out(mut self) {
        self.ok("LOGOUT");
        let rest = self.stream.read(&mut self.buffer).unwrap_or(0);
        assert_eq!(rest, 0);
        let _ = self.stream.shutdown();
    }

    fn say(&mut self, command: &str) {
        self.stream.write_all(format!("a {command}\r\n").as_bytes()).unwrap();
    }

    fn finish(&mut self) {
        loop {
            let line = self.line();
            if line.starts_with("a ") {
                assert!(line.starts_with("a OK"), "{line}");
                return;
            }
        }
    }

    fn line(&mut self) -> String {
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(at) = unread.iter().position(|&octet| octet == b'\n') {
                let line = String::from_utf8_lossy(&unread[..at]).trim_end().to_owned();
                self.start += at + 1;
                return line;
            }
            self.fill();
        }
    }

    fn fill(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let read = self.stream.read(&mut self.buffer[self.end..]).unwrap();
        assert!(read > 0, "the connection has ended");
        self.end += read;
    }
}

/// How long any one thing may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
