//! Instances that end or freeze at a step.

use std::future::pending;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, sleep};

use super::{End, FIRST, FREEZE, LIFE, PAUSE, Rotation, State, World, key, number, octets_of, record, vault};
use crate::crypto::Vault;
use crate::fleet::error::Error;
use crate::fleet::lease::{
    Access, Cause, Denied, Granted, Holder, Known, LastRenewal, LeasedSignIn, NotRenewed, Provenance,
};
use crate::fleet::records::Origin;
use crate::secret::Secret;

/// The result of a renewal.
pub(in super::super) type Renewed = Result<(), NotRenewed<&'static str>>;

/// An instance.
pub(in super::super) struct Node {
    world: Arc<World>,
    sign_in: LeasedSignIn,
    disk: Disk,
    access: Mutex<Option<u64>>,
    is_deaf: Mutex<bool>,
    link: Arc<Link>,
}

/// The disk of an instance, which outlives it: the newest state, and where the last answer came from.
#[derive(Clone, Default)]
struct Disk {
    known: Arc<Mutex<Option<Known>>>,
    origin: Arc<Mutex<Option<Origin>>>,
}

/// The way to the database, on which steps are counted.
pub(super) struct Link {
    world: Arc<World>,
    /// Steps until the end, and the end.
    fuse: Mutex<Option<(usize, End)>>,
}

impl Link {
    async fn step(&self) {
        let end = {
            let mut fuse = self.fuse.lock();
            match &mut *fuse {
                Some((0, end)) => {
                    let end = *end;
                    *fuse = None;
                    Some(end)
                }
                Some((left, _)) => {
                    *left -= 1;
                    None
                }
                None => None,
            }
        };
        match end {
            Some(End::Killed) => pending().await,
            Some(End::Frozen) => sleep(FREEZE).await,
            Some(End::Stopped) => advance(FREEZE).await,
            None => {}
        }
    }

    /// Carries a statement out, with a step before and after it.
    pub(super) async fn query<T>(&self, statement: impl FnOnce(&mut State) -> T) -> Result<T, Error> {
        self.step().await;
        if self.world.state().is_away {
            return Err(Error::ReadOnly);
        }
        let result = statement(&mut self.world.state());
        let delay = self.world.state().statement_delay;
        if let Some(delay) = delay {
            sleep(delay).await;
        }
        self.step().await;
        Ok(result)
    }
}

impl Node {
    pub(in super::super) fn new(world: &Arc<World>) -> Arc<Self> {
        Self::with(world, Disk::default(), vault())
    }

    /// An instance whose `store_key` is another one.
    pub(in super::super) fn with_other_key(world: &Arc<World>) -> Arc<Self> {
        Self::with(world, Disk::default(), Vault::new(&[2; 32]).unwrap())
    }

    /// The instance after its next start, with the disk that it has.
    pub(in super::super) fn restarted(&self) -> Arc<Self> {
        Self::with(&self.world, self.disk.clone(), vault())
    }

    fn with(world: &Arc<World>, disk: Disk, vault: Vault) -> Arc<Self> {
        let link = Arc::new(Link { world: Arc::clone(world), fuse: Mutex::default() });
        let holder = {
            let mut state = world.state();
            state.numbers += 1;
            state.numbers.to_string()
        };
        let (records, known, origin) = (Arc::clone(&link) as _, disk.known.lock().clone(), disk.origin.lock().clone());
        let sign_in = LeasedSignIn::new(records, &holder, key(), Arc::new(vault), known).with_origin(origin);
        let (access, is_deaf) = (Mutex::default(), Mutex::default());
        Arc::new(Self { world: Arc::clone(world), sign_in, disk, access, is_deaf, link })
    }

    pub(in super::super) async fn renewed(&self) -> Renewed {
        self.sign_in.renew(self).await
    }

    /// Brings to the database what it lacks, and learns what is newer there.
    pub(in super::super) async fn looked(&self) {
        self.sign_in.deliver(self).await.unwrap();
    }

    /// Looks at the database within a bound, as the keeper of a running instance does.
    pub(in super::super) async fn looked_in_time(&self) -> Result<(), Error> {
        self.sign_in.deliver_in_time(self).await.map(drop)
    }

    /// The newest refresh token that this instance can find.
    pub(in super::super) async fn newest(&self) -> Option<(u64, Provenance, LastRenewal)> {
        let newest = self.sign_in.newest().await.unwrap()?;
        Some((number(newest.record.unwrap().expose()), newest.provenance, newest.renewal))
    }

    pub(in super::super) async fn sign_out(&self) {
        self.sign_in.sign_out(FIRST + 500).await.unwrap();
    }

    /// Starts as a process does: brings to the database what it lacks, and renews unless it knows a fresh access token.
    pub(in super::super) async fn started(&self) -> Renewed {
        self.sign_in.deliver(self).await?;
        match self.sign_in.known().and_then(|known| known.access) {
            Some(access) if access.until > Instant::now() + LIFE / 2 => {
                self.take(&access);
                Ok(())
            }
            _ => self.renewed().await,
        }
    }

    /// Renews in a task of its own.
    pub(in super::super) fn begun(self: &Arc<Self>) -> JoinHandle<Renewed> {
        let node = Arc::clone(self);
        tokio::spawn(async move { node.renewed().await })
    }

    /// Renews in a task of its own, which ends or freezes at this step.
    pub(in super::super) fn begun_until(self: &Arc<Self>, step: usize, end: End) -> JoinHandle<Renewed> {
        *self.link.fuse.lock() = Some((step, end));
        self.begun()
    }

    pub(in super::super) async fn renewed_alone(&self) -> Renewed {
        self.sign_in.renew_alone(self).await
    }

    pub(in super::super) async fn sign_in(&self) {
        let token = {
            let mut state = self.world.state();
            state.newest += 1;
            state.has_ended = false;
            state.newest
        };
        // Later than the first sign-in.
        self.sign_in.put(&record(token), FIRST + 1000).await.unwrap();
    }

    pub(in super::super) fn access(&self) -> Option<u64> {
        *self.access.lock()
    }

    pub(in super::super) fn is_unsent(&self) -> bool {
        self.sign_in.is_unsent()
    }

    /// The next request of this instance finds no endpoint.
    pub(in super::super) fn cut_off_from_endpoint(&self) {
        *self.is_deaf.lock() = true;
    }
}

impl Holder for Node {
    type Error = &'static str;

    async fn ask(&self, spent: &Secret) -> Result<Granted, Denied<&'static str>> {
        let denied = |cause| Denied { error: "no", trouble: "no".to_owned(), pause: PAUSE, cause };
        self.link.step().await;
        if std::mem::take(&mut *self.is_deaf.lock()) {
            return Err(denied(Cause::Silence));
        }
        let answer = self.world.redeem(number(spent.expose()));
        let delay = self.world.state().delay;
        sleep(delay).await;
        self.link.step().await;
        let token = answer.ok_or_else(|| denied(Cause::RefreshToken))?;
        let access = Access { token: octets_of(token), life: LIFE, until: Instant::now() + LIFE };
        Ok(Granted { record: record(token), access })
    }

    async fn save(&self, known: Known) {
        self.link.step().await;
        (*self.disk.known.lock(), *self.disk.origin.lock()) = (Some(known), self.sign_in.origin());
        self.link.step().await;
    }

    fn is_strict(&self) -> bool {
        self.world.state().rotation != Rotation::Lenient
    }

    fn take(&self, access: &Access) {
        *self.access.lock() = Some(number(access.token.expose()));
    }

    async fn ending(&self) {
        pending().await
    }
}
