//! A sign-in in the database of a fleet: renewed by lease, so that all instances together spend each refresh token once.
//! Each instance has a sealed copy, from which it serves while the database is away.

mod earlier;
mod means;
mod newest;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::copy::{CopyFile, EXTENSION};
use super::{AGAIN, Asking, Keeper, Look, Mark, StoreKind, Subject, Task};
use crate::config::Rotation;
use crate::crypto::jitter;
use crate::fleet::lease::{Known, LeasedSignIn, NotRenewed, is_signed_out};
use crate::fleet::{Fleet, SignInKey};
use crate::lifecycle::unix_time;
use crate::mode::Mode;
use crate::pool::{self, Gate};
use crate::secret::Secret;
use crate::state;
use crate::token::access::AccessToken;
use crate::token::error::{Error, StoreError};
use crate::token::json::StoredSignIn;
use crate::token::store::{Owner, Store};
use earlier::Earlier;
use means::Means;
pub(in crate::token) use newest::FoundSignIn;

/// A sign-in in the database of a fleet.
pub(in crate::token) struct InFleet {
    sign_in: LeasedSignIn,
    copy: CopyFile,
    subject: Subject,
    /// The sign-in of this computer alone, which a fleet does not use.
    earlier: Earlier,
    state: Mutex<State>,
    ending: watch::Sender<bool>,
    /// Changes when the database comes back, perhaps with earlier records.
    returns: tokio::sync::Mutex<watch::Receiver<u64>>,
    /// Changes when a person has signed out.
    signed_out: tokio::sync::Mutex<watch::Receiver<HashMap<SignInKey, i64>>>,
}

#[derive(Default)]
struct State {
    /// The last failure of the database, and the time of the next try to deliver to it.
    trouble: Option<(String, Instant)>,
    /// The last failure to write the copy.
    unkept: Option<String>,
    renewed: Option<Instant>,
    /// The last time that the database was asked for a mark.
    looked: Option<Instant>,
}

/// This process as an instance, with its disk.
pub(in crate::token) struct Instance<'a> {
    pub(in crate::token) fleet: &'a Fleet,
    pub(in crate::token) state_directory: &'a Path,
}

impl InFleet {
    /// The sign-in of this owner. Its copy is read.
    ///
    /// # Errors
    /// The copy is open to others, or does not open: the instance that serves sets it aside, unless that fails.
    pub(in crate::token) fn open(
        instance: &Instance<'_>,
        store: &Arc<Store>,
        owner: &Owner,
        subject: Subject,
    ) -> Result<Self, Error> {
        let directory = instance.state_directory.join(DIRECTORY);
        if store.mode() == Mode::Apply {
            state::make_directory(&directory)?;
        }
        let name = store.path(owner).with_extension(EXTENSION);
        let path = directory.join(name.file_name().unwrap_or_default());
        let copy = CopyFile::new(path, store.vault(), &owner.label(), store.mode());
        let copied = if instance.fleet.serves() { copy.read_or_set_aside(&subject) } else { copy.read_only() }?;
        let (known, origin) = copied.map(|copied| (copied.known, copied.origin)).unzip();
        let renewed = known.as_ref().and_then(|known| age(&known.record));
        // A record that the last process did not get to the database goes there at once.
        let unsent = known.as_ref().is_some_and(|known| known.unsent.is_some());
        let trouble = unsent.then(|| (crate::fleet::Error::Unsent.to_string(), Instant::now()));
        let (identity, person, issuer) = owner.parts();
        let key = SignInKey { identity, person, issuer };
        let mut signed_out = instance.fleet.signed_out();
        // What is known already counts as well.
        signed_out.mark_changed();
        let (records, holder) = (Arc::clone(instance.fleet.records()) as _, &instance.fleet.instance().id);
        Ok(Self {
            sign_in: LeasedSignIn::new(records, holder, key, store.vault(), known).with_origin(origin.flatten()),
            copy,
            subject,
            earlier: Earlier::new(store, owner),
            state: Mutex::new(State { renewed, trouble, ..State::default() }),
            ending: watch::Sender::new(false),
            returns: tokio::sync::Mutex::new(instance.fleet.returns()),
            signed_out: tokio::sync::Mutex::new(signed_out),
        })
    }

    /// Returns the access token of the copy, where it lives still.
    pub(in crate::token) fn copied_access(&self) -> Option<AccessToken> {
        let access = self.sign_in.known()?.access?;
        (access.until > Instant::now()).then(|| AccessToken::copied(access.token, access.life, access.until))
    }

