//! Known devices in the state directory: read at the start, written some seconds after a change and at the end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use crate::config::Config;
use crate::device::KnownSources;
use crate::lifecycle::{Lifecycle, Phase};
use crate::pool::{self, Gate};
use crate::proxy::ProcessState;
use crate::state::{self, Access};

/// Writes the pairs of devices and sources. A disk that hangs holds nothing else up.
pub(super) struct Keeper {
    known: Arc<KnownSources>,
    state_directory: PathBuf,
    /// Why they could not be written the last time.
    unkept: Mutex<Option<String>>,
}

impl Keeper {
    /// Reads what an earlier run has written. A file that is damaged is told of, and taken for an empty one.
    pub(super) fn recall(config: &Config, common: &ProcessState) -> Arc<Self> {
        let state_directory = config.state_directory.clone();
        if let Err(message) = common.known.load(&KnownSources::path(&state_directory)) {
            warn!("{message}; no device is known until it logs in again, and the file is written anew then");
        }
        Arc::new(Self { known: Arc::clone(&common.known), state_directory, unkept: Mutex::default() })
    }

    /// Writes what changes, until the drain.
    pub(super) async fn upkeep(self: Arc<Self>, mut lifecycle: Lifecycle) {
        loop {
            let changed = async {
                self.known.changed().await;
                sleep(DELAY).await;
            };
            tokio::select! {
                () = changed => self.keep().await,
                () = lifecycle.reached(Phase::Draining) => return,
            }
        }
    }

    /// Writes them, if anything has changed. What cannot be written is tried again with the next change or some seconds later.
    pub(super) async fn keep(&self) {
        let Some(text) = self.known.unsaved() else { return };
        let (directory, path) = (self.state_directory.clone(), KnownSources::path(&self.state_directory));
        let gate = Gate::of(&path.display().to_string());
        let kept = pool::STATE.run_alone(&gate, DISK, move || {
            state::make_directory(&directory)?;
            state::write(&path, text.as_bytes(), Access::Private)
        });
        let kept = kept.await.unwrap_or_else(|why| Err(format!("the state directory: {why}")));
        if kept.is_err() {
            self.known.keep_for_later();
        }
        let mut unkept = self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
        // Told once, and not every few seconds.
        match (kept.err(), unkept.as_ref()) {
            (Some(message), told) if told != Some(&message) => {
                warn!("the list of known devices cannot be kept: {message}");
                *unkept = Some(message);
            }
            (None, Some(_)) => {
                info!("the list of known devices is kept again");
                *unkept = None;
            }
            (Some(_) | None, _) => {}
        }
    }
}

/// A crash costs no more than this.
const DELAY: Duration = Duration::from_secs(3);
/// A disk that takes longer is told of as one that takes nothing.
const DISK: Duration = Duration::from_secs(10);
