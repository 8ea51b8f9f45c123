//! This target fuzzes the parser of a load balancer's PROXY header.

#![no_main]

use support::fuzz::parsers;

libfuzzer_sys::fuzz_target!(|input: &[u8]| parsers::proxy_header(input));
