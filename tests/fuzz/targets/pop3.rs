//! POP3 sessions: octets from either side in any cut, a token or none, ends of streams.

#![no_main]

#[path = "../model.rs"]
mod model;
#[path = "../pair.rs"]
mod pair;
#[path = "../session.rs"]
mod session;

use pair::Protocol;

libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(session::play(Protocol::Pop3, input)));
