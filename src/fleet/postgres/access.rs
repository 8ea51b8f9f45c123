//! Access to the database: packetboat dials and shakes hands by its own transport, reads password and certificates anew
//! for each connection, and leaves the login to tokio-postgres.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{CancelToken, Client, NoTls};
use tracing::warn;

use super::bounded::Bounded;
use super::{CONNECTING, refusal};
use crate::config::fleet::{Database, DatabaseServer};
use crate::config::{Fleet, Limits};
use crate::failure::{Failure, Kind};
use crate::fleet::error::Error;
use crate::fleet::password::PasswordSource;
use crate::fleet::records::SplitBrain;
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
    /// The server of several that took changes last, and is tried first.
    used: Mutex<Option<Used>>,
    /// The source of the password, where it is no file.
    source: Option<Arc<dyn PasswordSource>>,
}

/// The server that took changes last.
#[derive(Clone)]
struct Used {
    place: usize,
    lineage: Option<Lineage>,
}

/// A connection to a server.
pub(super) struct Connected {
    pub(super) client: Client,
    /// Ends the task that carries the octets, and the connection with it.
    pub(super) task: AbortHandle,
    pub(super) server: DatabaseServer,
    /// None where there is one server alone, or where it does not say.
    lineage: Option<Lineage>,
    process: ServerProcess,
}

/// The origin of a server's data. Each promotion begins a timeline with a higher number (PostgreSQL's documentation,
/// section "Timelines"). Data that was restored from a dump has another system.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lineage {
    system: String,
    /// In hexadecimal digits, of one length.
    timeline: String,
}

