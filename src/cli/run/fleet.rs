//! The running proxy as an instance of its fleet: registered while it serves, with one inventory for all instances. A
//! database that is away keeps nobody from serving.

#[cfg(feature = "fleet")]
mod certificates;

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::admin::Admin;
use crate::config::Config;
use crate::inventory::Inventory;
use crate::lifecycle::Lifecycle;

/// The tasks that keep this instance registered, and its inventory exchanged; none where the proxy is alone.
pub(super) type Registration = Vec<JoinHandle<()>>;

/// Registers this instance, if the configuration has a fleet, and shows the inventory of all instances.
#[cfg(feature = "fleet")]
pub(super) fn start(config: &Config, admin: &Admin, inventory: &Arc<Inventory>, lifecycle: &Lifecycle) -> Registration {
    use tracing::warn;

    use crate::admin::{FleetInventory, FleetView};
    use crate::fleet::{self, Fleet, Postgres};

    let Some(section) = config.fleet.as_ref() else { return Vec::new() };
    let database = Arc::new(Postgres::new(section, config));
    let name = fleet::instance_name(config);
    let joined = match Fleet::new(Arc::clone(&database) as _, &name) {
        Ok(joined) => Arc::new(joined),
        Err(error) => {
            warn!("{error}");
            return Vec::new();
        }
    };
    let apart = Arc::new(Postgres::new(section, config));
    let inventory = FleetInventory::new(inventory, &joined, Arc::clone(&apart) as _);
    admin.set_fleet(FleetView::new(Arc::clone(&joined), Arc::clone(&inventory)));
    let (migrate, address) = (section.migrate, section.database.to_string());
    let (registered, exchanged) = (lifecycle.clone(), lifecycle.clone());
    vec![
        tokio::spawn(async move {
            prepare(&database, migrate, &name, &address).await;
            joined.run(registered).await;
        }),
        tokio::spawn(async move { inventory.run(exchanged).await }),
        tokio::spawn(certificates::follow(apart, config.clone(), lifecycle.clone())),
    ]
}

/// Migrates the tables where that is wanted, and logs whether they fit.
#[cfg(feature = "fleet")]
async fn prepare(database: &crate::fleet::Postgres, migrate: bool, name: &str, address: &str) {
    use tracing::{info, warn};

    use crate::fleet::{InstanceRecords, check_schema};

    if migrate {
        match database.migrate().await {
            Ok(done) if done.from == Some(done.to) => {}
            Ok(done) => info!("the fleet's tables have version {} now", done.to),
            Err(error) => warn!("the fleet's tables are not migrated: {error}"),
        }
    }
    match database.database().await.and_then(|facts| check_schema(facts.schema)) {
        Ok(()) => info!(instance = name, "an instance of the fleet with the database {address}"),
        Err(error) => warn!(instance = name, "{error}"),
    }
}

/// Takes the certificates of the fleet before anything is served.
#[cfg(feature = "fleet")]
pub(super) use certificates::settle_first as settle_certificates;

/// Nobody has a fleet without the cargo feature.
#[cfg(not(feature = "fleet"))]
pub(super) fn settle_certificates(_: &crate::cli::ConfigFile, _: &Config) {}

/// Nobody has a fleet without the cargo feature.
#[cfg(not(feature = "fleet"))]
pub(super) fn start(_: &Config, _: &Admin, _: &Arc<Inventory>, _: &Lifecycle) -> Registration {
    Vec::new()
}

/// Waits until the registration has ended, and what was seen last is put; the database has a bound for that.
pub(super) async fn leave(registration: Registration) {
    for task in registration {
        // A task that panicked has ended its registration by not prolonging it.
        let _ = task.await;
    }
}
