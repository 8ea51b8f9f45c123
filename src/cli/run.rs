//! `packetboat run`: the first lines, the proxy, the drain.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::level_filters::LevelFilter;
use tracing::{debug, error, info, warn};

use super::Exit;
use crate::config::{CertificateSource, Entry, Log, LogFormat, LogLevel, Logins, Proven};
use crate::lifecycle::{self, Phase, Signals};
use crate::proxy::{self, OpenDoor};
use crate::transport::downstream::certificate::{self, Making};
use crate::transport::host;

/// Runs until a signal says otherwise.
pub(super) fn run(proven: &Proven) -> Result<(), Exit> {
    start_log(proven.config.log);
    for warning in &proven.warnings {
        warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        error!(%error, "cannot start");
        Exit::OsError
    })?;
    runtime.block_on(serve(proven))
}

async fn serve(proven: &Proven) -> Result<(), Exit> {
    let config = &proven.config;
    raise_open_files(config.limits.connections, proxy::other_files(config));
    // Before anything is served: a signal that came too early would end the process without a drain.
    let mut signals = Signals::listen().map_err(|error| {
        error!(%error, "cannot wait for signals");
        Exit::OsError
    })?;
    let opened = proxy::open(config, Making::Kept).map_err(|obstacles| {
        for obstacle in obstacles {
            error!("{}", proven.problem(&obstacle.key, &obstacle.message));
        }
        Exit::Unavailable
    })?;
    introduce(proven, &opened.doors);
    let (trigger, lifecycle) = lifecycle::begin();
    let serving = proxy::serve(opened, &config.limits, &lifecycle).map_err(|error| {
        error!(%error, "cannot start");
        Exit::OsError
    })?;
    info!("ready");
    drop(lifecycle);
    let signal = signals.next().await;
    let patience = config.limits.drain_timeout;
    info!("{signal}: no new connections; running sessions have {}", humantime::format_duration(patience));
    trigger.enter(Phase::Draining);
    let all_gone = tokio::select! {
        all_gone = trigger.all_gone(patience) => all_gone,
        signal = signals.next() => {
            info!("{signal} again");
            false
        }
    };
    if !all_gone {
        info!("ending the sessions that are left");
        trigger.enter(Phase::Ending);
        trigger.all_gone(config.limits.close_timeout + GOODBYE).await;
    }
    serving.settle().await;
    info!("stopped");
    Ok(())
}

/// Where it listens, what it shows, and what to type into a device.
fn introduce(proven: &Proven, opened: &[OpenDoor]) {
    let config = &proven.config;
    info!("packetboat {} is running", env!("CARGO_PKG_VERSION"));
    for one in opened {
        let listener = one.listener();
        for address in one.addresses() {
            let onward = match &listener.logins {
                Logins::Translate => "for the accounts of the devices".to_owned(),
                Logins::PassThrough(name) => {
                    let upstream = config.upstreams.get(name);
                    let place = upstream.map(|one| (one.host(listener.protocol), one.port(listener.protocol)));
                    let (server, port) = place.unwrap_or(("?", 0));
                    format!("for {server} port {port}, logins passed through")
                }
            };
            info!(
                listener = listener.name,
                "listening on {address} for {} ({}), {onward}",
                listener.protocol.name(),
                listener.tls_in_words(),
            );
            let server = if address.ip().is_unspecified() { reached_at(address) } else { address.ip().to_string() };
            info!(
                listener = listener.name,
                "in the device: {} server {server}, port {}, encryption {}, {}",
                listener.protocol.name(),
                address.port(),
                device_setting(listener.entry),
                match listener.logins {
                    Logins::Translate => "user name and password of a [[device]]",
                    Logins::PassThrough(_) => "user name and password as before",
                },
            );
        }
        if listener.allow_plaintext {
            warn!(
                listener = listener.name,
                "logins without TLS are taken here: passwords and mail can be read on the way"
            );
        }
    }
    for device in &config.devices {
        let mailbox = config.accounts.get(&device.account).map_or("?", |account| account.mailbox.as_str());
        debug!("device {} opens {mailbox}", device.logins.join(", "));
    }
    for (name, one) in &config.certificates {
        if !opened
            .iter()
            .any(|opened| opened.listener().certificate == *name && opened.listener().entry != Entry::Plaintext)
        {
            continue;
        }
        let path = certificate::chain_path(one, &config.state_directory, name);
        match certificate::describe(&path) {
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
    let made = config.certificates.values().any(|one| matches!(one.source, CertificateSource::Made { .. }));
    if made {
        info!(
            "a device that checks certificates needs the CA: {} (for DER, as most printers want it: packetboat certificate export --der)",
            certificate::authority_path(&config.state_directory).display()
        );
    }
    for remark in proxy::remarks(config) {
        warn!("{}", proven.problem(&remark.key, &remark.message));
    }
}

/// Each connection has a socket on either side; the usual limit of 1024 ends at some 500 of them.
fn raise_open_files(connections: usize, others: usize) {
    let count = |files: usize| u64::try_from(files).unwrap_or(u64::MAX);
    let needed = count(connections).saturating_mul(2).saturating_add(count(others)).saturating_add(OTHER_FILES);
    let mut limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current.filter(|current| *current < needed) else { return };
    limit.current = limit.maximum.map_or(Some(needed), |maximum| Some(maximum.min(needed)));
    let possible = match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.current.unwrap_or(needed),
        Err(_) => current,
    };
    if possible < needed {
        warn!(
            "limits.connections = {connections} needs {needed} open files, and this process may have {possible}: raise \
             LimitNOFILE (systemd) or ulimit -n, or lower limits.connections"
        );
    }
}

/// An address of this computer, of the family that is listened on.
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

pub(super) fn start_log(log: Log) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    match log.format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
}

/// The log, the main thread's own, files that are read.
const OTHER_FILES: u64 = 64;
/// Beside `close_timeout`, for the last words to sessions whose time is over.
const GOODBYE: Duration = Duration::from_secs(1);
