//! `packetboat run`: the first lines, the proxy, reloads, the drain.

mod known_sources;
pub(super) mod log;
mod reload;
mod startup_log;
mod systemd;

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::RwLock;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::error::{CommandError, Exit};
use super::run_files::RunningProcess;
use super::{ConfigFile, runtime};
use crate::admin::{self, Admin, EventLoops};
use crate::config::{Environment, Proven};
use crate::confinement;
use crate::diagnostic::Diagnostic;
use crate::lifecycle::{self, EarlySignals, Ignored, Lifecycle, Phase, Request, Signals, Trigger};
use crate::mode::Mode;
use crate::pool::{self, Gate};
use crate::proxy::{self, Prepared, ProcessState, RunningProxy};
use crate::state::{self, Hold};
use crate::transport::upstream::unresolved_localhost;
use known_sources::KnownSourcesFile;
use log::Output;
use reload::FileStamps;

/// Runs until a signal says otherwise.
pub(super) fn run(file: &ConfigFile) -> Result<(), CommandError> {
    let runtime = runtime()?;
    let signals = runtime.block_on(async { EarlySignals::listen() }).map_err(cannot_start)?;
    let proven = file.load()?;
    let output = log::start(&proven.config);
    for warning in &proven.warnings {
        warn!("{warning}");
    }
    for name in Environment::unknown() {
        warn!("the environment variable {name} means nothing to packetboat");
    }
    // Before anything is read or made there; given back last, by the kernel too.
    let _held = lock_state(&proven.config.state_directory)?;
    let served = runtime.block_on(serve(file, proven, &output, signals));
    // A resolver that takes its time over a name is not waited for.
    runtime.shutdown_background();
    Ok(served?)
}

fn cannot_start(error: std::io::Error) -> CommandError {
    Exit::OsError.because(format_args!("cannot start: {error}"))
}

/// One proxy at a time has the state directory. Where nothing can be written there, devices get their mail nevertheless, as
/// long as everything that is needed is there.
fn lock_state(state_directory: &Path) -> Result<Option<Hold>, Exit> {
    let refused = |error: state::Error| {
        error!("{error}");
        Exit::Unavailable
    };
    let open = state::open_to_others(state_directory).map_err(refused)?;
    let open = open.map(|error| error.to_string());
    for message in open.into_iter().chain(state::of_another_than_root(state_directory)) {
        warn!("{message}");
    }
    let held = match state::make_directory(state_directory) {
        Ok(()) => Some(state::hold(state_directory).map_err(refused)?),
        Err(message) => {
            warn_unwritable(&message);
            None
        }
    };
    match held.as_ref().map(|held| &held.unwritable) {
        Some(Some(message)) => warn_unwritable(message),
        Some(None) => {
            state::sweep(state_directory);
            if let Some(message) = state::why_not_ours(state_directory) {
                warn!("{message}");
            }
        }
        None => {}
    }
    Ok(held)
}

fn warn_unwritable(error: &state::Error) {
    warn!("{error}; certificates cannot be made, and new refresh tokens and the inventory are lost at the end");
}

async fn serve(file: &ConfigFile, proven: Proven, output: &Output, signals: EarlySignals) -> Result<(), Exit> {
    // Before anything is served: a signal that came too early would end the process without a drain.
    let (signals, ignored) = signals.and_ends().map_err(|error| {
        error!(%error, "cannot wait for signals");
        Exit::OsError
    })?;
    tokio::spawn(log_ignored_signals(ignored));
    let Resources { common, known_sources, stamps, prepared, admin_listeners } = Resources::open(&proven)?;
    let config = &proven.config;
    let owners = state::socket::listen(&config.state_directory);
    info!("packetboat {} is running", env!("CARGO_PKG_VERSION"));
    startup_log::log_services(&proven, &prepared.services);
    startup_log::log_admin(&admin_listeners);
    startup_log::log_unclaimed_sockets(&common, config);
    let confined = confine(file, &proven);
    // Threads that were there before would not be confined.
    output.start_thread().and_then(|()| pool::start()).map_err(not_started)?;
    let (trigger, lifecycle) = lifecycle::begin();
    let serving = RunningProxy::start(prepared, config, &common, &lifecycle).map_err(not_started)?;
    let serving = Arc::new(RwLock::new(serving));
    let loops = EventLoops::start().map_err(not_started)?;
    loops.health.spawn(systemd::ping_watchdog(Arc::clone(&serving), loops.control.clone()));
    let admin = Admin::new(&common, &serving, loops);
    admin.serve(admin_listeners);
    let (beside, beside_lifecycle) = lifecycle::begin();
    tokio::spawn(Arc::clone(&known_sources).run(beside_lifecycle.clone()));
    serve_owner(&admin, owners, beside_lifecycle.clone());
    admin.start_maintenance(beside_lifecycle);
    common.metrics.config_loaded(lifecycle::unix_time());
    let (certificate_gate, change_gate) = (Gate::new(), Gate::new());
    let mut process = Process {
        file,
        output,
        common,
        serving,
        admin,
        signals,
        proven,
        confined,
        stamps,
        certificate_gate,
        change_gate,
        is_reload_wanted: false,
    };
    let signal = process.serve_until_end().await;
    process.end(signal, trigger, lifecycle).await;
    beside.enter(Phase::Draining);
    tokio::join!(process.admin.save_inventory(), known_sources.save());
    process.remove_run_files().await;
    process.common.report_all_suppressed_lines();
    info!("stopped");
    Ok(())
}

