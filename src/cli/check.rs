//! `packetboat check` finds everything that would keep the proxy from starting, without starting it.

mod paused;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::as_service::{WithoutRights, adopt_port_report};
use super::error::{CommandError, Exit};
use super::online::Extent;
use super::output::{diagnostics_error, print, print_error};
use super::run::why_not_editable;
use super::{ConfigFile, online, runtime};
use crate::admin;
use crate::config::{CertificateSource, Config, Listener, Logins, Proven};
use crate::diagnostic::Diagnostic;
use crate::mode::Mode;
use crate::protocol::Protocol;
use crate::proxy::{self, PreparedService, ProcessState};
use crate::state;
use crate::submission::Delivery;
use crate::transport::downstream::certificate;
use crate::transport::ports;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Also fetch a token for each identity, and log in to each mailbox by the protocols that its devices use
    ///
    /// Prints one line for each identity, the accounts that fail, with advice, and the number of accounts that are
    /// ready. Never prints a token. If the token endpoint sends a new refresh token, stores it.
    #[arg(long)]
    online: bool,
    /// With --online: try this account alone, and print every step; may be repeated
    #[arg(long = "account", value_name = "NAME", requires = "online")]
    accounts: Vec<String>,
    /// With --online and one --account: send a test message from its mailbox to this address
    ///
    /// The message goes the way of a device's mail: sender and recipients of the account apply. Exchange Online keeps a
    /// copy in Sent Items.
    #[arg(long, value_name = "TO", requires = "accounts", conflicts_with = "identity")]
    send: Option<String>,
    /// With --online: also measure the logins by IMAP, and advise whether to set park
    ///
    /// Logs in twice to each mailbox. Between the two logins, keeps the first connection for PAUSE (5 seconds unless you
    /// say another time), and then compares them: the times, and whether mail that came meanwhile shows on both: send a
    /// message to the mailbox in the pause. Opens the inbox for reading only.
    #[arg(long, value_name = "PAUSE", num_args = 0..=1, require_equals = true, default_missing_value = "5s",
          requires = "online", conflicts_with_all = ["identity", "send"], value_parser = humantime::parse_duration)]
    measure: Option<Duration>,
    /// With --online: print the results as JSON, for programs
    #[arg(long, requires = "online", conflicts_with_all = ["identity", "send"])]
    json: bool,
    /// With --online: only fetch the tokens of this identity, and log in to no mailbox
    #[arg(long, value_name = "NAME", requires = "online", conflicts_with = "accounts")]
    identity: Option<String>,
    /// End with another code where the token endpoint refuses: for the commands that run this one and try again
    #[arg(long, hide = true, requires = "online")]
    tell_refusal: bool,
}

impl Arguments {
    /// The way on for root where it may not change users: an online check may write refresh tokens, and another one nothing.
    pub(super) fn without_rights(&self) -> WithoutRights {
        if self.online { WithoutRights::Fail } else { WithoutRights::GoOn }
    }
}

/// Tries what the configuration names: certificates, keys, roots, addresses, and with `--online` its accounts. The file
/// itself has been read and proven.
pub(super) fn check(config: &ConfigFile, proven: &Proven, arguments: &Arguments) -> Result<(), CommandError> {
    let file = config.config.as_path();
    adopt_port_report();
    if arguments.online {
        online::are_known(&proven.config, &arguments.accounts)?;
        if let Some(to) = &arguments.send {
            online::can_send(&proven.config, &arguments.accounts, to)?;
        }
    }
    for warning in &proven.warnings {
        print_error(format_args!("warning: {warning}"));
    }
    let text = {
        let runtime = runtime()?;
        let _inside = runtime.enter();
        offline(file, proven, arguments.online)?
    };
    if !arguments.json {
        print(text)?;
    }
    let checked = match &arguments.identity {
        _ if !arguments.online => Ok(None),
        Some(identity) => online::check_identity(file, proven, identity),
        None => online::check(
            file,
            proven,
            &arguments.accounts,
            &Extent { to: arguments.send.as_deref(), measure: arguments.measure, is_json: arguments.json },
        ),
    };
    if arguments.online && !arguments.tell_refusal {
        paused::print_pauses(config, &proven.config, &arguments.accounts, arguments.identity.as_deref());
    }
    match checked? {
        None => Ok(()),
        Some(exit) if arguments.tell_refusal => Err(exit.into()),
        Some(_) => Err(Exit::Unavailable.into()),
    }
}

