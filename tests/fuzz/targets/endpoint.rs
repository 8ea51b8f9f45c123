//! This target fuzzes the parser of a token endpoint's answers.

#![no_main]

use support::fuzz::parsers;

libfuzzer_sys::fuzz_target!(|input: &[u8]| parsers::endpoint(input));
