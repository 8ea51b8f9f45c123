//! The proxy: listeners, each with its limits, its TLS and its mail server, and a task for each connection.
//!
//! | module | what it does |
//! |---|---|
//! | `limits` | counts connections, handshakes and log lines, by source |
//! | `backend` | mailboxes and servers that logins come to |
//! | `telemetry` | metrics, inventory and log of one listener |
//! | `service`, `current_service` | the settings of one listener, which a reload swaps |
//! | `hints` | advice for devices that do not fit a listener |
//! | `registry` | open connections, so that a reload can end some of them |
//! | `revocation` | decides which connections a reload ends: those that have lost a permission |
//! | `connection` | one device, from its first octet to its last |
//! | `listen` | addresses, sockets, worker threads |
//! | `prepare`, `snapshot`, `running` | opens a configuration, runs it, and goes on with another |
//! | `login_check` | a login without a device, for `packetboat check --online` and the page |
//! | `login_times`, `kept_connection` | the times of logins, and of a connection that is kept after one |
//! | `spool_sender`, `transaction` | sends messages of the spool by their account |
//! | `parking` | connections that wait, logged in, for the next login of their mailbox |
//! | `account_check` | the steps of an account's check, in words |

mod account_check;
mod backend;
mod connection;
mod current_service;
mod hints;
mod kept_connection;
mod limits;
mod listen;
mod login_check;
mod login_times;
mod parking;
mod prepare;
mod probe_message;
mod process;
mod registry;
mod remarks;
mod revocation;
mod running;
mod service;
mod snapshot;
mod spool_sender;
mod telemetry;
mod transaction;
mod warm;

use crate::config::Config;
use crate::protocol::Protocol;
pub use account_check::{StepState, TriedStep, describe, readiness};
pub use connection::driver::{Driver, Event};
pub use listen::bind::{is_beside_own, why_not_bound};
use listen::worker;
pub use listen::worker::Heartbeat;
pub use login_check::LoginChecks;
pub use login_times::{LoginTimes, NewMail, Parking, Steps};
pub use prepare::{Prepared, PreparedService, open};
pub use process::ProcessState;
pub use remarks::remarks;
pub use revocation::Revoked;
pub use running::RunningProxy;
pub use snapshot::Snapshot;

/// Open files beside those of connections: of each worker's event loop, of sockets that listen, of connections that are
/// kept ready or told why they are refused.
pub fn other_files(config: &Config) -> usize {
    let addresses: usize = config.listeners.iter().map(|listener| listener.listen.len()).sum();
    let warm: usize = config.upstreams.values().map(|upstream| Protocol::ALL.len() * upstream.warm_connections).sum();
    let parks = config.upstreams.values().any(|upstream| !upstream.park.is_zero());
    let parked = if parks { config.limits.parked.min(config.accounts.len()) } else { 0 };
    worker::count() * (FILES_OF_A_WORKER + addresses) + warm + parked + limits::REFUSED
}

/// epoll and its copy, and what wakes it.
const FILES_OF_A_WORKER: usize = 6;
