//! Deadlines of a connection under a paused clock: pipes stand for sockets, and time passes only where everybody waits.
//!
//! The clock moves on to the next timer once no task can run, so that an hour takes no time and each deadline is exact.

mod fairness;
mod leaving;
mod login;
mod order;
mod relay;
mod slow;
mod submission;
mod tcp;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

use super::network::{Clear, ServerStream};
use super::*;
use crate::config::Config;
use crate::lifecycle::{self, Trigger};
use crate::mode::Mode;
use crate::proto::Terms;
use crate::protocol::{Protocol, Security};
use crate::proxy::backend::Backend;
use crate::proxy::{ProcessState, open};
use crate::transport::Facts;
use crate::transport::upstream::ParkedConnection;

/// A listener's service with a connection to it that is about to be served.
struct Fixture {
    process: ProcessState,
    service: Arc<Service>,
    current: Arc<CurrentService>,
    trigger: Trigger,
    lifecycle: Lifecycle,
    /// The ends of the pipes that servers answer on; a dial beyond them waits for ever.
    network: Pipes,
    server: Option<DuplexStream>,
    device: DuplexStream,
    stream: Pipe,
}

/// The result of a connection.
struct Outcome {
    /// The reason in metrics and log.
    reason: &'static str,
    /// The time from the greeting to the decision to end the connection, and to its very end.
    ended: Duration,
    left: Duration,
    /// All that the device has received beyond what its script has read.
    device: String,
    /// The metrics afterwards.
    metrics: String,
}

/// The other ends of a connection, for a script to play.
struct Peers {
    device: DuplexStream,
    server: DuplexStream,
    trigger: Trigger,
    process: ProcessState,
    current: Arc<CurrentService>,
}

impl Fixture {
    /// An IMAP listener in clear whose logins are passed through, with the default limits.
    fn new() -> Self {
        Self::with(Protocol::Imap, PIPE)
    }

    /// Starts a connection of this protocol, with pipes of `size` octets to either peer.
    fn with(protocol: Protocol, size: usize) -> Self {
        let listener = "entry = \"plaintext\"\nallow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\"]\n";
        let upstream = if protocol == Protocol::Smtp { "smtp = {}\n" } else { "" };
        let text = configuration(protocol, upstream, listener);
        let (process, service) = service(&text);
        let (trigger, lifecycle) = lifecycle::begin();
        let current = Arc::new(CurrentService::new(&service, lifecycle.clone()));
        let (device, stream) = duplex(size);
        let (server, upstream) = duplex(size);
        let network = Pipes(Mutex::new(VecDeque::from([Pipe::new(upstream)])));
        let (stream, server) = (Pipe::new(stream), Some(server));
        Self { process, service, current, trigger, lifecycle, network, server, device, stream }
    }

    /// The server's address does not answer.
    fn without_server(mut self) -> Self {
        self.network = Pipes(Mutex::default());
        self.server = None;
        self
    }

    /// Closing either stream never comes to an end.
    fn with_stuck_close(mut self) -> Self {
        self.stream.close_is_stuck = true;
        self.network.0.get_mut().unwrap().iter_mut().for_each(|pipe| pipe.close_is_stuck = true);
        self
    }

    /// Serves the device while its script plays. The peers stay until the connection has ended.
    async fn serve(self, script: impl AsyncFnOnce(Peers) -> Peers) -> Outcome {
        self.serve_with(None, script).await
    }

    /// Serves with other terms for the first login than those of a pass-through login.
    async fn serve_with(self, terms: Option<Terms>, script: impl AsyncFnOnce(Peers) -> Peers) -> Outcome {
        let Self { process, service, current, trigger, lifecycle, network, server, device, stream } = self;
        let registry = Arc::clone(&process.registry);
        let id = process.connections.next_id();
        let mut record = SessionRecord::new(Peer { id, source: SOURCE }, &service.telemetry);
        let mut admitted = process.connections.admit().unwrap();
        admitted.assign_source(SOURCE.ip()).unwrap();
        let origin = Origin { id, source: SOURCE.ip(), balancer: None };
        let registered = registry.register(&current, &service, origin, lifecycle);
        registered.channel_established(None, true);
        let session = service.session(false, Some(SOURCE.ip()));
        let entered = Entered { service: &service, record: &mut record, admitted: &mut admitted, registered };
        let mut connection = Connection::new(entered, &network, Driver::new(session, stream));
        let begun = Instant::now();
        let served = async {
            let ending = match connection.log_in_with(terms).await {
                Ok(()) => connection.converse().await,
                Err(ending) => ending,
            };
            let ended = begun.elapsed();
            let reason = reason(connection.mistake(&ending).as_ref().unwrap_or(&ending));
            connection.leave(ending).await;
            (reason, ended, begun.elapsed())
        };
        let server = server.unwrap_or_else(|| duplex(1).0);
        let peers = Peers { device, server, trigger, process: process.clone(), current: Arc::clone(&current) };
        let ((reason, ended, left), mut peers) = tokio::join!(served, script(peers));
        let mut device = Vec::new();
        peers.device.read_to_end(&mut device).await.unwrap();
        drop(record);
        let device = String::from_utf8(device).unwrap();
        Outcome { reason, ended, left, device, metrics: process.metrics.text().unwrap() }
    }
}

impl Outcome {
    /// The connection has ended at this time, and not before, for this reason; metrics say so.
    fn assert_ended(&self, after: Duration, reason: &str) {
        assert_eq!(self.reason, reason, "{}", self.device);
        assert!(self.ended >= after && self.ended < after + MOMENT, "{:?} in place of {after:?}", self.ended);
        assert_counted(&self.metrics, reason);
    }

