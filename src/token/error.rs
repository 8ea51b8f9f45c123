//! The error of a token that cannot be had: the cause, whether it passes by itself, and what mends it.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::refusal::Refusal;
use crate::crypto::{KeyError, Unavailable};
use crate::failure::{Failure, Kind};
use crate::fleet::{self, lease::Cause};
use crate::pool::NotDone;
use crate::state;
use crate::transport::downstream::certificate;
use crate::transport::http;

/// A reason why there is no access token, or no sign-in.
#[derive(Debug)]
pub enum Error {
    /// A file that the configuration names, or one of the state directory, cannot be read or written.
    File(state::Error),
    /// The certificate of the application cannot be read.
    Certificate(certificate::Error),
    /// The private key of the application cannot be used.
    Key {
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        source: KeyError,
    },
    /// There is no cryptography on this computer.
    Crypto(Unavailable),
    /// The threads that read files do not answer.
    NotRead {
        /// The files.
        files: String,
        /// The reason.
        source: NotDone,
    },
    /// The address of the endpoint cannot be used.
    Address(http::Error),
    /// The endpoint is not reached, or does not answer.
    Unreachable(Failure),
    /// The endpoint says no.
    Refused(Refusal),
    /// The store of refresh tokens is not as it has to be.
    Store(StoreError),
    /// The person has to sign in.
    SignInMissing {
        /// The person, and why there is no sign-in.
        user: String,
        /// The reason, in words for the operator.
        why: &'static str,
        /// The account to sign in for.
        account: String,
    },
    /// Another person has signed in.
    OtherPerson {
        /// The person who has signed in, in printable characters.
        person: String,
        /// The account's user.
        expected: String,
        /// The account to sign in for.
        account: String,
    },
    /// The endpoint answers with something that nobody should follow.
    Response {
        /// The host of the endpoint.
        host: String,
        /// The fault, as words that follow the host.
        why: &'static str,
    },
    /// The endpoint has not answered in time.
    Late,
    /// The fleet's database does not have, or does not take, the sign-in.
    Fleet(fleet::Error),
    /// Another instance of the fleet renews the sign-in, and has not come to an end.
    Held,
    /// An instance of the fleet was refused, and none asks again before the pause is over.
    Paused {
        /// The time that is left.
        left: Duration,
        /// The reason, as `as_trouble` has written it.
        trouble: String,
    },
    /// The sign-in came to nothing: the reason, and what to do.
    SignIn(&'static str),
}

/// An error of the store of refresh tokens.
#[derive(Debug)]
pub enum StoreError {
    /// The key is too short.
    ShortKey {
        /// The path of the file.
        path: PathBuf,
        /// The file's length in octets.
        length: usize,
        /// The octets that it needs.
        needed: usize,
    },
    /// There are refresh tokens, and the key that sealed them is missing.
    MissingKey {
        /// The path of the key.
        path: PathBuf,
        /// The name of the credential that systemd may have handed over instead.
        credential: &'static str,
    },
    /// A refresh token was sealed with another key.
    OtherKey(PathBuf),
    /// The copy of a fleet's sign-in was sealed with another key than this command has, or is damaged.
    OtherCopyKey(PathBuf),
    /// A refresh token in the fleet's database was sealed with another key.
    OtherFleetKey,
    /// A refresh token is no text.
    NoText,
}

impl Error {
    /// Whether the failure passes by itself.
    pub fn passes(&self) -> bool {
        match self {
            Self::File(error) => error.is_shortage(),
            Self::Certificate(error) => error.is_shortage(),
            Self::NotRead { .. } | Self::Unreachable(_) => true,
            Self::Refused(refusal) => refusal.passes,
            Self::Late | Self::Held => true,
            Self::Fleet(error) => error.is_away(),
            Self::Paused { trouble, .. } => !trouble.starts_with(LASTING),
            Self::Key { .. }
            | Self::Crypto(_)
            | Self::Address(_)
            | Self::Store(_)
            | Self::SignInMissing { .. }
            | Self::OtherPerson { .. }
            | Self::Response { .. }
            | Self::SignIn(_) => false,
        }
    }

    /// Whether waiting cannot change the failure.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_final,
            // Others may mend it meanwhile.
            Self::Paused { .. } | Self::Fleet(_) => false,
            error => !error.passes(),
        }
    }

    /// The time for which the endpoint asks not to be called.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::Paused { left, .. } => Some(*left),
            _ => None,
        }
    }

    /// The part that stays the same from one attempt to the next: all but the correlation id.
    pub(super) fn topic(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.answer.clone(),
            Self::Paused { trouble, .. } => trouble.clone(),
            _ => self.to_string(),
        }
    }

    /// The subject of the failure, for the other instances.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Refused(refusal) if refusal.error == "invalid_grant" && !refusal.passes => Cause::RefreshToken,
            Self::Refused(_) => Cause::Endpoint,
            _ => Cause::Silence,
        }
    }

    /// The failure as the other instances of a fleet read it: whether it passes by itself, and the reason.
    pub(super) fn as_trouble(&self) -> String {
        format!("{}{}", if self.passes() { PASSING } else { LASTING }, self.topic())
    }
}

