//! One end of a connection that can do what no decent TLS library does: speak beneath its own encryption, and be made to
//! send a fatal alert.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use openssl::ssl::{HandshakeError, Ssl, SslContext, SslStream};
use socket2::{Domain, SockRef, Socket, Type};

use support::forgotten::{forget, is_held};
use support::process::PATIENCE;
use support::stacks::{Version, context, old};

/// A TCP connection whose next read may be a forgery.
#[derive(Debug)]
pub struct Wire {
    tcp: TcpStream,
    /// Read in place of what the other side sends.
    forged: Vec<u8>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.forged.is_empty() {
            return self.tcp.read(buffer);
        }
        let count = self.forged.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.forged[..count]);
        self.forged.drain(..count);
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.tcp.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

enum Io {
    Clear(Wire),
    Tls(SslStream<Wire>),
    Gone,
}

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Octets,
    Nothing,
    /// The other side has closed, or the connection broke.
    End,
}

pub struct Peer {
    io: Io,
    /// Heard, and not yet taken.
    pub heard: Vec<u8>,
    /// All that was said, beneath TLS.
    pub said: Vec<u8>,
    ended: bool,
}

impl Peer {
    pub fn over(tcp: TcpStream) -> Self {
        tcp.set_nodelay(true).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { io: Io::Clear(Wire { tcp, forged: Vec::new() }), heard: Vec::new(), said: Vec::new(), ended: false }
    }

    /// From an address of its own.
    pub fn connect(from: Ipv4Addr, to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        Self::over(socket.into())
    }

    pub fn tcp(&self) -> Option<&TcpStream> {
        match &self.io {
            Io::Clear(wire) => Some(&wire.tcp),
            Io::Tls(stream) => Some(&stream.get_ref().tcp),
            Io::Gone => None,
        }
    }

    /// Shakes hands as an old device.
    pub fn shake_as_device(&mut self) -> Result<(), String> {
        let ssl = Ssl::new(&old_device()).unwrap();
        self.shake(|wire| ssl.connect(wire))
    }

    pub fn shake_as_server(&mut self, context: &SslContext) -> Result<(), String> {
        let ssl = Ssl::new(context).unwrap();
        self.shake(|wire| ssl.accept(wire))
    }

    fn shake(
        &mut self,
        shake: impl FnOnce(Wire) -> Result<SslStream<Wire>, HandshakeError<Wire>>,
    ) -> Result<(), String> {
        let Io::Clear(wire) = std::mem::replace(&mut self.io, Io::Gone) else { panic!("TLS over TLS") };
        wire.tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let stream = shake(wire).map_err(|error| format!("handshake: {error:?}"))?;
        self.io = Io::Tls(stream);
        Ok(())
    }

    pub fn try_send(&mut self, octets: &[u8]) -> io::Result<()> {
        match &mut self.io {
            Io::Clear(wire) => wire.write_all(octets),
            Io::Tls(stream) => stream.write_all(octets),
            Io::Gone => Err(io::ErrorKind::NotConnected.into()),
        }?;
        self.said.extend_from_slice(octets);
        Ok(())
    }

    pub fn send(&mut self, text: &str) {
        self.try_send(text.as_bytes()).unwrap();
    }

    /// Beneath TLS, where there is any.
    pub fn try_send_raw(&mut self, octets: &[u8]) -> io::Result<()> {
        self.tcp().map_or(Ok(()), |mut tcp| tcp.write_all(octets))
    }

