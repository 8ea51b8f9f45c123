//! The first log lines say where packetboat listens, which certificates it shows, and what to type into a device.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use tracing::{debug, info, warn};

use crate::admin;
use crate::config::{CertificateSource, Config, Entry, Listener, Logins, Proven};
use crate::confinement::{self, Confinement};
use crate::protocol::Protocol;
use crate::provision;
use crate::proxy::{self, PreparedService, ProcessState};
use crate::transport::downstream::certificate;
use crate::transport::host;

/// Logs which confinement holds, and which part the kernel refuses.
pub(super) fn log_confinement(confined: &Confinement, config: &Config) {
    match &confined.files {
        Ok(_) => info!(
            "confined by Landlock: files are written in {}{} alone, and read there, beside the configuration and files that it \
             names, and where the system keeps its own",
            config.state_directory.display(),
            if config.admin.edit { ", and in the configuration's directory (admin.edit = true)," } else { "" }
        ),
        Err(why) => warn!("not confined by Landlock; this process can open every file of its user: {why}"),
    }
    for directory in confined.files.iter().flat_map(|allowed| confinement::wide_directories(allowed)) {
        info!(
            "all of {0} may be read, because a file that the configuration names lies directly in {0}",
            directory.display()
        );
    }
    match &confined.calls {
        Ok(()) => info!("confined by seccomp: this process cannot start programs"),
        Err(why) => warn!("not confined by seccomp; this process can start programs: {why}"),
    }
}

/// The reason why the page could not change the configuration, if so.
pub(in crate::cli) fn why_not_editable(config: &Config, file: &Path) -> Option<String> {
    if config.confine && confinement::editable_directory(file).is_none() {
        let why = "lies in a directory that other programs use as well: give it a directory of its own";
        return Some(format!("{} {why}", file.display()));
    }
    provision::why_not_writable(file)
}

/// Logs whether the page can change the configuration, where it may. Returns the reason why it cannot, if so. Call it
/// before the confinement, which hides that reason.
pub(super) fn log_edit(config: &Config, file: &Path) -> Option<String> {
    if !config.admin.edit {
        return None;
    }
    let why = why_not_editable(config, file);
    match &why {
        None => info!("admin.edit = true: who has the admin token can change devices in {}", file.display()),
        Some(why) => warn!("admin.edit = true cannot work: {why}"),
    }
    why
}

/// Logs the listeners, the certificates that they show, and what to type into a device.
pub(super) fn log_services(proven: &Proven, services: &[PreparedService]) {
    let config = &proven.config;
    for one in services {
        log_listener(config, one);
    }
    for device in &config.devices {
        let mailbox = config.accounts.get(&device.account).map_or("?", |account| account.mailbox.as_str());
        for login in &device.logins {
            debug!(login, "the device opens {mailbox}");
        }
    }
    let is_shown = |name: &str| {
        services
            .iter()
            .map(PreparedService::listener)
            .any(|one| one.certificate == name && one.entry != Entry::Plaintext)
    };
    for (name, one) in config.certificates.iter().filter(|(name, _)| is_shown(name)) {
        log_certificate(name, &certificate::chain_path(one, &config.state_directory, name));
    }
    let made = config.certificates.values().any(|one| matches!(one.source, CertificateSource::Made { .. }));
    if made {
        info!(
            "a device that checks certificates needs the CA: {} (for DER, as most printers want it: packetboat certificate export --der)",
            certificate::authority_path(&config.state_directory).display()
        );
    }
    for remark in proven.problems(&proxy::remarks(config)) {
        warn!("{remark}");
    }
}

fn log_listener(config: &Config, service: &PreparedService) {
    let listener = service.listener();
    let addresses = service.addresses();
    for address in &addresses {
        info!(
            listener = listener.name,
            "listening on {address} for {} ({}), {}",
            listener.protocol.name(),
            listener.tls_in_words(),
            destination(config, listener),
        );
    }
    if let Some(settings) = device_settings(listener, &addresses, &host::addresses()) {
        info!(listener = listener.name, "{settings}");
    }
    if listener.allow_plaintext {
        warn!(
            listener = listener.name,
            "logins without TLS are accepted here: passwords and mail can be read on the network"
        );
    }
}

/// The mail server behind a listener, in words.
fn destination(config: &Config, listener: &Listener) -> String {
    match &listener.logins {
        Logins::Translate => "for the accounts of the devices".to_owned(),
        Logins::Observe => "for the inventory only: no login is accepted".to_owned(),
        Logins::PassThrough(name) => {
            let endpoint = config.upstreams.get(name).and_then(|upstream| upstream.endpoint(listener.protocol));
            let (server, port) = endpoint.map_or(("?", 0), |endpoint| (endpoint.host.as_str(), endpoint.port));
            format!("for {server} port {port}, logins passed through")
        }
    }
}

