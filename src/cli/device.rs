//! `packetboat device` adds, removes and lists the devices of the configuration, and prints what to type into each.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use zeroize::Zeroizing;

use super::ConfigFile;
use super::edit::{edit, failed};
use super::error::{CommandError, Exit};
use super::output::print;
use super::password::Secret;
use crate::config::{CertificateSource, Config, Device};
use crate::protocol::Protocol;
use crate::provision::{Document, Fingerprints, NewDevice, ServerIdentity, Sheet, edits};
use crate::state::{self, Access};
use crate::transport::downstream::certificate;
use crate::transport::host;

#[derive(Subcommand)]
pub(super) enum Action {
    /// Add a device, make its password, and print what to type into it
    ///
    /// The password is shown once. The configuration holds only its hash. With --without-login there is none.
    Add {
        /// The user name that the device sends
        login: String,
        #[command(flatten)]
        sending: SendingArguments,
        #[command(flatten)]
        mailbox: MailboxArguments,
        /// Accept this user name as well; may be given several times
        ///
        /// Without it, the mailbox's address is one, if no other device has it.
        #[arg(long, value_name = "NAME")]
        alias: Vec<String>,
        /// Let the device in from this address or network alone; may be given several times
        #[arg(long, value_name = "ADDRESS")]
        network: Vec<String>,
        /// Describe the device for people, such as "second floor"
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        #[command(flatten)]
        secret: Secret,
        #[command(flatten)]
        form: Form,
    },
    /// Remove a device: its sessions end, and its user name and password no longer work
    Remove {
        /// The device's user name, or an alias
        login: String,
    },
    /// Give a device a new password
    Password {
        /// The device's user name, or an alias
        login: String,
        /// Keep the present passwords beside the new one, until the device has it
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        secret: Secret,
        #[command(flatten)]
        form: Form,
    },
    /// Print what to type into a device: server, port, encryption, user name
    Sheet {
        /// The device's user name, or an alias
        login: String,
        #[command(flatten)]
        form: Form,
    },
    /// List the devices of the configuration
    List,
}

/// The mailbox that a device opens.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct MailboxArguments {
    /// Open this mailbox; adds an account for it, if there is none
    #[arg(long, value_name = "ADDRESS")]
    mailbox: Option<String>,
    /// Open the mailbox of this account: NAME of an [account.NAME]
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
}

/// The rules for a device that sends mail.
#[derive(clap::Args)]
pub(super) struct SendingArguments {
    /// Let the device send mail without a login, from its address alone; needs --network
    ///
    /// Every computer at that address can send mail from the mailbox then. For a device whose menu has no user name for
    /// sending.
    #[arg(long, requires = "network", conflicts_with_all = ["length", "stdin", "alias"])]
    without_login: bool,
    /// Let the device send to this address, or to a domain as "*@contoso.com"; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    recipient: Vec<String>,
}

/// The form of a sheet.
#[derive(clap::Args)]
pub(super) struct Form {
    /// Print only the ports of this protocol
    #[arg(long, value_enum)]
    protocol: Option<ProtocolName>,
    /// Write the sheet to this file as a page to print (HTML), for its owner alone
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ProtocolName {
    Imap,
    Pop3,
    Smtp,
}

pub(super) fn act(file: &ConfigFile, action: Action) -> Result<(), CommandError> {
    match action {
        Action::Add { login, sending, mailbox, alias, network, description, secret, form } => {
            let password = if sending.without_login { None } else { Some(secret.password()?) };
            let new = |account| -> Result<NewDevice, CommandError> {
                let password = password.as_ref().map(|password| secret.hash(password)).transpose()?;
                let (login, aliases, networks) = (
                    login.clone(),
                    alias.clone(),
                    edits::networks(network.iter().map(String::as_str)).map_err(failed)?,
                );
                let (recipients, description) = (sending.recipient.clone(), description.clone());
                Ok(NewDevice { login, aliases, password, account, networks, recipients, description })
            };
            let change = |document: &mut Document, config: &Config| {
                let account = mailbox.account(document, config)?;
                let mut device = new(account)?;
                if alias.is_empty() && !sending.without_login {
                    device.aliases.extend(mailbox.alias(config, &login));
                }
                document.add_device(&device).map_err(failed)
            };
            let edited = edit(file, change, |config| form.write(config, &login, password.as_ref()))?;
            edited.then(|config| form.print(config, &login, password.as_ref()))
        }
        Action::Remove { login } => {
            let remove = |document: &mut Document, config: &Config| {
                edits::remove_device(document, config, &login).map_err(failed)
            };
            edit(file, remove, |_| Ok(()))?.then(|config| print(unused_accounts(config)))
        }
        Action::Password { login, keep, secret, form } => {
            let password = secret.password()?;
            let change = |document: &mut Document, _: &Config| {
                let mut hashes = vec![secret.hash(&password)?];
                if keep {
                    hashes.extend(document.passwords(&login).map_err(failed)?);
                }
                document.set_passwords(&login, &hashes).map_err(failed)
            };
            let edited = edit(file, change, |config| form.write(config, &login, Some(&password)))?;
            edited.then(|config| form.print(config, &login, Some(&password)))
        }
        Action::Sheet { login, form } => {
            let config = file.load()?.config;
            form.write(&config, &login, None)?;
            form.print(&config, &login, None)
        }
        Action::List => print(list(&file.load()?.config)),
    }
}

impl MailboxArguments {
    /// The account's name. An account for a new mailbox is added.
    fn account(&self, document: &mut Document, config: &Config) -> Result<String, CommandError> {
        if let Some(name) = &self.account {
            let known: Vec<&str> = config.accounts.keys().map(String::as_str).collect();
            return match config.accounts.contains_key(name) {
                true => Ok(name.clone()),
                false => Err(Exit::Usage.because(format_args!(
                    "there is no account \"{name}\"; known are {}; or name the mailbox with --mailbox",
                    known.join(", ")
                ))),
            };
        }
        let address = self.mailbox.as_deref().unwrap_or_default();
        edits::account_of_mailbox(document, config, address).map_err(failed)
    }

