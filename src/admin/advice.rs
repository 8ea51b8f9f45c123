//! The advice beside a failure says what a person at the device can do about it.

use crate::failure::{Kind, Side};

/// Returns the advice to the person at the device about a failure of this kind.
pub(super) fn what_to_do(kind: Kind) -> &'static str {
    match kind {
        Kind::WrongPassword => {
            "Enter user name and password into the device again, as its sheet has them. If nobody knows the password, the administrator gives it a new one."
        }
        Kind::NotVerified => {
            "Wait a few minutes. Too many logins came before this one; a wrong password in another device may be the cause."
        }
        Kind::Handshake | Kind::HandshakeTimeout => {
            "The device and packetboat found no common TLS. Tell the administrator what the reason says."
        }
        Kind::LoginInClear | Kind::SpeaksInClear => {
            "Switch encryption on in the device: its sheet has the port, and SSL/TLS or STARTTLS."
        }
        Kind::NoCommand => {
            "Compare protocol and port in the device with its sheet: IMAP and POP3 have ports of their own."
        }
        Kind::LeftAfterHandshake => {
            "Import the CA into the device, and enter one of the names in the certificate as its server."
        }
        Kind::NotAllowed => "Tell the administrator the device's address: no listener lets it in from there.",
        Kind::TooManyConnections | Kind::TooManyFromSource | Kind::TooManyHandshakes => {
            "Switch the device off and on. If that does not help, the administrator has to look at the limits."
        }
        Kind::TooManySessions | Kind::InUse => {
            "Wait until other sessions with this mailbox have ended. A device that never logs out may be the cause."
        }
        Kind::Observed => "Tell the administrator: the listener observes, and lets nobody in yet.",
        Kind::NotAuthorized | Kind::LoginRefused | Kind::ContactAdmin | Kind::TokenRefused => {
            "There is nothing to do at the device. The administrator has to act: packetboat may not open the mailbox."
        }
        kind if kind.side() == Some(Side::Upstream) => {
            "There is nothing to do at the device: it will try again. If it lasts for an hour, tell the administrator."
        }
        kind if kind.side() == Some(Side::Downstream) => {
            "See whether the device and its network work, and compare its settings with the sheet."
        }
        _ => "There is nothing to do at the device: it will try again.",
    }
}

/// Returns whether the words of such a failure tell of the device alone, and not of mailboxes, accounts or networks.
pub(super) fn tells_of_device(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Handshake
            | Kind::HandshakeTimeout
            | Kind::WrongPassword
            | Kind::NotVerified
            | Kind::LoginInClear
            | Kind::SpeaksInClear
            | Kind::NoCommand
            | Kind::LeftAfterHandshake
    )
}
