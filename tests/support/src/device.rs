//! A device: a stream, however it came about, with lines and counted octets.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use crate::process::{PATIENCE, Process};

pub trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

pub struct Device {
    stream: Box<dyn ReadWrite>,
    buffer: Vec<u8>,
    start: usize,
}

impl Device {
    pub fn over(stream: impl ReadWrite + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new(), start: 0 }
    }

    /// In clear.
    pub fn plain(address: SocketAddr) -> Self {
        Self::over(tcp(address))
    }

    pub fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.stream.write_all(octets.as_ref()).unwrap();
        self.stream.flush().unwrap();
    }

    /// The next line, without CRLF; `None` at the end.
    pub fn try_line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.unread().iter().position(|&octet| octet == b'\n') {
                let line = self.unread()[..end].to_vec();
                self.start += end + 1;
                return Some(line.strip_suffix(b"\r").map(<[u8]>::to_vec).unwrap_or(line));
            }
            if self.fill() == 0 {
                return None;
            }
        }
    }

    pub fn line(&mut self) -> String {
        String::from_utf8_lossy(&self.try_line().expect("the connection has ended")).into_owned()
    }

    pub fn octets(&mut self, count: usize) -> Vec<u8> {
        while self.unread().len() < count {
            assert!(self.fill() > 0, "ended after {} of {count} octets", self.unread().len());
        }
        let octets = self.unread()[..count].to_vec();
        self.start += count;
        octets
    }

    /// Whether the peer has closed, and sent nothing more.
    pub fn has_ended(&mut self) -> bool {
        self.unread().is_empty() && self.fill() == 0
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn fill(&mut self) -> usize {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let filled = self.buffer.len();
        self.buffer.resize(filled + 65_536, 0);
        let read = match self.stream.read(&mut self.buffer[filled..]) {
            Ok(read) => read,
            // By a signal: the next call reads on.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.buffer.truncate(filled);
                return self.fill();
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("nothing came within {PATIENCE:?}")
            }
            // A reset is an end, too.
            Err(_) => 0,
        };
        self.buffer.truncate(filled + read);
        read
    }
}

pub fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
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
