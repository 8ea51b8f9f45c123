//! Commands that need the service's credentials run as the service's user when root starts them: in a process of their
//! own, for which root waits.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;

use super::error::{CommandError, Exit};
use super::handover::Handover;
use super::output::print_error;
use super::runtime;
use super::service_user::{ServiceUser, not_possible, same_command};
use crate::config::{CREDENTIALS, Config};
use crate::transport::ports::PortReport;

/// The way on for root where it may not change users, as in a container without that capability.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WithoutRights {
    /// Go on as root, with a warning: the command writes nothing.
    GoOn,
    /// Do nothing.
    Fail,
}

/// Runs this command anew as the service's user, if this is root and the state directory is another user's. Returns
/// whether it did.
///
/// # Errors
/// The command has failed, and has said why; or it cannot be run.
pub(super) fn run_as_service(config: &Config, without_rights: WithoutRights) -> Result<bool, CommandError> {
    let Some(user) = ServiceUser::of(&config.state_directory) else { return Ok(false) };
    let runtime = runtime()?;
    let status = runtime.block_on(async {
        // Before the credentials are copied: from here on no signal ends this process, which has to remove them.
        let signals = Signals::listen().map_err(|error| not_possible(&user, &config.state_directory, &error))?;
        let handover = hand_over(config, &user)?;
        let mut command = same_command(&config.state_directory);
        let listened = config.listeners.iter().flat_map(|listener| &listener.listen).chain(&config.admin.listen);
        command.env(PORTS, PortReport::of(listened.copied(), user.opens_low_ports).to_string());
        if let Some(handover) = &handover {
            command.env("CREDENTIALS_DIRECTORY", handover.directory());
        }
        let child = user.spawn(&mut command);
        let ended = match child {
            Ok(child) => signals.forward_until_end(child).await.map(Some),
            Err(error) if error.kind() == ErrorKind::PermissionDenied && without_rights == WithoutRights::GoOn => {
                let name = user.name();
                print_error(format_args!("warning: checked as root, because it may not go on as user {name}: {error}"));
                Ok(None)
            }
            Err(error) => Err(error),
        };
        drop(handover);
        ended.map_err(|error| not_possible(&user, &config.state_directory, &error))
    })?;
    match status.map(exit_code) {
        None => Ok(false),
        Some(0) => Ok(true),
        Some(code) => Err(CommandError::of_other_process(code)),
    }
}

/// Takes over what root has found out about ports, in the process that [`run_as_service`] has started.
pub(super) fn adopt_port_report() {
    let report = std::env::var(PORTS).ok().and_then(|text| text.parse::<PortReport>().ok());
    report.into_iter().for_each(PortReport::adopt);
}

fn hand_over(config: &Config, user: &ServiceUser) -> Result<Option<Handover>, CommandError> {
    let names = config.credentials();
    if names.is_empty() {
        return Ok(None);
    }
    let name = user.name();
    let handover = Handover::of(&names, user).map_err(|error| {
        Exit::OsError.because(format_args!(
            "the files in {CREDENTIALS} cannot be handed over to user {name}: {error}; run this as the service's \
             user, with the credentials from systemd:\n{}",
            command_by_systemd(&name)
        ))
    })?;
    if !handover.missing.is_empty() {
        print_error(format_args!(
            "warning: {} is not in {CREDENTIALS}; if the unit takes it from elsewhere, run this with the unit's own \
             LoadCredential= lines:\n{}",
            handover.missing.join(", "),
            command_by_systemd(&name)
        ));
    }
    Ok(Some(handover))
}

/// The command line by which systemd runs this command as the service's user, with the credentials.
fn command_by_systemd(user: &str) -> String {
    let own: Vec<String> = std::env::args_os().skip(1).map(|argument| quoted(&argument)).collect();
    format!(
        "  systemd-run --pty --collect --uid={user} -p LoadCredential=packetboat:{CREDENTIALS} packetboat {}",
        own.join(" ")
    )
}

/// An argument as a shell takes it.
fn quoted(argument: &OsString) -> String {
    let text = argument.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@,+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// The code of a process that was ended by a signal is that of a shell.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Signals that would end this process before the other one.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Waits until the process ends, and passes on what asks for its end. A terminal sends its own signals to both.
    async fn forward_until_end(mut self, mut child: Child) -> io::Result<ExitStatus> {
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| io::Error::other("it has no process id"))?;
        let process = pidfd_open(id, PidfdFlags::empty());
        let mut waiting = spawn_blocking(move || child.wait());
        loop {
            let signal = tokio::select! {
                ended = &mut waiting => return ended.unwrap_or_else(|error| Err(io::Error::other(error))),
                _ = self.interrupt.recv() => continue,
                _ = self.quit.recv() => continue,
                _ = self.terminate.recv() => Signal::TERM,
                _ = self.hangup.recv() => Signal::HUP,
            };
            // It may have ended meanwhile.
            let _ = process.as_ref().map(|process| pidfd_send_signal(process, signal));
        }
    }
}

/// The environment variable with root's [`PortReport`].
const PORTS: &str = "PACKETBOAT_PORT_REPORT";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_for_a_shell() {
        for (argument, expected) in [
            ("--online", "--online"),
            ("/etc/packetboat/packetboat.toml", "/etc/packetboat/packetboat.toml"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's;x", "'it'\\''s;x'"),
        ] {
            assert_eq!(quoted(&argument.into()), expected);
        }
    }

    #[test]
    fn a_signal_is_a_code_as_in_a_shell() {
        let codes = [0, 78 << 8, 15, 9].map(|status| exit_code(ExitStatus::from_raw(status)));
        assert_eq!(codes, [0, 78, 143, 137]);
    }
}
