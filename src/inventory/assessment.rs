//! The assessment says whether a device needs packetboat: its ClientHello is compared with what Exchange Online
//! accepts.

use serde::{Deserialize, Serialize};

use super::observation::{Observation, TlsMode};
use crate::config::suite;
use crate::config::{Profile, Version};
use crate::failure::{Failure, Kind, Mismatch};
use crate::transport::detect::hello::ClientHello;

/// A judgement, and the reason for it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Assessment {
    /// The judgement.
    #[serde(rename = "kind")]
    pub judgement: Judgement,
    /// Judgement and reason, as `needs packetboat: TLS 1.0 only`.
    pub text: String,
}

/// A judgement about a device, in the order in which people should look at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Judgement {
    /// packetboat refused the device.
    Refused,
    /// Exchange Online does not accept the device's TLS.
    Needs,
    /// The connection ended before enough was seen.
    Unknown,
    /// Exchange Online accepts the device's TLS.
    Could,
}

impl Judgement {
    /// All judgements, in their order.
    pub const ALL: [Judgement; 4] = [Judgement::Refused, Judgement::Needs, Judgement::Unknown, Judgement::Could];

    /// The label in metrics and JSON.
    pub fn label(self) -> &'static str {
        match self {
            Judgement::Refused => "refused",
            Judgement::Needs => "needs",
            Judgement::Unknown => "unknown",
            Judgement::Could => "could",
        }
    }
}

impl Assessment {
    /// The assessment before anything was seen.
    pub(super) fn unknown() -> Self {
        Self { judgement: Judgement::Unknown, text: "not enough seen yet".to_owned() }
    }

    /// The assessment of a device that has tried to send mail without a login.
    pub(super) fn without_login() -> Self {
        Self { judgement: Judgement::Needs, text: "needs packetboat: sends without a login".to_owned() }
    }

    pub(super) fn of(observation: &Observation<'_>) -> Self {
        let needs = |why: &str| Self { judgement: Judgement::Needs, text: format!("needs packetboat: {why}") };
        // It was not refused: it asked what is offered, and left.
        if observation.refused.is_some_and(|failure| failure.kind == Kind::SpeaksInClear) {
            return needs("speaks without TLS");
        }
        if let Some(failure) = observation.refused {
            let why = refusal(failure, observation.hello);
            return Self { judgement: Judgement::Refused, text: format!("refused: {why}") };
        }
        match (observation.tls_mode, observation.hello) {
            (Some(TlsMode::Plaintext), _) => needs("no TLS"),
            (_, Some(hello)) => match Version::by_number(hello.version) {
                Some(version) if version < Version::Tls1_2 => needs(&format!("{version} only")),
                Some(version) if has_forward_secrecy(hello, version) => Self {
                    judgement: Judgement::Could,
                    text: format!("could talk to Exchange Online directly: offers {version} with ECDHE"),
                },
                Some(version) => needs(&format!("{version} without ECDHE")),
                None => needs("an unknown version of TLS"),
            },
            (_, None) => Self::unknown(),
        }
    }
}

/// The reason of a refusal in a few words; the log has the whole of it.
fn refusal(failure: &Failure, hello: Option<&ClientHello>) -> String {
    match failure.kind {
        Kind::Handshake => {
            let is_of_suites = failure.mismatch == Some(Mismatch::CipherSuites);
            match hello.filter(|_| is_of_suites).and_then(families) {
                Some(families) => format!("offers {families} only"),
                // Advice stands behind the fault.
                None => failure.detail.split([':', ';']).next().unwrap_or_default().to_owned(),
            }
        }
        Kind::LoginInClear => "logs in without TLS".to_owned(),
        kind => kind.meaning().to_owned(),
    }
}

/// The strictest profile that the device's TLS fits, where it was refused for its version or its cipher suites.
pub(super) fn needed_profile(observation: &Observation<'_>) -> Option<Profile> {
    let (hello, failure) = observation.hello.zip(observation.refused)?;
    failure.mismatch.filter(|mismatch| *mismatch != Mismatch::Format)?;
    let offered = Version::by_number(hello.version)?;
    let suites: Vec<_> = hello.suites.iter().filter_map(|&number| suite::by_number(number)).collect();
    let fits = |profile: &Profile| {
        let policy = profile.policy();
        let version = offered.min(policy.maximum);
        let is_usable = |suite: &&suite::Suite| {
            policy.suites.contains(suite) && (version >= Version::Tls1_2 || !suite.needs_tls_1_2())
        };
        policy.minimum <= offered && suites.iter().any(is_usable)
    };
    Profile::ALL.into_iter().find(fits)
}

/// The families of all offered suites, as `RC4` or `3DES and RC4`, where they are at most two.
fn families(hello: &ClientHello) -> Option<String> {
    let mut found: Vec<&str> = Vec::new();
    for &number in &hello.suites {
        let name = suite::by_number(number)?.name;
        let (_, family) = FAMILIES.iter().find(|(word, _)| name.contains(word))?;
        if !found.contains(family) {
            found.push(family);
        }
    }
    (1..=2).contains(&found.len()).then(|| found.join(" and "))
}

/// Returns whether the ClientHello offers a suite and a curve that Exchange Online accepts.
fn has_forward_secrecy(hello: &ClientHello, version: Version) -> bool {
    let has_curve = hello.groups.is_empty() || hello.groups.iter().any(|group| CURVES.contains(group));
    let has_suite = version == Version::Tls1_3 || hello.suites.iter().any(|suite| TAKEN.contains(suite));
    has_curve && has_suite
}

