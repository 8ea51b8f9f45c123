//! Reasons why TLS with a server failed, in plain words that say what to change: each of rustls's and webpki's.

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use webpki::Error as Pki;

/// The reason why a certificate is not accepted from a server of this name.
pub(super) fn certificate(reason: &CertificateError, name: &str) -> String {
    #[allow(deprecated)] // Nobody makes it any more, and it would be told as the others are.
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired (or this host's clock is wrong)".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet (is this host's clock right?)".to_owned()
        }
        CertificateError::NotValidForName => format!("it is for another name than {name}"),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            format!("it has no subjectAltName, and a name in CN alone does not count; {}", make(name))
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let presented: Vec<String> = presented.iter().map(|one| plain(one)).collect();
            format!("it is for another name than {name}: {}; set server_name, or {}", list(&presented), make(name))
        }
        CertificateError::UnknownIssuer => {
            "its issuer is not among the trusted roots; set roots to \"system\" or to a PEM file with its CA, or with \
             this very certificate"
                .to_owned()
        }
        CertificateError::BadEncoding => format!("it is damaged, or encoded against the rules; {}", make(name)),
        CertificateError::BadSignature => {
            "its signature is not by the key that it should be by: a CA in roots has the name of its issuer and \
             another key, or the server does not have its key"
                .to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. } => {
            format!(
                "it, or a certificate in its chain, is signed with {}; {}",
                digest(signature_algorithm_id),
                make(name)
            )
        }
        CertificateError::UnsupportedSignatureAlgorithm
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            format!("it, or a certificate in its chain, is signed in a way that is not accepted; {}", make(name))
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!("it is not for servers (extendedKeyUsage without serverAuth); {}", make(name))
        }
        CertificateError::UnhandledCriticalExtension => critical(name),
        CertificateError::Revoked => "it was revoked; the server needs a new one".to_owned(),
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. }
        | CertificateError::InvalidOcspResponse => "whether it was revoked cannot be told".to_owned(),
        CertificateError::ApplicationVerificationFailure => "it is refused".to_owned(),
        CertificateError::Other(other) => match other.0.downcast_ref::<Pki>() {
            Some(error) => by_webpki(error, name),
            None => format!("it is refused ({other})"),
        },
        _ => format!("it is refused; {}", make(name)),
    }
}

/// The reason of an error of webpki's that rustls does not name.
fn by_webpki(error: &Pki, name: &str) -> String {
    match error {
        Pki::CaUsedAsEndEntity => {
            format!("it is a CA's (CA:TRUE), as openssl req -x509 makes it, and not a server's; {}", make(name))
        }
        Pki::EndEntityUsedAsCa => {
            "a certificate in its chain has signed another and is no CA (CA:TRUE is missing): have it signed by a CA"
                .to_owned()
        }
        Pki::UnsupportedCertVersion => {
            format!("it, or a certificate in its chain, is of X.509 version 1; {}", make(name))
        }
        Pki::UnsupportedCriticalExtension => critical(name),
        Pki::CertDistrusted => "its CA is not trusted for certificates of its date".to_owned(),
        Pki::PathLenConstraintViolated => {
            "more CAs stand in its chain than one of them allows (pathlen): have it signed by that CA itself".to_owned()
        }
        Pki::NameConstraintViolation => {
            format!("a CA in its chain may not sign for {name} (nameConstraints): have it signed by another")
        }
        Pki::MaximumNameConstraintComparisonsExceeded
        | Pki::MaximumPathBuildCallsExceeded
        | Pki::MaximumPathDepthExceeded
        | Pki::MaximumSignatureChecksExceeded => {
            "its chain is too long or leads in circles: the server should send its own certificate and those between \
             it and the root, each once"
                .to_owned()
        }
        // The remaining errors concern the encoding.
        _ => format!("it is damaged, or encoded against the rules; {}", make(name)),
    }
}

fn critical(name: &str) -> String {
    format!("it has a critical extension that packetboat does not know; {}", make(name))
}

/// Advice for a certificate that is accepted from any CA.
pub(super) fn make(name: &str) -> String {
    let kind = if name.parse::<std::net::IpAddr>().is_ok() { "IP" } else { "DNS" };
    format!(
        "make one of X.509 version 3 with subjectAltName = {kind}:{name}, CA:FALSE, a key of RSA-2048 or ECDSA, and \
         SHA-256"
    )
}

/// The other way out, where there is one.
pub(super) fn other_way_out(reason: &CertificateError) -> &'static str {
    let is_accepted_as_itself = match reason {
        CertificateError::NotValidForNameContext { presented, .. } => presented.is_empty(),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
        | CertificateError::InvalidPurpose
        | CertificateError::InvalidPurposeContext { .. }
        | CertificateError::UnhandledCriticalExtension
        | CertificateError::Other(_) => true,
        _ => false,
    };
    if is_accepted_as_itself { "; or name this very certificate in roots" } else { "" }
}

/// Returns whether the only reason is that the certificate is a CA's.
pub(super) fn is_of_authority(reason: &CertificateError) -> bool {
    let CertificateError::Other(other) = reason else { return false };
    matches!(other.0.downcast_ref::<Pki>(), Some(Pki::CaUsedAsEndEntity))
}

/// Names one after the other, and no more than fit a line.
pub(super) fn list(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names {
        [] => "no name".to_owned(),
        few if few.len() <= SHOWN => few.join(", "),
        many => format!(
            "{} and {} more",
            many.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "),
            many.len() - SHOWN
        ),
    }
}

/// webpki shows a name as `DnsName("mail.example")`.
fn plain(name: &str) -> String {
    name.split('"').nth(1).unwrap_or(name).to_owned()
}

/// The digest of a signature, by the object identifiers of RFC 8017 appendix C, RFC 5758 and RFC 3279 §2.2.
fn digest(algorithm: &[u8]) -> &'static str {
    const MD5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4];
    const SHA1: [&[u8]; 2] = [&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5], &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1]];
    let is = |id: &[u8]| algorithm.windows(id.len()).any(|window| window == id);
    if SHA1.iter().any(|id| is(id)) {
        "SHA-1, which can be forged"
    } else if is(MD5) {
        "MD5, which can be forged"
    } else {
        "an algorithm that is not accepted"
    }
}

/// The reason why a handshake failed, other than the certificate.
pub(super) fn handshake(error: &Error, without_tls: &str) -> String {
    match error {
        Error::PeerIncompatible(
            PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig | PeerIncompatible::ServerDoesNotSupportTls12Or13,
        )
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "offers nothing newer than TLS 1.1; packetboat asks for TLS 1.2 or later, always".to_owned()
        }
        Error::PeerIncompatible(_) | Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            "has no cipher suite, curve or signature in common with packetboat: it needs TLS 1.2 with ECDHE and \
             AES-GCM, or TLS 1.3"
                .to_owned()
        }
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            "does not know the name that it was asked for; set server_name".to_owned()
        }
        Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::BadCertificate | AlertDescription::AccessDenied,
        ) => "asks for a client certificate, which packetboat does not have".to_owned(),
        Error::AlertReceived(alert) => format!("sent the alert {alert:?}"),
        Error::InvalidMessage(_) => format!("does not answer in TLS{without_tls}"),
        Error::NoCertificatesPresented => "shows no certificate".to_owned(),
        Error::DecryptError => "sent something that cannot be decrypted: it was changed on the way".to_owned(),
        Error::PeerMisbehaved(_) | Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            format!("does not keep to TLS ({error})")
        }
        other => format!("fails in TLS ({other})"),
    }
}
