//! A snapshot of the running proxy: its successor takes over from it what has not changed.

use std::sync::Arc;

use super::backend::{Directory, Servers};
use super::listen::bind::AddressesInUse;
use crate::config::{Config, Limits};

/// The running configuration, with what it has opened.
pub struct Snapshot {
    pub(super) config: Config,
    pub(super) addresses: AddressesInUse,
    pub(super) directory: Option<Arc<Directory>>,
    pub(super) servers: Servers,
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
