//! TLS towards the device, by OpenSSL. Only this file and its parts know OpenSSL.

pub mod certificate;
mod handshake;
pub mod legacy_client;
mod library;
pub mod refusal;
mod support;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use openssl::bn::BigNum;
use openssl::dh::Dh;
use openssl::error::ErrorStack;
use openssl::pkey::Params;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslVersion,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_openssl::SslStream;

use super::Facts;
use super::socket::Socket;
use crate::config::suite::Tier;
use crate::config::{TlsPolicy, Version};
use certificate::Loaded;
pub use handshake::{HandshakeError, Reason, refuses_certificate};
pub use library::ProviderError;

/// An encrypted stream towards a device.
pub struct Tls(SslStream<Socket>);

/// The acceptor of one listener makes TLS handshakes with devices.
pub struct Acceptor {
    /// Two contexts, each with the sessions of its own devices.
    known: SslContext,
    strangers: SslContext,
    has_ecdsa: bool,
    policy: TlsPolicy,
    fingerprint: [u8; 32],
}

/// The cache that a TLS session is kept in: strangers never push out sessions of known devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// Sessions of devices at sources that have logged in before.
    Known,
    /// Sessions of all others.
    Strangers,
}

/// The error of a context for TLS with devices.
#[derive(Debug)]
pub enum AcceptorError {
    /// OpenSSL lacks the provider of old ciphers.
    Provider(ProviderError),
    /// OpenSSL does not take the certificate under this policy.
    Certificate {
        /// The name of the policy's profile.
        profile: &'static str,
        /// OpenSSL's reasons.
        source: ErrorStack,
    },
}

impl From<ProviderError> for AcceptorError {
    fn from(error: ProviderError) -> Self {
        Self::Provider(error)
    }
}

impl fmt::Display for AcceptorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(error) => write!(f, "{error}"),
            Self::Certificate { profile, source } => {
                write!(f, "OpenSSL does not take the certificate with profile \"{profile}\": {source}")
            }
        }
    }
}

impl std::error::Error for AcceptorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Provider(error) => Some(error),
            Self::Certificate { source, .. } => Some(source),
        }
    }
}

impl Acceptor {
    /// Builds the context: built once for a listener, because it costs more than a resumed handshake.
    ///
    /// # Errors
    /// OpenSSL does not take the certificate under this policy.
    pub fn new(policy: &TlsPolicy, certificate: &Loaded) -> Result<Self, AcceptorError> {
        library::start();
        if policy.suites.iter().any(|suite| suite.tier == Some(Tier::Ancient)) {
            library::load_legacy_provider()?;
        }
        let context = || {
            build(policy, certificate)
                .map_err(|source| AcceptorError::Certificate { profile: policy.profile.name(), source })
        };
        Ok(Self {
            known: context()?,
            strangers: context()?,
            has_ecdsa: certificate.has_ecdsa(),
            policy: policy.clone(),
            fingerprint: certificate.fingerprint(),
        })
    }

    /// Returns whether the acceptor was built from this policy and this certificate. It can serve on behind a reload
    /// then, with the TLS sessions of its devices.
    pub fn is_of(&self, policy: &TlsPolicy, certificate: &Loaded) -> bool {
        self.policy == *policy && self.fingerprint == certificate.fingerprint()
    }

    /// Returns whether there is an ECDSA certificate.
    pub fn has_ecdsa(&self) -> bool {
        self.has_ecdsa
    }

