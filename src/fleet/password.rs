//! A source of the password that the database's user logs in with, where it is no file: an access token, which ends after
//! an hour or so. A higher floor fetches it.

use std::pin::Pin;
use std::sync::Arc;

use crate::config::Config;
use crate::failure::Failure;
use crate::lifecycle::Lifecycle;
use crate::secret::Secret;

/// A source of passwords that end.
pub trait PasswordSource: Send + Sync {
    /// Returns a password that is good for a login now.
    fn password(&self) -> Pin<Box<dyn Future<Output = Result<Secret, Failure>> + Send + '_>>;

    /// Goes on with a new configuration: the secret or the key of the identity may be another one.
    fn follow(&self, config: &Config);

    /// Fetches each next one ahead of time, until the drain: a new connection does not wait for it.
    fn keep_fresh(self: Arc<Self>, lifecycle: Lifecycle) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}
