//! The files of the inventory in the state directory: the devices that were seen, and the records of configured ones.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::Admin;
use crate::config::Config;
use crate::inventory::Activities;
use crate::pool::{self, Gate};
use crate::proxy::ProcessState;
use crate::state::{self, Access, SaveChange};

/// Loads the inventory of an earlier run. A file that cannot be read is renamed.
pub fn load_inventory(config: &Config, common: &ProcessState) {
    let path = inventory_path(&config.state_directory);
    if let Err(error) = common.inventory.load(&path) {
        set_aside(&path, &error, "a new inventory begins", "a new inventory overwrites it");
    }
    let activities = common.inventory.activities();
    activities.configure(config);
    let path = Activities::path(&config.state_directory);
    let is_loaded = activities.load(&path).unwrap_or_else(|error| {
        set_aside(&path, &error, "new records of devices begin", "new records of devices overwrite it");
        false
    });
    if !is_loaded {
        // Earlier versions had no such file.
        for device in common.inventory.devices() {
            if let (Some(login), Some(logged_in)) = (&device.known_as, device.logged_in) {
                activities.seed(login, device.source, logged_in);
            }
        }
    }
}

fn set_aside(path: &Path, message: &dyn Error, renamed: &str, kept: &str) {
    let aside = path.with_extension("unreadable");
    match std::fs::rename(path, &aside) {
        Ok(()) => warn!("{message}; the file is renamed to {}, and {renamed}", aside.display()),
        Err(error) => warn!("{message}; the file cannot be renamed ({error}), and {kept}"),
    }
}

/// The file of the inventory.
pub fn inventory_path(state_directory: &Path) -> PathBuf {
    state_directory.join("inventory.json")
}

impl Admin {
    /// Saves the inventory and the records of configured devices, if anything has changed.
    pub async fn save_inventory(&self) {
        // The last one waits for the one before it.
        let _saving = self.saving.lock().await;
        let directory = self.serving.read().await.config().state_directory.clone();
        let inventory = Arc::clone(&self.common.inventory);
        let (seen, records) = (inventory.has_changed(), inventory.activities().has_changed());
        if !seen && !records {
            return;
        }
        let gate = Gate::of(&inventory_path(&directory).display().to_string());
        let saved = pool::STATE.run_alone(&gate, DISK, move || {
            state::make_directory(&directory)?;
            if seen {
                state::write(&inventory_path(&directory), &inventory.to_save(), Access::Private)?;
            }
            if records {
                let json = inventory.activities().to_save();
                state::write(&Activities::path(&directory), &json, Access::Private)?;
            }
            Ok(())
        });
        let saved = saved.await.unwrap_or_else(|why| Err(why.into()));
        if saved.is_err() {
            self.common.inventory.mark_changed();
            self.common.inventory.activities().mark_changed();
        }
        match self.save_status.record(saved) {
            Some(SaveChange::Fails(message)) => warn!("the inventory cannot be kept: {message}"),
            Some(SaveChange::Recovered) => info!("the inventory is kept again"),
            None => {}
        }
    }
}

/// A write that takes longer counts as failed.
const DISK: Duration = Duration::from_secs(10);
