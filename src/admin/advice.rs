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
        Kind::MailWithoutLogin => {
            "Switch SMTP authentication on in the device, and enter user name and password as its sheet has them. If its menu has neither, tell the administrator the device's address."
        }
        Kind::NoCommand => {
            "Compare protocol and port in the device with its sheet: IMAP, POP3 and SMTP have ports of their own."
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
        Kind::SmtpAuthDisabled => {
            "There is nothing to do at the device. The administrator has to switch SMTP AUTH on for the mailbox."
        }
        Kind::Observed => "Tell the administrator: the listener observes, and lets nobody in yet.",
        Kind::NotAuthorized | Kind::LoginRefused | Kind::ContactAdmin | Kind::TokenRefused => {
            "There is nothing to do at the device. The administrator has to act: packetboat may not open the mailbox."
        }
        kind if kind.is_of_message() => about_a_message(kind),
        kind if kind.side() == Some(Side::Upstream) => {
            "There is nothing to do at the device: it will try again. If it lasts for an hour, tell the administrator."
        }
        kind if kind.side() == Some(Side::Downstream) => {
            "See whether the device and its network work, and compare its settings with the sheet."
        }
        _ => "There is nothing to do at the device: it will try again.",
    }
}

/// Returns the advice about a message that was not sent.
fn about_a_message(kind: Kind) -> &'static str {
    match kind {
        Kind::SenderRefused => {
            "Enter the sender of its printed sheet into the device. If it has that sender, the administrator has to act: the mailbox may not send as it."
        }
        Kind::RecipientRefused => {
            "Correct the recipient's address in the device. If it is right, the administrator has to allow it."
        }
        Kind::MessageTooBig => "Scan fewer pages at once, or with a lower resolution or in black and white.",
        Kind::MailboxFull => {
            "There is nothing to do at the device. The administrator has to empty the mailbox, above all its Sent Items."
        }
        Kind::MailboxThrottled => {
            "Wait, and send nothing meanwhile. The administrator has to mend the error that came before."
        }
        Kind::DeviceQuota => {
            "Send again in an hour. If nobody has sent so much, tell the administrator at once: somebody else may use the device."
        }
        Kind::SubmissionQuota => {
            "Send again tomorrow, or to fewer recipients. The mailbox has sent to as many as it may in a day."
        }
        Kind::MessageRefused => {
            "Do not send the same message again. The administrator's page has the words of the mail server."
        }
        Kind::MessageDeferred => "Send the message again in a few minutes.",
        Kind::OutcomeUnknown => {
            "Ask the recipient before you send the message again: nobody knows whether it was sent. Sent Items of the mailbox has it if it was."
        }
        _ => "Send the message again later. If it fails again, tell the administrator what the reason says.",
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
