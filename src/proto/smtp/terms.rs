//! The terms of submission: who may be the sender, who may be a recipient, and what becomes of odd line ends.

use std::sync::Arc;

use super::content::Rules;
use super::path::{Address, AddressList};
use super::sender::{SenderPolicy, SenderRules};

/// The terms of a session that submits mail. The default passes every sender and recipient.
#[derive(Debug, Default)]
pub struct SubmissionTerms {
    /// The rules for the sender; none passes every one.
    pub(super) sender: Option<SenderRules>,
    /// The recipients; none allows all.
    pub(super) recipients: Option<AddressList>,
    /// The rules for the content.
    pub(super) content: Arc<Rules>,
}

impl SubmissionTerms {
    /// Makes the terms of an account: the mailbox is the sender. None where its address is not in ASCII.
    pub fn of_mailbox(mailbox: &str) -> Option<Self> {
        let mailbox = Address::parse(mailbox.as_bytes())?;
        let sender = SenderRules { policy: SenderPolicy::Rewrite, mailbox, senders: AddressList::default() };
        Some(Self { sender: Some(sender), recipients: None, content: Arc::default() })
    }
}
