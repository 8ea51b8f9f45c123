//! This target fuzzes the parser of SASL exchanges.

#![no_main]

use support::fuzz::parsers;

libfuzzer_sys::fuzz_target!(|input: &[u8]| parsers::sasl(input));
