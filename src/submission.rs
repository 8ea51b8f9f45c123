//! The rules for mail that a device sends: who may be its sender, and what becomes of line ends that are none.

pub mod date;
mod narrower;
mod quota;

use std::fmt;
use std::sync::Arc;

pub use quota::{Bound, RecipientCounts, RecipientQuota, Reservation};

/// The policies for the sender that a device gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SenderPolicy {
    /// The envelope has the mailbox. A From field with another address that is not allowed is replaced, and its address
    /// goes to Reply-To.
    #[default]
    Rewrite,
    /// The envelope has the mailbox. The From field goes up as it is.
    Envelope,
    /// The device's sender goes up if the mailbox may send as it, and else is refused.
    Pass,
    /// The mailbox is the only sender.
    Reject,
}

/// The treatment of octets that RFC 5321 §2.3.8 and §4.5.2 do not allow in a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BareLineEnds {
    /// A bare CR or LF goes up as CRLF. NUL passes.
    #[default]
    Repair,
    /// A message with a bare CR or LF, or with a NUL, is refused.
    Refuse,
}

/// The use of the spool by a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpoolUse {
    /// A message that the mail server does not take is the device's to send again.
    #[default]
    Off,
    /// A message that the mail server does not take at once is kept on disk, and sent later.
    Fallback,
}

/// The recipients that a message gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Those that the device gives.
    #[default]
    Recipients,
    /// The mailbox alone, in the place of all that the device gives: for a trial.
    Mailbox,
}

/// The rules of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubmissionRules {
    /// The policy for the sender.
    pub sender: SenderPolicy,
    /// The addresses that the mailbox may send as, beside its own: `user@domain` or `*@domain`.
    pub senders: Vec<String>,
    /// The recipients that devices may send to; an empty list allows all.
    pub recipients: Vec<String>,
    /// The recipients that a message gets.
    pub deliver: Delivery,
    /// The treatment of bare line ends.
    pub bare_line_ends: BareLineEnds,
    /// LF, a dot and LF end a message that has no CRLF at all.
    pub lf_end_of_data: bool,
}

/// The lists of one device, and its number of recipients. Each list stands in the place of its account's, and has nothing
/// that the account's does not allow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceLists {
    /// The addresses that the device may send as, beside the mailbox's; none leaves that to the account.
    pub senders: Option<Vec<String>>,
    /// The recipients that the device may send to; none leaves that to the account, and an empty list allows all.
    pub recipients: Option<Vec<String>>,
    /// The most recipients in an hour; none leaves that to the limits of submission.
    pub recipients_per_hour: Option<u32>,
}

impl SubmissionRules {
    /// The rules for a device with lists of its own.
    #[must_use]
    pub fn narrowed_by(&self, lists: &DeviceLists) -> Self {
        let mut rules = self.clone();
        for (own, of_account) in [(&lists.senders, &mut rules.senders), (&lists.recipients, &mut rules.recipients)] {
            if let Some(own) = own {
                of_account.clone_from(own);
            }
        }
        rules
    }
}

/// The part of a listener's answer to EHLO that a file may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The largest message that a device may send, in octets as it sends them.
    pub max_message_size: u64,
    /// AUTH is announced in a second form, `AUTH=LOGIN PLAIN`.
    pub auth_equals: bool,
}

impl Announcement {
    /// The bound on a message that Exchange Online announces. A mailbox's own bound may be lower.
    pub const DEFAULT: Self = Self { max_message_size: 157_286_400, auth_equals: false };
}

/// Whether a device is held back at present, because its mail was refused again and again.
#[derive(Clone)]
pub struct HoldBack(Arc<dyn Fn() -> bool + Send + Sync>);

impl HoldBack {
    /// Makes a rule that is asked at each message.
    pub fn new(is_held_back: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_held_back))
    }

    /// Returns whether the device is held back now.
    pub fn holds(&self) -> bool {
        (self.0)()
    }
}

impl Default for HoldBack {
    fn default() -> Self {
        Self::new(|| false)
    }
}

impl fmt::Debug for HoldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HoldBack")
    }
}

/// The time and the random number for fields that a message lacks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamp {
    /// The time in seconds since the beginning of 1970.
    pub seconds: u64,
    /// Octets that no other message has.
    pub id: [u8; 16],
}

