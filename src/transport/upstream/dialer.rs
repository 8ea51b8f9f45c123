//! A dialer connects to a host over TCP: it resolves the name and tries addresses of both families (RFC 8305).

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::Limits;
use crate::failure::{Failure, Kind};
use crate::transport::host;
use crate::transport::socket::Socket;

/// Connects to one host, without TLS.
pub(super) struct Dialer {
    host: String,
    connect_timeout: Duration,
    keep_alive: Duration,
    /// The addresses that the name resolved to, and when.
    resolved: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

/// A failed connection to one address.
#[derive(Debug)]
enum AttemptError {
    /// The connection was refused, or the network has no way there.
    Refused(SocketAddr, io::Error),
    /// The address did not answer within this time.
    Silent(SocketAddr, Duration),
}

impl Dialer {
    pub(super) fn new(host: &str, limits: &Limits) -> Self {
        Self {
            host: host.to_owned(),
            connect_timeout: limits.connect_timeout,
            keep_alive: limits.keep_alive,
            resolved: Mutex::default(),
        }
    }

    /// The host as it was given.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Connects to a port.
    ///
    /// The dialer tries addresses of both families in turn: the next one when one fails, or is silent for a quarter of
    /// a second. It takes the first that answers (RFC 8305 §5). It keeps the addresses for ten seconds, or until none
    /// of them answers, because the resolver costs as much as a TLS handshake.
    ///
    /// # Errors
    /// The name does not resolve, or no address answers.
    pub(super) async fn dial(&self, port: u16) -> Result<Socket, Failure> {
        let stream = match self.known(port) {
            Some(addresses) => match self.first_of(addresses.clone(), port).await {
                Ok(stream) => stream,
                Err(failure) => match self.resolve(port).await? {
                    others if others != addresses => self.first_of(others, port).await?,
                    _ => return Err(failure),
                },
            },
            None => self.first_of(self.resolve(port).await?, port).await?,
        };
        match crate::transport::tune(&stream, self.keep_alive) {
            Ok(()) => Ok(Socket::new(stream)),
            // The server has reset it already.
            Err(error) => {
                Err(Failure::new(Kind::UpstreamLost, format!("{} broke off the connection: {error}", self.host)))
            }
        }
    }

    fn known(&self, port: u16) -> Option<Vec<SocketAddr>> {
        let known = self.resolved.lock();
        let (_, addresses) = known.as_ref().filter(|(since, _)| since.elapsed() < KNOWN)?;
        addresses.iter().all(|address| address.port() == port).then(|| addresses.clone())
    }

    /// Resolves the host's name, and keeps the addresses for the next connection.
    pub(super) async fn resolve(&self, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let resolved = host::resolve(&self.host, port, self.connect_timeout).await;
        let resolved = resolved.map_err(|error| Failure::new(Kind::Resolve, format!("{}: {error}", self.host)))?;
        let addresses = interleave(resolved);
        *self.resolved.lock() = Some((Instant::now(), addresses.clone()));
        Ok(addresses)
    }

    async fn first_of(&self, addresses: Vec<SocketAddr>, port: u16) -> Result<TcpStream, Failure> {
        let mut errors = Vec::new();
        if let [only] = addresses.as_slice() {
            match attempt(*only, self.connect_timeout).await {
                Ok(stream) => return Ok(stream),
                Err(error) => errors.push(error),
            }
        } else {
            let mut addresses = addresses.into_iter();
            let mut attempts = JoinSet::new();
            loop {
                let next = addresses.next().map(|address| attempts.spawn(attempt(address, self.connect_timeout)));
                let ended = match next {
                    Some(_) => timeout(HEAD_START, attempts.join_next()).await,
                    None => Ok(attempts.join_next().await),
                };
                match ended {
                    Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
                    Ok(Some(Ok(Err(error)))) => errors.push(error),
                    // The head start is over, or the runtime has dropped it.
                    Err(_) | Ok(Some(Err(_))) => {}
                    Ok(None) => break,
                }
            }
        }
        *self.resolved.lock() = None;
        let reasons: Vec<String> = errors.iter().map(AttemptError::to_string).collect();
        let reasons = if reasons.is_empty() { "it has no address".to_owned() } else { reasons.join(", ") };
        Err(Failure::new(Kind::Connect, format!("{} port {port} ({reasons})", self.host)))
    }
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(address, error) => write!(f, "{address}: {error}"),
            Self::Silent(address, limit) => {
                write!(f, "{address}: no answer within {}", humantime::format_duration(*limit))
            }
        }
    }
}

impl Error for AttemptError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Refused(_, error) => Some(error),
            Self::Silent(..) => None,
        }
    }
}

/// The reason why `localhost`, which needs no network, does not resolve, if it does not.
pub async fn unresolved_localhost() -> Option<String> {
    let resolved = host::resolve("localhost", 0, LOCALHOST).await;
    resolved.err().map(|error| format!("the name localhost does not resolve: {error}"))
}

async fn attempt(address: SocketAddr, limit: Duration) -> Result<TcpStream, AttemptError> {
    match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(AttemptError::Refused(address, error)),
        Err(_) => Err(AttemptError::Silent(address, limit)),
    }
}

/// Families in turn, the resolver's first one first (RFC 8305 §4).
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| matches!(address.ip(), IpAddr::V6(_)) == first_is_v6);
    first.reverse();
    second.reverse();
    let mut turns = Vec::with_capacity(first.len() + second.len());
    while !first.is_empty() || !second.is_empty() {
        turns.extend(first.pop());
        turns.extend(second.pop());
    }
    turns
}

/// The time for a name that stands in /etc/hosts, or that the resolver knows by itself.
const LOCALHOST: Duration = Duration::from_secs(5);
/// The time for which an answer of the resolver is good. Names of large services change theirs every minute or so.
const KNOWN: Duration = Duration::from_secs(10);
/// RFC 8305 §5: Connection Attempt Delay.
const HEAD_START: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let addresses = ["[::1]:1", "[::2]:1", "127.0.0.1:1"].map(|address| address.parse().unwrap()).to_vec();
        let turns: Vec<String> = interleave(addresses).iter().map(ToString::to_string).collect();
        assert_eq!(turns, ["[::1]:1", "127.0.0.1:1", "[::2]:1"]);
    }
}
