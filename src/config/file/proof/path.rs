//! Paths of files that the configuration names. A secret that was written in such a place is none, and is never
//! repeated.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Proof;
use crate::config::file::{File, Written};

/// Whether a text is meant as a path: it begins like one, is a credential, or leads to something that is there.
/// Messages of files repeat paths, so that nothing else may pass for one.
pub fn is_path(path: &Path) -> bool {
    let begins = path.to_str().is_some_and(|text| BEGINNINGS.iter().any(|beginning| text.starts_with(beginning)));
    begins || (!path.as_os_str().is_empty() && path.exists())
}

impl Proof<'_> {
    /// Tells of every path that is none. The state directory is not among them: packetboat makes it, wherever a name
    /// leads.
    pub(super) fn paths(&mut self, raw: &File) {
        for (key, span, path) in paths(raw) {
            if !is_path(path) {
                let message = "is no path of a file that is there: write the whole path, as \"/etc/packetboat/NAME\". \
                               A secret stands in the file, and not here";
                self.problem(Some(span), &key, message);
            }
        }
    }
}

/// Every path of a file, with its key.
fn paths(raw: &File) -> Vec<(String, Range<usize>, &Path)> {
    let mut found: Vec<(String, &Written<PathBuf>)> = vec![
        ("store_key".to_owned(), &raw.store_key),
        ("spool.directory".to_owned(), &raw.spool.directory),
        ("admin.token_file".to_owned(), &raw.admin.token_file),
        ("admin.technician_token_file".to_owned(), &raw.admin.technician_token_file),
    ];
    if let Some(section) = &raw.fleet {
        let one = section.get_ref();
        let written = [
            ("password_file", &one.password_file),
            ("client_certificate", &one.client_certificate),
            ("client_key", &one.client_key),
        ];
        found.extend(written.map(|(key, written)| (format!("fleet.{key}"), written)));
    }
    for (name, section) in &raw.certificate {
        let one = section.get_ref();
        let written = [
            ("chain", &one.chain),
            ("key", &one.key),
            ("ecdsa_chain", &one.ecdsa_chain),
            ("ecdsa_key", &one.ecdsa_key),
        ];
        found.extend(written.map(|(key, written)| (format!("certificate.{name}.{key}"), written)));
    }
    for (name, section) in &raw.account {
        found.push((format!("account.{name}.password_file"), &section.get_ref().password_file));
    }
    for (name, section) in &raw.identity {
        let one = section.get_ref();
        let written = [
            ("client_secret_file", &one.client_secret_file),
            ("certificate", &one.certificate),
            ("key", &one.key),
            ("token_file", &one.token_file),
        ];
        found.extend(written.map(|(key, written)| (format!("identity.{name}.{key}"), written)));
    }
    found
        .into_iter()
        .filter_map(|(key, written)| written.as_ref().map(|one| (key, one.span(), one.get_ref().as_path())))
        .collect()
}

const BEGINNINGS: [&str; 4] = ["/", "./", "../", "credential:"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_no_paths() {
        for path in ["/etc/packetboat/secret", "./secret", "../secret", "credential:secret", "src", "src/config"] {
            assert!(is_path(Path::new(path)), "{path}");
        }
        for secret in ["Tr0ub4dor&3xyz", "app~Secret.8Zr4+/=", "~/secret", "", "-----BEGIN PRIVATE KEY-----"] {
            assert!(!is_path(Path::new(secret)), "{secret}");
        }
    }
}
