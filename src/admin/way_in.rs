//! The page proposes a way in for a device whose TLS its listener does not accept, and for one that sends mail without a
//! login: the same ones as the log.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::config::{Config, Lines, Listener, Profile, Way, WayIn, WithoutLogin};
use crate::failure::Kind;
use crate::inventory::SeenDevice;

/// The ways in past each listener.
pub(super) struct WaysIn {
    profiles: Profiles,
    without_login: WithoutLogins,
}

impl WaysIn {
    pub(super) fn of(config: &Config) -> Self {
        Self { profiles: Profiles::of(config), without_login: WithoutLogins::of(config) }
    }

    /// The ways in of devices that were refused, as two fields of a JSON object.
    pub(super) fn to_json(&self, seen: &[SeenDevice]) -> String {
        let (ways, senders) = (json!(self.profiles.for_devices(seen)), json!(self.without_login.for_devices(seen)));
        format!("\"ways_in\":{ways},\"without_login\":{senders}")
    }
}

/// Listeners for devices with other TLS, by the name of the one that they have tried and that of the profile that they
/// need.
struct Profiles(HashMap<(String, &'static str), WayIn>);

impl Profiles {
    fn of(config: &Config) -> Self {
        let ways = config.listeners.iter().flat_map(|listener| {
            let way = |profile| {
                Some(((listener.name.clone(), Profile::name(profile)), WayIn::new(config, listener, profile)?))
            };
            Profile::ALL.into_iter().filter_map(way)
        });
        Self(ways.collect())
    }

    /// The ways in of devices that were refused for their TLS: the lines to write and where, and the port to set in the
    /// device. The page finds that of a device by its address, listener and profile.
    fn for_devices(&self, seen: &[SeenDevice]) -> Vec<Value> {
        let refused = |device: &&SeenDevice| device.needs_attention() && device.reason == Some(Kind::Handshake);
        let mut ways: Vec<Value> = Vec::new();
        for way in seen.iter().filter(refused).filter_map(|device| self.for_device(device)) {
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
        ways
    }

    fn for_device(&self, device: &SeenDevice) -> Option<Value> {
        let needed = device.profile.as_deref()?;
        let profile = Profile::ALL.into_iter().find(|profile| profile.name() == needed)?;
        let (listener, port, lines, encryption) = match self.0.get(&(device.listener.clone(), profile.name()))? {
            WayIn::Present(present) => {
                let Listener { name, listen, allowed_networks, .. } = present.as_ref();
                let is_missing = !allowed_networks.contain(device.source);
                let line = is_missing.then(|| allowed_networks.line_with(device.source.into()));
                (Some(name), listen.first().map(SocketAddr::port).filter(|port| *port != 0), line, None)
            }
            WayIn::New(new) => (None, Some(new.port), Some(new.lines(device.source).join("\n")), Some(new.encryption)),
        };
        Some(json!({
            "source": device.source,
            "refused_by": device.listener,
            "profile": needed,
            "listener": listener,
            "port": port,
            "lines": lines,
            "encryption": encryption,
        }))
    }
}

/// The ways to let devices send without a login, by the name of the listener that they have tried.
struct WithoutLogins(HashMap<String, WithoutLogin>);

impl WithoutLogins {
    fn of(config: &Config) -> Self {
        let submitting = config.listeners.iter().filter(|listener| listener.protocol.submits());
        Self(submitting.map(|listener| (listener.name.clone(), WithoutLogin::new(config, listener))).collect())
    }

    /// The ways in of devices that were refused because they send mail without a login: commands with the mailbox of
    /// each, or the lines that the section of a device lacks. The page finds that of a device by its address and listener.
    fn for_devices(&self, seen: &[SeenDevice]) -> Vec<Value> {
        let is_refused =
            |device: &&SeenDevice| device.needs_attention() && device.reason == Some(Kind::MailWithoutLogin);
        let way = |device: &SeenDevice| {
            let (commands, lines) = match self.0.get(&device.listener)?.way(device.source) {
                Way::Login => return None,
                Way::Lines(lines) => (Vec::new(), Some(lines)),
                Way::Commands(commands) => (commands, None),
            };
            let commands = commands.iter().map(|one| json!({ "mailbox": one.mailbox, "text": one.text }));
            let lines = lines.map(|Lines { device, lines }| json!({ "device": device, "text": lines.join("\n") }));
            let commands: Vec<Value> = commands.collect();
            Some(
                json!({ "source": device.source, "refused_by": device.listener, "commands": commands, "lines": lines }),
            )
        };
        seen.iter().filter(is_refused).filter_map(way).collect()
    }
}