    /// Checks that the connection was over this long after that decision.
    fn assert_left(&self, after: Duration) {
        let took = self.left - self.ended;
        assert!(took >= after && took < after + MOMENT, "{took:?} in place of {after:?}");
    }
}

impl Peers {
    /// The device logs in, and has read the answer.
    async fn log_in(&mut self) {
        send(&mut self.device, "a LOGIN u p\r\n").await;
        send(&mut self.server, "* OK ready\r\n").await;
        read_to(&mut self.server, "P2 LOGIN").await;
        send(&mut self.server, "P2 OK in\r\n").await;
        read_to(&mut self.device, "a OK").await;
    }

    /// The device is told to go, by a reload that closes its listener.
    fn revoke(&self) {
        self.current.close();
        drop(self.process.registry.revoke(crate::config::Revocation::End));
    }
}

impl Connection<'_, '_, Pipes> {
    /// Answers the device's first login as a translated one is answered, where that differs.
    async fn log_in_with(&mut self, terms: Option<Terms>) -> Result<(), Ending> {
        let Some(terms) = terms else { return Ok(()) };
        let Ok(Event::Authenticate(credentials)) = self.next_event().await else { panic!("no login") };
        let Backend::PassThrough(pass_through) = self.service.logins.as_ref() else {
            panic!("it passes logins through")
        };
        let stream = self.dialled(&pass_through.server).await.unwrap();
        self.connect(stream, &pass_through.server, credentials, terms);
        Ok(())
    }
}

/// A configuration with one listener whose logins are passed through, with more lines for its upstream and for it.
fn configuration(protocol: Protocol, upstream: &str, listener: &str) -> String {
    format!(
        "[upstream.u]\nhost = \"127.0.0.1\"\n{upstream}[[listener]]\nname = \"l\"\nprotocol = \"{}\"\n\
         logins = \"pass-through\"\nupstream = \"u\"\nlisten = [\"127.0.0.1:0\"]\n{listener}",
        protocol.key()
    )
}

/// The service of the one listener of a configuration.
fn service(text: &str) -> (ProcessState, Arc<Service>) {
    let config = Config::parse(text, Path::new("test.toml")).unwrap().config;
    let process = ProcessState::new(&config).unwrap();
    let prepared = open(&config, Mode::DryRun, &process, None).unwrap();
    (process, Arc::clone(&prepared.services[0].service))
}

fn reason(ending: &Ending) -> &'static str {
    match ending {
        Ending::LoggedOut => "logged_out",
        Ending::DeviceClosed => "device_closed",
        Ending::ServerClosed => "server_closed",
        Ending::Failed(failure) => failure.kind.label(),
    }
}

/// Metrics have counted one end for this reason.
fn assert_counted(metrics: &str, reason: &str) {
    let label = format!("reason=\"{reason}\"");
    let counted: Vec<_> = metrics.lines().filter(|line| line.contains("reason=")).collect();
    assert!(counted.iter().any(|line| line.contains(&label) && line.ends_with(" 1")), "{reason}: {counted:#?}");
}

async fn send(stream: &mut DuplexStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Reads until this has come; all that was read.
async fn read_to(stream: &mut DuplexStream, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let mut octets = [0; 1024];
        let count = stream.read(&mut octets).await.unwrap();
        assert!(count > 0, "closed after {text}");
        text.push_str(std::str::from_utf8(&octets[..count]).unwrap());
    }
    text
}

/// Servers at the other ends of pipes, one for each dial. Where there is none left, a dial never ends.
struct Pipes(Mutex<VecDeque<Pipe>>);

impl Network for Pipes {
    type Stream = Pipe;

    fn facts(_: &Pipe) -> Option<Facts> {
        None
    }

    fn take_warm(&self, _: &Server) -> Option<Pipe> {
        None
    }

    async fn park(_: Pipe) -> Result<ParkedConnection, Option<Pipe>> {
        Err(None)
    }

    fn unpark(_: ParkedConnection) -> std::io::Result<Pipe> {
        Err(std::io::Error::other("pipes are not parked"))
    }

    async fn dial(&self, _: &Server) -> Result<ServerStream<Pipe>, Failure> {
        let next = self.0.lock().unwrap().pop_front();
        match next {
            Some(stream) => Ok(ServerStream { stream, security: Security::Implicit, was_warm: false }),
            None => std::future::pending().await,
        }
    }

    async fn secure_device(&self, _: &Service, _: &mut SessionRecord<'_>, _: Clear<Pipe>) -> Result<Pipe, Failure> {
        unreachable!("pipes have no TLS")
    }

    async fn secure_server(&self, _: &Server, _: Pipe) -> Result<Pipe, Failure> {
        unreachable!("pipes have no TLS")
    }
}

/// A pipe whose close may never come to an end, like that of a TLS stream to a peer that does not read.
struct Pipe {
    stream: DuplexStream,
    close_is_stuck: bool,
}

impl Pipe {
    fn new(stream: DuplexStream) -> Self {
        Self { stream, close_is_stuck: false }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, room)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.close_is_stuck { Poll::Pending } else { Pin::new(&mut self.stream).poll_shutdown(cx) }
    }
}

const SOURCE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);
/// A pipe that takes all that a test sends.
const PIPE: usize = 64 * 1024;
/// Deadlines fire within this time; tokio counts in milliseconds.
const MOMENT: Duration = Duration::from_millis(20);

/// The default limits.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(180);
const UPSTREAM_LOGIN_TIMEOUT: Duration = Duration::from_secs(90);
const IDLE_TIMEOUT: Duration = Duration::from_secs(35 * 60);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for a device to close in its turn.
const LINGER: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(1);
