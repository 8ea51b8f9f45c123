//! Devices' names are looked up in the DNS in the background, one at a time, and not again for a day.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::inventory::Inventory;
use crate::pool;
use crate::transport::host;

/// The time of each address's last lookup.
#[derive(Default)]
pub(super) struct ReverseDns(HashMap<IpAddr, Instant>);

impl ReverseDns {
    /// Looks up one device that has no name yet.
    pub(super) async fn look_up(&mut self, inventory: &Inventory) {
        if !inventory.wants_names() {
            return;
        }
        self.0.retain(|_, tried| tried.elapsed() < AGAIN);
        for source in inventory.unnamed_sources() {
            if self.0.len() >= MOST {
                return;
            }
            if self.0.contains_key(&source) {
                continue;
            }
            self.0.insert(source, Instant::now());
            // A resolver that takes its time is not waited for; the next address may be quicker.
            if let Ok(Some(name)) = pool::DEVICE_NAMES.run_within(PATIENCE, move || host::name_of(source)).await {
                inventory.set_name(source, &name);
            }
            return;
        }
    }
}

const AGAIN: Duration = Duration::from_secs(24 * 60 * 60);
const PATIENCE: Duration = Duration::from_secs(2);
/// The most addresses whose last lookup is remembered.
const MOST: usize = 10_000;
