//! Pseudonyms for sources, logins and mailboxes: the log tells them apart, and names nobody.

use std::sync::Arc;

use crate::config::Config;
use crate::crypto::KeyedHash;

/// Names for sources, logins and mailboxes, the same ones until the process ends.
pub(super) struct Pseudonyms {
    pub(super) hash: Option<Arc<KeyedHash>>,
    /// Logins and mailboxes of the configuration in lower case, longest first: they stand in messages, too.
    known: Vec<String>,
}

impl Pseudonyms {
    pub(super) fn new(hash: Option<Arc<KeyedHash>>, config: &Config) -> Self {
        let mut known: Vec<String> = config.devices.iter().flat_map(|device| device.logins.iter().cloned()).collect();
        known.extend(config.accounts.values().flat_map(|account| [&account.mailbox, &account.user]).cloned());
        known.iter_mut().for_each(|name| name.make_ascii_lowercase());
        Self::sort(&mut known);
        Self { hash, known }
    }

    /// The names of another configuration, too.
    pub(super) fn learn(&mut self, config: &Config) {
        self.known.extend(Self::new(None, config).known);
        Self::sort(&mut self.known);
    }

    fn sort(known: &mut Vec<String>) {
        known.sort_by_key(|name| (usize::MAX - name.len(), name.clone()));
        known.dedup();
    }

    /// An address without its port, or a name, in any case.
    pub(super) fn of(&self, value: &str) -> String {
        let value =
            value.parse::<std::net::SocketAddr>().map_or(value.to_lowercase(), |source| source.ip().to_string());
        match &self.hash {
            Some(hash) => format!("p-{}", hash.of(&[value.as_bytes()]).short()),
            // Without random octets nothing could be kept secret: then nothing is shown.
            None => "p-".to_owned(),
        }
    }

    /// Wherever these addresses, and the names that are known, stand by themselves, in any case. A mailbox is told from every
    /// other word by its `@`. A login may be any word, so that it counts only where a message names a device. What a stranger
    /// gives as a login stands in no message.
    pub(super) fn apply(&self, text: &mut String, addresses: &[String]) {
        let addresses = addresses.iter().map(|address| (address, true));
        let known = self.known.iter().map(|name| (name, name.contains('@')));
        for (value, is_anywhere) in addresses.chain(known).filter(|(value, _)| value.len() > 1) {
            let is_meant = |before: &str| is_anywhere || DEVICE.iter().any(|words| before.ends_with(words));
            if let Some(hidden) = replaced(text, value, &self.of(value), is_meant) {
                *text = hidden;
            }
        }
    }
}

/// Where it is not a part of a longer word, and is meant, by what stands before it in lower case. None if it is not there.
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

/// How a message names a device of the configuration.
const DEVICE: [&str; 2] = ["device.", "device \""];
