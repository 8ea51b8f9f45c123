//! A fleet: several instances of packetboat that share one PostgreSQL database. The address of the database is read
//! here; it never holds a password.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use super::{CertificateFiles, Identity, Roots};

/// The section `[fleet]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// The database that all instances use.
    pub database: Database,
    /// The file with the password of the database's user.
    pub password_file: Option<PathBuf>,
    /// The identity whose access token is the password.
    pub password_identity: Option<PasswordIdentity>,
    /// The client certificate that is shown to the database.
    pub client_certificate: Option<CertificateFiles>,
    /// The certification authorities that the database's certificate may come from.
    pub roots: Roots,
    /// TLS is used, also where the database is on this computer.
    pub tls: bool,
    /// The name of this instance; none is the name of the computer.
    pub instance: Option<String>,
    /// packetboat creates and migrates the tables at its start.
    pub migrate: bool,
}

impl Fleet {
    /// Returns whether both are the same fleet, with which a reload goes on. The secret or the key of the identity whose
    /// token is the password may differ.
    pub fn are_same(one: Option<&Self>, other: Option<&Self>) -> bool {
        let application = |fleet: &Self| fleet.password_identity.clone();
        let is_same_application = match (one.and_then(application), other.and_then(application)) {
            (Some(one), Some(other)) => one.name == other.name && one.identity.is_same_as(&other.identity),
            (one, other) => one.is_none() && other.is_none(),
        };
        let rest = |fleet: &Self| Self { password_identity: None, ..fleet.clone() };
        is_same_application && one.map(rest) == other.map(rest)
    }
}

/// An application whose access token is the password of the database's user, as Azure Database for PostgreSQL takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordIdentity {
    /// Key of [`super::Config::identities`].
    pub name: String,
    /// The identity, with the scope of databases.
    pub identity: Identity,
}

/// The address of a database, without a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// The servers, one or more: a primary, and standbys that may become the primary.
    pub servers: Vec<DatabaseServer>,
    /// The user who logs in.
    pub user: String,
    /// The name of the database.
    pub name: String,
}

/// The server of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseServer {
    /// A host and a TCP port.
    Host(String, u16),
    /// A Unix socket.
    Socket(PathBuf),
}

/// The reason why a text is no address of a database, and what to write. The words follow the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseError {
    /// It does not begin with `postgresql://`.
    Scheme,
    /// It holds a password.
    Password,
    /// It names no user.
    User,
    /// It names no host.
    Host,
    /// It names more hosts than packetboat tries.
    Hosts,
    /// The port is no number from 1 to 65535.
    Port,
    /// It names no database.
    Name,
    /// It has a parameter that packetboat does not know, or does not let anybody change.
    Parameter,
    /// A percent sign is not followed by two hexadecimal digits of UTF-8.
    Encoding,
}

impl Database {
    /// Reads an address: `postgresql://USER@HOST:PORT/NAME`, with several `HOST:PORT` separated by commas for a primary
    /// and its standbys, or `postgresql://USER@/NAME?host=DIRECTORY` for the Unix socket in a directory.
    ///
    /// # Errors
    /// The text is no such address; the error never repeats it, because it may hold a password.
    pub fn parse(text: &str) -> Result<Self, DatabaseError> {
        let rest = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"));
        let rest = rest.ok_or(DatabaseError::Scheme)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, name) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.contains(':') || query.contains("password") {
            return Err(DatabaseError::Password);
        }
        let [user, name] = [user, name].map(decoded);
        let (user, name) = (user?, name?);
        let mut hosts = hosts.split(',').map(host_and_port).collect::<Result<Vec<_>, _>>()?;
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match (parameter.split_once('='), hosts.as_mut_slice()) {
                (Some(("host", directory)), [(host, _)]) if host.is_empty() => *host = decoded(directory)?,
                // packetboat always looks for the server that takes changes.
                (Some(("target_session_attrs", "read-write" | "primary")), _) => {}
                _ => return Err(DatabaseError::Parameter),
            }
        }
        match (user.is_empty(), hosts.iter().any(|(host, _)| host.is_empty()), name.is_empty()) {
            (true, _, _) => Err(DatabaseError::User),
            (_, true, _) => Err(DatabaseError::Host),
            (_, _, true) => Err(DatabaseError::Name),
            _ if hosts.len() > MOST_SERVERS => Err(DatabaseError::Hosts),
            (false, false, false) => {
                let servers = hosts.into_iter().map(|(host, port)| DatabaseServer::at(host, port)).collect();
                Ok(Self { servers, user, name })
            }
        }
    }

    /// Returns whether octets to each server stay on this computer.
    pub fn is_local(&self) -> bool {
        self.servers.iter().all(DatabaseServer::is_local)
    }
}

