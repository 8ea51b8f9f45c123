//! The page proposes a way in for a device whose TLS its listener does not accept: the same one as the log.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::config::{Config, Listener, Profile, WayIn};
use crate::failure::Kind;
use crate::inventory::SeenDevice;

/// The ways in past each listener, by its name and the name of the profile that a device needs.
pub(super) struct WaysIn(HashMap<(String, &'static str), WayIn>);

impl WaysIn {
    pub(super) fn of(config: &Config) -> Self {
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
    pub(super) fn for_devices(&self, seen: &[SeenDevice]) -> Vec<Value> {
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