/// Everything that the configuration names, opened and not yet served.
struct Resources {
    common: ProcessState,
    known_sources: Arc<KnownSourcesFile>,
    stamps: FileStamps,
    prepared: Prepared,
    admin_listeners: admin::Listeners,
}

impl Resources {
    fn open(proven: &Proven) -> Result<Self, Exit> {
        let config = &proven.config;
        raise_open_files(config.limits.connections, proxy::other_files(config));
        let common = ProcessState::with(config, systemd::sockets()).map_err(not_started)?;
        admin::load_inventory(config, &common);
        let known_sources = KnownSourcesFile::load(config, &common);
        let mut stamps = FileStamps::of(config);
        let report = |diagnostics: Vec<Diagnostic>| {
            for problem in proven.problems(&diagnostics) {
                error!("{problem}");
            }
            Exit::Unavailable
        };
        let prepared = proxy::open(config, Mode::Apply, &common, None).map_err(report)?;
        stamps.settle(config);
        let admin_listeners = admin::bind(&config.admin, Mode::Apply, &common, None).map_err(report)?;
        Ok(Self { common, known_sources, stamps, prepared, admin_listeners })
    }
}

fn not_started(error: impl std::fmt::Display) -> Exit {
    error!(%error, "cannot start");
    Exit::OsError
}

/// Commands ask at the socket in the state directory, where it could be made.
fn serve_owner(admin: &Arc<Admin>, socket: Result<UnixListener, state::Error>, lifecycle: Lifecycle) {
    let socket = socket.map_err(|error| error.to_string());
    let served = socket.and_then(|socket| admin.serve_owner(socket, lifecycle).map_err(|error| error.to_string()));
    if let Err(why) = served {
        warn!("{why}; packetboat health and packetboat devices ask the page at admin.listen instead");
    }
}

/// Once all is opened, so that what is in the way could be named, and before a device can say anything. Where files may be
/// read from here on, if that is limited.
fn confine(file: &ConfigFile, proven: &Proven) -> Option<Vec<PathBuf>> {
    if !proven.config.confine {
        warn!("confine = false: this process may open every file that its user may, and start programs");
        return None;
    }
    let confined = confinement::confine_process(&proven.config, &file.config);
    startup_log::log_confinement(&confined, &proven.config);
    for why in confinement::unreadable_files(&proven.config, &file.config) {
        warn!("{why}");
    }
    // In a thread that is confined as well, as all that come from here on.
    tokio::spawn(async {
        if let Some(why) = unresolved_localhost().await {
            warn!("{why}");
        }
    });
    confined.files.ok()
}

/// By habit, or by a logrotate that was written for another program.
async fn log_ignored_signals(mut ignored: Ignored) {
    loop {
        let name = ignored.next().await;
        info!(
            "{name} is ignored: SIGHUP reloads the configuration, SIGTERM ends packetboat, and the log, which goes to standard \
             error, needs no signal"
        );
    }
}

/// A proxy that runs.
struct Process<'a> {
    file: &'a ConfigFile,
    output: &'a Output,
    common: ProcessState,
    serving: Arc<RwLock<RunningProxy>>,
    admin: Arc<Admin>,
    signals: Signals,
    proven: Proven,
    /// Where files may be read, if that is limited.
    confined: Option<Vec<PathBuf>>,
    stamps: FileStamps,
    /// One look at the certificates' files at a time.
    certificate_gate: Gate,
    /// One preparation of a change at a time.
    change_gate: Gate,
    /// SIGHUP came while something else was taken.
    is_reload_wanted: bool,
}