/// The process of a server, by the microsecond in which it began; none where it does not say.
#[derive(Clone, Debug)]
pub struct ServerProcess(Option<String>);

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
    pub(super) fn new(fleet: &Fleet, limits: &Limits, source: Option<Arc<dyn PasswordSource>>) -> Self {
        Self { fleet: fleet.clone(), limits: *limits, gate: Gate::new(), used: Mutex::default(), source }
    }

    /// Connects to the server that takes changes, and logs in. Each server of several has its part of [`CONNECTING`].
    ///
    /// An earlier primary may come back and take changes beside the one that was promoted in its place. A process that
    /// has just started asks all servers therefore, and uses the one that was promoted last. From then on it uses none
    /// that was the primary before that one.
    pub(super) async fn connect(&self) -> Result<Connected, Error> {
        let password = self.fetched().await?;
        let servers = &self.fleet.database.servers;
        let used = self.used.lock().clone();
        let first = used.as_ref().map_or(0, |used| used.place);
        let (mut found, mut failed) = (None::<(usize, Connected)>, Vec::new());
        for (place, server) in servers.iter().enumerate().cycle().skip(first).take(servers.len()) {
            let limit = if found.is_some() { LATER } else { self.part() };
            let connected = match self.connect_in_time(server, password.clone(), limit).await {
                Ok(connected) if connected.is_before(used.as_ref().and_then(|used| used.lineage.as_ref())) => {
                    Err(Error::Superseded)
                }
                connected => connected,
            };
            match (connected, &found) {
                (Ok(connected), None) if used.is_none() => found = Some((place, connected)),
                (Ok(connected), None) => return Ok(self.uses(place, connected)),
                (Ok(connected), Some((_, other))) if other.is_before(connected.lineage.as_ref()) => {
                    warn_of_two(&connected, other);
                    found = Some((place, connected));
                }
                (Ok(connected), Some((_, other))) => warn_of_two(other, &connected),
                (Err(error), _) => failed.push((place, server, error)),
            }
        }
        if let Some((place, connected)) = found {
            return Ok(self.uses(place, connected));
        }
        // The order of the configuration: an outage has the same words wherever the search began.
        failed.sort_by_key(|(place, ..)| *place);
        match failed.pop() {
            Some((.., error)) if failed.is_empty() => Err(error),
            last => {
                let errors = failed.into_iter().chain(last).map(|(_, server, error)| (server.clone(), error));
                Err(Error::NoPrimary(errors.collect()))
            }
        }
    }

    fn uses(&self, place: usize, connected: Connected) -> Connected {
        *self.used.lock() = Some(Used { place, lineage: connected.lineage.clone() });
        connected
    }

    /// Connects to each server, and returns its process where it takes changes.
    pub(super) async fn servers(&self) -> Vec<(DatabaseServer, Result<ServerProcess, Error>)> {
        let mut servers = Vec::new();
        for server in &self.fleet.database.servers {
            servers.push((server.clone(), self.look_at(server).await.map(|connected| connected.process)));
        }
        servers
    }

    /// Looks whether another server takes changes beside the one that is used.
    ///
    /// # Errors
    /// Another one does, and the one that is used does not, or is not reached: it may have been promoted a moment ago. Or
    /// another one is busy, or does not answer, so that nobody knows.
    pub(super) async fn split_brain(&self) -> Result<Option<SplitBrain>, Error> {
        let used = self.used.lock().as_ref().map(|used| used.place);
        let servers = &self.fleet.database.servers;
        let Some((place, server)) = used.and_then(|used| Some((used, servers.get(used)?))) else { return Ok(None) };
        let mut unknown = None;
        for (_, other) in servers.iter().enumerate().filter(|(other, _)| *other != place) {
            let other = match self.look_at(other).await {
                Ok(other) => other,
                Err(
                    error @ (Error::Late(_) | Error::Lost(_) | Error::Full(_) | Error::Token(_) | Error::NotRead(_)),
                ) => {
                    unknown = Some(error);
                    continue;
                }
                Err(_) => continue,
            };
            let used = self.look_at(server).await?;
            if !used.process.is_same(&other.process) {
                return Ok(Some(split_brain(&used, &other)));
            }
        }
        unknown.map_or(Ok(None), Err)
    }

    async fn look_at(&self, server: &DatabaseServer) -> Result<Connected, Error> {
        let password = self.fetched().await?;
        self.connect_in_time(server, password, self.part()).await
    }

    /// The time that each server has.
    fn part(&self) -> Duration {
        CONNECTING / u32::try_from(self.fleet.database.servers.len()).unwrap_or(u32::MAX)
    }

    /// The password that is no file; none where it is one. It is fetched before a server is dialled, which does not wait for
    /// that, and an endpoint that hangs is not taken for a server that does.
    async fn fetched(&self) -> Result<Option<Secret>, Error> {
        let Some(source) = &self.source else { return Ok(None) };
        let late = || {
            let limit = humantime::format_duration(FETCHING);
            Failure::new(Kind::TokenUnavailable, format!("the token endpoint has not answered within {limit}"))
        };
        timeout(FETCHING, source.password()).await.unwrap_or_else(|_| Err(late())).map(Some).map_err(Error::Token)
    }

    async fn connect_in_time(
        &self,
        server: &DatabaseServer,
        fetched: Option<Secret>,
        limit: Duration,
    ) -> Result<Connected, Error> {
        timeout(limit, self.connect_to(server, fetched)).await.unwrap_or(Err(Error::Late(limit)))
    }

    /// Connects to a server, and logs in. A task carries the octets from here on. A server that takes no changes is an
    /// error: it cannot be the one that all instances use.
    async fn connect_to(&self, server: &DatabaseServer, fetched: Option<Secret>) -> Result<Connected, Error> {
        let (stream, password) = self.dial(server).await?;
        let (client, task) = self.log_in(stream, fetched.or(password)).await?;
        let row = client.query_typed_one(IS_READ_ONLY, &[]).await.map_err(|error| self.refused(&error))?;
        if row.try_get::<_, String>(0).map_err(|error| self.refused(&error))? != "off" {
            return Err(Error::ReadOnly);
        }
        let process = ServerProcess(row.try_get(1).ok());
        let lineage = if self.fleet.database.servers.len() > 1 { Lineage::of(&client).await } else { None };
        Ok(Connected { client, task, server: server.clone(), lineage, process })
    }

    /// Asks the server to end the statement of another connection: one that waits for a lock would go on waiting behind
    /// a connection that is closed, and take one of the server's connections for as long.
    pub(super) async fn cancel(&self, server: &DatabaseServer, statement: CancelToken) {
        if let Ok((stream, _)) = self.dial(server).await {
            // The server answers nothing to that.
            let _ = statement.cancel_query_raw(stream, NoTls).await;
        }
    }

    /// Connects, by TLS where that is wanted. Returns the password as well.
    async fn dial(&self, server: &DatabaseServer) -> Result<(Octets, Option<Secret>), Error> {
        if self.source.is_some() && (!self.fleet.tls || server.is_socket()) {
            // The proven configuration has no such fleet.
            return Err(Error::NoTls(server.to_string()));
        }
        let (fleet, limits, host) = (self.fleet.clone(), self.limits, server.clone());
        let files = pool::FILES.run_alone(&self.gate, READING, move || Files::read(&fleet, &limits, &host)).await;
        let Files { password, connector } = files.map_err(Error::NotRead)??;
        match (server, connector) {
            (DatabaseServer::Host(_, port), Some(connector)) => {
                let socket = connector.dial(*port).await.map_err(Error::Unreachable)?;
                let stream = match self.fleet.tls {
                    true => {
                        let socket = self.ask_for_tls(socket, server).await?;
                        connector.handshake(socket).await.map_err(Error::Unreachable)?
                    }
                    // A name is this computer's by the file of hosts, or by whoever answers for the DNS.
                    false if socket.is_with_this_computer() => Stream::Plain(socket),
                    false => return Err(Error::NotLocal(server.to_string())),
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
    async fn ask_for_tls(&self, mut socket: Socket, server: &DatabaseServer) -> Result<Socket, Error> {
        let lost = |error: std::io::Error| {
            Error::Unreachable(Failure::new(Kind::UpstreamLost, format!("{server} broke off the connection: {error}")))
        };
        socket.write_all(&SSL_REQUEST).await.map_err(lost)?;
        socket.flush().await.map_err(lost)?;
        match socket.read_u8().await.map_err(lost)? {
            b'S' => Ok(socket),
            b'N' => Err(Error::NoTls(server.to_string())),
            _ => {
                let what = format!("{server} does not speak PostgreSQL's protocol, or takes no connection at present");
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
        let connected = login.connect_raw(Bounded::new(stream), NoTls).await;
        let (client, connection) = connected.map_err(|error| match refusal::wants_password(&error) {
            true if password.is_none() => Error::PasswordMissing(database.user.clone()),
            _ => self.refused(&error),
        })?;
        // Its error is that of the statements that wait for it.
        let task = tokio::spawn(async { drop(connection.await) });
        Ok((client, task.abort_handle()))
    }
}

/// A split brain: instances that use the other server spend the same refresh tokens.
fn warn_of_two(used: &Connected, other: &Connected) {
    if !used.process.is_same(&other.process) {
        warn!("{}", split_brain(used, other));
    }
}

fn split_brain(used: &Connected, other: &Connected) -> SplitBrain {
    let earlier = match (used.is_before(other.lineage.as_ref()), other.is_before(used.lineage.as_ref())) {
        (true, _) => Some(used.server.clone()),
        (_, true) => Some(other.server.clone()),
        _ => None,
    };
    SplitBrain { used: used.server.clone(), other: other.server.clone(), earlier }
}

impl ServerProcess {
    /// Returns whether both are one process. Two names, or a name and an address, may lead to it.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.is_some() && self.0 == other.0
    }
}

impl Lineage {
    /// Asks a server that takes changes. A server that is no PostgreSQL, though it speaks like one, may not say.
    async fn of(client: &Client) -> Option<Self> {
        let row = client.query_typed_one(LINEAGE, &[]).await.ok()?;
        Some(Self { system: row.try_get(0).ok()?, timeline: row.try_get(1).ok()? })
    }
}

impl Connected {
    /// Returns whether this server was the primary before the one that has this lineage was promoted.
    fn is_before(&self, lineage: Option<&Lineage>) -> bool {
        let both = self.lineage.as_ref().zip(lineage);
        both.is_some_and(|(own, other)| own.system == other.system && own.timeline < other.timeline)
    }
}

impl Files {
    fn read(fleet: &Fleet, limits: &Limits, server: &DatabaseServer) -> Result<Self, Error> {
        let has_token = fleet.password_identity.is_some();
        let password = fleet.password_file.clone().or_else(|| if has_token { None } else { credential() });
        let password = password.map(|path| state::read_secret(&path)).transpose().map_err(Error::File)?;
        let connector = match server {
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

/// Read-only by recovery, as each standby, or by a setting.
const IS_READ_ONLY: &str = "select pg_catalog.current_setting('transaction_read_only'), \
    extract(epoch from pg_catalog.pg_postmaster_start_time())::text";
/// The name of a file of the log begins with its timeline.
const LINEAGE: &str = "select system_identifier::text, \
    pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) from pg_catalog.pg_control_system()";
/// The longest wait for an access token: a part of [`CONNECTING`].
const FETCHING: Duration = Duration::from_secs(5);
/// The time of each further server, once one is found that takes changes.
const LATER: Duration = Duration::from_secs(1);
const CREDENTIAL: &str = "packetboat-fleet-password";
/// Its length, and the number 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// The longest wait for files.
const READING: Duration = Duration::from_secs(5);
