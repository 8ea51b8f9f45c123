//! Access tokens (RFC 6749): fetched by every grant, kept fresh before anybody has to wait, and the refresh tokens
//! behind them, which are never lost.

mod access;
mod cache;
mod database;
mod enrol;
mod error;
mod json;
mod keeping;
mod opening;
mod receiver;
mod redirect;
mod refusal;
mod request;
mod sign_out;
mod store;
mod transfer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::task::JoinSet;

use crate::config::{self, Account, Config, Credential, Grant, SecretFile};
use crate::diagnostic::Diagnostic;
use crate::fleet::Fleet;
use crate::lifecycle::{Lifecycle, unix_time};
use crate::mode::Mode;
use crate::transport::downstream::certificate;
use crate::transport::http::Response;
pub use access::AccessToken;
use cache::SignInState;
pub use cache::{CachedToken, TokenStatus};
pub use database::fleet_password;
pub use enrol::{DeviceSignIn, Enrolment, OtherPerson, Pasted};
pub use error::{Error, StoreError};
pub use json::Claims;
pub use keeping::StoreKind;
use opening::{Opening, TokenSet};
use receiver::Receivers;
pub use redirect::Redirect;
pub use refusal::Refusal;
pub use sign_out::{SignedOut, SigningOut, sign_out};
use store::Owner;
pub use store::Store;
pub use transfer::{Direction, Fate, Newer, Transferred, transfer};

/// The tokens of all accounts.
pub struct Tokens {
    by_account: BTreeMap<String, Arc<CachedToken>>,
    /// Each token once.
    cached: Vec<Arc<CachedToken>>,
    /// Tokens of earlier configurations whose newest refresh token is not on disk yet.
    unsettled: Vec<Arc<CachedToken>>,
    receivers: Receivers,
    config: Config,
}

impl Tokens {
    /// Prepares the tokens of all accounts; nothing is fetched yet. Secrets and keys are read once, to prove that they
    /// can be. With [`Mode::DryRun`] nothing is written either. Tokens of the configuration before go on where nothing
    /// has changed.
    ///
    /// # Errors
    /// Each thing that is missing or wrong.
    pub fn open(
        config: &Config,
        mode: Mode,
        before: Option<&Tokens>,
        fleet: Option<&Arc<Fleet>>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let receivers = before.map(|before| before.receivers.clone()).unwrap_or_default();
        let mut opening = Opening::new(config, mode, before, fleet);
        opening.prove_credentials();
        opening.report(receivers.diagnostics(config));
        for (name, account) in &config.accounts {
            opening.add(name, account);
        }
        let TokenSet { by_account, all: cached } = opening.finish()?;
        let unsettled = before.map(|before| before.unsettled_beside(&cached, config)).unwrap_or_default();
        let receivers = receivers.and_of(config);
        Ok(Self { by_account, cached, unsettled, receivers, config: config.clone() })
    }

    /// Returns the token that is fetched in the same way, if there is one, and whose account is there still.
    fn same(&self, owner: &Owner, account: &Account, config: &Config) -> Option<Arc<CachedToken>> {
        let identity = config.identities.get(&account.identity)?;
        let is_kept_there = self.has_store_of(config) && self.config.limits.of_servers() == config.limits.of_servers();
        let same = self.cached.iter().find(|token| {
            token.spec.owner == *owner
                && token.spec.identity == *identity
                && token.spec.account.password_file == account.password_file
                && config.accounts.get(&token.spec.account_name) == Some(&token.spec.account)
        });
        same.filter(|_| is_kept_there).map(Arc::clone)
    }

    /// Returns the state of a sign-in that may be newer than the disk, also where the same issuer's token is fetched in
    /// another way from now on: an endpoint may take each refresh token only once.
    fn sign_in_state(&self, owner: &Owner, config: &Config) -> Option<Arc<SignInState>> {
        let is_kept_there = self.has_store_of(config);
        let token =
            self.cached.iter().chain(&self.unsettled).find(|token| is_kept_there && token.spec.owner == *owner)?;
        Some(token.sign_in_state())
    }

    fn has_store_of(&self, config: &Config) -> bool {
        (&self.config.state_directory, &self.config.store_key) == (&config.state_directory, &config.store_key)
            && config::Fleet::are_same(self.config.fleet.as_ref(), config.fleet.as_ref())
    }

    /// Returns the sign-ins that none of these tokens continues, and whose newest refresh token is not on disk yet. A
    /// token of the same person with another store continues none.
    fn unsettled_beside(&self, cached: &[Arc<CachedToken>], config: &Config) -> Vec<Arc<CachedToken>> {
        let has_store = self.has_store_of(config);
        let goes_on = |old: &CachedToken| has_store && cached.iter().any(|new| new.spec.owner == old.spec.owner);
        let unsettled = self.cached.iter().chain(&self.unsettled).filter(|old| old.is_unsettled() && !goes_on(old));
        unsettled.take(MOST_UNSETTLED).map(Arc::clone).collect()
    }

    /// Returns the token of an account.
    pub fn of(&self, account: &str) -> Option<&Arc<CachedToken>> {
        self.by_account.get(account)
    }

