//! The running proxy as an instance of its fleet: registered while it serves, with one inventory for all instances. A
//! database that is away keeps nobody from serving.

#[cfg(feature = "fleet")]
mod certificates;
#[cfg(feature = "fleet")]
mod preparation;

#[cfg(feature = "fleet")]
use std::sync::Arc;
#[cfg(feature = "fleet")]
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::admin::Admin;
use crate::cli::error::Exit;
use crate::config::Config;
use crate::fleet::Fleet;
use crate::lifecycle::Lifecycle;
use crate::proxy::ProcessState;
use crate::token::fleet_password;

/// The tasks that keep this instance registered, lend sessions and exchange the inventory; none where the proxy is alone.
pub(super) type Registration = Vec<JoinHandle<()>>;

/// Makes the process an instance of the fleet that the configuration names. Nothing is dialled yet.
pub(super) fn join(config: &Config, mut process: ProcessState) -> Result<ProcessState, Exit> {
    let password = fleet_password(config).map_err(super::not_started)?;
    process.fleet = Fleet::of(config, password).map_err(super::not_started)?;
    if let Some(fleet) = &process.fleet {
        fleet.will_serve();
    }
    Ok(process)
}

/// Registers this instance, if the configuration has a fleet, and shows the inventory of all instances.
#[cfg(feature = "fleet")]
pub(super) fn start(config: &Config, process: &ProcessState, admin: &Admin, lifecycle: &Lifecycle) -> Registration {
    use tokio::time::timeout;

    use crate::admin::{FleetInventory, FleetView};
    use crate::fleet::Postgres;
    use crate::lifecycle::Phase;

    let (Some(section), Some(joined)) = (config.fleet.as_ref(), process.fleet.clone()) else { return Vec::new() };
    // A connection of its own: a migration, or many devices, may take long.
    let apart = Arc::new(Postgres::new(section, config, joined.password()));
    let inventory = FleetInventory::new(&process.inventory, &joined, Arc::clone(&apart) as _);
    admin.set_fleet(FleetView::new(Arc::clone(&joined), Arc::clone(&inventory)));
    let (registered, exchanged, lent) = (lifecycle.clone(), lifecycle.clone(), lifecycle.clone());
    let (mut preparation, slots) =
        (Preparation::new(&apart, section, &joined.instance().name), Arc::clone(joined.slots()));
    vec![
        tokio::spawn(async move {
            let mut ending = registered.clone();
            let fit = tokio::select! {
                fit = timeout(PREPARING, preparation.attempt()) => fit.unwrap_or(false),
                // The drain does not wait for a migration. PostgreSQL undoes what that has not committed.
                () = ending.reached(Phase::Draining) => return,
            };
            let prepared = async {
                tokio::select! {
                    () = preparation.go_on(), if !fit => {}
                    () = ending.reached(Phase::Draining) => {}
                }
            };
            tokio::join!(joined.run(registered), slots.run(lent), prepared);
        }),
        tokio::spawn(async move { inventory.run(exchanged).await }),
        tokio::spawn(certificates::follow(apart, config.clone(), lifecycle.clone())),
    ]
}

/// Takes the certificates of the fleet before anything is served.
#[cfg(feature = "fleet")]
pub(super) use certificates::settle_first as settle_certificates;
#[cfg(feature = "fleet")]
use preparation::Preparation;

/// Without the cargo feature there is no fleet.
#[cfg(not(feature = "fleet"))]
pub(super) fn settle_certificates(_: &crate::cli::ConfigFile, _: &Config) {}

/// Without the cargo feature there is no fleet.
#[cfg(not(feature = "fleet"))]
pub(super) fn start(_: &Config, _: &ProcessState, _: &Admin, _: &Lifecycle) -> Registration {
    Vec::new()
}

/// Waits until the registration has ended, and what was seen last is put; the database has a bound for that.
pub(super) async fn leave(registration: Registration) {
    for task in registration {
        // A task that panicked has ended its registration by not prolonging it.
        let _ = task.await;
    }
}

/// The time for which the registration waits for the tables. A backup may hold up their migration for longer.
#[cfg(feature = "fleet")]
const PREPARING: Duration = Duration::from_secs(10);
