//! IMAP sessions: octets from either side in any cut, a token or none, ends of streams.

#![no_main]

#[path = "../driver.rs"]
mod driver;
#[path = "../model.rs"]
mod model;
#[path = "../session.rs"]
mod session;

use driver::Protocol;

libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(session::play(Protocol::Imap, input)));
