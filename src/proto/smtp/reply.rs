//! Replies (RFC 5321 §4.2): those that packetboat writes, and the lines of the server's.

use crate::proto::Step;

/// Writes a line of a reply.
pub(super) fn line(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a reply of one line: code, space, text.
pub(super) fn coded(code: &str, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(code.as_bytes());
    out.push(b' ');
    line(text, out);
}

/// Passes a line of the server on, of which `len` octets of the input are. A device may take a CR for a line's end, a NUL
/// for the end of a string, and other control characters for commands to its display.
pub(super) fn pass(input: &[u8], line: &[u8], len: usize, out: &mut Vec<u8>) -> Step {
    if input.get(line.len()) == Some(&b'\r') && !line.iter().any(u8::is_ascii_control) {
        return Step::Forward(len);
    }
    whole(line, out);
    Step::Consume(len)
}

/// Writes a line of the server, whatever ended it.
pub(super) fn whole(line: &[u8], out: &mut Vec<u8>) {
    out.extend(line.iter().map(|octet| if octet.is_ascii_control() { b' ' } else { *octet }));
    out.extend_from_slice(b"\r\n");
}

/// A line of the server's reply, without its line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplyLine<'a> {
    /// The three digits.
    pub(super) code: u16,
    /// No line of this reply follows.
    pub(super) is_last: bool,
    /// The text behind the code, with its enhanced status code.
    pub(super) text: &'a [u8],
}

impl<'a> ReplyLine<'a> {
    /// Reads a line. A code may stand alone, without a space (RFC 5321 §4.2).
    pub(super) fn read(line: &'a [u8]) -> Option<Self> {
        let (code, rest) = line.split_at_checked(3)?;
        if !matches!(code, [b'2'..=b'5', _, _]) || !code.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let code = code.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        let (is_last, text) = match rest {
            [] => (true, rest),
            [b' ', text @ ..] => (true, text),
            [b'-', text @ ..] => (false, text),
            _ => return None,
        };
        Some(Self { code, is_last, text })
    }

    /// Returns whether the server has done what it was asked.
    pub(super) fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// Returns whether the same command may succeed later.
    pub(super) fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// Returns the enhanced status code (RFC 2034 §4, RFC 3463 §2); an empty text where there is none.
    pub(super) fn enhanced(&self) -> &'a str {
        let word = self.text.split(|octet| *octet == b' ').next().unwrap_or_default();
        let is_code = word.len() <= LONGEST_ENHANCED
            && word.split(|octet| *octet == b'.').count() == 3
            && word.split(|octet| *octet == b'.').all(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit));
        if is_code { std::str::from_utf8(word).unwrap_or_default() } else { "" }
    }

    /// Returns whether the text holds these words, in any case.
    pub(super) fn says(&self, words: &str) -> bool {
        says(self.text, words)
    }

    /// Returns whether the text holds these words, in any case, where it repeats no address: the device chooses that.
    pub(super) fn says_beside_addresses(&self, words: &str) -> bool {
        let is_of_address = |word: &&[u8]| word.iter().any(|octet| b"@<>\"".contains(octet));
        let own: Vec<&[u8]> = self.text.split(|octet| *octet == b' ').filter(|word| !is_of_address(word)).collect();
        says(&own.join(&b' '), words)
    }
}

fn says(text: &[u8], words: &str) -> bool {
    memchr::memmem::find(&text.to_ascii_lowercase(), words.to_ascii_lowercase().as_bytes()).is_some()
}

/// RFC 3463 §2: one digit, and three each.
const LONGEST_ENHANCED: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_form() {
        let read = |line: &'static [u8]| ReplyLine::read(line).map(|one| (one.code, one.is_last, one.text));
        assert_eq!(read(b"250 OK"), Some((250, true, &b"OK"[..])));
        assert_eq!(read(b"250-SIZE 1"), Some((250, false, &b"SIZE 1"[..])));
        assert_eq!(read(b"334"), Some((334, true, &b""[..])));
        assert_eq!(read(b"334 "), Some((334, true, &b""[..])));
        for line in [&b""[..], b"25", b"2500", b"150 x", b"650 x", b"25x y", b"250_x", b" 250 x"] {
            assert_eq!(ReplyLine::read(line), None, "{line:?}");
        }
    }

    /// Octets beyond ASCII pass, because a text may be in UTF-8; control characters never do.
    #[test]
    fn no_control_character_reaches_a_device() {
        for octet in 0..=255_u8 {
            let line = [b"250 a".as_slice(), &[octet], b"b"].concat();
            let input = [line.as_slice(), b"\r\n"].concat();
            let mut out = Vec::new();
            let step = pass(&input, &line, input.len(), &mut out);
            if octet.is_ascii_control() {
                assert!(matches!(step, Step::Consume(len) if len == input.len()), "{octet}");
                assert_eq!(out, b"250 a b\r\n", "{octet}");
            } else {
                assert!(matches!(step, Step::Forward(len) if len == input.len()) && out.is_empty(), "{octet}");
            }
        }
    }

    #[test]
    fn enhanced_codes_are_three_numbers() {
        let enhanced = |line: &'static [u8]| ReplyLine::read(line).unwrap().enhanced();
        assert_eq!(enhanced(b"535 5.7.139 Authentication unsuccessful"), "5.7.139");
        assert_eq!(enhanced(b"550 5.7.60"), "5.7.60");
        for line in [&b"550 no"[..], b"550 5.7 x", b"550 5..7 x", b"550 5.7.x y", b"550 10.0.0.1.2 x", b"550"] {
            assert_eq!(ReplyLine::read(line).unwrap().enhanced(), "", "{line:?}");
        }
    }
}
