//! The copy of a fleet's sign-in on this computer: what the instance knows, sealed. It serves while the database is
//! away, and has what the database does not have yet.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::error;

use super::Subject;
use crate::crypto::Vault;
use crate::fleet::Origin;
use crate::fleet::lease::{Access, Base, Known};
use crate::lifecycle::unix_time;
use crate::mode::Mode;
use crate::state;
use crate::token::error::{Error, StoreError};
use crate::token::json::{CopiedAccess, CopiedSignIn};

/// The file of one sign-in.
#[derive(Clone)]
pub(super) struct CopyFile {
    path: PathBuf,
    vault: Arc<Vault>,
    label: Vec<u8>,
    mode: Mode,
}

/// The content of a copy.
pub(super) struct Copied {
    pub(super) known: Known,
    /// The server and the tables that had answered last.
    pub(super) origin: Option<Origin>,
}

impl CopyFile {
    /// The file with this name, sealed with this label; [`Mode::DryRun`] writes nothing.
    pub(super) fn new(path: PathBuf, vault: Arc<Vault>, label: &[u8], mode: Mode) -> Self {
        Self { path, vault, label: [b"packetboat fleet copy 1\0", label].concat(), mode }
    }

    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Reads the copy; none where there is none.
    fn read(&self) -> Result<Option<Copied>, Error> {
        let sealed = match state::read_own(&self.path) {
            Ok(sealed) => sealed,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let opened = sealed.strip_prefix(MAGIC).and_then(|sealed| self.vault.open(&self.label, sealed));
        let copied = opened.and_then(|json| CopiedSignIn::from_json(&json));
        let copied = copied.ok_or_else(|| StoreError::OtherKey(self.path.clone()))?;
        let access = copied.access.and_then(|access| {
            let left = Duration::from_secs(access.until.checked_sub(unix_time())?);
            let life = Duration::from_millis(access.life);
            // A clock that was set back shall not lengthen a life.
            Some(Access { token: access.token, life, until: Instant::now() + left.min(life) })
        });
        let unsent = copied.base.map(|(generation, epoch)| Base { generation, epoch });
        let known = Known { generation: copied.generation, record: copied.record, access, unsent };
        Ok(Some(Copied { known, origin: copied.origin.map(Origin) }))
    }

    /// The same for a command. It leaves alone what it cannot open: the running instance may have another key.
    pub(super) fn read_only(&self) -> Result<Option<Copied>, Error> {
        self.read().map_err(|error| match error {
            Error::Store(StoreError::OtherKey(path)) => StoreError::OtherCopyKey(path).into(),
            error => error,
        })
    }

    /// Reads the copy. One that does not open, because the key or the file is another one, stays beside it under another
    /// name: it may have a refresh token that nobody else has.
    pub(super) fn read_or_set_aside(&self, subject: &Subject) -> Result<Option<Copied>, Error> {
        match self.read() {
            Err(Error::Store(StoreError::OtherKey(_))) if self.mode == Mode::Apply => {
                let aside = self.path.with_extension(format!("{EXTENSION}.unopened-{}", unix_time()));
                state::rename(&self.path, &aside)?;
                error!(
                    identity = subject.identity,
                    user = subject.user,
                    "the copy of the sign-in on this computer does not open: it was sealed with another store_key, or is \
                     damaged. This instance takes the sign-in from the fleet's database. The copy is now {aside}, because \
                     it may have a refresh token that the database lacks: if devices of this person are not served, put \
                     the earlier store_key back, rename the file to {path} and restart packetboat, or sign in again with \
                     packetboat login {account}; otherwise delete the file",
                    aside = aside.display(),
                    path = self.path.display(),
                    account = subject.account,
                );
                Ok(None)
            }
            read => read,
        }
    }

    /// Writes the copy, and returns once it is on the disk.
    pub(super) fn write(&self, known: &Known, origin: Option<Origin>) -> Result<(), Error> {
        if self.mode == Mode::DryRun {
            return Ok(());
        }
        let access = known.access.as_ref().map(|access| CopiedAccess {
            token: access.token.clone(),
            life: u64::try_from(access.life.as_millis()).unwrap_or(u64::MAX),
            until: unix_time() + access.until.saturating_duration_since(Instant::now()).as_secs(),
        });
        let copied = CopiedSignIn {
            generation: known.generation,
            record: known.record.clone(),
            access,
            base: known.unsent.map(|base| (base.generation, base.epoch)),
            origin: origin.map(|Origin(origin)| origin),
        };
        let json = copied.to_json().ok_or(StoreError::NoText)?;
        let sealed = self.vault.seal(&self.label, &json)?;
        Ok(state::write(&self.path, &[MAGIC, &sealed].concat(), state::Access::Private)?)
    }
}

/// The extension of a copy's file.
pub(super) const EXTENSION: &str = "copy";
const MAGIC: &[u8] = b"packetboat fleet 1\n";
