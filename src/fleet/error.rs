//! The error of the fleet's database: the cause, whether the database is away, and what mends it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::fleet::DatabaseServer;
use crate::crypto::Unavailable;
use crate::failure::{Failure, Kind};
use crate::pool::NotDone;
use crate::state;
use crate::transport::upstream::ConnectorError;

/// A reason why the fleet's database does not do what it is asked for.
#[derive(Debug)]
pub enum Error {
    /// The server of the database is not reached, or its certificate is not accepted.
    Unreachable(Failure),
    /// The Unix socket of the database does not answer.
    Socket(PathBuf, std::io::Error),
    /// The server has no TLS.
    NoTls(String),
    /// The server, to which octets go in clear, is on another computer.
    NotLocal(String),
    /// A file that the section `[fleet]` names cannot be read.
    File(state::Error),
    /// TLS cannot be prepared.
    Tls(ConnectorError),
    /// The threads that read files do not answer.
    NotRead(NotDone),
    /// There is no cryptography on this computer.
    Crypto(Unavailable),
    /// The access token that is the password is not fetched.
    Token(Failure),
    /// The server wants a password of this user, and the configuration has none.
    PasswordMissing(String),
    /// The server refuses the login; with its words.
    Login {
        /// The user who logs in.
        user: String,
        /// The words of the server.
        message: String,
    },
    /// The server has no database of this name.
    NoDatabase(String),
    /// The user has no right to do this; with the words of the server.
    NotAllowed(String),
    /// The server takes no changes: it is a standby, or was set to read-only.
    ReadOnly,
    /// The server was the primary before another one was promoted, and takes changes still.
    Superseded,
    /// No server of several takes changes, each for its reason.
    NoPrimary(Vec<(DatabaseServer, Error)>),
    /// The server has no room; with its words.
    Full(String),
    /// Somebody else uses the tables, so that they cannot be migrated.
    Locked,
    /// The database does not have packetboat's tables.
    NoSchema,
    /// The tables are of an earlier packetboat.
    OlderSchema {
        /// The version of the tables.
        found: i32,
        /// The version that this packetboat needs.
        needed: i32,
    },
    /// The tables are of a later packetboat, which no longer serves this one.
    NewerSchema {
        /// The version of the tables.
        found: i32,
        /// The earliest version that the tables serve.
        serves_from: i32,
    },
    /// The database has not answered within this time. The statement may have been carried out.
    Late(Duration),
    /// The connection broke. The statement may have been carried out.
    Lost(String),
    /// The server refuses the statement.
    Refused {
        /// The code of the error (PostgreSQL, appendix A).
        code: String,
        /// The words of the server.
        message: String,
    },
    /// The database answers with something that no packetboat has written.
    Strange(&'static str),
    /// The database does not have the newest refresh token of this instance yet.
    Unsent,
    /// The last attempt to connect failed for this reason, and the next one is not due yet.
    Again(Arc<Error>),
}

impl Error {
    /// Returns whether the database is away: nothing that this packetboat could do differently would be answered. The
    /// fleet goes on without the database then, and asks again later.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::Socket(..)
            | Self::NotRead(_)
            | Self::ReadOnly
            | Self::Superseded
            | Self::Full(_)
            | Self::Locked
            | Self::Late(_)
            | Self::Lost(_)
            | Self::Unsent => true,
            Self::Again(error) => error.is_away(),
            // One of them may be the primary, and come back.
            Self::NoPrimary(errors) => errors.iter().any(|(_, error)| error.is_away()),
            Self::Token(failure) => failure.kind != Kind::TokenRefused,
            // Classes of appendix A: 08 connection, 40 rollback, 53 resources, 55 not in this state, 57 intervention of
            // the operator, 58 system.
            Self::Refused { code, .. } => {
                ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class))
            }
            Self::NoTls(_)
            | Self::NotLocal(_)
            | Self::File(_)
            | Self::Tls(_)
            | Self::Crypto(_)
            | Self::PasswordMissing(_)
            | Self::Login { .. }
            | Self::NoDatabase(_)
            | Self::NotAllowed(_)
            | Self::NoSchema
            | Self::OlderSchema { .. }
            | Self::NewerSchema { .. }
            | Self::Strange(_) => false,
        }
    }

    /// Returns whether the next statement about something else would fail as well: there is no connection, or no right or
    /// room for anything.
    pub fn is_about_server(&self) -> bool {
        match self {
            // Somebody has locked or damaged these rows alone, or the connection has ended with another statement.
            Self::Late(_) | Self::Lost(_) | Self::Refused { .. } | Self::Strange(_) => false,
            _ => true,
        }
    }

    /// Returns whether the statement may have been carried out although it failed.
    pub fn may_be_done(&self) -> bool {
        matches!(self, Self::Late(_) | Self::Lost(_))
    }
}

