//! A built-in old device, for demonstrations: TLS 1.0 with AES-128-CBC, SHA-1 and static RSA, and no server name.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslOptions, SslVerifyMode, SslVersion};
use tokio::net::TcpStream;

use super::{HandshakeError, Tls, library};
use crate::transport::socket::Socket;

/// Connects as a printer of 2005 does. The server's certificate has to come from the authority; its name is not
/// checked. [`super::facts`] returns the facts of the connection.
///
/// # Errors
/// No connection, no file of the authority, or OpenSSL's reason why there is no TLS.
pub async fn connect(address: SocketAddr, authority: &Path) -> Result<Tls, ConnectError> {
    library::start();
    let context =
        context(authority).map_err(|source| ConnectError::Authority { path: authority.to_path_buf(), source })?;
    let tcp = TcpStream::connect(address).await.map_err(|source| ConnectError::Tcp { address, source })?;
    let ssl = Ssl::new(&context).map_err(ConnectError::OpenSsl)?;
    let mut tls = Tls::over(ssl, Socket::new(tcp)).map_err(ConnectError::OpenSsl)?;
    match Pin::new(&mut tls.0).connect().await {
        Ok(()) => Ok(tls),
        Err(error) => Err(ConnectError::Handshake { address, source: HandshakeError::from(&error) }),
    }
}

/// The error of a TLS connection that fails.
#[derive(Debug)]
pub enum ConnectError {
    /// The certificate of the authority cannot be read.
    Authority {
        /// The path of the file.
        path: PathBuf,
        /// OpenSSL's reasons.
        source: ErrorStack,
    },
    /// There is no connection.
    Tcp {
        /// The address that was dialled.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// OpenSSL refuses.
    OpenSsl(ErrorStack),
    /// The handshake fails.
    Handshake {
        /// The address of the server.
        address: SocketAddr,
        /// The reason.
        source: HandshakeError,
    },
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Tcp { address, source } => write!(f, "{address}: {source}"),
            Self::OpenSsl(error) => write!(f, "OpenSSL: {error}"),
            Self::Handshake { address, source } => write!(f, "TLS 1.0 with {address}: {source}"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Authority { source, .. } => Some(source),
            Self::Tcp { source, .. } => Some(source),
            Self::OpenSsl(error) => Some(error),
            Self::Handshake { source, .. } => Some(source),
        }
    }
}

fn context(authority: &Path) -> Result<SslContext, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    // TLS 1.0 does not exist above level 0.
    context.set_security_level(0);
    context.set_min_proto_version(Some(SslVersion::TLS1))?;
    context.set_max_proto_version(Some(SslVersion::TLS1))?;
    context.set_cipher_list("AES128-SHA")?;
    context.set_ca_file(authority)?;
    context.set_verify(SslVerifyMode::PEER);
    context.set_options(SslOptions::IGNORE_UNEXPECTED_EOF | SslOptions::NO_TICKET);
    Ok(context.build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Certificate, CertificateSource, Digest, Profile};
    use crate::mode::Mode;
    use crate::transport::downstream::Reason;
    use crate::transport::downstream::certificate::{authority_path, load};
    use crate::transport::downstream::{Acceptor, Sessions, facts};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn it_speaks_tls_1_0_and_trusts_one_authority() {
        let (ours, another) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let source = CertificateSource::Made { names: vec!["x".to_owned()], digest: Digest::Sha256, years: Some(1) };
        let made = Certificate { source, ecdsa: None };
        let loaded = load(&made, ours.path(), "x", Mode::Apply).unwrap_or_else(|error| panic!("{error}"));
        load(&made, another.path(), "x", Mode::Apply).unwrap_or_else(|error| panic!("{error}"));
        for (profile, authority, fits) in
            [(Profile::Legacy, &ours, true), (Profile::Legacy, &another, false), (Profile::Modern, &ours, false)]
        {
            let acceptor = Acceptor::new(&profile.policy(), &loaded).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = async {
                let (tcp, _) = listener.accept().await.unwrap();
                let mut tls = acceptor.accept(Socket::new(tcp), Sessions::Strangers).await?;
                tls.flush().await.map_err(|error| HandshakeError::Io(error.to_string()))?;
                Ok::<_, HandshakeError>(facts(&tls).version)
            };
            let path = authority_path(authority.path());
            let (served, device) = tokio::join!(server, connect(address, &path));
            let device = device.map(|tls| (facts(&tls).version, facts(&tls).cipher));
            if fits {
                assert_eq!(device.unwrap(), ("TLSv1", "AES128-SHA"));
            } else {
                assert!(device.unwrap_err().to_string().contains("TLS 1.0 with"));
                let error = served.unwrap_err();
                let is_refused = matches!(&error, HandshakeError::Refused { reason: Reason::Other, .. });
                assert_eq!(is_refused, profile == Profile::Modern, "{error}");
            }
        }
    }
}