/// The suites that Microsoft documents for TLS 1.2: ECDHE-RSA with AES-GCM, or AES-CBC and SHA-2.
const TAKEN: &[u16] = &[0xc02f, 0xc030, 0xc027, 0xc028];
/// The curves secp256r1, secp384r1, secp521r1 and x25519.
const CURVES: &[u16] = &[23, 24, 25, 29];
/// Words in suites' names, in the order in which they are looked for, and their families.
const FAMILIES: &[(&str, &str)] = &[
    ("NULL", "no encryption"),
    ("EXP", "export ciphers"),
    ("ADH", "anonymous ciphers"),
    ("RC4", "RC4"),
    ("DES-CBC3", "3DES"),
    ("DES-CBC", "DES"),
    ("IDEA", "IDEA"),
    ("CAMELLIA", "Camellia"),
    ("SEED", "SEED"),
    ("AES", "AES"),
    ("CHACHA", "ChaCha20"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::tests::{hello, observation};

    fn text(observation: &Observation<'_>) -> String {
        Assessment::of(observation).text
    }

    #[test]
    fn offers_are_assessed() {
        for (version, suites, groups, expected) in [
            (0x0300, &[0x0a][..], &[][..], "needs packetboat: SSLv3 only"),
            (0x0301, &[0x2f], &[], "needs packetboat: TLS 1.0 only"),
            (0x0302, &[0xc013], &[23], "needs packetboat: TLS 1.1 only"),
            (0x0303, &[0x2f, 0x9c], &[], "needs packetboat: TLS 1.2 without ECDHE"),
            (0x0303, &[0xc02f], &[22], "needs packetboat: TLS 1.2 without ECDHE"),
            (0x0303, &[0x2f, 0xc02f], &[23], "could talk to Exchange Online directly: offers TLS 1.2 with ECDHE"),
            (0x0304, &[0x1301], &[29], "could talk to Exchange Online directly: offers TLS 1.3 with ECDHE"),
        ] {
            let mut hello = hello(version, suites);
            hello.groups = groups.to_vec();
            assert_eq!(text(&observation("192.0.2.1", Some(&hello))), expected);
        }
        let clear = Observation { tls_mode: Some(TlsMode::Plaintext), ..observation("192.0.2.1", None) };
        assert_eq!(text(&clear), "needs packetboat: no TLS");
        assert_eq!(Assessment::of(&observation("192.0.2.1", None)), Assessment::unknown());
    }

    #[test]
    fn the_needed_profile_is_the_strictest_that_fits() {
        let needed = |version: u16, suites: &[u16], mismatch| {
            let hello = hello(version, suites);
            let failure = Failure { mismatch, ..Failure::new(Kind::Handshake, "") };
            needed_profile(&Observation { refused: Some(&failure), ..observation("192.0.2.1", Some(&hello)) })
        };
        let suites = Some(Mismatch::CipherSuites);
        assert_eq!(needed(0x0301, &[0x05], suites), Some(Profile::Ancient));
        assert_eq!(needed(0x0301, &[0x0a], suites), Some(Profile::Ancient));
        assert_eq!(needed(0x0300, &[0x2f], Some(Mismatch::Version)), Some(Profile::Ancient));
        assert_eq!(needed(0x0301, &[0x2f], Some(Mismatch::Version)), Some(Profile::Legacy));
        assert_eq!(needed(0x0301, &[0x09], suites), None, "DES alone fits no profile");
        assert_eq!(needed(0x0301, &[0x05], None), None, "it failed for another reason");
    }

    #[test]
    fn rejections_are_assessed() {
        let refused = |suites: &[u16], mismatch: Mismatch, detail: &str| {
            let hello = hello(0x0301, suites);
            let failure = Failure { mismatch: Some(mismatch), ..Failure::new(Kind::Handshake, detail) };
            text(&Observation { refused: Some(&failure), ..observation("192.0.2.1", Some(&hello)) })
        };
        let advice = "offers only RC4-SHA RC4-MD5: set profile = \"ancient\" on this listener; the device offers ...";
        let suites = Mismatch::CipherSuites;
        assert_eq!(refused(&[0x05, 0x04], suites, advice), "refused: offers RC4 only");
        assert_eq!(refused(&[0x05, 0x0a], suites, advice), "refused: offers RC4 and 3DES only");
        assert_eq!(refused(&[0x05, 0xabcd], suites, advice), "refused: offers only RC4-SHA RC4-MD5");
        let version = "offers at most SSLv3: set ...";
        assert_eq!(refused(&[0x2f], Mismatch::Version, version), "refused: offers at most SSLv3");
        let format = "begins with a ClientHello in SSLv2 format, and offers only RC4-SHA: set ...";
        let shown = "refused: begins with a ClientHello in SSLv2 format, and offers only RC4-SHA";
        assert_eq!(refused(&[0x05], Mismatch::Format, format), shown);
        let failure = Failure::new(Kind::NotAllowed, "add 192.0.2.1 to it");
        let observation = Observation { refused: Some(&failure), ..observation("192.0.2.1", None) };
        assert_eq!(text(&observation), "refused: source not in allowed_networks");
    }
}
