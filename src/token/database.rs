//! The access token of an application as the password of a fleet's database, as Azure Database for PostgreSQL takes it. It
//! is fetched and kept fresh like a mailbox's.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;
use tracing::warn;

use super::cache::{CachedToken, TokenSpec};
use super::error::Error;
use super::store::Owner;
use crate::config::fleet::PasswordIdentity;
use crate::config::{Account, Config};
use crate::failure::Failure;
use crate::fleet::PasswordSource;
use crate::lifecycle::{Lifecycle, Phase};
use crate::secret::Secret;
use crate::submission::SubmissionRules;
use crate::transport::http::Client;

/// The access token of the identity in `fleet.password_identity`.
struct DatabaseToken(Mutex<Arc<CachedToken>>);

/// Returns the source of the fleet's password; none where the password is a file, or there is no fleet.
///
/// # Errors
/// The token endpoint's address or roots cannot be used.
pub fn fleet_password(config: &Config) -> Result<Option<Arc<dyn PasswordSource>>, Error> {
    Ok(token_of(config)?.map(|token| Arc::new(DatabaseToken(Mutex::new(token))) as _))
}

fn token_of(config: &Config) -> Result<Option<Arc<CachedToken>>, Error> {
    let section = config.fleet.as_ref().and_then(|fleet| fleet.password_identity.as_ref());
    let Some(PasswordIdentity { name, identity }) = section else { return Ok(None) };
    let client = Client::new(&identity.token_endpoint, &identity.roots, &config.limits)?;
    // The token of an application is no mailbox's.
    let account = Account {
        mailbox: String::new(),
        identity: name.clone(),
        upstream: String::new(),
        user: String::new(),
        password_file: None,
        probe: false,
        submission: SubmissionRules::default(),
    };
    let owner = Owner::new(name, "", identity);
    let spec = TokenSpec { owner, identity: identity.clone(), account, account_name: String::new(), client };
    Ok(Some(Arc::new(CachedToken::new(spec, Arc::default(), None))))
}

impl DatabaseToken {
    fn present(&self) -> Arc<CachedToken> {
        Arc::clone(&self.0.lock())
    }
}

impl PasswordSource for DatabaseToken {
    fn password(&self) -> Pin<Box<dyn Future<Output = Result<Secret, Failure>> + Send + '_>> {
        let token = self.present();
        Box::pin(async move { Ok(token.access().await?.secret().clone()) })
    }

    fn follow(&self, config: &Config) {
        match token_of(config) {
            Ok(Some(new)) if new.spec.identity != self.present().spec.identity => *self.0.lock() = new,
            Ok(_) => {}
            Err(error) => warn!("the database's token is fetched as before the reload: {error}"),
        }
    }

    fn keep_fresh(self: Arc<Self>, mut lifecycle: Lifecycle) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let token = self.present();
            let used = async {
                loop {
                    sleep(USE).await;
                    // A token that nobody uses is not kept fresh. A connection may break at any time.
                    let _ = token.access().await;
                }
            };
            tokio::select! {
                () = Arc::clone(&token).keep_fresh(lifecycle.clone()) => {}
                () = used => {}
                () = lifecycle.reached(Phase::Draining) => {}
            }
        })
    }
}

/// The interval of uses.
const USE: Duration = Duration::from_secs(60 * 60);
