//! Cipher suites by number and by OpenSSL's name: what a device offers can be named, what an operator writes checked.

/// A cipher suite of TLS 1.2 or earlier, or one that only stands in a ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    /// The number on the wire (IANA TLS Cipher Suites registry).
    pub number: u16,
    /// OpenSSL's name.
    pub name: &'static str,
    /// The profile that a listener needs for this suite; `None` where packetboat never takes it.
    pub tier: Option<Tier>,
}

impl Suite {
    /// Returns whether the suite needs TLS 1.2.
    pub fn needs_tls_1_2(&self) -> bool {
        ["SHA256", "SHA384", "POLY1305", "CCM"].iter().any(|word| self.name.contains(word))
    }

    /// Returns whether the suite needs an ECDSA certificate.
    pub fn needs_ecdsa(&self) -> bool {
        self.name.contains("ECDSA")
    }
}

/// The profile from which on a suite is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// TLS 1.2 with forward secrecy.
    Modern,
    /// AES-CBC with SHA-1, static RSA, DHE.
    Legacy,
    /// 3DES and RC4.
    Ancient,
}

/// The suite with this number, where we have a name for it.
pub fn by_number(number: u16) -> Option<&'static Suite> {
    SUITES.iter().find(|suite| suite.number == number)
}

/// The suite with this OpenSSL name.
pub fn by_name(name: &str) -> Option<&'static Suite> {
    SUITES.iter().find(|suite| suite.name == name)
}

/// The suites of a tier and of those above it, in the order of our preference.
pub fn up_to(tier: Tier) -> impl Iterator<Item = &'static Suite> {
    SUITES.iter().filter(move |suite| suite.tier.is_some_and(|least| least <= tier))
}

/// Numbers in a ClientHello that are signals, not suites (RFC 5746 §3.3, RFC 7507 §4), or grease (RFC 8701).
pub fn is_signal(number: u16) -> bool {
    matches!(number, 0x00ff | 0x5600) || (number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff)
}

const fn suite(number: u16, name: &'static str, tier: Tier) -> Suite {
    Suite { number, name, tier: Some(tier) }
}

const fn never(number: u16, name: &'static str) -> Suite {
    Suite { number, name, tier: None }
}

use Tier::{Ancient, Legacy, Modern};

