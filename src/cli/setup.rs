//! `packetboat setup` prints the steps at Microsoft or Google for a configuration, or writes them as a script.

mod powershell;
mod proof;
mod script;
mod steps;

use std::path::{Path, PathBuf};

pub(super) use powershell::quote;

use super::error::{CommandError, Exit};
use crate::config::{Account, Cloud, Config, Identity};
use crate::protocol::{Actor, Protocol};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Write a PowerShell script that does the steps at Microsoft (for client credentials with a certificate)
    ///
    /// The script registers the application, uploads the certificate, consents, and gives access to the mailboxes. Run
    /// it again after a change: it changes only what is missing. -WhatIf prints what it would do; -Undo takes the
    /// access away. The script contains no secret.
    #[arg(long)]
    script: bool,
    /// Write the script to this file; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "packetboat.ps1", requires = "script")]
    output: PathBuf,
    /// Print or write the steps of one account alone: NAME of an [account.NAME] in the configuration
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
}

/// Prints the steps, or writes the script. The command itself contacts nobody.
pub(super) fn setup(config: &Config, arguments: &Arguments) -> Result<(), CommandError> {
    let account = arguments.account.as_deref().map(|name| find_account(config, name)).transpose()?;
    match (arguments.script, account) {
        (true, account) => script::write(config, account, &arguments.output),
        (false, Some(account)) => steps::print_account(config, account),
        (false, None) => steps::print_steps(config),
    }
}

/// Writes the script for the whole configuration, and prints nothing.
pub(super) fn write_script(config: &Config, output: &Path) -> Result<(), CommandError> {
    script::save(config, None, output)
}

/// A path as one word of a shell.
pub(super) fn shell_word(path: &Path) -> String {
    proof::shell_word(path)
}

/// An account with its name.
fn find_account<'a>(config: &'a Config, name: &str) -> Result<(&'a str, &'a Account), CommandError> {
    config.accounts.get_key_value(name).map(|(name, account)| (name.as_str(), account)).ok_or_else(|| {
        let known: Vec<&str> = config.accounts.keys().map(String::as_str).collect();
        Exit::Usage.because(format_args!("there is no account \"{name}\"; known are {}", known.join(", ")))
    })
}

/// The permissions that the application needs in Entra. The scopes that a person is asked for name every protocol that
/// reads a mailbox. An application sends by a role in Exchange instead: with a permission in its token, Exchange would
/// look for FullAccess.
fn permissions(config: &Config, actor: Actor) -> Vec<&'static str> {
    let is_asked = |protocol: &Protocol| actor == Actor::Person && Protocol::MAILBOX.contains(protocol);
    let is_role = |protocol: &Protocol| actor == Actor::Application && *protocol == Protocol::Smtp;
    let is_needed = |protocol: &Protocol| is_asked(protocol) || (offers(config, *protocol) && !is_role(protocol));
    Protocol::ALL.into_iter().filter(is_needed).map(|protocol| protocol.permission(actor)).collect()
}

/// Returns whether a listener offers a protocol.
fn offers(config: &Config, protocol: Protocol) -> bool {
    config.listeners.iter().any(|listener| listener.protocol == protocol)
}

/// Returns whether the listeners read mailboxes. Without a listener, that is what is planned.
fn reads(config: &Config) -> bool {
    Protocol::MAILBOX.into_iter().any(|protocol| offers(config, protocol)) || !offers(config, Protocol::Smtp)
}

/// The client id, unless it is the zeros that stand for one which is not known yet.
fn known_id(identity: &Identity) -> Option<&str> {
    let is_unknown = identity.client_id.chars().all(|character| matches!(character, '0' | '-'));
    (!is_unknown).then_some(identity.client_id.as_str())
}

/// Microsoft's names of a cloud: for `Connect-ExchangeOnline -ExchangeEnvironmentName` and `Connect-MgGraph
/// -Environment`.
fn environments(cloud: Cloud) -> [&'static str; 2] {
    match cloud {
        Cloud::Worldwide | Cloud::Google => ["O365Default", "Global"],
        Cloud::GccHigh => ["O365USGovGCCHigh", "USGov"],
        Cloud::Dod => ["O365USGovDoD", "USGovDoD"],
        Cloud::China => ["O365China", "China"],
    }
}
