//! Text as editors, shells and portals write it: with a byte order mark, line ends, or all of it in UTF-16; and
//! [`Printable`] text for terminals and logs.

mod printable;

use std::fmt;

use zeroize::Zeroizing;

pub use printable::{Printable, Style};

/// The reason why octets are no text of the wanted form. The words follow the name of the file, and say what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The text is in UTF-16.
    Utf16,
    /// A file that a person writes is in another encoding than UTF-8.
    NotUtf8,
    /// A secret is in another encoding than UTF-8.
    SecretNotUtf8,
    /// A secret has several lines.
    SeveralLines,
    /// A secret holds a character that nobody sees.
    Invisible(char),
    /// The text is in DER, not in PEM.
    Der,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Utf16 => UTF_16,
            Self::NotUtf8 => "is no text in UTF-8; save it in UTF-8 with a text editor",
            Self::SecretNotUtf8 => "is no text in UTF-8; write it anew",
            Self::SeveralLines => "has several lines; write the secret on one line, and nothing else",
            Self::Invisible(c) => {
                return write!(
                    f,
                    "holds a character that nobody sees (U+{:04X}), as text that is copied from a page or a terminal \
                     may; type it anew",
                    u32::from(*c)
                );
            }
            Self::Der => {
                "is not in PEM; convert it with: openssl x509 -inform der (a .cer or .der file), openssl pkey -inform \
                 der (a key), or openssl pkcs12 -nodes (a .pfx file)"
            }
        })
    }
}

impl std::error::Error for Error {}

/// Returns a text as a shell takes it: one word.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@,+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Returns text without the byte order mark that Windows programs put in front of it.
pub fn without_mark(octets: &[u8]) -> &[u8] {
    octets.strip_prefix(MARK).unwrap_or(octets)
}

/// Returns text in UTF-8, without a byte order mark.
///
/// # Errors
/// It is in another encoding; the text says what to do.
pub fn utf_8(octets: &[u8]) -> Result<&str, Error> {
    if is_utf_16(octets) {
        return Err(Error::Utf16);
    }
    std::str::from_utf8(without_mark(octets)).map_err(|_| Error::NotUtf8)
}

/// Returns one line of text in UTF-8, without a byte order mark and without the line ends behind it.
///
/// # Errors
/// It holds something that nobody sees and nobody means; the text says what to do.
pub fn one_line(octets: &[u8]) -> Result<&str, Error> {
    if is_utf_16(octets) {
        return Err(Error::Utf16);
    }
    let text = std::str::from_utf8(without_mark(octets)).map_err(|_| Error::SecretNotUtf8)?;
    let line = text.trim_end_matches(['\r', '\n']);
    match line.chars().find(|&c| is_invisible(c)) {
        None => Ok(line),
        Some('\r' | '\n') => Err(Error::SeveralLines),
        Some(c) => Err(Error::Invisible(c)),
    }
}

/// Returns PEM (RFC 7468), without the byte order marks of all the files that it was put together from.
///
/// # Errors
/// It is in another encoding; the text says what to do.
pub fn pem(octets: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    if is_utf_16(octets) {
        return Err(Error::Utf16);
    }
    // ASN.1's SEQUENCE with a length of two octets: no text begins so.
    if octets.starts_with(&[0x30, 0x82]) {
        return Err(Error::Der);
    }
    let mut text = Zeroizing::new(Vec::with_capacity(octets.len()));
    let mut rest = octets;
    while let Some((first, behind)) = rest.split_first() {
        match rest.strip_prefix(MARK) {
            Some(behind) => rest = behind,
            None => {
                text.push(*first);
                rest = behind;
            }
        }
    }
    Ok(text)
}

/// Returns whether this is UTF-16: with its mark, or as ASCII looks in it, with every other octet NUL.
pub fn is_utf_16(octets: &[u8]) -> bool {
    matches!(octets, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, (1..), ..] | [(1..), 0, ..])
}

/// Returns whether nobody sees a character: controls, marks of order and direction, blanks of no width, and tags.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Returns text of a peer as a log may have it: printable ASCII, bounded.
pub fn excerpt(text: &[u8]) -> String {
    const LONGEST: usize = 120;
    let mut shown: String = text
        .iter()
        .take(LONGEST)
        .map(|&octet| if (0x20..0x7f).contains(&octet) { char::from(octet) } else { '?' })
        .collect();
    if text.len() > LONGEST {
        shown.push_str("...");
    }
    shown
}

/// The byte order mark, U+FEFF, in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// The words about UTF-16, as the end of a sentence that begins with the file.
const UTF_16: &str = "is in UTF-16, as Windows PowerShell's > writes it; save it in UTF-8 (Set-Content -Encoding \
     ascii), or convert it here with: iconv -f UTF-16 -t UTF-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_editors_and_shells_write_them() {
        for (octets, line) in [
            (b"s3cret".as_slice(), "s3cret"),
            (b"s3cret\r\n", "s3cret"),
            (b"s3cret\n\n", "s3cret"),
            (b"\xef\xbb\xbfs3cret\r\n", "s3cret"),
            (b" a~b c+d/e=&%\"' ", " a~b c+d/e=&%\"' "),
            ("p\u{e4}sswort".as_bytes(), "p\u{e4}sswort"),
            (b"", ""),
            (b"\xef\xbb\xbf", ""),
        ] {
            assert_eq!(one_line(octets).as_deref(), Ok(line), "{octets:?}");
        }
    }

    #[test]
    fn ambiguous_or_invisible_octets_are_refused() {
        for (octets, words) in [
            (b"id\nsecret\n".as_slice(), "on one line"),
            (b"s3\tcret", "(U+0009)"),
            (b"s3cret\x7f", "(U+007F)"),
            ("s3cret\u{200b}\n".as_bytes(), "(U+200B)"),
            ("s3\u{feff}cret".as_bytes(), "(U+FEFF)"),
            (b"\xef\xbb\xbf\xef\xbb\xbfs", "(U+FEFF)"),
            (b"\xff\xfes\x003\0", "iconv -f UTF-16"),
            (b"\xfe\xff\0s\x003", "iconv -f UTF-16"),
            (b"s\x003\0", "iconv -f UTF-16"),
            (b"p\xe4ss", "is no text in UTF-8"),
        ] {
            let message = one_line(octets).unwrap_err().to_string();
            assert!(message.contains(words), "{octets:?}: {message}");
        }
    }

    #[test]
    fn several_lines_and_certificates() {
        assert_eq!(pem(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n").unwrap().as_slice(), b"a\nb\n");
        assert_eq!(utf_8(b"\xef\xbb\xbfa = 1\r\n[b]\n"), Ok("a = 1\r\n[b]\n"));
        assert!(pem(b"\xff\xfe-\0").unwrap_err().to_string().contains("UTF-16"));
        assert!(pem(&[0x30, 0x82, 1, 2]).unwrap_err().to_string().contains("-inform der"));
    }

    #[test]
    fn control_characters_do_not_reach_a_log() {
        assert_eq!(excerpt(b"a\x1b[1m\r\nb"), "a?[1m??b");
    }
}
