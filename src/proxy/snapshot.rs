//! A snapshot of the running proxy: its successor takes over from it what has not changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::backend::{Directory, Servers};
use super::listen::bind::AddressesInUse;
use crate::config::{Config, Limits};
use crate::transport::downstream::Acceptor;

/// The running configuration, with what it has opened.
pub struct Snapshot {
    pub(super) config: Config,
    pub(super) addresses: AddressesInUse,
    pub(super) directory: Option<Arc<Directory>>,
    pub(super) servers: Servers,
    /// The TLS acceptor of each listener, by name, with the TLS sessions of its devices.
    pub(super) acceptors: BTreeMap<String, Arc<Acceptor>>,
}

impl Snapshot {
    /// The running configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.config.limits
    }
}
