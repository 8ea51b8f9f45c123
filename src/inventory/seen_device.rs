//! A seen device is what the inventory knows of one device, and how that changes with each connection.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::assessment::{Assessment, Judgement, needed_profile};
use super::clock::Shift;
use super::observation::{Observation, TlsMode};
use super::serde_names::{kind_label, protocol_name, tls_mode_name, version_name};
use crate::config::Version;
use crate::failure::{Failure, Kind};
use crate::protocol::Protocol;
use crate::transport::detect::hello::ClientHello;

/// The inventory's record of one device. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SeenDevice {
    /// The device's address.
    pub source: IpAddr,
    /// The address's name in the DNS, or the device's description.
    pub name: Option<String>,
    /// The protocol that it speaks.
    #[serde(with = "protocol_name")]
    pub protocol: Protocol,
    /// The listener of its last connection.
    pub listener: String,
    /// The way in which TLS started.
    #[serde(rename = "entry", default, with = "tls_mode_name")]
    pub tls_mode: Option<TlsMode>,
    /// The negotiated TLS version.
    #[serde(rename = "tls", default, with = "version_name")]
    pub version: Option<Version>,
    /// The negotiated cipher suite, by OpenSSL's name.
    pub cipher: Option<String>,
    /// The ClientHello in plain words.
    pub offers: Option<String>,
    /// The ClientHello's JA4 fingerprint.
    pub fingerprint: Option<String>,
    /// The logins that it has tried, the last one first; at most four.
    pub logins: Vec<String>,
    /// The last login that succeeded.
    pub known_as: Option<String>,
    /// The mailbox of its last successful login.
    pub mailbox: Option<String>,
    /// The number of its connections.
    pub sessions: u64,
    /// The number of its connections that are open now.
    #[serde(skip_deserializing)]
    pub open: usize,
    /// The number of its failures.
    pub failures: u64,
    /// The last failure, in plain words.
    pub failure: Option<String>,
    /// The kind of the last failure.
    #[serde(default, with = "kind_label")]
    pub reason: Option<Kind>,
    /// The profile that its TLS needs, where the listener's is too strict for it.
    #[serde(default)]
    pub profile: Option<String>,
    /// The time of the last failure.
    pub failed: Option<u64>,
    /// The time of the last successful login.
    pub logged_in: Option<u64>,
    /// The time of its first connection.
    pub first_seen: u64,
    /// The time of its last connection.
    pub last_seen: u64,
    /// Whether the device needs packetboat, and why.
    #[serde(rename = "verdict")]
    pub assessment: Assessment,
    /// The first login of the `[[device]]` that it is, where the configuration tells.
    #[serde(rename = "device", default, skip_serializing)]
    pub configured: Option<String>,
    /// The instance of the fleet that has seen it last; none without a fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The time of the last successful login from its address, by whichever protocol and TLS.
    #[serde(skip)]
    pub(super) address_logged_in: Option<u64>,
}

impl SeenDevice {
    pub(super) fn new(observation: &Observation<'_>, fingerprint: String, now: u64) -> Self {
        Self {
            source: observation.source,
            name: None,
            protocol: observation.protocol,
            listener: observation.listener.to_owned(),
            tls_mode: None,
            version: None,
            cipher: None,
            offers: observation.hello.map(ClientHello::describe),
            fingerprint: Some(fingerprint).filter(|text| !text.is_empty()),
            logins: Vec::new(),
            known_as: None,
            mailbox: None,
            sessions: 0,
            failures: 0,
            failure: None,
            reason: None,
            profile: None,
            failed: None,
            logged_in: None,
            first_seen: now,
            last_seen: now,
            assessment: Assessment::unknown(),
            open: 0,
            configured: None,
            instance: None,
            address_logged_in: None,
        }
    }

    pub(super) fn update(&mut self, observation: &Observation<'_>, now: u64) {
        if self.listener != observation.listener {
            observation.listener.clone_into(&mut self.listener);
        }
        self.sessions = self.sessions.saturating_add(1);
        self.last_seen = now;
        self.tls_mode = observation.tls_mode.or(self.tls_mode);
        if let Some(facts) = observation.tls {
            self.version = facts.version();
            if self.cipher.as_deref() != Some(facts.cipher) {
                self.cipher = Some(facts.cipher.to_owned());
            }
        }
        self.assessment = Assessment::of(observation);
        if self.reason == Some(Kind::MailWithoutLogin) && self.logged_in < self.failed {
            self.sends_without_login();
        }
        self.profile = needed_profile(observation).map(|profile| profile.name().to_owned());
        if let Some(failure) = observation.refused {
            self.fail(failure, now);
        }
    }

