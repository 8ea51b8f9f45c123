//! Registry of open connections: a reload looks at each of them, and ends those whose permission it has withdrawn.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::backend::Backend;
use super::backend::mailbox::Mailbox;
use super::current_service::CurrentService;
use super::limits::ConnectionId;
use super::service::Service;
use crate::config::{Revocation, TlsPolicy, Version};
use crate::device::Verified;
use crate::failure::{Failure, Kind};
use crate::lifecycle::{Lifecycle, Phase};
use crate::protocol::Protocol;
use crate::transport::Facts;
use crate::transport::upstream::Server;
use crate::withdrawn::Withdrawn;

/// All connections that are open.
#[derive(Default)]
pub(super) struct Registry(Mutex<HashMap<ConnectionId, Arc<Entry>>>);

/// A connection's own hold on its entry. Dropping it takes the entry out of the registry.
pub(super) struct Registered {
    registry: Arc<Registry>,
    entry: Arc<Entry>,
    lifecycle: Lifecycle,
}

/// Where a connection comes from.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) id: ConnectionId,
    pub(super) source: IpAddr,
    /// The load balancer that has named the source.
    pub(super) balancer: Option<IpAddr>,
}

/// One connection.
struct Entry {
    current: Arc<CurrentService>,
    origin: Origin,
    protocol: Protocol,
    progress: Mutex<Progress>,
    withdrawn: OnceLock<Withdrawn>,
    wake: Notify,
}

/// How far a connection has come: what it rests on.
#[derive(Default)]
struct Progress {
    channel: Channel,
    login: Option<Login>,
    /// The device has been let in.
    is_in: bool,
}

/// How a connection is protected.
#[derive(Clone, Copy, Default)]
enum Channel {
    /// That is not decided yet.
    #[default]
    Undecided,
    /// It has no TLS, and logins may be taken.
    Cleartext,
    /// It has no TLS, and logins are taken behind STARTTLS or STLS alone.
    BeforeTls,
    Tls(Facts),
}

/// What a login rests on.
pub(super) enum Login {
    /// It was passed through to this server.
    PassThrough(Arc<Server>),
    /// It was verified here, and opens this mailbox.
    Translated(Verified, Arc<Mailbox>),
}

/// What a change of the configuration has done to the connections that are open.
#[derive(Default)]
pub struct Revoked {
    /// Sessions that end, by what was withdrawn.
    sessions: BTreeMap<Withdrawn, usize>,
    /// Connections that end and had not logged in.
    connections: usize,
    /// Sessions that go on although something was withdrawn.
    kept: BTreeMap<Withdrawn, usize>,
}

impl Registry {
    /// Takes a connection in. One that has come in a moment before a reload is judged by what the reload has left.
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

    /// Ends what has lost its permission. Call it once every address has its present service, or is closed.
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
                // It is about to end already.
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
    /// Where the connection logs in now.
    pub(super) fn service(&self) -> Arc<Service> {
        self.entry.current.load()
    }

    /// The stream to the device stands: with TLS, or without it, and then logins are taken or not.
    pub(super) fn channel_established(&self, tls: Option<Facts>, takes_cleartext: bool) {
        self.update(|progress| {
            progress.channel = match tls {
                Some(facts) => Channel::Tls(facts),
                None if takes_cleartext => Channel::Cleartext,
                None => Channel::BeforeTls,
            };
        });
    }

    /// A login is on its way, and rests on this.
    ///
    /// # Errors
    /// The present configuration does not give it.
    pub(super) fn login_started(&self, login: Login) -> Result<(), Failure> {
        self.update(|progress| progress.login = Some(login));
        self.withdrawn().map_or(Ok(()), |withdrawn| Err(failure(withdrawn)))
    }

    /// The login came to nothing.
    pub(super) fn login_failed(&self) {
        self.entry.progress.lock().login = None;
    }

    /// The device is in.
    ///
    /// # Errors
    /// Its permission was withdrawn while it logged in.
    pub(super) fn login_succeeded(&self) -> Result<(), Failure> {
        self.entry.progress.lock().is_in = true;
        self.withdrawn().map_or(Ok(()), |withdrawn| Err(failure(withdrawn)))
    }

