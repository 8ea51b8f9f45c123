//! Known devices in the state directory: read at the start, written some seconds after a change and at the end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use crate::config::Config;
use crate::device::KnownSources;
use crate::lifecycle::{Lifecycle, Phase};
use crate::pool::{self, Gate};
use crate::proxy::ProcessState;
use crate::state::{self, Access, SaveChange, SaveStatus};

/// Writes the pairs of devices and sources. A disk that hangs holds nothing else up.
pub(super) struct KnownSourcesFile {
    known: Arc<KnownSources>,
    state_directory: PathBuf,
    save_status: SaveStatus,
}

impl KnownSourcesFile {
    /// Reads what an earlier run has written. A file that is damaged is told of, and taken for an empty one.
    pub(super) fn load(config: &Config, common: &ProcessState) -> Arc<Self> {
        let state_directory = config.state_directory.clone();
        if let Err(message) = common.known.load(&KnownSources::path(&state_directory)) {
            warn!("{message}; no device is known until it logs in again, and the file is written anew then");
        }
        Arc::new(Self { known: Arc::clone(&common.known), state_directory, save_status: SaveStatus::default() })
    }

    /// Writes what changes, until the drain.
    pub(super) async fn run(self: Arc<Self>, mut lifecycle: Lifecycle) {
        loop {
            let changed = async {
                self.known.changed().await;
                sleep(DELAY).await;
            };
            tokio::select! {
                () = changed => self.save().await,
                () = lifecycle.reached(Phase::Draining) => return,
            }
        }
    }

    /// Writes them, if anything has changed. What cannot be written is tried again with the next change or some seconds later.
    pub(super) async fn save(&self) {
        let Some(text) = self.known.unsaved() else { return };
        let (directory, path) = (self.state_directory.clone(), KnownSources::path(&self.state_directory));
        let gate = Gate::of(&path.display().to_string());
        let saved = pool::STATE.run_alone(&gate, DISK, move || {
            state::make_directory(&directory)?;
            state::write(&path, text.as_bytes(), Access::Private)
        });
        let saved = saved.await.unwrap_or_else(|why| Err(why.into()));
        if saved.is_err() {
            self.known.keep_for_later();
        }
        match self.save_status.record(saved) {
            Some(SaveChange::Fails(message)) => warn!("the list of known devices cannot be kept: {message}"),
            Some(SaveChange::Recovered) => info!("the list of known devices is kept again"),
            None => {}
        }
    }
}

/// A crash costs no more than this.
const DELAY: Duration = Duration::from_secs(3);
/// A disk that takes longer is told of as one that takes nothing.
const DISK: Duration = Duration::from_secs(10);
