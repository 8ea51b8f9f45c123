//! The mail server of the bench speaks scripted IMAP and SMTP over TLS, in a process of its own.
//!
//! It resumes TLS sessions, takes every login (a password, or XOAUTH2 with any token), and has messages as large as one
//! likes. Each of its ports speaks one protocol and one version of TLS, in records of one size. Two more ports of IMAP
//! have a login that takes its time, and STARTTLS.

mod imap;
mod submission;

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::process::Process;

/// The protocol and the TLS of one port of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// The mail protocol, in the form `imap`.
    pub protocol: &'static str,
    /// The version, in the form `1.3`.
    pub tls: &'static str,
    /// Octets of plaintext in a record.
    pub record: usize,
}

/// The servers' ports. TLS 1.3 in full records comes first, because every measure without a manner of its own uses it.
pub const MANNERS: [Manner; 6] = [
    Manner { protocol: "imap", tls: "1.3", record: 16 * 1024 },
    Manner { protocol: "imap", tls: "1.3", record: 4 * 1024 },
    Manner { protocol: "imap", tls: "1.3", record: 1400 },
    Manner { protocol: "imap", tls: "1.2", record: 16 * 1024 },
    Manner { protocol: "smtp", tls: "1.3", record: 16 * 1024 },
    Manner { protocol: "smtp", tls: "1.2", record: 16 * 1024 },
];
/// The numbers of the ports that take submitted mail: TLS 1.3, and TLS 1.2.
pub const SUBMISSION: [usize; 2] = [4, 5];

/// The port whose logins take [`SLOWNESS`]; all else is as at the first port.
const SLOW: Manner = MANNERS[0];
/// The time that the slow port takes for a login.
pub const SLOWNESS: Duration = Duration::from_secs(5);

/// Sizes of the messages in octets; `FETCH n BODY[]` returns message n.
pub const MESSAGES: [usize; 2] = [16 * 1024, 16 * 1024 * 1024];
/// The prefix of mailboxes that push: after a SELECT of `push-500`, the next IDLE pushes 500 lines, a millisecond
/// apart.
pub const PUSHING: &str = "push-";

/// The running process.
pub struct Upstream {
    _process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// A port for each of [`MANNERS`].
    pub ports: [u16; MANNERS.len()],
    /// The port with STARTTLS.
    pub starttls: u16,
}

/// The ports of a server, as it prints them.
pub struct Ports {
    /// A port for each of [`MANNERS`].
    pub manners: [u16; MANNERS.len()],
    /// The port whose logins take [`SLOWNESS`].
    pub slow: u16,
    /// The port with STARTTLS.
    pub starttls: u16,
}

impl Ports {
    /// Reads the line that a server prints.
    pub fn of(line: &str) -> Self {
        let ports: Vec<u16> = line.split_whitespace().map(|port| port.parse().unwrap()).collect();
        let (manners, more) = ports.split_at(MANNERS.len());
        Self { manners: manners.try_into().unwrap(), slow: more[0], starttls: more[1] }
    }
}

impl Upstream {
    /// Starts this very program as the server. The server ends when its standard input does.
    pub fn start(directory: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([ARGUMENT.as_ref(), "127.0.0.1".as_ref(), directory.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::start(&mut command);
        let input = process.0.stdin.take().unwrap();
        let mut output = BufReader::new(process.0.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let Ports { manners, starttls, .. } = Ports::of(&line);
        Self { _process: process, input, output, ports: manners, starttls }
    }

    /// Handshakes since the last call: all, and those that resumed a session.
    pub fn handshakes(&mut self) -> (u64, u64) {
        let line = self.ask("handshakes");
        let (all, resumed) = line.split_once(' ').unwrap();
        (all.parse().unwrap(), resumed.parse().unwrap())
    }

    /// Logins by IMAP so far.
    pub fn logins(&mut self) -> u64 {
        self.ask("logins").parse().unwrap()
    }

    /// Sessions of submission that have ended with a QUIT so far.
    pub fn submissions(&mut self) -> u64 {
        self.ask("submissions").parse().unwrap()
    }

    fn ask(&mut self, what: &str) -> String {
        writeln!(self.input, "{what}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

/// The argument that makes the program the server, behind which its address and directory come.
pub const ARGUMENT: &str = "be-the-upstream";

static HANDSHAKES: AtomicU64 = AtomicU64::new(0);
static RESUMED: AtomicU64 = AtomicU64::new(0);
static LOGINS: AtomicU64 = AtomicU64::new(0);

/// Serves at this address until standard input ends.
pub fn serve(address: &str, directory: PathBuf) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            match line.as_str() {
                "logins" => println!("{}", LOGINS.load(Ordering::Relaxed)),
                "submissions" => println!("{}", submission::ENDED.load(Ordering::Relaxed)),
                _ => println!("{} {}", HANDSHAKES.swap(0, Ordering::Relaxed), RESUMED.swap(0, Ordering::Relaxed)),
            }
        }
        std::process::exit(0);
    });
    runtime.block_on(async {
        let mut ports = Vec::new();
        let services = MANNERS.map(Service::of).into_iter().chain([
            Service { login: SLOWNESS, ..Service::of(SLOW) },
            Service { starttls: true, ..Service::of(MANNERS[0]) },
        ]);
        for service in services {
            let listener = TcpListener::bind((address, 0)).await.unwrap();
            ports.push(listener.local_addr().unwrap().port().to_string());
            tokio::spawn(accept(listener, acceptor(&directory, service.manner), service));
        }
        println!("{}", ports.join(" "));
        std::future::pending::<()>().await;
    });
}

/// The behaviour of one port.
#[derive(Clone, Copy)]
struct Service {
    manner: Manner,
    /// The time of a login.
    login: Duration,
    /// TLS begins with STARTTLS, and not with the connection.
    starttls: bool,
}

impl Service {
    const fn of(manner: Manner) -> Self {
        Self { manner, login: Duration::ZERO, starttls: false }
    }
}

fn acceptor(directory: &Path, manner: Manner) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(directory.join("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(directory.join("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let version = if manner.tls == "1.2" { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    // rustls counts the record's header as well.
    config.max_fragment_size = Some(manner.record + 5);
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, service: Service) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A proxy that leaves early is no error of the server; the device reports it.
            let _ = converse(tcp, &acceptor, service).await;
        });
    }
}

async fn converse(mut tcp: TcpStream, acceptor: &TlsAcceptor, service: Service) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    if service.starttls {
        imap::until_starttls(&mut tokio::io::BufReader::new(&mut tcp)).await?;
    }
    let tls = acceptor.accept(tcp).await?;
    HANDSHAKES.fetch_add(1, Ordering::Relaxed);
    if tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
        RESUMED.fetch_add(1, Ordering::Relaxed);
    }
    let mut stream = tokio::io::BufReader::with_capacity(4096, tls);
    match service.manner.protocol {
        "smtp" => submission::converse(&mut stream).await,
        _ => {
            if !service.starttls {
                say(&mut stream, &format!("* OK [{}] ready\r\n", imap::CAPABILITY)).await?;
            }
            imap::converse(&mut stream, service.login).await
        }
    }
}

async fn say(stream: &mut (impl AsyncWriteExt + Unpin), words: &str) -> io::Result<()> {
    stream.write_all(words.as_bytes()).await?;
    stream.flush().await
}
