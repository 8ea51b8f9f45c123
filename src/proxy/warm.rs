//! Keeps warm connections to mail servers, if the configuration asks for them: a task for each server.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, warn};

use crate::lifecycle::{Lifecycle, Phase};
use crate::transport::upstream::Server;

/// Keeps connections warm until the next reload or the drain. The caller closes those that are left.
pub(super) async fn keep(server: Arc<Server>, mut lifecycle: Lifecycle) {
    let protocol = server.protocol().name();
    let mut pause = Duration::ZERO;
    loop {
        let made = tokio::select! {
            made = async { sleep(pause).await; server.warm_up().await } => made,
            () = lifecycle.reached(Phase::Draining) => return,
        };
        match made {
            Ok(()) => pause = Duration::ZERO,
            Err(failure) if pause.is_zero() => {
                warn!(protocol, "cannot pre-connect; logins will dial on demand: {failure}");
                pause = FIRST_PAUSE;
            }
            Err(failure) => {
                debug!(protocol, "cannot pre-connect: {failure}");
                pause = LONGEST_PAUSE.min(pause * 2);
            }
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
