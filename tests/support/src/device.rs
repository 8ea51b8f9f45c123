//! A device is a connection with lines and counted octets, which panics when it cannot go on.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use crate::connection::{Connection, ReadWrite, Socket, bound};
use crate::process::{PATIENCE, Process};

pub struct Device(pub Connection);

impl Device {
    pub fn over(stream: impl ReadWrite + 'static) -> Self {
        Self(Connection::within(stream))
    }

    /// Connects in clear.
    pub fn plain(address: SocketAddr) -> Self {
        Self::over(tcp(address))
    }

    pub fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.0.send(octets.as_ref()).unwrap();
    }

    /// The next line, without CRLF; `None` at the end.
    pub fn try_line(&mut self) -> Option<Vec<u8>> {
        until_the_end(self.0.octets_of_line())
    }

    pub fn line(&mut self) -> String {
        String::from_utf8_lossy(&self.try_line().expect("the connection has ended")).into_owned()
    }

    pub fn octets(&mut self, count: usize) -> Vec<u8> {
        let octets = until_the_end(self.0.octets(count));
        octets.unwrap_or_else(|| panic!("ended before {count} octets have come"))
    }

    /// Whether the peer has closed without another octet.
    pub fn has_ended(&mut self) -> bool {
        self.0.unread().is_empty() && until_the_end(self.0.fill()).is_none_or(|count| count == 0)
    }
}

/// Returns the octets that have come, or none at the end. A reset is an end, too.
fn until_the_end<T>(result: io::Result<T>) -> Option<T> {
    match result {
        Err(error) if error.kind() == ErrorKind::TimedOut => panic!("nothing came within {PATIENCE:?}"),
        result => result.ok(),
    }
}

pub fn tcp(address: SocketAddr) -> Socket {
    patient(TcpStream::connect(address).unwrap())
}

/// Connects from this address, in clear.
pub fn tcp_from(source: impl Into<IpAddr>, to: SocketAddr) -> Socket {
    patient(bound(source.into(), to).unwrap())
}

fn patient(stream: TcpStream) -> Socket {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.into()
}

/// A program that carries its standard input and output over TLS.
pub struct Program {
    _process: Process,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    rest: Vec<u8>,
}

impl Program {
    pub fn start(command: &mut Command) -> Self {
        let mut process = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()));
        let child: &mut Child = &mut process.0;
        let input = child.stdin.take().unwrap();
        let mut source = child.stdout.take().unwrap();
        let (sender, output) = sync_channel(64);
        std::thread::spawn(move || {
            let mut chunk = vec![0; 65_536];
            while let Ok(count @ 1..) = source.read(&mut chunk) {
                if sender.send(chunk[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { _process: process, input, output, rest: Vec::new() }
    }
}

impl Read for Program {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            match self.output.recv_timeout(PATIENCE) {
                Ok(chunk) => self.rest = chunk,
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Ok(0),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest[..count]);
        self.rest.drain(..count);
        Ok(count)
    }
}

impl Write for Program {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.input.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input.flush()
    }
}
