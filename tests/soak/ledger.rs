//! The ledger knows every message: what was delivered, what a device has had, and what the server has deleted.
//!
//! A message is *lost* if it is gone from its mailbox and no device has had it, whole and octet for octet. It is
//! *duplicated* if a device finds it once more after the server's OK to its EXPUNGE or QUIT has reached that device.
//! One whose session broke before that OK may be there again, as without a proxy between: it is counted, and no fault.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Default)]
pub struct Ledger {
    entries: Mutex<HashMap<u64, Entry>>,
    last: AtomicU64,
    faults: Mutex<Vec<String>>,
}

struct Entry {
    owner: usize,
    /// The length that was asked for; the message is a little longer.
    length: usize,
    posted: Instant,
    had: u32,
    /// The server has said that it is deleted.
    confirmed: bool,
}

/// The content of the ledger, added up.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sums {
    pub delivered: usize,
    pub octets: usize,
    pub had: usize,
    /// Messages that came again, because the session before broke.
    pub again: usize,
    pub confirmed: usize,
    pub large: usize,
}

impl Ledger {
    /// Writes a message of about this length for the owner; returns its number and its octets.
    pub fn write(&self, owner: usize, length: usize) -> (u64, Vec<u8>) {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let message = message(number, length);
        let entry = Entry { owner, length, posted: Instant::now(), had: 0, confirmed: false };
        self.entries.lock().unwrap().insert(number, entry);
        (number, message)
    }

    /// Notes a message that a device has fetched. Returns its number and age if it is one of the device's own,
    /// unchanged.
    pub fn had(&self, owner: usize, octets: &[u8]) -> Option<(u64, Duration)> {
        let Some(number) = number_of(octets) else {
            self.fault(format!("device {owner} got what nobody has delivered: {:?}", beginning(octets)));
            return None;
        };
        let mut entries = self.entries.lock().unwrap();
        let entry = entries.get_mut(&number).filter(|entry| entry.owner == owner);
        let Some(entry) = entry else {
            self.fault(format!("device {owner} got message {number}, which is not its own"));
            return None;
        };
        if entry.confirmed {
            self.fault(format!("device {owner} got message {number} after it was deleted"));
        }
        if message(number, entry.length) != octets {
            self.fault(format!("message {number} of {} octets came to device {owner} changed", entry.length));
            return None;
        }
        entry.had += 1;
        Some((number, entry.posted.elapsed()))
    }

    /// Notes that the server has confirmed the deletion of these messages.
    pub fn deleted(&self, numbers: &[u64]) {
        let mut entries = self.entries.lock().unwrap();
        for number in numbers {
            if let Some(entry) = entries.get_mut(number) {
                entry.confirmed = true;
            }
        }
    }

    /// Compares the book with the messages left in the mailboxes; returns the faults.
    pub fn settle(&self, left: &[u64]) -> Vec<String> {
        let entries = self.entries.lock().unwrap();
        let mut faults = self.faults.lock().unwrap().clone();
        for (number, entry) in entries.iter() {
            let is_there = left.contains(number);
            let Entry { owner, had, confirmed, .. } = entry;
            if !is_there && *had == 0 {
                faults.push(format!("message {number} of device {owner} is lost"));
            }
            if is_there && *confirmed {
                faults.push(format!("message {number} of device {owner} was deleted, and is there"));
            }
        }
        faults
            .extend(left.iter().filter(|number| !entries.contains_key(number)).map(|one| format!("{one} is nobody's")));
        faults
    }

    pub fn sums(&self) -> Sums {
        let entries = self.entries.lock().unwrap();
        let mut sums = Sums { delivered: entries.len(), ..Sums::default() };
        for entry in entries.values() {
            sums.octets += entry.length;
            sums.had += usize::from(entry.had > 0);
            sums.again += entry.had.saturating_sub(1) as usize;
            sums.confirmed += usize::from(entry.confirmed);
            sums.large += usize::from(entry.length >= LARGE && entry.had > 0);
        }
        sums
    }