    /// Renews without the database, where the endpoint lets earlier refresh tokens live and the present access token
    /// does not serve for much longer.
    async fn renew_alone(&self, means: &Means<'_>, database: crate::fleet::Error) -> Result<(), Error> {
        let away = Err(Error::Fleet(database));
        if means.asking.can_wait() || means.asking.rotation() == Rotation::Strict {
            return away;
        }
        match self.sign_in.renew_alone(means).await {
            Ok(()) => {
                debug!(
                    identity = self.subject.identity,
                    user = self.subject.user,
                    "renewed without the fleet's database, which gets the new refresh token later"
                );
                Ok(())
            }
            Err(NotRenewed::Denied(error)) => Err(error),
            Err(_) => away,
        }
    }

    /// Returns that the database has just failed, where a renewal without it is as good: a device shall not wait for the
    /// same failure again.
    fn recent_trouble(&self, asking: &dyn Asking) -> Option<crate::fleet::Error> {
        let is_recent = self.again().is_some_and(|again| again > Instant::now());
        let serves = asking.rotation() == Rotation::Lenient && !asking.can_wait() && self.sign_in.known().is_some();
        (is_recent && serves).then_some(crate::fleet::Error::Unsent)
    }

    /// Takes note of the database's answer, or of its silence. The log names each change once.
    fn note(&self, trouble: Option<&crate::fleet::Error>) {
        let text = trouble.map(ToString::to_string);
        let again = Instant::now() + AGAIN.mul_f64(jitter(0.8, 1.2));
        let before = std::mem::replace(&mut self.state.lock().trouble, text.clone().map(|text| (text, again)));
        let Subject { identity, user, .. } = &self.subject;
        match (text, before) {
            (Some(text), before) if before.as_ref().is_none_or(|(before, _)| *before != text) => {
                warn!(
                    identity,
                    user,
                    "this instance goes on without the fleet's database, with what it knows of the sign-in: {text}"
                );
            }
            (None, Some(_)) => info!(identity, user, "the fleet's database has the sign-in again"),
            _ => {}
        }
    }
}

impl Keeper for InFleet {
    fn renew<'a>(&'a self, asking: &'a dyn Asking) -> Task<'a, Result<(), Error>> {
        Box::pin(async move {
            let means = Means { keeper: self, asking };
            if let Some(error) = self.recent_trouble(asking) {
                return self.renew_alone(&means, error).await;
            }
            let renewed = self.sign_in.renew(&means).await;
            match renewed {
                Err(NotRenewed::Database(error)) => {
                    self.note(Some(&error));
                    self.renew_alone(&means, error).await
                }
                renewed => {
                    // A commit that failed is tried again, and is the database's trouble until then.
                    let unsent = self.sign_in.is_unsent().then_some(crate::fleet::Error::Unsent);
                    self.note(unsent.as_ref());
                    renewed.map_err(|why| self.reason(why))
                }
            }
        })
    }

    fn put(&self, record: StoredSignIn) -> Task<'_, Result<(), Error>> {
        Box::pin(async move {
            let record = to_octets(&record)?;
            let known = self.sign_in.put(&record, now()).await.map_err(Error::Fleet)?;
            self.state.lock().renewed = Some(Instant::now());
            self.write_copy(known).await;
            Ok(())
        })
    }

    fn remove(&self) -> Task<'_, Result<bool, Error>> {
        Box::pin(async move {
            let was_there = match self.read().await {
                Err(error @ Error::Fleet(_)) => return Err(error),
                read => !matches!(read, Ok(None)) || self.earlier.is_there(),
            };
            // Also where the database has none: an instance may have a copy.
            let known = self.sign_in.sign_out(now()).await.map_err(Error::Fleet)?;
            self.write_copy(known).await;
            Ok(was_there)
        })
    }

    fn read(&self) -> Task<'_, Result<Option<StoredSignIn>, Error>> {
        Box::pin(async move {
            let Some(record) = self.sign_in.read().await.map_err(Error::Fleet)? else { return Ok(None) };
            if record.as_ref().is_some_and(is_signed_out) {
                return Ok(None);
            }
            let record = record.and_then(|record| StoredSignIn::from_json(record.expose()));
            record.map(Some).ok_or(Error::Store(StoreError::OtherFleetKey))
        })
    }

    fn mark(&self, look: Look) -> Task<'_, Option<Mark>> {
        Box::pin(async move {
            if look == Look::Known {
                return Some(Mark::Generation(self.sign_in.known().map(|known| known.generation)));
            }
            {
                let mut state = self.state.lock();
                if state.looked.is_some_and(|looked| looked.elapsed() < BETWEEN_LOOKS) {
                    return None;
                }
                state.looked = Some(Instant::now());
            }
            self.sign_in.generation().await.ok().map(Mark::Generation)
        })
    }

    fn look<'a>(&'a self, asking: &'a dyn Asking) -> Task<'a, ()> {
        Box::pin(async move {
            let delivered = self.sign_in.deliver_in_time(&Means { keeper: self, asking }).await;
            self.note(delivered.err().as_ref());
        })
    }

    fn returned(&self) -> Task<'_, ()> {
        Box::pin(async move {
            let (mut returns, mut signed_out) = (self.returns.lock().await, self.signed_out.lock().await);
            let ended = tokio::select! {
                changed = returns.changed() => changed.is_err(),
                ended = self.signs_out(&mut signed_out) => ended,
            };
            if ended {
                std::future::pending::<()>().await;
            }
        })
    }

    fn is_signed_out(&self) -> bool {
        self.sign_in.is_signed_out()
    }

    fn keep_unsaved<'a>(&'a self, asking: &'a dyn Asking) -> Task<'a, ()> {
        Box::pin(async move {
            if self.state.lock().trouble.is_none() && !self.sign_in.is_unsent() {
                return;
            }
            let means = Means { keeper: self, asking };
            match self.sign_in.deliver_in_time(&means).await {
                Ok(_) if !self.sign_in.is_unsent() => self.note(None),
                Ok(_) => self.note(Some(&crate::fleet::Error::Unsent)),
                Err(error) => self.note(Some(&error)),
            }
        })
    }

    fn again(&self) -> Option<Instant> {
        self.state.lock().trouble.as_ref().map(|(_, again)| *again)
    }

    fn unkept(&self) -> Option<String> {
        self.state.lock().unkept.clone().filter(|_| self.sign_in.is_unsent())
    }

    fn is_unsaved(&self) -> bool {
        self.unkept().is_some()
    }

    fn trouble(&self) -> Option<String> {
        self.state.lock().trouble.as_ref().map(|(why, _)| why.clone())
    }

    fn renewed(&self) -> Option<Instant> {
        self.state.lock().renewed
    }

    fn end(&self) {
        self.ending.send_replace(true);
    }

    fn kind(&self) -> StoreKind {
        StoreKind::Fleet
    }
}

