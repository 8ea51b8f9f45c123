//! `packetboat check`: everything that would keep the proxy from starting, without starting it.

use std::fmt::Write as _;
use std::path::Path;

use super::{Exit, answer, complain};
use crate::config::{Config, Problem};
use crate::proxy;

/// The file has been read and proven; what is left is what it names: certificates, keys, roots, addresses.
pub(super) fn check(file: &Path, config: &Config, warnings: &[Problem]) -> Result<(), Exit> {
    for warning in warnings {
        complain(format_args!("warning: {warning}"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        complain(format_args!("cannot start: {error}"));
        Exit::OsError
    })?;
    let _inside = runtime.enter();
    match proxy::open(config) {
        Ok(opened) => {
            let mut text = format!("{}: no mistakes found\n", file.display());
            for one in &opened {
                let listener = one.listener();
                let addresses: Vec<String> = one.addresses().iter().map(ToString::to_string).collect();
                let _ = writeln!(
                    text,
                    "  {}: {} on {}, {} to {}, profile \"{}\"",
                    listener.name,
                    listener.protocol.name(),
                    addresses.join(" "),
                    listener.tls.minimum,
                    listener.tls.maximum,
                    listener.tls.profile.name(),
                );
            }
            answer(text.as_bytes())
        }
        Err(obstacles) => {
            for obstacle in obstacles {
                complain(format_args!("{}: {}: {}", file.display(), obstacle.subject, obstacle.message));
            }
            Err(Exit::Unavailable)
        }
    }
}
