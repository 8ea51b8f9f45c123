//! This file has the TLS stacks that play devices, each configured as old as possible.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use openssl::provider::Provider;
use openssl::ssl::{HandshakeError, Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslVersion};

use crate::connection::{Socket, TlsStream};
use crate::device::{Device, Program, tcp};
use crate::process::scratch;

/// A device's TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// The linked OpenSSL, with everything old switched on.
    Openssl { version: Version, ciphers: &'static str },
    /// Debian's `openssl s_client`, with its own policy lowered.
    SClient(&'static str),
    /// GnuTLS at TLS 1.0.
    Gnutls,
    /// mbedTLS at TLS 1.0.
    Mbedtls,
    /// Java, whose ClientHello has the SSLv2 format and asks for TLS 1.0.
    JavaSslv2Hello,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Ssl3,
    Tls1_0,
    Tls1_1,
    Tls1_2,
}

impl Version {
    fn ssl(self) -> SslVersion {
        match self {
            Version::Ssl3 => SslVersion::SSL3,
            Version::Tls1_0 => SslVersion::TLS1,
            Version::Tls1_1 => SslVersion::TLS1_1,
            Version::Tls1_2 => SslVersion::TLS1_2,
        }
    }
}

/// The way into TLS: at once, or by STARTTLS or STLS of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Implicit,
    StartTls(&'static str),
}

/// The stack of most old devices.
pub const TLS_1_0: Stack = Stack::Openssl { version: Version::Tls1_0, ciphers: "AES128-SHA" };

impl Stack {
    /// Connects and shakes hands; with STARTTLS the greeting has been read before.
    pub fn connect(self, address: SocketAddr, start: Start) -> Device {
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        match self {
            Stack::Openssl { version, ciphers } => {
                Device::over(openssl(address, start, |context| old(context, version, ciphers)).expect("handshake"))
            }
            Stack::SClient(flag) => {
                let mut command = Command::new("openssl");
                command.args([
                    "s_client",
                    "-connect",
                    &address.to_string(),
                    flag,
                    "-quiet",
                    "-cipher",
                    "DEFAULT:@SECLEVEL=0",
                ]);
                if let Start::StartTls(protocol) = start {
                    command.args(["-starttls", protocol]);
                }
                Device::over(Program::start(&mut command))
            }
            Stack::Gnutls | Stack::Mbedtls => {
                let mut command = Command::new(if self == Stack::Gnutls { gnutls() } else { mbedtls() });
                command.args([host, port]);
                if let Start::StartTls(protocol) = start {
                    command.arg(protocol);
                }
                Device::over(Program::start(&mut command))
            }
            Stack::JavaSslv2Hello => java(address, start, "SSLv2Hello,TLSv1", "-"),
        }
    }
}

/// Java with nothing switched off.
pub fn java(address: SocketAddr, start: Start, protocols: &str, ciphers: &str) -> Device {
    static CLASSES: OnceLock<PathBuf> = OnceLock::new();
    let classes = CLASSES.get_or_init(java_classes);
    let mut command = Command::new("java");
    command.arg(format!("-Djava.security.properties={}", classes.join("java.security").display()));
    command.arg("-XX:TieredStopAtLevel=1").arg("-cp").arg(classes).arg("Device");
    command.args([address.ip().to_string(), address.port().to_string(), protocols.to_owned(), ciphers.to_owned()]);
    if let Start::StartTls(protocol) = start {
        command.arg(protocol);
    }
    Device::over(Program::start(&mut command))
}

/// A directory with `Device.java`, compiled, and a policy that switches nothing off. Both are made once, because another
/// device may be reading them.
fn java_classes() -> PathBuf {
    let directory = scratch().join(format!("java-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(
        directory.join("java.security"),
        "jdk.tls.disabledAlgorithms=\njdk.certpath.disabledAlgorithms=\njdk.tls.legacyAlgorithms=\n",
    )
    .unwrap();
    let status = Command::new("javac").arg("-d").arg(&directory).arg(devices().join("Device.java")).status().unwrap();
    assert!(status.success(), "Device.java does not compile");
    directory
}

/// Connects with the linked OpenSSL as a client that the test configures.
pub fn openssl(
    address: SocketAddr,
    start: Start,
    configure: impl FnOnce(&mut SslContextBuilder),
) -> Result<TlsStream, HandshakeError<Socket>> {
    let context = context(configure);
    Ssl::new(&context).unwrap().connect(started(address, start))
}

pub fn context(configure: impl FnOnce(&mut SslContextBuilder)) -> SslContext {
    static PROVIDERS: OnceLock<(Provider, Provider)> = OnceLock::new();
    PROVIDERS.get_or_init(|| (Provider::load(None, "default").unwrap(), Provider::load(None, "legacy").unwrap()));
    let mut context = SslContext::builder(SslMethod::tls_client()).unwrap();
    context.set_security_level(0);
    context.set_options(SslOptions::IGNORE_UNEXPECTED_EOF);
    configure(&mut context);
    context.build()
}

/// Limits a context to one version and these cipher suites.
pub fn old(context: &mut SslContextBuilder, version: Version, ciphers: &str) {
    context.set_min_proto_version(Some(version.ssl())).unwrap();
    context.set_max_proto_version(Some(version.ssl())).unwrap();
    context.set_cipher_list(ciphers).unwrap();
}

/// A connection on which TLS begins next.
pub fn started(address: SocketAddr, start: Start) -> Socket {
    let mut stream = tcp(address);
    if let Start::StartTls(protocol) = start {
        raw_line(&mut stream);
        let command: &[u8] = match protocol {
            "imap" => b"s STARTTLS\r\n",
            "smtp" => b"STARTTLS\r\n",
            _ => b"STLS\r\n",
        };
        stream.write_all(command).unwrap();
        let answer = raw_line(&mut stream);
        assert!(answer.contains("OK") || answer.starts_with("220 "), "{answer}");
    }
    stream
}

/// Reads a line octet by octet, so that nothing after it is consumed.
pub fn raw_line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut octet = [0];
    while octet != *b"\n" {
        stream.read_exact(&mut octet).unwrap();
        line.push(octet[0]);
    }
    String::from_utf8_lossy(&line).into_owned()
}

fn mbedtls() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compile("mbedtls", &["-lmbedtls", "-lmbedx509", "-lmbedcrypto"]))
}

fn gnutls() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compile("gnutls", &["-lgnutls"]))
}

fn compile(name: &str, libraries: &[&str]) -> PathBuf {
    let program = scratch().join(format!("{name}-{}", std::process::id()));
    let source = devices().join(format!("{name}.c"));
    let status = Command::new("cc").args(["-O1", "-o"]).arg(&program).arg(source).args(libraries).status().unwrap();
    assert!(status.success(), "{name}.c does not compile; make test installs what it needs");
    program
}

fn devices() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("devices")
}