    /// Makes the TLS handshake. Bound it with a timeout. Its last flight goes out with the first write, read or flush.
    ///
    /// # Errors
    /// OpenSSL's reason; [`refusal::explain`] puts it into plain words.
    pub async fn accept(&self, socket: Socket, sessions: Sessions) -> Result<Tls, HandshakeError> {
        let context = match sessions {
            Sessions::Known => &self.known,
            Sessions::Strangers => &self.strangers,
        };
        let ssl = Ssl::new(context).map_err(HandshakeError::other)?;
        let mut tls = Tls::over(ssl, socket).map_err(HandshakeError::other)?;
        match Pin::new(&mut tls.0).accept().await {
            Ok(()) => {
                // From here on a password may come: what was decrypted is wiped once it has been read. Messages of the
                // handshake have no secret in clear, and each wipe is of a whole buffer of 16 KiB.
                library::set_options(tls.0.ssl(), CLEANSE_PLAINTEXT);
                Ok(tls)
            }
            Err(error) => {
                // The alert that says why; a device that is gone does without.
                let _ = tls.flush().await;
                Err(HandshakeError::from(&error))
            }
        }
    }
}

impl Tls {
    fn over(ssl: Ssl, mut socket: Socket) -> Result<Self, ErrorStack> {
        socket.put_under_tls();
        SslStream::new(ssl, socket).map(Self)
    }

    /// Leaves off wiping what was decrypted and read. Call it once no password comes any more: mail costs a tenth less
    /// then.
    pub fn stop_wiping(&mut self) {
        library::clear_options(self.0.ssl(), CLEANSE_PLAINTEXT);
    }
}

impl AsyncRead for Tls {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let tls = &mut self.get_mut().0;
        // OpenSSL is not troubled, and takes no buffer of its own, before there is something for it.
        if tls.ssl().pending() == 0 && !tls.get_ref().has_input() {
            ready!(tls.get_mut().poll_fill(cx))?;
        }
        rationed(tls, |tls| tls.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Tls {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        rationed(&mut self.get_mut().0, |tls| tls.poll_write(cx, octets))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().0.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tls = &mut self.get_mut().0;
        if tls.get_ref().closing {
            // close_notify is written. Another SSL_shutdown would wait for the device's, and never send ours.
            return Pin::new(tls.get_mut()).poll_shutdown(cx);
        }
        match ready!(rationed(tls, |tls| tls.poll_shutdown(cx))) {
            Ok(()) => Poll::Ready(Ok(())),
            // No close_notify follows a failure. The alert that names it, and the end, must still be sent.
            Err(_) => Pin::new(tls.get_mut()).poll_shutdown(cx),
        }
    }
}

/// One call of OpenSSL, be it to write, reads as long as what comes is nothing for us: a device that sends
/// renegotiations without end would keep it for good.
fn rationed<T>(tls: &mut SslStream<Socket>, call: impl FnOnce(Pin<&mut SslStream<Socket>>) -> T) -> T {
    tls.get_mut().refills = Some(1);
    let done = call(Pin::new(&mut *tls));
    tls.get_mut().refills = None;
    done
}

/// Returns the version of the OpenSSL that is linked in, as `OpenSSL 3.6.3 9 Jun 2026`.
pub fn library_version() -> &'static str {
    openssl::version::version()
}

/// Returns the end of support of the OpenSSL that is linked in, as `supported until 2030-04-08`.
pub fn library_support() -> String {
    support::until(library_version()).map_or("of unknown support".to_owned(), |day| format!("supported until {day}"))
}

/// Returns the facts of a connection.
pub fn facts(tls: &Tls) -> Facts {
    let ssl = tls.0.ssl();
    Facts {
        version: ssl.version_str(),
        cipher: ssl.current_cipher().map_or("none", |cipher| cipher.name()),
        resumed: ssl.session_reused(),
    }
}

