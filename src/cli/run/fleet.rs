//! The running proxy as an instance of its fleet: registered while it serves. A database that is away keeps nobody from
//! serving.

use tokio::task::JoinHandle;

use crate::config::Config;
use crate::lifecycle::Lifecycle;

/// The task that keeps this instance registered; none where the proxy is alone.
pub(super) type Registration = Option<JoinHandle<()>>;

/// Registers this instance, if the configuration has a fleet.
#[cfg(feature = "fleet")]
pub(super) fn start(config: &Config, lifecycle: &Lifecycle) -> Registration {
    use std::sync::Arc;

    use tracing::{info, warn};

    use crate::fleet::{self, Fleet, InstanceRecords, Postgres};

    let section = config.fleet.as_ref()?;
    let database = Arc::new(Postgres::new(section, config));
    let name = fleet::instance_name(config);
    let joined = Fleet::new(Arc::clone(&database) as _, &name).map_err(|error| warn!("{error}")).ok()?;
    let (migrate, address, lifecycle) = (section.migrate, section.database.to_string(), lifecycle.clone());
    Some(tokio::spawn(async move {
        if migrate {
            match database.migrate().await {
                Ok(done) if done.from == Some(done.to) => {}
                Ok(done) => info!("the fleet's tables have version {} now", done.to),
                Err(error) => warn!("the fleet's tables are not migrated: {error}"),
            }
        }
        match database.database().await.and_then(|facts| fleet::check_schema(facts.schema)) {
            Ok(()) => info!(instance = name, "an instance of the fleet with the database {address}"),
            Err(error) => warn!(instance = name, "{error}"),
        }
        joined.run(lifecycle).await;
    }))
}

/// Nobody has a fleet without the cargo feature.
#[cfg(not(feature = "fleet"))]
pub(super) fn start(_: &Config, _: &Lifecycle) -> Registration {
    None
}

/// Waits until the registration has ended; the database has a bound for that.
pub(super) async fn leave(registration: Registration) {
    if let Some(task) = registration {
        // A task that panicked has ended its registration by not prolonging it.
        let _ = task.await;
    }
}
