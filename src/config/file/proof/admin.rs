//! The admin side and the inventory, proven, with the environment variables that override them.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::Proof;
use super::address::overlap;
use crate::config::file::{AdminSection, File, InventorySection};
use crate::config::{Admin, Environment, InventoryLimits, Listener};

impl Proof<'_> {
    pub(super) fn admin(&mut self, raw: AdminSection, listeners: &[Listener]) -> Admin {
        let span = raw.listen.as_ref().map(Spanned::span);
        let listen = match raw.listen {
            Some(written) => self.addresses("admin.listen", 9143, written.into_inner()),
            None => DEFAULT.parse().into_iter().collect(),
        };
        for listener in listeners {
            if let Some(address) = overlap(&listen, &listener.listen) {
                let message = format!("{address} is taken by listener \"{}\" already", listener.name);
                self.problem(span.clone(), "admin.listen", &message);
            }
        }
        if let Some(written) = &raw.token_file {
            self.note("admin.token_file", &written.span());
        }
        if let Some(written) = &raw.technician_token_file {
            self.note("admin.technician_token_file", &written.span());
            if raw.token_file.is_none() {
                let message =
                    "needs token_file beside it: without that one, everybody on this computer sees everything";
                self.problem(Some(written.span()), "admin.technician_token_file", message);
            }
        }
        let may_edit = raw.edit.as_ref().filter(|edit| *edit.get_ref());
        if let (Some(edit), None) = (may_edit, &raw.token_file) {
            let message = "needs token_file beside it: without that one, everybody on this computer could add a device for \
                           any mailbox, and read it";
            self.problem(Some(edit.span()), "admin.edit", message);
        }
        if let Some(span) = &span {
            self.note("admin.listen", span);
        }
        let open = listen.iter().find(|address| !address.ip().is_loopback());
        if let (Some(address), None) = (open, &raw.token_file) {
            let message = format!(
                "{address} can be reached from elsewhere, and needs token_file beside it: a file with 16 characters or \
                 more, as from: head -c 24 /dev/urandom | base64"
            );
            self.problem(span, "admin.listen", &message);
        }
        let [token_file, technician_token_file] =
            [raw.token_file, raw.technician_token_file].map(|written| written.map(Spanned::into_inner));
        Admin { listen, token_file, technician_token_file, edit: raw.edit.is_some_and(Spanned::into_inner) }
    }

    pub(super) fn inventory(&mut self, raw: InventorySection) -> InventoryLimits {
        let (hour, day) = (Duration::from_secs(60 * 60), Duration::from_secs(24 * 60 * 60));
        InventoryLimits {
            devices: self.number("inventory.devices", raw.devices, 1..=100_000, 1000),
            forget_after: self.duration_up_to(3650 * day, "inventory.forget_after", raw.forget_after, 90 * day),
            silent_after: self.duration_up_to(3650 * day, "inventory.silent_after", raw.silent_after, 2 * hour),
            reverse_dns: raw.reverse_dns.unwrap_or(true),
        }
    }
}

/// Puts what the environment says in the place of what is written. It stands behind the text's end, each variable at a
/// place of its own, so that a problem with it can be told as one.
pub(super) fn override_by(environment: &Environment, text: &str, raw: &mut File) {
    for (index, (name, value)) in environment.0.iter().enumerate() {
        let at = text.len() + 1 + index;
        let spanned = |value: &str| Spanned::new(at..at, value.to_owned());
        match *name {
            "PACKETBOAT_STATE_DIRECTORY" => raw.state_directory = Some(Spanned::new(at..at, PathBuf::from(value))),
            "PACKETBOAT_LOG_FORMAT" => raw.log.format = Some(spanned(value)),
            "PACKETBOAT_LOG_LEVEL" => raw.log.level = Some(spanned(value)),
            "PACKETBOAT_ADMIN_LISTEN" => {
                let addresses = value.split([',', ' ']).filter(|one| !one.is_empty()).map(spanned).collect();
                raw.admin.listen = Some(Spanned::new(at..at, addresses));
            }
            "PACKETBOAT_ADMIN_TOKEN_FILE" => {
                raw.admin.token_file = Some(Spanned::new(at..at, PathBuf::from(value)));
            }
            "PACKETBOAT_ADMIN_TECHNICIAN_TOKEN_FILE" => {
                raw.admin.technician_token_file = Some(Spanned::new(at..at, PathBuf::from(value)));
            }
            _ => {}
        }
    }
}

/// The variable that stands there.
pub(super) fn variable_at(span: &Range<usize>, environment: &Environment, text: &str) -> Option<&'static str> {
    let index = span.start.checked_sub(text.len() + 1)?;
    environment.0.get(index).map(|(name, _)| *name)
}

const DEFAULT: &str = "127.0.0.1:9143";