fn log_certificate(name: &str, path: &Path) {
    match certificate::describe(path) {
        Ok(certificate) => info!(
            "certificate \"{name}\": {}, for {}, until {}, SHA-256 {}",
            certificate.subject,
            certificate.names.join(" "),
            certificate.not_after,
            certificate.sha256
        ),
        Err(error) => warn!("certificate \"{name}\": {error}"),
    }
}

/// The settings to type into a device for a listener: one server address, IPv4 rather than IPv6, with each of its ports.
fn device_settings(listener: &Listener, listening: &[SocketAddr], own: &[IpAddr]) -> Option<String> {
    let reached = |address: &SocketAddr| {
        if !address.ip().is_unspecified() {
            return Some(address.ip());
        }
        own.iter().copied().find(|own| own.is_ipv6() == address.is_ipv6() && is_of_network(*own))
    };
    let reachable: Vec<(IpAddr, u16)> =
        listening.iter().filter_map(|address| Some((reached(address)?, address.port()))).collect();
    let (server, reader) =
        match reachable.iter().filter(|(ip, _)| is_of_network(*ip)).min_by_key(|(ip, _)| ip.is_ipv6()) {
            Some((ip, _)) => (*ip, "the device"),
            // Tests and programs on this computer.
            None => (reachable.first()?.0, "a program on this computer"),
        };
    let ports: Vec<String> = reachable
        .iter()
        .filter(|(ip, _)| *ip == server)
        .map(|(_, port)| {
            let encryption = device_setting(listener.entry_at(*port), listener.protocol);
            format!("port {port}, encryption {encryption}")
        })
        .collect();
    let login = match listener.logins {
        Logins::Translate => "user name and password of a [[device]]",
        Logins::PassThrough(_) | Logins::Observe => "user name and password as before",
    };
    Some(format!("in {reader}: {} server {server}, {}, {login}", listener.protocol.name(), ports.join(", or ")))
}

/// Returns whether other computers can reach the address: it is neither loopback nor link-local.
fn is_of_network(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !address.is_loopback() && !is_link_local
}

fn device_setting(entry: Entry, protocol: Protocol) -> String {
    let command = protocol.starttls();
    match entry {
        Entry::Implicit => "\"SSL/TLS\"".to_owned(),
        Entry::StartTls => format!("\"{command}\""),
        Entry::Auto => format!("\"SSL/TLS\" or \"{command}\""),
        Entry::Plaintext => "\"none\"".to_owned(),
    }
}

/// Logs the addresses of the page and of metrics.
pub(super) fn log_admin(listeners: &admin::Listeners) {
    for address in listeners.addresses() {
        info!("the page is at http://{address}/, metrics at http://{address}/metrics");
    }
}

/// Logs sockets of systemd that no listener uses: connections to them are closed.
pub(super) fn log_unclaimed_sockets(common: &ProcessState, config: &Config) {
    for address in common.inherited.unclaimed(config) {
        warn!(
            "{address} was handed over by the service manager, and no listener has it: add it to one, or stop its unit"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(protocol: &str, listen: &[&str], own: &[&str]) -> Option<String> {
        let text = format!(
            "[[listener]]\nprotocol = \"{protocol}\"\nlisten = {listen:?}\nobserve = true\ndetect_delay = \"1s\"\n"
        );
        let config = Config::parse(&text, Path::new("x")).unwrap_or_else(|problems| panic!("{problems:?}")).config;
        let own: Vec<IpAddr> = own.iter().map(|one| one.parse().unwrap()).collect();
        let listener = config.listeners.first()?;
        device_settings(listener, &listener.listen, &own)
    }

    const OWN: [&str; 5] = ["192.168.1.5", "2001:db8::5", "169.254.7.7", "127.0.0.1", "::1"];

    #[test]
    fn one_line_names_an_address_that_devices_reach() {
        for (protocol, listen, expected) in [
            (
                "imap",
                &["0.0.0.0:143", "[::]:143"][..],
                "the device: IMAP server 192.168.1.5, port 143, encryption \"SSL/TLS\" or \"STARTTLS\",",
            ),
            (
                "pop3",
                &["[::]:110"],
                "the device: POP3 server 2001:db8::5, port 110, encryption \"SSL/TLS\" or \"STLS\",",
            ),
            (
                "pop3",
                &["0.0.0.0:110", "0.0.0.0:995"],
                "the device: POP3 server 192.168.1.5, port 110, encryption \"SSL/TLS\" or \"STLS\", or port 995, encryption \"SSL/TLS\",",
            ),
            (
                "imap",
                &["127.0.0.1:143", "192.168.1.5:1143"],
                "the device: IMAP server 192.168.1.5, port 1143, encryption",
            ),
            ("imap", &["127.0.0.1:143"], "a program on this computer: IMAP server 127.0.0.1, port 143, encryption"),
        ] {
            let line = settings(protocol, listen, &OWN).unwrap();
            assert!(line.starts_with(&format!("in {expected}")), "{line}");
            assert!(!line.contains("::1,") && !line.contains("169.254"), "{line}");
        }
        assert_eq!(settings("imap", &["0.0.0.0:143"], &["127.0.0.1", "169.254.7.7"]), None);
    }
}
