//! A tenant has one app, its users, and a rule who may open which mailbox.

use crate::crypto::VerifyingKey;

/// One tenant with one app registration.
pub struct Tenant {
    /// The tenant's name, which is the first segment of paths, as `contoso.onmicrosoft.com`.
    pub name: String,
    /// The app's client ID.
    pub client_id: String,
    /// The app may go without secret and certificate where a user signs in ("Allow public client flows").
    pub public_client: bool,
    /// The app's secret.
    pub client_secret: Option<String>,
    /// The app's certificate.
    pub certificate: Option<ClientCertificate>,
    /// The assertion of a managed identity that counts as the app's; IMDS hands it out.
    pub federated_token: Option<String>,
    /// The users; the first one signs in where no other is named.
    pub users: Vec<User>,
    /// Mailboxes that the app may open by itself.
    pub app_mailboxes: Vec<String>,
    /// Other senders of mailboxes: a mailbox, and an alias of it or an address that it has SendAs for.
    pub send_as: Vec<(String, String)>,
}

/// The certificate that has been uploaded for the app.
pub struct ClientCertificate {
    /// The key that verifies assertions.
    pub key: VerifyingKey,
    /// `x5t#S256`: the SHA-256 of the certificate's DER in base64url without padding.
    pub thumbprint: String,
}

/// A user with a mailbox of the same address.
#[derive(Clone, Debug)]
pub struct User {
    /// The address, as `scan@contoso.example`.
    pub address: String,
    /// The password, for the password grant.
    pub password: String,
    /// Other mailboxes to which the user has full access.
    pub delegates: Vec<String>,
}

/// The holder of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Principal {
    /// The app by itself.
    App,
    /// A user, by address.
    User(String),
}

impl Tenant {
    /// A tenant of this name and app, public, without anybody in it yet.
    pub fn new(name: &str, client_id: &str) -> Self {
        Self {
            name: name.to_owned(),
            client_id: client_id.to_owned(),
            public_client: true,
            client_secret: None,
            certificate: None,
            federated_token: None,
            users: Vec::new(),
            app_mailboxes: Vec::new(),
            send_as: Vec::new(),
        }
    }

    /// The user of that address; an empty one means the first.
    pub(super) fn user(&self, address: &str) -> Option<&User> {
        if address.is_empty() {
            return self.users.first();
        }
        self.users.iter().find(|user| user.address.eq_ignore_ascii_case(address))
    }

    /// All mailboxes of the tenant.
    pub(super) fn mailboxes(&self) -> impl Iterator<Item = &String> {
        let of_users = self.users.iter().flat_map(|user| user.delegates.iter().chain([&user.address]));
        self.app_mailboxes.iter().chain(of_users)
    }

    /// Returns whether a user has full access to a mailbox: the own one, or that of a delegate.
    pub(super) fn may_open(&self, address: &str, mailbox: &str) -> bool {
        let among = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case(mailbox));
        address.eq_ignore_ascii_case(mailbox) || self.user(address).is_some_and(|user| among(&user.delegates))
    }
}

impl User {
    /// A user who may open only the own mailbox.
    pub fn new(address: &str, password: &str) -> Self {
        Self { address: address.to_owned(), password: password.to_owned(), delegates: Vec::new() }
    }
}
