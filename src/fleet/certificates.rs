//! The certificates that packetboat makes are the same at all instances of a fleet: the first instance puts its CA and
//! its certificates into the database, sealed, and all others take them.

mod generations;

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
use generations::Generations;

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
    /// The fleet has an earlier one than this instance.
    Earlier(String),
    /// The database neither shows the value nor takes one.
    NotTaken(String),
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
        for _ in 0..ROUNDS {
            let highest = self.highest(made).await?;
            let Some(kept) = self.kept(made).await? else {
                let pair = self.own(made).await?;
                if self.keep_first(made, highest.unwrap_or(FIRST), &pair).await? {
                    return Ok(Settled::Pushed);
                }
                continue;
            };
            let pair = self.open(made, &kept).ok_or_else(|| CertificatesError::OtherKey(name(made)))?;
            let is_earlier = highest.is_some_and(|highest| kept.generation < highest);
            let is_renewed = highest == Some(kept.generation) && self.has_renewed(made, &pair).await?;
            if !is_earlier && !is_renewed && self.takes(made, &pair).await? {
                return self.take(made, pair, kept.generation).await;
            }
            // An earlier one was put back, by a backup or by somebody; this instance has renewed it; or another CA has
            // signed it: that of this instance, which is the fleet's, signs a new one.
            if !is_earlier && *made == Made::Authority {
                return Err(CertificatesError::OtherKey(name(made)));
            }
            let own = self.own(made).await?;
            if self.replace(made, &kept, highest, &own).await? {
                return Ok(Settled::Pushed);
            }
        }
        Err(CertificatesError::NotTaken(name(made)))
    }

    /// Takes what the fleet has, in the place of what is here.
    ///
    /// # Errors
    /// The fleet has none or an earlier one, the database does not answer, or files cannot be written.
    pub async fn pull(&self) -> Result<Vec<(Made, Settled)>, CertificatesError> {
        let mut done = Vec::new();
        for made in Self::all(&self.config) {
            let name = name(&made);
            let Some(kept) = self.kept(&made).await? else { return Err(CertificatesError::NotKept(name)) };
            let pair = self.open(&made, &kept);
            let Some(pair) = pair else { return Err(CertificatesError::OtherKey(name)) };
            if !self.takes(&made, &pair).await? {
                return Err(CertificatesError::OtherKey(name));
            }
            if self.highest(&made).await?.is_some_and(|highest| kept.generation < highest) {
                return Err(CertificatesError::Earlier(name));
            }
            let settled = self.take(&made, pair, kept.generation).await?;
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
            let settled = self.push_one(&made, may_replace).await?;
            done.push((made, settled));
        }
        Ok(done)
    }

    /// Puts a certificate that this instance has just renewed into the database, once the fleet's CA has signed it.
    ///
    /// # Errors
    /// The database does not answer, or files cannot be read.
    pub async fn push_renewed(&self, certificate: &str) -> Result<Vec<(Made, Settled)>, CertificatesError> {
        let made = Made::Certificate(certificate.to_owned());
        let authority = self.settle_one(&Made::Authority).await?;
        let settled = self.push_one(&made, true).await?;
        Ok(vec![(Made::Authority, authority), (made, settled)])
    }

    async fn push_one(&self, made: &Made, may_replace: bool) -> Result<Settled, CertificatesError> {
        let (own, highest) = (self.own(made).await?, self.highest(made).await?);
        let Some(kept) = self.kept(made).await? else {
            return match self.keep_first(made, highest.unwrap_or(FIRST), &own).await? {
                true => Ok(Settled::Pushed),
                false => Err(CertificatesError::Differs(name(made))),
            };
        };
        match self.open(made, &kept) {
            Some(pair) if pair == own && highest.is_none_or(|highest| kept.generation >= highest) => Ok(Settled::Same),
            _ if may_replace && self.replace(made, &kept, highest, &own).await? => Ok(Settled::Pushed),
            Some(_) => Err(CertificatesError::Differs(name(made))),
            None => Err(CertificatesError::OtherKey(name(made))),
        }
    }

    /// The fleet's files, sealed.
    async fn kept(&self, made: &Made) -> Result<Option<Kept>, CertificatesError> {
        self.records.kept(&name(made)).await.map_err(CertificatesError::Database)
    }

    fn open(&self, made: &Made, kept: &Kept) -> Option<MadePair> {
        let opened = self.vault.open(&label(&name(made), kept.generation), &kept.sealed)?;
        MadePair::of_octets(&opened)
    }

    /// The highest generation that this instance has had in common with the fleet.
    async fn highest(&self, made: &Made) -> Result<Option<i64>, CertificatesError> {
        let (config, name) = (Arc::clone(&self.config), name(made));
        on_disk(move || Ok(Generations::read(&config.state_directory)?.of(&name))).await
    }

    /// Returns whether this instance has renewed the certificate, while the fleet has kept the one that it had: the
    /// database was away.
    async fn has_renewed(&self, made: &Made, pair: &MadePair) -> Result<bool, CertificatesError> {
        if *made == Made::Authority {
            return Ok(false);
        }
        let (config, made, pair) = (Arc::clone(&self.config), made.clone(), pair.clone());
        on_disk(move || {
            // One that is damaged is replaced.
            let own = made.read(&config.state_directory).ok().flatten();
            Ok(own.is_some_and(|own| own != pair && made.takes(&config.state_directory, &own)))
        })
        .await
    }

    async fn take(&self, made: &Made, pair: MadePair, generation: i64) -> Result<Settled, CertificatesError> {
        let (config, made, name) = (Arc::clone(&self.config), made.clone(), name(made));
        on_disk(move || {
            // One that is damaged is replaced as well.
            let settled = match made.read(&config.state_directory).ok().flatten().is_some_and(|own| own == pair) {
                true => Settled::Same,
                false => made.write(&config.state_directory, &pair).map(Settled::Pulled)?,
            };
            Generations::note(&config.state_directory, &name, generation)?;
            Ok(settled)
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

    async fn keep_first(&self, made: &Made, generation: i64, pair: &MadePair) -> Result<bool, CertificatesError> {
        let (name, value) = (name(made), self.seal(made, generation, pair)?);
        let is_done = self.records.keep_first(&name, &value).await.map_err(CertificatesError::Database)?;
        if is_done {
            self.note(made, generation).await?;
        }
        Ok(is_done)
    }

    /// Puts a pair in the place of what the fleet keeps, behind all generations that are known.
    async fn replace(
        &self,
        made: &Made,
        before: &Kept,
        highest: Option<i64>,
        pair: &MadePair,
    ) -> Result<bool, CertificatesError> {
        let name = name(made);
        // Numbers that have no next one were written by no packetboat.
        let last = highest.max(Some(before.generation).filter(|one| *one < i64::MAX)).unwrap_or(FIRST);
        let generation = last.checked_add(1).ok_or_else(|| CertificatesError::OtherKey(name.clone()))?;
        let value = self.seal(made, generation, pair)?;
        let is_done = self.records.replace_kept(&name, before.generation, &value).await;
        let is_done = is_done.map_err(CertificatesError::Database)?;
        if is_done {
            self.note(made, generation).await?;
        }
        Ok(is_done)
    }

    async fn note(&self, made: &Made, generation: i64) -> Result<(), CertificatesError> {
        let (config, name) = (Arc::clone(&self.config), name(made));
        on_disk(move || Ok(Generations::note(&config.state_directory, &name, generation)?)).await
    }

    fn seal(&self, made: &Made, generation: i64, pair: &MadePair) -> Result<Kept, CertificatesError> {
        let sealed = self.vault.seal(&label(&name(made), generation), &pair.to_octets());
        let sealed = sealed.map_err(|error| CertificatesError::Database(error.into()))?;
        Ok(Kept { sealed, generation })
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
            Self::Files(_) | Self::Key(_) | Self::OtherKey(_) | Self::NotKept(_) => false,
            Self::Differs(_) | Self::Earlier(_) | Self::NotTaken(_) => false,
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
            Self::Earlier(name) => write!(
                f,
                "the fleet's database has an earlier {name} than this instance: a backup was restored, or somebody has put \
                 it back; put this instance's there with: packetboat certificate push --replace"
            ),
            Self::NotTaken(name) => write!(
                f,
                "the database neither shows the {name} nor takes it: let the user of fleet.database read and write all rows \
                 of the table packetboat.kept, without row-level security"
            ),
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
            Self::Earlier(_) | Self::NotTaken(_) => None,
        }
    }
}

/// The generation of the first value.
const FIRST: i64 = 1;
/// Tries until an instance gives up; each further one means that another instance was faster.
const ROUNDS: usize = 8;
/// The longest time for files, and for a new key.
const DISK: Duration = Duration::from_secs(20);
