//! The spool's directory: files of messages and their records, made, found, renamed and removed.
//!
//! Every function here blocks, and runs on a thread of [`pool::SPOOL`](crate::pool::SPOOL).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::envelope::Envelope;
use super::error::Error;
use super::file_name::{FileName, Id};
use super::record::{self, Record};
use super::sealed_file::{Kind, Opener, Sealer};
use crate::crypto::Vault;
use crate::state::{self, Access, NewFile};

/// The directory, locked against other processes.
pub(super) struct Store {
    directory: PathBuf,
    vault: Vault,
    _lock: File,
}

/// A file that was found in the directory.
pub(super) struct Found {
    pub(super) name: FileName,
    pub(super) octets: u64,
    pub(super) envelope: Result<Envelope, Error>,
    pub(super) record: Record,
}

impl Store {
    /// Opens the directory, and makes it where it is missing. Files that a crash has left half written are removed.
    ///
    /// # Errors
    /// The directory is open to others, cannot be made, or another process has it.
    pub(super) fn open(directory: &Path, key: &[u8]) -> Result<Self, Error> {
        state::make_directory(directory)?;
        state::check_own(directory)?;
        let lock = state::try_lock(&directory.join(LOCK))?.ok_or_else(|| Error::InUse(directory.to_path_buf()))?;
        state::sweep(directory);
        let key = zeroize::Zeroizing::new([b"spool\0", key].concat());
        Ok(Self { directory: directory.to_path_buf(), vault: Vault::new(&key)?, _lock: lock })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Begins the file of a message.
    pub(super) fn create(&self, name: FileName, envelope: &Envelope) -> Result<(NewFile, Sealer), Error> {
        let mut file = NewFile::create(&name.path(&self.directory))?;
        let (mut sealer, head) = Sealer::begin(&self.vault, name.id)?;
        file.write(&head)?;
        file.write(&sealer.frame(Kind::Envelope, &record::to_json(envelope))?)?;
        Ok((file, sealer))
    }

    /// Opens a message's file. Returns its envelope, and the reader of its content.
    pub(super) fn open_message(&self, name: FileName) -> Result<(Envelope, Opener), Error> {
        let path = name.path(&self.directory);
        let file = File::open(&path).map_err(|error| Error::unreadable(&path, error))?;
        let mut opener = Opener::open(&self.vault, name.id, file, path.clone())?;
        let envelope = match opener.next()? {
            (Kind::Envelope, json) => record::envelope(&json),
            (Kind::Content | Kind::End, _) => None,
        };
        envelope.map(|envelope| (envelope, opener)).ok_or(Error::Damaged(path))
    }

    /// Reads a message's file to its end. Returns its envelope.
    pub(super) fn read_through(&self, name: FileName) -> Result<Envelope, Error> {
        let (envelope, mut opener) = self.open_message(name)?;
        loop {
            match opener.next()? {
                (Kind::Content, _) => {}
                (Kind::Envelope, _) => return Err(opener.damaged()),
                (Kind::End, _) => return Ok(envelope),
            }
        }
    }

    /// Says what is wrong with a damaged file, and what to do.
    pub(super) fn words_about_damage(&self, name: FileName) -> String {
        let (damaged, id) = (Error::Damaged(name.path(&self.directory)), name.id);
        format!(
            "{damaged}, and is not sent; if the key is another one (store_key), put the old one back, restart packetboat, and \
             run packetboat spool retry {id}; or else tell the people at the device, and run packetboat spool remove {id}"
        )
    }

    /// Gives a message's file another name.
    pub(super) fn rename(&self, from: FileName, to: FileName) -> Result<(), Error> {
        Ok(state::rename(&from.path(&self.directory), &to.path(&self.directory))?)
    }

    /// Removes a message with its record.
    pub(super) fn remove(&self, name: FileName) -> Result<(), Error> {
        state::remove(&name.path(&self.directory))?;
        Ok(state::remove(&self.record_path(name.id))?)
    }

    /// Writes a message's record.
    pub(super) fn write_record(&self, id: Id, record: &Record) -> Result<(), Error> {
        let sealed = self.vault.seal(&record_label(id), &record::to_json(record))?;
        Ok(state::write(&self.record_path(id), &sealed, Access::Private)?)
    }

    /// Finds all messages. A record that is missing or damaged is an empty one; one without a message is removed.
    pub(super) fn scan(&self) -> Result<Vec<Found>, Error> {
        let entries = fs::read_dir(&self.directory).map_err(|error| Error::unreadable(&self.directory, error))?;
        let (mut found, mut records) = (Vec::new(), BTreeSet::new());
        for entry in entries.flatten() {
            let file_name = entry.file_name();
            let Some(text) = file_name.to_str() else { continue };
            if let Some(id) = text.strip_suffix(RECORD).and_then(Id::parse) {
                records.insert(id);
            }
            let Some(name) = FileName::parse(text) else { continue };
            let octets = entry.metadata().map(|about| about.len()).unwrap_or_default();
            let envelope = self.open_message(name).map(|(envelope, _)| envelope);
            let record = self.read_record(name.id).unwrap_or_default();
            found.push(Found { name, octets, envelope, record });
        }
        for one in &found {
            records.remove(&one.name.id);
        }
        for id in records {
            state::remove(&self.record_path(id))?;
        }
        Ok(found)
    }

    fn read_record(&self, id: Id) -> Option<Record> {
        let sealed = state::read_own(&self.record_path(id)).ok()?;
        Record::from_json(&self.vault.open(&record_label(id), &sealed)?)
    }

    fn record_path(&self, id: Id) -> PathBuf {
        self.directory.join(format!("{id}{RECORD}"))
    }
}

fn record_label(id: Id) -> Vec<u8> {
    format!("record {id}").into_bytes()
}

const LOCK: &str = "lock";
const RECORD: &str = ".record";
