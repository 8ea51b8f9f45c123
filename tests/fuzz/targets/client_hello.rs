//! The first octets of a connection.

#![no_main]

use support::fuzz::parsers;

libfuzzer_sys::fuzz_target!(|input: &[u8]| parsers::client_hello(input));
