//! Judges a connection by the permissions that it rests on, and counts the connections that a reload ends.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::backend::Backend;
use super::backend::mailbox::Mailbox;
use super::current_service::CurrentService;
use super::service::Service;
use crate::config::{TlsPolicy, Version};
use crate::device::{Device, Verified};
use crate::protocol::Protocol;
use crate::transport::Facts;
use crate::transport::upstream::Server;
use crate::withdrawal::Withdrawn;

/// The progress of a connection: the permissions that it rests on so far.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) channel: Channel,
    pub(super) login: Option<Login>,
    /// The device has logged in.
    pub(super) is_in: bool,
}

/// The protection of a connection.
#[derive(Clone, Copy, Default)]
pub(super) enum Channel {
    /// The connection has not shown yet whether it has TLS.
    #[default]
    Undecided,
    /// No TLS; logins are allowed.
    Cleartext,
    /// No TLS; logins are allowed after STARTTLS or STLS alone.
    BeforeTls,
    Tls(Facts),
}

/// The permissions that a login rests on.
pub(super) enum Login {
    /// The login was passed through to this server.
    PassThrough(Arc<Server>),
    /// The login was verified here, and opens this mailbox.
    Translated(Verified, Arc<Mailbox>),
}

/// The effect of a reload on open connections.
#[derive(Default)]
pub struct Revoked {
    /// Sessions that end, by withdrawn permission.
    pub(super) sessions: BTreeMap<Withdrawn, usize>,
    /// Connections without a login that end.
    pub(super) connections: usize,
    /// Sessions that go on in spite of a withdrawn permission.
    pub(super) kept: BTreeMap<Withdrawn, usize>,
}

impl Progress {
    /// Checks that the present configuration gives every permission that the connection rests on.
    pub(super) fn judge(
        &self,
        current: &CurrentService,
        protocol: Protocol,
        source: IpAddr,
        balancer: Option<IpAddr>,
    ) -> Result<(), Withdrawn> {
        if current.is_closed() {
            return Err(Withdrawn::Listener);
        }
        let service = current.load();
        let listener = &service.listener;
        if listener.protocol != protocol {
            return Err(Withdrawn::Protocol);
        }
        if balancer.is_some_and(|balancer| !listener.proxy_protocol.contain(balancer)) {
            return Err(Withdrawn::Balancer);
        }
        if !listener.allowed_networks.contain(source) {
            return Err(Withdrawn::Network);
        }
        match self.channel {
            Channel::Tls(facts) if !takes(&listener.tls, &facts) => return Err(Withdrawn::Tls),
            Channel::Cleartext if !listener.allow_plaintext => return Err(Withdrawn::Cleartext),
            Channel::BeforeTls if service.acceptor.is_none() => return Err(Withdrawn::Tls),
            Channel::Undecided | Channel::Cleartext | Channel::BeforeTls | Channel::Tls(_) => {}
        }
        self.login.as_ref().map_or(Ok(()), |login| login.judge(&service, source))
    }
}

impl Login {
    /// Returns the mailbox that the login opens by the present configuration, and the device.
    ///
    /// # Errors
    /// The permission that the configuration does not give any more.
    pub(super) fn present(&self, service: &Service, source: IpAddr) -> Result<(Arc<Mailbox>, Arc<Device>), Withdrawn> {
        match (self, service.logins.as_ref()) {
            (Login::Translated(verified, mailbox), Backend::Translate(translation)) => {
                let device = translation.devices().still_takes(verified, source)?;
                let present = translation.mailbox(&device.account).ok_or(Withdrawn::Mailbox)?;
                present.stands_in_for(mailbox)?;
                present.sends_as_before(device, mailbox, &verified.device)?;
                Ok((Arc::clone(present), Arc::clone(device)))
            }
            (Login::PassThrough(_) | Login::Translated(..), _) => Err(Withdrawn::Logins),
        }
    }

    fn judge(&self, service: &Service, source: IpAddr) -> Result<(), Withdrawn> {
        match (self, service.logins.as_ref()) {
            (Login::PassThrough(server), Backend::PassThrough(present)) => {
                if present.server.stands_in_for(server) {
                    Ok(())
                } else {
                    Err(Withdrawn::Upstream)
                }
            }
            (Login::Translated(..), Backend::Translate(_)) => self.present(service, source).map(|_| ()),
            (Login::PassThrough(_) | Login::Translated(..), _) => Err(Withdrawn::Logins),
        }
    }
}

impl Revoked {
    /// A sentence for the log; none where all connections go on.
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

/// Returns whether the policy allows this version and cipher suite. The suites of TLS 1.3 are always allowed.
fn takes(policy: &TlsPolicy, facts: &Facts) -> bool {
    facts.version().is_some_and(|version| {
        (policy.minimum..=policy.maximum).contains(&version)
            && (version == Version::Tls1_3 || policy.suites.iter().any(|suite| suite.name == facts.cipher))
    })
}