    /// The mailbox's address as an alias, unless a device has it as a user name already.
    fn alias(&self, config: &Config, login: &str) -> Option<String> {
        let of_account = |name: &String| config.accounts.get(name).map(|account| account.mailbox.clone());
        let address = self.mailbox.clone().or_else(|| self.account.as_ref().and_then(of_account))?;
        edits::alias(config, login, &address)
    }
}

impl Form {
    /// Writes the sheet of a device as a page, if that is asked for.
    fn write(&self, config: &Config, login: &str, password: Option<&Zeroizing<String>>) -> Result<(), CommandError> {
        let Some(path) = &self.html else { return Ok(()) };
        let sheet = self.sheet(config, login, password)?;
        let written = state::write(path, sheet.html().as_bytes(), Access::Private);
        written.map_err(|error| Exit::IoError.because(error))
    }

    /// Prints the sheet of a device, or the file that it stands in.
    fn print(&self, config: &Config, login: &str, password: Option<&Zeroizing<String>>) -> Result<(), CommandError> {
        match &self.html {
            None => print(self.sheet(config, login, password)?.text()),
            Some(path) => print(format_args!("wrote {}\n", path.display())),
        }
    }

    fn sheet(&self, config: &Config, login: &str, password: Option<&Zeroizing<String>>) -> Result<Sheet, CommandError> {
        let protocols: Vec<Protocol> = self.protocol.map(ProtocolName::protocol).into_iter().collect();
        let sheet = Sheet::new(config, find(config, login)?, &server_identity(config), &protocols);
        Ok(match password {
            Some(password) => sheet.with_password(password),
            None => sheet,
        })
    }
}

/// Writes sheets into a directory, each as text and as a page to print, for the directory's owner alone.
pub(super) fn write_sheets(directory: &Path, sheets: &[(String, Sheet)]) -> Result<(), CommandError> {
    for (name, sheet) in sheets {
        for (extension, content) in [("txt", sheet.text()), ("html", sheet.html())] {
            let written =
                state::write(&directory.join(format!("{name}.{extension}")), content.as_bytes(), Access::Private);
            written.map_err(|error| Exit::IoError.because(error))?;
        }
    }
    Ok(())
}

fn find<'a>(config: &'a Config, login: &str) -> Result<&'a Device, CommandError> {
    let wanted = login.to_lowercase();
    let found = config.devices.iter().find(|device| device.logins.contains(&wanted));
    found.ok_or_else(|| {
        let known: Vec<&str> = config.devices.iter().filter_map(|one| one.logins.first()).map(String::as_str).collect();
        Exit::Usage.because(format_args!("there is no device \"{login}\"; known are {}", known.join(", ")))
    })
}

/// The names in the certificate that devices see, and the CA's fingerprints.
pub(super) fn server_identity(config: &Config) -> ServerIdentity {
    let listener = config.listeners.iter().find(|listener| !listener.observes());
    let Some((name, one)) = listener.and_then(|one| config.certificates.get_key_value(&one.certificate)) else {
        return ServerIdentity::default();
    };
    let path = certificate::chain_path(one, &config.state_directory, name);
    let names = match (certificate::describe(&path), &one.source) {
        (Ok(description), _) => description.names,
        (Err(_), CertificateSource::Made { names, .. }) if !names.is_empty() => names.clone(),
        (Err(_), _) => {
            let addresses = host::addresses().into_iter().map(|address| address.to_string());
            host::name().into_iter().chain(addresses).collect()
        }
    };
    let authority = certificate::describe(&certificate::authority_path(&config.state_directory)).ok();
    let authority = authority.filter(|_| matches!(one.source, CertificateSource::Made { .. }));
    let authority = authority.map(|one| Fingerprints { sha256: one.sha256, sha1: one.sha1 });
    ServerIdentity { names, authority }
}

fn list(config: &Config) -> String {
    let mut text = String::new();
    for device in &config.devices {
        let login = device.logins.first().map_or("", String::as_str);
        let mailbox = config.accounts.get(&device.account).map_or("", |account| account.mailbox.as_str());
        let networks = device.networks.as_ref().map_or_else(
            || "its listener's networks".to_owned(),
            |networks| networks.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        );
        let description = device.description.as_deref().unwrap_or_default();
        let without = match device.sends_without_login {
            true => "(sends without a login) ",
            false => "",
        };
        let _ = writeln!(text, "{login:<20} {mailbox:<36} {networks:<24} {without}{description}");
    }
    if text.is_empty() { "no device yet: packetboat device add\n".to_owned() } else { text }
}

/// Tells of accounts that no device opens any more.
fn unused_accounts(config: &Config) -> String {
    let mut text = String::new();
    for (name, account) in &config.accounts {
        if !config.devices.iter().any(|device| device.account == *name) {
            let _ = writeln!(text, "no device opens {} any more: packetboat account remove {name}", account.mailbox);
        }
    }
    text
}

impl ProtocolName {
    fn protocol(self) -> Protocol {
        match self {
            Self::Imap => Protocol::Imap,
            Self::Pop3 => Protocol::Pop3,
            Self::Smtp => Protocol::Smtp,
        }
    }
}
