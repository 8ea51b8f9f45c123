//! A load balancer's header.

#![no_main]

use support::fuzz::parsers;

libfuzzer_sys::fuzz_target!(|input: &[u8]| parsers::proxy_header(input));
