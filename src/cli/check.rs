//! `packetboat check`: everything that would keep the proxy from starting, without starting it.

use std::fmt::Write as _;
use std::path::Path;

use super::Exit;
use super::output::{print, print_error};
use crate::admin;
use crate::config::{CertificateSource, Proven};
use crate::diagnostic::Diagnostic;
use crate::mode::Mode;
use crate::proxy::{self, ProcessState};
use crate::state;
use crate::transport::downstream::certificate;

/// The file has been read and proven; what is left is what it names: certificates, keys, roots, addresses.
pub(super) fn check(file: &Path, proven: &Proven) -> Result<(), Exit> {
    for warning in &proven.warnings {
        print_error(format_args!("warning: {warning}"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        print_error(format_args!("cannot start: {error}"));
        Exit::OsError
    })?;
    let _inside = runtime.enter();
    match state::open_to_others(&proven.config.state_directory) {
        Ok(remark) => remark.iter().for_each(|remark| print_error(format_args!("warning: {remark}"))),
        Err(message) => {
            let diagnostic = Diagnostic::new("state_directory", message);
            proven.problems(&[diagnostic]).iter().for_each(print_error);
            return Err(Exit::Unavailable);
        }
    }
    let common = ProcessState::new(&proven.config).map_err(|error| {
        print_error(error);
        Exit::OsError
    })?;
    let opened = proxy::open(&proven.config, Mode::DryRun, &common, None);
    let (opened, diagnostics) = match (opened, admin::bind(&proven.config.admin, Mode::DryRun, &common, None)) {
        (Ok(opened), Ok(_)) => (Some(opened), Vec::new()),
        (opened, listeners) => (None, opened.err().into_iter().chain(listeners.err()).flatten().collect()),
    };
    match opened {
        Some(opened) => {
            let mut text = format!("{}: no mistakes found\n", file.display());
            for one in &opened.services {
                let listener = one.listener();
                let addresses: Vec<String> = one.addresses().iter().map(ToString::to_string).collect();
                let _ = writeln!(
                    text,
                    "  {}: {} on {}, {}",
                    listener.name,
                    listener.protocol.name(),
                    if addresses.is_empty() {
                        "its addresses, where packetboat runs already".to_owned()
                    } else {
                        addresses.join(" ")
                    },
                    listener.tls_in_words(),
                );
            }
            for (name, account) in &proven.config.accounts {
                let servers = proven.config.servers_of(account);
                let servers =
                    if servers.is_empty() { "no server: no listener translates".to_owned() } else { servers.join(" ") };
                let _ = writeln!(text, "  account {name}: {}, its access token goes to {servers}", account.mailbox);
            }
            for remark in proven.problems(&proxy::remarks(&proven.config)) {
                print_error(format_args!("warning: {remark}"));
            }
            for (name, one) in &proven.config.certificates {
                let path = certificate::chain_path(one, &proven.config.state_directory, name);
                if matches!(one.source, CertificateSource::Made { .. }) && !path.exists() {
                    let _ = writeln!(text, "  certificate {name}: made on first start, as {}", path.display());
                }
            }
            print(text)
        }
        None => {
            proven.problems(&diagnostics).iter().for_each(print_error);
            Err(Exit::Unavailable)
        }
    }
}