impl Error {
    /// The kind of the failure.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Unreachable(failure) => failure.kind,
            error if error.passes() => Kind::TokenUnavailable,
            _ => Kind::TokenRefused,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = error.kind();
        let is_final = error.is_final();
        match error {
            Error::Unreachable(failure) => failure,
            error => Failure { is_final, ..Failure::new(kind, error.to_string()) },
        }
    }
}

impl From<state::Error> for Error {
    fn from(error: state::Error) -> Self {
        Self::File(error)
    }
}

impl From<certificate::Error> for Error {
    fn from(error: certificate::Error) -> Self {
        Self::Certificate(error)
    }
}

impl From<Unavailable> for Error {
    fn from(error: Unavailable) -> Self {
        Self::Crypto(error)
    }
}

impl From<http::Error> for Error {
    fn from(error: http::Error) -> Self {
        Self::Address(error)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(f, "{error}"),
            Self::Certificate(error) => write!(f, "{error}"),
            Self::Key { path, source } => write!(f, "{} {source}", path.display()),
            Self::Crypto(error) => write!(f, "{error}"),
            Self::NotRead { files, source } => write!(f, "cannot read {files}: {source}"),
            Self::Address(error) => write!(f, "{error}"),
            Self::Unreachable(failure) => write!(f, "{failure}"),
            Self::Refused(refusal) => write!(f, "{refusal}"),
            Self::Store(error) => write!(f, "{error}"),
            Self::SignInMissing { user, why, account } => write!(f, "{user} {why}: packetboat login {account}"),
            Self::OtherPerson { person, expected, account } => write!(
                f,
                "{person} signed in, and {expected} was to: nothing is kept. Sign out in the browser and sign in again; if \
                 both are names of one person, run packetboat login {account}"
            ),
            Self::Response { host, why } => write!(f, "{host} {why}"),
            Self::Late => f.write_str("the token endpoint has not answered within 30 s"),
            Self::Fleet(error) => write!(f, "the fleet's database does not have the sign-in ready: {error}"),
            Self::Held => f.write_str(
                "another instance of the fleet is getting an access token, and has not come to an end; see its log",
            ),
            Self::Paused { left, trouble } => {
                let left = humantime::format_duration(Duration::from_secs(left.as_secs() + 1));
                write!(f, "an instance of the fleet met this, and all of them wait for {left}: {trouble}")
            }
            Self::SignIn(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShortKey { path, length, needed } => write!(
                f,
                "the store's key, {}, has {length} octets and needs {needed} or more; put the old one back, or make \
                 one with: head -c 32 /dev/urandom",
                path.display()
            ),
            Self::MissingKey { path, credential } => write!(
                f,
                "there are refresh tokens, and {} is missing: they were sealed with another key, as with the systemd \
                 credential {credential}, which only the service sees; run this as docs/entra.md shows (systemd-run), \
                 or name the key by store_key",
                path.display()
            ),
            Self::OtherKey(path) => write!(
                f,
                "{} cannot be opened: it was sealed with another key, or has been changed; put the old key back, or \
                 move the file away and sign in again",
                path.display()
            ),
            Self::OtherCopyKey(path) => write!(
                f,
                "{} cannot be opened: it was sealed with another store_key, or is damaged. Let this computer have the \
                 store_key of the fleet, and restart packetboat, which sets a damaged file aside; then run this command \
                 again",
                path.display()
            ),
            Self::OtherFleetKey => f.write_str(
                "the sign-in in the fleet's database was sealed with another key: give all instances the same store_key, \
                 or sign in again",
            ),
            Self::NoText => f.write_str("the refresh token is no text"),
        }
    }
}

/// Beginnings of what an instance notes for the others.
const PASSING: &str = "for now: ";
const LASTING: &str = "refused: ";

impl StdError for StoreError {}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::File(error) => Some(error),
            Self::Certificate(error) => Some(error),
            Self::Key { source, .. } => Some(source),
            Self::Crypto(error) => Some(error),
            Self::NotRead { source, .. } => Some(source),
            Self::Address(error) => Some(error),
            Self::Unreachable(failure) => Some(failure),
            Self::Store(error) => Some(error),
            Self::Fleet(error) => Some(error),
            Self::Late
            | Self::Held
            | Self::Paused { .. }
            | Self::Refused(_)
            | Self::SignInMissing { .. }
            | Self::OtherPerson { .. }
            | Self::Response { .. }
            | Self::SignIn(_) => None,
        }
    }
}
