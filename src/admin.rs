//! What is seen from outside: metrics, health, the inventory, and the page that shows all of it.

mod answer;
mod expiry;
mod names;
mod status;

use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{RwLock, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};

use crate::config::{Admin as Settings, Config};
use crate::lifecycle::{self, Lifecycle, Phase, Trigger, since_1970};
use crate::pool::{self, Gate};
use crate::proxy::{self, Common, Obstacle, Serving};
use crate::secret::Secret;
use crate::state::{self, Access};
use crate::token::Status;
use crate::transport::downstream::certificate::Making;
use crate::transport::http::server::Bodies;
use crate::transport::{adopt, http, listen};
use names::Names;

/// Who answers.
pub struct Admin {
    common: Common,
    serving: Arc<RwLock<Serving>>,
    /// Seconds since 1970.
    started: u64,
    present: Mutex<Present>,
    /// Whether a mail server was reached, and when that was tried.
    reached: tokio::sync::Mutex<Option<(Instant, bool)>>,
    expiries: Mutex<expiry::Known>,
    /// One reading of certificates at a time.
    certificates: Gate,
    keeping: tokio::sync::Mutex<()>,
    /// Why the inventory could not be kept the last time, if it could not.
    unkept: Mutex<Option<String>>,
    seats: Arc<Semaphore>,
    /// For this computer alone, whose health check must not depend on who else is there.
    own_seats: Arc<Semaphore>,
}

/// What a reload may change.
#[derive(Default)]
struct Present {
    /// Addresses as configured and as they are, each with what ends it when it is dropped.
    open: Vec<(SocketAddr, SocketAddr, Trigger)>,
    token: Option<Secret>,
    /// Why the last reload was refused, if it was.
    problem: Option<String>,
}

/// Addresses that are listened on, and the token that is asked for there.
pub struct Doors {
    /// As configured; without a socket where it is open already.
    listen: Vec<(SocketAddr, Option<StdListener>)>,
    token: Option<Secret>,
}

/// Binds every address and reads the token; what is listened on already stays.
///
/// # Errors
/// Each obstacle.
pub fn open(
    settings: &Settings,
    making: Making,
    common: &Common,
    before: Option<&Arc<Admin>>,
) -> Result<Doors, Vec<Obstacle>> {
    let mut obstacles = Vec::new();
    let token = settings.token_file.as_ref().and_then(|path| {
        let long = read_token(path).and_then(|token| match token.expose().len() {
            SHORTEST_TOKEN.. => Ok(token),
            short => Err(format!("{} has {short} characters and needs {SHORTEST_TOKEN} or more", path.display())),
        });
        long.map_err(|message| obstacles.push(Obstacle { key: "admin.token_file".to_owned(), message })).ok()
    });
    let mut listen = Vec::new();
    for &address in &settings.listen {
        if before.is_some_and(|admin| admin.present().open.iter().any(|(open, ..)| *open == address)) {
            listen.push((address, None));
            continue;
        }
        let is_own =
            before.is_some_and(|admin| admin.present().open.iter().any(|(_, own, _)| own.port() == address.port()));
        let taken = match common.handed_over(address) {
            Some(socket) => adopt(socket, KEEP_ALIVE).map(|socket| vec![socket]),
            None => self::listen(address, 1, KEEP_ALIVE, is_own),
        };
        match taken {
            Ok(sockets) => listen.extend(sockets.into_iter().map(|socket| (address, Some(socket)))),
            // Trying out a file beside the proxy that it is for is not a mistake.
            Err(error) if making == Making::Tried && proxy::is_beside_own(&error, address) => {}
            Err(error) => {
                let why = proxy::why_not_bound(&error, address, common);
                let message =
                    format!("cannot listen on {address}: {why}; write another address, or listen = [] for none");
                obstacles.push(Obstacle { key: "admin.listen".to_owned(), message });
            }
        }
    }
    if obstacles.is_empty() { Ok(Doors { listen, token }) } else { Err(obstacles) }
}

/// Reads a bearer token: a file's content but for white space around it.
///
/// # Errors
/// It cannot be read, others can read it, or it holds no line of text.
pub fn read_token(path: &Path) -> Result<Secret, String> {
    state::read_secret(path).map(|text| Secret::new(text.expose().trim_ascii_start().to_vec()))
}

/// Takes in the inventory of an earlier run. One that cannot be read is put aside.
pub fn recall(config: &Config, common: &Common) {
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

impl Doors {
    /// Where they are, with the ports that the system chose where 0 was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listen.iter().filter_map(|(_, socket)| socket.as_ref()?.local_addr().ok()).collect()
    }
}

impl Admin {
    /// For what runs.
    pub fn new(common: &Common, serving: &Arc<RwLock<Serving>>) -> Arc<Self> {
        Arc::new(Self {
            common: common.clone(),
            serving: Arc::clone(serving),
            started: since_1970(),
            present: Mutex::default(),
            reached: tokio::sync::Mutex::default(),
            expiries: Mutex::default(),
            certificates: Gate::new(),
            keeping: tokio::sync::Mutex::default(),
            unkept: Mutex::default(),
            seats: Arc::new(Semaphore::new(SEATS)),
            own_seats: Arc::new(Semaphore::new(SEATS)),
        })
    }

