//! This target fuzzes SMTP sessions: octets from either side in any cut, a token or none, and ends of streams.

#![no_main]

use support::fuzz::session;
use support::fuzz::pair::Protocol;

libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(session::play(Protocol::Smtp, input)));
