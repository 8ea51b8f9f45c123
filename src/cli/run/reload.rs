//! A reload replaces the configuration of the running proxy as a whole, or is rejected and changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::{Process, proxy, raise_open_files, startup_log, systemd};
use crate::admin::{self, Admin};
use crate::cli::run_files::ReloadOutcome;
use crate::config::{Config, Fleet, Problem, Proven};
use crate::confinement;
use crate::diagnostic::Diagnostic;
use crate::lifecycle;
use crate::mode::Mode;
use crate::pool::{self, NotDone};
use crate::proxy::{ProcessState, Revoked, Snapshot};
use crate::state::{self, Stamp};
use crate::transport::downstream::certificate;

/// Stamps of the certificates' files, by which a change of a file is noticed.
pub(super) struct FileStamps {
    read: Vec<Option<Stamp>>,
    /// The stamps of the last look. A file that is still being written is read once it is at rest.
    seen: Vec<Option<Stamp>>,
    /// The stamps of files that were rejected, and when: they are not tried again at once.
    refused: Option<(Vec<Option<Stamp>>, Instant)>,
}

/// The parts of the running proxy from which a reload is prepared.
struct ReloadContext {
    present: Snapshot,
    admin: Arc<Admin>,
    common: ProcessState,
    confined: Option<Vec<PathBuf>>,
}

/// A configuration with everything that it names, open.
struct Candidate {
    proven: Proven,
    opened: proxy::Prepared,
    admin_listeners: admin::Listeners,
    stamps: FileStamps,
}

/// A configuration that is rejected.
struct Rejected {
    /// The configuration, if it could be read: the log shows its names by pseudonyms.
    names: Option<Box<Config>>,
    problems: Vec<Problem>,
}

impl Process<'_> {
    /// Reloads the configuration from its file, for this reason. Returns the name of a signal that ended the process meanwhile.
    pub(super) async fn reload(&mut self, reason: &str) -> Result<(), &'static str> {
        info!("{reason}: reading {}", self.file.config.display());
        // The reload begins before it reads a file, because packetboat reload waits for a reload that begins after its
        // signal.
        let directory = self.proven.config.state_directory.clone();
        let number = on_disk(move || ReloadOutcome::begin(&directory)).await;
        let (file, own) = (self.file.clone(), self.proven.config.state_directory.clone());
        let result = self.apply(move || file.read_for(&[own])).await?;
        self.common.metrics.config_reloaded(result.is_ok(), lifecycle::unix_time());
        self.log_result("configuration", &result).await;
        let (refused, revoked) = match result {
            Ok(revoked) => (None, revoked.words()),
            Err(problems) => (Some(lines(&problems)), None),
        };
        self.admin.set_reload_problem(refused.clone());
        let directory = self.proven.config.state_directory.clone();
        let written = match number {
            Ok(number) => on_disk(move || ReloadOutcome { number, refused, revoked }.write(&directory)).await,
            Err(message) => Err(message),
        };
        if let Err(message) = written {
            warn!("packetboat reload will not see the result: {message}");
        }
        Ok(())
    }

    /// Reloads certificates whose files have changed. Returns the name of a signal that ended the process meanwhile.
    pub(super) async fn reload_certificates(&mut self) -> Result<(), &'static str> {
        let config = self.proven.config.clone();
        let gate = self.certificate_gate.clone();
        let look = async move { pool::FILES.run_alone(&gate, FILES, move || stamps(&config)).await };
        let Ok(present) = self.unless_ending(look).await? else { return Ok(()) };
        if !self.stamps.have_changed(present) {
            return Ok(());
        }
        let proven = self.proven.clone();
        let result = self.apply(move || Ok(proven)).await?;
        if result.is_err() {
            self.stamps.refuse();
        }
        self.log_result("certificates", &result).await;
        Ok(())
    }

    /// Reads and opens on a thread of the pool, however long that takes, and then goes on with the result. Connections,
    /// health and signals are served meanwhile.
    async fn apply(
        &mut self,
        read: impl FnOnce() -> Result<Proven, Vec<Problem>> + Send + 'static,
    ) -> Result<Result<Revoked, Vec<Problem>>, &'static str> {
        systemd::notify_reloading();
        let context = ReloadContext {
            present: self.serving.read().await.present(),
            admin: Arc::clone(&self.admin),
            common: self.common.clone(),
            confined: self.confined.clone(),
        };
        let prepare = move || read().map_err(Rejected::unreadable).and_then(|proven| context.open(proven));
        // One at a time: one that hung, and that nobody waits for any more, may hold the sockets that the next one
        // opens.
        let gate = self.change_gate.clone();
        let prepared = self.unless_ending(async { pool::FILES.run_alone(&gate, LONGEST, prepare).await }).await?;
        let result = match prepared {
            Ok(Ok(prepared)) => Ok(self.commit(prepared).await),
            Ok(Err(Rejected { names, problems })) => {
                names.iter().for_each(|config| self.output.hide_also(config));
                Err(problems)
            }
            Err(why) => Err(vec![self.not_done(why)]),
        };
        systemd::notify_ready(&self.serving).await;
        Ok(result)
    }

    /// A change that did not end: mostly a file on a network file system that hangs.
    fn not_done(&self, why: NotDone) -> Problem {
        let message = match why {
            NotDone::Late => format!(
                "reading the files that it names takes longer than {}: does a network file system hang?",
                humantime::format_duration(LONGEST)
            ),
            other => format!("cannot be read now: {other}"),
        };
        Problem { file: self.file.config.clone(), line: None, key: String::new(), message }
    }

    async fn commit(&mut self, prepared: Candidate) -> Revoked {
        let Candidate { proven, opened, admin_listeners, stamps } = prepared;
        self.output.reconfigure(&proven.config);
        for warning in &proven.warnings {
            warn!("{warning}");
        }
        let revoked = self.serving.write().await.reload(opened, &proven.config);
        self.stamps = stamps;
        self.admin.serve(admin_listeners);
        raise_open_files(proven.config.limits.connections, proxy::other_files(&proven.config));
        startup_log::log_unclaimed_sockets(&self.common, &proven.config);
        self.proven = proven;
        self.write_run_file().await;
        revoked
    }

    /// Writes the result to the log.
    async fn log_result(&self, what: &str, result: &Result<Revoked, Vec<Problem>>) {
        match result {
            Ok(revoked) => {
                for (listener, address) in self.serving.read().await.addresses() {
                    info!(listener, "listening on {address}");
                }
                info!("{what} reloaded; {}", crate::cli::reload::session_changes(revoked.words().as_deref()));
            }
            Err(problems) => {
                for problem in problems {
                    error!("{problem}");
                }
                error!("{what} rejected; still running with the previous version");
            }
        }
    }
}

