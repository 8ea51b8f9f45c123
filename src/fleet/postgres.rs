//! PostgreSQL holds the records: one connection that is kept, and made anew with a growing pause after failures. Where
//! the configuration names several servers, it leads to the one that takes changes.
//!
//! Nothing here uses the state of a session, so that a pgbouncer in between may give each transaction another server:
//! statements are unnamed and carry the types of their parameters; there is no `SET`, `LISTEN` or advisory lock.

mod access;
mod bounded;
mod instances;
mod kept;
mod refusal;
mod schema;
mod seen;
mod sessions;
mod sign_ins;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use tracing::info;

use super::error::Error;
use super::password::PasswordSource;
use super::records::PATIENCE;
use crate::config::fleet::DatabaseServer;
use crate::config::{Config, Fleet};
use crate::crypto::jitter;
use access::{Access, Connected};

pub use access::ServerProcess;
pub use schema::Migration;

/// The records of a fleet in PostgreSQL.
pub struct Postgres(Arc<Link>);

/// The way to the database, with the connection that is open.
struct Link {
    access: Access,
    state: Mutex<State>,
    /// Held by the task that connects; the others find its connection.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    open: Option<Open>,
    failed: Option<Failed>,
    /// The server that was used last.
    used: Option<Arc<DatabaseServer>>,
}

/// An open connection. Statements of several tasks follow each other on it.
#[derive(Clone)]
struct Open {
    client: Arc<Client>,
    /// Ends the task that carries the octets, and the connection with it.
    task: AbortHandle,
    server: Arc<DatabaseServer>,
    since: Instant,
}

/// The last attempt to connect that has failed, or whose connection has broken at once.
struct Failed {
    error: Arc<Error>,
    /// The time of the next attempt.
    next: Instant,
    pause: Duration,
}

/// A statement's parameters, each with its type.
type Parameters<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

impl Postgres {
    /// The database that the section `[fleet]` names. The password comes from this source, if there is one. Nothing is
    /// dialled yet.
    pub fn new(fleet: &Fleet, config: &Config, password: Option<Arc<dyn PasswordSource>>) -> Self {
        let access = Access::new(fleet, &config.limits, password);
        Self(Arc::new(Link { access, state: Mutex::default(), connecting: tokio::sync::Mutex::default() }))
    }

    /// Connects, with more patience than an operation has. Commands begin so.
    ///
    /// # Errors
    /// The database is not reached, or refuses the login.
    pub async fn connect(&self) -> Result<(), Error> {
        Arc::clone(&self.0).connect().await.map(drop)
    }

    /// Connects to each server of the configuration, and returns its process where it takes changes.
    pub async fn servers(&self) -> Vec<(DatabaseServer, Result<ServerProcess, Error>)> {
        self.0.access.servers().await
    }

    /// Runs a statement and returns its rows, within [`PATIENCE`].
    async fn rows(&self, statement: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, Error> {
        let deadline = Instant::now() + PATIENCE;
        let open = self.open(deadline).await?;
        match timeout_at(deadline, open.client.query_typed(statement, parameters)).await {
            Ok(answer) => answer.map_err(|error| self.0.refused(&open, &error)),
            Err(_) => Err(self.0.late(&open)),
        }
    }

    /// Runs a statement and returns its row, if it has one.
    async fn row(&self, statement: &str, parameters: Parameters<'_>) -> Result<Option<Row>, Error> {
        Ok(self.rows(statement, parameters).await?.into_iter().next())
    }

    /// Runs a statement and returns whether it has changed a row.
    async fn changes(&self, statement: &str, parameters: Parameters<'_>) -> Result<bool, Error> {
        let deadline = Instant::now() + PATIENCE;
        let open = self.open(deadline).await?;
        match timeout_at(deadline, open.client.execute_typed(statement, parameters)).await {
            Ok(answer) => answer.map(|count| count > 0).map_err(|error| self.0.refused(&open, &error)),
            Err(_) => Err(self.0.late(&open)),
        }
    }

    /// Returns the open connection. Where there is none, a task makes one, and goes on when this caller has no more
    /// patience: a database that takes long to connect to is reached all the same.
    async fn open(&self, deadline: Instant) -> Result<Open, Error> {
        if let Some(known) = self.0.known() {
            return known;
        }
        match timeout_at(deadline, tokio::spawn(Arc::clone(&self.0).connect())).await {
            Ok(Ok(open)) => open,
            Ok(Err(_)) => Err(Error::Lost("the task that connects has ended".to_owned())),
            Err(_) => Err(Error::Late(PATIENCE)),
        }
    }
}

impl Link {
    /// The open connection, or the error of the last attempt where the next one is not due yet.
    fn known(&self) -> Option<Result<Open, Error>> {
        let mut state = self.state.lock();
        if let Some(open) = state.open.clone() {
            if !open.client.is_closed() {
                return Some(Ok(open));
            }
            if state.take(&open) && open.since.elapsed() < BRIEF {
                // A server, or a pooler, that takes a login and breaks off is not dialled for each statement.
                state.fail(Arc::new(Error::Lost("it ended a moment after it had begun".to_owned())));
            }
        }
        let failed = state.failed.as_ref().filter(|failed| failed.next > Instant::now())?;
        Some(Err(Error::Again(Arc::clone(&failed.error))))
    }

