//! The mail servers behind the listeners, proven: each listener's protocol is served where its logins go.

use super::Proof;
use crate::config::{Config, Listener, Logins, Problem};
use crate::protocol::Protocol;
use crate::submission;

impl Proof<'_> {
    /// Refuses a listener whose protocol no mail server behind it serves, and warns of accounts that it cannot open.
    pub(super) fn servers_of_listeners(&mut self, config: &Config) {
        for listener in &config.listeners {
            match &listener.logins {
                Logins::PassThrough(upstream) if !serves(config, upstream, listener.protocol) => {
                    let message = unserved(listener, upstream);
                    self.problems.push(self.problem_at(&format!("listener.{}", listener.name), message));
                }
                Logins::Translate => {
                    self.servers_of_accounts(config, listener);
                    if listener.protocol == Protocol::Smtp {
                        self.senders_of_accounts(config, listener);
                    }
                }
                Logins::PassThrough(_) | Logins::Observe => {}
            }
        }
    }

    fn servers_of_accounts(&mut self, config: &Config, listener: &Listener) {
        let (served, others): (Vec<_>, Vec<_>) =
            config.accounts.iter().partition(|(_, account)| serves(config, &account.upstream, listener.protocol));
        for (name, account) in &others {
            let (key, message) = (format!("account.{name}"), unserved(listener, &account.upstream));
            let problem = self.problem_at(&key, message);
            if served.is_empty() { self.problems.push(problem) } else { self.warnings.push(problem) }
        }
    }

    /// Warns of mailboxes that can be read, and whose address no message can have as its sender (RFC 5321 §4.1.2).
    fn senders_of_accounts(&mut self, config: &Config, listener: &Listener) {
        for (name, account) in &config.accounts {
            if serves(config, &account.upstream, Protocol::Smtp) && !submission::is_entry(&account.mailbox) {
                let message = format!(
                    "no device can send from it at listener {}: in SMTP the address has ASCII letters, digits and a few \
                     signs, and no dot at its end",
                    listener.name
                );
                self.warnings.push(self.problem_at(&format!("account.{name}.mailbox"), message));
            }
        }
    }

    fn problem_at(&self, key: &str, message: String) -> Problem {
        let line = self.positions.get(key).map(|position| position.line);
        Problem { file: self.file.to_path_buf(), line, key: key.to_owned(), message }
    }
}

fn serves(config: &Config, upstream: &str, protocol: Protocol) -> bool {
    // A name that is wrong is reported where it stands.
    config.upstreams.get(upstream).is_none_or(|upstream| upstream.endpoint(protocol).is_some())
}

fn unserved(listener: &Listener, upstream: &str) -> String {
    let (protocol, key) = (listener.protocol.name(), listener.protocol.key());
    format!(
        "listener {} is for {protocol}, and [upstream.{upstream}] has no server for it; write [upstream.{upstream}.{key}] \
         with host = \"...\"",
        listener.name
    )
}