/// Cipher suites in the order of preference. Forward secrecy comes first where it is cheap (ECDHE), AES-GCM before CBC,
/// 128 bits before 256. DHE follows static RSA, because it costs 2.5 times as much and Java 6 fails on groups above
/// 1024 bits; 3DES and RC4 are last. The suites after those have names only.
pub const SUITES: &[Suite] = &[
    suite(0xc02b, "ECDHE-ECDSA-AES128-GCM-SHA256", Modern),
    suite(0xc02f, "ECDHE-RSA-AES128-GCM-SHA256", Modern),
    suite(0xc02c, "ECDHE-ECDSA-AES256-GCM-SHA384", Modern),
    suite(0xc030, "ECDHE-RSA-AES256-GCM-SHA384", Modern),
    suite(0xcca9, "ECDHE-ECDSA-CHACHA20-POLY1305", Modern),
    suite(0xcca8, "ECDHE-RSA-CHACHA20-POLY1305", Modern),
    suite(0xc027, "ECDHE-RSA-AES128-SHA256", Modern),
    suite(0xc028, "ECDHE-RSA-AES256-SHA384", Modern),
    suite(0xc009, "ECDHE-ECDSA-AES128-SHA", Legacy),
    suite(0xc013, "ECDHE-RSA-AES128-SHA", Legacy),
    suite(0xc00a, "ECDHE-ECDSA-AES256-SHA", Legacy),
    suite(0xc014, "ECDHE-RSA-AES256-SHA", Legacy),
    suite(0x009c, "AES128-GCM-SHA256", Legacy),
    suite(0x009d, "AES256-GCM-SHA384", Legacy),
    suite(0x002f, "AES128-SHA", Legacy),
    suite(0x0035, "AES256-SHA", Legacy),
    suite(0x003c, "AES128-SHA256", Legacy),
    suite(0x003d, "AES256-SHA256", Legacy),
    suite(0x009e, "DHE-RSA-AES128-GCM-SHA256", Legacy),
    suite(0x009f, "DHE-RSA-AES256-GCM-SHA384", Legacy),
    suite(0x0033, "DHE-RSA-AES128-SHA", Legacy),
    suite(0x0039, "DHE-RSA-AES256-SHA", Legacy),
    suite(0x0067, "DHE-RSA-AES128-SHA256", Legacy),
    suite(0x006b, "DHE-RSA-AES256-SHA256", Legacy),
    suite(0xc012, "ECDHE-RSA-DES-CBC3-SHA", Ancient),
    suite(0x000a, "DES-CBC3-SHA", Ancient),
    suite(0x0016, "DHE-RSA-DES-CBC3-SHA", Ancient),
    suite(0xc011, "ECDHE-RSA-RC4-SHA", Ancient),
    suite(0x0005, "RC4-SHA", Ancient),
    suite(0x0004, "RC4-MD5", Ancient),
    // TLS 1.3: always on where the version is allowed.
    never(0x1301, "TLS_AES_128_GCM_SHA256"),
    never(0x1302, "TLS_AES_256_GCM_SHA384"),
    never(0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
    // Old devices offer these beside the above.
    never(0x0001, "NULL-MD5"),
    never(0x0002, "NULL-SHA"),
    never(0x0003, "EXP-RC4-MD5"),
    never(0x0006, "EXP-RC2-CBC-MD5"),
    never(0x0007, "IDEA-CBC-SHA"),
    never(0x0008, "EXP-DES-CBC-SHA"),
    never(0x0009, "DES-CBC-SHA"),
    never(0x000d, "DH-DSS-DES-CBC3-SHA"),
    never(0x0010, "DH-RSA-DES-CBC3-SHA"),
    never(0x0011, "EXP-EDH-DSS-DES-CBC-SHA"),
    never(0x0012, "EDH-DSS-DES-CBC-SHA"),
    never(0x0013, "EDH-DSS-DES-CBC3-SHA"),
    never(0x0014, "EXP-EDH-RSA-DES-CBC-SHA"),
    never(0x0015, "EDH-RSA-DES-CBC-SHA"),
    never(0x0017, "EXP-ADH-RC4-MD5"),
    never(0x0018, "ADH-RC4-MD5"),
    never(0x001b, "ADH-DES-CBC3-SHA"),
    never(0x0032, "DHE-DSS-AES128-SHA"),
    never(0x0034, "ADH-AES128-SHA"),
    never(0x0038, "DHE-DSS-AES256-SHA"),
    never(0x003a, "ADH-AES256-SHA"),
    never(0x0040, "DHE-DSS-AES128-SHA256"),
    never(0x0041, "CAMELLIA128-SHA"),
    never(0x0045, "DHE-RSA-CAMELLIA128-SHA"),
    never(0x0084, "CAMELLIA256-SHA"),
    never(0x0088, "DHE-RSA-CAMELLIA256-SHA"),
    never(0x0096, "SEED-SHA"),
    never(0x009a, "DHE-RSA-SEED-SHA"),
    never(0x0060, "EXP1024-RC4-MD5"),
    never(0x0062, "EXP1024-DES-CBC-SHA"),
    never(0x0064, "EXP1024-RC4-SHA"),
    never(0xc007, "ECDHE-ECDSA-RC4-SHA"),
    never(0xc008, "ECDHE-ECDSA-DES-CBC3-SHA"),
    never(0xc023, "ECDHE-ECDSA-AES128-SHA256"),
    never(0xc024, "ECDHE-ECDSA-AES256-SHA384"),
    never(0xc09c, "AES128-CCM"),
    never(0xc09d, "AES256-CCM"),
    never(0xccaa, "DHE-RSA-CHACHA20-POLY1305"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique() {
        for suite in SUITES {
            assert_eq!(by_number(suite.number), Some(suite));
            assert_eq!(by_name(suite.name), Some(suite));
        }
    }

    #[test]
    fn signals_are_not_suites() {
        assert!(is_signal(0x00ff) && is_signal(0x5600) && is_signal(0x1a1a));
        assert!(!is_signal(0x002f) && !is_signal(0x0a0a ^ 0x0001));
    }
}
