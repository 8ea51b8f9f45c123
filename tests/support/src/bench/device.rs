//! The device of the bench is a client over TLS 1.0, as old as the devices that packetboat serves.

use std::net::{SocketAddr, TcpStream};

use crate::bench::submitter::Submitter;
use crate::connection::{Connection, resume};
use crate::device::Device;
use crate::imap::Imap;
use crate::stacks::{Version, context, old};
use openssl::ssl::{Ssl, SslContext, SslOptions, SslSession};

/// A kind of device.
#[derive(Clone)]
pub struct Kind {
    context: SslContext,
}

/// The cipher suite of each measure that names no other.
pub const SUITE: &str = "ECDHE-RSA-AES256-SHA";

impl Kind {
    /// A device of TLS 1.0 with this suite. It has no encrypt-then-MAC, which is from 2014 (RFC 7366), so no such
    /// device has it.
    pub fn old(suite: &str) -> Self {
        Self::with(suite, SslOptions::from_bits_retain(1 << 19))
    }

    /// The same device with today's OpenSSL, which offers encrypt-then-MAC: its settings are old, its library is not.
    pub fn new_library(suite: &str) -> Self {
        Self::with(suite, SslOptions::empty())
    }

    fn with(suite: &str, options: SslOptions) -> Self {
        let context = context(|context| {
            old(context, Version::Tls1_0, suite);
            context.set_options(options);
        });
        Self { context }
    }

    /// Connects, shakes hands, and reads the greeting. A given session must be resumed.
    pub fn connect(&self, address: SocketAddr, session: Option<&SslSession>) -> Imap {
        Imap::greeted(self.secure(address, session))
    }

    /// The same for a device that submits mail.
    pub fn connect_submitter(&self, address: SocketAddr, session: Option<&SslSession>) -> Submitter {
        Submitter::greeted(self.secure(address, session))
    }

    fn secure(&self, address: SocketAddr, session: Option<&SslSession>) -> Device {
        let mut ssl = Ssl::new(&self.context).unwrap();
        if let Some(session) = session {
            resume(&mut ssl, session).unwrap();
        }
        let mut connection = Connection::over(TcpStream::connect(address).unwrap()).unwrap();
        connection.connect_with(ssl).unwrap();
        assert_eq!(connection.ssl().unwrap().session_reused(), session.is_some(), "at {address}");
        Device(connection)
    }
}

/// The TLS session that the next connection resumes.
pub fn session(device: &Device) -> SslSession {
    device.0.ssl().unwrap().session().unwrap().to_owned()
}
