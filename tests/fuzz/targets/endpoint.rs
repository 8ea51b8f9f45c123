//! Answers of a token endpoint.

#![no_main]

use support::fuzz::parsers;

libfuzzer_sys::fuzz_target!(|input: &[u8]| parsers::endpoint(input));
