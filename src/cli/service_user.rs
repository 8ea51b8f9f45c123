//! Root's commands go on as the service's user: the one that owns the state directory.
//!
//! The service could not use files that root made there for itself, root must not follow links that this user has laid,
//! and root's own rights to read and open say nothing about the service.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::error::{CommandError, Exit};
use crate::state;

/// The user and the groups that the service has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceUser {
    pub(super) user: u32,
    pub(super) group: u32,
    groups: Vec<u32>,
    /// The unit lets the service open ports below 1024.
    pub(super) opens_low_ports: bool,
}

impl ServiceUser {
    /// The owner of the state directory, where this is root, and the owner is not.
    pub(super) fn of(state_directory: &Path) -> Option<Self> {
        let metadata = fs::metadata(state_directory).ok()?;
        if !rustix::process::geteuid().is_root() || metadata.uid() == 0 {
            return None;
        }
        let (user, group) = (metadata.uid(), metadata.gid());
        let name = state::user_name(user);
        let unit = Unit::of_user(&name, user);
        let mut groups = state::groups_of(&name);
        groups.extend(unit.groups.iter().filter_map(|group| state::group_number(group)));
        groups.push(group);
        groups.sort_unstable();
        groups.dedup();
        Some(Self { user, group, groups, opens_low_ports: unit.opens_low_ports })
    }

    /// The name, or the number where it has none.
    pub(super) fn name(&self) -> String {
        state::user_name(self.user)
    }

    /// Starts a program as this user; this process stays what it is.
    ///
    /// # Errors
    /// This process may not change users, or the program does not start.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        // Linux keeps user and groups for each thread, and a program that a thread starts gets those of the thread.
        thread::scope(|scope| {
            let spawned = scope.spawn(|| self.take_over_thread().and_then(|()| command.spawn())).join();
            spawned.unwrap_or_else(|_| Err(io::Error::other("the thread that starts it has failed")))
        })
    }

    /// This thread goes on as the user, for good.
    fn take_over_thread(&self) -> io::Result<()> {
        let groups: Vec<Gid> = self.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.group));
        set_thread_groups(&groups)?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)?;
        Ok(())
    }
}

/// The service's unit as systemd knows it, where the package's unit runs the service.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unit {
    groups: Vec<String>,
    opens_low_ports: bool,
}

impl Unit {
    /// The unit as systemd has it, if it runs as this user.
    fn of_user(name: &str, user: u32) -> Self {
        if !Path::new(BOOTED).is_dir() {
            return Self::default();
        }
        let mut command = Command::new(SYSTEMCTL);
        command.args(["show", "packetboat.service", "--property=User,SupplementaryGroups,AmbientCapabilities"]);
        let output = command.env_clear().stdin(Stdio::null()).stderr(Stdio::null()).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        Self::parse(&text)
            .filter(|(of, _)| of == name || *of == user.to_string())
            .map(|(_, unit)| unit)
            .unwrap_or_default()
    }

    fn parse(text: &str) -> Option<(String, Self)> {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let groups = value("SupplementaryGroups").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        let mut capabilities = value("AmbientCapabilities").unwrap_or_default().split_whitespace();
        let opens_low_ports = capabilities.any(|one| one.eq_ignore_ascii_case("cap_net_bind_service"));
        Some((value("User")?.to_owned(), Self { groups, opens_low_ports }))
    }
}

/// Root goes on as the user that the state directory belongs to: begins the program anew as that user.
pub(super) fn become_owner(state_directory: &Path) -> Result<(), CommandError> {
    let Some(user) = ServiceUser::of(state_directory) else { return Ok(()) };
    let error = match user.take_over_thread() {
        Ok(()) => same_command(state_directory).exec(),
        Err(error) => error,
    };
    Err(not_possible(&user, state_directory, &error))
}

/// The error where root cannot go on as the service's user.
pub(super) fn not_possible(user: &ServiceUser, state_directory: &Path, error: &io::Error) -> CommandError {
    Exit::OsError.because(format_args!(
        "cannot go on as user {}, whom {} belongs to: {error}; run this as that user",
        user.user,
        state_directory.display()
    ))
}

/// This program with its own arguments. The state directory is named, because that user may not be able to read the
/// configuration that names it.
pub(super) fn same_command(state_directory: &Path) -> Command {
    let mut command = Command::new(OWN_PROGRAM);
    command.args(std::env::args_os().skip(1));
    let is_named = std::env::args_os().any(|one| one.to_string_lossy().starts_with(STATE_DIRECTORY));
    if !is_named {
        command.arg(STATE_DIRECTORY).arg(state_directory);
    }
    command
}

/// This program, without arguments yet.
#[cfg(feature = "fleet")]
pub(super) fn own_program() -> Command {
    Command::new(OWN_PROGRAM)
}

/// This program as that user, without arguments yet.
pub(super) fn as_owner(user: &ServiceUser) -> Command {
    let mut command = Command::new(OWN_PROGRAM);
    command.uid(user.user).gid(user.group);
    command
}

/// Returns whether this process is the service's user: it owns one of the directories, and is not root.
pub(super) fn is_service_user(state_directories: &[PathBuf]) -> bool {
    let own = rustix::process::geteuid();
    let is_owned = |directory: &PathBuf| fs::metadata(directory).is_ok_and(|about| about.uid() == own.as_raw());
    !own.is_root() && state_directories.iter().any(is_owned)
}

const OWN_PROGRAM: &str = "/proc/self/exe";
const STATE_DIRECTORY: &str = "--state-directory";
/// There where systemd is the init process (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
const SYSTEMCTL: &str = "/usr/bin/systemctl";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_read_as_systemctl_shows_it() {
        let unit = |text: &str| Unit::parse(text);
        let with = |groups: &[&str], opens_low_ports| Unit {
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            opens_low_ports,
        };
        for (text, expected) in [
            ("User=packetboat\nSupplementaryGroups=\nAmbientCapabilities=\n", with(&[], false)),
            (
                "AmbientCapabilities=cap_net_bind_service cap_net_raw\nUser=packetboat\nSupplementaryGroups=ssl-cert 12\n",
                with(&["ssl-cert", "12"], true),
            ),
            ("User=packetboat\nAmbientCapabilities=cap_net_bind\n", with(&[], false)),
        ] {
            assert_eq!(unit(text), Some(("packetboat".to_owned(), expected)), "{text}");
        }
        // A unit that is not loaded.
        assert_eq!(unit("SupplementaryGroups=\nAmbientCapabilities=\n"), None);
    }
}