/// The source of stamps for messages that lack a Date or a Message-ID.
#[derive(Clone)]
pub struct Stamps(Arc<dyn Fn() -> Stamp + Send + Sync>);

impl Stamps {
    /// Makes a source of stamps.
    pub fn new(next: impl Fn() -> Stamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(next))
    }

    /// The stamp of the next message.
    pub fn next(&self) -> Stamp {
        (self.0)()
    }
}

impl Default for Stamps {
    fn default() -> Self {
        Self::new(Stamp::default)
    }
}

impl fmt::Debug for Stamps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stamps")
    }
}

impl SenderPolicy {
    /// The policies by their names in the file.
    pub const ALL: [(&'static str, SenderPolicy); 4] = [
        ("rewrite", SenderPolicy::Rewrite),
        ("envelope", SenderPolicy::Envelope),
        ("pass", SenderPolicy::Pass),
        ("reject", SenderPolicy::Reject),
    ];
}

impl BareLineEnds {
    /// The treatments by their names in the file.
    pub const ALL: [(&'static str, BareLineEnds); 2] =
        [("repair", BareLineEnds::Repair), ("refuse", BareLineEnds::Refuse)];
}

impl SpoolUse {
    /// The uses by their names in the file.
    pub const ALL: [(&'static str, SpoolUse); 2] = [("off", SpoolUse::Off), ("fallback", SpoolUse::Fallback)];
}

impl Delivery {
    /// The deliveries by their names in the file.
    pub const ALL: [(&'static str, Delivery); 2] =
        [("recipients", Delivery::Recipients), ("mailbox", Delivery::Mailbox)];
}

/// Returns whether a text is an entry of such a list, in ASCII: `user@domain` or `*@domain`.
pub fn is_entry(text: &str) -> bool {
    let is_local = |one: u8| one.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&one);
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|one| one.is_ascii_alphanumeric() || b"-_".contains(&one));
    text.split_once('@').is_some_and(|(local, domain)| {
        let is_star = local == "*" || !local.contains('*');
        !local.is_empty() && is_star && local.bytes().all(is_local) && domain.split('.').all(is_label)
    })
}

/// Returns whether each address that an entry allows is allowed by a list as well.
pub fn covers(list: &[String], entry: &str) -> bool {
    let is_plain = entry.split_once('@').is_some_and(|(local, _)| local.bytes().all(is_plain));
    list.iter().any(|one| match one.strip_prefix("*@") {
        // A local part that some server reads as a route is in the list by itself, or not at all.
        Some(domain) => {
            let of = entry.split_once('@').map(|(_, domain)| domain);
            (is_plain || entry.starts_with("*@")) && of.is_some_and(|of| of.eq_ignore_ascii_case(domain))
        }
        None => one.eq_ignore_ascii_case(entry),
    })
}

/// Returns whether no server reads another domain into a local part with this octet.
pub fn is_plain(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b".-_+'&=~".contains(&octet)
}

/// The entry of `recipients` that stands for every address.
pub const EVERYONE: &str = "*@*";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_addresses_or_domains() {
        for entry in ["a@b", "*@contoso.example", "o'neill+x@sub.contoso.example", "a.b_c@x-y.example"] {
            assert!(is_entry(entry), "{entry}");
        }
        for entry in ["", "@b", "a@", "a", "*", "*a@b", "a@b@c", "a b@c", "a@b..c", "\u{e4}@b", "<a@b>", "a@b,c@d"] {
            assert!(!is_entry(entry), "{entry}");
        }
    }

    #[test]
    fn a_list_covers_what_it_allows_and_no_more() {
        let list = ["*@contoso.example".to_owned(), "fax@fabrikam.example".to_owned()];
        for entry in ["*@contoso.example", "*@CONTOSO.example", "scan@contoso.example", "Fax@Fabrikam.example"] {
            assert!(covers(&list, entry), "{entry}");
        }
        for entry in [
            "*@fabrikam.example",
            "scan@fabrikam.example",
            "*@mail.contoso.example",
            EVERYONE,
            // `*@contoso.example` does not allow these, and so an entry of a device must not either.
            "out%fabrikam.example@contoso.example",
            "fabrikam.example!out@contoso.example",
        ] {
            assert!(!covers(&list, entry), "{entry}");
        }
        assert!(covers(&["a%b@c.example".to_owned()], "a%b@c.example") && !covers(&[], "a@b.example"));
    }
}
