//! A failed handshake in plain words: what the device offered, what the listener allows, and what to change.

use super::{HandshakeError, Reason};
use crate::config::suite::{self, Suite};
use crate::config::{Profile, TlsPolicy, Version};
use crate::failure::{Failure, Kind, Mismatch};
use crate::transport::detect::hello::{ClientHello, suite_name};

/// Explains a refusal to the person who can mend it. Whether an ECDSA certificate could have been shown matters.
pub fn explain(refused: &HandshakeError, hello: Option<&ClientHello>, policy: &TlsPolicy, has_ecdsa: bool) -> Failure {
    let told = match refused {
        HandshakeError::Refused { reason, .. } => by_reason(*reason),
        HandshakeError::Closed | HandshakeError::Io(_) => None,
    };
    let offered = || by_offer(hello?, policy, has_ecdsa);
    match told {
        Some(advice) => failure(None, advice, hello, policy),
        None => match offered() {
            Some((mismatch, advice)) => failure(Some(mismatch), &advice, hello, policy),
            None => failure(None, &by_error(refused), hello, policy),
        },
    }
}

/// Explains why a ClientHello in SSLv2 format was not taken. The mildest setting that would take it is named.
pub fn sslv2_format(hello: Option<&ClientHello>, policy: &TlsPolicy, has_ecdsa: bool) -> Failure {
    const FORMAT: &str = "begins with a ClientHello in SSLv2 format";
    let advice = match hello.and_then(|hello| by_offer(hello, policy, has_ecdsa)) {
        None => format!("{FORMAT}: set sslv2_hello = true on this listener"),
        // The next profile takes the format as well, unless the file says that it is not to be taken.
        Some((_, other)) if policy.profile.policy().sslv2_hello => {
            format!("{FORMAT}: set sslv2_hello = true on this listener; and it {other}")
        }
        Some((_, other)) => format!("{FORMAT}, and {other}"),
    };
    failure(Some(Mismatch::Format), &advice, hello, policy)
}

/// Returns whether the profile "ancient" would take an offer that the policy does not.
pub fn is_for_ancient(failure: &Failure, hello: Option<&ClientHello>, has_ecdsa: bool) -> bool {
    let is_of_offer = matches!(failure.mismatch, Some(Mismatch::Version | Mismatch::CipherSuites));
    is_of_offer && hello.is_some_and(|hello| by_offer(hello, &Profile::Ancient.policy(), has_ecdsa).is_none())
}

/// The failure with its advice, the device's offer, and what the listener allows.
fn failure(mismatch: Option<Mismatch>, advice: &str, hello: Option<&ClientHello>, policy: &TlsPolicy) -> Failure {
    let offer = hello.map_or_else(
        || "it offers nothing that can be read".to_owned(),
        |hello| format!("the device offers {}", hello.describe()),
    );
    let detail = format!(
        "{advice}; {offer}; the listener allows {} to {} with profile \"{}\"",
        policy.minimum,
        policy.maximum,
        policy.profile.name()
    );
    Failure { mismatch, ..Failure::new(Kind::Handshake, detail) }
}

/// Explains an error whose cause is neither an alert nor the device's offer.
fn by_error(refused: &HandshakeError) -> String {
    match refused {
        HandshakeError::Refused { reason: Reason::NoSharedCipher, .. } => {
            "there are cipher suites on both sides, but no elliptic curve or certificate that fits them".to_owned()
        }
        HandshakeError::Refused { text, .. } => text.clone(),
        HandshakeError::Closed => "the device closed the connection in the middle: it may not accept the certificate \
                                   (import the CA: packetboat certificate export)"
            .to_owned(),
        HandshakeError::Io(error) => format!(
            "the device broke the connection off ({error}): it may not accept the certificate (import the CA: \
             packetboat certificate export)"
        ),
    }
}

/// Explains a fallback, or an alert that the device itself has sent (RFC 8446 §6).
fn by_reason(reason: Reason) -> Option<&'static str> {
    const CLOSE_NOTIFY: u8 = 0;
    const ACCESS_DENIED: u8 = 49;
    const INAPPROPRIATE_FALLBACK: u8 = 86;
    const USER_CANCELED: u8 = 90;
    match reason {
        Reason::InappropriateFallback | Reason::Alert(INAPPROPRIATE_FALLBACK) => Some(
            "the device fell back to an older version after a failure (FALLBACK_SCSV): look at the failure \
             before this one",
        ),
        reason if reason.refuses_certificate() => Some(
            "the device does not accept the certificate: import the CA into it (packetboat certificate export), \
             or switch off its check",
        ),
        Reason::Alert(ACCESS_DENIED | USER_CANCELED | CLOSE_NOTIFY) => Some("the device ended the handshake itself"),
        Reason::Alert(_) | Reason::NoSharedCipher | Reason::Other => None,
    }
}

