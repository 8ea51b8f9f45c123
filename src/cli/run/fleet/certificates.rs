//! The running proxy and the certificates of its fleet: it takes them before it serves, and later on where somebody has
//! put others.

use std::ffi::OsStr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use crate::cli::ConfigFile;
use crate::cli::service_user::own_program;
use crate::config::Config;
use crate::crypto::{Vault, jitter};
use crate::fleet::{CertificatesError, FleetCertificates, Postgres, Settled};
use crate::lifecycle::{Lifecycle, Phase};
use crate::mode::Mode;
use crate::pool;
use crate::token::Store;
use crate::transport::downstream::certificate::Made;

/// Takes the certificates of the fleet before anything is served, and puts them there where this is the first instance.
/// Another process does so: this one would start threads that could not be confined later.
pub(in crate::cli::run) fn settle_first(file: &ConfigFile, config: &Config) {
    if config.fleet.is_none() || FleetCertificates::all(config).is_empty() {
        return;
    }
    let mut command = own_program();
    command.args(["certificate", "settle", "--config"]).arg(&file.config).stdin(Stdio::null());
    command.args([OsStr::new("--state-directory"), config.state_directory.as_os_str()]);
    let why = match command.output() {
        Ok(output) => {
            String::from_utf8_lossy(&output.stdout).lines().for_each(|line| info!("{line}"));
            if output.status.success() {
                return;
            }
            String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")
        }
        Err(error) => error.to_string(),
    };
    warn!("the certificates of the fleet are not taken at this start; devices see those of this instance: {why}");
}

/// Takes the certificates that somebody has put into the database, until the drain. A running proxy reads its files anew
/// by itself.
pub(super) async fn follow(database: Arc<Postgres>, config: Config, mut lifecycle: Lifecycle) {
    if FleetCertificates::all(&config).is_empty() {
        return;
    }
    let mut told: Option<String> = None;
    let mut pause = FIRST;
    loop {
        tokio::select! {
            // Instances that were started together do not all look at the same moments.
            () = sleep(pause.mul_f64(jitter(0.8, 1.0))) => {}
            () = lifecycle.reached(Phase::Draining) => return,
        }
        let settled = tokio::select! {
            settled = settle(&database, &config) => settled,
            // Files that are being written are written to their end.
            () = lifecycle.reached(Phase::Draining) => return,
        };
        match settled {
            Ok(done) => {
                done.iter().for_each(log);
                (told, pause) = (None, LATER);
            }
            Err(error) => {
                pause = FIRST;
                let words = error.to_string();
                // An outage is logged elsewhere.
                if !error.is_away() && told.as_ref() != Some(&words) {
                    warn!("the certificates of the fleet are not taken: {words}");
                    told = Some(words);
                }
            }
        }
    }
}

async fn settle(database: &Postgres, config: &Config) -> Result<Vec<(Made, Settled)>, CertificatesError> {
    let (directory, path) = (config.state_directory.clone(), config.store_key.clone());
    let key = pool::FILES.run(move || Store::key(&directory, path.as_deref(), Mode::Apply)).await;
    let key = key.map_err(CertificatesError::NotDone)?.map_err(|error| CertificatesError::Key(Box::new(error)))?;
    let vault = Vault::new(&key).map_err(|error| CertificatesError::Database(error.into()))?;
    FleetCertificates::new(database, &vault, config).settle().await
}

fn log((made, settled): &(Made, Settled)) {
    match settled {
        Settled::Pushed => info!("{made}: the fleet keeps that of this instance"),
        Settled::Pulled(_) => info!("{made}: taken from the fleet"),
        Settled::Same => {}
    }
}

/// The time from the start to the next look, and between two where the database is away.
const FIRST: Duration = Duration::from_secs(20);
/// The time between two looks.
const LATER: Duration = Duration::from_secs(600);
