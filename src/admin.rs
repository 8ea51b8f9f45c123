//! The admin side serves metrics, health, the inventory, and the page that shows all of it.

mod accept;
mod account_status;
mod advice;
mod attempts;
mod cache;
mod certificate_facts;
mod change;
mod csrf;
mod device_view;
mod edit;
mod events;
mod fleet_inventory;
mod fleet_status;
mod handler;
mod inventory_files;
mod limiter;
mod listener_status;
mod maintenance;
mod reverse_dns;
mod role;
mod sign_in_status;
mod sign_ins;
mod spool;
mod status;
mod technician;
mod way_in;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{RwLock, Semaphore, watch};
use tokio::time::Instant;
use tracing::warn;

use crate::config::Admin as Settings;
use crate::crypto;
use crate::diagnostic::Diagnostic;
use crate::lifecycle::{self, Lifecycle, Trigger, unix_time};
use crate::mode::Mode;
use crate::pool::Gate;
use crate::proxy::{self, ProcessState, RunningProxy};
use crate::secret::Secret;
use crate::state::{self, SaveStatus};
use crate::transport::{adopt, listen};
use attempts::Attempts;
use csrf::CsrfGuard;
pub use edit::{ConfigurationAccess, ReloadRequest};
pub use fleet_inventory::FleetInventory;
pub use fleet_status::FleetView;
use handler::Caches;
pub use inventory_files::{inventory_path, load_inventory};
use limiter::ConnectionLimiter;
use role::Tokens;
use sign_ins::SignIns;

/// The admin side of a running proxy.
pub struct Admin {
    common: ProcessState,
    serving: Arc<RwLock<RunningProxy>>,
    /// Seconds since 1970.
    started: u64,
    reloadable: Mutex<Reloadable>,
    /// The last attempt to reach a mail server: when, and whether it succeeded.
    reached: tokio::sync::Mutex<Option<(Instant, bool)>>,
    certificate_facts: Mutex<certificate_facts::Cached>,
    /// Lets one reading of certificates run at a time.
    certificates: Gate,
    saving: tokio::sync::Mutex<()>,
    save_status: SaveStatus,
    loops: EventLoops,
    /// Cached answers, apart for the page and for the socket: readers of the page cannot delay the operator's commands.
    caches: Caches,
    owner_caches: Caches,
    /// Limits on connections from this computer, and from elsewhere.
    near: Arc<ConnectionLimiter>,
    far: Arc<ConnectionLimiter>,
    csrf: CsrfGuard,
    /// Streams of events that are open, and the reloads that end them.
    streams: Arc<Semaphore>,
    reloads: watch::Sender<u64>,
    attempts: Attempts,
    sign_ins: SignIns,
    access: ConfigurationAccess,
    /// Lets one change of the configuration run at a time.
    editing: tokio::sync::Mutex<()>,
    /// The fleet that this process is an instance of; none where it is alone.
    fleet: OnceLock<FleetView>,
}

/// The event loops beside those of devices, each on a thread of its own.
pub struct EventLoops {
    /// Signals, reloads and the timers of tokens.
    pub control: Handle,
    /// The page and metrics, at their port.
    pub page: Handle,
    /// The watchdog, and the socket in the state directory.
    pub health: Handle,
}

/// The state that a reload may change.
#[derive(Default)]
struct Reloadable {
    /// Addresses as configured and as bound, each with a trigger that closes it on drop.
    open: Vec<(SocketAddr, SocketAddr, Trigger)>,
    tokens: Tokens,
    /// The reason for rejecting the last reload, if it was rejected.
    problem: Option<String>,
}

/// Bound sockets for the page, and the token that it asks for.
pub struct Listeners {
    /// Addresses as configured; without a socket where one is open already.
    listen: Vec<(SocketAddr, Option<StdListener>)>,
    tokens: Tokens,
}

/// Binds every address and reads the token. Sockets that are open already stay.
///
/// # Errors
/// One diagnostic for each address and file that does not work.
pub fn bind(
    settings: &Settings,
    mode: Mode,
    common: &ProcessState,
    before: Option<&Arc<Admin>>,
) -> Result<Listeners, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let mut read = |key: &'static str, path: &Option<PathBuf>| {
        let token = path.as_ref().map(|path| read_token(key, path)).transpose();
        token.map_err(|diagnostic| diagnostics.push(diagnostic)).unwrap_or_default()
    };
    let administrator = read("admin.token_file", &settings.token_file);
    let technician = read("admin.technician_token_file", &settings.technician_token_file);
    if is_same(&administrator, &technician) {
        let message = "holds the same token as admin.token_file: technicians would see everything";
        diagnostics.push(Diagnostic::new("admin.technician_token_file", message));
    }
    let tokens = Tokens { administrator, technician };
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
    if diagnostics.is_empty() { Ok(Listeners { listen, tokens }) } else { Err(diagnostics) }
}

