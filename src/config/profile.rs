//! TLS policies of listeners: the profiles by name, with their versions and cipher suites.

use std::fmt;

use super::suite::{self, Suite, Tier};

/// The versions and cipher suites of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPolicy {
    /// The profile that the other values began with.
    pub profile: Profile,
    /// The oldest version taken.
    pub minimum: Version,
    /// The newest version taken.
    pub maximum: Version,
    /// The suites of TLS 1.2 and earlier, in order of preference.
    pub suites: Vec<&'static Suite>,
    /// The ClientHello may come in SSLv2 format (RFC 5246 appendix E.2).
    pub sslv2_hello: bool,
    /// An empty fragment before each CBC record in SSLv3 and TLS 1.0, against BEAST.
    pub empty_fragments: bool,
    /// Encrypt-then-MAC (RFC 7366) where the device asks for it.
    pub encrypt_then_mac: bool,
}

/// A named set of versions and cipher suites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// TLS 1.2 and later with forward secrecy.
    Modern,
    /// TLS 1.0 and later, with AES-CBC, static RSA and DHE.
    Legacy,
    /// SSLv3, the SSLv2-format ClientHello, 3DES, RC4 and DHE with 1024 bits as well.
    Ancient,
}

/// A version of SSL or TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// SSLv3 (RFC 6101).
    Ssl3,
    /// TLS 1.0 (RFC 2246).
    Tls1_0,
    /// TLS 1.1 (RFC 4346).
    Tls1_1,
    /// TLS 1.2 (RFC 5246).
    Tls1_2,
    /// TLS 1.3 (RFC 8446).
    Tls1_3,
}

impl Profile {
    /// The name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Modern => "modern",
            Profile::Legacy => "legacy",
            Profile::Ancient => "ancient",
        }
    }

    /// The profiles, strictest first.
    pub const ALL: [Profile; 3] = [Profile::Modern, Profile::Legacy, Profile::Ancient];

    /// The versions and suites it stands for.
    pub fn policy(self) -> TlsPolicy {
        let (minimum, tier) = match self {
            Profile::Modern => (Version::Tls1_2, Tier::Modern),
            Profile::Legacy => (Version::Tls1_0, Tier::Legacy),
            Profile::Ancient => (Version::Ssl3, Tier::Ancient),
        };
        TlsPolicy {
            profile: self,
            minimum,
            maximum: Version::Tls1_3,
            suites: suite::up_to(tier).collect(),
            // An encoding of the ClientHello, no older version: what it offers is judged as any other offer is.
            sslv2_hello: self != Profile::Modern,
            empty_fragments: false,
            encrypt_then_mac: false,
        }
    }
}

impl TlsPolicy {
    /// Returns whether the policy takes more than TLS 1.2 and 1.3 with forward secrecy.
    pub fn is_weak(&self) -> bool {
        self.minimum < Version::Tls1_2 || self.suites.iter().any(|suite| suite.tier > Some(Tier::Modern))
    }
}

impl Version {
    /// The versions, oldest first.
    pub const ALL: [Version; 5] = [Version::Ssl3, Version::Tls1_0, Version::Tls1_1, Version::Tls1_2, Version::Tls1_3];

    /// The name in the file.
    pub fn key(self) -> &'static str {
        match self {
            Version::Ssl3 => "ssl3",
            Version::Tls1_0 => "tls1.0",
            Version::Tls1_1 => "tls1.1",
            Version::Tls1_2 => "tls1.2",
            Version::Tls1_3 => "tls1.3",
        }
    }

    /// The number on the wire.
    pub fn number(self) -> u16 {
        match self {
            Version::Ssl3 => 0x0300,
            Version::Tls1_0 => 0x0301,
            Version::Tls1_1 => 0x0302,
            Version::Tls1_2 => 0x0303,
            Version::Tls1_3 => 0x0304,
        }
    }

    /// The version that OpenSSL calls so.
    pub fn by_openssl_name(name: &str) -> Option<Self> {
        match name {
            "SSLv3" => Some(Version::Ssl3),
            "TLSv1" => Some(Version::Tls1_0),
            "TLSv1.1" => Some(Version::Tls1_1),
            "TLSv1.2" => Some(Version::Tls1_2),
            "TLSv1.3" => Some(Version::Tls1_3),
            _ => None,
        }
    }

    /// The version with this number on the wire.
    pub fn by_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.number() == number)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::Ssl3 => "SSLv3",
            Version::Tls1_0 => "TLS 1.0",
            Version::Tls1_1 => "TLS 1.1",
            Version::Tls1_2 => "TLS 1.2",
            Version::Tls1_3 => "TLS 1.3",
        })
    }
}