impl Process<'_> {
    /// For the commands that look for it.
    async fn write_run_file(&self) {
        let running = RunningProcess { process: std::process::id(), admin: self.admin.address() };
        let directory = self.proven.config.state_directory.clone();
        if let Err(message) = reload::on_disk(move || running.write(&directory)).await {
            warn!("packetboat reload needs --pid, and packetboat health its file: {message}");
        }
    }

    /// Nobody is to take another process for this one.
    async fn remove_run_files(&self) {
        let directory = self.proven.config.state_directory.clone();
        let taken = reload::on_disk(move || {
            RunningProcess::remove(&directory);
            state::socket::remove(&directory);
            Ok(())
        });
        if let Err(message) = taken.await {
            warn!("what tells commands of this process stays there: {message}");
        }
    }

    /// Serves until the end is asked for: by which signal.
    async fn serve_until_end(&mut self) -> &'static str {
        // Before anybody hears that it is ready, and looks for it.
        self.write_run_file().await;
        info!("ready");
        systemd::notify_ready(&self.serving).await;
        let signal = self.until_end().await;
        systemd::notify_stopping();
        signal
    }

    /// Reloads when it is asked to, and takes certificates that have changed, until the end is asked for: by which signal.
    async fn until_end(&mut self) -> &'static str {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                request = self.signals.next() => match request {
                    Request::End(signal) => return signal,
                    Request::Reload => self.is_reload_wanted = true,
                },
                _ = look.tick() => {
                    self.common.report_suppressed_lines();
                    self.common.metrics.log_lines_lost(self.output.dropped());
                    if let Err(signal) = self.reload_certificates().await {
                        return signal;
                    }
                },
            }
            while std::mem::take(&mut self.is_reload_wanted) {
                if let Err(signal) = self.reload().await {
                    return signal;
                }
            }
        }
    }

    /// Waits for work on another thread. A signal that asks for the end is not kept waiting: then its name is returned.
    async fn unless_ending<T>(&mut self, work: impl Future<Output = T>) -> Result<T, &'static str> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                request = self.signals.next() => match request {
                    Request::End(signal) => return Err(signal),
                    Request::Reload => self.is_reload_wanted = true,
                },
            }
        }
    }

    /// No new connections; those that are open have their time, and are told when it is over.
    async fn end(&mut self, signal: &str, trigger: Trigger, lifecycle: Lifecycle) {
        let limits = self.proven.config.limits;
        let patience = limits.drain_timeout;
        info!("{signal}: no new connections; running sessions have {}", humantime::format_duration(patience));
        trigger.enter(Phase::Draining);
        drop(lifecycle);
        self.serving.write().await.drain();
        let all_gone = tokio::select! {
            all_gone = trigger.all_gone(patience) => all_gone,
            signal = self.second_signal() => {
                info!("{signal} again");
                false
            }
        };
        if !all_gone {
            info!("ending the sessions that are left");
            trigger.enter(Phase::Ending);
            trigger.all_gone(limits.close_timeout + GOODBYE).await;
        }
        self.serving.read().await.settle().await;
    }

    async fn second_signal(&mut self) -> &'static str {
        loop {
            if let Request::End(signal) = self.signals.next().await {
                return signal;
            }
        }
    }
}

/// Each connection has a socket on either side; the usual limit of 1024 ends at some 500 of them.
fn raise_open_files(connections: usize, others: usize) {
    let count = |files: usize| u64::try_from(files).unwrap_or(u64::MAX);
    let needed = count(connections).saturating_mul(2).saturating_add(count(others)).saturating_add(OTHER_FILES);
    let mut limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current.filter(|current| *current < needed) else { return };
    limit.current = limit.maximum.map_or(Some(needed), |maximum| Some(maximum.min(needed)));
    let possible = match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.current.unwrap_or(needed),
        Err(_) => current,
    };
    if possible < needed {
        warn!(
            "limits.connections = {connections} needs {needed} open files, and this process may have {possible}: raise \
             LimitNOFILE (systemd) or ulimit -n, or lower limits.connections"
        );
    }
}

/// The log, the main thread's own, files that are read, the page.
const OTHER_FILES: u64 = 128;
/// Beside `close_timeout`, for the last words to sessions whose time is over.
const GOODBYE: Duration = Duration::from_secs(1);
/// How often certificates are looked at for changes.
const LOOK: Duration = Duration::from_secs(5);
