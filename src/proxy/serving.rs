//! All that runs: it begins with one configuration, and goes on with others, without losing a connection.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::door::Access;
use super::place::Running;
use super::worker::{self, Pulse, Workers};
use super::{Common, Opened, Servers, warm};
use crate::config::{Config, Limits};
use crate::lifecycle::{self, Lifecycle, Phase, Trigger};
use crate::token::Tokens;
use crate::transport::upstream::Server;

/// All that runs. Dropping it ends every connection at once.
pub struct Serving {
    common: Common,
    config: Config,
    /// None once the drain has begun.
    lifecycle: Option<Lifecycle>,
    running: Vec<Running>,
    access: Option<(Arc<Access>, Arc<Tokens>)>,
    servers: Servers,
    /// What is done beside the connections, with the present configuration: it ends when that does.
    background: Trigger,
    workers: Workers,
}

impl Serving {
    /// Takes connections, and keeps tokens fresh, until the lifecycle says otherwise. Returns at once: workers serve.
    ///
    /// # Errors
    /// The operating system has no threads for them.
    pub fn start(opened: Opened, config: &Config, common: &Common, lifecycle: &Lifecycle) -> io::Result<Self> {
        let workers = Workers::start(worker::count())?;
        let (background, _) = lifecycle::begin();
        let mut serving = Self {
            common: common.clone(),
            config: config.clone(),
            lifecycle: Some(lifecycle.clone()),
            running: Vec::new(),
            access: None,
            servers: Servers::new(),
            background,
            workers,
        };
        serving.go_on_with(opened, config);
        Ok(serving)
    }

    /// Goes on with what was opened for another configuration: newcomers come to the new doors, places that are not
    /// wanted any more close, and every connection that is open goes on as it is. Nothing of it can fail.
    pub fn go_on_with(&mut self, opened: Opened, config: &Config) {
        let Opened { doors, access, servers, warm } = opened;
        self.common.connections.limit(&config.limits);
        self.common.inventory.limit(config.inventory);
        let mut running = Vec::new();
        let mut names = BTreeSet::new();
        for open in doors {
            names.insert(open.door.listener.name.clone());
            for place in open.places {
                let known = self.running.iter().position(|one| one.key == place.key);
                if let Some(one) = known.map(|index| self.running.swap_remove(index)) {
                    one.doorway.lead_to(&open.door);
                    running.push(one);
                    continue;
                }
                let one = Running::new(&place, &open.door);
                if let Some(lifecycle) = &self.lifecycle {
                    self.workers.accept(place.sockets, &one.doorway, &self.common.connections, lifecycle);
                }
                running.push(one);
            }
        }
        // What is left of the old ones closes here.
        self.running = running;
        for listener in self.config.listeners.iter().filter(|listener| !names.contains(&listener.name)) {
            self.common.metrics.forget(&listener.name);
        }
        let (background, life) = lifecycle::begin();
        std::mem::replace(&mut self.background, background).enter(Phase::Draining);
        if let Some((access, tokens)) = &access {
            access.mailboxes.begin();
            tokens.keep_fresh(&life);
        }
        for (server, protocol) in warm {
            tokio::spawn(warm::keep(server, protocol, life.clone()));
        }
        self.access = access;
        self.servers = servers;
        self.config = config.clone();
        self.common.metrics.configured(config.limits.connections);
        self.common.metrics.loaded(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    }

    /// What it runs with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The tokens of its accounts.
    pub fn tokens(&self) -> Option<&Arc<Tokens>> {
        self.access.as_ref().map(|(_, tokens)| tokens)
    }

    /// Where it listens: the listener's name, and the address.
    pub fn places(&self) -> Vec<(String, SocketAddr)> {
        self.running.iter().map(|one| (one.doorway.door().listener.name.clone(), one.address)).collect()
    }

    /// Connections that are open on a listener.
    pub fn open_on(&self, listener: &str) -> usize {
        let running = self.running.iter().find(|one| one.doorway.door().listener.name == listener);
        running.map_or(0, |one| one.doorway.door().witness.counters.open())
    }

    /// Its mail servers.
    pub fn mail_servers(&self) -> Vec<Arc<Server>> {
        self.servers.values().map(Arc::clone).collect()
    }

    /// What tells whether it is stuck.
    pub fn pulse(&self) -> Pulse {
        self.workers.pulse()
    }

    /// Connections that are open.
    pub fn open(&self) -> u64 {
        self.common.metrics.counted().open
    }

    /// The drain: it takes nobody any more, and what is done beside the connections ends.
    pub fn drain(&mut self) {
        self.background.enter(Phase::Draining);
        self.lifecycle = None;
        self.running.clear();
    }

    /// Waits for refresh tokens to reach the disk: call it last.
    pub async fn settle(&self) {
        if let Some((_, tokens)) = &self.access {
            tokens.settle().await;
        }
    }

    pub(super) fn running(&self) -> &[Running] {
        &self.running
    }

    pub(super) fn access(&self) -> Option<(&Arc<Access>, &Arc<Tokens>)> {
        self.access.as_ref().map(|(access, tokens)| (access, tokens))
    }

    pub(super) fn servers(&self) -> &Servers {
        &self.servers
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.config.limits
    }
}
