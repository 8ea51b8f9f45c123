//! Tasks that run without a request: they count minutes, save the inventory, look up devices' names, and log once a day
//! what expires soon.

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
    /// Saves the inventory, if anything has changed.
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

    /// The reason why data that belongs on the disk is only in memory, if so.
    pub(super) fn unsaved(&self, tokens: &[TokenStatus]) -> Option<String> {
        let token = tokens.iter().find_map(|one| one.unkept.as_ref().map(|why| format!("{}: {why}", one.account)));
        let token = token.map(|why| format!("the newest refresh token is in memory alone, account {why}"));
        token.or_else(|| self.save_status.problem().map(|why| format!("the inventory cannot be kept: {why}")))
    }
}
/// Runs the tasks until the drain.
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
/// A crash loses no more of the inventory than changes of this time.
const KEEPING: Duration = Duration::from_secs(30);
/// A write that takes longer counts as failed.
const DISK: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
