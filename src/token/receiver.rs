//! Receivers of secrets that are kept in files. While the process runs, no reload sends a file to another token
//! endpoint, whatever path names it. A program that has copied a file, or may write it, is beyond this.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::{Cloud, Config, Grant, Identity, url};
use crate::diagnostic::Diagnostic;

/// The files that configurations have named since the start, and the endpoint of each. Files that are no longer named
/// stay, so that two reloads achieve no more than one. Their number is what administrators have written.
#[derive(Clone, Default)]
pub(super) struct Receivers(Vec<Receiver>);

#[derive(Clone, PartialEq, Eq)]
struct Receiver {
    /// The path as written. Links on the way may lead elsewhere by now.
    path: PathBuf,
    /// The path without links.
    file: PathBuf,
    endpoint: String,
}

/// A file whose content is sent to an identity's token endpoint as it is.
struct Sent<'a> {
    /// The key of the configuration that names it.
    key: String,
    path: &'a Path,
    endpoint: &'a str,
}

impl Receivers {
    /// Returns a diagnostic for each file that another endpoint than before would receive. It reads the file system.
    pub(super) fn diagnostics(&self, config: &Config) -> Vec<Diagnostic> {
        let mut diagnostics = Vec::new();
        for Sent { key, path, endpoint } in sent(config) {
            let file = behind_links(path);
            let is_of_it = |known: &&Receiver| known.path == path || known.file == file;
            let mut receivers = self.0.iter().filter(is_of_it).map(|known| known.endpoint.as_str());
            let Some(first) = receivers.clone().next() else { continue };
            if receivers.all(|known| !is_same_receiver(known, endpoint)) {
                let [old, new] = [first, endpoint].map(url::origin);
                let message = format!(
                    "{} is a secret for the token endpoint at {old}, and would be sent to another one, at {new}: name \
                     another file, or restart packetboat",
                    path.display()
                );
                diagnostics.push(Diagnostic::new(key, message));
            }
        }
        diagnostics
    }

    /// Returns these receivers and those of a configuration that takes effect.
    pub(super) fn and_of(mut self, config: &Config) -> Self {
        for Sent { path, endpoint, .. } in sent(config) {
            let (path, file, endpoint) = (path.to_path_buf(), behind_links(path), url::origin(endpoint));
            let receiver = Receiver { path, file, endpoint };
            if !self.0.contains(&receiver) {
                self.0.push(receiver);
            }
        }
        self
    }
}

fn behind_links(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Returns the files that are sent as they are. A certificate's key is not one: it signs for one endpoint alone.
fn sent(config: &Config) -> Vec<Sent<'_>> {
    let mut all = Vec::new();
    for (name, identity) in &config.identities {
        let secret = identity.grant.client_secret().map(|file| ("client_secret_file", file.path.as_path()));
        let token = match &identity.grant {
            Grant::Federated(file) => Some(("token_file", file.as_path())),
            _ => None,
        };
        let named = secret.into_iter().chain(token).map(|(key, path)| (format!("identity.{name}.{key}"), path));
        all.extend(named.map(|(key, path)| Sent { key, path, endpoint: &identity.token_endpoint }));
    }
    for (name, account) in &config.accounts {
        let endpoint = config.identities.get(&account.identity).map(|identity: &Identity| &identity.token_endpoint);
        let (Some(path), Some(endpoint)) = (account.password_file.as_deref(), endpoint) else { continue };
        all.push(Sent { key: format!("account.{name}.password_file"), path, endpoint });
    }
    all
}

/// Returns whether both are the same host and port, or two hosts of one cloud.
fn is_same_receiver(one: &str, other: &str) -> bool {
    let of_cloud = |endpoint: &str| {
        let host = url::host(endpoint)?;
        Cloud::ALL.iter().position(|(_, cloud)| url::is_one_of(host, cloud.token_hosts()))
    };
    url::origin(one) == url::origin(other) || of_cloud(one).is_some_and(|cloud| of_cloud(other) == Some(cloud))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: &str, endpoint: &str) -> Config {
        let text = format!(
            "[identity.i]\nclient_id = \"11111111-2222-3333-4444-555555555555\"\nclient_secret_file = \"{path}\"\ntoken_endpoint = \"{endpoint}\"\n\
             tenant = \"t.example\"\n[account.a]\nmailbox = \"a@b.example\"\nupstream = \"u\"\n\
             [upstream.u]\nhost = \"mail.example\"\n"
        );
        Config::parse(&text, Path::new("x")).unwrap().config
    }

    #[test]
    fn a_file_keeps_its_receiver_whatever_path_names_it_and_however_often_that_changes() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        fs::create_dir(at("a")).unwrap();
        for name in ["secret", "other"] {
            fs::write(at(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("secret", at("link")).unwrap();
        let (own, foreign) = ("https://127.0.0.1:1/token", "https://127.0.0.1:2/token");
        let started = Receivers::default().and_of(&config(&at("secret"), own));
        // The file is not named for a while.
        let changed = started.clone().and_of(&config(&at("other"), foreign));
        for receivers in [&started, &changed] {
            for path in ["secret", "a/../secret", "./secret", "link"] {
                let diagnostics = receivers.diagnostics(&config(&at(path), foreign));
                let [Diagnostic { key, message, .. }] = diagnostics.as_slice() else {
                    panic!("{path}: {diagnostics:?}")
                };
                assert_eq!(key, "identity.i.client_secret_file");
                assert!(message.contains("127.0.0.1:1") && message.contains("127.0.0.1:2"), "{message}");
                assert!(receivers.diagnostics(&config(&at(path), own)).is_empty(), "{path}");
            }
        }
        // The link leads elsewhere since.
        let of_link = Receivers::default().and_of(&config(&at("link"), own));
        fs::remove_file(at("link")).unwrap();
        std::os::unix::fs::symlink("other", at("link")).unwrap();
        assert_eq!(of_link.diagnostics(&config(&at("link"), foreign)).len(), 1);
    }

    #[test]
    fn hosts_of_one_cloud_are_one_receiver() {
        let worldwide = "https://login.microsoftonline.com/a/oauth2/v2.0/token";
        for same in ["https://login.windows.net/b/oauth2/v2.0/token", "https://LOGIN.microsoftonline.com/a"] {
            assert!(is_same_receiver(worldwide, same), "{same}");
        }
        for other in [
            "https://login.microsoftonline.us/a",
            "https://oauth2.googleapis.com/token",
            "https://login.microsoftonline.com.evil.example/a",
        ] {
            assert!(!is_same_receiver(worldwide, other), "{other}");
        }
        assert!(!is_same_receiver("https://127.0.0.1:1/token", "https://127.0.0.1:2/token"));
        assert!(is_same_receiver("https://127.0.0.1:1/token", "https://127.0.0.1:1"));
    }
}
