//! The format of a message's file: frames that are sealed one by one, under a key of their own.
//!
//! The head has a random key, sealed with the store's key under the message's id. Each frame is sealed with that random
//! key under its kind and its number, and the last frame says that it is the last. A file that is cut, put together from
//! others, or renamed to another message's id does not open.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::error::Error;
use super::file_name::Id;
use crate::crypto::{self, Unavailable, Vault};

/// The kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Envelope,
    Content,
    /// The last frame, which is empty.
    End,
}

/// The writer of one file's frames.
pub(super) struct Sealer {
    vault: Vault,
    frames: u64,
}

/// The reader of one file's frames.
pub(super) struct Opener {
    vault: Vault,
    frames: u64,
    file: BufReader<File>,
    path: PathBuf,
}

impl Sealer {
    /// Begins a file. Returns its head, too.
    pub(super) fn begin(master: &Vault, id: Id) -> Result<(Self, Vec<u8>), Unavailable> {
        let key: Zeroizing<[u8; 32]> = Zeroizing::new(crypto::random()?);
        let sealed = master.seal(&head_label(id), key.as_slice())?;
        let head = [MAGIC, sealed.as_slice()].concat();
        Ok((Self { vault: Vault::new(key.as_slice())?, frames: 0 }, head))
    }

    /// Seals the next frame. An envelope has at most [`LARGEST_ENVELOPE`] octets, and a piece [`LARGEST_FRAME`].
    pub(super) fn frame(&mut self, kind: Kind, content: &[u8]) -> Result<Vec<u8>, Unavailable> {
        let sealed = self.vault.seal(&frame_label(kind, self.frames), content)?;
        self.frames += 1;
        let length = u32::try_from(sealed.len()).map_err(|_| Unavailable)?;
        Ok([&[kind.octet()], length.to_be_bytes().as_slice(), &sealed].concat())
    }
}

impl Opener {
    /// Reads the head of a file.
    pub(super) fn open(master: &Vault, id: Id, file: File, path: PathBuf) -> Result<Self, Error> {
        let mut file = BufReader::new(file);
        let mut head = [0; MAGIC.len() + SEALED_KEY];
        let is_whole = is_filled(&mut file, &mut head).map_err(|error| Error::unreadable(&path, error))?;
        let sealed = head.strip_prefix(MAGIC).filter(|_| is_whole);
        let key = sealed.and_then(|sealed| master.open(&head_label(id), sealed));
        match key {
            Some(key) => Ok(Self { vault: Vault::new(&key)?, frames: 0, file, path }),
            None => Err(Error::Damaged(path)),
        }
    }

    /// The error of a file whose frames are not in their order.
    pub(super) fn damaged(&self) -> Error {
        Error::Damaged(self.path.clone())
    }

    /// Reads the next frame.
    pub(super) fn next(&mut self) -> Result<(Kind, Zeroizing<Vec<u8>>), Error> {
        match self.read() {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => Err(self.damaged()),
            Err(error) => Err(Error::unreadable(&self.path, error)),
        }
    }

    /// Reads the next frame; `None` where it does not open.
    fn read(&mut self) -> io::Result<Option<(Kind, Zeroizing<Vec<u8>>)>> {
        let mut head = [0; FRAME_HEAD];
        if !is_filled(&mut self.file, &mut head)? {
            return Ok(None);
        }
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let Some(kind) = Kind::of(kind).filter(|kind| length <= kind.largest() + MORE) else { return Ok(None) };
        let mut sealed = vec![0; length];
        if !is_filled(&mut self.file, &mut sealed)? {
            return Ok(None);
        }
        let content = self.vault.open(&frame_label(kind, self.frames), &sealed);
        self.frames += 1;
        // Nothing follows the last frame.
        if kind == Kind::End && self.file.read(&mut [0])? > 0 {
            return Ok(None);
        }
        Ok(content.map(|content| (kind, content)))
    }
}

/// The octets of a file without content, whose envelope has this length.
pub(super) fn length_of_empty(envelope: u64) -> u64 {
    // The envelope and the end have a frame each.
    envelope.saturating_add((MAGIC.len() + SEALED_KEY + 2 * (FRAME_HEAD + MORE)) as u64)
}

/// The octets of content in a file, in frames of this length and a rest.
pub(super) fn length_of_content(content: u64, frame: u64) -> u64 {
    content.saturating_add(content.div_ceil(frame).saturating_mul((FRAME_HEAD + MORE) as u64))
}

