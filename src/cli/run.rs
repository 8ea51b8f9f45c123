//! `packetboat run`: the first lines, the proxy, the drain.

use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{error, info, warn};

use super::Exit;
use crate::config::{Config, Entry, Log, LogFormat, LogLevel, Problem};
use crate::lifecycle::{self, Phase};
use crate::proxy::{self, Opened};
use crate::transport::downstream::certificate;
use crate::transport::host;

/// Runs until a signal says otherwise.
pub(super) fn run(config: &Config, warnings: &[Problem]) -> Result<(), Exit> {
    start_log(config.log);
    for warning in warnings {
        warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        error!(%error, "cannot start");
        Exit::OsError
    })?;
    runtime.block_on(serve(config))
}

async fn serve(config: &Config) -> Result<(), Exit> {
    let opened = proxy::open(config).map_err(|obstacles| {
        for obstacle in obstacles {
            error!("{}: {}", obstacle.subject, obstacle.message);
        }
        Exit::Unavailable
    })?;
    introduce(config, &opened);
    let (trigger, lifecycle) = lifecycle::begin();
    proxy::serve(opened, &config.limits, &lifecycle);
    info!("ready");
    drop(lifecycle);
    let signal = lifecycle::told_to_stop().await.map_err(|error| {
        error!(%error, "cannot wait for signals");
        Exit::OsError
    })?;
    let patience = config.limits.drain_timeout;
    info!("{signal}: no new connections; running sessions have {}", humantime::format_duration(patience));
    trigger.enter(Phase::Draining);
    if !trigger.all_gone(patience).await {
        info!("ending the sessions that are left");
        trigger.enter(Phase::Ending);
        trigger.all_gone(GOODBYE).await;
    }
    info!("stopped");
    Ok(())
}

/// Where it listens, what it shows, and what to type into a device.
fn introduce(config: &Config, opened: &[Opened]) {
    info!("packetboat {} is running", env!("CARGO_PKG_VERSION"));
    let host = host::addresses().first().map_or_else(|| "this computer".to_owned(), ToString::to_string);
    for one in opened {
        let listener = one.listener();
        for address in one.addresses() {
            let upstream = config.upstreams.get(&listener.upstream);
            let (server, port) =
                upstream.map_or(("?", 0), |upstream| (upstream.host.as_str(), upstream.port(listener.protocol)));
            info!(
                listener = listener.name,
                "listening on {address} for {} ({}), profile \"{}\", for {server} port {port}",
                listener.protocol.name(),
                tls_setting(listener.entry),
                listener.tls.profile.name(),
            );
            let server = if address.ip().is_unspecified() { host.clone() } else { address.ip().to_string() };
            info!(
                listener = listener.name,
                "in the device: {} server {server}, port {}, encryption {}, user name and password as before",
                listener.protocol.name(),
                address.port(),
                device_setting(listener.entry),
            );
        }
        if listener.allow_plaintext {
            warn!(
                listener = listener.name,
                "logins without TLS are taken here: passwords and mail can be read on the way"
            );
        }
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
            Ok(certificate) => {
                info!(
                    "certificate \"{name}\": {}, for {}, until {}, SHA-256 {}",
                    certificate.subject,
                    certificate.names.join(" "),
                    certificate.not_after,
                    certificate.sha256
                );
                if certificate.days_left < EXPIRY_WARNING_DAYS {
                    warn!(
                        "certificate \"{name}\" ends in {} days: packetboat certificate renew",
                        certificate.days_left
                    );
                }
            }
            Err(error) => warn!("certificate \"{name}\": {error}"),
        }
    }
    let authority = certificate::authority_path(&config.state_directory);
    if authority.exists() {
        info!(
            "a device that checks certificates needs the CA: {} (for DER, as most printers want it: packetboat certificate export --der)",
            authority.display()
        );
    }
}

fn tls_setting(entry: Entry) -> &'static str {
    match entry {
        Entry::Implicit => "TLS from the start",
        Entry::StartTls => "STARTTLS",
        Entry::Auto => "TLS from the start, or STARTTLS",
        Entry::Plaintext => "no TLS",
    }
}

fn device_setting(entry: Entry) -> &'static str {
    match entry {
        Entry::Implicit => "\"SSL/TLS\"",
        Entry::StartTls => "\"STARTTLS\"",
        Entry::Auto => "\"SSL/TLS\" or \"STARTTLS\"",
        Entry::Plaintext => "\"none\"",
    }
}

fn start_log(log: Log) {
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

const EXPIRY_WARNING_DAYS: i32 = 30;
/// For the last words to sessions whose time is over.
const GOODBYE: Duration = Duration::from_secs(6);
