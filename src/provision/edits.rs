//! Edits of the configuration, as commands and the page make them: which account a device opens, and which device may go.

use std::collections::BTreeSet;

use super::document::{Document, NewAccount};
use super::error::{Error, Kind};
use super::plan::account_name;
use super::roster;
use crate::config::{Account, Cloud, Config, Logins};
use crate::protocol::Protocol;

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
    let upstream = match upstream {
        Some(upstream) => Some(upstream),
        None => needed_upstream(config, identity.as_deref())?,
    };
    let account = NewAccount { name: name.clone(), mailbox: address.to_owned(), identity, upstream };
    document.add_account(&account)?;
    Ok(name)
}

/// The mail server that a new account of this identity has to name: the only one that can be meant, or the only one of
/// these that serves the protocols of the listeners. None where the identity's cloud decides.
///
/// A token of a cloud goes to another server only if an account of the same identity says so already.
///
/// # Errors
/// Several can be meant, or none is known.
pub fn needed_upstream(config: &Config, identity: Option<&str>) -> Result<Option<String>, Error> {
    let all = &config.identities;
    let named = identity.or_else(|| all.keys().next().filter(|_| all.len() == 1).map(String::as_str));
    // An identity that is missing or unknown is a problem of its own.
    let Some((name, identity)) = named.and_then(|name| all.get_key_value(name)) else { return Ok(None) };
    let (of_cloud, others): (Vec<_>, Vec<_>) =
        config.upstreams.iter().partition(|(_, upstream)| Cloud::ALL.iter().any(|(_, cloud)| cloud.runs(upstream)));
    let own: Vec<_> = of_cloud.into_iter().filter(|(_, upstream)| identity.cloud.runs(upstream)).collect();
    let is_replaced = config.upstreams.contains_key(identity.cloud.upstream().0);
    let candidates: BTreeSet<&String> = match own.as_slice() {
        _ if !identity.tokens_are_of_cloud => others.into_iter().map(|(name, _)| name).collect(),
        [] if is_replaced => {
            let accounts = config.accounts.values().filter(|account| account.identity == *name);
            accounts.map(|account| &account.upstream).collect()
        }
        [] | [_] => return Ok(None),
        several => several.iter().map(|(name, _)| *name).collect(),
    };
    let translated = config.listeners.iter().filter(|one| matches!(one.logins, Logins::Translate));
    let protocols: Vec<Protocol> = translated.map(|listener| listener.protocol).collect();
    let serves = |name: &&&String| {
        let upstream = config.upstreams.get(**name);
        upstream.is_some_and(|one| protocols.iter().all(|protocol| one.endpoint(*protocol).is_some()))
    };
    let only = |names: Vec<&&String>| <[_; 1]>::try_from(names).ok().map(|[name]| (*name).clone());
    let found = only(candidates.iter().collect()).or_else(|| only(candidates.iter().filter(serves).collect()));
    let known = || if candidates.is_empty() { config.upstreams.keys().collect() } else { candidates.clone() };
    found.map(Some).ok_or_else(|| Error::NoUpstream { known: known().into_iter().cloned().collect() })
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Environment;

    /// A configuration with these upstreams and identity keys, and an account that names its server.
    fn config(upstreams: &str, identity: &str, account: &str) -> Config {
        let text = format!(
            "state_directory = \"/tmp/x\"\n{upstreams}\n[identity.office]\nclient_secret_file = \"/x\"\n\
             client_id = \"11111111-1111-4111-8111-111111111111\"\n{identity}\n\
             [account.scans]\nmailbox = \"scans@contoso.example\"\n{account}\n\
             [[device]]\nlogin = \"scanner\"\npasswords = [\"$argon2id$x\"]\n\
             [[listener]]\nprotocol = \"pop3\"\nlisten = [\"127.0.0.1:1995\"]\n"
        );
        let parsed = Config::parse_with(&text, Path::new("/tmp/x.toml"), &Environment::default());
        parsed.unwrap_or_else(|problems| panic!("{text}{problems:#?}")).config
    }

    const OWN: &str = "token_endpoint = \"https://tokens.example/token\"\nscopes = [\"mail\"]\n";
    const CLOUD: &str = "tenant = \"contoso.example\"\n";

    fn upstream(name: &str, keys: &str) -> String {
        format!("[upstream.{name}]\nhost = \"{name}.example\"\n{keys}\n")
    }

    #[test]
    fn the_only_server_is_taken() {
        let (one, other) = (upstream("one", ""), upstream("other", ""));
        let only_smtp = "[upstream.other.smtp]\nhost = \"other.example\"\n";
        let foreign = upstream("exchange", "");
        let named = |name: &str| format!("upstream = \"{name}\"\n");
        for (upstreams, identity, account, found) in [
            (one.clone(), OWN, named("one"), Ok(Some("one"))),
            (one.clone() + only_smtp, OWN, named("one"), Ok(Some("one"))),
            (one.clone() + &other, OWN, named("one"), Err(vec!["one", "other"])),
            // A token of the cloud goes to the cloud's server, or to the one that replaces it for the other accounts.
            (String::new(), CLOUD, String::new(), Ok(None)),
            (one.clone(), CLOUD, named("one"), Ok(None)),
            (foreign.clone(), CLOUD, named("exchange"), Ok(Some("exchange"))),
            (foreign.clone() + &one, CLOUD, named("one"), Ok(Some("one"))),
        ] {
            let config = config(&upstreams, identity, &account);
            let found = found.map(|name| name.map(str::to_owned));
            match needed_upstream(&config, None) {
                Ok(name) => assert_eq!(Ok(name), found, "{upstreams}{identity}"),
                Err(error) => {
                    let known = found.unwrap_err();
                    assert!(error.to_string().ends_with(&format!("has {}", known.join(", "))), "{error}");
                }
            }
        }
    }
}
