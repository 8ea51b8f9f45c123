//! These tests prove that a hostile or faulty peer, in every state of a connection and on either side, harms no one
//! else.
//!
//! `table` runs each state with each fault, and then again while the log has no reader. `expect` has the expected
//! result of each cell, `fault` the faults, `starttls` the attacks on STARTTLS. `shortage` has logins that need a file
//! or a thread which the system does not give.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// A cell of the table has more than five coordinates.
#![allow(clippy::too_many_arguments)]

mod between;
mod device;
mod expect;
mod fault;
mod flood;
mod good;
mod parked;
mod peer;
mod server;
mod setup;
mod shortage;
mod starttls;
mod storm;
mod submission;
mod submission_starttls;
mod table;
