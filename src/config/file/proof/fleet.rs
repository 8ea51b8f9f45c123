//! Proves the section `[fleet]`.

use std::path::PathBuf;

use toml::Spanned;

use super::Proof;
use super::account::Identities;
use crate::config::file::{FleetSection, Written};
use crate::config::fleet::{Database, DatabaseServer, Fleet, PasswordIdentity};
use crate::config::{CertificateFiles, Grant};

impl Proof<'_> {
    /// The fleet; none where the file has no such section, or one that is wrong.
    pub(super) fn fleet(
        &mut self,
        raw: Option<Spanned<FleetSection>>,
        has_store_key: bool,
        identities: &Identities<'_>,
    ) -> Option<Fleet> {
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
            if let Some(identity) = &raw.password_identity {
                let message = "stands beside password_file; keep one of them";
                self.problem(Some(identity.span()), IDENTITY, message);
            }
        }
        let identity_span = raw.password_identity.as_ref().map(Spanned::span);
        let password_identity = self.password_identity(raw.password_identity, identities);
        let Some(written) = raw.database else {
            let message = "is missing; write it as \"postgresql://USER@HOST:5432/NAME\"";
            self.problem(Some(span), "fleet.database", message);
            return None;
        };
        self.note("fleet.database", &written.span());
        match Database::parse(written.get_ref()) {
            Ok(database) => {
                if let (Some(span), true) = (identity_span, database.servers.iter().any(DatabaseServer::is_socket)) {
                    let message = "needs a host in database: an access token goes to a server with a verified \
                                   certificate alone, and a Unix socket has none";
                    self.problem(Some(span), IDENTITY, message);
                }
                let (is_remote, has_token) = (!database.is_local(), password_identity.is_some());
                Some(Fleet {
                    tls: is_remote || has_token || has_roots || client_certificate.is_some(),
                    database,
                    password_file: raw.password_file.map(Spanned::into_inner),
                    password_identity,
                    client_certificate,
                    roots,
                    instance,
                    migrate: raw.migrate.unwrap_or(false),
                })
            }
            Err(error) => {
                self.problem(Some(written.span()), "fleet.database", &error.to_string());
                None
            }
        }
    }

    /// The identity whose access token is the password, with the scope of databases.
    fn password_identity(&mut self, written: Written<String>, identities: &Identities<'_>) -> Option<PasswordIdentity> {
        let span = written.as_ref()?.span();
        self.note(IDENTITY, &span);
        let name = self.reference(IDENTITY, written, identities.names.iter(), None)?;
        // One with a mistake has its own message.
        let mut identity = identities.by_name.get(&name)?.clone();
        if identity.grant.is_of_a_person() {
            let message = "names an identity that a person signs in for; it needs one of an application: \
                           client-credentials, federated or managed-identity";
            self.problem(Some(span), IDENTITY, message);
            return None;
        }
        let Some(resource) = identity.cloud.database_resource() else {
            let message = "names an identity whose cloud has no database that takes its tokens";
            self.problem(Some(span), IDENTITY, message);
            return None;
        };
        identity.scope = match identity.grant {
            Grant::ManagedIdentity => resource.to_owned(),
            _ => format!("{resource}/.default"),
        };
        // Advice about mailboxes and limits of mail servers does not fit.
        identity.tokens_are_of_cloud = false;
        Some(PasswordIdentity { name, identity })
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

const IDENTITY: &str = "fleet.password_identity";
/// The length of a label of the DNS (RFC 1035 section 2.3.4), which host names keep to.
const LONGEST_NAME: usize = 63;
