//! The store of a person's sign-in: the state directory of this computer, or the database of a fleet. Both renew the
//! sign-in by the same contract, and each keeps every refresh token until the next one is safe.

mod copy;
mod directory;
mod fleet;

use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

use super::access::AccessToken;
use super::error::Error;
use super::json::{StoredSignIn, TokenResponse};
use crate::config::Rotation;
use crate::secret::Secret;
use crate::state::Stamp;

pub(super) use directory::InDirectory;
pub(super) use fleet::{FoundSignIn, InFleet, Instance};

/// Work on a sign-in, to be awaited.
pub(super) type Task<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store of one sign-in. It outlives reloads. One task at a time calls [`renew`](Self::renew) and
/// [`keep_unsaved`](Self::keep_unsaved).
pub(super) trait Keeper: Send + Sync {
    /// Gets a newer access token with the newest refresh token, and hands it to the caller by
    /// [`Asking::take`]. The refresh token that comes with it is safe before that, where anything is.
    fn renew<'a>(&'a self, asking: &'a dyn Asking) -> Task<'a, Result<(), Error>>;

    /// Stores the sign-in of a person who has just signed in, whatever was there.
    fn put(&self, record: StoredSignIn) -> Task<'_, Result<(), Error>>;

    /// Removes the sign-in: the person has signed out. Returns whether there was one.
    fn remove(&self) -> Task<'_, Result<bool, Error>>;

    /// Reads the sign-in as it is stored; none where nobody has signed in.
    fn read(&self) -> Task<'_, Result<Option<StoredSignIn>, Error>>;

    /// Returns a mark that changes when somebody signs in anew; none while the store does not answer.
    fn mark(&self, look: Look) -> Task<'_, Option<Mark>>;

    /// Learns what others have done to the sign-in, before it is renewed only so that it stays alive.
    fn look<'a>(&'a self, asking: &'a dyn Asking) -> Task<'a, ()>;

    /// Returns whether the person has signed out, as far as this process knows.
    fn is_signed_out(&self) -> bool;

    /// Returns once the store may lack what this process knows, although it has had it, or once the person has signed out
    /// elsewhere.
    fn returned(&self) -> Task<'_, ()>;

    /// Tries once more to store what is not stored yet.
    fn keep_unsaved<'a>(&'a self, asking: &'a dyn Asking) -> Task<'a, ()>;

    /// Returns the time of the next try to store what is not stored yet; none where all is.
    fn again(&self) -> Option<Instant>;

    /// Returns the reason why the newest refresh token would be lost with this process, where it would.
    fn unkept(&self) -> Option<String>;

    /// Returns whether the newest refresh token would be lost with this process.
    fn is_unsaved(&self) -> bool;

    /// Returns the trouble that the store has, where devices do not notice it yet.
    fn trouble(&self) -> Option<String>;

    /// Returns the time when the refresh token came.
    fn renewed(&self) -> Option<Instant>;

    /// Learns that the process ends: nobody waits for others any more.
    fn end(&self);

    /// The kind of the store.
    fn kind(&self) -> StoreKind;
}

/// The caller's side of a renewal.
pub(super) trait Asking: Send + Sync {
    /// Asks the token endpoint with this refresh token.
    fn ask(&self, refresh_token: Secret) -> Task<'_, Result<TokenResponse, Error>>;

    /// Uses this access token from now on.
    fn take(&self, token: AccessToken);

    /// Returns the pause that such a failure calls for.
    fn pause_after(&self, error: &Error) -> Duration;

    /// Returns the endpoint's treatment of refresh tokens that were used.
    fn rotation(&self) -> Rotation;

    /// Returns whether the present access token serves for a while, so that nothing has to be risked for another one.
    fn can_wait(&self) -> bool;
}

/// The effort for a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The token that this process has is enough.
    Known,
    /// The store is asked.
    Anew,
}

/// A mark that changes when somebody signs in anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The file in the state directory.
    File(Option<Stamp>),
    /// The generation in the fleet.
    Generation(Option<i64>),
}

/// The kinds of stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// The state directory of this computer.
    Directory,
    /// The database that the instances of a fleet share.
    Fleet,
}

impl StoreKind {
    /// The store in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Directory => "state directory",
            Self::Fleet => "fleet",
        }
    }
}

/// The person and the account that messages are about.
#[derive(Clone)]
pub(super) struct Subject {
    /// The name of the identity.
    pub(super) identity: String,
    /// The person.
    pub(super) user: String,
    /// The account that `packetboat login` is called with.
    pub(super) account: String,
}

impl Subject {
    /// The error where there is no sign-in; the reason is the end of a sentence about the person.
    fn missing(&self, why: &'static str) -> Error {
        Error::SignInMissing { user: self.user.clone(), why, account: self.account.clone() }
    }
}

/// The interval between two tries to store what is not stored yet.
const AGAIN: Duration = Duration::from_secs(10);
