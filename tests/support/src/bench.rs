//! The benches share these parts: the old devices, the fast server, CPU time, figures, and email-oauth2-proxy to
//! compare with.

pub mod callgrind;
pub mod cost;
pub mod device;
pub mod emailproxy;
pub mod figures;
pub mod packetboat;
pub mod records;
pub mod submitter;
pub mod upstream;

/// Runs a bench with the words of its command line, or the mail server where [`upstream::Upstream`] has started this
/// program.
pub fn main(run: impl FnOnce(&[&str])) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, address, directory] = arguments.as_slice()
        && role == upstream::ARGUMENT
    {
        upstream::serve(address, directory.into());
    // `cargo test --all-targets` runs benches as well, without this argument.
    } else if arguments.iter().any(|argument| argument == "--bench") {
        run(&arguments.iter().map(String::as_str).filter(|one| !one.starts_with('-')).collect::<Vec<_>>());
    }
}
