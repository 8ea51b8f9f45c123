//! This file speaks TLS by hand: records, any ClientHello, and the replies.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::connection::Socket;
use crate::device::tcp;
use crate::process::PATIENCE;

pub const CHANGE_CIPHER_SPEC: u8 = 20;
pub const ALERT: u8 = 21;
pub const HANDSHAKE: u8 = 22;
pub const DATA: u8 = 23;
pub const HEARTBEAT: u8 = 24;

pub const SSL3: u16 = 0x0300;
pub const TLS1_0: u16 = 0x0301;
pub const TLS1_1: u16 = 0x0302;
pub const TLS1_2: u16 = 0x0303;
pub const TLS1_3: u16 = 0x0304;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub kind: u8,
    pub version: u16,
    pub body: Vec<u8>,
}

/// The end that came in place of the expected record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// An alert in clear: its level and description (RFC 5246 §7.2).
    Alert(u8, u8),
    Closed,
    Reset,
}

pub struct Records {
    stream: Socket,
    /// Handshake octets that are not part of a message yet.
    handshake: Vec<u8>,
}

impl Records {
    pub fn to(address: SocketAddr) -> Self {
        Self { stream: tcp(address), handshake: Vec::new() }
    }

    /// Sends the octets, and ignores a peer that has gone.
    pub fn send(&mut self, octets: &[u8]) {
        let _ = self.stream.write_all(octets);
    }

    /// Sends the octets; returns an error if the peer has gone.
    pub fn try_send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.write_all(octets)
    }

    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    pub fn record(&mut self, kind: u8, version: u16, body: &[u8]) {
        self.send(&record(kind, version, body));
    }

    /// Closes this half.
    pub fn half_close(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    pub fn next_record(&mut self) -> Result<Record, Ending> {
        let mut head = [0; 5];
        self.fill(&mut head)?;
        let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        self.fill(&mut body)?;
        Ok(Record { kind: head[0], version: u16::from_be_bytes([head[1], head[2]]), body })
    }

    /// All records up to the end.
    pub fn rest(&mut self) -> (Vec<Record>, Ending) {
        let mut records = Vec::new();
        loop {
            match self.next_record() {
                Ok(record) => records.push(record),
                Err(no) => return (records, no),
            }
        }
    }

    /// The next handshake message, with its header.
    pub fn message(&mut self) -> Result<Vec<u8>, Ending> {
        loop {
            if let [_, high, middle, low, ..] = self.handshake[..] {
                let length = 4 + usize::from(high) * 65_536 + usize::from(middle) * 256 + usize::from(low);
                if self.handshake.len() >= length {
                    return Ok(self.handshake.drain(..length).collect());
                }
            }
            let record = self.next_record()?;
            match record.kind {
                HANDSHAKE => self.handshake.extend(record.body),
                ALERT => return Err(Ending::Alert(record.body[0], record.body[1])),
                kind => panic!("a record of type {kind} in the middle of a handshake"),
            }
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Ending> {
        self.stream.read_exact(buffer).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Ending::Closed,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Ending::Reset,
            _ => panic!("nothing came within {PATIENCE:?}: {error}"),
        })
    }
}

pub fn record(kind: u8, version: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind][..], &version.to_be_bytes(), &length, body].concat()
}

/// A ClientHello under construction (RFC 5246 §7.4.1.2).
#[derive(Clone, Debug)]
pub struct Hello {
    pub version: u16,
    pub random: [u8; 32],
    pub session: Vec<u8>,
    pub suites: Vec<u16>,
    pub compressions: Vec<u8>,
    pub extensions: Vec<(u16, Vec<u8>)>,
}

impl Hello {
    /// A ClientHello with everything that a client of this version needs. With TLS 1.3, [`Self::new`] asks for that
    /// version alone.
    pub fn new(version: u16, suites: &[u16]) -> Self {
        let mut random = [0; 32];
        openssl::rand::rand_bytes(&mut random).unwrap();
        let mut hello = Self {
            version: version.min(TLS1_2),
            random,
            session: Vec::new(),
            suites: suites.to_vec(),
            compressions: vec![0],
            extensions: Vec::new(),
        };
        if version >= TLS1_0 {
            // The groups are P-256 and X25519; points are uncompressed.
            hello = hello.with(10, &[0, 4, 0, 23, 0, 29]).with(11, &[1, 0]);
        }
        if version >= TLS1_2 {
            // The algorithms are PSS, PKCS #1 and ECDSA, with SHA-256.
            hello = hello.with(13, &[0, 6, 8, 4, 4, 1, 4, 3]);
        }
        if version == TLS1_3 {
            // X25519's base point serves as our key, because nothing is decrypted.
            let mut share = [0; 38];
            share[..7].copy_from_slice(&[0, 36, 0, 29, 0, 32, 9]);
            hello = hello.with(43, &[2, 3, 4]).with(51, &share);
        }
        hello
    }

