//! The fleet on the page, in health checks and in metrics: its instances, and whether its database is reached.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Admin;
use super::fleet_inventory::FleetInventory;
use super::role::{Client, Role};
use crate::fleet::Fleet;
use crate::metrics::FleetNumbers;
use crate::token::TokenStatus;

/// The fleet that this process is an instance of.
pub struct FleetView {
    fleet: Arc<Fleet>,
    inventory: Arc<FleetInventory>,
}

impl FleetView {
    /// The view of a fleet, with its inventory.
    pub fn new(fleet: Arc<Fleet>, inventory: Arc<FleetInventory>) -> Self {
        Self { fleet, inventory }
    }

    /// The inventory of the fleet.
    pub(super) fn inventory(&self) -> &Arc<FleetInventory> {
        &self.inventory
    }
}

impl Admin {
    /// Shows this fleet from now on.
    pub fn set_fleet(&self, view: FleetView) {
        // There is one start.
        drop(self.fleet.set(view));
    }

    /// Reads what other instances have seen since, within a second.
    pub(super) async fn refresh_fleet(&self) {
        if let Some(view) = self.fleet.get() {
            view.inventory.refresh().await;
        }
    }

    /// The fleet as JSON; null without one. Only an administrator reads addresses and users of the database.
    pub(super) fn fleet_status(&self, role: Role) -> Value {
        let Some(view) = self.fleet.get() else { return Value::Null };
        let status = view.fleet.status();
        let is_administrator = role == Role::Administrator;
        let outage = status.outage().map(|outage| {
            let why = is_administrator.then_some(outage.why);
            json!({ "since": outage.since, "why": why })
        });
        json!({
            "instance": view.fleet.instance().name,
            "instances": view.inventory.instances(),
            "outage": outage,
            "read": view.inventory.read_at(),
            "problem": view.inventory.problem().filter(|_| is_administrator),
        })
    }

    /// The trouble of the fleet's database, for the operator, although devices are served; none where all is well.
    pub(super) fn fleet_warning(&self, client: &Client) -> Option<String> {
        let outage = self.fleet.get()?.fleet.status().outage()?;
        let since = outage.since_words();
        Some(match client {
            Client::Owner => format!("the fleet's database is not used since {since}: {}", outage.why),
            // Strangers ask as well, and need not know where it is.
            Client::Network(_) => format!("the fleet's database is not used since {since}"),
        })
    }

    /// The numbers of the fleet for metrics; none without one.
    pub(super) fn fleet_numbers(&self, tokens: &[TokenStatus]) -> Option<FleetNumbers> {
        let fleet = &self.fleet.get()?.fleet;
        let status = fleet.status();
        Some(FleetNumbers {
            is_reachable: status.is_reached(),
            last_success: status.last_success().unwrap_or_default(),
            has_sign_ins: tokens.iter().all(|one| one.store_trouble.is_none()),
            sessions: fleet.slots().numbers(),
        })
    }
}
