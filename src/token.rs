//! Access tokens (RFC 6749): fetched by every grant, kept fresh before anybody has to wait, and the refresh tokens
//! behind them, which are never lost.

mod access;
mod cache;
mod enrol;
mod error;
mod json;
mod receiver;
mod refusal;
mod request;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::task::JoinSet;

use crate::config::{Account, Certificate, CertificateSource, Config, Credential, Grant, Identity, SecretFile};
use crate::crypto::SigningKey;
use crate::diagnostic::Diagnostic;
use crate::lifecycle::{Lifecycle, unix_time};
use crate::mode::Mode;
use crate::state;
use crate::transport::downstream::certificate::{self, Part};
use crate::transport::http::{Client, Response};
pub use access::AccessToken;
use cache::SignInState;
pub use cache::{CachedToken, TokenStatus};
pub use enrol::{DeviceSignIn, Enrolment, Pasted};
pub use error::{Error, StoreError};
pub use json::Claims;
use receiver::Receivers;
pub use refusal::Refusal;
use store::Owner;
pub use store::Store;

/// The tokens of all accounts.
pub struct Tokens {
    by_account: BTreeMap<String, Arc<CachedToken>>,
    /// Each once.
    cached: Vec<Arc<CachedToken>>,
    /// Those of earlier configurations whose newest refresh token the disk has not taken yet.
    unsettled: Vec<Arc<CachedToken>>,
    receivers: Receivers,
    config: Config,
}

impl Tokens {
    /// Prepares the tokens of all accounts; nothing is fetched yet. Secrets and keys are read once, to be sure of them.
    /// With [`Mode::DryRun`] nothing is written either. Tokens from before go on where nothing has changed about them.
    ///
    /// # Errors
    /// Each thing that is missing or wrong.
    pub fn open(config: &Config, mode: Mode, before: Option<&Tokens>) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let mut stores = None;
        let mut cached: BTreeMap<(String, String), Arc<CachedToken>> = BTreeMap::new();
        let mut by_account = BTreeMap::new();
        for (name, identity) in &config.identities {
            diagnostics.extend(prove_credential(name, identity));
        }
        let receivers = before.map(|before| before.receivers.clone()).unwrap_or_default();
        diagnostics.extend(receivers.diagnostics(config));
        for (name, account) in &config.accounts {
            let Some(identity) = config.identities.get(&account.identity) else { continue };
            if let Some(file) = &account.password_file
                && let Err(message) = state::read_secret(file)
            {
                diagnostics.push(Diagnostic::new(format!("account.{name}.password_file"), message));
            }
            let user = if identity.grant.is_of_a_person() { account.user.to_lowercase() } else { String::new() };
            let key = (account.identity.clone(), user);
            if let Some(token) = cached.get(&key) {
                if token.account.password_file != account.password_file {
                    let message =
                        format!("{} has another one in another account; one person has one password", account.user);
                    diagnostics.push(Diagnostic::new(format!("account.{name}.password_file"), message));
                }
                by_account.insert(name.clone(), Arc::clone(token));
                continue;
            }
            if let Some(same) = before.and_then(|before| before.same(&key, account, identity, config)) {
                by_account.insert(name.clone(), Arc::clone(&same));
                cached.insert(key, same);
                continue;
            }
            let kept = before.and_then(|before| before.kept(&key, identity, config)).unwrap_or_default();
            match token((config, mode), &key, (name, account), identity, (&mut stores, kept)) {
                Ok(token) => {
                    let token = Arc::new(token);
                    by_account.insert(name.clone(), Arc::clone(&token));
                    cached.insert(key, token);
                }
                Err(diagnostic) => diagnostics.push(diagnostic),
            }
        }
        if diagnostics.is_empty() {
            let cached: Vec<_> = cached.into_values().collect();
            let unsettled = before.map(|before| before.unsettled_beside(&cached)).unwrap_or_default();
            let receivers = receivers.and_of(config);
            Ok(Self { by_account, cached, unsettled, receivers, config: config.clone() })
        } else {
            diagnostics.dedup();
            Err(diagnostics)
        }
    }

    /// The one that is fetched in the same way, if there is one, and whose account is there still.
    fn same(
        &self,
        (identity_name, user): &(String, String),
        account: &Account,
        identity: &Identity,
        config: &Config,
    ) -> Option<Arc<CachedToken>> {
        let is_kept_there = self.config.state_directory == config.state_directory
            && self.config.store_key == config.store_key
            && self.config.limits.of_servers() == config.limits.of_servers();
        let owner = Owner::new(identity_name, user, identity);
        let same = self.cached.iter().find(|token| {
            token.owner == owner
                && token.identity == *identity
                && token.account.password_file == account.password_file
                && config.accounts.get(&token.account_name) == Some(&token.account)
        });
        same.filter(|_| is_kept_there).map(Arc::clone)
    }

    /// What is newer than the disk of a sign-in, also where it is fetched in another way from the same issuer from now on: an
    /// endpoint may take each refresh token only once.
    fn kept(
        &self,
        (identity_name, user): &(String, String),
        identity: &Identity,
        config: &Config,
    ) -> Option<Arc<SignInState>> {
        let is_kept_there =
            self.config.state_directory == config.state_directory && self.config.store_key == config.store_key;
        let owner = Owner::new(identity_name, user, identity);
        let token = self.cached.iter().chain(&self.unsettled).find(|token| is_kept_there && token.owner == owner)?;
        Some(token.sign_in_state())
    }

    /// Sign-ins that none of these goes on with, and whose newest refresh token has still to reach the disk.
    fn unsettled_beside(&self, cached: &[Arc<CachedToken>]) -> Vec<Arc<CachedToken>> {
        let goes_on = |old: &CachedToken| cached.iter().any(|new| new.owner == old.owner);
        let unsettled = self.cached.iter().chain(&self.unsettled).filter(|old| old.is_unsettled() && !goes_on(old));
        unsettled.take(MOST_UNSETTLED).map(Arc::clone).collect()
    }

    /// The token of an account.
    pub fn of(&self, account: &str) -> Option<&Arc<CachedToken>> {
        self.by_account.get(account)
    }

    /// How the tokens of all accounts are doing.
    pub fn statuses(&self) -> Vec<TokenStatus> {
        let cached = self.by_account.iter();
        cached.filter_map(|(name, token)| Some(token.status(name, self.config.accounts.get(name)?))).collect()
    }

    /// Fetches the first ones now, and each next one ahead of time, until the drain.
    pub fn keep_fresh(self: &Arc<Self>, lifecycle: &Lifecycle) {
        for token in &self.cached {
            tokio::spawn(Arc::clone(token).keep_fresh(lifecycle.clone()));
        }
        for token in &self.unsettled {
            tokio::spawn(Arc::clone(token).keep_until_saved(lifecycle.clone()));
        }
    }

    /// Waits until what is on its way has arrived and is on disk, for half a minute at most: call it last.
    pub async fn settle(&self) {
        let all = self.cached.iter().chain(&self.unsettled);
        let mut settling: JoinSet<()> = all.map(|token| Arc::clone(token).settle()).collect();
        while settling.join_next().await.is_some() {}
    }
}