    async fn connect(self: Arc<Self>) -> Result<Open, Error> {
        let _connecting = self.connecting.lock().await;
        if let Some(known) = self.known() {
            return known;
        }
        let connected = timeout(CONNECTING, self.access.connect()).await.unwrap_or(Err(Error::Late(CONNECTING)));
        let mut state = self.state.lock();
        match connected {
            Ok(Connected { client, task, server, .. }) => {
                let open = Open { client: Arc::new(client), task, server: Arc::new(server), since: Instant::now() };
                let is_other = state.used.as_ref().is_none_or(|used| *used != open.server);
                // The pause before stays known, for a connection that breaks at once.
                (state.open, state.used) = (Some(open.clone()), Some(Arc::clone(&open.server)));
                drop(state);
                if is_other && self.access.database().servers.len() > 1 {
                    info!("the fleet's database is used at {}, which takes changes", open.server);
                }
                Ok(open)
            }
            Err(error) => {
                let error = Arc::new(error);
                state.fail(Arc::clone(&error));
                Err(Error::Again(error))
            }
        }
    }

    /// Gives up a connection whose statement has not been answered: all later statements would wait as well.
    fn late(self: &Arc<Self>, late: &Open) -> Error {
        let (link, statement, server) = (Arc::clone(self), late.client.cancel_token(), Arc::clone(&late.server));
        tokio::spawn(async move { timeout(CONNECTING, link.access.cancel(&server, statement)).await });
        late.task.abort();
        self.state.lock().take(late);
        Error::Late(PATIENCE)
    }

    /// The error of a statement that the server refuses. A server that takes no changes any more has become a standby
    /// behind an open connection: the next statement looks for the one that does.
    fn refused(&self, open: &Open, error: &tokio_postgres::Error) -> Error {
        let error = self.access.refused(error);
        if matches!(error, Error::ReadOnly) {
            let mut state = self.state.lock();
            if state.take(open) {
                open.task.abort();
                state.fail(Arc::new(Error::ReadOnly));
            }
        }
        error
    }
}

impl State {
    /// Takes this connection out, if it is the one that is kept. Returns whether it was.
    fn take(&mut self, given_up: &Open) -> bool {
        let taken = self.open.take_if(|open| Arc::ptr_eq(&open.client, &given_up.client));
        if taken.as_ref().is_some_and(|open| open.since.elapsed() >= BRIEF) {
            self.failed = None;
        }
        taken.is_some()
    }

    /// Notes a failure, and the time of the next attempt to connect.
    fn fail(&mut self, error: Arc<Error>) {
        let pause = self.failed.take().map_or(FIRST_PAUSE, |failed| (failed.pause * 2).min(LONGEST_PAUSE));
        self.open = None;
        // Instances that have lost the database together do not all dial at the same moments.
        let next = Instant::now() + pause.mul_f64(jitter(0.5, 1.0));
        self.failed = Some(Failed { error, next, pause });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(open) = self.state.get_mut().open.take() {
            open.task.abort();
        }
    }
}

/// A time of the database in seconds, as a length; none where it is over.
fn length(seconds: f64) -> Option<Duration> {
    if seconds > 0.0 { Duration::try_from_secs_f64(seconds).ok() } else { None }
}

/// The same; none also where the length exceeds the longest that packetboat writes: the clock of the database was ahead
/// then, and was set back.
fn length_up_to(longest: Duration, seconds: f64) -> Option<Duration> {
    length(seconds).filter(|length| *length <= longest)
}

/// The longest time for a connection, with all servers that are tried: name, TCP, TLS and login.
const CONNECTING: Duration = Duration::from_secs(10);
/// The longest pause after the first failed attempt to connect; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The life of a connection up to which its end counts as a failed attempt.
const BRIEF: Duration = Duration::from_secs(10);
