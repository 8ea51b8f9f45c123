//! Thousands of hostile connections against the binary: it holds them in bounded memory, serves others meanwhile, and has
//! everything back afterwards. `cargo test --test exhaustion -- --nocapture` prints what was measured.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The figures are what it is for.
#![allow(clippy::print_stdout)]

mod crowd;
mod files;
mod guesses;
mod hellos;
mod readers;
mod silent;
mod storm;
mod strangers;
