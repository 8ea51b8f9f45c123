//! Literals (RFC 3501 §4.3, RFC 7888) are announced at the end of a line, then counted down.

/// The announcement of a literal: `{n}`, or `{n+}` (RFC 3501 §4.3, RFC 7888 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Literal {
    /// The length in octets.
    pub(super) size: u64,
    /// The sender waits until it is asked for the literal.
    pub(super) synchronising: bool,
}

impl Literal {
    /// Reads the literal that a line announces at its end. The line comes without its line end.
    pub(super) fn at_end_of(line: &[u8]) -> Option<Self> {
        let inner = line.strip_suffix(b"}")?;
        let (inner, synchronising) = match inner.strip_suffix(b"+") {
            Some(inner) => (inner, false),
            None => (inner, true),
        };
        let digits = inner.get(memchr::memrchr(b'{', inner)? + 1..)?;
        if digits.is_empty() || digits.len() > LONGEST_NUMBER {
            return None;
        }
        let mut size = 0_u64;
        for &octet in digits {
            size =
                size.checked_mul(10)?.checked_add(u64::from(octet.checked_sub(b'0').filter(|digit| *digit < 10)?))?;
        }
        Some(Self { size, synchronising })
    }
}

/// The last octets of a line, kept across reads: enough for a literal's announcement and the line end.
#[derive(Clone, Copy, Default)]
pub(super) struct Tail {
    octets: [u8; TAIL],
    len: usize,
}

impl Tail {
    pub(super) fn push(&mut self, part: &[u8]) {
        if let Some(end) = part.len().checked_sub(TAIL).and_then(|start| part.get(start..)) {
            self.octets.copy_from_slice(end);
            self.len = TAIL;
            return;
        }
        let drop = (self.len + part.len()).saturating_sub(TAIL);
        self.octets.copy_within(drop.., 0);
        self.len -= drop;
        for (slot, &octet) in self.octets.iter_mut().skip(self.len).zip(part) {
            *slot = octet;
        }
        self.len += part.len();
    }

    /// Reads the literal that a line announces, from the last part of the line with its line end. Empties the tail.
    pub(super) fn end_line(&mut self, part: &[u8]) -> Option<Literal> {
        // Most lines come whole, and are read where they are.
        let line = if self.len == 0 {
            part
        } else {
            self.push(part);
            self.octets.get(..self.len)?
        };
        let line = line.strip_suffix(b"\n")?;
        let literal = Literal::at_end_of(line.strip_suffix(b"\r").unwrap_or(line));
        self.len = 0;
        literal
    }
}

/// Returns how much of a literal is left once `available` octets of it are there, and how many of these belong to it.
pub(super) fn count_down(left: u64, available: usize) -> (u64, usize) {
    let passed = usize::try_from(left).unwrap_or(usize::MAX).min(available);
    (left.saturating_sub(passed as u64), passed)
}

/// The length of `{`, 20 digits, `+}` and CRLF.
const TAIL: usize = 25;
const LONGEST_NUMBER: usize = 20;
