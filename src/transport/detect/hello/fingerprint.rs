//! A ClientHello's fingerprint in the form of JA4: the same for all devices with the same TLS stack and settings.

use std::fmt::Write as _;

use super::{ALPN, ClientHello, SERVER_NAME, is_grease};
use crate::crypto;

impl ClientHello {
    /// JA4 (FoxIO, TLS client): what is offered in short, then hashes of the cipher suites and of the extensions, each
    /// sorted, so that neither order nor grease matters. `t10i020000_...` is TLS 1.0 without SNI, two suites, no
    /// extensions.
    pub fn fingerprint(&self) -> String {
        let version = match self.version {
            0x0304 => "13",
            0x0303 => "12",
            0x0302 => "11",
            0x0301 => "10",
            0x0300 => "s3",
            0x0002 => "s2",
            _ => "00",
        };
        let name = if self.extensions.contains(&SERVER_NAME) { 'd' } else { 'i' };
        let mut suites: Vec<u16> = self.suites.iter().chain(&self.signals).copied().collect();
        let extensions: Vec<u16> = self.extensions.iter().copied().filter(|number| !is_grease(*number)).collect();
        let counts = (suites.len().min(MOST), extensions.len().min(MOST));
        suites.sort_unstable();
        let mut hashed: Vec<u16> = extensions.into_iter().filter(|one| ![SERVER_NAME, ALPN].contains(one)).collect();
        hashed.sort_unstable();
        let mut behind = list(&hashed);
        let signatures: Vec<u16> = self.signatures.iter().copied().filter(|number| !is_grease(*number)).collect();
        if !signatures.is_empty() {
            behind.push('_');
            behind.push_str(&list(&signatures));
        }
        let (suites, behind) = (hash(&list(&suites)), hash(&behind));
        format!("t{version}{name}{:02}{:02}{}_{suites}_{behind}", counts.0, counts.1, self.protocol())
    }

    /// Returns the first and last character of the first ALPN protocol.
    fn protocol(&self) -> String {
        match (self.alpn.first(), self.alpn.last()) {
            (Some(first), Some(last)) if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() => {
                [char::from(*first), char::from(*last)].into_iter().collect()
            }
            (Some(first), Some(last)) => format!("{:x}{:x}", first >> 4, last & 0xf),
            _ => "00".to_owned(),
        }
    }
}

fn list(numbers: &[u16]) -> String {
    let mut text = String::with_capacity(numbers.len() * 5);
    for number in numbers {
        if !text.is_empty() {
            text.push(',');
        }
        let _ = write!(text, "{number:04x}");
    }
    text
}

/// Returns the first twelve digits of SHA-256; zeros where there is nothing.
fn hash(text: &str) -> String {
    if text.is_empty() {
        return "000000000000".to_owned();
    }
    crypto::sha256(text.as_bytes()).iter().take(6).fold(String::new(), |mut hash, octet| {
        let _ = write!(hash, "{octet:02x}");
        hash
    })
}

/// Returns a number in two digits.
const MOST: usize = 99;

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of JA4's technical details: a Chrome.
    #[test]
    fn the_published_example() {
        let suites = [
            0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d,
            0x002f, 0x0035,
        ];
        let extensions = [
            0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012, 0x002b, 0xff01,
            0x000b, 0x000a, 0x0015, 0x0a0a,
        ];
        let hello = ClientHello {
            version: 0x0304,
            suites: suites.to_vec(),
            extensions: extensions.to_vec(),
            signatures: vec![0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601],
            alpn: b"h2".to_vec(),
            ..ClientHello::default()
        };
        assert_eq!(hello.fingerprint(), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    #[test]
    fn an_old_device() {
        let hello = ClientHello { version: 0x0301, suites: vec![0x2f], signals: vec![0xff], ..ClientHello::default() };
        let fingerprint = hello.fingerprint();
        assert!(fingerprint.starts_with("t10i020000_") && fingerprint.ends_with("_000000000000"), "{fingerprint}");
    }
}
