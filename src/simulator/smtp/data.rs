//! The reader of data finds the end of a message (RFC 5321 §4.1.1.4): CRLF `.` CRLF, and on request what other servers
//! take for it.

use memchr::memmem;

/// Reads data until its end.
pub(super) struct DataReader {
    /// The line end of DATA's own line, and the octets behind it.
    buffer: Vec<u8>,
    ends: Vec<Vec<u8>>,
    /// The number of octets that were dropped from the buffer.
    dropped: usize,
    /// The most octets that are kept.
    most: usize,
}

/// Data that has come to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Data {
    /// The octets up to the last line's end; empty if they were too many.
    pub(super) octets: Vec<u8>,
    /// Their number.
    pub(super) length: usize,
    /// The octets that ended the data.
    pub(super) ended_by: Vec<u8>,
    /// The octets behind the end.
    pub(super) rest: Vec<u8>,
}

impl DataReader {
    /// A reader that takes CRLF `.` CRLF for the end, and these octets too.
    pub(super) fn new(mut more_ends: Vec<Vec<u8>>, most: usize) -> Self {
        more_ends.push(STRICT.to_vec());
        // Of two ends at the same octet the longer one counts.
        more_ends.sort_by_key(|end| std::cmp::Reverse(end.len()));
        Self { buffer: LINE_END.to_vec(), ends: more_ends, dropped: 0, most }
    }

    /// The number of octets so far.
    pub(super) fn length(&self) -> usize {
        self.dropped + self.buffer.len() - LINE_END.len()
    }

    /// Takes more octets; returns the data once its end is there.
    pub(super) fn push(&mut self, octets: &[u8]) -> Option<Data> {
        let longest = self.ends.iter().map(Vec::len).max().unwrap_or_default();
        let from = self.buffer.len().saturating_sub(longest);
        self.buffer.extend_from_slice(octets);
        let unsearched = self.buffer.get(from..).unwrap_or_default();
        let found = self.ends.iter().filter_map(|end| find(unsearched, end)).min_by_key(|(_, end)| *end);
        let Some((start, end)) = found.map(|(start, end)| (from + start, from + end)) else {
            self.drop_excess(longest);
            return None;
        };
        let rest = self.buffer.split_off(end);
        let ended_by = self.buffer.get(start..).unwrap_or_default().to_vec();
        // The line end before the dot belongs to the message.
        let dot = ended_by.iter().position(|octet| *octet == b'.').unwrap_or_default();
        self.buffer.truncate(start + dot);
        let length = self.length();
        let octets = if self.dropped > 0 { Vec::new() } else { self.buffer.split_off(LINE_END.len()) };
        Some(Data { octets, length, ended_by, rest })
    }

    fn drop_excess(&mut self, longest: usize) {
        if self.dropped > 0 || self.buffer.len() > self.most {
            let excess = self.buffer.len().saturating_sub(longest);
            self.buffer.drain(..excess);
            self.dropped += excess;
        }
    }
}

/// The first and last octet of the first such end. A CR at its end waits for the next octet, which may be LF.
fn find(octets: &[u8], end: &[u8]) -> Option<(usize, usize)> {
    let start = memmem::find(octets, end)?;
    let behind = start + end.len();
    if !end.ends_with(b"\r") {
        return Some((start, behind));
    }
    let is_line_end = *octets.get(behind)? == b'\n';
    Some((start, behind + usize::from(is_line_end)))
}

const LINE_END: &[u8] = b"\r\n";
const STRICT: &[u8] = b"\r\n.\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::quirks::smtp::LENIENT_ENDS;

    /// Reads the octets in two pieces at every cut; the result is always the same.
    fn read(ends: &[&[u8]], octets: &[u8]) -> Option<Data> {
        let ends: Vec<Vec<u8>> = ends.iter().map(|end| end.to_vec()).collect();
        let at = |cut: usize| {
            let mut reader = DataReader::new(ends.clone(), 1000);
            let (one, two) = octets.split_at(cut);
            match reader.push(one) {
                Some(data) => Some(Data { rest: [data.rest.as_slice(), two].concat(), ..data }),
                None => reader.push(two),
            }
        };
        let whole = at(octets.len());
        for cut in 0..octets.len() {
            assert_eq!(at(cut), whole, "{octets:?} cut at {cut}");
        }
        whole
    }

    #[test]
    fn only_the_strict_end_ends() {
        for (name, end) in LENIENT_ENDS {
            let smuggled = [b"a", end, b"MAIL\r\n.\r\nQUIT\r\n"].concat();
            let data = read(&[], &smuggled).unwrap();
            assert_eq!(data.length, smuggled.len() - b".\r\nQUIT\r\n".len(), "{name}");
            assert_eq!((data.ended_by.as_slice(), data.rest.as_slice()), (STRICT, b"QUIT\r\n".as_slice()), "{name}");
        }
        let empty = read(&[], b".\r\n").unwrap();
        assert_eq!((empty.octets.as_slice(), empty.length), (b"".as_slice(), 0));
        assert_eq!(read(&[], b"..\r\n.\r"), None);
        let dots = read(&[], b"a\r\n..\r\n.\r\n").unwrap();
        assert_eq!(dots.octets, b"a\r\n..\r\n");
    }

    #[test]
    fn a_lenient_server_takes_another_end() {
        for (name, end) in LENIENT_ENDS {
            let smuggled = [b"a", end, b"MAIL\r\n.\r\nQUIT\r\n"].concat();
            let data = read(&[end], &smuggled).unwrap();
            assert_eq!((data.ended_by.as_slice(), data.octets.first()), (end, Some(&b'a')), "{name}");
            assert!(data.rest.starts_with(b"MAIL"), "{name}");
        }
        let strict = read(&[b"\r\n.\r", b"\n.\r\n"], b"a\r\n.\r\nb").unwrap();
        assert_eq!((strict.ended_by.as_slice(), strict.rest.as_slice()), (STRICT, b"b".as_slice()));
    }

    #[test]
    fn of_a_long_message_only_the_length_is_kept() {
        let mut reader = DataReader::new(Vec::new(), 1000);
        for _ in 0..500 {
            assert_eq!(reader.push(b"0123456789\r\n"), None);
        }
        assert_eq!(reader.length(), 6000);
        let data = reader.push(b".\r\nX").unwrap();
        assert_eq!((data.length, data.octets.len(), data.rest.as_slice()), (6000, 0, b"X".as_slice()));
    }
}
