//! `packetboat init` sets packetboat up: it asks, or takes arguments, and writes all that the devices and Microsoft need.

mod answers;
mod files;
mod finish;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use super::ConfigFile;
use super::device::{server_identity, write_sheets};
use super::edit::{self, failed};
use super::error::{CommandError, Exit};
use super::output::{print, print_error, problems_error};
use super::setup;
use crate::config::{Certificate, CertificateSource, Config, Environment};
use crate::device::password;
use crate::provision::{ConfigurationFile, Document, Error, NewPassword, Plan, PlannedDevice, RosterEntry, Sheet};
use answers::Answers;
use files::{Pair, SocketUnit};

#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("unattended").multiple(true)))]
pub(super) struct Arguments {
    /// Take the tenant: a domain, such as contoso.onmicrosoft.com, or the directory's id
    #[arg(long, value_name = "DOMAIN")]
    tenant: Option<String>,
    /// Take the devices from this file: lines of name,mailbox,protocol,address (the address may be left out)
    ///
    /// protocol is imap, pop3 or smtp (a device that sends), or imap+smtp or pop3+smtp for one that does both.
    ///
    /// A fifth field, without-login, is for a device that sends and whose menu has no user name. It needs the device's
    /// private address; every computer at that address can send mail from the mailbox then, to its own domain.
    ///
    /// Without it, the devices are those that packetboat has seen, and each is asked for its name and mailbox.
    #[arg(long, value_name = "FILE")]
    devices: Option<PathBuf>,
    /// Make passwords of this length: 8 to 31 characters; many devices accept no more than 15, the default
    #[arg(long, value_parser = clap::value_parser!(u8).range(8..=31))]
    password_length: Option<u8>,
    /// Make the certificate for these names and addresses of this computer, as devices will use them; may be given
    /// several times
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Serve devices from these networks alone; may be given several times. Without it: private networks
    #[arg(long, value_name = "NETWORK")]
    network: Vec<String>,
    /// Write the script and the sheets into this directory
    #[arg(short, long, value_name = "DIRECTORY", default_value = "packetboat-setup")]
    output: PathBuf,
    /// Ask nothing
    #[arg(short, long, group = "unattended")]
    yes: bool,
    /// Print the result as JSON
    #[arg(long, requires = "unattended")]
    json: bool,
    /// Print the configuration, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace a configuration that has devices, accounts or identities already
    #[arg(long)]
    replace: bool,
    /// Fetch tokens at this address instead of Microsoft's
    #[arg(long, value_name = "URL", hide_short_help = true)]
    authority: Option<String>,
    /// Trust the certification authorities in this file at that address
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    roots: Option<String>,
    /// Send tokens to this upstream of the configuration instead of Exchange Online
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    upstream: Option<String>,
    /// Finish the setup: take the application's id, start, and try every account until all work
    #[arg(long, value_name = "CLIENT_ID", group = "unattended", conflicts_with_all = ["tenant", "devices", "dry_run", "replace"])]
    finish: Option<String>,
    /// With --finish: try again for this long, while Exchange Online does not let the application in yet
    #[arg(long, value_name = "TIME", default_value = "2h", requires = "finish", value_parser = humantime::parse_duration)]
    wait: std::time::Duration,
    /// With --finish: try again for this long, while the token endpoint refuses what it may soon take, such as a new
    /// client id. A refusal that waiting cannot change, such as a tenant that does not exist, ends the command at once
    #[arg(long, value_name = "TIME", default_value = "5m", requires = "finish", value_parser = humantime::parse_duration)]
    wait_refused: std::time::Duration,
}

pub(super) fn init(file: &ConfigFile, arguments: &Arguments) -> Result<(), CommandError> {
    match &arguments.finish {
        Some(client_id) => finish::finish(file, client_id, arguments),
        None => set_up(file, arguments),
    }
}

fn set_up(file: &ConfigFile, arguments: &Arguments) -> Result<(), CommandError> {
    let before = ConfigurationFile::peek(&file.config).map_err(failed)?;
    let document = Document::parse(&before).map_err(failed)?;
    if (document.has_any(&OWN) || document.serves_devices()) && !arguments.replace {
        return Err(Exit::Usage.because(format_args!(
            "{} is set up already: it has devices, accounts, an identity, a certificate, or a listener that serves. Add \
             to it with packetboat device add; or write all of these anew with --replace, which keeps the old file \
             beside the new one",
            file.config.display()
        )));
    }
    if !arguments.dry_run {
        ConfigurationFile::may_change(&file.config).map_err(failed)?;
    }
    let answers = Answers::collect(file, arguments)?;
    let pair = Pair::of(file, true)?;
    let devices = with_passwords(&answers)?;
    let plan = Plan {
        tenant: answers.tenant,
        client_id: UNKNOWN_ID.to_owned(),
        chain: pair.chain.display().to_string(),
        key: pair.key_in_file,
        identity_keys: identity_keys(arguments),
        upstream: arguments.upstream.clone(),
        names: answers.names,
        networks: answers.networks,
        ports: ports(file, &devices),
        devices,
        kept: document.text_without(&PLANNED),
        has_crlf: document.has_crlf(),
    };
    let config = config(file, &plan)?;
    if arguments.dry_run {
        return print(plan.text());
    }
    write(file, arguments, &plan, &config, &before)
}

