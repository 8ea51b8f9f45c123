//! Permissions that a reload can withdraw from an open connection, with the words for each.

/// A permission of an open connection that the present configuration no longer gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Withdrawn {
    /// The connection's local address belongs to no listener.
    Listener,
    /// The listener speaks another protocol.
    Protocol,
    /// The source is outside the listener's `allowed_networks`.
    Network,
    /// The load balancer that named the source is not in `proxy_protocol`.
    Balancer,
    /// The listener does not allow the TLS version or the cipher suite.
    Tls,
    /// The connection has no TLS, and the listener allows no login without it.
    Cleartext,
    /// The listener treats logins in another way: it observes, passes through or translates them.
    Logins,
    /// The mail server has another address, or other certificates are trusted for it.
    Upstream,
    /// No device has the login.
    Device,
    /// The device no longer has the password that was used.
    Password,
    /// The device may no longer send without a login.
    WithoutLogin,
    /// The source is outside the device's `networks`.
    DeviceNetwork,
    /// The device may no longer delete.
    Deletion,
    /// The device opens another mailbox.
    Mailbox,
    /// The account or the device allows less to the mail that the device sends.
    Submission,
    /// The account gets its tokens from another endpoint, as another application or person.
    Identity,
}

impl Withdrawn {
    /// The words for the log and for the answer of `packetboat reload`.
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
            Withdrawn::WithoutLogin => "send_without_login removed",
            Withdrawn::DeviceNetwork => "source no longer in the device's networks",
            Withdrawn::Deletion => "delete = false set",
            Withdrawn::Mailbox => "mailbox removed or changed",
            Withdrawn::Submission => "rules for sending changed",
            Withdrawn::Identity => "identity or user changed",
        }
    }
}