/// Fills a buffer. Returns false where the file ends before.
fn is_filled(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

impl Kind {
    fn octet(self) -> u8 {
        match self {
            Self::Envelope => b'E',
            Self::Content => b'C',
            Self::End => b'Z',
        }
    }

    /// The largest content of a frame of this kind.
    fn largest(self) -> usize {
        match self {
            Self::Envelope => LARGEST_ENVELOPE,
            Self::Content | Self::End => LARGEST_FRAME,
        }
    }

    fn of(octet: u8) -> Option<Self> {
        [Self::Envelope, Self::Content, Self::End].into_iter().find(|kind| kind.octet() == octet)
    }
}

fn head_label(id: Id) -> Vec<u8> {
    format!("message key {id}").into_bytes()
}

fn frame_label(kind: Kind, number: u64) -> Vec<u8> {
    [b"frame ".as_slice(), &[kind.octet()], &number.to_be_bytes()].concat()
}

const MAGIC: &[u8] = b"packetboat message 1\n";
/// The nonce, the key, and the tag of AES-GCM.
const SEALED_KEY: usize = 12 + 32 + 16;
/// The octets before a sealed frame: its kind and its length.
const FRAME_HEAD: usize = 5;
/// The nonce and the tag.
const MORE: usize = 12 + 16;
/// The largest piece of a message in a frame.
const LARGEST_FRAME: usize = 512 * 1024;
/// The largest envelope. One of fifty thousand recipients has no more.
pub(super) const LARGEST_ENVELOPE: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(master: &Vault, id: Id, contents: &[&[u8]]) -> Vec<u8> {
        let (mut sealer, mut file) = Sealer::begin(master, id).unwrap();
        file.extend(sealer.frame(Kind::Envelope, b"envelope").unwrap());
        for content in contents {
            file.extend(sealer.frame(Kind::Content, content).unwrap());
        }
        file.extend(sealer.frame(Kind::End, b"end").unwrap());
        file
    }

    /// The content, if every frame up to the end opens.
    fn read(master: &Vault, id: Id, octets: &[u8]) -> Option<Vec<u8>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, octets).unwrap();
        let mut opener = Opener::open(master, id, File::open(&path).unwrap(), path).ok()?;
        let mut content = Vec::new();
        loop {
            match opener.next().ok()? {
                (Kind::End, _) => return Some(content),
                (Kind::Envelope, _) => {}
                (Kind::Content, piece) => content.extend_from_slice(&piece),
            }
        }
    }

    #[test]
    fn a_file_opens_as_it_was_written_and_in_no_other_form() {
        let master = Vault::new(&[7; 32]).unwrap();
        let (id, other) = (Id::new().unwrap(), Id::new().unwrap());
        let file = written(&master, id, &[b"one ", b"two ", b"three"]);
        assert_eq!(read(&master, id, &file).unwrap(), b"one two three");
        assert!(read(&master, other, &file).is_none(), "it is another message's");
        assert!(read(&Vault::new(&[8; 32]).unwrap(), id, &file).is_none(), "the key is another one");
        for at in 0..file.len() {
            assert!(read(&master, id, &file[..at]).is_none(), "cut at {at}");
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(read(&master, id, &changed).is_none(), "changed at {at}");
        }
        assert!(read(&master, id, &[file.as_slice(), b"x"].concat()).is_none(), "something follows the end");
    }

    #[test]
    fn frames_keep_their_order_and_their_file() {
        let master = Vault::new(&[7; 32]).unwrap();
        let id = Id::new().unwrap();
        let (file, second) = (written(&master, id, &[b"1111", b"2222"]), written(&master, id, &[b"1111", b"2222"]));
        let head = MAGIC.len() + SEALED_KEY;
        let lengths = [8, 4, 4, 3].map(|content: usize| 5 + content + MORE);
        let mut at = head;
        let frames: Vec<_> = lengths
            .map(|length| {
                at += length;
                at - length..at
            })
            .into();
        assert_eq!(at, file.len());
        let put = |order: &[usize]| {
            let frames = order.iter().flat_map(|&one| file[frames[one].clone()].to_vec());
            file[..head].iter().copied().chain(frames).collect::<Vec<u8>>()
        };
        assert!(read(&master, id, &put(&[0, 1, 2, 3])).is_some());
        for order in [&[0, 2, 1, 3][..], &[0, 1, 3], &[0, 2, 3], &[0, 1, 1, 2, 3], &[1, 0, 2, 3], &[0, 3]] {
            assert!(read(&master, id, &put(order)).is_none(), "{order:?}");
        }
        // The frames of one file behind the head of another, under the same id.
        assert!(read(&master, id, &[&second[..head], &file[head..]].concat()).is_none());
        let spliced = [&file[..frames[2].start], &second[frames[2].clone()], &file[frames[2].end..]].concat();
        assert!(read(&master, id, &spliced).is_none());
    }
}
