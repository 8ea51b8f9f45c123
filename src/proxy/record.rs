//! One line for each session, when it is over: who, how, how much, how long, and why it ended.

use std::net::SocketAddr;
use std::time::Instant;

use tracing::{debug, info, warn};

use crate::failure::{Failure, Level};
use crate::transport::Facts;

/// What is known of a connection by and by.
pub(super) struct Record<'a> {
    pub(super) source: SocketAddr,
    pub(super) listener: &'a str,
    pub(super) login: Option<String>,
    /// The mailbox that was opened for it, where the login was translated.
    pub(super) account: Option<&'a str>,
    pub(super) device_tls: Option<Facts>,
    pub(super) upstream_tls: Option<Facts>,
    pub(super) commands: u64,
    /// Octets from the device to the server, and back.
    pub(super) passed: (u64, u64),
    /// Lines of the server that an operator should know.
    notices: u32,
    started: Instant,
}

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// LOGOUT or QUIT, and its answer.
    LoggedOut,
    /// The device closed without.
    DeviceClosed,
    /// The server closed.
    ServerClosed,
    /// It failed.
    Failed(Failure),
}

impl<'a> Record<'a> {
    pub(super) fn new(source: SocketAddr, listener: &'a str) -> Self {
        Self {
            source,
            listener,
            login: None,
            account: None,
            notices: 0,
            device_tls: None,
            upstream_tls: None,
            commands: 0,
            passed: (0, 0),
            started: Instant::now(),
        }
    }

    /// A login that came to nothing; the session goes on.
    pub(super) fn login_failed(&self, failure: &Failure) {
        let login = self.login.as_deref().unwrap_or("-");
        warn!(source = %self.source, listener = self.listener, login, reason = failure.kind.label(), "login failed: {failure}");
    }

    /// A line of the server in a running session. Only the first few of a session are shown.
    pub(super) fn noticed(&mut self, failure: &Failure) {
        self.notices += 1;
        if self.notices > SHOWN_NOTICES {
            return;
        }
        let login = self.login.as_deref().unwrap_or("-");
        warn!(source = %self.source, listener = self.listener, login, reason = failure.kind.label(), "{failure}");
    }

    /// The line.
    pub(super) fn close(&self, ending: &Ending) {
        let (level, reason) = match ending {
            Ending::LoggedOut => (Level::Info, "logged_out"),
            Ending::DeviceClosed => (Level::Info, "device_closed"),
            Ending::ServerClosed => (Level::Info, "server_closed"),
            Ending::Failed(failure) => (failure.kind.level(), failure.kind.label()),
        };
        let words = match ending {
            Ending::LoggedOut => "session ended: the device logged out".to_owned(),
            Ending::DeviceClosed => "session ended: the device closed the connection".to_owned(),
            Ending::ServerClosed => "session ended: the mail server closed the connection".to_owned(),
            Ending::Failed(failure) => format!("session ended: {failure}"),
        };
        let login = self.login.as_deref().unwrap_or("-");
        let mailbox = self.account.unwrap_or("-");
        let (device_tls, upstream_tls) = (tls(self.device_tls), tls(self.upstream_tls));
        let (sent, received) = self.passed;
        let milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        macro_rules! line {
            ($log:ident) => {
                $log!(
                    source = %self.source,
                    listener = self.listener,
                    login,
                    mailbox,
                    device_tls,
                    upstream_tls,
                    commands = self.commands,
                    sent,
                    received,
                    milliseconds,
                    notices = (self.notices > 0).then_some(self.notices),
                    reason,
                    "{words}"
                )
            };
        }
        match level {
            Level::Warn => line!(warn),
            Level::Info => line!(info),
            Level::Debug => line!(debug),
        }
    }
}

const SHOWN_NOTICES: u32 = 3;

fn tls(facts: Option<Facts>) -> String {
    facts.map_or_else(
        || "none".to_owned(),
        |facts| format!("{} {}{}", facts.version, facts.cipher, if facts.resumed { " resumed" } else { "" }),
    )
}
