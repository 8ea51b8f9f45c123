//! The service of one listener: its settings, its TLS, and the backend of its logins.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::backend::Backend;
use super::hints::Hints;
use super::limits::Connections;
use super::parking::Parking;
use super::telemetry::Telemetry;
use crate::config::{Entry, Limits, Listener};
use crate::failure::{Failure, Kind};
use crate::proto::{self, CommandLimits, Offer, Session};
use crate::spool::Spool;
use crate::transport::downstream::Acceptor;
use crate::transport::socket::Socket;

/// The settings and parts that all connections of one listener share.
pub(super) struct Service {
    pub(super) listener: Listener,
    pub(super) limits: Limits,
    /// The TLS acceptor; `None` if the entry is "plaintext".
    pub(super) acceptor: Option<Arc<Acceptor>>,
    pub(super) logins: Arc<Backend>,
    /// The limits of all listeners together.
    pub(super) connections: Arc<Connections>,
    pub(super) telemetry: Telemetry,
    /// The spool, where the listener keeps what the mail server does not take at once.
    pub(super) spool: Option<Arc<Spool>>,
    /// The connections that wait for the next login of their mailbox.
    pub(super) parking: Arc<Parking>,
    /// The advice for a device that does not fit the listener.
    pub(super) hints: Hints,
}

impl Service {
    /// Checks that the listener allows connections from this source.
    ///
    /// # Errors
    /// [`Kind::NotAllowed`], with the line of the file that allows the source beside those that are allowed.
    pub(super) fn admits(&self, source: IpAddr) -> Result<(), Failure> {
        if self.listener.allowed_networks.contain(source) {
            return Ok(());
        }
        let Listener { name, allowed_networks, .. } = &self.listener;
        let line = allowed_networks.line_with(source.into());
        // A long list stands in the file, and its line is too long for the page.
        let detail = if line.len() <= LONGEST_LINE {
            format!("if this is a device of yours, write in listener {name}: {line}")
        } else {
            format!("if this is a device of yours, add \"{source}\" to allowed_networks of listener {name}")
        };
        Err(Failure::new(Kind::NotAllowed, detail))
    }

    /// The listener's entry at the port that the device has connected to.
    pub(super) fn entry_of(&self, stream: &Socket) -> Entry {
        if self.listener.implicit_ports.is_empty() {
            return self.listener.entry;
        }
        self.listener.entry_at(stream.local_port())
    }

    /// A new session of the listener's protocol, with the device at this address; none for a load balancer, which has
    /// no mail of its own.
    pub(super) fn session(&self, encrypted: bool, device: Option<IpAddr>) -> Box<dyn Session> {
        let offer = Offer {
            encrypted,
            starttls: self.acceptor.is_some(),
            plaintext_login: self.listener.allow_plaintext,
            // The mail server decides on a login that is passed through.
            xoauth2: matches!(*self.logins, Backend::PassThrough(_)),
            submission: self.listener.submission,
            keeps: self.spool.is_some(),
            by_source: device.is_some_and(|source| self.logins.device_at(source).is_some()),
        };
        proto::session(self.listener.protocol, offer, command_limits(&self.limits))
    }
}

fn command_limits(limits: &Limits) -> CommandLimits {
    CommandLimits {
        line: limits.line,
        sasl_line: limits.sasl_line,
        literal: limits.literal,
        bad_commands: limits.bad_commands,
    }
}

/// The longest line of networks that a message repeats, in octets; that of the private networks has 180.
const LONGEST_LINE: usize = 350;

/// A limit as the configuration file writes it.
pub(super) fn setting(key: &str, value: Duration) -> String {
    setting_in("limits", key, value)
}

/// A duration of this section as the configuration file writes it.
pub(super) fn setting_in(section: &str, key: &str, value: Duration) -> String {
    format!("{section}.{key} = {}", humantime::format_duration(value))
}