    /// Reads once, for no longer than this.
    pub fn hear_for(&mut self, time: Duration) -> Heard {
        if self.ended {
            return Heard::End;
        }
        let Some(tcp) = self.tcp() else { return Heard::End };
        tcp.set_read_timeout(Some(time.max(Duration::from_millis(1)))).unwrap();
        let mut chunk = [0; 32 * 1024];
        let read = match &mut self.io {
            Io::Clear(wire) => wire.read(&mut chunk),
            Io::Tls(stream) => stream.read(&mut chunk),
            Io::Gone => return Heard::End,
        };
        match read {
            Ok(0) => {
                self.ended = true;
                Heard::End
            }
            Ok(count) => {
                self.heard.extend_from_slice(&chunk[..count]);
                Heard::Octets
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                ) =>
            {
                Heard::Nothing
            }
            Err(_) => {
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

    /// Up to a line that begins so.
    pub fn line_with(&mut self, beginning: &str) -> Result<String, String> {
        let line = self.line()?;
        if line.starts_with(beginning) { Ok(line) } else { Err(format!("{line:?} in place of {beginning:?}")) }
    }

    /// Reads until the other side has closed; whether that came in time.
    pub fn hear_to_the_end(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.hear_for(deadline.saturating_duration_since(Instant::now())) == Heard::End {
                return Ok(());
            }
        }
        Err(format!("no end within {PATIENCE:?}, behind {:?}", lossy(&self.heard)))
    }

    /// Hears nothing from here on, and acknowledges nothing.
    pub fn forget(&self) {
        self.tcp().into_iter().for_each(forget);
    }

    /// What the other side does then is not heard: waits until it has let go of the connection.
    pub fn until_let_go(&mut self) -> Result<(), String> {
        let Some(tcp) = self.tcp() else { return Ok(()) };
        let (local, remote) = (tcp.local_addr().unwrap(), tcp.peer_addr().unwrap());
        let deadline = Instant::now() + PATIENCE;
        while is_held(remote, local) {
            if Instant::now() >= deadline {
                return Err(format!("a forgotten connection is held for {PATIENCE:?}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.reset();
        Ok(())
    }

    /// close_notify where there is TLS, then the end of this half.
    pub fn close_half(&mut self) {
        if let Io::Tls(stream) = &mut self.io {
            let _ = stream.shutdown();
        }
        self.end_half();
    }

    /// The end of this half, without close_notify.
    pub fn end_half(&mut self) {
        if let Some(tcp) = self.tcp() {
            let _ = tcp.shutdown(Shutdown::Write);
        }
    }

    /// Gone with a reset.
    pub fn reset(&mut self) {
        if let Some(tcp) = self.tcp() {
            SockRef::from(tcp).set_linger(Some(Duration::ZERO)).unwrap();
        }
        self.io = Io::Gone;
    }

    /// A fatal alert as OpenSSL itself encrypts it: it is made to read a record that nobody has sent.
    pub fn alert(&mut self) {
        match &mut self.io {
            Io::Clear(wire) => {
                let _ = wire.tcp.write_all(ALERT);
            }
            Io::Tls(stream) => {
                let version = if stream.ssl().version_str() == "TLSv1" { 1 } else { 3 };
                let mut record = vec![23, 3, version, 0, 64];
                record.extend([0; 64]);
                stream.get_mut().forged = record;
                assert!(stream.read(&mut [0; 16]).is_err(), "a forged record was taken");
            }
            Io::Gone => {}
        }
    }
}

/// The ClientHello of an old device.
pub fn client_hello() -> Vec<u8> {
    #[derive(Debug)]
    struct Recorder(Vec<u8>);
    impl Read for Recorder {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }
    impl Write for Recorder {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(octets);
            Ok(octets.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    match Ssl::new(&old_device()).unwrap().connect(Recorder(Vec::new())) {
        Err(HandshakeError::WouldBlock(begun)) => begun.get_ref().0.clone(),
        other => panic!("{other:?}"),
    }
}

fn old_device() -> SslContext {
    context(|context| old(context, Version::Tls1_0, "AES128-SHA"))
}

/// Waits for a connection, but not for ever.
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

/// handshake_failure, fatal, in clear (RFC 5246 §7.2).
pub const ALERT: &[u8] = &[21, 3, 1, 0, 2, 2, 40];
