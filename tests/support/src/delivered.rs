//! This file reads messages as a mail server has delivered them: files in `new/` of a directory, each with its envelope
//! in two fields in front.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::process::PATIENCE;

/// A message as the server has delivered it.
#[derive(PartialEq, Eq)]
pub struct Delivered {
    /// The sender of the envelope.
    pub sender: String,
    /// The recipients of the envelope.
    pub recipients: String,
    /// Header and body, with CRLF.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for Delivered {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let begin = &self.content[..self.content.len().min(2000)];
        let content = format!("{} octets: {}", self.content.len(), begin.escape_ascii());
        formatter
            .debug_struct("Delivered")
            .field("sender", &self.sender)
            .field("recipients", &self.recipients)
            .field("content", &content)
            .finish()
    }
}

/// The messages in this directory in the order of their delivery, once there are so many; the log tells why not.
pub fn delivered(directory: &Path, count: usize, log: impl Fn() -> String) -> Vec<Delivered> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut files: Vec<PathBuf> = fs::read_dir(directory.join("new"))
            .map(|files| files.map(|file| file.unwrap().path()).collect())
            .unwrap_or_default();
        if files.len() >= count {
            files.sort_by_key(|file| fs::metadata(file).unwrap().modified().unwrap());
            return files.iter().map(|file| read(&fs::read(file).unwrap())).collect();
        }
        assert!(Instant::now() < deadline, "{} of {count} messages: {}", files.len(), log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The one message in this directory, once it is there; it is removed.
pub fn take(directory: &Path, log: impl Fn() -> String) -> Delivered {
    let mut all = delivered(directory, 1, log);
    for file in fs::read_dir(directory.join("new")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn read(file: &[u8]) -> Delivered {
    let mut lines = file.split(|octet| *octet == b'\n').peekable();
    let mut field = |name: &str| {
        let mut line = String::from_utf8(lines.next().unwrap().to_vec()).unwrap();
        while let Some(more) = lines.next_if(|line| line.starts_with(b" ")) {
            line += std::str::from_utf8(more).unwrap();
        }
        line.strip_prefix(name).unwrap_or_else(|| panic!("{name} in {line}")).trim().to_owned()
    };
    let (sender, recipients) = (field("Return-path:"), field("Envelope-to:"));
    let content = lines.collect::<Vec<_>>().join(&b"\r\n"[..]);
    Delivered { sender: sender.trim_matches(['<', '>']).to_owned(), recipients, content }
}
