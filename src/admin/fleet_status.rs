//! The fleet on the page, in health checks and in metrics: its instances, and whether its database is reached.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Admin;
use super::fleet_inventory::FleetInventory;
use super::role::{Client, Role};
use crate::fleet::{Fleet, Trouble};
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
            "troubles": if is_administrator { view.fleet.troubles().all() } else { Vec::new() },
            "read": view.inventory.read_at(),
            "problem": view.inventory.problem().filter(|_| is_administrator),
        })
    }

    /// The trouble of the fleet, for the operator, although devices are served; nothing where all is well.
    pub(super) fn fleet_warnings(&self, client: &Client) -> Vec<String> {
        let Some(view) = self.fleet.get() else { return Vec::new() };
        let (outage, troubles) = (view.fleet.status().outage(), view.fleet.troubles().all());
        let away =
            outage.map(|outage| (format!("the fleet's database is not used since {}", outage.since_words()), outage));
        match client {
            Client::Owner => {
                away.map(|(words, outage)| format!("{words}: {}", outage.why)).into_iter().chain(troubles).collect()
            }
            // Strangers ask as well, and need not know where it is.
            Client::Network(_) => {
                let trouble = (!troubles.is_empty()).then(|| "the fleet has trouble".to_owned());
                away.map(|(words, _)| words).into_iter().chain(trouble).collect()
            }
        }
    }

    /// The numbers of the fleet for metrics; none without one.
    pub(super) fn fleet_numbers(&self, tokens: &[TokenStatus]) -> Option<FleetNumbers> {
        let fleet = &self.fleet.get()?.fleet;
        let status = fleet.status();
        let troubles = fleet.troubles();
        Some(FleetNumbers {
            database: fleet.origin().map(|origin| origin.id()),
            losses: fleet.losses(),
            troubles: Trouble::ALL.map(|trouble| (trouble, troubles.has(trouble))),
            is_reachable: status.is_reached(),
            last_success: status.last_success().unwrap_or_default(),
            has_sign_ins: tokens.iter().all(|one| one.store_trouble.is_none()),
            sessions: fleet.slots().numbers(),
        })
    }
}
