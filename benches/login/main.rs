//! This bench measures the CPU time of a translated login, beside password pass-through and beside email-oauth2-proxy.
//!
//! The proxies are programs of their own, and their CPU time is the kernel's. `make bench-login`, or one of the two
//! parts: `cargo bench --bench login -- added`. Nothing is asserted but that every session goes well.

#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod added;

use support::bench::{self, emailproxy};

fn main() {
    bench::main(|filter| {
        let parts: [(&str, fn()); 2] = [("added", added::measure), ("beside", || drop(emailproxy::measure()))];
        for (name, measure) in parts {
            if filter.first().is_none_or(|filter| name.contains(filter)) {
                measure();
            }
        }
    });
}
