//! systemd hands over sockets and receives notifications (sd_listen_fds(3), sd_notify(3)). Without it, nothing here has
//! an effect.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::runtime::Handle;
use tokio::sync::RwLock;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, warn};

use crate::lifecycle;
use crate::pool;
use crate::proxy::RunningProxy;

/// The TCP sockets that systemd has handed over.
pub(super) fn sockets() -> Vec<TcpListener> {
    let mut handed_over = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..handed_over.len() {
        match handed_over.take_tcp_listener(index) {
            Ok(Some(socket)) => sockets.push(socket),
            Ok(None) => {}
            Err(error) => warn!(%error, "the service manager has handed over something that is no TCP socket"),
        }
    }
    sockets
}

/// Notifies systemd that devices are served from now on.
pub(super) async fn notify_ready(serving: &RwLock<RunningProxy>) {
    let status = status(&*serving.read().await);
    send(move || sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&status)]));
}

/// Notifies systemd that a reload begins; [`notify_ready`] ends it.
pub(super) fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(move || sd_notify::notify(&[NotifyState::Reloading, now])),
        Err(_) => send(|| sd_notify::notify(&[NotifyState::Reloading])),
    }
}

/// Notifies systemd that the drain begins, and extends its timeout again and again, which may be shorter.
pub(super) fn notify_stopping() {
    let status = NotifyState::Status("no new connections; waiting for sessions to end");
    send(move || sd_notify::notify(&[NotifyState::Stopping, status]));
    tokio::spawn(async {
        let mut tick = interval(MORE / 3);
        loop {
            tick.tick().await;
            let more = u32::try_from(MORE.as_micros()).unwrap_or(u32::MAX);
            send(move || sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(more)]));
        }
    });
}

/// Notifies systemd's watchdog while every event loop and the control thread respond, and passwords can be verified.
/// Otherwise systemd restarts the process (WatchdogSec). Run it on a thread that serves no stranger.
pub(super) async fn ping_watchdog(serving: Arc<RwLock<RunningProxy>>, control: Handle) {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    // The workers stay the same ones.
    let pulse = serving.read().await.heartbeat();
    let patience = period / 4;
    let mut tick = interval(patience);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let control_answers = lifecycle::answers(&control, patience);
        let (beats, verifies, is_controlled) =
            tokio::join!(pulse.answers_within(patience), pool::PASSWORDS.answers(patience), control_answers);
        if !beats {
            error!("an event loop does not respond; skipping the watchdog notification");
        } else if !verifies {
            error!("no password can be verified; skipping the watchdog notification");
        } else if !is_controlled {
            error!("the thread for signals and reloads does not respond; skipping the watchdog notification");
        } else {
            // A reload has it for a moment; the next time will do.
            let status = serving.try_read().ok().map(|serving| status(&serving));
            send(move || {
                let status = status.as_deref().map(NotifyState::Status);
                let states: Vec<NotifyState<'_>> = [NotifyState::Watchdog].into_iter().chain(status).collect();
                sd_notify::notify(&states)
            });
        }
    }
}

fn status(serving: &RunningProxy) -> String {
    format!("{} addresses, {} connections open", serving.addresses().len(), serving.open())
}

/// Sends a notification on a thread of its own: a systemd that does not read makes the sender wait.
fn send<E>(message: impl FnOnce() -> Result<(), E> + Send + 'static) {
    pool::MANAGER.hand_over(move || {
        // There may be no systemd.
        let _ = message();
    });
}

/// The time by which one notification extends systemd's timeout.
const MORE: Duration = Duration::from_secs(60);
