//! Preparing the tokens of a configuration: each account gets its token, and everything in the way is reported.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Tokens;
use super::cache::{CachedToken, SignInState, TokenSpec};
use super::error::Error;
use super::keeping::{InDirectory, InFleet, Instance, Subject};
use super::store::{Owner, Store};
use crate::config::{Account, Certificate, CertificateSource, Config, Credential, Grant, Identity, SecretFile};
use crate::crypto::SigningKey;
use crate::diagnostic::Diagnostic;
use crate::fleet::Fleet;
use crate::mode::Mode;
use crate::state;
use crate::transport::downstream::certificate::{self, Part};
use crate::transport::http::Client;

/// The tokens of a configuration while they are being prepared.
pub(super) struct Opening<'a> {
    config: &'a Config,
    mode: Mode,
    /// The tokens of the configuration before.
    before: Option<&'a Tokens>,
    /// The fleet whose database has the sign-ins; none where the state directory has them.
    fleet: Option<Arc<Fleet>>,
    /// Opened for the first token that needs it.
    store: Option<Arc<Store>>,
    by_owner: BTreeMap<Owner, Arc<CachedToken>>,
    by_account: BTreeMap<String, Arc<CachedToken>>,
    diagnostics: Vec<Diagnostic>,
}

/// The tokens of a configuration.
pub(super) struct TokenSet {
    pub(super) by_account: BTreeMap<String, Arc<CachedToken>>,
    /// Each token once.
    pub(super) all: Vec<Arc<CachedToken>>,
}

impl<'a> Opening<'a> {
    pub(super) fn new(config: &'a Config, mode: Mode, before: Option<&'a Tokens>, fleet: Option<&Arc<Fleet>>) -> Self {
        let (by_owner, by_account) = (BTreeMap::new(), BTreeMap::new());
        let fleet = fleet.map(Arc::clone);
        Self { config, mode, before, fleet, store: None, by_owner, by_account, diagnostics: Vec::new() }
    }

    /// Reads the secret or the certificate of every application.
    pub(super) fn prove_credentials(&mut self) {
        for (name, identity) in &self.config.identities {
            self.diagnostics.extend(prove_credential(name, identity));
        }
    }

    /// Takes in what keeps the tokens from being used.
    pub(super) fn report(&mut self, diagnostics: Vec<Diagnostic>) {
        self.diagnostics.extend(diagnostics);
    }

    /// Gives an account its token: one that another account has, one of the configuration before, or a new one.
    pub(super) fn add(&mut self, name: &str, account: &Account) {
        let Some(identity) = self.config.identities.get(&account.identity) else { return };
        let key = || format!("account.{name}.password_file");
        if let Some(file) = &account.password_file
            && let Err(error) = state::read_secret(file)
        {
            self.diagnostics.push(Diagnostic::new(key(), error));
        }
        let user = if identity.grant.is_of_a_person() { account.user.to_lowercase() } else { String::new() };
        let owner = Owner::new(&account.identity, &user, identity);
        if let Some(token) = self.by_owner.get(&owner) {
            if token.spec.account.password_file != account.password_file {
                let user = &account.user;
                let message = format_args!("{user} has another one in another account; one person has one password");
                self.diagnostics.push(Diagnostic::new(key(), message));
            }
            self.by_account.insert(name.to_owned(), Arc::clone(token));
            return;
        }
        let same = self.before.and_then(|before| before.same(&owner, account, self.config));
        match same.map_or_else(|| self.make(&owner, name, account, identity), Ok) {
            Ok(token) => {
                self.by_account.insert(name.to_owned(), Arc::clone(&token));
                self.by_owner.insert(owner, token);
            }
            Err(diagnostic) => self.diagnostics.push(diagnostic),
        }
    }

    /// Returns the tokens by account, and each token once.
    ///
    /// # Errors
    /// Everything that is missing or wrong.
    pub(super) fn finish(mut self) -> Result<TokenSet, Vec<Diagnostic>> {
        if self.diagnostics.is_empty() {
            return Ok(TokenSet { by_account: self.by_account, all: self.by_owner.into_values().collect() });
        }
        self.diagnostics.dedup();
        Err(self.diagnostics)
    }

    fn make(
        &mut self,
        owner: &Owner,
        name: &str,
        account: &Account,
        identity: &Identity,
    ) -> Result<Arc<CachedToken>, Diagnostic> {
        let client = Client::new(&identity.token_endpoint, &identity.roots, &self.config.limits)
            .map_err(|error| Diagnostic::new(format!("identity.{}.token_endpoint", account.identity), error))?;
        let before = self.before.and_then(|before| before.sign_in_state(owner, self.config));
        let before = before.filter(|before| before.keeper().is_some() == identity.grant.needs_login());
        let mut copied = None;
        let state = match before {
            Some(state) => state,
            None if !identity.grant.needs_login() => Arc::default(),
            None => {
                let user = &account.user;
                let subject =
                    Subject { identity: account.identity.clone(), user: user.clone(), account: name.to_owned() };
                let store = self.store()?;
                Arc::new(match &self.fleet {
                    None => SignInState::with(Arc::new(InDirectory::new(store, owner.clone(), subject))),
                    Some(fleet) => {
                        let instance = Instance { fleet, state_directory: &self.config.state_directory };
                        let opened = InFleet::open(&instance, &store, owner, subject);
                        let keeper = opened.map_err(|error| Diagnostic::new("fleet", error))?;
                        copied = keeper.copied_access();
                        SignInState::with(Arc::new(keeper))
                    }
                })
            }
        };
        let spec = TokenSpec {
            owner: owner.clone(),
            identity: identity.clone(),
            account: account.clone(),
            account_name: name.to_owned(),
            client,
        };
        Ok(Arc::new(CachedToken::new(spec, state, copied)))
    }

    fn store(&mut self) -> Result<Arc<Store>, Diagnostic> {
        if let Some(store) = &self.store {
            return Ok(Arc::clone(store));
        }
        let store = Store::open(&self.config.state_directory, self.config.store_key.as_deref(), self.mode);
        let store = Arc::new(store.map_err(|error| Diagnostic::new("store_key", error))?);
        self.store = Some(Arc::clone(&store));
        Ok(store)
    }
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
