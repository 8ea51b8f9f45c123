//! The mail server of the bench speaks scripted IMAP and SMTP over TLS, in a process of its own.
//!
//! It resumes TLS sessions, takes every login (a password, or XOAUTH2 with any token), and has messages as large as one
//! likes. Each of its ports speaks one protocol and one version of TLS, in records of one size.

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
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};
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
        let ports: Vec<u16> = line.split_whitespace().map(|port| port.parse().unwrap()).collect();
        Self { _process: process, input, output, ports: ports.try_into().unwrap() }
    }

    /// Handshakes since the last call: all, and those that resumed a session.
    pub fn handshakes(&mut self) -> (u64, u64) {
        let line = self.ask("handshakes");
        let (all, resumed) = line.split_once(' ').unwrap();
        (all.parse().unwrap(), resumed.parse().unwrap())
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

/// Serves at this address until standard input ends.
pub fn serve(address: &str, directory: PathBuf) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            match line.as_str() {
                "submissions" => println!("{}", submission::ENDED.load(Ordering::Relaxed)),
                _ => println!("{} {}", HANDSHAKES.swap(0, Ordering::Relaxed), RESUMED.swap(0, Ordering::Relaxed)),
            }
        }
        std::process::exit(0);
    });
    runtime.block_on(async {
        let mut ports = Vec::new();
        for manner in MANNERS {
            let listener = TcpListener::bind((address, 0)).await.unwrap();
            ports.push(listener.local_addr().unwrap().port().to_string());
            tokio::spawn(accept(listener, acceptor(&directory, manner), manner.protocol));
        }
        println!("{}", ports.join(" "));
        std::future::pending::<()>().await;
    });
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

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, protocol: &'static str) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A proxy that leaves early is no error of the server; the device reports it.
            let _ = converse(tcp, &acceptor, protocol).await;
        });
    }
}

async fn converse(tcp: TcpStream, acceptor: &TlsAcceptor, protocol: &str) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let tls = acceptor.accept(tcp).await?;
    HANDSHAKES.fetch_add(1, Ordering::Relaxed);
    if tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
        RESUMED.fetch_add(1, Ordering::Relaxed);
    }
    let mut stream = tokio::io::BufReader::with_capacity(4096, tls);
    match protocol {
        "smtp" => submission::converse(&mut stream).await,
        _ => imap(&mut stream).await,
    }
}

async fn imap(stream: &mut (impl AsyncBufRead + AsyncWrite + Unpin)) -> io::Result<()> {
    say(stream, "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR IDLE LITERAL+] ready\r\n").await?;
    let mut line = String::new();
    let mut pushed = 0;
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut words = line.split_ascii_whitespace();
        let (tag, verb) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let argument = words.next().unwrap_or_default();
        let answer = match verb {
            "SELECT" => {
                pushed = argument.strip_prefix(PUSHING).map_or(0, |count| count.parse().unwrap());
                "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n* 2 EXISTS\r\n* 0 RECENT\r\n\
                 * OK [UIDVALIDITY 1] ok\r\n* OK [UIDNEXT 3] ok\r\n"
            }
            "STATUS" => "* STATUS INBOX (MESSAGES 2)\r\n",
            "FETCH" => {
                let size = MESSAGES[argument.parse::<usize>().unwrap() - 1];
                fetch(stream, argument, size).await?;
                ""
            }
            "APPEND" => {
                let size = line.trim_end().rsplit_once('{').unwrap().1.trim_end_matches('}').parse::<u64>().unwrap();
                say(stream, "+ go ahead\r\n").await?;
                let read =
                    tokio::io::copy(&mut AsyncReadExt::take(&mut *stream, size + 2), &mut tokio::io::sink()).await?;
                assert_eq!(read, size + 2);
                ""
            }
            "IDLE" => {
                say(stream, "+ idling\r\n").await?;
                for number in 0..pushed {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    say(stream, &format!("* {} EXISTS\r\n", number + 3)).await?;
                }
                let mut done = String::new();
                stream.read_line(&mut done).await?;
                ""
            }
            "LOGOUT" => "* BYE bye\r\n",
            _ => "",
        };
        say(stream, &format!("{answer}{tag} OK {verb} completed\r\n")).await?;
        if verb == "LOGOUT" {
            return stream.shutdown().await;
        }
    }
}

async fn fetch(stream: &mut (impl AsyncWriteExt + Unpin), number: &str, size: usize) -> io::Result<()> {
    let piece = [b'x'; 64 * 1024];
    stream.write_all(format!("* {number} FETCH (BODY[] {{{size}}}\r\n").as_bytes()).await?;
    let mut left = size;
    while left > 0 {
        let count = left.min(piece.len());
        stream.write_all(&piece[..count]).await?;
        left -= count;
    }
    stream.write_all(b")\r\n").await
}

async fn say(stream: &mut (impl AsyncWriteExt + Unpin), words: &str) -> io::Result<()> {
    stream.write_all(words.as_bytes()).await?;
    stream.flush().await
}