    /// Waits until the connection has to end: its permission is withdrawn, or the time of all sessions is over.
    pub(super) async fn over(&self) -> Failure {
        let mut lifecycle = self.lifecycle.clone();
        tokio::select! {
            biased;
            () = lifecycle.reached(Phase::Ending) => Failure::new(Kind::Drained, ""),
            withdrawn = self.entry.wait() => failure(withdrawn),
        }
    }

    /// Waits until the time of all sessions is over.
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
        // Under the same lock as in a reload: either sees the other's change.
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
    /// Marks the permission as withdrawn. Whether that is new.
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

    /// Whether the present configuration gives the connection all that it rests on.
    fn judge(&self, progress: &Progress) -> Result<(), Withdrawn> {
        let Origin { source, balancer, .. } = self.origin;
        if self.current.is_closed() {
            return Err(Withdrawn::Listener);
        }
        let service = self.current.load();
        let listener = &service.listener;
        if listener.protocol != self.protocol {
            return Err(Withdrawn::Protocol);
        }
        if balancer.is_some_and(|balancer| !listener.proxy_protocol.contain(balancer)) {
            return Err(Withdrawn::Balancer);
        }
        if !listener.allowed_networks.contain(source) {
            return Err(Withdrawn::Network);
        }
        match progress.channel {
            Channel::Tls(facts) if !takes(&listener.tls, &facts) => return Err(Withdrawn::Tls),
            Channel::Cleartext if !listener.allow_plaintext => return Err(Withdrawn::Cleartext),
            Channel::BeforeTls if service.acceptor.is_none() => return Err(Withdrawn::Tls),
            Channel::Undecided | Channel::Cleartext | Channel::BeforeTls | Channel::Tls(_) => {}
        }
        progress.login.as_ref().map_or(Ok(()), |login| login.judge(&service, source))
    }
}

impl Login {
    fn judge(&self, service: &Service, source: IpAddr) -> Result<(), Withdrawn> {
        match (self, &service.logins) {
            (Login::PassThrough(server), Backend::PassThrough(present)) => {
                if present.server.stands_in_for(server) {
                    Ok(())
                } else {
                    Err(Withdrawn::Upstream)
                }
            }
            (Login::Translated(verified, mailbox), Backend::Translate(translation)) => {
                let device = translation.devices().still_takes(verified, source)?;
                let present = translation.mailbox(&device.account).ok_or(Withdrawn::Mailbox)?;
                present.stands_in_for(mailbox)
            }
            (Login::PassThrough(_) | Login::Translated(..), _) => Err(Withdrawn::Logins),
        }
    }
}

impl Revoked {
    /// What happens to which connections, in words; none where all go on as they were.
    pub fn words(&self) -> Option<String> {
        let mut parts = Vec::new();
        let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let total = |reasons: &BTreeMap<Withdrawn, usize>| reasons.values().sum::<usize>();
        let listed = |reasons: &BTreeMap<Withdrawn, usize>| {
            let reasons: Vec<_> = reasons.iter().map(|(why, count)| format!("{}: {count}", why.words())).collect();
            reasons.join(", ")
        };
        if !self.sessions.is_empty() {
            parts.push(format!("{} ended ({})", count(total(&self.sessions), "session"), listed(&self.sessions)));
        }
        if self.connections > 0 {
            parts.push(format!("{} without a login ended", count(self.connections, "connection")));
        }
        if !self.kept.is_empty() {
            let kept = count(total(&self.kept), "session");
            parts.push(format!("{kept} kept by limits.revoked_sessions ({})", listed(&self.kept)));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// Whether a listener would still agree to this version and cipher suite. TLS 1.3 has suites of its own, which every listener takes.
fn takes(policy: &TlsPolicy, facts: &Facts) -> bool {
    facts.version().is_some_and(|version| {
        (policy.minimum..=policy.maximum).contains(&version)
            && (version == Version::Tls1_3 || policy.suites.iter().any(|suite| suite.name == facts.cipher))
    })
}

fn failure(withdrawn: Withdrawn) -> Failure {
    Failure::new(Kind::Revoked, withdrawn.words())
}
