//! The certificates that packetboat makes are the same at all instances of a fleet: the first instance puts its CA and
//! its certificates into the database, sealed, and all others take them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use super::kept::{Kept, KeptRecords, label};
use crate::config::{Certificate, CertificateSource, Config};
use crate::crypto::Vault;
use crate::mode::Mode;
use crate::pool::{self, NotDone};
use crate::transport::downstream::certificate::{self, Made, MadePair};

/// The exchange of the certificates that packetboat makes.
pub struct FleetCertificates<'a> {
    records: &'a dyn KeptRecords,
    vault: &'a Vault,
    config: Arc<Config>,
}

/// The outcome for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The fleet has it from this instance now.
    Pushed,
    /// This instance has it from the fleet now. The one before is beside it, in this file.
    Pulled(Option<PathBuf>),
    /// This instance and the fleet have the same.
    Same,
}

/// The reason why certificates are not exchanged.
#[derive(Debug)]
pub enum CertificatesError {
    /// The database does not do what it is asked for.
    Database(Error),
    /// The files cannot be read or written.
    Files(certificate::Error),
    /// The key of the store cannot be read.
    Key(Box<dyn std::error::Error + Send + Sync>),
    /// The threads that read and write files do not answer.
    NotDone(NotDone),
    /// The value in the database does not open.
    OtherKey(String),
    /// The fleet has no such certificate yet.
    NotKept(String),
    /// The fleet has another one.
    Differs(String),
}

impl FleetCertificates<'_> {
    /// The exchange for a configuration. Certificates from the operator's own files have no part in it.
    pub fn new<'a>(records: &'a dyn KeptRecords, vault: &'a Vault, config: &Config) -> FleetCertificates<'a> {
        FleetCertificates { records, vault, config: Arc::new(config.clone()) }
    }

    /// The files to exchange, the CA first. None where all certificates are the operator's own files.
    pub fn all(config: &Config) -> Vec<Made> {
        let made = config.certificates.iter().filter(|(_, one)| is_made(one));
        let made: Vec<Made> = made.map(|(name, _)| Made::Certificate(name.clone())).collect();
        if made.is_empty() { made } else { [Made::Authority].into_iter().chain(made).collect() }
    }

    /// Takes what the fleet has; makes what nobody has, and puts it there. Of several instances that do so at a time,
    /// one puts, and the others take.
    ///
    /// # Errors
    /// The database does not answer, or files cannot be read or written.
    pub async fn settle(&self) -> Result<Vec<(Made, Settled)>, CertificatesError> {
        let mut done = Vec::new();
        for made in Self::all(&self.config) {
            let settled = self.settle_one(&made).await?;
            done.push((made, settled));
        }
        Ok(done)
    }

    async fn settle_one(&self, made: &Made) -> Result<Settled, CertificatesError> {
        loop {
            let kept = self.kept(made).await?;
            match kept {
                Some((_, pair)) if self.takes(made, &pair).await? => {
                    return self.take(made, pair).await;
                }
                // Another CA has signed it: that of this instance, which is the fleet's, signs a new one.
                Some((generation, _)) if matches!(made, Made::Certificate(_)) => {
                    let pair = self.own(made).await?;
                    if self.replace(made, generation, &pair).await? {
                        return Ok(Settled::Pushed);
                    }
                }
                Some(_) => return Err(CertificatesError::OtherKey(name(made))),
                None => {
                    let pair = self.own(made).await?;
                    let sealed = self.seal(made, &pair)?;
                    if self.records.keep_first(&name(made), &sealed).await.map_err(CertificatesError::Database)? {
                        return Ok(Settled::Pushed);
                    }
                }
            }
        }
    }

    /// Takes what the fleet has, in the place of what is here.
    ///
    /// # Errors
    /// The fleet has none, the database does not answer, or files cannot be written.
    pub async fn pull(&self) -> Result<Vec<(Made, Settled)>, CertificatesError> {
        let mut done = Vec::new();
        for made in Self::all(&self.config) {
            let Some((_, pair)) = self.kept(&made).await? else {
                return Err(CertificatesError::NotKept(name(&made)));
            };
            if !self.takes(&made, &pair).await? {
                return Err(CertificatesError::OtherKey(name(&made)));
            }
            let settled = self.take(&made, pair).await?;
            done.push((made, settled));
        }
        Ok(done)
    }

    /// Puts what is here into the database; where the fleet has another one already, only if it may be replaced.
    ///
    /// # Errors
    /// The fleet has another one, the database does not answer, or files cannot be read.
    pub async fn push(&self, may_replace: bool) -> Result<Vec<(Made, Settled)>, CertificatesError> {
        let mut done = Vec::new();
        for made in Self::all(&self.config) {
            let own = self.own(&made).await?;
            let settled = match self.kept(&made).await? {
                Some((_, pair)) if pair == own => Settled::Same,
                Some((generation, _)) if may_replace && self.replace(&made, generation, &own).await? => Settled::Pushed,
                Some(_) => return Err(CertificatesError::Differs(name(&made))),
                None => {
                    let sealed = self.seal(&made, &own)?;
                    let kept = self.records.keep_first(&name(&made), &sealed).await;
                    match kept.map_err(CertificatesError::Database)? {
                        true => Settled::Pushed,
                        false => return Err(CertificatesError::Differs(name(&made))),
                    }
                }
            };
            done.push((made, settled));
        }
        Ok(done)
    }

    /// The fleet's files, with their number.
    async fn kept(&self, made: &Made) -> Result<Option<(i64, MadePair)>, CertificatesError> {
        let name = name(made);
        let kept = self.records.kept(&name).await.map_err(CertificatesError::Database)?;
        let Some(Kept { sealed, generation }) = kept else { return Ok(None) };
        let opened = self.vault.open(&label(&name), &sealed);
        let pair = opened.and_then(|octets| MadePair::of_octets(&octets));
        pair.map(|pair| Some((generation, pair))).ok_or(CertificatesError::OtherKey(name))
    }

    async fn take(&self, made: &Made, pair: MadePair) -> Result<Settled, CertificatesError> {
        let (config, made) = (Arc::clone(&self.config), made.clone());
        on_disk(move || {
            // One that is damaged is replaced as well.
            if made.read(&config.state_directory).ok().flatten().is_some_and(|own| own == pair) {
                return Ok(Settled::Same);
            }
            made.write(&config.state_directory, &pair).map(Settled::Pulled)
        })
        .await
    }

    /// The files of this instance. Missing ones are made; a certificate that another CA has signed is made anew.
    async fn own(&self, made: &Made) -> Result<MadePair, CertificatesError> {
        let (config, made) = (Arc::clone(&self.config), made.clone());
        on_disk(move || {
            let directory = &config.state_directory;
            let of_name = match &made {
                Made::Authority => config.certificates.iter().find(|(_, one)| is_made(one)),
                Made::Certificate(name) => config.certificates.get_key_value(name),
            };
            if let Some((name, one)) = of_name {
                certificate::load(one, directory, name, Mode::Apply)?;
                let is_signed = |pair: &MadePair| made.takes(directory, pair);
                if !made.read(directory)?.as_ref().is_some_and(is_signed) && matches!(made, Made::Certificate(_)) {
                    certificate::renew(one, directory, name)?;
                }
            }
            made.read(directory)
        })
        .await?
        .ok_or_else(|| CertificatesError::NotKept(name(&Made::Authority)))
    }

    async fn takes(&self, made: &Made, pair: &MadePair) -> Result<bool, CertificatesError> {
        let (config, made, pair) = (Arc::clone(&self.config), made.clone(), pair.clone());
        on_disk(move || Ok(made.takes(&config.state_directory, &pair))).await
    }

    async fn replace(&self, made: &Made, before: i64, pair: &MadePair) -> Result<bool, CertificatesError> {
        let sealed = self.seal(made, pair)?;
        self.records.replace_kept(&name(made), before, &sealed).await.map_err(CertificatesError::Database)
    }

    fn seal(&self, made: &Made, pair: &MadePair) -> Result<Vec<u8>, CertificatesError> {
        self.vault
            .seal(&label(&name(made)), &pair.to_octets())
            .map_err(|error| CertificatesError::Database(error.into()))
    }
}

