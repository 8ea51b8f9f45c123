//! Proves the section `[spool]`, and the key of a listener that uses it.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use super::Proof;
use crate::config::file::{SpoolSection, Written};
use crate::config::{Logins, SpoolSettings};
use crate::protocol::Protocol;
use crate::submission::{SpoolUse, is_entry};

impl Proof<'_> {
    /// The spool, each key with its range and its default.
    pub(super) fn spool(&mut self, raw: SpoolSection, state_directory: &Path) -> SpoolSettings {
        let directory = raw.directory.map_or_else(|| state_directory.join(DIRECTORY), Spanned::into_inner);
        SpoolSettings {
            directory,
            max_size: self.number("spool.max_size", raw.max_size, SMALLEST..=LARGEST, DEFAULT_SIZE),
            max_messages: self.number("spool.max_messages", raw.max_messages, 1..=100_000, 1000),
            mailbox_share: self.number("spool.mailbox_share", raw.mailbox_share, 1..=100, 50),
            device_share: self.number("spool.device_share", raw.device_share, 1..=100, 25),
            max_age: self.duration_up_to(LONGEST_AGE, "spool.max_age", raw.max_age, DEFAULT_AGE),
            patience: self.duration("spool.patience", raw.patience, 25),
            report_to: raw.report_to.and_then(|written| self.report_to(written)),
        }
    }

    fn report_to(&mut self, written: Spanned<String>) -> Option<String> {
        let address = written.get_ref();
        if is_entry(address) && !address.starts_with("*@") {
            return Some(written.into_inner());
        }
        self.problem(Some(written.span()), "spool.report_to", "is no address; write it as \"reports@contoso.com\"");
        None
    }

    /// The use of the spool by a listener. It has no meaning in another protocol than SMTP.
    pub(super) fn spool_use(&mut self, written: Written<String>, protocol: Option<Protocol>) -> SpoolUse {
        let span = written.as_ref().map(Spanned::span);
        if span.is_some() && protocol.is_some_and(|protocol| protocol != Protocol::Smtp) {
            self.problem(span, KEY, "has a meaning with protocol = \"smtp\" alone; remove it");
            return SpoolUse::Off;
        }
        self.choice(KEY, written, &SpoolUse::ALL).unwrap_or_default()
    }

    /// Refuses the spool where no account could send the message later.
    pub(super) fn spool_of_logins(&mut self, span: Option<Range<usize>>, spool: SpoolUse, logins: Option<&Logins>) {
        if spool == SpoolUse::Fallback && matches!(logins, Some(Logins::PassThrough(_))) {
            let message = "packetboat has no account to send a kept message with, because logins = \"pass-through\" \
                           leaves the password with the device; write \"off\"";
            self.problem(span, KEY, message);
        }
    }
}

const KEY: &str = "listener.spool";
/// The name of the directory in the state directory.
const DIRECTORY: &str = "spool";
const SMALLEST: i64 = 1024 * 1024;
const LARGEST: i64 = 1024 * 1024 * 1024 * 1024;
const DEFAULT_SIZE: u64 = 2 * 1024 * 1024 * 1024;
const LONGEST_AGE: Duration = Duration::from_secs(14 * 24 * 60 * 60);
const DEFAULT_AGE: Duration = Duration::from_secs(48 * 60 * 60);