impl fmt::Display for Error {
    #[allow(clippy::too_many_lines, reason = "a table, one row for each variant")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(failure) => {
                write!(f, "the database is not reached: {}: {}", why(failure.kind), failure.detail)
            }
            Self::Socket(path, error) => write!(
                f,
                "the database is not reached at the socket {}: {error}; check that PostgreSQL runs, and that \
                 fleet.database names the directory of its socket",
                path.display()
            ),
            Self::NoTls(server) => write!(
                f,
                "the server of the database at {server} has no TLS, and no password goes to it without: set ssl = on in \
                 its postgresql.conf, with a certificate for this host's name"
            ),
            Self::NotLocal(server) => write!(
                f,
                "the name of the database's host at {server} leads to another computer, and no password goes there without \
                 TLS: let localhost be 127.0.0.1 in /etc/hosts, or set fleet.roots, so that the connection uses TLS"
            ),
            Self::File(error) => error.fmt(f),
            Self::Tls(error) => write!(f, "TLS with the database cannot be prepared: {error}"),
            Self::NotRead(why) => write!(f, "the files of the section [fleet] are not read: {why}"),
            Self::Crypto(error) => error.fmt(f),
            Self::Token(failure) => write!(
                f,
                "the access token for the database, of the identity in fleet.password_identity, is not fetched: {failure}"
            ),
            Self::PasswordMissing(user) => write!(
                f,
                "the database wants a password of user {user}, and there is none: write it to a file and name that file \
                 with fleet.password_file, or hand it over as the systemd credential packetboat-fleet-password"
            ),
            Self::Login { user, message } => write!(
                f,
                "the database refuses the login of user {user} ({message}): check the user in fleet.database, the password \
                 in fleet.password_file or the rights of the identity in fleet.password_identity, and the rules of the \
                 server's pg_hba.conf"
            ),
            Self::NoDatabase(name) => write!(
                f,
                "the server has no database {name}: check fleet.database, or create the database on the server with: \
                 createdb --owner=USER {name}"
            ),
            Self::NotAllowed(message) => write!(
                f,
                "the database does not allow this ({message}): run packetboat fleet migrate as the owner of the database, \
                 or grant the right to the user of fleet.database"
            ),
            Self::ReadOnly => f.write_str(
                "the database takes no changes, because its server is a standby, or was set to read-only, as managed \
                 services do when a disk is full: let fleet.database name the primary or all servers, and see to its disk",
            ),
            Self::Superseded => f.write_str(
                "another server was promoted in the place of this one: stop it at once, and make it a standby again; if \
                 you have put it back on purpose, from a backup, restart packetboat on all instances",
            ),
            Self::NoPrimary(errors) => {
                f.write_str("no server of the database takes changes")?;
                errors.iter().try_for_each(|(server, error)| write!(f, "; {server}: {error}"))
            }
            Self::Full(message) => write!(f, "the database has no room ({message}): see to it on its server"),
            Self::Locked => f.write_str(
                "another program uses packetboat's tables all the time, such as a backup by pg_dump: nothing has changed; \
                 run packetboat fleet migrate once it has ended",
            ),
            Self::NoSchema => {
                f.write_str("the database does not have packetboat's tables yet: run packetboat fleet migrate once")
            }
            Self::OlderSchema { found, needed } => write!(
                f,
                "the tables in the database have version {found}, and this packetboat needs version {needed}: run \
                 packetboat fleet migrate once, with this version of packetboat; earlier ones go on beside it"
            ),
            Self::NewerSchema { found, serves_from } => write!(
                f,
                "the tables in the database have version {found}, and serve packetboats from version {serves_from} of the \
                 tables on: update packetboat on this computer"
            ),
            Self::Late(limit) => write!(
                f,
                "the database has not answered within {}: check its load, its locks and the network",
                humantime::format_duration(*limit)
            ),
            Self::Lost(why) => write!(f, "the connection to the database broke: {why}"),
            Self::Refused { code, message } => {
                write!(f, "the database refuses a statement with code {code} ({message}): see the log of its server")
            }
            Self::Strange(what) => {
                write!(
                    f,
                    "the database holds what no packetboat has written: {what}; see who else writes to its tables"
                )
            }
            Self::Unsent => f.write_str(
                "the database does not have the newest refresh token yet; this instance keeps it on its disk, and tries again",
            ),
            Self::Again(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Socket(_, error) => Some(error),
            Self::File(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::NotRead(error) => Some(error),
            Self::Crypto(error) => Some(error),
            Self::Again(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}

/// The kind of a failure in words for a database; those of [`Kind`] are about mail servers.
fn why(kind: Kind) -> &'static str {
    match kind {
        Kind::Resolve => "the name of its host does not resolve",
        Kind::Connect => "it takes no connection",
        Kind::UpstreamCertificate => "its certificate is not accepted",
        Kind::UpstreamTls => "the TLS handshake failed",
        Kind::UpstreamTimeout => "it did not answer in time",
        Kind::UpstreamLost => "the connection broke",
        _ => "its answer is not understood",
    }
}

impl From<Unavailable> for Error {
    fn from(error: Unavailable) -> Self {
        Self::Crypto(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_from_a_mistake() {
        let refused = |code: &str| Error::Refused { code: code.to_owned(), message: String::new() };
        for away in [refused("57P03"), refused("40001"), Error::ReadOnly, Error::Late(Duration::from_secs(1))] {
            assert!(away.is_away(), "{away}");
            assert!(Error::Again(Arc::new(away)).is_away());
        }
        for mistake in [refused("42703"), Error::NoSchema, Error::PasswordMissing("pb".to_owned())] {
            assert!(!mistake.is_away(), "{mistake}");
        }
    }
}