/// Explains what in the device's offer does not fit the policy.
fn by_offer(hello: &ClientHello, policy: &TlsPolicy, has_ecdsa: bool) -> Option<(Mismatch, String)> {
    let offered = Version::by_number(hello.version);
    match offered {
        Some(version) if version < policy.minimum => {
            let profile = Profile::ALL.into_iter().find(|profile| profile.policy().minimum <= version)?;
            let setting = setting(profile, policy, "minimum_version", version.key());
            Some((Mismatch::Version, format!("offers at most {version}: {setting} on this listener")))
        }
        None if hello.version < Version::Ssl3.number() => {
            let advice = "offers nothing newer than SSLv2, which nobody can speak any more";
            Some((Mismatch::Version, advice.to_owned()))
        }
        Some(_) | None => by_suites(hello, policy, has_ecdsa).map(|advice| (Mismatch::CipherSuites, advice)),
    }
}

/// Explains why none of the offered cipher suites can be used.
fn by_suites(hello: &ClientHello, policy: &TlsPolicy, has_ecdsa: bool) -> Option<String> {
    let offered = Version::by_number(hello.version);
    let version = offered.unwrap_or(Version::Tls1_3).min(policy.maximum);
    let fits_version = |suite: &&Suite| version >= Version::Tls1_2 || !suite.needs_tls_1_2();
    let suites: Vec<&'static Suite> =
        hello.suites.iter().filter_map(|&number| suite::by_number(number)).filter(fits_version).collect();
    // TLS 1.3 suites are of no use below TLS 1.3, and always on there.
    let speaks_13 = version == Version::Tls1_3;
    let shared: Vec<_> = suites.iter().filter(|suite| policy.suites.contains(suite)).collect();
    if !shared.is_empty() && !has_ecdsa && !speaks_13 && shared.iter().all(|suite| suite.needs_ecdsa()) {
        // The listener's list is filtered, so that each suite is named once, however often the device offers it.
        let of_both = policy.suites.iter().filter(|suite| shared.iter().any(|other| other.name == suite.name));
        let names: Vec<_> = of_both.map(|suite| suite.name).collect();
        return Some(format!(
            "offers only {}, which need an ECDSA certificate: set ecdsa_chain and ecdsa_key beside the RSA one",
            names.join(" ")
        ));
    }
    if !shared.is_empty() || speaks_13 {
        return None;
    }
    let only: Vec<String> = hello.suites.iter().map(|&number| suite_name(number)).collect();
    let only =
        if only.len() > NAMED { format!("{} cipher suites, none of them allowed", only.len()) } else { only.join(" ") };
    let profile =
        Profile::ALL.into_iter().find(|profile| suites.iter().any(|suite| profile.policy().suites.contains(suite)));
    Some(match profile {
        Some(profile) => {
            let first =
                suites.iter().find(|suite| profile.policy().suites.contains(suite)).map_or("", |suite| suite.name);
            format!("offers only {only}: {} on this listener", setting(profile, policy, "ciphers with", first))
        }
        None => format!(
            "offers only {only}: nothing that packetboat can do; what is left is entry = \"plaintext\" on a \
             network of its own"
        ),
    })
}

/// Returns the setting to change: the profile, or the explicit key where that is stricter than the profile.
fn setting(profile: Profile, policy: &TlsPolicy, key: &str, value: &str) -> String {
    let looser = Profile::ALL.iter().position(|one| *one == profile)
        > Profile::ALL.iter().position(|one| *one == policy.profile);
    if looser { format!("set profile = \"{}\"", profile.name()) } else { format!("set {key} \"{value}\"") }
}