/// The configuration that the plan makes.
fn config(file: &ConfigFile, plan: &Plan) -> Result<Config, CommandError> {
    let parsed = Config::parse_with(&plan.text(), &file.config, &Environment::of_process());
    let mut config = parsed.map_err(|problems| problems_error(Exit::Config, &problems))?.config;
    if let Some(directory) = &file.state_directory {
        config.state_directory.clone_from(directory);
    }
    Ok(config)
}

/// Writes everything: what can fail comes before the configuration, so that no device is left without its password.
fn write(
    file: &ConfigFile,
    arguments: &Arguments,
    plan: &Plan,
    config: &Config,
    before: &str,
) -> Result<(), CommandError> {
    files::make_output(&arguments.output)?;
    let target = ConfigurationFile::open(&file.config).map_err(failed)?;
    if target.text() != before {
        return Err(failed(Error::Changed { path: target.path().to_path_buf() }));
    }
    Pair::of(file, false)?;
    let text = plan.text();
    edit::check(file, &target, &text)?;
    // Makes the CA, where no proxy has run yet; its fingerprint stands on the sheets.
    edit::command(file, &["certificate", "show"], &file.config)?;
    if server_identity(config).authority.is_some() {
        files::write_authority(&config.state_directory, &arguments.output)?;
    }
    setup::write_script(config, &arguments.output.join("packetboat.ps1"))?;
    let sheets = sheets(config, plan)?;
    write_sheets(&arguments.output, &sheets)?;
    let old_sheets = files::old_sheets(&arguments.output, &sheets);
    let backup = target.back_up().map_err(failed)?;
    target.replace(&text).map_err(failed)?;
    renew_certificate(file, config)?;
    let without_login = plan.devices.iter().map(|device| &device.entry).filter(|entry| entry.sends_without_login);
    let without_login = without_login.cloned().collect();
    let written = Written { file, backup, arguments, devices: sheets.len(), old_sheets, without_login };
    print(if arguments.json { written.json() } else { written.text() })
}

/// Makes the certificate that devices see anew where it has other names than the configuration. The CA stays the same.
fn renew_certificate(file: &ConfigFile, config: &Config) -> Result<(), CommandError> {
    let Some(Certificate { source: CertificateSource::Made { names, .. }, .. }) = config.certificates.get(DEFAULT)
    else {
        return Ok(());
    };
    let present = server_identity(config).names;
    if names.is_empty() || *names == present {
        return Ok(());
    }
    let output = edit::command(file, &["certificate", "renew", DEFAULT], &file.config)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Exit::Unavailable.because(String::from_utf8_lossy(&output.stderr).trim_end()))
}

/// The result of a setup.
struct Written<'a> {
    file: &'a ConfigFile,
    backup: PathBuf,
    arguments: &'a Arguments,
    devices: usize,
    /// Sheets of devices that are no longer set up.
    old_sheets: Vec<PathBuf>,
    /// The devices that send without a login.
    without_login: Vec<RosterEntry>,
}

impl Written<'_> {
    fn text(&self) -> String {
        let (config, output) = (self.file.config.display(), self.arguments.output.display());
        let mut text = String::new();
        let _ =
            writeln!(text, "wrote {config} for {} devices; the file before is {}", self.devices, self.backup.display());
        let _ = writeln!(
            text,
            "wrote {output}: packetboat.ps1, and a sheet for each device, with its password if it has one"
        );
        for RosterEntry { name, mailbox, network, .. } in &self.without_login {
            let at = network.map(|network| network.to_string()).unwrap_or_default();
            let _ = writeln!(
                text,
                "device \"{name}\" sends without a login: every computer at {} can send mail from {mailbox} then",
                at.trim_end_matches("/32").trim_end_matches("/128")
            );
        }
        if !self.old_sheets.is_empty() {
            let names: Vec<String> = self.old_sheets.iter().map(|path| path.display().to_string()).collect();
            let _ = writeln!(
                text,
                "these sheets are of an earlier setup, and their passwords no longer work; delete them: {}",
                names.join(" ")
            );
        }
        let _ = write!(
            text,
            "\nNext:\n  1. Copy {output}/packetboat.ps1 to a computer with PowerShell 7, and run it there as an \
             administrator of the tenant.\n     It prints the application's client id.\n  2. packetboat init --finish \
             CLIENT_ID\n  3. Type what the sheets say into the devices; then delete the sheets.\n     ca.der is for devices that check \
             certificates.\n"
        );
        text
    }

    fn json(&self) -> String {
        let value = serde_json::json!({
            "configuration": self.file.config,
            "backup": self.backup,
            "script": self.arguments.output.join("packetboat.ps1"),
            "sheets": self.arguments.output,
            "devices": self.devices,
            "old_sheets": self.old_sheets,
            "without_login": self.without_login.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(),
        });
        format!("{value}\n")
    }
}

