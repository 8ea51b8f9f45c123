//! A running proxy leaves files in its state directory by which commands find it: its process, the address of its page,
//! and the number and result of its last reload. They serve even while the configuration file has a mistake.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::ConfigFile;
use crate::config;
use crate::state::{self, Access};
use crate::text;

/// The process of a proxy that runs, or has run.
pub(super) struct RunningProcess {
    pub(super) process: u32,
    /// The address of its page, if it has one.
    pub(super) admin: Option<SocketAddr>,
}

/// The result of a reload. Reloads are numbered, over restarts too: `packetboat reload` waits for the first one that
/// began after its signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReloadOutcome {
    pub(super) number: u64,
    /// The reason for rejecting the configuration, if it was rejected.
    pub(super) refused: Option<String>,
    /// The sessions that the reload has ended, in words, if any.
    pub(super) revoked: Option<String>,
}

/// The content of the file of reloads.
#[derive(Default)]
struct ReloadFile {
    /// The number of the last reload that has begun.
    begun: u64,
    ended: Option<ReloadOutcome>,
}

impl RunningProcess {
    pub(super) fn write(&self, state_directory: &Path) -> Result<(), state::Error> {
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

    /// Removes the file, at the end of its process.
    pub(super) fn remove(state_directory: &Path) {
        // A directory that cannot be written keeps the file, which names a process that has gone.
        let _ = fs::remove_file(state_directory.join(RUNNING));
    }

    /// Returns whether the process still runs, and its number is not another program's by now.
    pub(super) fn is_alive(&self) -> bool {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.process));
        name.is_ok_and(|name| name.trim() == "packetboat")
    }
}

impl ReloadOutcome {
    /// Numbers a reload. Call it before the reload reads anything: a command that has read a smaller number can rely on
    /// this reload to see the command's files.
    ///
    /// # Errors
    /// The number cannot be written; then do not write the result either.
    pub(super) fn begin(state_directory: &Path) -> Result<u64, state::Error> {
        let before = ReloadFile::read(state_directory);
        let reloads = ReloadFile { begun: before.begun.saturating_add(1), ended: before.ended };
        reloads.write(state_directory)?;
        Ok(reloads.begun)
    }

    pub(super) fn write(self, state_directory: &Path) -> Result<(), state::Error> {
        let begun = ReloadFile::read(state_directory).begun.max(self.number);
        ReloadFile { begun, ended: Some(self) }.write(state_directory)
    }

    /// The number of the last reload that has begun; 0 before the first.
    pub(super) fn last_begun(state_directory: &Path) -> u64 {
        ReloadFile::read(state_directory).begun
    }

    /// The result of the last reload, if that began after the one of this number.
    pub(super) fn after(state_directory: &Path, number: u64) -> Option<Self> {
        ReloadFile::read(state_directory).ended.filter(|ended| ended.number > number)
    }
}

impl ReloadFile {
    /// Reads the file; one that is missing, damaged or of an earlier version holds no reload.
    fn read(state_directory: &Path) -> Self {
        let content = state::read(&state_directory.join(RELOADS)).ok();
        content.and_then(|content| Self::parse(&String::from_utf8(content).ok()?)).unwrap_or_default()
    }

    fn parse(text: &str) -> Option<Self> {
        let (begun, rest) = text.strip_prefix(BEGUN)?.split_once('\n')?;
        let ended = rest.strip_prefix(ENDED).and_then(|rest| {
            let (number, result) = rest.split_once('\n')?;
            let words = |prefix| result.strip_prefix(prefix).map(|words: &str| words.trim().to_owned());
            let revoked = words(TAKEN).filter(|words| !words.is_empty());
            Some(ReloadOutcome { number: number.parse().ok()?, refused: words(REFUSED), revoked })
        });
        Some(Self { begun: begun.parse().ok()?, ended })
    }

    fn write(&self, state_directory: &Path) -> Result<(), state::Error> {
        let ended = self.ended.as_ref().map_or_else(String::new, |ReloadOutcome { number, refused, revoked }| {
            let result = match (refused, revoked) {
                (Some(why), _) => format!("{REFUSED}\n{why}\n"),
                (None, Some(revoked)) => format!("{TAKEN}{revoked}\n"),
                (None, None) => TAKEN.to_owned(),
            };
            format!("{ENDED}{number}\n{result}")
        });
        let text = format!("{BEGUN}{}\n{ended}", self.begun);
        state::write(&state_directory.join(RELOADS), text.as_bytes(), Access::Private)
    }
}