impl InFleet {
    /// Returns once the person has signed out by a record that is not older than the one that this process knows; true
    /// where the fleet has ended. A renewal may have learnt the record just after it had handed over its token.
    async fn signs_out(&self, all: &mut watch::Receiver<HashMap<SignInKey, i64>>) -> bool {
        while all.changed().await.is_ok() {
            let signed_out = all.borrow_and_update().get(self.sign_in.key()).copied();
            let known = self.sign_in.known().map(|known| known.generation);
            if signed_out.is_some() && signed_out >= known {
                return false;
            }
        }
        true
    }

    fn reason(&self, why: NotRenewed<Error>) -> Error {
        match why {
            NotRenewed::Missing if self.earlier.is_there() => self.subject.missing(
                "has signed in on this computer alone, and not in the fleet: run packetboat fleet import, or sign in \
                 again",
            ),
            NotRenewed::Missing => self.subject.missing("has not signed in to the fleet yet"),
            NotRenewed::SignedOut => self.subject.missing("has signed out of the fleet"),
            NotRenewed::Held => Error::Held,
            NotRenewed::Paused { left, trouble } => Error::Paused { left, trouble },
            NotRenewed::Denied(error) => error,
            NotRenewed::OtherKey => Error::Store(StoreError::OtherFleetKey),
            NotRenewed::Database(error) => Error::Fleet(error),
        }
    }

    async fn write_copy(&self, known: Known) {
        if is_signed_out(&known.record) {
            self.earlier.remove(&self.subject).await;
        }
        let (copy, renewed, origin) = (self.copy.clone(), age(&known.record), self.sign_in.origin());
        let directory = copy.path().parent().map(|path| path.display().to_string()).unwrap_or_default();
        let written = pool::STATE.run_alone(&Gate::of(&directory), DISK, move || copy.write(&known, origin)).await;
        let failed = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(why) => Some(state::Error::from(why).to_string()),
        };
        let mut state = self.state.lock();
        state.renewed = renewed.or(state.renewed);
        let before = std::mem::replace(&mut state.unkept, failed.clone());
        drop(state);
        if let Some(why) = failed.filter(|why| before.as_ref() != Some(why)) {
            error!(
                identity = self.subject.identity,
                user = self.subject.user,
                "the copy of the sign-in cannot be kept on this computer, and is in the fleet's database alone: {why}"
            );
        }
    }
}

fn to_octets(record: &StoredSignIn) -> Result<Secret, Error> {
    let json = record.to_json().ok_or(StoreError::NoText)?;
    Ok(Secret::new(json.to_vec()))
}

/// The time in seconds since 1970.
fn now() -> i64 {
    i64::try_from(unix_time()).unwrap_or_default()
}

/// The time when the refresh token of this record came.
fn age(record: &Secret) -> Option<Instant> {
    let record = StoredSignIn::from_json(record.expose())?;
    Instant::now().checked_sub(Duration::from_secs(unix_time().saturating_sub(record.renewed)))
}

const DIRECTORY: &str = "fleet";
/// Longest wait for the disk.
const DISK: Duration = Duration::from_secs(5);
/// The shortest time between two looks for a new sign-in, however many devices ask.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
