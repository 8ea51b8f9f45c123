//! A session becomes a line among the last connections of its device.

use super::{Ending, SessionRecord};
use crate::failure::{Failure, Level};
use crate::inventory::{Connection, Owner, Proof};
use crate::lifecycle::unix_time;
use crate::proxy::limits::Peer;

impl SessionRecord<'_> {
    /// Notes the session at its device, with its ending if it has ended or failed. One line stands for one connection.
    pub(super) fn note(&self, ending: Option<&Ending>) {
        let failure = match ending {
            Some(Ending::Failed(failure)) => Some(failure),
            _ => None,
        };
        // A port that is tried and left at once tells nothing about the device.
        if !self.is_in && failure.is_some_and(|failure| failure.kind.level() == Level::Debug) {
            return;
        }
        let connection = self.connection(ending, failure);
        self.telemetry.inventory.note_connection(self.owner(), &connection);
    }

    fn connection(&self, ending: Option<&Ending>, failure: Option<&Failure>) -> Connection {
        let now = unix_time();
        let failed = failure.map(|failure| failure.kind);
        let (_, octets) = self.passed;
        Connection {
            began: now.saturating_sub(self.started.elapsed().as_secs()),
            ended: ending.map(|_| now),
            tls: self.device_tls.and_then(|tls| tls.version()),
            is_in: self.is_in,
            messages: self.fetched,
            octets: if self.is_in { octets } else { 0 },
            sent: self.sent.clone(),
            text: ending.map(ToString::to_string).unwrap_or_default().into(),
            ..self.telemetry.connection(Peer { id: self.id, source: self.source }, failed)
        }
    }

    /// The device that the login names, if there was one.
    fn owner(&self) -> Option<Owner<'_>> {
        match (&self.device, self.login.as_deref()) {
            (Some(device), _) => Some(Owner { login: &device.name, proof: Proof::Verified }),
            (None, Some(login)) => Some(Owner { login, proof: Proof::Claimed }),
            (None, None) => None,
        }
    }
}
