//! The permissions that a reload can withdraw from an open connection, and the words for each.

/// A permission that a connection or a session rests on, and that the present configuration no longer gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Withdrawn {
    /// The address that it came to belongs to no listener.
    Listener,
    /// Its listener speaks the other protocol.
    Protocol,
    /// Its source is outside of the listener's `allowed_networks`.
    Network,
    /// The load balancer that named its source is not in `proxy_protocol`.
    Balancer,
    /// Its listener takes neither its TLS version nor its cipher suite.
    Tls,
    /// It has no TLS, and its listener takes no login without.
    Cleartext,
    /// Its listener observes, passes logins through or translates them, and did otherwise.
    Logins,
    /// Its mail server has another address, or other certificates are trusted there.
    Upstream,
    /// No device has the login.
    Device,
    /// The device has other passwords than the one that was used.
    Password,
    /// Its source is outside of the device's `networks`.
    DeviceNetwork,
    /// The device may not delete any more.
    Deletion,
    /// The device opens another mailbox.
    Mailbox,
    /// The account gets its tokens from another endpoint, as another application or person.
    Identity,
}

impl Withdrawn {
    /// What was withdrawn, as it stands in the log and in the answer to `packetboat reload`.
    pub fn words(self) -> &'static str {
        match self {
            Withdrawn::Listener => "listener removed or moved",
            Withdrawn::Protocol => "listener's protocol changed",
            Withdrawn::Network => "source no longer in allowed_networks",
            Withdrawn::Balancer => "load balancer no longer in proxy_protocol",
            Withdrawn::Tls => "TLS version or cipher suite no longer taken",
            Withdrawn::Cleartext => "no TLS, which the listener now asks for",
            Withdrawn::Logins => "listener's logins changed",
            Withdrawn::Upstream => "mail server or its certificates changed",
            Withdrawn::Device => "login removed",
            Withdrawn::Password => "password removed",
            Withdrawn::DeviceNetwork => "source no longer in the device's networks",
            Withdrawn::Deletion => "delete = false set",
            Withdrawn::Mailbox => "mailbox removed or changed",
            Withdrawn::Identity => "identity or user changed",
        }
    }
}
