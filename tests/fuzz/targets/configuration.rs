//! This target fuzzes the parser of configuration files.

#![no_main]

use support::fuzz::parsers;

libfuzzer_sys::fuzz_target!(|input: &[u8]| parsers::configuration(input));
