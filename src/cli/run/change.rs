//! A configuration takes the place of another one while the proxy runs, or is refused and changes nothing.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::{Process, introduction, manager, proxy, raise_open_files};
use crate::admin;
use crate::cli::trail::Outcome;
use crate::config::{Config, Problem, Proven};
use crate::confinement;
use crate::lifecycle;
use crate::state::{self, Stamp};
use crate::transport::downstream::certificate::{self, Making};

/// What certificates' files looked like when they were read.
pub(super) struct Stamps {
    read: Vec<Stamp>,
    /// As of the last look: a file that is being written is left alone until it has come to rest.
    seen: Vec<Stamp>,
    /// What was refused, and when: it is not tried again at once.
    refused: Option<(Vec<Stamp>, Instant)>,
}

impl Process<'_> {
    /// Takes the configuration as it stands in its file now.
    pub(super) async fn reload(&mut self) {
        info!("SIGHUP: reading {}", self.file.config.display());
        // Before anything is read: packetboat reload waits for the result of a reload that begins after its signal.
        let number = Outcome::begin(&self.proven.config.state_directory);
        let result = match self.file.read() {
            Ok(proven) => self.take(proven).await,
            Err(problems) => Err(problems),
        };
        self.common.metrics.reloaded(result.is_ok(), lifecycle::since_1970());
        self.tell("the configuration", &result).await;
        let refused = result.err().map(|problems| lines(&problems));
        self.admin.reloaded(refused.clone());
        let write = |number| Outcome { number, refused }.write(&self.proven.config.state_directory);
        if let Err(message) = number.and_then(write) {
            warn!("packetboat reload gets no answer: {message}");
        }
    }

    /// Takes certificates as they stand in their files now.
    pub(super) async fn take_certificates(&mut self) {
        let result = self.take(self.proven.clone()).await;
        if result.is_err() {
            self.stamps.refuse();
        }
        self.tell("certificates that have changed", &result).await;
    }

    async fn take(&mut self, proven: Proven) -> Result<(), Vec<Problem>> {
        manager::tell_reloading();
        let taken = self.open_and_go_on(proven).await;
        manager::tell_ready(&self.serving).await;
        taken
    }

    async fn open_and_go_on(&mut self, proven: Proven) -> Result<(), Vec<Problem>> {
        // Before anything is read: what changes meanwhile is taken the next time.
        let mut stamps = Stamps::of(&proven.config);
        let mut serving = self.serving.write().await;
        let (old, new) = (serving.config(), &proven.config);
        let mut obstacles = Vec::new();
        for (key, is_same) in [
            ("state_directory", old.state_directory == new.state_directory),
            ("store_key", old.store_key == new.store_key),
            ("confine", old.confine == new.confine),
        ] {
            if !is_same {
                let message = "cannot change while packetboat runs: restart it".to_owned();
                obstacles.push(proxy::Obstacle { key: key.to_owned(), message });
            }
        }
        for path in self.confined.iter().flat_map(|allowed| confinement::outside(new, allowed)) {
            let message = format!(
                "{} is in a directory that packetboat may not open since its start (confine = true): restart it",
                path.display()
            );
            obstacles.push(proxy::Obstacle { key: String::new(), message });
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
            self.output.hide_also(new);
            return Err(proxy::Obstacle::told(&obstacles, &proven));
        };
        self.output.change(new);
        for warning in &proven.warnings {
            warn!("{warning}");
        }
        serving.go_on_with(opened, new);
        drop(serving);
        stamps.settle(new);
        self.stamps = stamps;
        self.admin.serve(admin_doors);
        raise_open_files(proven.config.limits.connections, proxy::other_files(&proven.config));
        introduction::tell_of_unclaimed(&self.common, &proven.config);
        self.proven = proven;
        self.leave_trail();
        Ok(())
    }

    /// To the log.
    async fn tell(&self, what: &str, result: &Result<(), Vec<Problem>>) {
        match result {
            Ok(()) => {
                for (listener, address) in self.serving.read().await.places() {
                    info!(listener, "listening on {address}");
                }
                info!("{what} taken; sessions go on");
            }
            Err(problems) => {
                for problem in problems {
                    error!("{problem}");
                }
                error!("{what} refused: the old one runs on");
            }
        }
    }
}

fn lines(problems: &[Problem]) -> String {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    problems.join("\n")
}

impl Stamps {
    pub(super) fn of(config: &Config) -> Self {
        let read = stamps(config);
        Self { seen: read.clone(), read, refused: None }
    }

    /// Those that were not there, and have been made since, have not changed.
    pub(super) fn settle(&mut self, config: &Config) {
        for (read, now) in self.read.iter_mut().zip(stamps(config)) {
            *read = read.or(now);
        }
        self.seen.clone_from(&self.read);
    }

    /// Whether they have changed since they were read, and are at rest since the last look.
    pub(super) fn have_changed(&mut self, config: &Config) -> bool {
        let now = stamps(config);
        let is_at_rest = now == self.seen;
        let was_refused =
            self.refused.as_ref().is_some_and(|(refused, when)| *refused == now && when.elapsed() < AGAIN);
        self.seen = now;
        is_at_rest && self.seen != self.read && !was_refused
    }

    fn refuse(&mut self) {
        self.refused = Some((self.seen.clone(), Instant::now()));
    }
}

fn stamps(config: &Config) -> Vec<Stamp> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for (name, one) in &config.certificates {
        paths.extend(certificate::files(one, &config.state_directory, name));
    }
    paths.iter().map(|path| state::stamp(path)).collect()
}

/// What was refused may have been refused for a reason that has passed.
const AGAIN: Duration = Duration::from_secs(5 * 60);
