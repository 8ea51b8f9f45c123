//! `packetboat run` starts the proxy, reloads its configuration, and drains it at the end.

mod fleet;
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
use tokio::sync::{RwLock, mpsc};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::error::{CommandError, Exit};
use super::output::exit_of;
use super::run_files::RunningProcess;
use super::{ConfigFile, runtime};
use crate::admin::{self, Admin, ConfigurationAccess, EventLoops, ReloadRequest};
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
pub(super) use startup_log::why_not_editable;

/// Runs the proxy until a signal ends it.
pub(super) fn run(file: &ConfigFile) -> Result<(), CommandError> {
    let runtime = runtime()?;
    let signals = runtime.block_on(async { EarlySignals::listen() }).map_err(cannot_start)?;
    let proven = file.load()?;
    let output = log::start(&proven.config);
    for warning in &proven.warnings {
        warn!("{warning}");
    }
    for name in Environment::unknown() {
        warn!("unknown environment variable {name} is ignored");
    }
    // The lock comes before any file there is read or made. The kernel releases it if the process dies.
    let _held = lock_state(&proven.config.state_directory)?;
    fleet::settle_certificates(file, &proven.config);
    let served = runtime.block_on(serve(file, proven, &output, signals));
    // A slow resolver is not waited for.
    runtime.shutdown_background();
    Ok(served?)
}

fn cannot_start(error: std::io::Error) -> CommandError {
    Exit::OsError.because(format_args!("cannot start: {error}"))
}

/// Locks the state directory, which one proxy at a time may use. Where it cannot be written, the proxy runs
/// nevertheless, as long as every file that it needs is there.
fn lock_state(state_directory: &Path) -> Result<Option<Hold>, Exit> {
    let refused = |error: state::Error| {
        error!("{error}");
        Exit::Unavailable
    };
    let open = state::open_to_others(state_directory).map_err(refused)?;
    let open = open.map(|error| error.to_string());
    if let Some(message) = open {
        warn!("{message}");
    }
    let held = match state::make_directory(state_directory) {
        Ok(()) => Some(state::hold(state_directory).map_err(refused)?),
        Err(message) => {
            warn_unwritable(&message);
            None
        }
    };
    // Behind the lock: while the owner's packetboat runs, nobody shall give its directory away.
    if let Some(message) = state::of_another_than_root(state_directory) {
        warn!("{message}");
    }
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
    warn!("{error}; packetboat cannot make certificates, and loses new refresh tokens and the inventory when it stops");
}

async fn serve(file: &ConfigFile, proven: Proven, output: &Output, signals: EarlySignals) -> Result<(), Exit> {
    // Signals are handled before anything is served, because an earlier one would end the process without a drain.
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
    let writable = startup_log::log_edit(config, &file.config);
    let confined = confine(file, &proven);
    // Threads that were there before would not be confined.
    output.start_thread().and_then(|()| pool::start()).map_err(not_started)?;
    let (trigger, lifecycle) = lifecycle::begin();
    let serving = RunningProxy::start(prepared, config, &common, &lifecycle).map_err(not_started)?;
    let serving = Arc::new(RwLock::new(serving));
    let loops = EventLoops::start().map_err(not_started)?;
    loops.health.spawn(systemd::ping_watchdog(Arc::clone(&serving), loops.control.clone()));
    let (access, page_reloads) = ConfigurationAccess::of(&file.config, writable);
    let admin = Admin::new(&common, &serving, loops, access);
    admin.serve(admin_listeners);
    let (beside, beside_lifecycle) = lifecycle::begin();
    tokio::spawn(Arc::clone(&known_sources).run(beside_lifecycle.clone()));
    let registration = fleet::start(config, &common, &admin, &beside_lifecycle);
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
        page_reloads,
        certificate_gate,
        change_gate,
        is_reload_wanted: false,
    };
    let signal = process.serve_until_end().await;
    process.end(signal, trigger, lifecycle).await;
    beside.enter(Phase::Draining);
    tokio::join!(process.admin.save_inventory(), known_sources.save(), fleet::leave(registration));
    process.remove_run_files().await;
    process.common.report_all_suppressed_lines();
    info!("stopped");
    Ok(())
}