    /// Returns the status of every account's token.
    pub fn statuses(&self) -> Vec<TokenStatus> {
        let cached = self.by_account.iter();
        cached.filter_map(|(name, token)| Some(token.status(name, self.config.accounts.get(name)?))).collect()
    }

    /// Fetches the first tokens now, and each next one ahead of time, until the drain. A token that has failed under the
    /// configuration before is tried again at once.
    pub fn keep_fresh(self: &Arc<Self>, lifecycle: &Lifecycle) {
        for token in &self.cached {
            token.end_pause();
            tokio::spawn(Arc::clone(token).keep_fresh(lifecycle.clone()));
        }
        for token in &self.unsettled {
            tokio::spawn(Arc::clone(token).keep_until_saved(lifecycle.clone()));
        }
    }

    /// Waits until tokens under way have arrived and are on disk, for half a minute at most. Call it last.
    pub async fn settle(&self) {
        let all = self.cached.iter().chain(&self.unsettled);
        let mut settling: JoinSet<()> = all.map(|token| Arc::clone(token).settle()).collect();
        while settling.join_next().await.is_some() {}
    }
}

/// Reads a token endpoint's answer as of `now`: an access token, or the refusal.
///
/// # Errors
/// The refusal, in words that may be shown.
pub fn read(host: &str, response: &Response, now: SystemTime) -> Result<AccessToken, Refusal> {
    let endpoint = refusal::Endpoint { host, login: Some("ACCOUNT") };
    refusal::judge(endpoint, response, now).map(AccessToken::new)
}

/// Returns the secrets and certificates that end within 30 days, or have ended, with advice.
pub fn remarks(config: &Config) -> Vec<Diagnostic> {
    let mut remarks = Vec::new();
    for (name, identity) in &config.identities {
        let (key, days, what) = match &identity.grant {
            Grant::ClientCredentials(Credential::Certificate(files)) => {
                let Ok(certificate) = certificate::describe(&files.chain) else { continue };
                (
                    "certificate",
                    i64::from(certificate.days_left),
                    format!("renew it with packetboat identity renew {name}"),
                )
            }
            Grant::ClientCredentials(Credential::Secret(file))
            | Grant::AuthorizationCode(Some(file))
            | Grant::DeviceCode(Some(file))
            | Grant::Password(Some(file)) => match days_left(file) {
                Some(days) => {
                    let advice = "make a new one in the app registration, or better a certificate";
                    ("client_secret_expires", days, advice.to_owned())
                }
                None => continue,
            },
            Grant::AuthorizationCode(None)
            | Grant::DeviceCode(None)
            | Grant::Password(None)
            | Grant::Federated(_)
            | Grant::ManagedIdentity => continue,
        };
        let when = match days {
            ..0 => "it has ended".to_owned(),
            0..=SOON => format!("it ends in {days} days"),
            _ => continue,
        };
        let message = format_args!("{when}: {what}, before devices are refused");
        remarks.push(Diagnostic::new(format!("identity.{name}.{key}"), message));
    }
    remarks
}

fn days_left(file: &SecretFile) -> Option<i64> {
    let today = unix_time() / DAY;
    Some(i64::try_from(file.expires?).unwrap_or(i64::MAX) - i64::try_from(today).unwrap_or_default())
}

/// Sign-ins of earlier configurations that wait for the disk.
const MOST_UNSETTLED: usize = 64;
/// Days before the end from which on it is reported.
const SOON: i64 = 30;
/// A day in seconds.
const DAY: u64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{self, Access};
    use std::path::Path;

    /// A renewal is under way while a reload names another store: its refresh token is still to be kept in the old one,
    /// although the same person has a token in the new one.
    #[test]
    fn a_sign_in_of_another_store_continues_none() {
        let directory = tempfile::tempdir().unwrap();
        let config = |key: &str| {
            let path = directory.path().join(key);
            state::write(&path, &[7; 32], Access::Private).unwrap();
            let text = format!(
                "state_directory = {:?}\nstore_key = {path:?}\n[identity.office]\ngrant = \"authorization-code\"\n\
                 tenant = \"t.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\n[account.a]\n\
                 mailbox = \"a@contoso.example\"\n[[device]]\nlogin = \"a\"\naccount = \"a\"\n\
                 passwords = [\"$argon2id$x\"]\n[[listener]]\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:9993\"]\n",
                directory.path().join("state")
            );
            Config::parse(&text, Path::new("x.toml")).unwrap_or_else(|problems| panic!("{problems:?}")).config
        };
        let open = |key: &str, before| {
            Tokens::open(&config(key), Mode::Apply, before, None).unwrap_or_else(|found| panic!("{found:?}"))
        };
        let before = open("one.key", None);
        let state = before.cached.first().unwrap().sign_in_state();
        let _under_way = state.flight.try_lock().unwrap();
        assert!(open("one.key", Some(&before)).unsettled.is_empty(), "the same one goes on");
        assert_eq!(open("two.key", Some(&before)).unsettled.len(), 1);
    }
}
