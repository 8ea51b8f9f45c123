//! The spool's directory: files of messages and their records, made, found, renamed and removed.
//!
//! Every function here blocks, and runs on a thread of [`pool::SPOOL`](crate::pool::SPOOL).

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::OFlags;
use tracing::warn;

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
    lock: Mutex<File>,
    #[cfg(test)]
    renaming: Mutex<()>,
}

/// A disk that hangs at the next new file and at the next rename, for as long as this lives.
#[cfg(test)]
pub(super) struct Hung<'a> {
    _created: parking_lot::MutexGuard<'a, File>,
    _renamed: parking_lot::MutexGuard<'a, ()>,
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
        let lock = lock(directory)?;
        state::sweep(directory);
        let key = zeroize::Zeroizing::new([b"spool\0", key].concat());
        Ok(Self {
            directory: directory.to_path_buf(),
            vault: Vault::new(&key)?,
            lock: Mutex::new(lock),
            #[cfg(test)]
            renaming: Mutex::default(),
        })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The error of a disk that hangs.
    pub(super) fn hangs(&self) -> Error {
        Error::Hangs(self.directory.clone())
    }

    #[cfg(test)]
    pub(super) fn hang(&self) -> Hung<'_> {
        Hung { _created: self.lock.lock(), _renamed: self.renaming.lock() }
    }

    /// Begins the file of a message.
    pub(super) fn create(&self, name: FileName, envelope: &Envelope) -> Result<(NewFile, Sealer), Error> {
        self.keep_directory()?;
        let mut file = NewFile::create(&name.path(&self.directory))?;
        let (mut sealer, head) = Sealer::begin(&self.vault, name.id)?;
        file.write(&head)?;
        file.write(&sealer.frame(Kind::Envelope, &record::to_json(envelope))?)?;
        Ok((file, sealer))
    }

    /// Makes the directory anew where it was removed, and locks it, so that no other process takes it.
    fn keep_directory(&self) -> Result<(), Error> {
        let mut held = self.lock.lock();
        if self.is_locked(&held) {
            return Ok(());
        }
        state::make_directory(&self.directory)?;
        state::check_own(&self.directory)?;
        *held = lock(&self.directory)?;
        warn!(
            "{} was removed while packetboat runs, and is made anew: leave it to packetboat, because messages in it are lost \
             with it",
            self.directory.display()
        );
        Ok(())
    }

    /// Whether the directory is still the one that this process has locked.
    fn is_locked(&self, lock: &File) -> bool {
        let same = |there: Metadata, held: Metadata| (there.dev(), there.ino()) == (held.dev(), held.ino());
        let there = fs::symlink_metadata(self.directory.join(LOCK));
        there.ok().zip(lock.metadata().ok()).is_some_and(|(there, held)| same(there, held))
    }

    /// Whether a message's file was removed, while its directory is as it was.
    pub(super) fn is_gone(&self, name: FileName) -> bool {
        let found = fs::symlink_metadata(name.path(&self.directory));
        found.is_err_and(|error| error.kind() == ErrorKind::NotFound) && self.is_locked(&self.lock.lock())
    }

    /// Writes a file for a message whose own is gone. It opens no more than a damaged one, and carries the report.
    pub(super) fn replace(&self, name: FileName, envelope: &Envelope) -> Result<(), Error> {
        let (file, _) = self.create(name, envelope)?;
        Ok(file.finish(&name.path(&self.directory))?)
    }

    /// Opens a message's file. Returns its envelope, and the reader of its content.
    pub(super) fn open_message(&self, name: FileName) -> Result<(Envelope, Opener), Error> {
        let path = name.path(&self.directory);
        // The open follows no link, and does not wait for a pipe's other end.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&path);
        let file = opened.map_err(|error| Error::unreadable(&path, error))?;
        if !file.metadata().is_ok_and(|about| about.is_file()) {
            return Err(Error::Damaged(path));
        }
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
        #[cfg(test)]
        let _renaming = self.renaming.lock();
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

fn lock(directory: &Path) -> Result<File, Error> {
    state::try_lock(&directory.join(LOCK))?.ok_or_else(|| Error::InUse(directory.to_path_buf()))
}

fn record_label(id: Id) -> Vec<u8> {
    format!("record {id}").into_bytes()
}

const LOCK: &str = "lock";
const RECORD: &str = ".record";