/// Suites named in the advice.
const NAMED: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(version: u16, suites: &[u16]) -> ClientHello {
        ClientHello { version, suites: suites.to_vec(), ..ClientHello::default() }
    }

    fn advice(hello: &ClientHello, policy: &TlsPolicy) -> String {
        let refused = HandshakeError::Refused { reason: Reason::NoSharedCipher, text: "no shared cipher".to_owned() };
        explain(&refused, Some(hello), policy, false).detail
    }

    #[test]
    fn the_advice_names_the_profile() {
        let legacy = Profile::Legacy.policy();
        assert!(
            advice(&hello(0x0301, &[0x0a]), &legacy)
                .starts_with("offers only DES-CBC3-SHA: set profile = \"ancient\" on this listener; ")
        );
        assert!(
            advice(&hello(0x0300, &[0x2f]), &legacy).starts_with("offers at most SSLv3: set profile = \"ancient\"")
        );
        let modern = Profile::Modern.policy();
        assert!(
            advice(&hello(0x0303, &[0x9c]), &modern)
                .starts_with("offers only AES128-GCM-SHA256: set profile = \"legacy\"")
        );
        assert!(advice(&hello(0x0301, &[0x03]), &Profile::Ancient.policy()).contains("nothing that packetboat can do"));
    }

    #[test]
    fn a_failure_carries_its_mismatch() {
        let legacy = Profile::Legacy.policy();
        let closed = |hello: &ClientHello| explain(&HandshakeError::Closed, Some(hello), &legacy, false).mismatch;
        assert_eq!(closed(&hello(0x0301, &[0x0a])), Some(Mismatch::CipherSuites));
        assert_eq!(closed(&hello(0x0301, &[0xc009])), Some(Mismatch::CipherSuites));
        assert_eq!(closed(&hello(0x0300, &[0x2f])), Some(Mismatch::Version));
        assert_eq!(closed(&hello(0x0002, &[0x2f])), Some(Mismatch::Version));
        assert_eq!(closed(&hello(0x0301, &[0x2f])), None);
        let unknown_ca = HandshakeError::Refused { reason: Reason::Alert(48), text: String::new() };
        assert_eq!(explain(&unknown_ca, Some(&hello(0x0301, &[0x0a])), &legacy, false).mismatch, None);
        let format = sslv2_format(Some(&hello(0x0301, &[0x0a])), &legacy, false);
        assert_eq!((format.kind, format.mismatch), (Kind::Handshake, Some(Mismatch::Format)));
    }

    #[test]
    fn an_sslv2_format_is_advised_with_the_mildest_key() {
        let advice = |version, suite, policy: &TlsPolicy| {
            let hello = ClientHello { sslv2_format: true, ..hello(version, &[suite]) };
            sslv2_format(Some(&hello), policy, false).detail
        };
        let modern = Profile::Modern.policy();
        let legacy = TlsPolicy { sslv2_hello: false, ..Profile::Legacy.policy() };
        for (version, suite, policy, expected) in [
            (0x0301, 0x2f, &legacy, ": set sslv2_hello = true on this listener; the device offers"),
            (0x0301, 0x2f, &modern, ", and offers at most TLS 1.0: set profile = \"legacy\" on this listener; the"),
            (0x0303, 0x2f, &modern, ", and offers only AES128-SHA: set profile = \"legacy\" on this listener; the"),
            (0x0300, 0x2f, &modern, ", and offers at most SSLv3: set profile = \"ancient\" on this listener; the"),
            (0x0301, 0x0a, &legacy, "listener; and it offers only DES-CBC3-SHA: set profile = \"ancient\""),
            (0x0002, 0x2f, &modern, ", and offers nothing newer than SSLv2, which nobody can speak any more"),
        ] {
            let text = advice(version, suite, policy);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn explicit_keys_are_named_where_they_are_the_cause() {
        let mut policy = Profile::Legacy.policy();
        policy.minimum = Version::Tls1_2;
        assert!(advice(&hello(0x0301, &[0x2f]), &policy).contains("set minimum_version \"tls1.0\""));
        policy.suites.retain(|suite| suite.name == "AES256-SHA");
        assert!(advice(&hello(0x0303, &[0x2f]), &policy).contains("set ciphers with \"AES128-SHA\""));
    }

    #[test]
    fn suites_that_need_another_certificate_or_version() {
        let legacy = Profile::Legacy.policy();
        let text = advice(&hello(0x0301, &[0xc009, 0xc00a].repeat(2000)), &legacy);
        assert!(text.len() < 1000, "{} octets", text.len());
        assert!(text.contains("need an ECDSA certificate: set ecdsa_chain and ecdsa_key"), "{text}");
        // AES-GCM in a hello of TLS 1.0 is of no use to it.
        let text = advice(&hello(0x0301, &[0x9c, 0x0a]), &legacy);
        assert!(text.contains("set profile = \"ancient\""), "{text}");
        let text = advice(&hello(0x0301, &[0xc013]), &legacy);
        assert!(text.starts_with("there are cipher suites on both sides"), "{text}");
    }

    #[test]
    fn a_certificate_that_is_not_trusted() {
        let refused = HandshakeError::Refused { reason: Reason::Alert(48), text: "tlsv1 alert unknown ca".to_owned() };
        let text = explain(&refused, Some(&hello(0x0301, &[0x2f])), &Profile::Legacy.policy(), false).detail;
        assert!(text.contains("import the CA"), "{text}");
    }
}
