//! The files that a token request is made from: read, and signed with, on a thread of the pool, because they may lie on
//! a network file system that hangs.

use std::path::PathBuf;
use std::time::Duration;

use super::{CachedToken, Stamps};
use crate::config::{Account, Credential, Grant, Identity};
use crate::pool::{self, Gate};
use crate::secret::Secret;
use crate::state;
use crate::token::error::Error;
use crate::token::keeping::Look;
use crate::token::request;
use crate::transport::http::Request;

impl CachedToken {
    /// Builds the request to the endpoint.
    pub(super) async fn request(&self, refresh_token: Option<Secret>) -> Result<Request, Error> {
        self.request_by(move |identity, account| request::token(identity, account, refresh_token.as_ref())).await
    }

    /// Builds a request that may need this token's files.
    pub(in crate::token) async fn request_by(
        &self,
        make: impl FnOnce(&Identity, &Account) -> Result<Request, Error> + Send + 'static,
    ) -> Result<Request, Error> {
        let (identity, account) = (self.spec.identity.clone(), self.spec.account.clone());
        let make = move || make(&identity, &account);
        match pool::FILES.run_alone(&gate_of(&self.named_files()), PATIENCE, make).await {
            Ok(made) => made,
            Err(why) => {
                let files: Vec<String> = self.named_files().iter().map(|path| path.display().to_string()).collect();
                Err(Error::NotRead { files: files.join(", "), source: why })
            }
        }
    }

    /// Returns the state of the sign-in and of all files that a request is made from; none while a file system or the
    /// fleet's database does not answer.
    pub(super) async fn stamps(&self, look: Look) -> Option<Stamps> {
        let sign_in = match self.keeper() {
            Some(keeper) => Some(keeper.mark(look).await?),
            None => None,
        };
        let mut stamps = Stamps { sign_in, files: Vec::new() };
        let files = self.named_files();
        if !files.is_empty() {
            let gate = gate_of(&files);
            let named = move || files.iter().map(|path| state::stamp(path)).collect::<Vec<_>>();
            stamps.files.extend(pool::FILES.run_alone(&gate, PATIENCE, named).await.ok()?);
        }
        Some(stamps)
    }

    /// Returns the files that the configuration names for this token.
    fn named_files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self.spec.account.password_file.iter().map(PathBuf::clone).collect();
        match &self.spec.identity.grant {
            Grant::ClientCredentials(Credential::Certificate(pair)) => {
                files.extend([pair.chain.clone(), pair.key.clone()]);
            }
            Grant::Federated(file) => files.push(file.clone()),
            grant => files.extend(grant.client_secret().map(|file| file.path.clone())),
        }
        files
    }
}

/// Returns the gate of the files' directories: a file system that hangs holds one thread only.
fn gate_of(files: &[PathBuf]) -> Gate {
    let mut directories: Vec<String> =
        files.iter().filter_map(|path| Some(path.parent()?.display().to_string())).collect();
    directories.sort();
    directories.dedup();
    Gate::of(&directories.join(":"))
}

/// Longest wait for a file: local ones take microseconds, and a network file system that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(5);