fn is_same(one: &Option<Secret>, other: &Option<Secret>) -> bool {
    one.as_ref().zip(other.as_ref()).is_some_and(|(one, other)| crypto::is_equal(one.expose(), other.expose()))
}

/// Reads the bearer token: the file's content but for white space around it.
fn read_token(key: &'static str, path: &Path) -> Result<Secret, Diagnostic> {
    let text = state::read_secret(path).map_err(|error| Diagnostic::new(key, error))?;
    let token = Secret::new(text.expose().trim_ascii_start().to_vec());
    let length = token.expose().len();
    if length < SHORTEST_TOKEN {
        let why = format_args!("{} has {length} characters and needs {SHORTEST_TOKEN} or more", path.display());
        return Err(Diagnostic::new(key, why));
    }
    Ok(token)
}

impl EventLoops {
    /// Starts the threads. Call it on the event loop of the control thread.
    ///
    /// # Errors
    /// The operating system refuses a thread.
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
    /// The bound addresses, with the ports that the system chose for port 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listen.iter().filter_map(|(_, socket)| socket.as_ref()?.local_addr().ok()).collect()
    }
}

impl Admin {
    /// The admin side of a running proxy; it answers nothing yet.
    pub fn new(
        common: &ProcessState,
        serving: &Arc<RwLock<RunningProxy>>,
        loops: EventLoops,
        access: ConfigurationAccess,
    ) -> Arc<Self> {
        common.metrics.add_event_loop(loops.page.metrics());
        common.metrics.add_event_loop(loops.health.metrics());
        Arc::new(Self {
            common: common.clone(),
            serving: Arc::clone(serving),
            started: unix_time(),
            reloadable: Mutex::default(),
            reached: tokio::sync::Mutex::default(),
            certificate_facts: Mutex::default(),
            certificates: Gate::new(),
            saving: tokio::sync::Mutex::default(),
            save_status: SaveStatus::default(),
            loops,
            caches: Caches::default(),
            owner_caches: Caches::default(),
            near: Arc::default(),
            far: Arc::default(),
            csrf: CsrfGuard::new(),
            streams: Arc::new(Semaphore::new(events::STREAMS)),
            reloads: watch::Sender::new(0),
            attempts: Attempts::default(),
            sign_ins: SignIns::default(),
            access,
            editing: tokio::sync::Mutex::default(),
            fleet: OnceLock::new(),
        })
    }

    /// Serves the page at these addresses from now on, and closes all others. Answers show the configuration of now.
    pub fn serve(self: &Arc<Self>, listeners: Listeners) {
        let _inside = self.loops.page.enter();
        let mut reloadable = self.reloadable.lock();
        reloadable.tokens = listeners.tokens;
        self.reloads.send_modify(|count| *count += 1);
        self.certificate_facts.lock().forget();
        self.outdate_answers();
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
        // Dropping the old set closes the sockets that no address needs any more.
        reloadable.open = open;
    }

    /// Serves root and the user of this process at a socket in the state directory, until the drain.
    ///
    /// # Errors
    /// The operating system refuses the socket.
    pub fn serve_owner(self: &Arc<Self>, socket: StdUnixListener, lifecycle: Lifecycle) -> io::Result<()> {
        let _inside = self.loops.health.enter();
        let socket = UnixListener::from_std(socket)?;
        tokio::spawn(accept::from_owner(Arc::clone(self), socket, lifecycle));
        Ok(())
    }

    /// Starts the tasks that run without a request.
    pub fn start_maintenance(self: &Arc<Self>, lifecycle: Lifecycle) {
        self.loops.page.spawn(maintenance::run(Arc::clone(self), lifecycle));
    }

    /// The first address of the page.
    pub fn address(&self) -> Option<SocketAddr> {
        self.reloadable.lock().open.first().map(|(_, bound, _)| *bound)
    }

    /// The reason for rejecting the last reload, if it was rejected.
    pub fn reload_problem(&self) -> Option<String> {
        self.reloadable.lock().problem.clone()
    }

    /// Notes why the last reload was rejected, or that it was not.
    pub fn set_reload_problem(&self, problem: Option<String>) {
        self.reloadable.lock().problem = problem;
        self.outdate_answers();
    }
}

const SHORTEST_TOKEN: usize = 16;
const KEEP_ALIVE: Duration = Duration::from_secs(120);
