//! This file is one end of a connection that records what it sends and receives; its errors are texts for a table.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use openssl::ssl::SslContext;

use support::connection::Connection;
use support::process::PATIENCE;
use support::record::{Hello, TLS1_0};
use support::stacks::{Version, context, old};
use support::tls_client::RSA_SHA;

/// The outcome of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Octets,
    Nothing,
    /// The other side has closed, or the connection broke.
    End,
}

pub struct Peer {
    connection: Connection,
    /// Octets that have arrived, and are not yet taken.
    pub heard: Vec<u8>,
    /// All octets sent, beneath TLS.
    pub said: Vec<u8>,
    ended: bool,
}

support::deref!(Peer, connection: Connection);

impl Peer {
    pub fn over(tcp: TcpStream) -> Self {
        Self::on(Connection::over(tcp))
    }

    /// Connects from an address of its own.
    pub fn connect(from: Ipv4Addr, to: SocketAddr) -> Self {
        Self::on(Connection::connect(from, to))
    }

    fn on(connection: io::Result<Connection>) -> Self {
        Self { connection: connection.unwrap(), heard: Vec::new(), said: Vec::new(), ended: false }
    }

    /// Shakes hands as an old device.
    pub fn shake_as_device(&mut self) -> Result<(), String> {
        self.connect_tls(&old_device(), &mut None).map_err(|error| error.to_string())
    }

    pub fn shake_as_server(&mut self, context: &SslContext) -> Result<(), String> {
        self.accept_tls(context).map_err(|error| error.to_string())
    }

    pub fn try_send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.connection.send(octets)?;
        self.said.extend_from_slice(octets);
        Ok(())
    }

    pub fn send(&mut self, text: &str) {
        self.try_send(text.as_bytes()).unwrap();
    }

    /// Reads once, for no longer than this.
    pub fn hear_for(&mut self, time: Duration) -> Heard {
        if self.ended {
            return Heard::End;
        }
        match self.fill_within(time) {
            Ok(count @ 1..) => {
                let octets = self.take(count);
                self.heard.extend(octets);
                Heard::Octets
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Heard::Nothing,
            Ok(0) | Err(_) => {
                self.ended = true;
                Heard::End
            }
        }
    }

    /// The next line, with its end.
    pub fn line(&mut self) -> Result<String, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = self.heard.iter().position(|&octet| octet == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            let heard = self.hear_for(deadline.saturating_duration_since(Instant::now()));
            if heard == Heard::End || Instant::now() >= deadline {
                return Err(format!("{heard:?} in place of a line, behind {:?}", lossy(&self.heard)));
            }
        }
    }

    /// Reads up to a line with this beginning.
    pub fn line_with(&mut self, beginning: &str) -> Result<String, String> {
        let line = self.line()?;
        if line.starts_with(beginning) { Ok(line) } else { Err(format!("{line:?} in place of {beginning:?}")) }
    }

    /// Reads until the other side has closed; an error if it does not close in time.
    pub fn hear_to_the_end(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.hear_for(deadline.saturating_duration_since(Instant::now())) == Heard::End {
                return Ok(());
            }
        }
        Err(format!("no end within {PATIENCE:?}, behind {:?}", lossy(&self.heard)))
    }

    /// Waits until the other side has given up a forgotten connection, whose octets cannot be read any more.
    pub fn until_let_go(&mut self) -> Result<(), String> {
        if self.is_let_go() { Ok(()) } else { Err(format!("a forgotten connection is held for {PATIENCE:?}")) }
    }
}

/// The ClientHello of an old device.
pub fn client_hello() -> Vec<u8> {
    Hello::new(TLS1_0, &[RSA_SHA]).record()
}

fn old_device() -> SslContext {
    context(|context| old(context, Version::Tls1_0, "AES128-SHA"))
}

/// Waits for a connection, but not without end.
pub fn accept(listener: &TcpListener) -> Result<TcpStream, String> {
    listener.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(format!("nobody dials: {error}")),
        }
    }
}

pub fn lossy(octets: &[u8]) -> String {
    String::from_utf8_lossy(&octets[..octets.len().min(300)]).into_owned()
}
