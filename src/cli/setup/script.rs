//! Writes packetboat.ps1, which does the steps at Microsoft for applications with a certificate.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::CommandFactory as _;

use super::powershell::{has_long_scope, quote, scope};
use super::{environments, known_id, offers, permissions};
use crate::cli::Arguments as Program;
use crate::cli::error::{CommandError, Exit, unavailable};
use crate::cli::output::{print, print_error};
use crate::config::{Account, Config, Credential, Grant, Identity};
use crate::protocol::{Actor, Protocol};
use crate::state::{self, Access};
use crate::transport::downstream::certificate;

/// The script without its configuration.
const TEMPLATE: &str = include_str!("packetboat.ps1");

/// The line of the template that the configuration takes.
const PLACEHOLDER: &str =
    "# packetboat setup --script writes $Wanted, $LongScopes and $IsWhole in place of this line.\n";

/// Writes the script for the whole configuration, or for one account.
pub(super) fn write(config: &Config, account: Option<(&str, &Account)>, output: &Path) -> Result<(), CommandError> {
    if output == Path::new("-") {
        return print(script(config, account)?);
    }
    save(config, account, output)?;
    let file = output.file_name().unwrap_or_default().to_string_lossy();
    print(format_args!(
        "wrote {}\n\nCopy it to a computer with PowerShell, and run there, as an administrator of the tenant:\n\n    \
         ./{file} -WhatIf\n    ./{file}\n\nThe first one changes nothing. The script contains no secret. If Windows \
         refuses to run scripts, run before it, in the same window:\n\n    Set-ExecutionPolicy -Scope Process \
         RemoteSigned; Unblock-File ./{file}\n",
        output.display()
    ))
}

/// Writes the script to a file, and prints nothing.
pub(super) fn save(config: &Config, account: Option<(&str, &Account)>, output: &Path) -> Result<(), CommandError> {
    let script = script(config, account)?;
    refuse_foreign(output)?;
    state::write(output, script.as_bytes(), Access::Public).map_err(|error| Exit::IoError.because(error))
}

/// Only an earlier script is overwritten: a slip of the hand must not cost the configuration.
fn refuse_foreign(output: &Path) -> Result<(), CommandError> {
    let beginning: String = TEMPLATE.lines().take(4).flat_map(|line| [line, "\n"]).collect();
    match std::fs::read(output) {
        Ok(old) if !old.starts_with(beginning.as_bytes()) => Err(Exit::Usage.because(format_args!(
            "{} exists, and is no script of packetboat setup: name another file with --output",
            output.display()
        ))),
        // A file that cannot be read is the error of the writing.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn script(config: &Config, account: Option<(&str, &Account)>) -> Result<String, CommandError> {
    let (mut entries, mut long_scopes) = (String::new(), String::new());
    for (name, identity) in &config.identities {
        let mut mailboxes = mailboxes(config, name);
        if let Some((_, account)) = account {
            if account.identity != *name {
                continue;
            }
            mailboxes = vec![&account.mailbox];
        }
        if offers(config, Protocol::Smtp) {
            mailboxes.iter().filter(|mailbox| has_long_scope(mailbox)).for_each(|mailbox| {
                let _ = writeln!(
                    long_scopes,
                    "    @{{ Mailbox = {}; Scope = {} }}",
                    quote(mailbox),
                    quote(&scope(mailbox))
                );
            });
        }
        match certificate_of(identity) {
            Some(_) if mailboxes.is_empty() => print_error(format_args!(
                "[identity.{name}] is not in the script: no [account.NAME] has a mailbox for it"
            )),
            Some(path) => entries.push_str(&entry(config, (name, identity), path, &mailboxes)?),
            None => print_error(format_args!(
                "[identity.{name}] is not in the script: that is for Microsoft, with a certificate; packetboat setup \
                 prints its steps"
            )),
        }
    }
    if entries.is_empty() {
        return Err(unavailable(
            "there is nothing to write a script for: it needs an [identity.NAME] of Microsoft with certificate and \
             key, and an [account.NAME] with its mailbox",
        ));
    }
    let whole = if account.is_none() { "$true" } else { "$false" };
    let configuration = format!(
        "# The configuration. Characters other than ASCII are written as numbers.\n$Wanted = @(\n{entries})\n\n\
         # The names of management scopes that would be longer than 64 characters.\n$LongScopes = @(\n{long_scopes})\n\n\
         # True for a whole configuration, false for one account.\n$IsWhole = {whole}\n"
    );
    Ok(TEMPLATE.replacen(PLACEHOLDER, &configuration, 1))
}

fn mailboxes<'a>(config: &'a Config, identity: &str) -> Vec<&'a String> {
    let mut mailboxes: Vec<&String> = Vec::new();
    for account in config.accounts.values().filter(|account| account.identity == identity) {
        if !mailboxes.iter().any(|known| known.eq_ignore_ascii_case(&account.mailbox)) {
            mailboxes.push(&account.mailbox);
        }
    }
    mailboxes
}

