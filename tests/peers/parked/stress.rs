//! These tests prove parked connections by random sessions, against Dovecot and the simulator of Exchange Online.
//!
//! Each mailbox has a twin whose server never parks: both hear the same commands in the same order, and have to answer the
//! same. Then many devices at a time use few mailboxes.
//!
//! `STRESS_ROUNDS` is the number of visits of each device (25), `STRESS_SEED` the seed (1).

// Long runs by hand need the figures.
#![allow(clippy::print_stdout)]

mod crowd;
mod equal;
mod script;
mod twins;
mod visit;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} = {value:?}")))
}

/// The number of visits of each device.
fn rounds() -> u64 {
    setting("STRESS_ROUNDS", 25)
}

fn seed() -> u64 {
    setting("STRESS_SEED", 1)
}
