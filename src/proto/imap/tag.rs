//! Tags (RFC 3501 §9), which a device gives its commands and finds in the responses.

use crate::proto::line::word;

/// The tag of a response to a command that has none.
pub(super) const UNTAGGED: &[u8] = b"*";

/// Returns the word as the tag of a command before login, or [`UNTAGGED`] if it is none. The tag is only echoed, so
/// it must not be mistaken for anything else.
pub(super) fn echoed(word: &[u8]) -> &[u8] {
    if is_echoed(word) { word } else { UNTAGGED }
}

/// Returns whether a word may be echoed as a tag.
pub(super) fn is_echoed(word: &[u8]) -> bool {
    !word.is_empty()
        && !matches!(word.first(), Some(b'*' | b'+'))
        && word.iter().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'(' | b')' | b'{' | b'\\'))
}

/// Returns the word as a tag that every server takes for one, or [`UNTAGGED`] if it is none: `1*<any ASTRING-CHAR
/// except "+">`, of bounded length.
pub(super) fn strict(word: &[u8]) -> &[u8] {
    let is_tag =
        word.len() <= LONGEST && word.iter().all(|octet| octet.is_ascii_graphic() && !b"(){%*\"\\+".contains(octet));
    if is_tag && !word.is_empty() { word } else { UNTAGGED }
}

/// Returns the strict tag that a line begins with.
pub(super) fn strict_of(line: &[u8]) -> &[u8] {
    strict(word(line.get(..=LONGEST).unwrap_or(line)).0)
}

/// The longest strict tag, in octets.
pub(super) const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unmistakable_words_are_tags() {
        for tag in [&b"a1"[..], b"A.1-~!#$&',/:;<=>?@[]^_`|"] {
            assert_eq!((echoed(tag), strict(tag), strict_of(&[tag, b" NOOP"].concat())), (tag, tag, tag));
        }
        for word in [&b""[..], b"*", b"+", b"+a", b"a(b", b"a{", b"a\"", b"\xfc", b"a\0"] {
            assert_eq!((echoed(word), strict(word), strict_of(word)), (UNTAGGED, UNTAGGED, UNTAGGED), "{word:?}");
        }
        for word in [&b"a+1"[..], b"a%", b"a*", &[b'a'; LONGEST + 1]] {
            assert_eq!((echoed(word), strict(word)), (word, UNTAGGED), "{word:?}");
        }
        assert_eq!(strict_of(&[b'a'; LONGEST]), [b'a'; LONGEST]);
    }
}