/// Everything that the configuration names, open and not yet served.
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
        let common = fleet::join(config, ProcessState::with(config, systemd::sockets()).map_err(not_started)?)?;
        admin::load_inventory(config, &common);
        let known_sources = KnownSourcesFile::load(config, &common);
        let mut stamps = FileStamps::of(config);
        let report = |diagnostics: Vec<Diagnostic>| {
            for problem in proven.problems(&diagnostics) {
                error!("{problem}");
            }
            exit_of(&diagnostics)
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

/// Serves the commands at the socket in the state directory, where that could be made.
fn serve_owner(admin: &Arc<Admin>, socket: Result<UnixListener, state::Error>, lifecycle: Lifecycle) {
    let socket = socket.map_err(|error| error.to_string());
    let served = socket.and_then(|socket| admin.serve_owner(socket, lifecycle).map_err(|error| error.to_string()));
    if let Err(why) = served {
        warn!(
            "{why}; mend it, then restart packetboat: until then packetboat health and packetboat devices ask the page at \
             admin.listen, and packetboat spool and packetboat reload find no process"
        );
    }
}

/// Confines the process once everything is open, before a device can send anything. Returns the directories that may
/// still be read, if that is limited.
fn confine(file: &ConfigFile, proven: &Proven) -> Option<Vec<PathBuf>> {
    if !proven.config.confine {
        warn!("confine = false: this process can open every file of its user, and start programs");
        return None;
    }
    let confined = confinement::confine_process(&proven.config, &file.config);
    startup_log::log_confinement(&confined, &proven.config);
    for why in confinement::unreadable_files(&proven.config, &file.config) {
        warn!("{why}");
    }
    // The task's thread is confined, as are all threads that start from here on.
    tokio::spawn(async {
        if let Some(why) = unresolved_localhost().await {
            warn!("{why}");
        }
    });
    confined.files.ok()
}

/// Logs signals that are sent by habit, or by a logrotate that was written for another program.
async fn log_ignored_signals(mut ignored: Ignored) {
    loop {
        let name = ignored.next().await;
        info!(
            "{name} is ignored: SIGHUP reloads the configuration, SIGTERM ends packetboat, and the log, which goes to standard \
             error, needs no signal"
        );
    }
}

/// The running process, with everything that a reload needs.
struct Process<'a> {
    file: &'a ConfigFile,
    output: &'a Output,
    common: ProcessState,
    serving: Arc<RwLock<RunningProxy>>,
    admin: Arc<Admin>,
    signals: Signals,
    proven: Proven,
    /// The directories that may be read, if that is limited.
    confined: Option<Vec<PathBuf>>,
    stamps: FileStamps,
    /// Reloads that the page asks for, after it has changed the file.
    page_reloads: mpsc::Receiver<ReloadRequest>,
    /// Lets one look at the certificates' files run at a time.
    certificate_gate: Gate,
    /// Lets one preparation of a reload run at a time.
    change_gate: Gate,
    /// True if SIGHUP came during another reload.
    is_reload_wanted: bool,
}

impl Process<'_> {
    /// Writes the file by which commands find this process.
    async fn write_run_file(&self) {
        let running = RunningProcess { process: std::process::id(), admin: self.admin.address() };
        let directory = self.proven.config.state_directory.clone();
        if let Err(message) = reload::on_disk(move || running.write(&directory)).await {
            warn!("packetboat reload needs --pid, and packetboat health needs the configuration file: {message}");
        }
    }

    /// Removes the files by which commands find this process, so that they take no other process for it.
    async fn remove_run_files(&self) {
        let directory = self.proven.config.state_directory.clone();
        let taken = reload::on_disk(move || {
            RunningProcess::remove(&directory);
            state::socket::remove(&directory);
            Ok(())
        });
        if let Err(message) = taken.await {
            warn!("the files by which commands find this process cannot be removed: {message}");
        }
    }

    /// Serves until a signal asks for the end; returns its name.
    async fn serve_until_end(&mut self) -> &'static str {
        // The file exists before a command that has seen "ready" looks for it.
        self.write_run_file().await;
        info!("ready");
        systemd::notify_ready(&self.serving).await;
        let signal = self.until_end().await;
        systemd::notify_stopping();
        signal
    }

    /// Reloads on SIGHUP and when certificates change, until a signal asks for the end; returns its name.
    async fn until_end(&mut self) -> &'static str {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                request = self.signals.next() => match request {
                    Request::End(signal) => return signal,
                    Request::Reload => self.is_reload_wanted = true,
                },
                Some(request) = self.page_reloads.recv() => {
                    if let Err(signal) = self.reload("the page has changed the configuration").await {
                        return signal;
                    }
                    request.answer(self.admin.reload_problem());
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
                if let Err(signal) = self.reload("SIGHUP").await {
                    return signal;
                }
            }
        }
    }

    /// Waits for work on another thread. A signal that asks for the end cuts this short: its name is the error.
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

    /// Drains the proxy: it accepts no new connections, and ends sessions that are left after `drain_timeout`.
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

/// Raises the limit on open files: each connection has two sockets, and the usual limit of 1024 ends at some 500.
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

/// Open files beside connections: the log, the main thread's own, files that are read, the page.
const OTHER_FILES: u64 = 128;
/// Time beside `close_timeout` for the last responses to sessions.
const GOODBYE: Duration = Duration::from_secs(1);
/// The interval at which certificates are checked for changes.
const LOOK: Duration = Duration::from_secs(5);
