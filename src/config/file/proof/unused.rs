//! Sections that nothing refers to: probably a name was misspelt where it should have been used.

use super::Proof;
use crate::config::{Config, Logins, Problem};

impl Proof<'_> {
    /// Warns of sections of the file that nothing names.
    pub(super) fn warn_of_unused(&mut self, config: &Config) {
        let translates = config.listeners.iter().any(|one| one.logins == Logins::Translate);
        let mut unused = unnamed(config, translates);
        unused.extend(
            config.devices.iter().filter(|_| !translates).filter_map(|device| device.logins.first()).map(|login| {
                (format!("device.{login}"), "no listener translates logins, and so none asks for a device")
            }),
        );
        for (key, message) in unused {
            if let Some(line) = self.positions.get(&key).map(|position| position.line) {
                let message = message.to_owned();
                self.warnings.push(Problem { file: self.file.to_path_buf(), line: Some(line), key, message });
            }
        }
    }
}

/// Keys and why.
fn unnamed(config: &Config, translates: bool) -> Vec<(String, &'static str)> {
    let Config { listeners, upstreams, certificates, devices, accounts, identities, fleet, .. } = config;
    let password_identity = fleet.as_ref().and_then(|fleet| fleet.password_identity.as_ref());
    let passes_to = |name: &str| {
        listeners.iter().any(|one| matches!(&one.logins, Logins::PassThrough(upstream) if upstream == name))
    };
    let mut unused = Vec::new();
    unused.extend(
        upstreams
            .keys()
            // Without accounts nothing can be translated yet; the start reports that.
            .filter(|_| !translates || !accounts.is_empty())
            .filter(|name| !passes_to(name) && !accounts.values().any(|account| account.upstream == **name))
            .map(|name| (format!("upstream.{name}"), "no listener and no account names it")),
    );
    unused.extend(
        certificates
            .keys()
            .filter(|name| !listeners.iter().any(|one| one.certificate == **name))
            .map(|name| (format!("certificate.{name}"), "no listener names it")),
    );
    unused.extend(
        accounts
            .keys()
            .filter(|name| !devices.iter().any(|device| device.account == **name))
            .map(|name| (format!("account.{name}"), "no device names it")),
    );
    unused.extend(
        identities
            .keys()
            .filter(|name| !accounts.values().any(|account| account.identity == **name))
            .filter(|name| password_identity.is_none_or(|identity| identity.name != **name))
            .map(|name| (format!("identity.{name}"), "no account names it")),
    );
    unused
}
