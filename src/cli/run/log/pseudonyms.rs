//! Pseudonyms stand for sources, logins and mailboxes: the log distinguishes them, and names nobody.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::Config;
use crate::crypto::KeyedHash;

/// Names for sources, logins and mailboxes, the same ones until the process ends.
pub(super) struct Pseudonyms {
    pub(super) hash: Option<Arc<KeyedHash>>,
    /// Logins, mailboxes and single addresses of the configuration in lower case, longest first: they stand in messages,
    /// too.
    known: Vec<String>,
}

impl Pseudonyms {
    pub(super) fn new(hash: Option<Arc<KeyedHash>>, config: &Config) -> Self {
        let mut known: Vec<String> = config.devices.iter().flat_map(|device| device.logins.iter().cloned()).collect();
        known.extend(config.accounts.values().flat_map(|account| [&account.mailbox, &account.user]).cloned());
        known.extend(single_addresses(config));
        known.iter_mut().for_each(|name| name.make_ascii_lowercase());
        Self::sort(&mut known);
        Self { hash, known }
    }

    /// Adds the names of another configuration.
    pub(super) fn learn(&mut self, config: &Config) {
        self.known.extend(Self::new(None, config).known);
        Self::sort(&mut self.known);
    }

    fn sort(known: &mut Vec<String>) {
        known.sort_by_key(|name| (usize::MAX - name.len(), name.clone()));
        known.dedup();
    }

    /// The pseudonym of an address, whatever its port, or of a name, whatever its case.
    pub(super) fn of(&self, value: &str) -> String {
        let value =
            value.parse::<std::net::SocketAddr>().map_or(value.to_lowercase(), |source| source.ip().to_string());
        match &self.hash {
            Some(hash) => format!("p-{}", hash.of(&[value.as_bytes()]).short()),
            // Without random octets no pseudonym could stay secret, so none is shown.
            None => "p-".to_owned(),
        }
    }

    /// Replaces these addresses and the known names where they stand as words of their own, in any case. A mailbox is
    /// known by its `@`. A login may be any word, so it is replaced only where a message names a device. No message
    /// repeats a login that a stranger sends.
    pub(super) fn apply(&self, text: &mut String, addresses: &[String]) {
        // Advice makes a device's name of its address.
        for (address, dashed) in addresses.iter().map(|address| (address, address.replace(['.', ':'], "-"))) {
            if let Some(hidden) = replaced(text, &dashed, &self.of(address), |before| before.ends_with(MADE)) {
                *text = hidden;
            }
        }
        let addresses = addresses.iter().map(|address| (address, true));
        let known = self.known.iter().map(|name| (name, name.contains('@') || name.parse::<IpAddr>().is_ok()));
        for (value, is_anywhere) in addresses.chain(known).filter(|(value, _)| value.len() > 1) {
            let is_meant = |before: &str| is_anywhere || DEVICE.iter().any(|words| before.ends_with(words));
            if let Some(hidden) = replaced(text, value, &self.of(value), is_meant) {
                *text = hidden;
            }
        }
    }
}

/// The addresses that stand in lists of networks as one device each: advice about such a list repeats them.
fn single_addresses(config: &Config) -> impl Iterator<Item = String> {
    let of_listeners = config.listeners.iter().map(|listener| &listener.allowed_networks);
    let of_devices = config.devices.iter().filter_map(|device| device.networks.as_ref());
    let networks = of_listeners.chain(of_devices).flat_map(|networks| &networks.0);
    let is_single =
        |network: &&IpNet| network.prefix_len() == network.max_prefix_len() && !network.addr().is_loopback();
    networks.filter(is_single).map(|network| network.addr().to_string())
}

