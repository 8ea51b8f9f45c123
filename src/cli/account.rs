//! `packetboat account` adds, removes and lists the mailboxes of the configuration.

use std::fmt::Write as _;

use clap::Subcommand;

use super::ConfigFile;
use super::edit::{edit, failed};
use super::error::{CommandError, Exit};
use super::output::print;
use super::setup;
use crate::config::Config;
use crate::provision::{Document, NewAccount, edits};

#[derive(Subcommand)]
pub(super) enum Action {
    /// Add a mailbox that devices can open
    Add {
        /// NAME of the new [account.NAME]
        name: String,
        /// The mailbox's primary address
        #[arg(long, value_name = "ADDRESS")]
        mailbox: String,
        /// Fetch the mailbox's token as this identity, if the configuration has several
        #[arg(long, value_name = "NAME")]
        identity: Option<String>,
        /// Send the mailbox's token to this upstream instead of Exchange Online
        ///
        /// Where the account needs one and there is only one, or only one that serves the listeners' protocols, it may
        /// be left out.
        #[arg(long, value_name = "NAME")]
        upstream: Option<String>,
    },
    /// Remove a mailbox that no device opens
    Remove {
        /// NAME of the [account.NAME]
        name: String,
    },
    /// List the mailboxes, and the devices that open each
    List,
}

pub(super) fn act(file: &ConfigFile, action: Action) -> Result<(), CommandError> {
    match action {
        Action::Add { name, mailbox, identity, upstream } => {
            let name_of = name.clone();
            let mut account = NewAccount { name, mailbox, identity, upstream };
            let add = |document: &mut Document, config: &Config| {
                check_name(&account.name)?;
                edits::check_address(&account.mailbox).map_err(failed)?;
                if let Some((name, _)) = edits::account_with(config, &account.mailbox) {
                    let why = format_args!("the account \"{name}\" is this mailbox's already");
                    return Err(Exit::Usage.because(why));
                }
                if account.upstream.is_none() {
                    account.upstream = edits::needed_upstream(config, account.identity.as_deref()).map_err(failed)?;
                    if let Some(upstream) = &account.upstream {
                        print(format_args!("{}: its mail server is [upstream.{upstream}]\n", account.name))?;
                    }
                }
                document.add_account(&account).map_err(failed)
            };
            let name = &name_of;
            let part = || print(format!("its part at Microsoft: packetboat setup --account {name}\n"));
            edit(file, add, |_| Ok(()))?.then(|config| if config.accounts.contains_key(name) { part() } else { Ok(()) })
        }
        Action::Remove { name } => {
            let mailbox = file.load()?.config.accounts.get(&name).map(|account| account.mailbox.clone());
            let edited = edit(file, |document, _| document.remove_account(&name).map_err(failed), |_| Ok(()))?;
            let right = mailbox.map_or_else(String::new, |mailbox| {
                format!(
                    "the application may still open {mailbox}, until an Exchange administrator runs: \
                     Remove-MailboxPermission -Identity {} -User 'OBJECT ID' -AccessRights FullAccess\n",
                    setup::quote(&mailbox)
                )
            });
            edited.then(|_| print(right))
        }
        Action::List => print(list(&file.load()?.config)),
    }
}

/// Names stand in commands that are printed.
fn check_name(name: &str) -> Result<(), CommandError> {
    let is_plain = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '_');
    if !name.is_empty() && name.chars().all(is_plain) {
        return Ok(());
    }
    Err(Exit::Usage.because(format_args!("\"{name}\" is no name: use letters, digits, - and _")))
}

fn list(config: &Config) -> String {
    let mut text = String::new();
    for (name, account) in &config.accounts {
        let devices = config.devices.iter().filter(|device| device.account == *name);
        let devices: Vec<&str> = devices.filter_map(|one| one.logins.first()).map(String::as_str).collect();
        let devices = if devices.is_empty() { "no device".to_owned() } else { devices.join(" ") };
        let _ = writeln!(text, "{name:<20} {:<36} {devices}", account.mailbox);
    }
    if text.is_empty() { "no account yet: packetboat account add\n".to_owned() } else { text }
}
