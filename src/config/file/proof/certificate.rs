//! Certificates, proven: made here or the operator's own, and never half of either.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use toml::Spanned;

use crate::config::file::{CertificateSection, Written};
use crate::config::{Certificate, CertificateFiles, CertificateSource, Digest};

use super::{DEFAULT, Proof};

impl Proof<'_> {
    pub(super) fn certificates(
        &mut self,
        raw: BTreeMap<String, Spanned<CertificateSection>>,
    ) -> BTreeMap<String, Certificate> {
        let mut certificates: BTreeMap<_, _> =
            raw.into_iter().map(|(name, section)| (name.clone(), self.certificate(&name, section))).collect();
        certificates.entry(DEFAULT.to_owned()).or_insert_with(|| Certificate {
            source: CertificateSource::Made { names: Vec::new(), digest: Digest::Sha256, years: None },
            ecdsa: None,
        });
        certificates
    }

    fn certificate(&mut self, name: &str, raw: Spanned<CertificateSection>) -> Certificate {
        const DIGESTS: &[(&str, Digest)] = &[("sha256", Digest::Sha256), ("sha1", Digest::Sha1)];
        let key = |key: &str| format!("certificate.{name}.{key}");
        let section = raw.span();
        self.note(&format!("certificate.{name}"), &section);
        let raw = raw.into_inner();
        if !name.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_')) || name == "ca" {
            self.problem(
                Some(section),
                &format!("certificate.{name}"),
                "a name is made of letters, digits, - and _, and is not ca",
            );
        }
        for (word, span) in [
            ("names", raw.names.as_ref().map(Spanned::span)),
            ("digest", raw.digest.as_ref().map(Spanned::span)),
            ("years", raw.years.as_ref().map(Spanned::span)),
            ("chain", raw.chain.as_ref().map(Spanned::span)),
            ("key", raw.key.as_ref().map(Spanned::span)),
            ("ecdsa_chain", raw.ecdsa_chain.as_ref().map(Spanned::span)),
            ("ecdsa_key", raw.ecdsa_key.as_ref().map(Spanned::span)),
        ] {
            if let Some(span) = span {
                self.note(&key(word), &span);
            }
        }
        let is_bad = |name: &String| !is_certificate_name(name);
        if let Some(names) = raw.names.as_ref().filter(|names| names.get_ref().iter().any(is_bad)) {
            let message = "one is neither a DNS name of up to 64 characters nor an address";
            self.problem(Some(names.span()), &key("names"), message);
        }
        let made_with = [
            raw.names.as_ref().map(|written| (written.span(), "names")),
            raw.digest.as_ref().map(|written| (written.span(), "digest")),
            raw.years.as_ref().map(|written| (written.span(), "years")),
        ];
        let files = self.pair(&key("chain"), raw.chain, &key("key"), raw.key);
        let ecdsa = self.pair(&key("ecdsa_chain"), raw.ecdsa_chain, &key("ecdsa_key"), raw.ecdsa_key);
        if files.is_some() {
            for (span, word) in made_with.into_iter().flatten() {
                self.problem(
                    Some(span),
                    &key(word),
                    "is for a certificate that packetboat makes; remove it, or chain and key",
                );
            }
        }
        let names = raw.names.map(Spanned::into_inner).unwrap_or_default();
        let digest = self.choice(&key("digest"), raw.digest, DIGESTS).unwrap_or(Digest::Sha256);
        let years = raw.years.map(|years| self.number(&key("years"), Some(years), 1..=23, 1));
        let source = match files {
            Some(files) => CertificateSource::Files(files),
            None => CertificateSource::Made { names, digest, years },
        };
        Certificate { source, ecdsa }
    }

    fn pair(
        &mut self,
        chain_key: &str,
        chain: Written<PathBuf>,
        key_key: &str,
        key: Written<PathBuf>,
    ) -> Option<CertificateFiles> {
        match (chain, key) {
            (Some(chain), Some(key)) => Some(CertificateFiles { chain: chain.into_inner(), key: key.into_inner() }),
            (None, None) => None,
            (Some(chain), None) => {
                self.problem(Some(chain.span()), chain_key, &format!("needs {key_key} beside it"));
                None
            }
            (None, Some(key)) => {
                self.problem(Some(key.span()), key_key, &format!("needs {chain_key} beside it"));
                None
            }
        }
    }
}

fn is_certificate_name(name: &str) -> bool {
    let host = name.strip_prefix("*.").unwrap_or(name);
    let is_dns = !host.is_empty()
        && name.len() <= 64
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
        });
    is_dns || name.parse::<IpAddr>().is_ok()
}