/// The text with a value replaced where it is a whole word and `is_meant` accepts the lower-case text before it; none
/// if it is nowhere.
fn replaced(text: &str, value: &str, by: &str, is_meant: impl Fn(&str) -> bool) -> Option<String> {
    // Lower case in ASCII has the same length.
    let (lower, value) = (text.to_ascii_lowercase(), value.to_ascii_lowercase());
    let is_word = |c: char| c.is_alphanumeric();
    let (mut hidden, mut done) = (String::with_capacity(text.len()), 0);
    for (at, _) in lower.match_indices(&value) {
        let end = at + value.len();
        let (before, behind) = (lower.get(..at).unwrap_or_default(), lower.get(end..).unwrap_or_default());
        if !before.ends_with(is_word) && !behind.starts_with(is_word) && is_meant(before) {
            hidden.push_str(text.get(done..at).unwrap_or_default());
            hidden.push_str(by);
            done = end;
        }
    }
    (done > 0).then(|| hidden + text.get(done..).unwrap_or_default())
}

/// The ways in which a message names a device of the configuration: as its key, in quotation marks, or in a command.
const DEVICE: [&str; 6] =
    ["device.", "device \"", "device password ", "device password '", "device remove ", "device remove '"];
/// The beginning of a name that is made of an address.
const MADE: &str = "device add sender-";

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Otherwise it would stand in the log as it is: a device's name is replaced only where one of these words is
    /// before it.
    #[test]
    fn every_message_names_a_device_as_its_key_or_in_quotation_marks() {
        let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut found = 0;
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_dir() {
                    directories.push(entry);
                    continue;
                }
                let text = std::fs::read_to_string(&entry).unwrap();
                for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                    for word in ["device ", "login ", "alias ", "device named "] {
                        let is_bare = line.contains(&format!("{word}{{")) && line.contains('"');
                        let is_command = line.contains("packetboat login {");
                        let is_code =
                            [" {", " {{"].iter().any(|end| line.ends_with(end)) || line.contains("if device {");
                        assert!(!is_bare || is_command || is_code, "{}: {line}", entry.display());
                    }
                    found += line.matches("device \\\"{").count() + line.matches("\"device.{").count();
                }
            }
        }
        assert!(found > 5, "{found}");
    }

    /// Commands of advice name devices, and addresses of strangers.
    #[test]
    fn commands_name_nobody() {
        let text = "[[listener]]\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:1143\"]\nobserve = true\n";
        let config = Config::parse(text, Path::new("x")).unwrap().config;
        let mut pseudonyms = Pseudonyms::new(KeyedHash::new().ok().map(Arc::new), &config);
        pseudonyms.known = vec!["fax 2".to_owned(), "copier".to_owned()];
        let (one, fax, copier) = (pseudonyms.of("192.0.2.7"), pseudonyms.of("fax 2"), pseudonyms.of("copier"));
        let mut line = "packetboat device add sender-192-0-2-7 --network 192.0.2.7".to_owned();
        pseudonyms.apply(&mut line, &["192.0.2.7".to_owned()]);
        assert_eq!(line, format!("packetboat device add sender-{one} --network {one}"));
        let mut line = "packetboat device password 'fax 2', packetboat device remove copier, a copier".to_owned();
        pseudonyms.apply(&mut line, &[]);
        assert_eq!(line, format!("packetboat device password '{fax}', packetboat device remove {copier}, a copier"));
    }

    /// Advice about a list of networks repeats it, and some of them are one device each.
    #[test]
    fn single_addresses_of_the_configuration_are_nobodys_names() {
        let text = "[[listener]]\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:1143\"]\nobserve = true\n\
                    allowed_networks = [\"198.51.100.7\", \"10.0.0.0/8\", \"::1/128\"]\n";
        let config = Config::parse(text, Path::new("x")).unwrap().config;
        let pseudonyms = Pseudonyms::new(KeyedHash::new().ok().map(Arc::new), &config);
        let mut line = "write [\"198.51.100.7/32\", \"10.0.0.0/8\", \"::1/128\", \"192.0.2.7/32\"]".to_owned();
        pseudonyms.apply(&mut line, &["192.0.2.7".to_owned()]);
        let (one, other) = (pseudonyms.of("198.51.100.7"), pseudonyms.of("192.0.2.7"));
        assert_eq!(line, format!("write [\"{one}/32\", \"10.0.0.0/8\", \"::1/128\", \"{other}/32\"]"));
    }
}
