//! Devices, the accounts whose mailbox they open, and the identities by which packetboat fetches tokens.

use std::path::PathBuf;

use super::{Cloud, Networks, Roots};
use crate::protocol::{Actor, Protocol};
use crate::submission::{DeviceLists, SubmissionRules};

/// A device, or several that share a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The user names of the device, in lower case. Never empty; the first one stands in the log.
    pub logins: Vec<String>,
    /// Argon2id hashes in the PHC string format. Empty for a device alone that sends without a login.
    pub passwords: Vec<String>,
    /// Key of [`super::Config::accounts`].
    pub account: String,
    /// The networks that the device may come from; `None` leaves that to its listener.
    pub networks: Option<Networks>,
    /// A description for people.
    pub description: Option<String>,
    /// True if the device may delete messages.
    pub delete: bool,
    /// True if the device may send mail without a login: its networks, which are always some then, stand for it.
    pub sends_without_login: bool,
    /// The lists of senders and recipients that stand in the place of its account's.
    pub submission: DeviceLists,
}

/// A mailbox, and the way to open it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The mailbox's address: the `user=` of XOAUTH2.
    pub mailbox: String,
    /// Key of [`super::Config::identities`].
    pub identity: String,
    /// Key of [`super::Config::upstreams`].
    pub upstream: String,
    /// The person who signs in, with grants of a person: the mailbox itself, or its delegate.
    pub user: String,
    /// That person's password, with [`Grant::Password`].
    pub password_file: Option<PathBuf>,
    /// True if packetboat tries one command in the mailbox before it lets the device in.
    pub probe: bool,
    /// The rules for the mail that devices send from the mailbox.
    pub submission: SubmissionRules,
}

/// An application, as the identity provider knows it, and its way to tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The provider's preset.
    pub cloud: Cloud,
    /// Whether the cloud's own mail server may see its tokens: they come from the cloud's token endpoint, or the cloud
    /// is written in the file. Otherwise each account names its server.
    pub tokens_are_of_cloud: bool,
    /// The authority, as `https://login.microsoftonline.com`, without a slash at its end.
    pub authority: String,
    /// The directory: a domain or a GUID. Empty with Google, and with [`Grant::ManagedIdentity`].
    pub tenant: String,
    /// The application's id. Empty for a system-assigned managed identity.
    pub client_id: String,
    /// The way to tokens.
    pub grant: Grant,
    /// The scopes to ask for, joined by spaces; the resource with [`Grant::ManagedIdentity`].
    pub scope: String,
    /// The URL that tokens come from.
    pub token_endpoint: String,
    /// The URL where a person signs in, with [`Grant::AuthorizationCode`].
    pub authorization_endpoint: String,
    /// The URL that device codes come from, with [`Grant::DeviceCode`].
    pub device_endpoint: String,
    /// The certification authorities that packetboat trusts at the endpoints.
    pub roots: Roots,
    /// The endpoint's treatment of refresh tokens that were used.
    pub rotation: Rotation,
}

/// The treatment of refresh tokens that were used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Each is taken once: a second use may end the sign-in.
    Strict,
    /// Earlier ones stay good beside new ones, as Microsoft's and Google's do.
    Lenient,
}

/// The ways to a token (RFC 6749 §1.3, RFC 8628).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The application asks in its own name (RFC 6749 §4.4).
    ClientCredentials(Credential),
    /// A person signs in once, in a browser (RFC 6749 §4.1, RFC 7636). Some providers want a secret besides.
    AuthorizationCode(Option<SecretFile>),
    /// A person signs in once, on another computer (RFC 8628).
    DeviceCode(Option<SecretFile>),
    /// The application sends a person's password (RFC 6749 §4.3).
    Password(Option<SecretFile>),
    /// The application shows another issuer's token out of this file (RFC 7523 §2.2).
    Federated(PathBuf),
    /// The metadata service of an Azure machine gives the token.
    ManagedIdentity,
}

/// The proof of an application's identity.
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
    /// The file. White space at its end is no part of the secret.
    pub path: PathBuf,
    /// The secret's last day, as days since 1970-01-01, where that is known.
    pub expires: Option<u64>,
}

impl Grant {
    /// Returns whether a person has to sign in once, by `packetboat login`.
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

    /// The name in the file.
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
    /// Whether another one is the same application, which gets the same tokens from the same issuer. Secrets, keys and
    /// their files may differ.
    pub fn is_same_as(&self, other: &Self) -> bool {
        (&self.token_endpoint, &self.client_id, &self.tenant, &self.scope)
            == (&other.token_endpoint, &other.client_id, &other.tenant, &other.scope)
            && (self.cloud, self.grant.name()) == (other.cloud, other.grant.name())
    }

    /// The longest access token that the mail server takes by a protocol, in characters; `None` where no limit is
    /// known.
    pub fn longest_token(&self, protocol: Protocol) -> Option<usize> {
        if self.is_of_microsoft() { protocol.longest_exchange_token() } else { None }
    }

    /// Returns whether the tokens are Microsoft's, so that advice about Entra and Exchange fits.
    pub fn is_of_microsoft(&self) -> bool {
        self.tokens_are_of_cloud && self.cloud.is_microsoft()
    }
}

/// The URL of the metadata service on Azure's machines.
pub const METADATA_ENDPOINT: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