impl DatabaseServer {
    /// The server at this host or, where it is a path, at the socket in this directory.
    fn at(host: String, port: u16) -> Self {
        match host.starts_with('/') {
            true => Self::Socket(PathBuf::from(host).join(format!(".s.PGSQL.{port}"))),
            false => Self::Host(host, port),
        }
    }

    /// Returns whether the server is at a Unix socket.
    pub fn is_socket(&self) -> bool {
        matches!(self, Self::Socket(_))
    }

    /// Returns whether octets to the server stay on this computer.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::Host(host, _) => match host.parse::<IpAddr>() {
                Ok(address) => address.to_canonical().is_loopback(),
                Err(_) => host.eq_ignore_ascii_case("localhost"),
            },
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at ", self.name)?;
        for (at, server) in self.servers.iter().enumerate() {
            let separator = if at > 0 { ", " } else { "" };
            write!(f, "{separator}{server}")?;
        }
        Ok(())
    }
}

impl fmt::Display for DatabaseServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

fn host_and_port(text: &str) -> Result<(String, u16), DatabaseError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(DatabaseError::Host)?;
            (host, rest.strip_prefix(':'))
        }
        None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| DatabaseError::Port))?;
    if port == 0 {
        return Err(DatabaseError::Port);
    }
    let host = decoded(host)?;
    let is_name = |c: char| !(c.is_whitespace() || c.is_control() || c == ',');
    if host.chars().all(is_name) { Ok((host, port)) } else { Err(DatabaseError::Host) }
}

/// Replaces `%2F` by `/`, and so on (RFC 3986 section 2.1).
fn decoded(text: &str) -> Result<String, DatabaseError> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet == b'%' {
            let digit = |one: Option<u8>| char::from(one?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let (high, low) = (digit(rest.next()), digit(rest.next()));
            let (high, low) = high.zip(low).ok_or(DatabaseError::Encoding)?;
            octets.push(high << 4 | low);
        } else {
            octets.push(octet);
        }
    }
    let text = String::from_utf8(octets).map_err(|_| DatabaseError::Encoding)?;
    if text.contains('\0') { Err(DatabaseError::Encoding) } else { Ok(text) }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "is no address of a database; write it as \"postgresql://USER@HOST:5432/NAME\"",
            Self::Password => {
                "holds a password, which everybody who reads this file would see: write the password to a file of its \
                 own, name that file with password_file, and remove the password here"
            }
            Self::User => "names no user; write it as \"postgresql://USER@HOST:5432/NAME\"",
            Self::Host => {
                "names no host; write it as \"postgresql://USER@HOST:5432/NAME\", several as \
                 \"postgresql://USER@HOST:5432,HOST:5432/NAME\", or the directory of a Unix socket as \
                 \"postgresql://USER@/NAME?host=/run/postgresql\""
            }
            Self::Hosts => "names more than 5 hosts; name those that can be the primary",
            Self::Port => "has a port that is no number from 1 to 65535",
            Self::Name => "names no database; write it as \"postgresql://USER@HOST:5432/NAME\"",
            Self::Parameter => {
                "has a parameter that packetboat does not take: remove everything from the question mark on, because \
                 TLS and verification are always on, and roots, client_certificate and password_file are keys of this \
                 section. Only ?host=DIRECTORY is allowed, for a Unix socket, and ?target_session_attrs=read-write, \
                 which packetboat looks for anyway"
            }
            Self::Encoding => "has a percent sign without two hexadecimal digits of UTF-8 behind it; write % as %25",
        })
    }
}

