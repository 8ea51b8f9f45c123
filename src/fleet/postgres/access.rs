//! Access to the database: packetboat dials and shakes hands by its own transport, reads password and certificates anew
//! for each connection, and leaves the login to tokio-postgres.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{CancelToken, Client, NoTls};

use super::refusal;
use crate::config::fleet::{Database, DatabaseServer};
use crate::config::{Fleet, Limits};
use crate::failure::{Failure, Kind};
use crate::fleet::error::Error;
use crate::pool::{self, Gate};
use crate::secret::Secret;
use crate::state;
use crate::transport::Stream;
use crate::transport::socket::Socket;
use crate::transport::upstream::Connector;

/// The database of the configuration, and how it is reached.
pub(super) struct Access {
    fleet: Fleet,
    limits: Limits,
    gate: Gate,
}

/// The contents of the files that the configuration names.
struct Files {
    password: Option<Secret>,
    /// None for a Unix socket.
    connector: Option<Connector>,
}

/// The octets to the server and back.
type Octets = Box<dyn Duplex>;

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

impl Access {
    pub(super) fn new(fleet: &Fleet, limits: &Limits) -> Self {
        Self { fleet: fleet.clone(), limits: *limits, gate: Gate::new() }
    }

    /// Connects and logs in. A task carries the octets from here on.
    pub(super) async fn connect(&self) -> Result<(Client, AbortHandle), Error> {
        let (stream, password) = self.dial().await?;
        self.log_in(stream, password).await
    }

    /// Asks the server to end the statement of another connection: one that waits for a lock would go on waiting behind
    /// a connection that is closed, and take one of the server's connections for as long.
    pub(super) async fn cancel(&self, statement: CancelToken) {
        if let Ok((stream, _)) = self.dial().await {
            // The server answers nothing to that.
            let _ = statement.cancel_query_raw(stream, NoTls).await;
        }
    }

    /// Connects, by TLS where that is wanted. Returns the password as well.
    async fn dial(&self) -> Result<(Octets, Option<Secret>), Error> {
        let (fleet, limits) = (self.fleet.clone(), self.limits);
        let files = pool::FILES.run_alone(&self.gate, READING, move || Files::read(&fleet, &limits)).await;
        let Files { password, connector } = files.map_err(Error::NotRead)??;
        match (&self.fleet.database.server, connector) {
            (DatabaseServer::Host(host, port), Some(connector)) => {
                let socket = connector.dial(*port).await.map_err(Error::Unreachable)?;
                let stream = match self.fleet.tls {
                    true => {
                        let socket = self.ask_for_tls(socket, host).await?;
                        connector.handshake(socket).await.map_err(Error::Unreachable)?
                    }
                    false => Stream::Plain(socket),
                };
                Ok((Box::new(stream), password))
            }
            (DatabaseServer::Socket(path), _) => {
                let stream = UnixStream::connect(path).await;
                let stream = stream.map_err(|error| Error::Socket(path.clone(), error))?;
                Ok((Box::new(stream), password))
            }
            (DatabaseServer::Host(..), None) => Err(Error::Strange("a host without a connector")),
        }
    }

    /// The database that the configuration names.
    pub(super) fn database(&self) -> &Database {
        &self.fleet.database
    }

    /// The error of a statement that the database refuses.
    pub(super) fn refused(&self, error: &tokio_postgres::Error) -> Error {
        refusal::error(error, &self.fleet.database)
    }

    /// Asks the server for TLS, by the one message of the protocol that comes before it (SSLRequest, PostgreSQL's
    /// documentation, chapter "Frontend/Backend Protocol"). Reads one octet and no more: whatever came behind it in
    /// clear would be read as TLS, and refused.
    async fn ask_for_tls(&self, mut socket: Socket, host: &str) -> Result<Socket, Error> {
        let lost = |error: std::io::Error| {
            Error::Unreachable(Failure::new(Kind::UpstreamLost, format!("{host} broke off the connection: {error}")))
        };
        socket.write_all(&SSL_REQUEST).await.map_err(lost)?;
        socket.flush().await.map_err(lost)?;
        match socket.read_u8().await.map_err(lost)? {
            b'S' => Ok(socket),
            b'N' => Err(Error::NoTls(self.fleet.database.server.to_string())),
            _ => {
                let what = format!("{host} does not speak PostgreSQL's protocol, or takes no connection at present");
                Err(Error::Unreachable(Failure::new(Kind::UpstreamProtocol, what)))
            }
        }
    }

    async fn log_in(&self, stream: Octets, password: Option<Secret>) -> Result<(Client, AbortHandle), Error> {
        let database = &self.fleet.database;
        let mut login = tokio_postgres::Config::new();
        // TLS is there already, where it is wanted.
        login.user(&database.user).dbname(&database.name).application_name("packetboat").ssl_mode(SslMode::Disable);
        if let Some(password) = &password {
            login.password(password.expose());
        }
        let connected = login.connect_raw(stream, NoTls).await;
        let (client, connection) = connected.map_err(|error| match refusal::wants_password(&error) {
            true if password.is_none() => Error::PasswordMissing(database.user.clone()),
            _ => self.refused(&error),
        })?;
        // Its error is that of the statements that wait for it.
        let task = tokio::spawn(async { drop(connection.await) });
        Ok((client, task.abort_handle()))
    }
}

impl Files {
    fn read(fleet: &Fleet, limits: &Limits) -> Result<Self, Error> {
        let password = fleet.password_file.clone().or_else(credential);
        let password = password.map(|path| state::read_secret(&path)).transpose().map_err(Error::File)?;
        let connector = match &fleet.database.server {
            DatabaseServer::Socket(_) => None,
            DatabaseServer::Host(host, _) => Some(match &fleet.client_certificate {
                Some(files) => Connector::with_certificate(host, &fleet.roots, files, limits),
                None => Connector::new(host, &fleet.roots, limits),
            }),
        };
        Ok(Self { password, connector: connector.transpose().map_err(Error::Tls)? })
    }
}

/// The password that systemd hands over by `LoadCredential=` (systemd.exec(5)).
fn credential() -> Option<PathBuf> {
    let directory = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?);
    let names = [CREDENTIAL.to_owned(), format!("packetboat_{CREDENTIAL}")];
    names.into_iter().map(|name| directory.join(name)).find(|path| path.exists())
}

const CREDENTIAL: &str = "packetboat-fleet-password";
/// Its length, and the number 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// The longest wait for files.
const READING: Duration = Duration::from_secs(5);
