//! Edits of the configuration, as commands and the page make them: which account a device opens, and which device may go.

use super::document::{Document, NewAccount};
use super::error::{Error, Kind};
use super::plan::account_name;
use super::roster;
use crate::config::{Account, Config};

/// The name of the account of a mailbox. If there is none, adds one, named like the mailbox.
///
/// # Errors
/// The address is none, or the account cannot be added.
pub fn account_of_mailbox(document: &mut Document, config: &Config, address: &str) -> Result<String, Error> {
    check_address(address)?;
    if let Some((name, _)) = account_with(config, address) {
        return Ok(name.clone());
    }
    let name = account_name(&document.names(Kind::Account), address);
    let [identity, upstream] = ["identity", "upstream"].map(|key| document.key_of_first_account(key));
    let account = NewAccount { name: name.clone(), mailbox: address.to_owned(), identity, upstream };
    document.add_account(&account)?;
    Ok(name)
}

/// The account of a mailbox, by its address.
pub fn account_with<'a>(config: &'a Config, address: &str) -> Option<(&'a String, &'a Account)> {
    config.accounts.iter().find(|(_, account)| account.mailbox.eq_ignore_ascii_case(address))
}

/// Checks that a text is a mail address.
///
/// # Errors
/// It is none.
pub fn check_address(address: &str) -> Result<(), Error> {
    if roster::is_address(address) { Ok(()) } else { Err(Error::NoAddress { text: address.to_owned() }) }
}

/// The mailbox's address as an alias of a device, unless a device has it as a user name already.
pub fn alias(config: &Config, login: &str, address: &str) -> Option<String> {
    let is_taken = |name: &String| name.eq_ignore_ascii_case(address);
    let is_known = config.devices.iter().any(|device| device.logins.iter().any(is_taken));
    (!is_known && !address.eq_ignore_ascii_case(login)).then(|| address.to_owned())
}

/// Networks as the configuration wants them: an address alone is a network of its own.
///
/// # Errors
/// One is neither an address nor a network.
pub fn networks<'a>(given: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, Error> {
    let one = |text: &str| {
        let network = roster::network(text).map(|network| network.to_string());
        network.ok_or_else(|| Error::NoNetwork { text: text.to_owned() })
    };
    given.into_iter().map(one).collect()
}

/// Removes a device, unless it is the only one.
///
/// # Errors
/// There is no such device, or no other.
pub fn remove_device(document: &mut Document, config: &Config, login: &str) -> Result<(), Error> {
    document.remove_device(login)?;
    if config.devices.len() > 1 { Ok(()) } else { Err(Error::OnlyDevice { login: login.to_owned() }) }
}
