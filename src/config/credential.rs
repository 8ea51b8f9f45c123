//! Files that the service manager hands over: `credential:NAME` in place of a path.

use std::env;
use std::path::{Component, Path, PathBuf};

use super::{CertificateSource, Config, Credential, Grant, Roots, SecretFile};

/// Puts real paths in place of such.
pub(super) fn resolve(config: &mut Config) {
    let handed_over = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    for path in paths(config) {
        if let Some(name) = path.to_str().and_then(|text| text.strip_prefix(PREFIX)) {
            *path = find(name, handed_over.as_deref());
        }
    }
}

/// Under its own name (`LoadCredential=NAME:...`), or in a directory that is handed over as a whole
/// (`LoadCredential=packetboat:/etc/packetboat/credentials`); outside of the service there.
fn find(name: &str, handed_over: Option<&Path>) -> PathBuf {
    let Some(directory) = handed_over else { return Path::new(DIRECTORY).join(name) };
    let of_directory = directory.join(format!("packetboat_{name}"));
    if of_directory.exists() { of_directory } else { directory.join(name) }
}

/// Every file that the configuration names.
pub(super) fn files(config: &Config) -> Vec<PathBuf> {
    let mut copy = config.clone();
    let mut files: Vec<PathBuf> = paths(&mut copy).into_iter().map(|path| path.clone()).collect();
    let roots = config.upstreams.values().map(|upstream| &upstream.roots);
    let roots = roots.chain(config.fleet.iter().map(|fleet| &fleet.roots));
    let roots = roots.chain(config.identities.values().map(|identity| &identity.roots));
    files.extend(roots.filter_map(|roots| match roots {
        Roots::File(path) => Some(path.clone()),
        Roots::Bundled | Roots::System => None,
    }));
    files
}

/// The names of the credentials in [`DIRECTORY`] that the configuration names. A name that leads elsewhere is none.
pub(super) fn names(config: &Config) -> Vec<String> {
    let mut copy = config.clone();
    let mut names: Vec<String> = paths(&mut copy).into_iter().filter_map(|path| name_of(path)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn name_of(path: &Path) -> Option<String> {
    let name = path.strip_prefix(DIRECTORY).ok()?;
    let mut parts = name.components();
    let is_one = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    if is_one { name.to_str().map(str::to_owned) } else { None }
}

/// Every path that a secret or a certificate stands in.
fn paths(config: &mut Config) -> Vec<&mut PathBuf> {
    let mut paths: Vec<&mut PathBuf> = Vec::new();
    paths.extend(&mut config.store_key);
    paths.extend(&mut config.admin.token_file);
    paths.extend(&mut config.admin.technician_token_file);
    if let Some(fleet) = &mut config.fleet {
        paths.extend(&mut fleet.password_file);
        paths.extend(fleet.client_certificate.iter_mut().flat_map(|files| [&mut files.chain, &mut files.key]));
        paths.extend(fleet.password_identity.iter_mut().flat_map(|one| paths_of_grant(&mut one.identity.grant)));
    }
    for certificate in config.certificates.values_mut() {
        if let CertificateSource::Files(files) = &mut certificate.source {
            paths.extend([&mut files.chain, &mut files.key]);
        }
        paths.extend(certificate.ecdsa.iter_mut().flat_map(|files| [&mut files.chain, &mut files.key]));
    }
    paths.extend(config.accounts.values_mut().filter_map(|account| account.password_file.as_mut()));
    for identity in config.identities.values_mut() {
        paths.extend(paths_of_grant(&mut identity.grant));
    }
    paths
}

/// The paths of what an application proves itself with.
fn paths_of_grant(grant: &mut Grant) -> Vec<&mut PathBuf> {
    match grant {
        Grant::ClientCredentials(Credential::Certificate(files)) => vec![&mut files.chain, &mut files.key],
        Grant::ClientCredentials(Credential::Secret(SecretFile { path, .. }))
        | Grant::AuthorizationCode(Some(SecretFile { path, .. }))
        | Grant::DeviceCode(Some(SecretFile { path, .. }))
        | Grant::Password(Some(SecretFile { path, .. }))
        | Grant::Federated(path) => vec![path],
        Grant::AuthorizationCode(None) | Grant::DeviceCode(None) | Grant::Password(None) | Grant::ManagedIdentity => {
            Vec::new()
        }
    }
}

const PREFIX: &str = "credential:";
/// The directory that the packaged unit takes credentials from.
pub const DIRECTORY: &str = "/etc/packetboat/credentials";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_elsewhere_is_no_credential() {
        for (name, expected) in [
            ("app.key", Some("app.key")),
            ("../../shadow", None),
            ("..", None),
            ("sub/app.key", None),
            ("/etc/shadow", None),
            ("", None),
        ] {
            assert_eq!(name_of(&find(name, None)).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn by_name_by_directory_and_outside_of_the_service() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("packetboat_app.key"), "x").unwrap();
        assert_eq!(find("app.key", Some(directory.path())), directory.path().join("packetboat_app.key"));
        assert_eq!(find("secret", Some(directory.path())), directory.path().join("secret"));
        assert_eq!(find("app.key", None), Path::new("/etc/packetboat/credentials/app.key"));
    }
}
