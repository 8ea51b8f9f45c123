//! This target fuzzes the detection of TLS in the first octets of a connection.

#![no_main]

use support::fuzz::parsers;

libfuzzer_sys::fuzz_target!(|input: &[u8]| parsers::client_hello(input));