    /// Answers at these doors from now on, and at no others.
    pub fn serve(self: &Arc<Self>, doors: Doors) {
        let mut present = self.present();
        present.token = doors.token;
        self.expiries.lock().unwrap_or_else(PoisonError::into_inner).forget();
        let mut open = Vec::new();
        for (address, socket) in doors.listen {
            let Some(socket) = socket else {
                open.extend(
                    present.open.iter().position(|(one, ..)| *one == address).map(|at| present.open.swap_remove(at)),
                );
                continue;
            };
            let bound = socket.local_addr().unwrap_or(address);
            match TcpListener::from_std(socket) {
                Ok(socket) => {
                    let (trigger, lifecycle) = lifecycle::begin();
                    open.push((address, bound, trigger));
                    tokio::spawn(accept(Arc::clone(self), socket, lifecycle));
                }
                Err(error) => warn!(%error, "the page cannot be served"),
            }
        }
        // What is left of the old ones closes here.
        present.open = open;
    }

    /// The first address that is answered at.
    pub fn address(&self) -> Option<SocketAddr> {
        self.present().open.first().map(|(_, bound, _)| *bound)
    }

    /// What came of a reload.
    pub fn reloaded(&self, problem: Option<String>) {
        self.present().problem = problem;
    }

    /// Keeps the inventory, if anything has changed.
    pub async fn keep(&self) {
        // The last one waits for the one before it.
        let _keeping = self.keeping.lock().await;
        let path = inventory_path(&self.serving.read().await.config().state_directory);
        let Some(json) = self.common.inventory.unsaved() else { return };
        let directory = path.parent().map(PathBuf::from);
        let gate = Gate::of(&path.display().to_string());
        let kept = pool::STATE.run_alone(&gate, DISK, move || {
            directory.map_or(Ok(()), |directory| state::make_directory(&directory))?;
            state::write(&path, &json, Access::Private)
        });
        let kept = kept.await.unwrap_or_else(|why| Err(format!("the state directory: {why}")));
        if kept.is_err() {
            self.common.inventory.keep_for_later();
        }
        let mut unkept = self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
        // Told once, and not every half minute.
        match (kept.err(), unkept.as_ref()) {
            (Some(message), told) if told != Some(&message) => {
                warn!("the inventory cannot be kept: {message}");
                *unkept = Some(message);
            }
            (None, Some(_)) => {
                info!("the inventory is kept again");
                *unkept = None;
            }
            (Some(_) | None, _) => {}
        }
    }

    /// Why something is in memory alone that belongs on the disk, if so.
    fn unkept(&self, tokens: &[Status]) -> Option<String> {
        let token = tokens.iter().find_map(|one| one.unkept.as_ref().map(|why| format!("{}: {why}", one.account)));
        let token = token.map(|why| format!("the newest refresh token is in memory alone, account {why}"));
        token.or_else(|| {
            let unkept = self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
            unkept.as_ref().map(|why| format!("the inventory cannot be kept: {why}"))
        })
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(admin: Arc<Admin>, socket: TcpListener, mut lifecycle: Lifecycle) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = lifecycle.reached(Phase::Draining) => return,
        };
        let Ok((stream, source)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let seats = if source.ip().to_canonical().is_loopback() { &admin.own_seats } else { &admin.seats };
        let Ok(seat) = Arc::clone(seats).try_acquire_owned() else {
            debug!(%source, "too many connections to the page");
            continue;
        };
        let (admin, mut lifecycle) = (Arc::clone(&admin), lifecycle.clone());
        tokio::spawn(async move {
            let serve = http::server::serve(stream, Bodies::Ignored, move |received| {
                let admin = Arc::clone(&admin);
                async move { admin.answer(&received).await }
            });
            tokio::select! {
                () = serve => {}
                // Who is slow to ask, or to read, does not stay for ever; browsers come again.
                () = sleep(LONGEST_VISIT) => {}
                () = lifecycle.reached(Phase::Draining) => {}
            }
            drop(seat);
        });
    }
}

/// What goes on beside: minutes are counted, the inventory is kept, names are looked up, and once a day it is told what
/// ends soon.
pub async fn upkeep(admin: Arc<Admin>, mut lifecycle: Lifecycle) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut names = Names::default();
    let (mut kept, mut told) = (Instant::now(), Instant::now());
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = lifecycle.reached(Phase::Draining) => return,
        }
        let tokens = admin.token_counts().await;
        let counted = admin.common.metrics.counted();
        admin.common.metrics.history(|history| history.take(since_1970(), counted, tokens));
        if kept.elapsed() >= KEEPING {
            kept = Instant::now();
            admin.common.inventory.forget();
            admin.keep().await;
        }
        if told.elapsed() >= DAY {
            told = Instant::now();
            let config = admin.serving.read().await.config().clone();
            let remarks = pool::FILES.run_alone(&admin.certificates, DISK, move || proxy::remarks(&config)).await;
            for remark in Obstacle::joined(remarks.unwrap_or_default()) {
                warn!("{}: {}", remark.key, remark.message);
            }
        }
        names.look_up(&admin.common.inventory).await;
    }
}

/// Connections at a time.
const SEATS: usize = 64;
const SHORTEST_TOKEN: usize = 16;
const KEEP_ALIVE: Duration = Duration::from_secs(120);
const LONGEST_VISIT: Duration = Duration::from_secs(60);
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_secs(2);
/// A crash costs no more of the inventory than this.
const KEEPING: Duration = Duration::from_secs(30);
/// A disk that takes longer is told of as one that takes nothing.
const DISK: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