/// The name of the value in the database.
fn name(made: &Made) -> String {
    match made {
        Made::Authority => "ca".to_owned(),
        Made::Certificate(name) => format!("certificate {name}"),
    }
}

fn is_made(one: &Certificate) -> bool {
    matches!(one.source, CertificateSource::Made { .. })
}

/// Works on files and keys, on a thread for that.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, certificate::Error> + Send + 'static,
) -> Result<T, CertificatesError> {
    let done = pool::STATE.run_within(DISK, work).await;
    done.map_err(CertificatesError::NotDone)?.map_err(CertificatesError::Files)
}

impl CertificatesError {
    /// Returns whether a later attempt may succeed by itself.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Database(error) => error.is_away(),
            Self::NotDone(_) => true,
            Self::Files(_) | Self::Key(_) | Self::OtherKey(_) | Self::NotKept(_) | Self::Differs(_) => false,
        }
    }
}

impl fmt::Display for CertificatesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => error.fmt(f),
            Self::Files(error) => error.fmt(f),
            Self::Key(error) => error.fmt(f),
            Self::NotDone(why) => write!(f, "the certificates in the state directory are not read or written: {why}"),
            Self::OtherKey(name) => write!(
                f,
                "the {name} that the fleet keeps does not open, or is damaged: give all instances the same store_key, or put \
                 this instance's in its place with: packetboat certificate push --replace"
            ),
            Self::NotKept(name) => {
                write!(
                    f,
                    "the fleet does not keep the {name} yet: put this instance's there with: packetboat certificate push"
                )
            }
            Self::Differs(name) => write!(
                f,
                "the fleet keeps another {name}: take it with packetboat certificate pull, or put this instance's in its \
                 place with packetboat certificate push --replace; devices have to import a replaced CA again"
            ),
        }
    }
}

impl std::error::Error for CertificatesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Database(error) => Some(error),
            Self::Files(error) => Some(error),
            Self::Key(error) => Some(error.as_ref()),
            Self::NotDone(why) => Some(why),
            Self::OtherKey(_) | Self::NotKept(_) | Self::Differs(_) => None,
        }
    }
}

/// The longest time for files, and for a new key.
const DISK: Duration = Duration::from_secs(20);