fn build(policy: &TlsPolicy, loaded: &Loaded) -> Result<SslContext, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::tls_server())?;
    // The level is set before anything is loaded. Below TLS 1.2 nothing works above level 0, and SHA-1 or 1024-bit
    // certificates are refused on loading.
    context.set_security_level(if policy.is_weak() { 0 } else { 1 });
    // Both always: without a minimum, a build with SSLv3 would take it.
    context.set_min_proto_version(Some(ssl_version(policy.minimum)))?;
    context.set_max_proto_version(Some(ssl_version(policy.maximum)))?;
    let suites: Vec<_> = policy.suites.iter().map(|suite| suite.name).collect();
    context.set_cipher_list(&suites.join(":"))?;
    options(&mut context, policy);
    // The group that old stacks can do where they are let in at all; 2048 bits elsewhere. 768 does not exist any more.
    let ancient = policy.suites.iter().any(|suite| suite.tier == Some(Tier::Ancient));
    context.set_tmp_dh(group(ancient)?.as_ref())?;
    context.set_groups_list(GROUPS)?;
    // Idle connections give their 34 kB of record buffers back.
    context.set_mode(SslMode::RELEASE_BUFFERS | SslMode::ACCEPT_MOVING_WRITE_BUFFER);
    context.set_session_id_context(b"packetboat")?;
    context.set_session_cache_mode(SslSessionCacheMode::SERVER);
    context.set_session_cache_size(SESSIONS);
    loaded.install(&mut context)?;
    Ok(context.build())
}

fn options(context: &mut SslContextBuilder, policy: &TlsPolicy) {
    context.set_options(
        SslOptions::NO_COMPRESSION
            | SslOptions::NO_RENEGOTIATION
            | SslOptions::CIPHER_SERVER_PREFERENCE
            | SslOptions::SINGLE_DH_USE
            | SslOptions::NO_TICKET
            // Old devices close without close_notify; what that could cut off is watched in the mail protocols.
            | SslOptions::IGNORE_UNEXPECTED_EOF,
    );
    if policy.empty_fragments {
        context.clear_options(SslOptions::DONT_INSERT_EMPTY_FRAGMENTS);
    } else {
        context.set_options(SslOptions::DONT_INSERT_EMPTY_FRAGMENTS);
    }
    if !policy.encrypt_then_mac {
        context.set_options(NO_ENCRYPT_THEN_MAC);
    }
}

/// RFC 2409 §6.2 and RFC 3526 §3, both with generator 2: safe primes.
fn group(ancient: bool) -> Result<Dh<Params>, ErrorStack> {
    let prime = if ancient { BigNum::get_rfc2409_prime_1024()? } else { BigNum::get_rfc3526_prime_2048()? };
    Dh::from_pqg(prime, None, BigNum::from_u32(2)?)
}

fn ssl_version(version: Version) -> SslVersion {
    match version {
        Version::Ssl3 => SslVersion::SSL3,
        Version::Tls1_0 => SslVersion::TLS1,
        Version::Tls1_1 => SslVersion::TLS1_1,
        Version::Tls1_2 => SslVersion::TLS1_2,
        Version::Tls1_3 => SslVersion::TLS1_3,
    }
}

/// Sessions that a listener keeps to be resumed, of known devices and of strangers each, of which the oldest goes
/// first: 1.1 kB each, so that strangers who shake hands and leave cost no more than 5 MB. OpenSSL would keep 20480.
const SESSIONS: i32 = 4096;
/// Key exchanges in order of preference: OpenSSL's own without the post-quantum one, which leaves 6 kB of its key in
/// every connection of TLS 1.3 that agrees on it.
const GROUPS: &str = "X25519:P-256:X448:P-384:P-521:ffdhe2048:ffdhe3072";
/// SSL_OP_CLEANSE_PLAINTEXT, which rust-openssl does not name: what was decrypted is wiped once it has been read.
const CLEANSE_PLAINTEXT: SslOptions = SslOptions::from_bits_retain(1 << 1);

/// SSL_OP_NO_ENCRYPT_THEN_MAC, which rust-openssl does not name. With encrypt-then-MAC OpenSSL leaves its stitched
/// AES-CBC-SHA1 code, and a megabyte costs a third more.
const NO_ENCRYPT_THEN_MAC: SslOptions = SslOptions::from_bits_retain(1 << 19);
