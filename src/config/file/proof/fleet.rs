//! Proves the section `[fleet]`.

use std::path::PathBuf;

use toml::Spanned;

use super::Proof;
use crate::config::CertificateFiles;
use crate::config::file::{FleetSection, Written};
use crate::config::fleet::{Database, Fleet};

impl Proof<'_> {
    /// The fleet; none where the file has no such section, or one that is wrong.
    pub(super) fn fleet(&mut self, raw: Option<Spanned<FleetSection>>, has_store_key: bool) -> Option<Fleet> {
        let raw = raw?;
        let span = raw.span();
        self.note("fleet", &span);
        if cfg!(not(feature = "fleet")) {
            let message = "needs a packetboat that is built with the cargo feature fleet; take a package that has it, or \
                           remove the section";
            self.problem(Some(span), "fleet", message);
            return None;
        }
        if !has_store_key {
            let message = "needs store_key at the top of this file: every instance has to open what the others have \
                           sealed, and a key that each makes for itself opens nothing. Make one with: head -c 32 \
                           /dev/urandom > store.key; give the same file to all instances, and write store_key = \
                           \"credential:packetboat-store-key\" or its path";
            self.problem(Some(span.clone()), "fleet", message);
        }
        let raw = raw.into_inner();
        let has_roots = raw.roots.is_some();
        let client_certificate = self.client_certificate(raw.client_certificate, raw.client_key);
        let roots = self.roots("fleet.roots", raw.roots);
        let instance = self.instance(raw.instance);
        if let Some(written) = &raw.password_file {
            self.note("fleet.password_file", &written.span());
        }
        let Some(written) = raw.database else {
            let message = "is missing; write it as \"postgresql://USER@HOST:5432/NAME\"";
            self.problem(Some(span), "fleet.database", message);
            return None;
        };
        self.note("fleet.database", &written.span());
        match Database::parse(written.get_ref()) {
            Ok(database) => Some(Fleet {
                tls: !database.is_local() || has_roots || client_certificate.is_some(),
                database,
                password_file: raw.password_file.map(Spanned::into_inner),
                client_certificate,
                roots,
                instance,
                migrate: raw.migrate.unwrap_or(false),
            }),
            Err(error) => {
                self.problem(Some(written.span()), "fleet.database", &error.to_string());
                None
            }
        }
    }

    fn client_certificate(&mut self, chain: Written<PathBuf>, key: Written<PathBuf>) -> Option<CertificateFiles> {
        match (chain, key) {
            (Some(chain), Some(key)) => {
                self.note("fleet.client_certificate", &chain.span());
                self.note("fleet.client_key", &key.span());
                Some(CertificateFiles { chain: chain.into_inner(), key: key.into_inner() })
            }
            (Some(alone), None) => {
                self.problem(Some(alone.span()), "fleet.client_certificate", "needs client_key beside it");
                None
            }
            (None, Some(alone)) => {
                self.problem(Some(alone.span()), "fleet.client_key", "needs client_certificate beside it");
                None
            }
            (None, None) => None,
        }
    }

    fn instance(&mut self, written: Written<String>) -> Option<String> {
        let written = written?;
        let name = written.get_ref();
        let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
        if !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(is_plain) {
            return Some(written.into_inner());
        }
        let message = "is no name of an instance: it has 1 to 63 letters, digits, dots, hyphens and underscores";
        self.problem(Some(written.span()), "fleet.instance", message);
        None
    }
}

/// The length of a label of the DNS (RFC 1035 section 2.3.4), which host names keep to.
const LONGEST_NAME: usize = 63;