/// What an answer of a token endpoint comes to, `now`: an access token, or why there is none, in words that may be shown.
///
/// # Errors
/// Those words.
pub fn read(host: &str, response: &Response, now: SystemTime) -> Result<AccessToken, Refusal> {
    let endpoint = refusal::Endpoint { host, login: Some("ACCOUNT") };
    refusal::judge(endpoint, response, now).map(AccessToken::new)
}

/// Secrets and certificates that end within 30 days, or have ended: key and advice.
pub fn remarks(config: &Config) -> Vec<Diagnostic> {
    let mut remarks = Vec::new();
    for (name, identity) in &config.identities {
        let (key, days, what) = match &identity.grant {
            Grant::ClientCredentials(Credential::Certificate(files)) => {
                let Ok(certificate) = certificate::describe(&files.chain) else { continue };
                ("certificate", i64::from(certificate.days_left), "upload a new one to the app registration")
            }
            Grant::ClientCredentials(Credential::Secret(file))
            | Grant::AuthorizationCode(Some(file))
            | Grant::DeviceCode(Some(file))
            | Grant::Password(Some(file)) => match days_left(file) {
                Some(days) => {
                    ("client_secret_expires", days, "make a new one in the app registration, or better a certificate")
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

fn token(
    (config, mode): (&Config, Mode),
    (identity_name, user): &(String, String),
    (name, account): (&String, &Account),
    identity: &Identity,
    (store, kept): (&mut Option<Arc<Store>>, Arc<SignInState>),
) -> Result<CachedToken, Diagnostic> {
    let client = Client::new(&identity.token_endpoint, &identity.roots, &config.limits)
        .map_err(|message| Diagnostic::new(format!("identity.{identity_name}.token_endpoint"), message))?;
    let store = match (identity.grant.needs_login(), store.as_ref()) {
        (false, _) => None,
        (true, Some(store)) => Some(Arc::clone(store)),
        (true, None) => {
            let opened = Store::open(&config.state_directory, config.store_key.as_deref(), mode);
            let opened = Arc::new(opened.map_err(|message| Diagnostic::new("store_key", message))?);
            *store = Some(Arc::clone(&opened));
            Some(opened)
        }
    };
    let owner = Owner::new(identity_name, user, identity);
    Ok(CachedToken::new(owner, identity.clone(), (name.clone(), account.clone()), client, store, kept))
}

/// Reads what an application proves itself with.
fn prove_credential(name: &str, identity: &Identity) -> Vec<Diagnostic> {
    let secret = |file: &SecretFile| match state::read_secret(&file.path) {
        Ok(_) => Vec::new(),
        Err(message) => vec![Diagnostic::new(format!("identity.{name}.client_secret_file"), message)],
    };
    match &identity.grant {
        Grant::ClientCredentials(Credential::Secret(file))
        | Grant::AuthorizationCode(Some(file))
        | Grant::DeviceCode(Some(file))
        | Grant::Password(Some(file)) => secret(file),
        Grant::ClientCredentials(Credential::Certificate(files)) => {
            let key = state::read_private_pem(&files.key).map_err(Error::from).and_then(|pem| {
                SigningKey::from_pem(&pem).map_err(|source| Error::Key { path: files.key.clone(), source })
            });
            if let Err(message) = key {
                return vec![Diagnostic::new(format!("identity.{name}.key"), message)];
            }
            let source = CertificateSource::Files(files.clone());
            match certificate::load(&Certificate { source, ecdsa: None }, "".as_ref(), name, Mode::DryRun) {
                Ok(_) => Vec::new(),
                Err(error) => {
                    let key = if error.part() == Part::Key { "key" } else { "certificate" };
                    vec![Diagnostic::new(format!("identity.{name}.{key}"), error)]
                }
            }
        }
        Grant::AuthorizationCode(None)
        | Grant::DeviceCode(None)
        | Grant::Password(None)
        // Another program writes it, perhaps after us.
        | Grant::Federated(_)
        | Grant::ManagedIdentity => Vec::new(),
    }
}

/// Sign-ins of earlier configurations that wait for the disk.
const MOST_UNSETTLED: usize = 64;
/// Days before the end from which on it is told.
const SOON: i64 = 30;
/// In seconds.
const DAY: u64 = 24 * 60 * 60;
