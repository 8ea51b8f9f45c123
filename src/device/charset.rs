//! Text of devices that know nothing of UTF-8: they send Windows-1252, which is ISO 8859-1 with the euro sign.
//!
//! RFC 4616 and RFC 6855 want UTF-8 in user names and passwords, and RFC 3501 names no character set for LOGIN: what is
//! typed as `ü` or `£` comes as one octet from a device of that time, and as two from a newer one.

use crate::secret::Secret;

/// Returns the readings of a password: as it was sent, and in the other character set. Their number depends on nothing
/// but what was sent.
///
/// Accents that are characters of their own (NFD) are not composed: keyboards send one character (NFC), and so do the
/// terminals that `packetboat password --stdin` reads from.
pub(super) fn readings(password: &Secret) -> Vec<Secret> {
    let sent = password.expose();
    let other = match std::str::from_utf8(sent) {
        _ if sent.is_ascii() => None,
        Ok(text) => to_windows_1252(text),
        Err(_) => Some(from_windows_1252(sent).into_bytes()),
    };
    [Some(password.clone()), other.map(Secret::new)].into_iter().flatten().collect()
}

/// Decodes UTF-8 as it is, and everything else as Windows-1252.
pub(super) fn text(octets: &[u8]) -> String {
    match std::str::from_utf8(octets) {
        Ok(text) => text.to_owned(),
        Err(_) => from_windows_1252(octets),
    }
}

fn from_windows_1252(octets: &[u8]) -> String {
    // No octet becomes more than three, so that no copy of a password is left behind where the text had to grow.
    let mut text = String::with_capacity(3 * octets.len());
    text.extend(octets.iter().map(|&octet| {
        let own = OWN.iter().find(|(known, _)| *known == octet);
        own.map_or(char::from(octet), |(_, character)| *character)
    }));
    text
}

/// Encodes a text; none where the set lacks a character.
fn to_windows_1252(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    for character in text.chars() {
        let own = OWN.iter().find(|(_, known)| *known == character);
        octets.push(own.map_or_else(|| u8::try_from(character).ok(), |(octet, _)| Some(*octet))?);
    }
    Some(octets)
}

/// Characters of Windows-1252 that ISO 8859-1 lacks (WHATWG Encoding §9).
const OWN: &[(u8, char)] = &[
    (0x80, '\u{20ac}'),
    (0x82, '\u{201a}'),
    (0x83, '\u{192}'),
    (0x84, '\u{201e}'),
    (0x85, '\u{2026}'),
    (0x86, '\u{2020}'),
    (0x87, '\u{2021}'),
    (0x88, '\u{2c6}'),
    (0x89, '\u{2030}'),
    (0x8a, '\u{160}'),
    (0x8b, '\u{2039}'),
    (0x8c, '\u{152}'),
    (0x8e, '\u{17d}'),
    (0x91, '\u{2018}'),
    (0x92, '\u{2019}'),
    (0x93, '\u{201c}'),
    (0x94, '\u{201d}'),
    (0x95, '\u{2022}'),
    (0x96, '\u{2013}'),
    (0x97, '\u{2014}'),
    (0x98, '\u{2dc}'),
    (0x99, '\u{2122}'),
    (0x9a, '\u{161}'),
    (0x9b, '\u{203a}'),
    (0x9c, '\u{153}'),
    (0x9e, '\u{17e}'),
    (0x9f, '\u{178}'),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sent: &[u8]) -> Vec<Vec<u8>> {
        readings(&Secret::new(sent.to_vec())).iter().map(|reading| reading.expose().to_vec()).collect()
    }

    #[test]
    fn both_readings_of_a_password() {
        assert_eq!(read(b"k7m2xp9at"), [b"k7m2xp9at"]);
        let (utf8, latin) = ("M\u{fc}ller7\u{a3}\u{20ac}".as_bytes(), b"M\xfcller7\xa3\x80".as_slice());
        assert_eq!(read(utf8), [utf8, latin]);
        assert_eq!(read(latin), [latin, utf8]);
        // These letters are not in that set.
        assert_eq!(read("\u{43f}\u{430}\u{440}".as_bytes()).len(), 1);
        assert_eq!(text(b"F\xdcNF"), "F\u{dc}NF");
    }

    #[test]
    fn every_octet_is_read_and_written_back() {
        for octet in 0..=u8::MAX {
            assert_eq!(to_windows_1252(&from_windows_1252(&[octet])), Some(vec![octet]), "{octet:#x}");
        }
    }
}
