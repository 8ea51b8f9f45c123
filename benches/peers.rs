//! packetboat beside the relays that people use today, in one run: CPU time and memory for the same work.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[path = "../tests/peers/support/certificates.rs"]
#[allow(dead_code)]
mod certificates;
#[path = "peers/device.rs"]
mod device;
#[path = "peers/measure.rs"]
mod measure;
#[path = "peers/proxies.rs"]
mod proxies;
#[path = "peers/tree.rs"]
mod tree;
#[path = "peers/upstream.rs"]
mod upstream;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, directory] = arguments.as_slice()
        && role == upstream::ARGUMENT
    {
        upstream::serve(directory.into());
        return;
    }
    // `cargo test --all-targets` runs benches as well, without it.
    if arguments.iter().any(|argument| argument == "--bench") {
        let filter: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
        measure::all(&filter);
    }
}
