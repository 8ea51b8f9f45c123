//! A connection is noted at the configured device that its login names, or else at the one that comes from its address.

use std::net::IpAddr;

use super::Inventory;
use super::activity::{Connection, Owner, Proof};

impl Inventory {
    /// Notes a connection at its device. `owner` is the device that the login names, if there was one.
    pub fn note_connection(&self, owner: Option<Owner<'_>>, connection: &Connection) {
        if owner.is_some_and(|owner| self.activities.note(owner, connection)) {
            return;
        }
        if let Some(login) = self.device_at(connection.source) {
            self.activities.note(Owner { login: &login, proof: Proof::Verified }, connection);
        }
    }

    /// The configured device that comes from an address: the only one that has logged in from there, or the only one
    /// that the configuration lets in from there alone.
    fn device_at(&self, source: IpAddr) -> Option<String> {
        let entries = self.table.lock().at(source).to_vec();
        let logins = entries.iter().filter_map(|entry| entry.device().known_as.clone());
        let mut names: Vec<String> = logins.filter_map(|login| self.activities.device_of(&login)).collect();
        names.sort_unstable();
        names.dedup();
        match names.as_slice() {
            [] => self.activities.device_at(source),
            [name] => Some(name.clone()),
            _ => None,
        }
    }
}
