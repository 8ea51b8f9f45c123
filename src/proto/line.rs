//! Lines and words at the beginning of a buffer, with bounds.

/// The beginning of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A line with its end.
    Complete {
        /// The text, without the line end.
        text: &'a [u8],
        /// The length in octets, with the line end.
        len: usize,
    },
    /// The line end has not come yet.
    Incomplete,
    /// The line is longer than the bound, whether or not its end is there.
    TooLong,
}

impl<'a> Line<'a> {
    /// Splits off the line that `input` begins with, if its text has no more than `max` octets.
    ///
    /// A line ends with CRLF (RFC 3501 §2.2, RFC 1939 §3); a bare LF is taken as well, because some devices send it.
    pub(super) fn split(input: &'a [u8], max: usize) -> Self {
        let window = input.get(..max.saturating_add(2)).unwrap_or(input);
        match memchr::memchr(b'\n', window) {
            Some(end) => {
                let text = input.get(..end).unwrap_or_default();
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                if text.len() > max { Line::TooLong } else { Line::Complete { text, len: end + 1 } }
            }
            None if window.len() < max.saturating_add(2) => Line::Incomplete,
            None => Line::TooLong,
        }
    }
}

/// Splits off the first word. The rest begins behind one space.
pub(super) fn word(text: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b' ', text) {
        Some(space) => (text.get(..space).unwrap_or_default(), text.get(space + 1..).unwrap_or_default()),
        None => (text, &[]),
    }
}

/// Splits off the first word as the most lenient server reads it. Blanks and control characters before the word are
/// overlooked, and each of them ends it. The rest begins with the octet that ended it.
pub(super) fn lenient_word(text: &[u8]) -> (&[u8], &[u8]) {
    let is_blank = |octet: &u8| *octet <= b' ' || *octet == 0x7f;
    let start = text.iter().position(|octet| !is_blank(octet)).unwrap_or(text.len());
    let text = text.get(start..).unwrap_or_default();
    text.split_at(text.iter().position(is_blank).unwrap_or(text.len()))
}

/// The first octets of a line, kept across reads: enough to tell what the line is.
pub(super) struct Head<const N: usize> {
    octets: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Head<N> {
    fn default() -> Self {
        Self { octets: [0; N], len: 0 }
    }
}

impl<const N: usize> Head<N> {
    /// Takes as many octets as still have room.
    pub(super) fn push(&mut self, part: &[u8]) {
        for (slot, &octet) in self.octets.iter_mut().skip(self.len).zip(part) {
            *slot = octet;
        }
        self.len = N.min(self.len + part.len());
    }

    /// Returns the octets that were taken.
    pub(super) fn octets(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or_default()
    }

    /// Forgets the line, for the next one.
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_crlf_or_lf() {
        assert_eq!(Line::split(b"NOOP\r\nQUIT", 10), Line::Complete { text: b"NOOP", len: 6 });
        assert_eq!(Line::split(b"NOOP\nQUIT", 10), Line::Complete { text: b"NOOP", len: 5 });
        assert_eq!(Line::split(b"NOOP\r", 10), Line::Incomplete);
    }

    #[test]
    fn the_bound_holds_at_every_cut() {
        let long = b"12345\r\n";
        for cut in 0..=long.len() {
            let line = Line::split(&long[..cut], 4);
            assert!(!matches!(line, Line::Complete { .. }), "{cut}: {line:?}");
        }
        assert_eq!(Line::split(long, 5), Line::Complete { text: b"12345", len: 7 });
        assert_eq!(Line::split(b"123456", 4), Line::TooLong);
    }
}
