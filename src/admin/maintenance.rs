//! What goes on beside the answers: minutes are counted, the inventory is kept on the disk, devices' names are looked up,
//! and once a day the log tells what ends soon.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::reverse_dns::ReverseDns;
use super::{Admin, inventory_path};
use crate::diagnostic::Diagnostic;
use crate::lifecycle::{Lifecycle, Phase, unix_time};
use crate::pool::{self, Gate};
use crate::proxy;
use crate::state::{self, Access, SaveChange};
use crate::token::TokenStatus;

impl Admin {
    /// Keeps the inventory, if anything has changed.
    pub async fn save_inventory(&self) {
        // The last one waits for the one before it.
        let _saving = self.saving.lock().await;
        let path = inventory_path(&self.serving.read().await.config().state_directory);
        let inventory = Arc::clone(&self.common.inventory);
        if !inventory.has_changed() {
            return;
        }
        let directory = path.parent().map(PathBuf::from);
        let gate = Gate::of(&path.display().to_string());
        let saved = pool::STATE.run_alone(&gate, DISK, move || {
            let json = inventory.to_save();
            directory.map_or(Ok(()), |directory| state::make_directory(&directory))?;
            state::write(&path, &json, Access::Private)
        });
        let saved = saved.await.unwrap_or_else(|why| Err(why.into()));
        if saved.is_err() {
            self.common.inventory.mark_changed();
        }
        match self.save_status.record(saved) {
            Some(SaveChange::Fails(message)) => warn!("the inventory cannot be kept: {message}"),
            Some(SaveChange::Recovered) => info!("the inventory is kept again"),
            None => {}
        }
    }

    /// Why something is in memory alone that belongs on the disk, if so.
    pub(super) fn unsaved(&self, tokens: &[TokenStatus]) -> Option<String> {
        let token = tokens.iter().find_map(|one| one.unkept.as_ref().map(|why| format!("{}: {why}", one.account)));
        let token = token.map(|why| format!("the newest refresh token is in memory alone, account {why}"));
        token.or_else(|| self.save_status.problem().map(|why| format!("the inventory cannot be kept: {why}")))
    }
}
/// What goes on beside: minutes are counted, the inventory is kept, names are looked up, and once a day it is told what
/// ends soon.
pub(super) async fn run(admin: Arc<Admin>, mut lifecycle: Lifecycle) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut names = ReverseDns::default();
    let (mut kept, mut told) = (Instant::now(), Instant::now());
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = lifecycle.reached(Phase::Draining) => return,
        }
        let tokens = admin.token_counts().await;
        let counted = admin.common.metrics.totals();
        admin.common.metrics.history(|history| history.take(unix_time(), counted, tokens));
        if kept.elapsed() >= KEEPING {
            kept = Instant::now();
            admin.common.inventory.forget_stale();
            admin.save_inventory().await;
        }
        if told.elapsed() >= DAY {
            told = Instant::now();
            let config = admin.serving.read().await.config().clone();
            let remarks = pool::FILES.run_alone(&admin.certificates, DISK, move || proxy::remarks(&config)).await;
            for remark in Diagnostic::joined(remarks.unwrap_or_default()) {
                warn!("{}: {}", remark.key, remark.message);
            }
        }
        names.look_up(&admin.common.inventory).await;
    }
}

const TICK: Duration = Duration::from_secs(2);
/// A crash costs no more of the inventory than this.
const KEEPING: Duration = Duration::from_secs(30);
/// A disk that takes longer is told of as one that takes nothing.
const DISK: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
