//! The tables of the fleet are migrated, where the configuration wants that, and checked. While the database is away, refuses
//! the login or has its tables in use, both are tried again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use crate::config::Fleet;
use crate::fleet::{Error, InstanceRecords, Postgres, check_schema};

/// The preparation of the tables for an instance.
pub(super) struct Preparation {
    database: Arc<Postgres>,
    migrate: bool,
    /// The address of the database, for the log.
    address: String,
    instance: String,
    /// The lines that the log has already.
    told: Vec<String>,
}

impl Preparation {
    /// The preparation by this section, for the instance of this name.
    pub(super) fn new(database: &Arc<Postgres>, section: &Fleet, instance: &str) -> Self {
        let (address, instance) = (section.database.to_string(), instance.to_owned());
        Self { database: Arc::clone(database), migrate: section.migrate, address, instance, told: Vec::new() }
    }

    /// Tries again until the tables fit.
    pub(super) async fn go_on(&mut self) {
        loop {
            sleep(AGAIN).await;
            if self.attempt().await {
                return;
            }
        }
    }

    /// Migrates the tables, and returns whether they fit. The log has the result.
    pub(super) async fn attempt(&mut self) -> bool {
        let mut problems = Vec::new();
        if self.migrate {
            match self.database.migrate().await {
                Ok(done) if done.from == Some(done.to) => {}
                Ok(done) => info!("the fleet's tables have version {} now", done.to),
                Err(error) => {
                    problems.push(format!("the fleet's tables are not migrated: {error}"));
                    // Others may have migrated them.
                    if !matches!(error, Error::NotAllowed(_)) {
                        self.log_problems(problems);
                        return false;
                    }
                }
            }
        }
        let fit = self.fit().await;
        // The registration logs tables of another version, for as long as they are there.
        let other =
            fit.as_ref().err().filter(|error| !matches!(error, Error::OlderSchema { .. } | Error::NewerSchema { .. }));
        problems.extend(other.map(ToString::to_string));
        self.log_problems(problems);
        if fit.is_ok() {
            info!(instance = self.instance, "an instance of the fleet with the database {}", self.address);
        }
        fit.is_ok()
    }

    async fn fit(&self) -> Result<(), Error> {
        check_schema(self.database.database().await?.schema)
    }

    /// Logs what is in the way, unless it is the same as before.
    fn log_problems(&mut self, problems: Vec<String>) {
        if self.told != problems {
            problems.iter().for_each(|problem| warn!(instance = self.instance, "{problem}"));
            self.told = problems;
        }
    }
}

/// The pause between two attempts.
const AGAIN: Duration = Duration::from_secs(10);
