//! The state of the process that outlives every configuration.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use super::backend::pass_through::PassThroughState;
use super::limits::Connections;
use super::limits::log_quota::LogQuota;
use super::listen::inherited::InheritedSockets;
use super::parking::Parking;
use super::registry::Registry;
use crate::config::Config;
use crate::device::KnownSources;
use crate::fleet::Fleet;
use crate::inventory::Inventory;
use crate::metrics::{self, Metrics};
use crate::spool::Spool;

/// State that a reload hands on: counters, the inventory, open connections, and inherited sockets.
#[derive(Clone)]
pub struct ProcessState {
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// The devices that were seen.
    pub inventory: Arc<Inventory>,
    /// The messages that mail servers have not taken yet.
    pub spool: Arc<Spool>,
    /// The sources that devices have logged in from.
    pub known: Arc<KnownSources>,
    /// This process as an instance of its fleet; none where it is alone.
    pub fleet: Option<Arc<Fleet>>,
    /// The sockets that the service manager has handed over.
    pub inherited: InheritedSockets,
    pub(super) connections: Arc<Connections>,
    pub(super) pass_through: Arc<PassThroughState>,
    pub(super) quota: Arc<LogQuota>,
    /// The connections that wait for the next login of their mailbox.
    pub(super) parking: Arc<Parking>,
    /// The connections that a reload looks at.
    pub(super) registry: Arc<Registry>,
}

impl ProcessState {
    /// The state of a process that has just started, without inherited sockets.
    ///
    /// # Errors
    /// See [`Metrics::new`].
    pub fn new(config: &Config) -> Result<Self, metrics::Error> {
        Self::with(config, Vec::new())
    }

    /// The state of a process that has just started, with the sockets that the service manager has handed over.
    ///
    /// # Errors
    /// See [`Metrics::new`].
    pub fn with(config: &Config, inherited: Vec<TcpListener>) -> Result<Self, metrics::Error> {
        let known = Arc::default();
        let metrics = Arc::new(Metrics::new()?);
        Ok(Self {
            parking: Arc::new(Parking::new(&metrics)),
            metrics,
            inventory: Inventory::new(config.inventory),
            spool: Arc::default(),
            connections: Connections::new(&config.limits, &known),
            pass_through: Arc::new(PassThroughState::new(&config.limits, &known)),
            known,
            fleet: None,
            inherited: InheritedSockets::new(inherited),
            quota: Arc::new(LogQuota::new(&config.log)),
            registry: Arc::default(),
        })
    }

    /// Logs how many lines the quota has suppressed, once that is some seconds old. Call it every few seconds.
    pub fn report_suppressed_lines(&self) {
        self.quota.report(Instant::now());
    }

    /// Logs how many lines the quota has suppressed until now. Call it at the end.
    pub fn report_all_suppressed_lines(&self) {
        self.quota.report_all(Instant::now());
    }
}
