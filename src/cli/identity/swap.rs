//! The swap puts the new pair in place of the old one: a note beside the configuration survives a kill in the middle.

use std::path::PathBuf;

use super::files_of;
use super::pair::has_credential;
use crate::cli::ConfigFile;
use crate::cli::edit::{self, failed};
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::print;
use crate::config::CertificateFiles;
use crate::provision::ConfigurationFile;
use crate::state;
use crate::transport::downstream::certificate;

/// A swap that has begun.
pub(super) struct Swap {
    note: PathBuf,
    identity: String,
    old: CertificateFiles,
}

impl Swap {
    pub(super) fn new(target: &ConfigurationFile, identity: &str, old: &CertificateFiles) -> Self {
        Self { note: note_of(target), identity: identity.to_owned(), old: old.clone() }
    }

    /// The swap that a killed command has left: the configuration has the new pair, and the proxy may not have it yet.
    pub(super) fn interrupted(file: &ConfigFile) -> Result<Option<Self>, CommandError> {
        let target = ConfigurationFile::open(&file.config).map_err(failed)?;
        let note = note_of(&target);
        let Ok(text) = std::fs::read_to_string(&note) else { return Ok(None) };
        let [identity, chain, key] = [0, 1, 2].map(|line| text.lines().nth(line).unwrap_or_default());
        let old = CertificateFiles { chain: PathBuf::from(chain), key: PathBuf::from(key) };
        let swap = Self { note, identity: identity.to_owned(), old };
        let config = file.load()?.config;
        match files_of(&config, &swap.identity) {
            Ok(files) if files != swap.old => Ok(Some(swap)),
            // The configuration still has the old pair, or not even the identity.
            Ok(_) | Err(_) => {
                swap.end();
                Ok(None)
            }
        }
    }

    /// Writes the note.
    pub(super) fn begin(&self, target: &ConfigurationFile) -> Result<(), CommandError> {
        let text = format!("{}\n{}\n{}\n", self.identity, self.old.chain.display(), self.old.key.display());
        state::write_like(&self.note, text.as_bytes(), target.path()).map_err(|error| Exit::IoError.because(error))
    }

    /// Goes on after an interruption.
    pub(super) fn finish(&self, file: &ConfigFile) -> Result<(), CommandError> {
        let target = ConfigurationFile::open(&file.config).map_err(failed)?;
        print(format_args!("identity {}: goes on where an earlier command was interrupted\n", self.identity))?;
        self.load(file, &target, target.text())
    }

    /// Makes the proxy load the new pair, and says what may be deleted. A proxy that rejects it gets the old file back.
    pub(super) fn load(&self, file: &ConfigFile, target: &ConfigurationFile, text: &str) -> Result<(), CommandError> {
        let config = file.load()?.config;
        let loaded = if has_credential(&files_of(&config, &self.identity)?) {
            edit::load_credentials(file, target, text).or_else(|why| {
                if why.is_of(Exit::NoAnswer) {
                    return Err(why);
                }
                target.restore(text).map_err(failed)?;
                edit::load_credentials(file, target, text).and(Err(why))
            })
        } else {
            edit::load(file, target, text)
        };
        if loaded.as_ref().is_err_and(|error| error.is_of(Exit::NoAnswer)) {
            // The note stays: the same command goes on from here.
            return loaded.map(drop);
        }
        self.end();
        print(format!("{}\n", loaded?))?;
        let new = files_of(&config, &self.identity)?;
        let (used, mut advice) = (config.files(), String::new());
        let is_used = |path: &PathBuf| used.contains(path);
        let (kept, free): (Vec<&PathBuf>, Vec<&PathBuf>) =
            [&self.old.chain, &self.old.key].into_iter().partition(|path| is_used(path));
        let shown =
            |paths: &[&PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and ");
        advice.push_str(&format!("identity {}: now uses {}\n", self.identity, new.chain.display()));
        if !free.is_empty() {
            advice.push_str(&format!("The old files are still there, and may be deleted: {}\n", shown(&free)));
        }
        if !kept.is_empty() {
            advice.push_str(&format!("Keep {}: another section of the configuration uses it\n", shown(&kept)));
        }
        if let (Ok(old), true) = (certificate::describe(&self.old.chain), kept.is_empty()) {
            advice.push_str(&format!(
                "At Microsoft remove the old certificate, under Certificates & secrets: SHA-1 {}, SHA-256 {}\n",
                old.sha1.replace(':', ""),
                old.sha256
            ));
        }
        print(advice)
    }

    fn end(&self) {
        // A note that stays makes the next renewal load the configuration once more.
        let _ = std::fs::remove_file(&self.note);
    }
}

fn note_of(target: &ConfigurationFile) -> PathBuf {
    target.path().with_extension("toml.swap")
}
