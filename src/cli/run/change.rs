//! A configuration takes the place of another one while the proxy runs, or is refused and changes nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::id;

use tracing::{error, info, warn};

use super::{Process, manager, proxy};
use crate::admin;
use crate::config::{Config, Problem, Proven};
use crate::state::{self, Access};
use crate::transport::downstream::certificate::{self, Making};

/// What certificates' files looked like when they were read.
pub(super) struct Stamps {
    read: Vec<Stamp>,
    /// As of the last look: a file that is being written is left alone until it has come to rest.
    seen: Vec<Stamp>,
}

/// What changes whenever a file is replaced or rewritten: inode and time. None if it is not there.
type Stamp = Option<(u64, i64, i64)>;

impl Process<'_> {
    /// Takes the configuration as it stands in its file now.
    pub(super) async fn reload(&mut self) {
        info!("SIGHUP: reading {}", self.file.config.display());
        let result = match self.file.read() {
            Ok(proven) => self.take(proven).await,
            Err(problems) => Err(problems),
        };
        self.report("the configuration", &result).await;
    }

    /// Takes certificates as they stand in their files now.
    pub(super) async fn take_certificates(&mut self) {
        let result = self.take(self.proven.clone()).await;
        self.report("certificates that have changed", &result).await;
    }

    async fn take(&mut self, proven: Proven) -> Result<(), Vec<Problem>> {
        manager::tell_reloading();
        let taken = self.open_and_go_on(proven).await;
        manager::tell_ready(&self.serving).await;
        taken
    }

    async fn open_and_go_on(&mut self, proven: Proven) -> Result<(), Vec<Problem>> {
        let mut serving = self.serving.write().await;
        let (old, new) = (serving.config(), &proven.config);
        let mut obstacles = Vec::new();
        for (key, is_same) in [
            ("state_directory", old.state_directory == new.state_directory),
            ("store_key", old.store_key == new.store_key),
        ] {
            if !is_same {
                let message = "cannot change while packetboat runs: restart it".to_owned();
                obstacles.push(proxy::Obstacle { key: key.to_owned(), message });
            }
        }
        let mut opened = None;
        if obstacles.is_empty() {
            match proxy::open(new, Making::Kept, &self.common, Some(&serving)) {
                Ok(doors) => opened = Some(doors),
                Err(found) => obstacles.extend(found),
            }
        }
        let admin_doors =
            admin::open(&new.admin, Making::Kept, Some(&self.admin)).map_err(|found| obstacles.extend(found));
        let (Some(opened), Ok(admin_doors), true) = (opened, admin_doors, obstacles.is_empty()) else {
            // What was counted for listeners that do not come about.
            let known: Vec<&String> = old.listeners.iter().map(|listener| &listener.name).collect();
            for listener in new.listeners.iter().filter(|listener| !known.contains(&&listener.name)) {
                self.common.metrics.forget(&listener.name);
            }
            return Err(obstacles.iter().map(|one| proven.problem(&one.key, &one.message)).collect());
        };
        for warning in &proven.warnings {
            warn!("{warning}");
        }
        self.output.change(new);
        serving.go_on_with(opened, new);
        drop(serving);
        self.admin.serve(admin_doors);
        self.proven = proven;
        Ok(())
    }

    /// To the log, the page, and to `packetboat reload`, which waits for it.
    async fn report(&mut self, what: &str, result: &Result<(), Vec<Problem>>) {
        self.common.metrics.reloaded(result.is_ok());
        let said = match result {
            Ok(()) => {
                let serving = self.serving.read().await;
                for (listener, address) in serving.places() {
                    info!(listener, "listening on {address}");
                }
                info!("{what} taken; sessions go on");
                None
            }
            Err(problems) => {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                for problem in &problems {
                    error!("{problem}");
                }
                error!("{what} refused: the old one runs on");
                Some(problems.join("\n"))
            }
        };
        self.admin.reloaded(said.clone());
        let outcome = Outcome { refused: said };
        if let Err(message) = outcome.write(&self.proven.config.state_directory) {
            warn!("packetboat reload gets no answer: {message}");
        }
    }
}

/// What came of the last reload, as a file in the state directory.
pub(in crate::cli) struct Outcome {
    /// Why it was refused, if it was.
    pub(in crate::cli) refused: Option<String>,
}

impl Outcome {
    fn write(&self, state_directory: &Path) -> Result<(), String> {
        let text = self.refused.as_ref().map_or_else(|| TAKEN.to_owned(), |why| format!("{REFUSED}\n{why}\n"));
        state::write(&state_directory.join(OUTCOME), text.as_bytes(), Access::Private)
    }

    /// The one that stands there, if there is one, and a stamp that the next one will not have.
    pub(in crate::cli) fn read(state_directory: &Path) -> Option<(Self, (u64, i64, i64))> {
        let path = state_directory.join(OUTCOME);
        let stamp = stamp(&path)?;
        let text = fs::read_to_string(path).ok()?;
        let refused = text.strip_prefix(REFUSED).map(|why| why.trim().to_owned());
        Some((Self { refused }, stamp))
    }
}

/// For `packetboat reload`, which looks for it there.
pub(super) fn write_process_id(state_directory: &Path) {
    let written = state::make_directory(state_directory)
        .and_then(|()| state::write(&state_directory.join(PROCESS), format!("{}\n", id()).as_bytes(), Access::Private));
    if let Err(message) = written {
        warn!("packetboat reload needs --pid: {message}");
    }
}

/// The process that runs with this state directory.
pub(in crate::cli) fn process_id(state_directory: &Path) -> Option<u32> {
    let id: u32 = fs::read_to_string(state_directory.join(PROCESS)).ok()?.trim().parse().ok()?;
    // Not somebody else's, who has it by now.
    let name = fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
    (name.trim() == "packetboat").then_some(id)
}

impl Stamps {
    pub(super) fn of(config: &Config) -> Self {
        let read = stamps(config);
        Self { seen: read.clone(), read }
    }

    /// Whether they have changed since they were read, and are at rest since the last look. Only once for each change.
    pub(super) fn have_changed(&mut self, config: &Config) -> bool {
        let now = stamps(config);
        let is_at_rest = now == self.seen;
        self.seen.clone_from(&now);
        if !is_at_rest || now == self.read {
            return false;
        }
        self.read = now;
        true
    }
}

fn stamps(config: &Config) -> Vec<Stamp> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for (name, one) in &config.certificates {
        paths.extend(certificate::files(one, &config.state_directory, name));
    }
    paths.iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Stamp {
    fs::metadata(path).ok().map(|one| (one.ino(), one.ctime(), one.ctime_nsec()))
}

const OUTCOME: &str = "reload";
const PROCESS: &str = "pid";
const TAKEN: &str = "taken\n";
const REFUSED: &str = "refused";
