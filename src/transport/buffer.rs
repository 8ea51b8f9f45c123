//! Buffers for octets on their way: lent by the worker thread only while they hold some.
//!
//! One size for all: what eight full TLS records need (RFC 5246 §6.2.1), so that one system call and one call of a TLS
//! library carry 128 KiB; with half of that bulk costs a twentieth more, with twice as much it costs the same. Small
//! records are gathered into full ones on the way, which costs the peer and us less.

use std::cell::RefCell;

use zeroize::Zeroize;

/// Octets that have come and not yet gone on: `..start` has gone, `start..end` is there, `end..` is room.
#[derive(Default)]
pub struct Buffer {
    /// The octets; none while it holds nothing.
    octets: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// Returns the octets that it holds.
    pub fn filled(&self) -> &[u8] {
        self.octets.get(self.start..self.end).unwrap_or_default()
    }

    /// Returns the octets that it holds, to be changed in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        self.octets.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Returns the number of octets that it holds.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Returns whether it holds no octets.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Room behind what is there, so that no more than `most` are held; what is there moves to the front where there
    /// is none left behind it. Tell [`filled_by`](Self::filled_by) what was put there, or [`rest`](Self::rest).
    pub fn room(&mut self, most: usize) -> &mut [u8] {
        if self.octets.len() < CAPACITY {
            self.lend();
        }
        if self.end >= most.min(self.octets.len()) {
            self.move_up();
        }
        let most = most.min(self.octets.len());
        self.octets.get_mut(self.end..most).unwrap_or_default()
    }

    /// Moves the octets to the front, so that all room is in one piece, and returns its size.
    pub fn gather_room(&mut self) -> usize {
        self.move_up();
        CAPACITY - self.len().min(CAPACITY)
    }

    fn move_up(&mut self) {
        if self.start > 0 {
            self.octets.copy_within(self.start..self.end, 0);
            let held = self.end - self.start;
            // The octets that stay behind could be half a password.
            if let Some(stale) = self.octets.get_mut(held.max(self.start)..self.end) {
                stale.zeroize();
            }
            self.end = held;
            self.start = 0;
        }
    }

    /// Takes in that so many octets were put into the room.
    pub fn filled_by(&mut self, count: usize) {
        self.end = self.octets.len().min(self.end + count);
    }

    /// Takes in that the first `count` octets have gone on.
    pub fn pass(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
        if self.is_empty() {
            self.give_back();
        }
    }

    /// Wipes the first `count` octets, which have been read and may have held a password.
    pub fn wipe(&mut self, count: usize) {
        let end = self.end.min(self.start + count);
        if let Some(read) = self.octets.get_mut(self.start..end) {
            read.zeroize();
        }
        self.pass(count);
    }

    /// Adds as many of these octets as there is room for, and returns their number.
    pub fn take_in(&mut self, octets: &[u8]) -> usize {
        let room = self.room(CAPACITY);
        let count = room.len().min(octets.len());
        if let (Some(room), Some(octets)) = (room.get_mut(..count), octets.get(..count)) {
            room.copy_from_slice(octets);
        }
        self.filled_by(count);
        count
    }

    /// Puts octets in front of what it holds.
    pub fn put_back(&mut self, octets: &[u8]) {
        let joined = [octets, self.filled()].concat();
        self.wipe(self.len());
        self.octets = joined.into_boxed_slice();
        (self.start, self.end) = (0, self.octets.len());
    }

    /// Gives room back when no more octets come for now. A peer that stalls after half a line or half a record then
    /// holds no more memory than that half. A large half keeps its room, because copying it in the middle of bulk costs
    /// too much.
    pub fn rest(&mut self) {
        self.rest_with(SMALL);
    }

    /// Gives room back where no traffic is bulk, as before login. A half may be as long as the peer likes there, and
    /// never keeps more room than its own length.
    pub fn rest_closely(&mut self) {
        self.rest_with(LARGEST);
    }