impl ConfigFile {
    /// Directories in which a proxy with this file may keep its state, the likeliest first, even if the file has
    /// mistakes. The default directory may be another proxy's, and counts only where none is named.
    pub(super) fn state_directories(&self) -> Vec<PathBuf> {
        // Own code: the toml crate's error recovery loses a key behind a line that holds nothing but a stray word.
        let content = fs::read(&self.config).unwrap_or_default();
        let text = String::from_utf8_lossy(text::without_mark(&content));
        let in_file = text.lines().take_while(|line| !line.trim_start().starts_with('[')).find_map(|line| {
            let value = line.trim().strip_prefix("state_directory")?.trim_start().strip_prefix('=')?;
            Some(PathBuf::from(value.split('#').next()?.trim().trim_matches(['"', '\''])))
        });
        let in_environment = env::var_os("PACKETBOAT_STATE_DIRECTORY").map(PathBuf::from);
        if let Some(directory) = &self.state_directory {
            return vec![directory.clone()];
        }
        let named = [in_environment, in_file].into_iter().flatten().filter(|one| !one.as_os_str().is_empty());
        let mut directories: Vec<PathBuf> = named.collect();
        directories.dedup();
        if directories.is_empty() {
            directories.push(PathBuf::from(DEFAULT));
        }
        // Directories may be printed, and a value that is no path may be a secret.
        directories.retain(|one| config::is_path(one));
        directories
    }
}

const RUNNING: &str = "running";
const RELOADS: &str = "reload";
const BEGUN: &str = "begun ";
const ENDED: &str = "ended ";
const TAKEN: &str = "taken\n";
const REFUSED: &str = "refused";
/// The default of config/packetboat.toml.
const DEFAULT: &str = "/var/lib/packetboat";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_file_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let file = directory.path().join("packetboat.toml");
        fs::write(
            &file,
            format!("\u{feff}stray\nstate_directory = {state:?} # here\nnonsense [\n[log]\nstate_directory = \"no\""),
        )
        .unwrap();
        let config = ConfigFile { config: file, state_directory: None };
        let of_process = env::var_os("PACKETBOAT_STATE_DIRECTORY").map(PathBuf::from);
        let expected: Vec<PathBuf> = of_process.into_iter().chain([state.clone()]).collect();
        assert_eq!(config.state_directories(), expected, "the default is another proxy's");
        let named = ConfigFile { config: config.config.clone(), state_directory: Some(state.join("b")) };
        assert_eq!(named.state_directories(), [state.join("b")]);
        RunningProcess { process: 7, admin: "127.0.0.1:9143".parse().ok() }.write(&state).unwrap();
        let running = RunningProcess::read(&state).unwrap();
        assert_eq!((running.process, running.admin), (7, "127.0.0.1:9143".parse().ok()));
    }

    #[test]
    fn a_result_is_that_of_its_own_reload() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path();
        // An earlier version has written this file.
        fs::write(state.join(RELOADS), "taken\n").unwrap();
        assert_eq!((ReloadOutcome::last_begun(state), ReloadOutcome::after(state, 0)), (0, None));
        let words = |words: &str| Some(words.to_owned());
        for (number, refused, revoked) in
            [(1, None, None), (2, words("a\nb"), None), (3, None, words("1 session ended")), (4, None, None)]
        {
            assert_eq!(ReloadOutcome::begin(state).unwrap(), number);
            let before = ReloadOutcome::last_begun(state);
            let outcome = ReloadOutcome { number, refused, revoked };
            outcome.clone().write(state).unwrap();
            assert_eq!(ReloadOutcome::after(state, before - 1), Some(outcome.clone()));
            assert_eq!(ReloadOutcome::after(state, before), None, "it was under way before");
            ReloadOutcome::begin(state).unwrap();
            assert_eq!(ReloadOutcome::after(state, before - 1), Some(outcome), "the next one hides nothing");
            fs::write(state.join(RELOADS), format!("{BEGUN}{number}\n")).unwrap();
        }
    }
}
