//! Devices: login and password are verified, and open the one account that the device was given.

mod charset;
mod delay;
mod dummy_hashes;
mod known;
mod miss_budget;
mod names;
pub mod password;
mod password_cache;
mod revalidate;
mod schedule;
mod source;
#[cfg(test)]
mod tests;
mod verify;

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{Config, Networks};
use crate::diagnostic::Diagnostic;
use crate::submission::DeviceLists;
pub use delay::{Delays, Origin, Permit};
use dummy_hashes::DummyHashes;
pub use known::{KnownSources, PASSED};
use miss_budget::MissBudget;
use names::Names;
pub use names::normal_form;
use password::Hash;
use password_cache::PasswordCache;
pub use revalidate::Verified;
use schedule::Schedule;

/// All devices of the configuration.
pub struct Devices {
    devices: Vec<Arc<Device>>,
    names: Names,
    memory: PasswordCache,
    known: Arc<KnownSources>,
    delays: Arc<Delays>,
    misses: Arc<MissBudget>,
    schedule: Arc<Schedule>,
    /// Hashes that the password of an unknown login is compared with, so that it takes as long.
    dummy_hashes: Arc<[Hash]>,
}

/// A device of the configuration.
#[derive(Debug)]
pub struct Device {
    /// The first login, in lower case.
    pub name: String,
    /// The key of the account in [`Config::accounts`].
    pub account: String,
    /// The device's own hashes, followed by dummy hashes.
    hashes: Arc<[Hash]>,
    /// The number of its own hashes.
    own: usize,
    /// The hashes as the configuration has them.
    written: Vec<String>,
    networks: Option<Networks>,
    /// True if the device may delete mail.
    pub delete: bool,
    /// True if the device may send mail without a login, from its networks.
    sends_without_login: bool,
    /// The lists of senders and recipients that stand in the place of its account's.
    pub submission: DeviceLists,
}

impl Device {
    /// Returns whether the device has a password. One that sends without a login may have none.
    pub fn has_password(&self) -> bool {
        self.own > 0
    }

    /// Returns whether the configuration has the same for both.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let Self { name, account, written, networks, delete, .. } = self;
        (name, account, written, networks, delete)
            == (&other.name, &other.account, &other.written, &other.networks, &other.delete)
    }
}

impl Devices {
    /// Reads every hash. Passwords that were verified before are remembered, where devices have the same ones.
    ///
    /// # Errors
    /// Hashes that cannot be verified.
    pub fn new(config: &Config, known: &Arc<KnownSources>, before: Option<&Devices>) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let mut devices = Vec::new();
        let mut names = Names::default();
        for device in &config.devices {
            let name = device.logins.first().cloned().unwrap_or_default();
            let mut hashes = Vec::new();
            for written in &device.passwords {
                match Hash::parse(written) {
                    Ok(hash) if hash.is_of_short() && !is_narrowed(device) => {
                        diagnostics.push(Diagnostic::of_file(format!("device.{name}.networks"), SHORT_ANYWHERE));
                    }
                    Ok(hash) => hashes.push(hash),
                    Err(why) => diagnostics.push(Diagnostic::of_file(format!("device.{name}.passwords"), why)),
                }
            }
            let mailbox = config.accounts.get(&device.account).map(|account| account.mailbox.as_str());
            names.add(&device.logins, mailbox.unwrap_or_default());
            devices.push(Device {
                name,
                account: device.account.clone(),
                own: hashes.len(),
                hashes: hashes.into(),
                written: device.passwords.clone(),
                delete: device.delete,
                networks: device.networks.clone(),
                sends_without_login: device.sends_without_login,
                submission: device.submission.clone(),
            });
        }
        let dummy_hashes = DummyHashes::new(devices.iter().map(|device| &*device.hashes));
        for device in &mut devices {
            device.hashes = dummy_hashes.beside(&device.hashes).into();
        }
        let devices: Vec<_> = devices.into_iter().map(Arc::new).collect();
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        let delays = Delays::new(config.limits.failure_delay, config.limits.longest_failure_delay);
        let (delays, misses) = match before.map(|before| (&before.delays, &before.misses)) {
            Some((same, misses)) if same.is_like(&delays) => (Arc::clone(same), Arc::clone(misses)),
            Some(_) | None => (Arc::new(delays), Arc::new(MissBudget::new(config.limits.longest_failure_delay))),
        };
        let (memory, time) = (before.map(|before| (&before.memory, &*before.devices)), config.limits.password_memory);
        let memory = PasswordCache::new(time, &devices, memory).map_err(|why| vec![Diagnostic::new("", why)])?;
        Ok(Self {
            devices,
            names,
            memory,
            known: Arc::clone(known),
            delays,
            misses,
            schedule: before.map_or_else(Schedule::new, |before| Arc::clone(&before.schedule)),
            dummy_hashes: dummy_hashes.beside(&[]).into(),
        })
    }

    /// Takes effect: known sources of devices and passwords that are no longer configured are forgotten.
    pub fn begin(&self) {
        self.known.retain_devices(|name| {
            let device = self.devices.iter().find(|device| device.name == name)?;
            let of_network = device.sends_without_login.then(|| known::mark(WITHOUT_LOGIN));
            Some(device.written.iter().map(|hash| known::mark(hash)).chain(of_network).collect())
        });
    }

    /// Returns whether some device has logged in from this address with a password that it still has.
    pub fn knows(&self, source: IpAddr) -> bool {
        self.known.knows(source)
    }

    /// Returns whether the password of one more known device could be verified now.
    pub fn has_room(&self) -> bool {
        self.schedule.has_room()
    }

    /// Returns whether a device may act as this authorization identity (RFC 4616 §2): a name of its own, or its
    /// mailbox.
    pub fn may_act_as(&self, device: &Device, authzid: &[u8]) -> bool {
        let name = names::written(authzid);
        let own = device.name.as_str();
        name.trim().is_empty() || self.find(own).is_some_and(|(index, _)| self.names.belongs_to(&name, index))
    }

    fn find(&self, login: &str) -> Option<(usize, &Arc<Device>)> {
        let index = self.names.find(login)?;
        Some((index, self.devices.get(index)?))
    }
}

impl Device {
    /// Returns the mark of one of its hashes, for the list of known devices.
    fn mark(&self, hash: usize) -> Option<u64> {
        self.written.get(hash).map(|hash| known::mark(hash))
    }

    fn serves(&self, source: IpAddr) -> bool {
        self.networks.as_ref().is_none_or(|networks| networks.contain(source))
    }
}

/// Returns whether the configuration restricts the device's networks.
fn is_narrowed(device: &crate::config::Device) -> bool {
    device.networks.as_ref().is_some_and(|networks| !networks.are_public())
}

/// The word that has the place of a password's hash among the known sources of a device without one.
const WITHOUT_LOGIN: &str = "send_without_login";
const SHORT_ANYWHERE: &str = "is missing or open to the world; this device's password has fewer than 8 characters and \
     is soon guessed: write networks = [\"192.168.1.20/32\"] with its address, or give it a longer one";
