//! The list of known devices in the state directory is read at the start, and written after changes and at the end.

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

/// The file of devices and the sources that they log in from. A disk that hangs delays nothing else.
pub(super) struct KnownSourcesFile {
    known: Arc<KnownSources>,
    state_directory: PathBuf,
    save_status: SaveStatus,
}

impl KnownSourcesFile {
    /// Reads the file of an earlier run. A damaged file is logged, and counts as empty.
    pub(super) fn load(config: &Config, common: &ProcessState) -> Arc<Self> {
        let state_directory = config.state_directory.clone();
        if let Err(message) = common.known.load(&KnownSources::path(&state_directory)) {
            warn!("{message}; each device counts as unknown until it logs in again, which writes the file anew");
        }
        Arc::new(Self { known: Arc::clone(&common.known), state_directory, save_status: SaveStatus::default() })
    }

    /// Writes the file after each change, until the drain.
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

    /// Writes the file, if anything has changed. A failed attempt is repeated with the next change or some seconds
    /// later.
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

/// A crash loses no more changes than those of this time.
const DELAY: Duration = Duration::from_secs(3);
/// A write that takes longer counts as failed.
const DISK: Duration = Duration::from_secs(10);
