//! What is seen from outside: metrics, health, the inventory, and the page that shows all of it.

mod accept;
mod cache;
mod expiry;
mod handler;
mod limiter;
mod maintenance;
mod reverse_dns;
mod status;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Handle};
use tokio::sync::RwLock;
use tokio::time::Instant;
use tracing::warn;

use crate::config::{Admin as Settings, Config};
use crate::diagnostic::Diagnostic;
use crate::lifecycle::{self, Lifecycle, Trigger, unix_time};
use crate::mode::Mode;
use crate::pool::Gate;
use crate::proxy::{self, ProcessState, RunningProxy};
use crate::secret::Secret;
use crate::state::{self, SaveStatus};
use crate::transport::{adopt, listen};
use handler::Caches;
use limiter::ConnectionLimiter;

/// Who answers.
pub struct Admin {
    common: ProcessState,
    serving: Arc<RwLock<RunningProxy>>,
    /// Seconds since 1970.
    started: u64,
    reloadable: Mutex<Reloadable>,
    /// Whether a mail server was reached, and when that was tried.
    reached: tokio::sync::Mutex<Option<(Instant, bool)>>,
    expiries: Mutex<expiry::ReadExpiries>,
    /// One reading of certificates at a time.
    certificates: Gate,
    saving: tokio::sync::Mutex<()>,
    save_status: SaveStatus,
    loops: EventLoops,
    /// For the page and for the socket in the state directory apart: nobody at the page delays the operator's commands.
    caches: Caches,
    owner_caches: Caches,
    /// Connections from this computer, and from elsewhere.
    near: Arc<ConnectionLimiter>,
    far: Arc<ConnectionLimiter>,
}

/// The event loops that serve neither connections of devices nor the control of the process, each on a thread of its own.
pub struct EventLoops {
    /// Signals, reloads and the timers of tokens.
    pub control: Handle,
    /// The page and metrics, for whoever reaches their port.
    pub page: Handle,
    /// The watchdog, and the socket in the state directory.
    pub health: Handle,
}

/// What a reload may change.
#[derive(Default)]
struct Reloadable {
    /// Addresses as configured and as they are, each with what ends it when it is dropped.
    open: Vec<(SocketAddr, SocketAddr, Trigger)>,
    token: Option<Secret>,
    /// Why the last reload was refused, if it was.
    problem: Option<String>,
}

/// Addresses that are listened on, and the token that is asked for there.
pub struct Listeners {
    /// As configured; without a socket where it is open already.
    listen: Vec<(SocketAddr, Option<StdListener>)>,
    token: Option<Secret>,
}

/// Binds every address and reads the token; what is listened on already stays.
///
/// # Errors
/// Each diagnostic.
pub fn bind(
    settings: &Settings,
    mode: Mode,
    common: &ProcessState,
    before: Option<&Arc<Admin>>,
) -> Result<Listeners, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let token = settings.token_file.as_ref().map(|path| read_token(path)).transpose();
    let token = token.map_err(|diagnostic| diagnostics.push(diagnostic)).unwrap_or_default();
    let mut listen = Vec::new();
    for &address in &settings.listen {
        if before.is_some_and(|admin| admin.reloadable.lock().open.iter().any(|(open, ..)| *open == address)) {
            listen.push((address, None));
            continue;
        }
        let is_own = before
            .is_some_and(|admin| admin.reloadable.lock().open.iter().any(|(_, own, _)| own.port() == address.port()));
        let taken = match common.inherited.for_address(address) {
            Some(socket) => adopt(socket, KEEP_ALIVE).map(|socket| vec![socket]),
            None => self::listen(address, 1, KEEP_ALIVE, is_own),
        };
        match taken {
            Ok(sockets) => listen.extend(sockets.into_iter().map(|socket| (address, Some(socket)))),
            // Trying out a file beside the proxy that it is for is not a mistake.
            Err(error) if mode == Mode::DryRun && proxy::is_beside_own(&error, address) => {}
            Err(error) => {
                let why = proxy::why_not_bound(&error, address, &common.inherited);
                let message =
                    format!("cannot listen on {address}: {why}; write another address, or listen = [] for none");
                diagnostics.push(Diagnostic::new("admin.listen", message));
            }
        }
    }
    if diagnostics.is_empty() { Ok(Listeners { listen, token }) } else { Err(diagnostics) }
}

/// Reads the bearer token: the file's content but for white space around it.
fn read_token(path: &Path) -> Result<Secret, Diagnostic> {
    let text = state::read_secret(path).map_err(|error| Diagnostic::new("admin.token_file", error))?;
    let token = Secret::new(text.expose().trim_ascii_start().to_vec());
    let length = token.expose().len();
    if length < SHORTEST_TOKEN {
        let why = format_args!("{} has {length} characters and needs {SHORTEST_TOKEN} or more", path.display());
        return Err(Diagnostic::new("admin.token_file", why));
    }
    Ok(token)
}

