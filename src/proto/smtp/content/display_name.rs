//! Display names that are kept: quoted, or encoded anew (RFC 5322 §3.2.5, RFC 2047).
//!
//! Mail filters take a display name with an address in it for an attempt to deceive, and so such a name is dropped.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A word of a display name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A word without quotes; it may be an encoded one.
    Atom(Vec<u8>),
    /// The text of a quoted string, without quotes and backslashes.
    Quoted(Vec<u8>),
}

/// Returns the name as it is written, on as many lines as it takes; `None` if there is none, or it is not kept.
pub(super) fn kept(words: &[Word]) -> Option<String> {
    let length: usize = words.iter().map(|word| word.text().len() + 1).sum();
    let text = words.iter().map(Word::text).collect::<Vec<_>>().join(&b' ');
    if text.trim_ascii().is_empty() || length > LONGEST || hides_address(&text)? {
        return None;
    }
    let mut parts = Vec::<Part>::new();
    for word in words {
        match (word, parts.last_mut()) {
            (Word::Atom(atom), _) if EncodedWord::read(atom).is_some_and(|(_, len)| len == atom.len()) => {
                parts.push(Part::Encoded(String::from_utf8(atom.clone()).ok()?));
            }
            (word, Some(Part::Text(text))) => {
                text.push(b' ');
                text.extend_from_slice(word.text());
            }
            (word, _) => parts.push(Part::Text(word.text().to_vec())),
        }
    }
    let is_encoded = |at: Option<usize>| at.and_then(|at| parts.get(at)).is_some_and(|part| !part.is_quoted());
    let written = parts.iter().enumerate().flat_map(|(at, part)| {
        // A blank between encoded words is not shown: it has to be in one of them (RFC 2047 §6.2).
        part.written(is_encoded(at.checked_sub(1)), is_encoded(at.checked_add(1)))
    });
    Some(written.collect::<Vec<_>>().join("\r\n "))
}

/// A part of a name.
enum Part {
    /// An encoded word of the device's.
    Encoded(String),
    /// Other words.
    Text(Vec<u8>),
}

impl Part {
    fn is_quoted(&self) -> bool {
        matches!(self, Part::Text(text) if text.is_ascii())
    }

    /// Returns the words that stand for the part.
    fn written(&self, is_behind_encoded: bool, is_before_encoded: bool) -> Vec<String> {
        match self {
            Part::Encoded(word) => vec![word.clone()],
            Part::Text(text) if text.is_ascii() => {
                let text = String::from_utf8_lossy(text).replace('\\', "\\\\").replace('"', "\\\"");
                vec![format!("\"{text}\"")]
            }
            Part::Text(text) => {
                let blank = |is_there: bool| if is_there { &b" "[..] } else { b"" };
                encode(&[blank(is_behind_encoded), text, blank(is_before_encoded)].concat())
            }
        }
    }
}

/// Encodes a text in words of at most 75 octets (RFC 2047 §2). A text that is not UTF-8 counts as one in the character set
/// of Western Windows, which leaves no octet undefined in practice.
fn encode(text: &[u8]) -> Vec<String> {
    let word = |charset: &str, octets: &[u8]| format!("=?{charset}?B?{}?=", STANDARD.encode(octets));
    let Ok(text) = std::str::from_utf8(text) else {
        return text.chunks(ENCODED).map(|octets| word("windows-1252", octets)).collect();
    };
    let mut words = Vec::new();
    let mut octets = String::new();
    for c in text.chars() {
        if octets.len() + c.len_utf8() > ENCODED {
            words.push(word("utf-8", octets.as_bytes()));
            octets.clear();
        }
        octets.push(c);
    }
    words.push(word("utf-8", octets.as_bytes()));
    words
}

/// Returns whether the name has an address in it, plain or encoded, or a control character; `None` if it has an encoded
/// word that cannot be read.
fn hides_address(name: &[u8]) -> Option<bool> {
    let (mut shown, mut rest) = (Vec::new(), name);
    while let Some(at) = memchr::memmem::find(rest, b"=?") {
        shown.extend_from_slice(rest.get(..at)?);
        let (word, len) = EncodedWord::read(rest.get(at..)?)?;
        shown.extend(word.decode()?);
        rest = rest.get(at + len..)?;
    }
    shown.extend_from_slice(rest);
    let signs = [&b"@"[..], "\u{ff20}".as_bytes(), "\u{fe6b}".as_bytes()];
    let has = |sign: &&[u8]| memchr::memmem::find(&shown, sign).is_some();
    Some(signs.iter().any(has) || shown.iter().any(u8::is_ascii_control))
}

/// An encoded word (RFC 2047 §2).
struct EncodedWord<'a> {
    charset: &'a [u8],
    encoding: &'a [u8],
    text: &'a [u8],
}

impl<'a> EncodedWord<'a> {
    /// Reads the encoded word that `octets` begin with. Returns its length as well.
    fn read(octets: &'a [u8]) -> Option<(Self, usize)> {
        let behind = octets.strip_prefix(b"=?")?;
        let mut parts = behind.splitn(4, |octet| *octet == b'?');
        let (charset, encoding, text) = (parts.next()?, parts.next()?, parts.next()?);
        parts.next()?.strip_prefix(b"=")?;
        let is_token = |octet: &u8| octet.is_ascii_alphanumeric() || b"-_.+:*".contains(octet);
        if !charset.iter().all(is_token) || !text.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let len = "=?".len() + charset.len() + 1 + encoding.len() + 1 + text.len() + "?=".len();
        Some((Self { charset, encoding, text }, len))
    }

    /// Returns the octets of the word, if its character set has ASCII in it.
    fn decode(&self) -> Option<Vec<u8>> {
        let charset = self.charset.to_ascii_lowercase();
        if !CHARSETS.iter().any(|known| charset.starts_with(known)) {
            return None;
        }
        match self.encoding {
            b"B" | b"b" => STANDARD.decode(self.text).ok(),
            b"Q" | b"q" => quoted_printable(self.text),
            _ => None,
        }
    }
}

/// Decodes the Q encoding (RFC 2047 §4.2).
fn quoted_printable(text: &[u8]) -> Option<Vec<u8>> {
    let (mut octets, mut rest) = (Vec::new(), text);
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        octets.push(match first {
            b'_' => b' ',
            b'=' => {
                let (digits, behind) = rest.split_at_checked(2)?;
                rest = behind;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            other => *other,
        });
    }
    Some(octets)
}

impl Word {
    fn text(&self) -> &[u8] {
        match self {
            Word::Atom(text) | Word::Quoted(text) => text,
        }
    }
}

/// The longest name that is kept, in octets.
const LONGEST: usize = 256;

/// The number of octets in an encoded word that packetboat writes.
const ENCODED: usize = 39;

/// The beginnings of the names of character sets in which an at sign is the octet of ASCII.
const CHARSETS: [&[u8]; 12] = [
    b"utf-8",
    b"us-ascii",
    b"iso-8859-",
    b"windows-12",
    b"cp12",
    b"gb",
    b"big5",
    b"shift_jis",
    b"euc-",
    b"iso-2022-",
    b"koi8-",
    b"ks_c_5601",
];