    pub fn with(mut self, extension: u16, body: &[u8]) -> Self {
        self.extensions.retain(|(one, _)| *one != extension);
        self.extensions.push((extension, body.to_vec()));
        self
    }

    pub fn without(mut self, extension: u16) -> Self {
        self.extensions.retain(|(one, _)| *one != extension);
        self
    }

    /// The handshake message, with its header.
    pub fn message(&self) -> Vec<u8> {
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend(self.random);
        body.push(self.session.len() as u8);
        body.extend(&self.session);
        body.extend((self.suites.len() as u16 * 2).to_be_bytes());
        body.extend(self.suites.iter().flat_map(|suite| suite.to_be_bytes()));
        body.push(self.compressions.len() as u8);
        body.extend(&self.compressions);
        let mut extensions = Vec::new();
        for (number, content) in &self.extensions {
            extensions.extend(number.to_be_bytes());
            extensions.extend((content.len() as u16).to_be_bytes());
            extensions.extend(content);
        }
        if !extensions.is_empty() {
            body.extend((extensions.len() as u16).to_be_bytes());
            body.extend(extensions);
        }
        message(1, &body)
    }

    /// The ClientHello in one record. The record's version is TLS 1.0, as clients send it, or older.
    pub fn record(&self) -> Vec<u8> {
        record(HANDSHAKE, self.version.min(TLS1_0), &self.message())
    }
}

/// A handshake message.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    [&[kind][..], &length[1..], body].concat()
}

#[derive(Clone, Debug)]
pub struct ServerHello {
    /// The version from `supported_versions` if that extension is there, otherwise from the message.
    pub version: u16,
    pub random: Vec<u8>,
    pub session: Vec<u8>,
    pub suite: u16,
    pub compression: u8,
    pub extensions: Vec<(u16, Vec<u8>)>,
}

impl ServerHello {
    /// Parses a message with its header.
    pub fn parse(message: &[u8]) -> Self {
        assert_eq!(message[0], 2, "not a ServerHello");
        let mut body = Cursor(&message[4..]);
        let mut hello = Self {
            version: body.u16(),
            random: body.take(32).to_vec(),
            session: body.vector(1).to_vec(),
            suite: body.u16(),
            compression: body.take(1)[0],
            extensions: Vec::new(),
        };
        if !body.0.is_empty() {
            let mut extensions = Cursor(body.vector(2));
            while !extensions.0.is_empty() {
                hello.extensions.push((extensions.u16(), extensions.vector(2).to_vec()));
            }
        }
        if let Some([high, low]) = hello.extension(43) {
            hello.version = u16::from_be_bytes([*high, *low]);
        }
        hello
    }

    pub fn extension(&self, number: u16) -> Option<&[u8]> {
        self.extensions.iter().find(|(one, _)| *one == number).map(|(_, body)| body.as_slice())
    }
}

/// Sends a ClientHello and returns the answer to it.
pub fn answer(address: SocketAddr, hello: &Hello) -> Result<ServerHello, Ending> {
    answer_to(address, &hello.record())
}

pub fn answer_to(address: SocketAddr, octets: &[u8]) -> Result<ServerHello, Ending> {
    let mut wire = Records::to(address);
    wire.send(octets);
    wire.message().map(|message| ServerHello::parse(&message))
}

/// A reader of octets that panics when they run out.
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    /// A vector whose length stands in the `head` octets before it.
    pub fn vector(&mut self, head: usize) -> &'a [u8] {
        let length = self.take(head).iter().fold(0, |length, octet| length * 256 + usize::from(*octet));
        self.take(length)
    }

    /// A list of numbers whose length stands in the `head` octets before it.
    pub fn numbers(&mut self, head: usize) -> Vec<u16> {
        self.vector(head).chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
    }
}