    fn rest_with(&mut self, most: usize) {
        if self.is_empty() {
            self.give_back();
        } else if self.octets.len() == CAPACITY && self.len() <= most {
            let held: Box<[u8]> = self.filled().into();
            self.wipe(held.len());
            (self.start, self.end) = (0, held.len());
            self.octets = held;
        }
    }

    fn lend(&mut self) {
        let mut octets = POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; CAPACITY].into_boxed_slice());
        let held = self.filled();
        let count = held.len();
        if let Some(front) = octets.get_mut(..count) {
            front.copy_from_slice(held);
        }
        self.octets.zeroize();
        self.octets = octets;
        (self.start, self.end) = (0, count);
    }

    fn give_back(&mut self) {
        let octets = std::mem::take(&mut self.octets);
        (self.start, self.end) = (0, 0);
        if octets.len() == CAPACITY {
            // A thread at its end has no pool, and nothing to lend to.
            let _ = POOL.try_with(|pool| {
                let mut pool = pool.borrow_mut();
                if pool.len() < POOLED {
                    pool.push(octets);
                }
            });
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // A password that nobody has read, say.
        self.wipe(self.len());
        self.give_back();
    }
}

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Plaintext of eight full records.
pub const PLAINTEXT: usize = 8 * 16 * 1024;
/// Eight full records encrypted; no cipher suite adds more than 256 octets a record.
pub const CAPACITY: usize = PLAINTEXT + 8 * 256;
/// The most octets that a waiting connection keeps without a whole buffer.
const SMALL: usize = 4096;
/// Longer than a ClientHello, a line or a literal before login may be (`limits.sasl_line`).
const LARGEST: usize = 64 * 1024;
/// Buffers that a worker thread keeps for its next reads.
const POOLED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_buffer_has_no_memory() {
        let mut buffer = Buffer::default();
        assert_eq!(buffer.take_in(b"NOOP\r\n"), 6);
        assert_eq!(buffer.filled(), b"NOOP\r\n");
        buffer.pass(2);
        assert_eq!(buffer.filled(), b"OP\r\n");
        buffer.pass(4);
        assert!(buffer.octets.is_empty());
        assert_eq!(POOL.with_borrow(Vec::len), 1);
        buffer.room(CAPACITY);
        buffer.rest();
        assert!(buffer.octets.is_empty());
    }

    #[test]
    fn a_stalled_half_line_holds_its_own_octets_only() {
        let mut buffer = Buffer::default();
        buffer.take_in(b"a LOGIN u pass");
        buffer.rest();
        assert_eq!(buffer.octets.len(), 14);
        // The buffer given back holds nothing of it.
        assert!(POOL.with_borrow(|pool| pool.iter().all(|octets| octets.iter().all(|&octet| octet == 0))));
        buffer.take_in(b"word\r\n");
        assert_eq!(buffer.filled(), b"a LOGIN u password\r\n");
    }

    #[test]
    fn a_large_half_is_held_by_itself_where_there_is_no_bulk() {
        let mut buffer = Buffer::default();
        buffer.take_in(&[7; 20_000]);
        buffer.rest();
        assert_eq!(buffer.octets.len(), CAPACITY);
        buffer.rest_closely();
        assert_eq!(buffer.octets.len(), 20_000);
    }

    #[test]
    fn room_comes_back_to_the_front() {
        let mut buffer = Buffer::default();
        assert_eq!(buffer.take_in(&[7; PLAINTEXT]), PLAINTEXT);
        buffer.pass(PLAINTEXT - 3);
        assert!(buffer.room(PLAINTEXT).len() == PLAINTEXT - 3);
        assert_eq!(buffer.filled(), [7; 3]);
        assert_eq!(buffer.take_in(&[8; CAPACITY]), CAPACITY - 3);
        assert!(buffer.room(PLAINTEXT).is_empty());
        buffer.put_back(b"x");
        assert_eq!(buffer.len(), CAPACITY + 1);
        assert_eq!(buffer.filled()[..5], [b'x', 7, 7, 7, 8]);
    }
}
