//! Who devices are, whose mailbox they open, and as whom packetboat fetches tokens: devices, accounts, identities.

use std::path::PathBuf;

use super::{Cloud, Networks, Roots};
use crate::protocol::{Actor, Protocol};

/// A device, or several that share a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What it may type as its user name, in lower case. Never empty; the first one stands in the log.
    pub logins: Vec<String>,
    /// Argon2id hashes in the PHC string format. Never empty.
    pub passwords: Vec<String>,
    /// Key of [`super::Config::accounts`].
    pub account: String,
    /// Where it may come from; `None` means wherever its listener lets it.
    pub networks: Option<Networks>,
    /// What people call it.
    pub description: Option<String>,
    /// Whether what it deletes is deleted.
    pub delete: bool,
}

/// A mailbox, and how it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its address: the `user=` of XOAUTH2.
    pub mailbox: String,
    /// Key of [`super::Config::identities`].
    pub identity: String,
    /// Key of [`super::Config::upstreams`].
    pub upstream: String,
    /// Who signs in, with grants of a person: the mailbox itself, or a delegate of it.
    pub user: String,
    /// That person's password, with [`Grant::Password`].
    pub password_file: Option<PathBuf>,
    /// One command is tried in the mailbox before the device is told that it is in.
    pub probe: bool,
}

/// An application, as the identity provider knows it, and how it gets tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The provider's preset.
    pub cloud: Cloud,
    /// Whether the cloud's own mail server may see its tokens: they come from the cloud's token endpoint, or the cloud is
    /// written in the file. Otherwise each account names its server.
    pub tokens_are_of_cloud: bool,
    /// As `https://login.microsoftonline.com`, without a slash at its end.
    pub authority: String,
    /// The directory: a domain or a GUID. Empty with Google, and with [`Grant::ManagedIdentity`].
    pub tenant: String,
    /// The application's id. Empty for a system-assigned managed identity.
    pub client_id: String,
    /// How it gets tokens.
    pub grant: Grant,
    /// What is asked for, joined by spaces; with [`Grant::ManagedIdentity`] the resource.
    pub scope: String,
    /// Where tokens come from.
    pub token_endpoint: String,
    /// Where a person signs in, with [`Grant::AuthorizationCode`].
    pub authorization_endpoint: String,
    /// Where codes come from, with [`Grant::DeviceCode`].
    pub device_endpoint: String,
    /// Whom the endpoints must be certified by.
    pub roots: Roots,
}

/// The ways to a token (RFC 6749 §1.3, RFC 8628).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// As the application itself (RFC 6749 §4.4).
    ClientCredentials(Credential),
    /// A person signs in once, in a browser (RFC 6749 §4.1, RFC 7636). Some providers want a secret besides.
    AuthorizationCode(Option<SecretFile>),
    /// A person signs in once, on another computer (RFC 8628).
    DeviceCode(Option<SecretFile>),
    /// With a person's password (RFC 6749 §4.3).
    Password(Option<SecretFile>),
    /// As the application, proven by another issuer's token in this file (RFC 7523 §2.2).
    Federated(PathBuf),
    /// From the metadata service of an Azure machine.
    ManagedIdentity,
}

/// How an application proves that it is the one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A client secret.
    Secret(SecretFile),
    /// A certificate, and its RSA key in PEM.
    Certificate(super::CertificateFiles),
}

/// A secret, kept in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile {
    /// Its content is the secret, but for white space at the end.
    pub path: PathBuf,
    /// Its last day, as days since 1970-01-01, where that is known.
    pub expires: Option<u64>,
}

impl Grant {
    /// Whether a person has to sign in once, by `packetboat login`.
    pub fn needs_login(&self) -> bool {
        match self {
            Grant::AuthorizationCode(_) | Grant::DeviceCode(_) => true,
            Grant::ClientCredentials(_) | Grant::Password(_) | Grant::Federated(_) | Grant::ManagedIdentity => false,
        }
    }

    /// The actor in whose name the token opens mailboxes.
    pub fn actor(&self) -> Actor {
        if self.needs_login() || matches!(self, Grant::Password(_)) { Actor::Person } else { Actor::Application }
    }

    /// Returns whether the token is a person's rather than the application's.
    pub fn is_of_a_person(&self) -> bool {
        self.actor() == Actor::Person
    }

    /// The client secret, where it has one.
    pub fn client_secret(&self) -> Option<&SecretFile> {
        match self {
            Grant::ClientCredentials(Credential::Secret(file)) => Some(file),
            Grant::AuthorizationCode(file) | Grant::DeviceCode(file) | Grant::Password(file) => file.as_ref(),
            Grant::ClientCredentials(Credential::Certificate(_)) | Grant::Federated(_) | Grant::ManagedIdentity => None,
        }
    }

    /// As it is written.
    pub fn name(&self) -> &'static str {
        match self {
            Grant::ClientCredentials(_) => "client-credentials",
            Grant::AuthorizationCode(_) => "authorization-code",
            Grant::DeviceCode(_) => "device-code",
            Grant::Password(_) => "password",
            Grant::Federated(_) => "federated",
            Grant::ManagedIdentity => "managed-identity",
        }
    }
}

impl Identity {
    /// Whether another one is the same application, which gets the same tokens from the same issuer. Secrets, keys and their files
    /// may differ.
    pub fn is_same_as(&self, other: &Self) -> bool {
        (&self.token_endpoint, &self.client_id, &self.tenant, &self.scope)
            == (&other.token_endpoint, &other.client_id, &other.tenant, &other.scope)
            && (self.cloud, self.grant.name()) == (other.cloud, other.grant.name())
    }

    /// The longest access token that the mail server takes by a protocol, in characters; `None` where no limit is known.
    pub fn longest_token(&self, protocol: Protocol) -> Option<usize> {
        if self.is_of_microsoft() { protocol.longest_exchange_token() } else { None }
    }

    /// Whether its tokens are Microsoft's, so that advice about Entra and Exchange fits.
    pub fn is_of_microsoft(&self) -> bool {
        self.tokens_are_of_cloud && self.cloud.is_microsoft()
    }
}

/// Where Azure's machines find their metadata service.
pub const METADATA_ENDPOINT: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
