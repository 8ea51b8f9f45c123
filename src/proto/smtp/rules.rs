//! The rules of one session: the account's terms, read once.

use std::sync::Arc;

use super::content::Rules;
use super::path::{Address, AddressList};
use super::sender::SenderRules;
use crate::proto::SubmissionTerms;
use crate::submission::{Delivery, HoldBack, RecipientQuota, Stamps};

/// The rules of a session. The default passes every sender and recipient.
#[derive(Debug, Default)]
pub(super) struct SessionRules {
    /// The recipients; none allows all.
    pub(super) recipients: Option<AddressList>,
    /// The rules for the content, with those for the sender.
    pub(super) content: Arc<Rules>,
    pub(super) stamps: Stamps,
    /// The quota of recipients.
    pub(super) quota: RecipientQuota,
    /// The mailbox, where it gets every message in the place of the recipients.
    pub(super) delivered_to: Option<Address>,
    /// The device is held back at times.
    pub(super) hold_back: HoldBack,
    /// Another connection to the server can be had without the device: packetboat logs in with a token of its own.
    pub(super) can_reconnect: bool,
}

impl SessionRules {
    /// Reads an account's terms: the mailbox is the sender. None where its address or an entry of a list is not in
    /// ASCII.
    pub(super) fn read(terms: &SubmissionTerms) -> Option<Self> {
        let SubmissionTerms { mailbox, rules, stamps, quota, hold_back } = terms;
        let (quota, hold_back) = (quota.clone(), hold_back.clone());
        let list = |entries: &[String]| AddressList::parse(entries.iter().map(String::as_str)).ok();
        let (mailbox, senders) = (Address::parse(mailbox.as_bytes())?, list(&rules.senders)?);
        let delivered_to = (rules.deliver == Delivery::Mailbox).then(|| mailbox.clone());
        let sender = SenderRules { policy: rules.sender, mailbox, senders };
        let recipients = if rules.recipients.is_empty() { None } else { Some(list(&rules.recipients)?) };
        let (bare_line_ends, lf_end_of_data) = (rules.bare_line_ends, rules.lf_end_of_data);
        let content = Arc::new(Rules { bare_line_ends, lf_end_of_data, sender: Some(sender) });
        let stamps = stamps.clone();
        Some(Self { recipients, content, stamps, quota, delivered_to, hold_back, can_reconnect: true })
    }

    /// The domain of the mailbox. None where logins are passed through.
    pub(super) fn own_domain(&self) -> Option<&str> {
        self.content.sender.as_ref().and_then(|sender| sender.mailbox.domain())
    }
}