/// The devices with new passwords.
fn with_passwords(answers: &Answers) -> Result<Vec<PlannedDevice>, CommandError> {
    let planned = |(entry, is_ancient): &(RosterEntry, bool)| {
        let password = match entry.sends_without_login {
            true => None,
            false => {
                let text = password::generate(usize::from(answers.password_length))?;
                let hash = password::hash(text.as_bytes())?;
                Some(NewPassword { text, hash })
            }
        };
        Ok(PlannedDevice { entry: entry.clone(), password, is_ancient: *is_ancient })
    };
    let planned: Result<Vec<_>, password::Error> = answers.devices.iter().map(planned).collect();
    planned.map_err(|error| Exit::OsError.because(error))
}

/// The sheets of the devices, by their names.
fn sheets(config: &Config, plan: &Plan) -> Result<Vec<(String, Sheet)>, CommandError> {
    let mut server = server_identity(config);
    if !plan.names.is_empty() {
        server.names.clone_from(&plan.names);
    }
    let mut sheets = Vec::new();
    for planned in &plan.devices {
        let login = planned.entry.name.to_lowercase();
        let Some(device) = config.devices.iter().find(|device| device.logins.contains(&login)) else { continue };
        let sheet = Sheet::new(config, device, &server, &planned.entry.protocols);
        if !sheet.has_connection() {
            return Err(Exit::Usage.because(format_args!(
                "no listener would let {} in from {}: name its network with --network (and those of the other devices)",
                planned.entry.name,
                planned.entry.network.map(|network| network.to_string()).unwrap_or_default()
            )));
        }
        let sheet = match &planned.password {
            Some(password) => sheet.with_password(&password.text),
            None => sheet,
        };
        sheets.push((login, sheet));
    }
    Ok(sheets)
}

/// The ports that differ from the registered ones: a port that another program has, or that the process may not take.
fn ports(file: &ConfigFile, devices: &[PlannedDevice]) -> BTreeMap<u16, u16> {
    let is_running = super::control_client::process(&file.state_directories()).is_some();
    let present = file.read().map(|proven| proven.config.listeners).unwrap_or_default();
    let is_own = |port: u16| {
        is_running && present.iter().flat_map(|listener| &listener.listen).any(|address| address.port() == port)
    };
    let is_free = |port: u16| is_own(port) || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    let (mut ports, mut taken) = (BTreeMap::new(), BTreeSet::new());
    for registered in Plan::registered_ports(devices) {
        let unit = SocketUnit::of(registered);
        let is_handed_over = unit.as_ref().is_some_and(|unit| unit.is_in_use);
        let may_take = is_handed_over || is_own(registered) || registered >= PRIVILEGED && is_free(registered);
        if may_take && taken.insert(registered) {
            continue;
        }
        let candidates = (1..=60).map(|thousand| (registered % 1000) + thousand * 1000);
        if let Some(port) = candidates.into_iter().find(|port| !taken.contains(port) && is_free(*port)) {
            taken.insert(port);
            ports.insert(registered, port);
            if let Some(SocketUnit { name, .. }) = unit {
                print_error(format_args!(
                    "{name} is not enabled: devices shall use port {port} instead of {registered}. For {registered}, run \
                     systemctl enable --now {name}, then this command again"
                ));
            }
        }
    }
    ports
}

fn identity_keys(arguments: &Arguments) -> Vec<(&'static str, String)> {
    let is_elsewhere = arguments.authority.is_some();
    let keys = [
        ("cloud", is_elsewhere.then(|| "worldwide".to_owned())),
        ("authority", arguments.authority.clone()),
        ("roots", arguments.roots.clone()),
    ];
    keys.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

/// The sections that are an operator's own work.
const OWN: [&str; 4] = ["device", "account", "identity", "certificate"];
/// The sections that a plan writes anew.
const PLANNED: [&str; 5] = ["device", "account", "identity", "listener", "certificate"];
/// The certificate of listeners that name none.
const DEFAULT: &str = "default";
/// The id of an application that is not registered yet.
const UNKNOWN_ID: &str = "00000000-0000-0000-0000-000000000000";
const PRIVILEGED: u16 = 1024;
