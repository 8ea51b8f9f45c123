//! These tests prove that thousands of hostile connections take bounded memory, delay no good device, and leave nothing
//! behind.
//!
//! `cargo test --test exhaustion -- --nocapture` prints the figures.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// Printed figures are the purpose of these tests.
#![allow(clippy::print_stdout)]

mod crowd;
mod files;
mod guesses;
mod hellos;
mod readers;
mod silent;
mod storm;
mod strangers;