/// The certificate of an application that the script can set up.
fn certificate_of(identity: &Identity) -> Option<&PathBuf> {
    match &identity.grant {
        Grant::ClientCredentials(Credential::Certificate(files)) if identity.is_of_microsoft() => Some(&files.chain),
        _ => None,
    }
}

/// One entry of the script's list.
fn entry(
    config: &Config,
    (name, identity): (&str, &Identity),
    chain: &Path,
    mailboxes: &[&String],
) -> Result<String, CommandError> {
    let without = |error| {
        unavailable(format_args!(
            "identity.{name}.certificate: {error}; make the certificate first, as packetboat setup shows"
        ))
    };
    // Whatever else is in the file, a key for instance, does not get into the script.
    let der = certificate::der(chain).map_err(without)?;
    let thumbprint = certificate::describe(chain).map_err(without)?.sha1.replace(':', "");
    let [exchange, graph] = environments(identity.cloud);
    let permissions: Vec<String> = permissions(config, Actor::Application).into_iter().map(quote).collect();
    let mut text = String::from("    @{\n");
    let mut field = |key: &str, value: &str| {
        let _ = writeln!(text, "        {key:<19} = {value}");
    };
    field("Name", &quote(name));
    field("DisplayName", &quote(&format!("packetboat {name}")));
    field("Tenant", &quote(&identity.tenant));
    field("ClientId", &quote(known_id(identity).unwrap_or_default()));
    field("GraphEnvironment", &quote(graph));
    field("ExchangeEnvironment", &quote(exchange));
    field("Permissions", &format!("@({})", permissions.join(", ")));
    for protocol in Protocol::MAILBOX {
        let (switch, _) = protocol.mailbox_switch();
        field(switch, if offers(config, protocol) { "$true" } else { "$false" });
    }
    field("Sends", if offers(config, Protocol::Smtp) { "$true" } else { "$false" });
    field("Next", &quote(&next(name, identity)));
    field("Thumbprint", &quote(&thumbprint));
    field("Certificate", &format!("'\n{}'", wrapped(&STANDARD.encode(der))));
    field("Mailboxes", "@(");
    for mailbox in mailboxes {
        let _ = writeln!(text, "            {}", quote(mailbox));
    }
    text.push_str("        )\n    }\n");
    Ok(text)
}

/// The command that follows the script, with `{0}` for the client id.
fn next(name: &str, identity: &Identity) -> String {
    if known_id(identity).is_some() {
        return "packetboat check --online".to_owned();
    }
    let program = Program::command();
    let finishes = |init: &clap::Command| init.get_arguments().any(|argument| argument.get_id() == "finish");
    if program.find_subcommand("init").is_some_and(finishes) {
        "packetboat init --finish {0}".to_owned()
    } else {
        format!("put {{0}} into client_id of [identity.{name}], then: packetboat reload")
    }
}

/// Base64 in lines of 64 characters, as in PEM.
fn wrapped(base64: &str) -> String {
    let characters: Vec<char> = base64.chars().collect();
    characters.chunks(64).flat_map(|line| line.iter().chain(&['\n'])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_its_line_in_the_template() {
        assert_eq!(TEMPLATE.matches(PLACEHOLDER).count(), 1);
        assert!(TEMPLATE.is_ascii(), "Windows PowerShell reads it in the computer's code page");
    }

    #[test]
    fn base64_is_wrapped() {
        assert_eq!(wrapped(&"A".repeat(65)), format!("{}\nA\n", "A".repeat(64)));
    }
}
