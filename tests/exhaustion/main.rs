//! Thousands of hostile connections against the binary: it holds them in bounded memory, serves others meanwhile, and has
//! everything back afterwards. `cargo test --test exhaustion -- --nocapture` prints what was measured.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The figures are what it is for.
#![allow(clippy::print_stdout)]

mod crowd;
mod files;
mod guesses;
mod hellos;
mod house;
mod readers;
mod silent;
mod storm;
mod strangers;

/// What the tests between real peers are made of. They use more of it.
#[allow(dead_code)]
#[path = "../peers/support"]
mod support {
    pub mod certificates;
    pub mod device;
    pub mod dovecot;
    pub mod exchange;
    pub mod fake;
    pub mod imap;
    pub mod issuer;
    pub mod pop3;
    pub mod ports;
    pub mod process;
    pub mod proxy;
    pub mod stacks;

    pub use ports::free_ports;

    /// A message of about this many octets.
    pub fn message(size: usize) -> Vec<u8> {
        b"one line after the other\r\n".iter().copied().cycle().take(size / 26 * 26).collect()
    }
}
