//! Warnings about who gets in: ancient TLS for whole networks, listeners that still observe beside others that serve,
//! and devices whose networks no listener serves.

use super::Proof;
use crate::config::{Config, Listener, Logins, Problem};
use crate::protocol::Protocol;

impl Proof<'_> {
    /// Warns of listeners that let in more than was probably meant, or nobody, and of devices that cannot get in.
    pub(super) fn warn_of_exposure(&mut self, config: &Config) {
        let mut found: Vec<(String, String)> = Vec::new();
        let is_served = config.listeners.iter().any(|listener| !listener.observes());
        for listener in &config.listeners {
            let warning = if listener.observes() { is_served.then(|| OBSERVES.to_owned()) } else { ancient(listener) };
            found.extend(warning.map(|message| (format!("listener.{}", listener.name), message)));
        }
        found.extend(unserved(config));
        for (key, message) in found {
            let line = self.positions.get(&key).map(|position| position.line);
            self.warnings.push(Problem { file: self.file.to_path_buf(), line, key, message });
        }
    }
}

/// The warning of a listener that accepts ancient TLS from networks that nobody has chosen.
fn ancient(listener: &Listener) -> Option<String> {
    let parts = listener.tls.ancient_parts();
    (!parts.is_empty() && listener.has_default_networks()).then(|| {
        format!(
            "ancient: accepts {} from {}; give the devices that need this a listener of their own, with their addresses \
             in allowed_networks, and remove profile = \"ancient\" from this one",
            parts.join(", "),
            listener.allowed_networks.in_words()
        )
    })
}

/// The networks of devices that no listener serves, with the line that mends it.
fn unserved(config: &Config) -> Vec<(String, String)> {
    let lets_devices_in = |listener: &&Listener| !matches!(listener.logins, Logins::PassThrough(_));
    let listeners: Vec<&Listener> = config.listeners.iter().filter(lets_devices_in).collect();
    let Some(first) = listeners.first() else { return Vec::new() };
    let mut found = Vec::new();
    for device in &config.devices {
        let Some(login) = device.logins.first() else { continue };
        if device.sends_without_login && !listeners.iter().any(|listener| listener.protocol == Protocol::Smtp) {
            let message = "sends without a login, which protocol = \"smtp\" alone knows: add such a listener";
            found.push((format!("device.{login}"), message.to_owned()));
            continue;
        }
        let able: Vec<&Listener> = listeners.iter().copied().filter(|one| one.knows_logins_of(device)).collect();
        let first = able.first().copied().unwrap_or(first);
        for network in device.networks.iter().flat_map(|networks| &networks.0) {
            if able.iter().any(|listener| listener.allowed_networks.overlap(network)) {
                continue;
            }
            let line = first.allowed_networks.line_with(*network);
            let message = format!(
                "no listener allows {network}, so the device cannot log in from there; write in listener {}: {line}",
                first.name
            );
            found.push((format!("device.{login}"), message));
        }
    }
    found
}

const OBSERVES: &str = "observes: nobody is let in; remove observe = true when its devices are to read mail";
