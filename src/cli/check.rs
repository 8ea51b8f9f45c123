//! `packetboat check` finds everything that would keep the proxy from starting, without starting it.

use std::fmt::Write as _;
use std::path::Path;

use super::error::{CommandError, Exit};
use super::output::{diagnostics_error, print, print_error};
use super::runtime;
use crate::admin;
use crate::config::{CertificateSource, Config, Proven};
use crate::diagnostic::Diagnostic;
use crate::mode::Mode;
use crate::proxy::{self, PreparedService, ProcessState};
use crate::state;
use crate::transport::downstream::certificate;

/// Tries what the configuration names: certificates, keys, roots, addresses. The file itself has been read and proven.
pub(super) fn check(file: &Path, proven: &Proven) -> Result<(), CommandError> {
    for warning in &proven.warnings {
        print_error(format_args!("warning: {warning}"));
    }
    let runtime = runtime()?;
    let _inside = runtime.enter();
    match state::open_to_others(&proven.config.state_directory) {
        Ok(remark) => remark.iter().for_each(|remark| print_error(format_args!("warning: {remark}"))),
        Err(message) => return Err(diagnostics_error(proven, &[Diagnostic::new("state_directory", message)])),
    }
    let process = ProcessState::new(&proven.config).map_err(|error| Exit::OsError.because(error))?;
    let prepared = proxy::open(&proven.config, Mode::DryRun, &process, None);
    match (prepared, admin::bind(&proven.config.admin, Mode::DryRun, &process, None)) {
        (Ok(prepared), Ok(_)) => {
            for remark in proven.problems(&proxy::remarks(&proven.config)) {
                print_error(format_args!("warning: {remark}"));
            }
            let mut text = format!("{}: no mistakes found\n", file.display());
            write_listeners(&mut text, &prepared.services);
            write_accounts(&mut text, &proven.config);
            write_new_certificates(&mut text, &proven.config);
            print(text)
        }
        (prepared, listeners) => {
            let found: Vec<Diagnostic> = prepared.err().into_iter().chain(listeners.err()).flatten().collect();
            Err(diagnostics_error(proven, &found))
        }
    }
}

fn write_listeners(text: &mut String, services: &[PreparedService]) {
    for one in services {
        let listener = one.listener();
        let addresses: Vec<String> = one.addresses().iter().map(ToString::to_string).collect();
        let addresses = if addresses.is_empty() {
            "its addresses (in use by the running packetboat: fine)".to_owned()
        } else {
            addresses.join(" ")
        };
        let (name, protocol, tls) = (&listener.name, listener.protocol.name(), listener.tls_in_words());
        let _ = writeln!(text, "  {name}: {protocol} on {addresses}, {tls}");
    }
}

fn write_accounts(text: &mut String, config: &Config) {
    for (name, account) in &config.accounts {
        let servers = config.servers_of(account);
        let servers = if servers.is_empty() {
            "no server, because no listener translates logins".to_owned()
        } else {
            servers.join(" ")
        };
        let _ = writeln!(text, "  account {name}: {}, its access token goes to {servers}", account.mailbox);
    }
}

fn write_new_certificates(text: &mut String, config: &Config) {
    for (name, one) in &config.certificates {
        let path = certificate::chain_path(one, &config.state_directory, name);
        if matches!(one.source, CertificateSource::Made { .. }) && !path.exists() {
            let _ = writeln!(text, "  certificate {name}: made on first start, as {}", path.display());
        }
    }
}
