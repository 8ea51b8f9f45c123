//! A kept message, or a report about one, on its way to the mail server.

use std::sync::Arc;

use tracing::warn;
use zeroize::Zeroizing;

use super::envelope::Envelope;
use super::error::{Error, PATIENCE};
use super::file_name::{FileName, Phase};
use super::sealed_file::{Kind, Opener};
use super::store::Store;
use super::{Id, Spool, report};
use crate::pool::{self, Closing, Gate, NotDone};

/// A message that is to be sent: its envelope, and its content piece by piece.
pub struct Outgoing {
    // Dropped in this order: who finds that the spool is gone may open its directory.
    store: Arc<Store>,
    spool: Arc<Spool>,
    name: FileName,
    envelope: Envelope,
    content: Content,
    /// Lets one step on the disk run at a time. One that hangs keeps it closed.
    gate: Gate,
}

/// A piece of the content, exactly as it goes up: with dots doubled.
pub enum Piece {
    /// A piece that others follow.
    More(Zeroizing<Vec<u8>>),
    /// The last piece, with the final dot. Before it is returned, the disk has it that the outcome is unknown from now
    /// on: packetboat may be killed behind it.
    Last(Zeroizing<Vec<u8>>),
}

enum Content {
    /// The content of a file, with the piece that was read already.
    File(Opener, Zeroizing<Vec<u8>>),
    Report(Zeroizing<Vec<u8>>),
    /// A piece is being read, or there is no more.
    None,
}

impl Outgoing {
    /// Opens a message, or makes the report about it. It blocks.
    pub(super) fn open(spool: &Arc<Spool>, id: Id, gate: Gate) -> Result<Self, Error> {
        let (store, settings, entry) = {
            let queue = spool.queue.lock();
            let entry = queue.entries.get(&id).cloned().ok_or(Error::Off)?;
            let settings = queue.settings.clone().ok_or(Error::Off)?;
            (queue.store.clone().ok_or(Error::Off)?, settings, entry)
        };
        let name = entry.name;
        let path = || Error::Damaged(name.path(store.directory()));
        let (envelope, content) = if name.phase == Phase::Report {
            let envelope = entry.envelope.clone().ok_or_else(path)?;
            let to = settings.report_to.unwrap_or_else(|| envelope.mailbox.clone());
            let header = header(&store, name);
            let report = report::write(&entry, &to, &header);
            let envelope = Envelope {
                sender: envelope.mailbox.clone(),
                recipients: vec![to],
                parameters: String::new(),
                ..envelope
            };
            (envelope, Content::Report(Zeroizing::new(report)))
        } else {
            let (envelope, mut opener) = store.open_message(name)?;
            match opener.next()? {
                (Kind::Content, first) => {
                    (Envelope { recipients: entry.to_try(), ..envelope }, Content::File(opener, first))
                }
                (Kind::Envelope | Kind::End, _) => return Err(path()),
            }
        };
        Ok(Self { spool: Arc::clone(spool), store, name, envelope, content, gate })
    }

    /// The message's id.
    pub fn id(&self) -> Id {
        self.name.id
    }

    /// The envelope.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Reads the next piece. Call it until it has returned [`Piece::Last`], and send each piece as it is.
    ///
    /// # Errors
    /// The file is damaged or cannot be read, or the disk does not take the note that the outcome is unknown, or it
    /// hangs: then end the connection without the final dot.
    pub async fn next(&mut self) -> Result<Piece, Error> {
        let content = std::mem::replace(&mut self.content, Content::None);
        let (spool, store, name) = (Arc::clone(&self.spool), Arc::clone(&self.store), self.name);
        let step = pool::SPOOL.run_alone(&self.gate, PATIENCE, move || {
            let (piece, content) = read(content)?;
            if matches!(piece, Piece::Last(_)) {
                note_end(&spool, &store, name)?;
            }
            Ok::<_, Error>((piece, content))
        });
        let step = step.await.map_err(|why| match why {
            NotDone::Late => self.store.hangs(),
            why => Error::NotDone(why),
        });
        let (piece, content) = step??;
        self.content = content;
        Ok(piece)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let content = std::mem::replace(&mut self.content, Content::None);
        if matches!(content, Content::File(..)) {
            drop(Closing::on(&pool::SPOOL, content));
        }
    }
}

impl Spool {
    /// Takes back the note that the server may have the whole message, where the disk took it too late: the final dot was
    /// not sent. It blocks.
    pub(super) fn take_back_end(&self, id: Id) {
        let queue = self.queue.lock();
        let (store, entry) = (queue.store.clone(), queue.entries.get(&id).cloned());
        drop(queue);
        let (Some(store), Some(entry)) = (store, entry.filter(|entry| entry.is_ending)) else { return };
        let name = FileName { unknown: entry.name.unknown.saturating_sub(1), ..entry.name };
        // Where the disk does not let it be renamed, the next attempt counts as a repetition.
        let is_renamed = store.rename(entry.name, name).is_ok();
        self.queue.lock().entries.change(id, |entry| {
            entry.is_ending = false;
            if is_renamed {
                entry.name = name;
            }
        });
    }
}

fn read(content: Content) -> Result<(Piece, Content), Error> {
    match content {
        Content::File(mut opener, piece) => match opener.next()? {
            (Kind::Content, next) => Ok((Piece::More(piece), Content::File(opener, next))),
            // The end of the file is sealed, too, so that no file that was cut is sent.
            (Kind::End, _) => Ok((Piece::Last(piece), Content::None)),
            (Kind::Envelope, _) => Err(opener.damaged()),
        },
        Content::Report(report) => Ok((Piece::Last(report), Content::None)),
        Content::None => Err(Error::Off),
    }
}

/// Notes on disk that the server may have the whole message from now on.
fn note_end(spool: &Spool, store: &Store, name: FileName) -> Result<(), Error> {
    let noted = name.with_unknown();
    store.rename(name, noted)?;
    let mut queue = spool.queue.lock();
    let changed = queue.entries.change(name.id, |entry| {
        entry.name = noted;
        entry.is_ending = true;
        entry.envelope.clone().unwrap_or_default()
    });
    let envelope = changed.ok_or(Error::Off)?;
    if name.unknown == 0 {
        return Ok(());
    }
    queue.counts.repeated += 1;
    drop(queue);
    let Envelope { mailbox, connection, .. } = envelope;
    let what = if name.phase == Phase::Report { "the report about a kept message" } else { "a kept message" };
    warn!(
        id = %name.id, mailbox, connection,
        "{what} goes up once more with the same Message-ID, because nobody knows whether it was sent: a second \
         copy may exist"
    );
    Ok(())
}

/// The header of a message, as far as it can be read.
pub(super) fn header(store: &Store, name: FileName) -> Vec<u8> {
    let mut header = Vec::new();
    let Ok((_, mut opener)) = store.open_message(name) else { return header };
    while let Ok((Kind::Content, piece)) = opener.next() {
        header.extend_from_slice(&piece);
        if let Some(at) = memchr::memmem::find(&header, b"\r\n\r\n") {
            header.truncate(at + 2);
            return header;
        }
        if header.len() > LARGEST_HEADER {
            break;
        }
    }
    header.truncate(LARGEST_HEADER);
    header
}

/// The octets of a header that a report repeats.
const LARGEST_HEADER: usize = 64 * 1024;
