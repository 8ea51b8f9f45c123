//! The use of the spool by each mailbox and each device, and the share that one of them may have.
//!
//! A message counts with the octets of its file. One that still comes in counts with its octets so far, and takes its
//! place among the messages when it is kept: devices that are slow, or silent inside a message, lock nobody out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::entry::MailboxKey;
use super::envelope::Envelope;
use crate::config::SpoolSettings;

/// An amount of the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) octets: u64,
    pub(super) messages: usize,
}

/// The mailbox and the device that a message counts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    mailbox: MailboxKey,
    device: String,
}

/// A share of the spool that is used up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
    /// The share of a mailbox.
    Mailbox(String),
    /// The share of a device.
    Device {
        /// The device's name in the configuration.
        device: String,
        /// The mailbox that it sends from.
        mailbox: String,
    },
}

/// The bound that a message does not fit in.
pub(super) enum Full {
    Spool,
    Share(Share),
}

/// The use of the spool, as a whole and by mailbox and device.
#[derive(Default)]
pub(super) struct Shares {
    total: Used,
    mailboxes: BTreeMap<MailboxKey, OfMailbox>,
    /// The shares that a message did not fit in, until a quarter of them is free again.
    full: BTreeSet<Share>,
}

#[derive(Default, PartialEq, Eq, Debug)]
struct OfMailbox {
    used: Used,
    devices: BTreeMap<String, Used>,
}

impl Used {
    fn add(&mut self, more: Used) {
        self.octets = self.octets.saturating_add(more.octets);
        self.messages = self.messages.saturating_add(more.messages);
    }

    fn take(&mut self, less: Used) {
        self.octets = self.octets.saturating_sub(less.octets);
        self.messages = self.messages.saturating_sub(less.messages);
    }

    fn fits(mut self, more: Used, most: Used) -> bool {
        self.add(more);
        self.octets <= most.octets && self.messages <= most.messages
    }

    /// This percentage, and at least one message.
    fn percent(self, percent: u8) -> Self {
        let part = |whole: u64| u64::try_from(u128::from(whole) * u128::from(percent) / 100).unwrap_or(whole);
        let messages = usize::try_from(part(self.messages as u64)).unwrap_or(self.messages).max(1);
        Self { octets: part(self.octets), messages }
    }
}

impl Owner {
    pub(super) fn of(envelope: &Envelope) -> Self {
        Self { mailbox: envelope.mailbox_key(), device: envelope.device.clone() }
    }

    fn share_of_device(&self) -> Share {
        Share::Device { device: self.device.clone(), mailbox: self.mailbox.1.clone() }
    }

    fn share_of_mailbox(&self) -> Share {
        Share::Mailbox(self.mailbox.1.clone())
    }
}

impl Shares {
    pub(super) fn total(&self) -> Used {
        self.total
    }

    /// The shares that are full.
    pub(super) fn full(&self) -> impl Iterator<Item = &Share> {
        self.full.iter()
    }

    /// Counts more. A message whose file does not open has no owner.
    pub(super) fn add(&mut self, owner: Option<&Owner>, more: Used) {
        self.total.add(more);
        if let Some(owner) = owner {
            let mailbox = self.mailboxes.entry(owner.mailbox.clone()).or_default();
            mailbox.used.add(more);
            mailbox.devices.entry(owner.device.clone()).or_default().add(more);
        }
    }

    /// Counts less.
    pub(super) fn take(&mut self, owner: Option<&Owner>, less: Used) {
        self.total.take(less);
        let Some(owner) = owner else { return };
        let Some(mailbox) = self.mailboxes.get_mut(&owner.mailbox) else { return };
        mailbox.used.take(less);
        if let Some(device) = mailbox.devices.get_mut(&owner.device) {
            device.take(less);
            if *device == Used::default() {
                mailbox.devices.remove(&owner.device);
            }
        }
        if mailbox.devices.is_empty() {
            self.mailboxes.remove(&owner.mailbox);
        }
    }

    /// Proves that there is room for more: in the spool, in the mailbox's share and in the device's.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn check(&self, owner: &Owner, more: Used, settings: &SpoolSettings) -> Result<(), Full> {
        let most = Used { octets: settings.max_size, messages: settings.max_messages };
        if !self.total.fits(more, most) {
            return Err(Full::Spool);
        }
        let (of_mailbox, of_device) = self.of(owner);
        if !of_device.fits(more, most.percent(settings.device_share)) {
            return Err(Full::Share(owner.share_of_device()));
        }
        if !of_mailbox.fits(more, most.percent(settings.mailbox_share)) {
            return Err(Full::Share(owner.share_of_mailbox()));
        }
        Ok(())
    }

    /// Notes that a share is full. Returns false where that is known.
    pub(super) fn note_full(&mut self, share: &Share) -> bool {
        self.full.insert(share.clone())
    }

    /// Forgets that an owner's shares were full, once a quarter of them is free.
    pub(super) fn forget_full(&mut self, owner: &Owner, settings: &SpoolSettings) {
        if self.full.is_empty() {
            return;
        }
        let most = Used { octets: settings.max_size, messages: settings.max_messages };
        let (of_mailbox, of_device) = self.of(owner);
        for (share, used, percent) in [
            (owner.share_of_device(), of_device, settings.device_share),
            (owner.share_of_mailbox(), of_mailbox, settings.mailbox_share),
        ] {
            let most = most.percent(percent);
            // Of one message, all is free or nothing.
            let three_quarters = Used { octets: most.octets / 4 * 3, messages: most.messages * 3 / 4 };
            if Used::default().fits(used, three_quarters) {
                self.full.remove(&share);
            }
        }
    }

    fn of(&self, owner: &Owner) -> (Used, Used) {
        let mailbox = self.mailboxes.get(&owner.mailbox);
        let device = mailbox.and_then(|mailbox| mailbox.devices.get(&owner.device));
        (mailbox.map(|mailbox| mailbox.used).unwrap_or_default(), device.copied().unwrap_or_default())
    }

    /// Whether the sums are the same.
    #[cfg(test)]
    pub(super) fn equals(&self, other: &Self) -> bool {
        self.total == other.total && self.mailboxes == other.mailboxes
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mailbox(mailbox) => write!(f, "mailbox {mailbox} uses all of its share: see spool.mailbox_share"),
            Self::Device { device, mailbox } => {
                write!(f, "device \"{device}\" of {mailbox} uses all of its share: see spool.device_share")
            }
        }
    }
}
