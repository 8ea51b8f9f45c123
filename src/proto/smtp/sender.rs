//! The sender policy: whose address a message bears when it goes up, in the envelope and in its From field.
//!
//! Exchange Online compares both with the mailbox at the end of the data, and a sender that it refuses again and again
//! has the whole mailbox throttled. So the sender is put right, or refused, before it goes up.

use super::path::{Address, AddressList};
use crate::submission::SenderPolicy;

/// The sender policy of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proto) struct SenderRules {
    /// The policy.
    pub(in crate::proto) policy: SenderPolicy,
    /// The mailbox that sends.
    pub(in crate::proto) mailbox: Address,
    /// The addresses that the mailbox may send as, beside its own.
    pub(in crate::proto) senders: AddressList,
}

impl SenderRules {
    /// Returns the sender for the server's MAIL, for the one that the device gives; `None` to refuse it with
    /// [`SENDER_REFUSED`]. The null sender of an error report becomes the mailbox.
    pub(in crate::proto) fn envelope<'a>(&'a self, device: Option<&'a Address>) -> Option<&'a Address> {
        match (self.policy, device) {
            (SenderPolicy::Rewrite | SenderPolicy::Envelope, _) | (_, None) => Some(&self.mailbox),
            (SenderPolicy::Pass | SenderPolicy::Reject, Some(device)) => self.allows(device).then_some(device),
        }
    }

    /// Returns whether the envelope has the mailbox, whatever the device gives.
    pub(in crate::proto) fn replaces(&self) -> bool {
        matches!(self.policy, SenderPolicy::Rewrite | SenderPolicy::Envelope)
    }

    /// Returns whether a message may bear this address.
    pub(in crate::proto) fn allows(&self, address: &Address) -> bool {
        self.mailbox.is(address) || (self.policy != SenderPolicy::Reject && self.senders.allows(address))
    }
}

/// The reply to a sender that the policy does not allow, without its line end.
pub(in crate::proto) const SENDER_REFUSED: &str = "550 5.7.60 This login may not send as this sender";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_has_the_mailbox_or_an_allowed_sender() {
        let address = |text: &str| Address::parse(text.as_bytes()).unwrap();
        let rules = |policy| SenderRules {
            policy,
            mailbox: address("scan@contoso.example"),
            senders: AddressList::parse(["*@fabrikam.example"]).unwrap(),
        };
        assert!(SENDER_REFUSED.starts_with("550 5.7.60 "));
        let (own, allowed, other) = ("Scan@contoso.example", "a@fabrikam.example", "a@other.example");
        let mailbox = Some("scan@contoso.example");
        for (policy, expected) in [
            (SenderPolicy::Rewrite, [mailbox, mailbox, mailbox, mailbox]),
            (SenderPolicy::Envelope, [mailbox, mailbox, mailbox, mailbox]),
            (SenderPolicy::Pass, [mailbox, Some(own), Some(allowed), None]),
            (SenderPolicy::Reject, [mailbox, Some(own), None, None]),
        ] {
            let rules = rules(policy);
            assert_eq!(rules.replaces(), expected[3].is_some(), "{policy:?}");
            for (device, expected) in [None, Some(own), Some(allowed), Some(other)].into_iter().zip(expected) {
                let device = device.map(address);
                let sent = rules.envelope(device.as_ref()).map(Address::as_str);
                assert_eq!(sent, expected, "{policy:?} {device:?}");
            }
        }
    }
}