    pub(super) fn fail(&mut self, failure: &Failure, now: u64) {
        self.failures = self.failures.saturating_add(1);
        self.failure = Some(failure.to_string().chars().take(LONGEST_FAILURE).collect());
        self.reason = Some(failure.kind);
        self.failed = Some(now);
        if failure.kind == Kind::MailWithoutLogin {
            self.sends_without_login();
        }
    }

    /// Notes that no other mail server for submission would take the device's mail, however new its TLS is.
    fn sends_without_login(&mut self) {
        if self.assessment.judgement != Judgement::Needs {
            self.assessment = Assessment::without_login();
        }
    }

    /// Moves all times, so that the device was last seen at this time: another instance has written them by its own
    /// clock.
    pub(super) fn shift(&mut self, last_seen: u64) {
        let Some(shift) = Shift::new(self.last_seen, last_seen) else { return };
        self.first_seen = shift.of(self.first_seen);
        self.last_seen = shift.of(self.last_seen);
        self.failed = self.failed.map(|time| shift.of(time));
        self.logged_in = self.logged_in.map(|time| shift.of(time));
    }

    /// Returns whether the device was refused or has failed, and nobody has logged in from its address since.
    pub fn needs_attention(&self) -> bool {
        self.is_unresolved(self.address_logged_in)
    }

    /// The same, with the time of the last successful login from its address. Both may be in the same second: then its
    /// own login came later, and another one may have come before.
    pub(super) fn is_unresolved(&self, address_logged_in: Option<u64>) -> bool {
        let is_refused = self.assessment.judgement == Judgement::Refused;
        let Some(failed) = self.failed.or(is_refused.then_some(self.last_seen)) else { return false };
        let by_itself = self.logged_in.is_some_and(|logged_in| logged_in >= failed);
        let at_its_address = address_logged_in.is_some_and(|logged_in| logged_in > failed);
        !by_itself && !at_its_address
    }
}

/// Tells each device of the logins from its address.
pub(super) fn join_addresses(devices: &mut [SeenDevice]) {
    let mut logins: HashMap<IpAddr, u64> = HashMap::new();
    for device in devices.iter() {
        let last = logins.entry(device.source).or_default();
        *last = device.logged_in.unwrap_or_default().max(*last);
    }
    for device in devices {
        device.address_logged_in = logins.get(&device.source).copied();
    }
}

/// The longest text of a failure, in characters.
const LONGEST_FAILURE: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Inventory;
    use crate::inventory::tests::{hello, inventory, observation};
    use crate::lifecycle::unix_time as now;

    /// A device that was refused, and then logs in with other TLS or by another protocol, needs nobody's attention.
    #[test]
    fn a_login_from_the_same_address_resolves_a_refusal() {
        let inventory = inventory(10);
        let (old, mended) = (hello(0x0301, &[0x05]), hello(0x0301, &[0x2f]));
        let failure = Failure::new(Kind::Handshake, "offers only RC4-SHA: ...");
        let refused = || Observation { refused: Some(&failure), ..observation("192.0.2.1", Some(&old)) };
        let (mut waiting, counts) = (Vec::new(), |inventory: &Inventory| inventory.counts()[0]);
        drop(inventory.observe(&refused()));
        assert_eq!(counts(&inventory), ("refused", 1));
        inventory.observe(&observation("192.0.2.1", Some(&mended))).logged_in(None);
        inventory.observe(&observation("192.0.2.2", Some(&mended))).logged_in(None);
        for (failed, logged_in) in [(1, 2), (2, 2), (3, 2)] {
            for entry in inventory.table.lock().all() {
                let mut device = entry.device();
                device.failed = device.failed.map(|_| now() + failed);
                device.logged_in = device.logged_in.map(|_| now() + logged_in);
            }
            let devices = inventory.devices();
            waiting.push((devices.iter().filter(|device| device.needs_attention()).count(), counts(&inventory).1));
        }
        assert_eq!(waiting, [(0, 0), (1, 1), (1, 1)], "in the same second nobody knows which came first");
    }
}
