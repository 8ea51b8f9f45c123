//! Defects are what the checker finds in a submission: octets that a server could misread, and senders that Exchange
//! refuses.

/// Something wrong with a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Defect {
    /// LF without CR before it, first at this octet.
    BareLf(usize),
    /// CR without LF behind it, first at this octet.
    BareCr(usize),
    /// NUL, first at this octet.
    Nul(usize),
    /// A line that begins with a dot that is not doubled, first at this octet.
    SingleDot(usize),
    /// A line longer than 998 octets, first at this octet (RFC 5322 §2.1.1).
    LongLine(usize),
    /// The end is not CRLF `.` CRLF; its octets.
    OddEnd(Vec<u8>),
    /// The envelope's sender is not the mailbox.
    ForeignSender(String),
    /// The header field From has another address than the mailbox.
    ForeignFrom(String),
    /// There is no header field From, or more than one, or one without an address.
    NoFrom,
}

/// The first defect of each kind in the octets of a message with doubled dots.
pub(in crate::simulator) fn of_octets(data: &[u8]) -> Vec<Defect> {
    let at = |offset: usize| data.get(offset).copied();
    let before = |offset: usize| offset.checked_sub(1).and_then(at);
    let bare_lf = memchr::memchr_iter(b'\n', data).find(|&offset| before(offset) != Some(b'\r'));
    let bare_cr = memchr::memchr_iter(b'\r', data).find(|&offset| at(offset + 1) != Some(b'\n'));
    let starts = || std::iter::once(0).chain(memchr::memmem::find_iter(data, b"\r\n").map(|end| end + 2));
    let single_dot = starts().find(|&start| at(start) == Some(b'.') && at(start + 1) != Some(b'.'));
    let ends = starts().skip(1).map(|start| start - 2).chain([data.len()]);
    let long_line = starts().zip(ends).find(|(start, end)| end.saturating_sub(*start) > LONGEST_LINE);
    let found = [
        bare_lf.map(Defect::BareLf),
        bare_cr.map(Defect::BareCr),
        memchr::memchr(0, data).map(Defect::Nul),
        single_dot.map(Defect::SingleDot),
        long_line.map(|(start, _)| Defect::LongLine(start)),
    ];
    found.into_iter().flatten().collect()
}

const LONGEST_LINE: usize = 998;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind() {
        assert_eq!(of_octets(b"a\r\n..\r\n\r\n"), []);
        let line = [b"x".repeat(998), b"\r\n".to_vec()].concat();
        assert_eq!(of_octets(&line), []);
        assert_eq!(of_octets(&[b"x", line.as_slice()].concat()), [Defect::LongLine(0)]);
        let odd = b"a\n.\r\rb\0\r\n.c\r\nd\r";
        assert_eq!(of_octets(odd), [Defect::BareLf(1), Defect::BareCr(3), Defect::Nul(6), Defect::SingleDot(9)]);
    }
}
