//! Provisioning changes the configuration file for the operator: accounts, devices and identities are added, changed and
//! removed, whole or not at all, and everything else in the file keeps its octets.

mod comments;
mod document;
pub mod edits;
mod error;
mod file;
mod plan;
pub mod roster;
mod sheet;
#[cfg(test)]
mod tests;

pub use document::{Document, NewAccount, NewDevice};
pub use error::{Error, Kind};
pub use file::{ConfigurationFile, why_not_writable};
pub use plan::{NewPassword, Plan, PlannedDevice, account_name};
pub use roster::{RosterEntry, RosterError};
pub use sheet::{Fingerprints, ServerIdentity, Sheet};
