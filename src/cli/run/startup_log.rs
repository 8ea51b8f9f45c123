//! The first log lines say where packetboat listens, which certificates it shows, and what to type into a device.

use std::net::SocketAddr;
use std::path::Path;

use tracing::{debug, info, warn};

use crate::admin;
use crate::config::{CertificateSource, Config, Entry, Listener, Logins, Proven};
use crate::confinement::{self, Confinement};
use crate::proxy::{self, PreparedService, ProcessState};
use crate::transport::downstream::certificate;
use crate::transport::host;

/// Logs which confinement holds, and which part the kernel refuses.
pub(super) fn log_confinement(confined: &Confinement, config: &Config) {
    match &confined.files {
        Ok(_) => info!(
            "confined by Landlock: files are written in {} alone, and read there, beside the configuration and files that it \
             names, and where the system keeps its own",
            config.state_directory.display()
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
    for address in service.addresses() {
        info!(
            listener = listener.name,
            "listening on {address} for {} ({}), {}",
            listener.protocol.name(),
            listener.tls_in_words(),
            destination(config, listener),
        );
        let server = if address.ip().is_unspecified() { reached_at(address) } else { address.ip().to_string() };
        info!(
            listener = listener.name,
            "in the device: {} server {server}, port {}, encryption {}, {}",
            listener.protocol.name(),
            address.port(),
            device_setting(listener.entry_at(address.port())),
            match listener.logins {
                Logins::Translate => "user name and password of a [[device]]",
                Logins::PassThrough(_) | Logins::Observe => "user name and password as before",
            },
        );
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
            let endpoint = config.upstreams.get(name).map(|upstream| upstream.endpoint(listener.protocol));
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

/// An address of this computer, of the same family as the listening address.
fn reached_at(listening: SocketAddr) -> String {
    let own = host::addresses().into_iter().find(|address| address.is_ipv6() == listening.is_ipv6());
    own.map_or_else(|| "this computer".to_owned(), |address| address.to_string())
}

fn device_setting(entry: Entry) -> &'static str {
    match entry {
        Entry::Implicit => "\"SSL/TLS\"",
        Entry::StartTls => "\"STARTTLS\"",
        Entry::Auto => "\"SSL/TLS\" or \"STARTTLS\"",
        Entry::Plaintext => "\"none\"",
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