/// Opens everything, and describes it. The online check describes its own part.
fn offline(file: &Path, proven: &Proven, is_online: bool) -> Result<String, CommandError> {
    let config = &proven.config;
    let mut found = Vec::new();
    match state::open_to_others(&config.state_directory) {
        Ok(remark) => remark.iter().for_each(|remark| print_error(format_args!("warning: {remark}"))),
        Err(message) => found.push(Diagnostic::new("state_directory", message)),
    }
    let process = ProcessState::new(config).map_err(|error| Exit::OsError.because(error))?;
    let prepared = proxy::open(config, Mode::DryRun, &process, None);
    let prepared = prepared.map_err(|diagnostics| found.extend(diagnostics));
    if let Err(diagnostics) = admin::bind(&config.admin, Mode::DryRun, &process, None) {
        found.extend(diagnostics);
    }
    let Some(prepared) = prepared.ok().filter(|_| found.is_empty()) else {
        return Err(diagnostics_error(proven, &found));
    };
    for remark in proven.problems(&proxy::remarks(config)) {
        print_error(format_args!("warning: {remark}"));
    }
    if let Some(why) = why_not_editable(config, file).filter(|_| config.admin.edit) {
        print_error(format_args!(
            "warning: admin.edit = true cannot work: {why}; docs/operations.md says how, or set admin.edit = false"
        ));
    }
    let mut text = format!("{}: no mistakes found\n", file.display());
    for service in &prepared.services {
        let _ = writeln!(text, "  {}", describe(config, service));
    }
    if !is_online {
        write_accounts(&mut text, config);
    }
    write_trials(&mut text, config);
    write_new_certificates(&mut text, config);
    Ok(text)
}

/// A listener in one line: protocol, addresses, TLS, and who gets in.
fn describe(config: &Config, service: &PreparedService) -> String {
    let listener = service.listener();
    let (name, protocol, tls) = (&listener.name, listener.protocol.name(), listener.tls_in_words());
    format!("{name}: {protocol} on {}. {tls}. {}.", addresses(service), reach(config, listener))
}

/// The addresses, with the holder of those that are open already.
fn addresses(service: &PreparedService) -> String {
    let open_by = |address: &SocketAddr| {
        if !service.is_open_already(*address) || !ports::is_listened_on(*address) {
            return "";
        }
        let by_systemd = ports::listening_program(*address).is_some_and(|program| program.name == "systemd");
        if by_systemd { " (opened by systemd: fine)" } else { " (in use by the running packetboat: fine)" }
    };
    let all = service.addresses();
    let mut text = String::new();
    for (index, address) in all.iter().enumerate() {
        let is_last_of_same = all.get(index + 1).is_none_or(|next| open_by(next) != open_by(address));
        let _ = write!(text, "{}{address}", if index == 0 { "" } else { ", " });
        text.push_str(if is_last_of_same { open_by(address) } else { "" });
    }
    if text.is_empty() { "no address of this computer".to_owned() } else { text }
}

/// The devices that a listener serves, and the networks that it serves them from.
fn reach(config: &Config, listener: &Listener) -> String {
    let networks = listener.allowed_networks.in_words();
    let mut text = match &listener.logins {
        Logins::Observe => format!("Observes {networks}: nobody is let in"),
        Logins::PassThrough(upstream) => format!("Passes logins from {networks} to {upstream}"),
        Logins::Translate => {
            let devices = config.devices.iter().filter(|device| listener.lets_in(device)).count();
            let devices = if devices == 1 { "1 device".to_owned() } else { format!("{devices} devices") };
            let submits = listener.protocol == Protocol::Smtp;
            let without_login =
                config.devices.iter().filter(|one| submits && one.sends_without_login && listener.lets_in(one)).count();
            let without_login =
                if without_login > 0 { format!(" ({without_login} without a login)") } else { String::new() };
            format!("Serves {devices}{without_login} from {networks}")
        }
    };
    let ancient = listener.tls.ancient_parts();
    if !ancient.is_empty() {
        let _ = write!(text, "; ancient: accepts {}", ancient.join(", "));
    }
    if listener.allow_plaintext {
        text.push_str("; accepts logins without TLS");
    }
    text
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

/// The accounts whose devices send to the mailbox alone, so that nobody forgets to end the trial.
fn write_trials(text: &mut String, config: &Config) {
    let sends = |listener: &Listener| listener.protocol.submits() && listener.logins == Logins::Translate;
    let on_trial = config.accounts.iter().filter(|(_, account)| account.submission.deliver == Delivery::Mailbox);
    for (name, account) in on_trial.filter(|_| config.listeners.iter().any(sends)) {
        let devices = config.devices.iter().filter(|device| device.account == *name).count();
        let devices = if devices == 1 { "1 device".to_owned() } else { format!("{devices} devices") };
        let _ = writeln!(
            text,
            "  account {name} is on trial: mail of its {devices} goes to {} alone, whatever recipients they give; remove \
             deliver = \"mailbox\" from the account when the trial is over",
            account.mailbox
        );
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
