//! Tasks that run without a request: they count minutes, save the inventory, look up devices' names, and log which
//! devices are silent and, once a day, what expires soon.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::Admin;
use super::reverse_dns::ReverseDns;
use crate::diagnostic::Diagnostic;
use crate::lifecycle::{Lifecycle, Phase, unix_time};
use crate::pool;
use crate::proxy;
use crate::token::TokenStatus;

impl Admin {
    /// Logs once that a configured device has become silent, and once that it is back.
    fn log_silence(&self) {
        for change in self.common.inventory.activities().changes() {
            let report = &change.report;
            // A balancer may have given the device to another instance.
            if self.common.inventory.is_elsewhere(report) {
                continue;
            }
            let login = report.device.as_str();
            if change.is_silent {
                let usual = report.usual_interval.map(|usual| format!(", and usually comes every {}", period(usual)));
                warn!(
                    login,
                    "device is silent: it was last seen {}{}; see whether it is switched on, and whether its network \
                     reaches packetboat",
                    report.last_seen.map_or_else(|| "never".to_owned(), time),
                    usual.unwrap_or_default(),
                );
            } else {
                info!(login, "device is back: it was silent, and has connected again");
            }
        }
    }

    /// The reason why data that belongs on the disk is only in memory, if so.
    pub(super) fn unsaved(&self, tokens: &[TokenStatus]) -> Option<String> {
        let token = tokens.iter().find_map(|one| one.unkept.as_ref().map(|why| format!("{}: {why}", one.account)));
        let token = token.map(|why| format!("the newest refresh token is in memory alone, account {why}"));
        token.or_else(|| self.save_status.problem().map(|why| format!("the inventory cannot be kept: {why}")))
    }
}

/// A time in UTC, as `2026-11-27T09:12:00Z`.
fn time(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

/// A number of seconds in words, as `5m`.
fn period(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
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
        admin.log_silence();
        if kept.elapsed() >= KEEPING {
            kept = Instant::now();
            admin.common.inventory.forget_stale();
            admin.save_inventory().await;
        }
        if told.elapsed() >= DAY {
            told = Instant::now();
            let config = admin.serving.read().await.config().clone();
            let remarks = pool::FILES.run_alone(&admin.certificates, FILES, move || proxy::remarks(&config)).await;
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
/// How long files may take.
const FILES: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
