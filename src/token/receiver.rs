//! The receiver of a secret that is kept in a file: while the process runs, no changed configuration sends the file to another one.

use std::path::Path;

use super::Obstacle;
use crate::config::{Cloud, Config, Grant, Identity, url};

/// A file whose content is sent to an identity's token endpoint as it is.
struct Sent<'a> {
    /// Where the configuration names it.
    key: String,
    path: &'a Path,
    endpoint: &'a str,
}

/// The files that another endpoint than before would receive: for each the key and what to do.
pub(super) fn changed(config: &Config, before: &Config) -> Vec<Obstacle> {
    let known = sent(before);
    let mut obstacles = Vec::new();
    for Sent { key, path, endpoint } in sent(config) {
        let mut receivers = known.iter().filter(|known| known.path == path).map(|known| known.endpoint);
        let Some(first) = receivers.clone().next() else { continue };
        if receivers.all(|known| !is_same_receiver(known, endpoint)) {
            let [old, new] = [first, endpoint].map(|endpoint| url::host(endpoint).unwrap_or("another host"));
            let message = format!(
                "{} is a secret for the token endpoint at {old}, and would be sent to another one, at {new}: name another file, or \
                 restart packetboat",
                path.display()
            );
            obstacles.push((key, message));
        }
    }
    obstacles
}

/// The key of a certificate is not among them: its signature is good for one endpoint alone.
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

/// The same host and port, or two hosts of one cloud.
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