/// Takes in the inventory of an earlier run. One that cannot be read is put aside.
pub fn load_inventory(config: &Config, common: &ProcessState) {
    let path = inventory_path(&config.state_directory);
    if let Err(message) = common.inventory.load(&path) {
        let aside = path.with_extension("unreadable");
        match std::fs::rename(&path, &aside) {
            Ok(()) => warn!("{message}; it is put aside as {}, and a new one begun", aside.display()),
            Err(error) => {
                warn!("{message}; a new one is begun, and this one is written over: putting it aside: {error}")
            }
        }
    }
}

/// Where the inventory is kept.
pub fn inventory_path(state_directory: &Path) -> PathBuf {
    state_directory.join("inventory.json")
}

impl EventLoops {
    /// Starts the threads. Call it on the event loop of the control thread.
    ///
    /// # Errors
    /// The operating system has none.
    pub fn start() -> io::Result<Self> {
        Ok(Self { control: Handle::current(), page: event_loop("page")?, health: event_loop("health")? })
    }
}

/// An event loop on a thread of its own, until the process ends.
fn event_loop(name: &str) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let run = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(handle)
}

impl Listeners {
    /// Where they are, with the ports that the system chose where 0 was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listen.iter().filter_map(|(_, socket)| socket.as_ref()?.local_addr().ok()).collect()
    }
}

impl Admin {
    /// For what runs.
    pub fn new(common: &ProcessState, serving: &Arc<RwLock<RunningProxy>>, loops: EventLoops) -> Arc<Self> {
        common.metrics.add_event_loop(loops.page.metrics());
        common.metrics.add_event_loop(loops.health.metrics());
        Arc::new(Self {
            common: common.clone(),
            serving: Arc::clone(serving),
            started: unix_time(),
            reloadable: Mutex::default(),
            reached: tokio::sync::Mutex::default(),
            expiries: Mutex::default(),
            certificates: Gate::new(),
            saving: tokio::sync::Mutex::default(),
            save_status: SaveStatus::default(),
            loops,
            caches: Caches::default(),
            owner_caches: Caches::default(),
            near: Arc::default(),
            far: Arc::default(),
        })
    }

    /// Answers at these listeners from now on, and at no others.
    pub fn serve(self: &Arc<Self>, listeners: Listeners) {
        let _inside = self.loops.page.enter();
        let mut reloadable = self.reloadable.lock();
        reloadable.token = listeners.token;
        self.expiries.lock().forget();
        let mut open = Vec::new();
        for (address, socket) in listeners.listen {
            let Some(socket) = socket else {
                open.extend(
                    reloadable
                        .open
                        .iter()
                        .position(|(one, ..)| *one == address)
                        .map(|at| reloadable.open.swap_remove(at)),
                );
                continue;
            };
            let bound = socket.local_addr().unwrap_or(address);
            match TcpListener::from_std(socket) {
                Ok(socket) => {
                    let (trigger, lifecycle) = lifecycle::begin();
                    open.push((address, bound, trigger));
                    tokio::spawn(accept::from_network(Arc::clone(self), socket, lifecycle));
                }
                Err(error) => warn!(%error, "the page cannot be served"),
            }
        }
        // What is left of the old ones closes here.
        reloadable.open = open;
    }

    /// Answers root and the user of this process at a socket in the state directory, until the lifecycle says otherwise.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn serve_owner(self: &Arc<Self>, socket: StdUnixListener, lifecycle: Lifecycle) -> io::Result<()> {
        let _inside = self.loops.health.enter();
        let socket = UnixListener::from_std(socket)?;
        tokio::spawn(accept::from_owner(Arc::clone(self), socket, lifecycle));
        Ok(())
    }

    /// Begins what goes on beside the answers.
    pub fn start_maintenance(self: &Arc<Self>, lifecycle: Lifecycle) {
        self.loops.page.spawn(maintenance::run(Arc::clone(self), lifecycle));
    }

    /// The first address that is answered at.
    pub fn address(&self) -> Option<SocketAddr> {
        self.reloadable.lock().open.first().map(|(_, bound, _)| *bound)
    }

    /// What came of a reload.
    pub fn set_reload_problem(&self, problem: Option<String>) {
        self.reloadable.lock().problem = problem;
    }
}

const SHORTEST_TOKEN: usize = 16;
const KEEP_ALIVE: Duration = Duration::from_secs(120);