    fn fault(&self, words: String) {
        println!("{words}");
        self.faults.lock().unwrap().push(words);
    }
}

/// Makes a message, the same for the same number and length. Each block says where it belongs, and some look like
/// protocol.
fn message(number: u64, length: usize) -> Vec<u8> {
    let mut message = format!("{SUBJECT}{number}\r\nFrom: scanner@contoso.example\r\n\r\n").into_bytes();
    message.reserve(length + BLOCK);
    let mut block = vec![b'\r', b'\n'];
    block.extend(b"* 1 FETCH (BODY[] {5}\r\n.\r\n..\r\na1 OK done\r\n+OK\r\n* BYE\r\n\xe4\xf6\xfc 8-bit\r\n");
    while block.len() < BLOCK - 2 {
        let octet = number.wrapping_mul(block.len() as u64 + 7).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
        let is_end = block.len().is_multiple_of(76);
        block.extend_from_slice(if is_end { b"\r\n" } else { &ALPHABET[octet as usize..=octet as usize] });
    }
    block.truncate(BLOCK - 2);
    block.extend(b"\r\n");
    let mut place = 0_u64;
    while message.len() < length {
        message.extend(format!("{number}-{place}").bytes());
        let room = length.saturating_sub(message.len()).min(block.len());
        message.extend_from_slice(&block[..room.max(2)]);
        place += 1;
    }
    // A message ends with a whole line, because POP3 cannot show otherwise.
    if message.ends_with(b"\r") {
        message.push(b'\n');
    } else if !message.ends_with(b"\r\n") {
        message.extend(b"\r\n");
    }
    message
}

fn number_of(octets: &[u8]) -> Option<u64> {
    let rest = octets.strip_prefix(SUBJECT.as_bytes())?;
    let end = memchr::memchr(b'\r', rest)?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

fn beginning(octets: &[u8]) -> String {
    String::from_utf8_lossy(&octets[..octets.len().min(80)]).into_owned()
}

const SUBJECT: &str = "Subject: Scan ";
const BLOCK: usize = 4096;
/// The size of a message whose fetch is reported.
pub const LARGE: usize = 20 << 20;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+.";

/// The ledger itself: each fault is found, and what is no fault is none.
#[test]
fn a_ledger_finds_what_is_lost_changed_or_comes_twice() {
    let ledger = Ledger::default();
    let written: Vec<(u64, Vec<u8>)> = (0..4).map(|owner| ledger.write(owner, 5000)).collect();
    let [(lost, _), (again, twice), (back, deleted), (broken, good)] = written.try_into().unwrap();
    assert_eq!(ledger.settle(&[lost, again, back, broken]), Vec::<String>::new(), "all of it is there");
    // The device fetches the message again, because no deletion was confirmed in between.
    assert_eq!(ledger.had(3, &good).map(|(number, _)| number), Some(broken));
    assert!(ledger.had(3, &good).is_some());
    assert!(ledger.had(1, &twice).is_some());
    ledger.deleted(&[again]);
    assert!(ledger.had(2, &deleted).is_some());
    assert_eq!(ledger.settle(&[lost]), Vec::<String>::new());
    ledger.deleted(&[back]);
    ledger.had(1, &twice);
    let mut bad = good.clone();
    bad[2000] ^= 1;
    assert!(ledger.had(3, &bad).is_none());
    assert!(ledger.had(3, &good[..good.len() - 2]).is_none());
    assert!(ledger.had(0, &good).is_none(), "somebody else's");
    let mut faults = ledger.settle(&[back, 77]);
    faults.sort();
    let words = [
        "77 is nobody's",
        "device 0 got message 4, which",
        "device 1 got message 2 after",
        "message 1 of device 0 is lost",
    ];
    let more = ["message 3 of device 2 was deleted", "message 4 of 5000 octets", "message 4 of 5000 octets"];
    assert_eq!(faults.len(), 7, "{faults:?}");
    for (fault, words) in faults.iter().zip(words.iter().chain(&more)) {
        assert!(fault.starts_with(words), "{fault}: {words}");
    }
}