impl ReloadContext {
    /// Opens everything that the configuration names. Nothing that runs is touched.
    fn open(self, proven: Proven) -> Result<Candidate, Rejected> {
        // The stamps come before the reading, so that a later change causes the next reload.
        let mut stamps = FileStamps::of(&proven.config);
        let new = &proven.config;
        let mut diagnostics = self.fixed(new);
        let mut opened = None;
        if diagnostics.is_empty() {
            match proxy::open(new, Mode::Apply, &self.common, Some(&self.present)) {
                Ok(doors) => opened = Some(doors),
                Err(found) => diagnostics.extend(found),
            }
        }
        let admin_listeners = admin::bind(&new.admin, Mode::Apply, &self.common, Some(&self.admin))
            .map_err(|found| diagnostics.extend(found));
        let (Some(opened), Ok(admin_listeners), true) = (opened, admin_listeners, diagnostics.is_empty()) else {
            let problems = proven.problems(&diagnostics);
            return Err(Rejected { names: Some(Box::new(proven.config)), problems });
        };
        stamps.settle(new);
        Ok(Candidate { proven, opened, admin_listeners, stamps })
    }

    /// Settings and files that only a restart can change.
    fn fixed(&self, new: &Config) -> Vec<Diagnostic> {
        let old = self.present.config();
        let mut diagnostics = Vec::new();
        for (key, is_same) in [
            ("state_directory", old.state_directory == new.state_directory),
            ("store_key", old.store_key == new.store_key),
            ("spool.directory", old.spool.directory == new.spool.directory),
            ("fleet", Fleet::are_same(old.fleet.as_ref(), new.fleet.as_ref())),
            ("confine", old.confine == new.confine),
            ("admin.edit", old.admin.edit == new.admin.edit),
        ] {
            if !is_same {
                let message = "cannot change while packetboat runs: restart it".to_owned();
                diagnostics.push(Diagnostic::new(key, message));
            }
        }
        for path in self.confined.iter().flat_map(|allowed| confinement::disallowed_files(new, allowed)) {
            let message = format!(
                "{} is in a directory that packetboat may not open since its start (confine = true): restart it",
                state::shown(&path)
            );
            diagnostics.push(Diagnostic::new("", message));
        }
        diagnostics
    }
}

impl Rejected {
    fn unreadable(problems: Vec<Problem>) -> Self {
        Self { names: None, problems }
    }
}

/// Does this in the state directory, on a thread of the pool.
pub(super) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, state::Error> + Send + 'static,
) -> Result<T, state::Error> {
    let done = pool::STATE.run_within(FILES, work).await;
    done.unwrap_or_else(|why| Err(why.into()))
}

fn lines(problems: &[Problem]) -> String {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    problems.join("\n")
}

impl FileStamps {
    pub(super) fn of(config: &Config) -> Self {
        let read = stamps(config);
        Self { seen: read.clone(), read, refused: None }
    }

    /// Takes files that the start has made itself as unchanged.
    pub(super) fn settle(&mut self, config: &Config) {
        for (read, now) in self.read.iter_mut().zip(stamps(config)) {
            *read = read.or(now);
        }
        self.seen.clone_from(&self.read);
    }

    /// Whether they have changed since they were read, and are at rest since the last look.
    fn have_changed(&mut self, now: Vec<Option<Stamp>>) -> bool {
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

fn stamps(config: &Config) -> Vec<Option<Stamp>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for (name, one) in &config.certificates {
        let files = certificate::files(one, &config.state_directory, name);
        paths.extend(files.into_iter().flat_map(|files| [files.chain, files.key]));
    }
    paths.iter().map(|path| state::stamp(path)).collect()
}

/// A change may take this long; `packetboat reload` waits a little longer.
const LONGEST: Duration = Duration::from_secs(25);
/// Local files take microseconds.
const FILES: Duration = Duration::from_secs(5);
/// The time after which a rejected change is tried again: its reason may have passed.
const AGAIN: Duration = Duration::from_secs(5 * 60);
