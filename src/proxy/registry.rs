//! The registry knows every open connection, so that a reload can end those that have lost a permission.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::backend::Backend;
use super::backend::mailbox::Mailbox;
use super::current_service::CurrentService;
use super::limits::ConnectionId;
use super::revocation::{Channel, Login, Progress, Revoked};
use super::service::Service;
use crate::config::Revocation;
use crate::device::Device;
use crate::failure::{Failure, Kind};
use crate::lifecycle::{Lifecycle, Phase};
use crate::protocol::Protocol;
use crate::transport::Facts;
use crate::withdrawal::Withdrawn;

/// The open connections, by id.
#[derive(Default)]
pub(super) struct Registry(Mutex<HashMap<ConnectionId, Arc<Entry>>>);

/// A connection's handle on its entry. Dropping it takes the entry out of the registry.
pub(super) struct Registered {
    registry: Arc<Registry>,
    entry: Arc<Entry>,
    lifecycle: Lifecycle,
}

/// The origin of a connection.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) id: ConnectionId,
    pub(super) source: IpAddr,
    /// The load balancer that has named the source, if one has.
    pub(super) balancer: Option<IpAddr>,
}

/// An open connection.
struct Entry {
    current: Arc<CurrentService>,
    origin: Origin,
    protocol: Protocol,
    progress: Mutex<Progress>,
    withdrawn: OnceLock<Withdrawn>,
    wake: Notify,
}

impl Registry {
    /// Registers a connection, and judges it: a reload may have come since it was accepted.
    pub(super) fn register(
        self: &Arc<Self>,
        current: &Arc<CurrentService>,
        service: &Service,
        origin: Origin,
        lifecycle: Lifecycle,
    ) -> Registered {
        let entry = Arc::new(Entry {
            current: Arc::clone(current),
            origin,
            protocol: service.listener.protocol,
            progress: Mutex::default(),
            withdrawn: OnceLock::new(),
            wake: Notify::new(),
        });
        self.0.lock().insert(origin.id, Arc::clone(&entry));
        let registered = Registered { registry: Arc::clone(self), entry, lifecycle };
        registered.update(|_| {});
        registered
    }

    /// Ends connections that have lost a permission. Call it once every address has its new service, or is closed.
    pub(super) fn revoke(&self, policy: Revocation) -> Revoked {
        let connections: Vec<_> = self.0.lock().values().map(Arc::clone).collect();
        let mut revoked = Revoked::default();
        for entry in connections {
            let progress = entry.progress.lock();
            let Err(withdrawn) = entry.judge(&progress) else { continue };
            let is_in = progress.is_in;
            if is_in && policy == Revocation::Keep {
                *revoked.kept.entry(withdrawn).or_default() += 1;
            } else if !entry.withdraw(withdrawn) {
                // The connection is ending already.
            } else if is_in {
                *revoked.sessions.entry(withdrawn).or_default() += 1;
            } else {
                revoked.connections += 1;
            }
        }
        revoked
    }
}

impl Registered {
    /// The present backend of logins at the connection's address.
    pub(super) fn logins(&self) -> Arc<Backend> {
        Arc::clone(&self.entry.current.load().logins)
    }

    /// Notes that the device's stream is ready: with TLS, or without it, where logins are allowed or not.
    pub(super) fn channel_established(&self, tls: Option<Facts>, takes_cleartext: bool) {
        self.update(|progress| {
            progress.channel = match tls {
                Some(facts) => Channel::Tls(facts),
                None if takes_cleartext => Channel::Cleartext,
                None => Channel::BeforeTls,
            };
        });
    }

    /// Notes a login that is under way, and the permissions that it rests on.
    ///
    /// # Errors
    /// The present configuration does not give such a permission.
    pub(super) fn login_started(&self, login: Login) -> Result<(), Failure> {
        self.update(|progress| progress.login = Some(login));
        self.withdrawn().map_or(Ok(()), |withdrawn| Err(failure(withdrawn)))
    }

    /// The mailbox that the login opens by the present configuration, and the device.
    ///
    /// # Errors
    /// The present configuration does not give a permission that the login rests on.
    pub(super) fn mailbox(&self) -> Result<(Arc<Mailbox>, Arc<Device>), Failure> {
        let progress = self.entry.progress.lock();
        let login = progress.login.as_ref().ok_or_else(|| failure(Withdrawn::Logins))?;
        login.present(&self.entry.current.load(), self.entry.origin.source).map_err(failure)
    }

    /// Notes that the login failed.
    pub(super) fn login_failed(&self) {
        self.entry.progress.lock().login = None;
    }

    /// Notes that the device has logged in.
    ///
    /// # Errors
    /// A reload has withdrawn its permission meanwhile.
    pub(super) fn login_succeeded(&self) -> Result<(), Failure> {
        self.entry.progress.lock().is_in = true;
        self.withdrawn().map_or(Ok(()), |withdrawn| Err(failure(withdrawn)))
    }

    /// Waits until the connection has to end: a permission is withdrawn, or the drain is over.
    pub(super) async fn over(&self) -> Failure {
        let mut lifecycle = self.lifecycle.clone();
        tokio::select! {
            biased;
            () = lifecycle.reached(Phase::Ending) => Failure::new(Kind::Drained, ""),
            withdrawn = self.entry.wait() => failure(withdrawn),
        }
    }

    /// The lifecycle of the process: its drain waits until whoever has it drops it.
    pub(super) fn process(&self) -> Lifecycle {
        self.lifecycle.clone()
    }

    /// Waits until the drain is over.
    pub(super) async fn ending(&self) -> Failure {
        self.lifecycle.clone().reached(Phase::Ending).await;
        Failure::new(Kind::Drained, "")
    }

    fn withdrawn(&self) -> Option<Withdrawn> {
        self.entry.withdrawn.get().copied()
    }

    fn update(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.entry.progress.lock();
        change(&mut progress);
        // A reload judges under the same lock, so that one of the two sees the other's change.
        if let Err(withdrawn) = self.entry.judge(&progress) {
            self.entry.withdraw(withdrawn);
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.0.lock().remove(&self.entry.origin.id);
    }
}

impl Entry {
    /// Marks a permission as withdrawn. Returns whether none was before.
    fn withdraw(&self, withdrawn: Withdrawn) -> bool {
        let is_new = self.withdrawn.set(withdrawn).is_ok();
        self.wake.notify_one();
        is_new
    }

    async fn wait(&self) -> Withdrawn {
        loop {
            if let Some(withdrawn) = self.withdrawn.get() {
                return *withdrawn;
            }
            self.wake.notified().await;
        }
    }

    fn judge(&self, progress: &Progress) -> Result<(), Withdrawn> {
        progress.judge(&self.current, self.protocol, self.origin.source, self.origin.balancer)
    }
}

fn failure(withdrawn: Withdrawn) -> Failure {
    Failure::new(Kind::Revoked, withdrawn.words())
}
