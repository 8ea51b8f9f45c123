//! What a running proxy leaves in its state directory for the commands that look for it: its process, where its page is,
//! and what came of the last reload. They find it also where the configuration file has a mistake by now.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::ConfigFile;
use crate::state::{self, Access, Stamp};

/// A proxy that runs, or has run.
pub(super) struct Running {
    pub(super) process: u32,
    /// Where its page is; none where it is nowhere.
    pub(super) admin: Option<SocketAddr>,
}

/// What came of the last reload.
pub(super) struct Outcome {
    /// Why it was refused, if it was.
    pub(super) refused: Option<String>,
}

impl Running {
    pub(super) fn write(&self, state_directory: &Path) -> Result<(), String> {
        let admin = self.admin.map(|address| address.to_string()).unwrap_or_default();
        let text = format!("{}\n{admin}\n", self.process);
        state::make_directory(state_directory)?;
        state::write(&state_directory.join(RUNNING), text.as_bytes(), Access::Private)
    }

    pub(super) fn read(state_directory: &Path) -> Option<Self> {
        let text = String::from_utf8(state::read(&state_directory.join(RUNNING)).ok()?).ok()?;
        let mut lines = text.lines();
        let process = lines.next()?.parse().ok()?;
        Some(Self { process, admin: lines.next().and_then(|line| line.parse().ok()) })
    }

    /// Whether the process is still there, and not somebody else's by now.
    pub(super) fn is_there(&self) -> bool {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.process));
        name.is_ok_and(|name| name.trim() == "packetboat")
    }
}

impl Outcome {
    pub(super) fn write(&self, state_directory: &Path) -> Result<(), String> {
        let text = self.refused.as_ref().map_or_else(|| TAKEN.to_owned(), |why| format!("{REFUSED}\n{why}\n"));
        state::write(&state_directory.join(OUTCOME), text.as_bytes(), Access::Private)
    }

    pub(super) fn read(state_directory: &Path) -> Option<Self> {
        let text = String::from_utf8(state::read(&state_directory.join(OUTCOME)).ok()?).ok()?;
        Some(Self { refused: text.strip_prefix(REFUSED).map(|why| why.trim().to_owned()) })
    }

    /// What differs between one outcome and the next.
    pub(super) fn stamp(state_directory: &Path) -> Stamp {
        state::stamp(&state_directory.join(OUTCOME))
    }
}

impl ConfigFile {
    /// Where a proxy with this file may keep its state, the likeliest first: whether or not the file makes sense.
    pub(super) fn state_directories(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string(&self.config).unwrap_or_default();
        let in_file = text.lines().take_while(|line| !line.trim_start().starts_with('[')).find_map(|line| {
            let value = line.trim().strip_prefix("state_directory")?.trim_start().strip_prefix('=')?;
            Some(PathBuf::from(value.split('#').next()?.trim().trim_matches(['"', '\''])))
        });
        let in_environment = env::var_os("PACKETBOAT_STATE_DIRECTORY").map(PathBuf::from);
        let all = [self.state_directory.clone(), in_environment, in_file, Some(PathBuf::from(DEFAULT))];
        let mut directories: Vec<PathBuf> = Vec::new();
        for one in all.into_iter().flatten().filter(|one| !one.as_os_str().is_empty()) {
            if !directories.contains(&one) {
                directories.push(one);
            }
        }
        directories
    }
}

const RUNNING: &str = "running";
const OUTCOME: &str = "reload";
const TAKEN: &str = "taken\n";
const REFUSED: &str = "refused";
/// As in config/packetboat.toml.
const DEFAULT: &str = "/var/lib/packetboat";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let file = directory.path().join("packetboat.toml");
        fs::write(
            &file,
            format!("# x\nstate_directory = {state:?} # here\nnonsense [\n[log]\nstate_directory = \"no\""),
        )
        .unwrap();
        let config = ConfigFile { config: file, state_directory: None };
        assert!(config.state_directories().contains(&state));
        Running { process: 7, admin: "127.0.0.1:9143".parse().ok() }.write(&state).unwrap();
        let running = Running::read(&state).unwrap();
        assert_eq!((running.process, running.admin), (7, "127.0.0.1:9143".parse().ok()));
        for refused in [None, Some("a\nb".to_owned())] {
            Outcome { refused: refused.clone() }.write(&state).unwrap();
            assert_eq!(Outcome::read(&state).unwrap().refused, refused);
        }
    }
}