impl std::error::Error for DatabaseError {}

/// The port of PostgreSQL.
const PORT: u16 = 5432;
/// The most servers: packetboat tries all of them within a bounded time.
const MOST_SERVERS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, server, user, name, is_local) in [
            ("postgresql://pb@db.example:6432/mail", "db.example:6432", "pb", "mail", false),
            ("postgres://pb@10.0.0.1/mail", "10.0.0.1:5432", "pb", "mail", false),
            ("postgresql://pb@[2001:db8::1]:1/mail", "[2001:db8::1]:1", "pb", "mail", false),
            ("postgresql://pb%40tenant@localhost/m%2Fx", "localhost:5432", "pb@tenant", "m/x", true),
            ("postgresql://pb@[::1]/mail", "[::1]:5432", "pb", "mail", true),
            ("postgresql://pb@127.9.9.9/mail", "127.9.9.9:5432", "pb", "mail", true),
            ("postgresql://pb@127.0.0.1.evil.example/mail", "127.0.0.1.evil.example:5432", "pb", "mail", false),
            ("postgresql://pb@169.254.1.1/mail", "169.254.1.1:5432", "pb", "mail", false),
            ("postgresql://pb@%2Frun%2Fpostgresql/mail", "/run/postgresql/.s.PGSQL.5432", "pb", "mail", true),
            ("postgresql://pb@:77/mail?host=/run/pg", "/run/pg/.s.PGSQL.77", "pb", "mail", true),
            ("postgresql://pb@a,[::1]:77,b:78/mail", "a:5432, [::1]:77, b:78", "pb", "mail", false),
            ("postgresql://pb@a:1,b/mail?target_session_attrs=read-write", "a:1, b:5432", "pb", "mail", false),
            ("postgresql://pb@localhost:1,localhost:2/mail", "localhost:1, localhost:2", "pb", "mail", true),
            ("postgresql://pb@localhost,db/mail", "localhost:5432, db:5432", "pb", "mail", false),
        ] {
            let read = Database::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((read.to_string(), read.user.as_str()), (format!("{name} at {server}"), user), "{text}");
            assert_eq!((read.name.as_str(), read.is_local()), (name, is_local), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_never_repeated() {
        for (text, expected) in [
            ("mysql://pb@db/mail", DatabaseError::Scheme),
            ("postgresql://pb:hunter2@db/mail", DatabaseError::Password),
            ("postgresql://pb:hun@ter2@db/mail", DatabaseError::Password),
            ("postgresql://pb@db/mail?password=hunter2", DatabaseError::Password),
            ("postgresql://db/mail", DatabaseError::User),
            ("postgresql://pb@/mail", DatabaseError::Host),
            ("postgresql://pb@a,/mail", DatabaseError::Host),
            ("postgresql://pb@a,b/mail?host=/run/pg", DatabaseError::Parameter),
            ("postgresql://pb@a,b,c,d,e,f/mail", DatabaseError::Hosts),
            ("postgresql://pb@a,b:0/mail", DatabaseError::Port),
            ("postgresql://pb@a,b/mail?target_session_attrs=any", DatabaseError::Parameter),
            ("postgresql://pb@db:0/mail", DatabaseError::Port),
            ("postgresql://pb@db:x/mail", DatabaseError::Port),
            ("postgresql://pb@db:5432", DatabaseError::Name),
            ("postgresql://pb@db/", DatabaseError::Name),
            ("postgresql://pb@db/mail?sslmode=disable", DatabaseError::Parameter),
            ("postgresql://pb@db/mail?host=/run/pg", DatabaseError::Parameter),
            ("postgresql://p%b@db/mail", DatabaseError::Encoding),
            ("postgresql://p%ff@db/mail", DatabaseError::Encoding),
        ] {
            let error = Database::parse(text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("hun"));
        }
    }
}
