//! Peers that mean harm, or do it: every fault in every state of a connection, on either side, and STARTTLS under attack.
//!
//! `table` runs each state with each fault, and all of that once more while nobody reads the log. What is to come of a cell
//! stands in `expect`; what the faults are, in `fault`. `shortage` has the logins that need a file or a thread which the
//! system does not give.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// A cell of the table has more than five coordinates.
#![allow(clippy::too_many_arguments)]

mod device;
mod expect;
mod fault;
mod flood;
mod good;
mod peer;
mod server;
mod setup;
mod shortage;
mod starttls;
mod storm;
mod table;
