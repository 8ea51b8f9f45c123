//! The steps by which an application proves to Entra that it is packetboat: certificate, secret, or a token.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::config::{CREDENTIALS, CertificateFiles, Cloud, Config, Credential, Grant, Identity};
use crate::transport::downstream::certificate;

/// The steps for an identity's proof, each with its commands.
pub(super) fn steps(config: &Config, identity: &Identity) -> Vec<String> {
    match &identity.grant {
        Grant::ClientCredentials(Credential::Certificate(files)) => by_certificate(config, files),
        Grant::ClientCredentials(Credential::Secret(file)) => vec![format!(
            "There: Certificates & secrets, New client secret. Put its value (not its id) into {}, readable by \
             packetboat alone (chmod 600), and its last day into client_secret_expires. A certificate is better.",
            file.path.display()
        )],
        Grant::Federated(file) => vec![format!(
            "There: Certificates & secrets, Federated credentials: issuer and subject of the token in {}, audience {}.",
            file.display(),
            audience(identity.cloud)
        )],
        Grant::AuthorizationCode(_) | Grant::DeviceCode(_) | Grant::Password(_) | Grant::ManagedIdentity => Vec::new(),
    }
}

fn by_certificate(config: &Config, files: &CertificateFiles) -> Vec<String> {
    let chain = shell_word(&files.chain);
    let upload = format!(
        "There: Certificates & secrets, Certificates, Upload certificate. The file is on this computer: where your \
         browser runs, save what `cat {chain}` prints here as app.pem, and upload that. Never upload {}.",
        files.key.display()
    );
    match certificate::describe(&files.chain) {
        Ok(one) => {
            let (sha1, sha256, until) = (one.sha1.replace(':', ""), one.sha256, one.not_after);
            vec![format!("{upload} (Thumbprint {sha1}, SHA-256 {sha256}, until {until}.)")]
        }
        Err(_) => {
            let recipe = recipe(&config.state_directory, files).join("\n    ");
            vec![format!("Make a key and a certificate for two years, as root:\n\n    {recipe}\n"), upload]
        }
    }
}

/// The commands that make key and certificate, where the service reads them.
fn recipe(state_directory: &Path, files: &CertificateFiles) -> Vec<String> {
    let (chain, key) = (shell_word(&files.chain), shell_word(&files.key));
    let mut lines = vec![
        "openssl req -x509 -newkey rsa:3072 -nodes -days 730 -subj /CN=packetboat \\".to_owned(),
        format!("  -keyout {key} -out {chain}"),
    ];
    if files.key.starts_with(CREDENTIALS) {
        // systemd reads it as root, and hands it to the service when that starts.
        lines.push(format!("chmod 600 {key}"));
        lines.push("systemctl restart packetboat".to_owned());
        return lines;
    }
    // The owner of the state directory is the user that the service runs as.
    let owner = match std::fs::metadata(state_directory) {
        Ok(metadata) if metadata.uid() == 0 => None,
        Ok(_) => Some(format!("--reference={}", shell_word(state_directory))),
        Err(_) => Some("packetboat".to_owned()),
    };
    if let Some(owner) = owner {
        lines.push(format!("chown {owner} {key}        # the service's user"));
    }
    lines.push(format!("chmod 600 {key}"));
    lines
}

/// A path as one word of a shell.
pub(super) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"/._-+@%=:,".contains(&octet);
    if text.bytes().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// The audience that a federated token must have.
fn audience(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Worldwide | Cloud::Google => "api://AzureADTokenExchange",
        Cloud::GccHigh | Cloud::Dod => "api://AzureADTokenExchangeUSGov",
        Cloud::China => "api://AzureADTokenExchangeChina",
    }
}
