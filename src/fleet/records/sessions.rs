//! The sessions of mailboxes, which instances borrow from each other: never more at a time than the mail server takes.

use std::time::Duration;

use super::Answer;

/// A mailbox at a mail server, with the kind of its sessions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxKey {
    /// The name of the upstream in the configuration.
    pub upstream: String,
    /// The address of the mailbox, in lower case.
    pub mailbox: String,
    /// The kind of the sessions: the mail server has a limit of its own for each.
    pub kind: SessionKind,
}

/// The kind of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SessionKind {
    /// IMAP or POP3.
    Reading,
    /// SMTP.
    Sending,
}

impl SessionKind {
    /// The kind in the database, and for programs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Reading => "read",
            Self::Sending => "send",
        }
    }

    /// The kind of this label.
    pub fn of(label: &str) -> Option<Self> {
        [Self::Reading, Self::Sending].into_iter().find(|kind| kind.label() == label)
    }
}

/// A session that an instance has borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeldSession {
    /// The number among the sessions of its mailbox, from 0 on.
    pub number: i16,
    /// The number of times that it was borrowed. A renewal or return with another number changes nothing.
    pub epoch: i64,
}

/// A wish for sessions of one mailbox.
#[derive(Clone, Copy, Debug)]
pub struct SessionRequest<'a> {
    /// The id of the instance.
    pub instance: &'a str,
    /// The most sessions of the mailbox, of all instances together.
    pub most: i16,
    /// The number of sessions that are wanted.
    pub count: i16,
    /// The number of sessions that the instance holds. An instance that holds more may give one back.
    pub holds: i16,
    /// The time for which they are borrowed.
    pub life: Duration,
}

/// The answer to a wish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Borrowed {
    /// The sessions that the instance holds from now on; none where all are held.
    pub sessions: Vec<HeldSession>,
    /// The time for which the mail server throttles the mailbox, if it does.
    pub quiet: Option<Duration>,
}

/// News of a mailbox whose sessions an instance holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxNews {
    /// The mailbox.
    pub key: MailboxKey,
    /// The wishes of other instances that have got nothing, if there are any.
    pub wanted: Option<Wanted>,
    /// The time for which the mail server throttles the mailbox, if it does.
    pub quiet: Option<Duration>,
}

/// The wishes of other instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The number of sessions that they want.
    pub count: i16,
    /// The smallest number that one of them holds.
    pub holds: i16,
}

/// The sessions of a mailbox as an operator sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxUse {
    /// The mailbox.
    pub key: MailboxKey,
    /// The instances that hold sessions, each with their number. An instance without a registration has its id here.
    pub holders: Vec<(String, i64)>,
    /// The time for which the mail server throttles the mailbox, if it does.
    pub quiet: Option<Duration>,
}

/// The sessions that instances borrow. A session is free again when its time is over, by the clock of the database.
pub trait SessionRecords: Send + Sync {
    /// Borrows free sessions of a mailbox: as many as are wanted, or as there are. Another instance that wants some,
    /// and holds fewer or has waited for longer, comes first. The wish of an instance that gets none stays for a second,
    /// so that the others read it. A new mailbox gets its rows first, by another statement.
    fn borrow_sessions<'a>(&'a self, key: &'a MailboxKey, request: SessionRequest<'a>) -> Answer<'a, Borrowed>;

    /// Prolongs borrowed sessions for this time from now on. Returns those that the instance still holds.
    fn renew_sessions<'a>(
        &'a self,
        instance: &'a str,
        held: &'a [(MailboxKey, HeldSession)],
        life: Duration,
    ) -> Answer<'a, Vec<(MailboxKey, HeldSession)>>;

    /// Gives borrowed sessions back. Those that the instance no longer holds stay as they are.
    fn return_sessions<'a>(&'a self, instance: &'a str, held: &'a [(MailboxKey, HeldSession)]) -> Answer<'a, ()>;

    /// Gives all sessions of an instance back.
    fn return_all_sessions<'a>(&'a self, instance: &'a str) -> Answer<'a, ()>;

    /// Reads the news of the mailboxes whose sessions the instance holds. A mailbox without news is not in the list.
    fn session_news<'a>(&'a self, instance: &'a str) -> Answer<'a, Vec<MailboxNews>>;

    /// Notes that the mail server throttles a mailbox for this time from now on. A later end stands.
    fn throttle<'a>(&'a self, key: &'a MailboxKey, time: Duration) -> Answer<'a, ()>;

    /// Takes a part of the mailbox's pace: the time that some messages need, after the time of all earlier ones.
    /// Returns how far the earlier ones are ahead of the clock.
    fn draw_pace<'a>(&'a self, key: &'a MailboxKey, time: Duration) -> Answer<'a, Duration>;

    /// Gives back the time of messages that were not sent.
    fn return_pace<'a>(&'a self, key: &'a MailboxKey, time: Duration) -> Answer<'a, ()>;

    /// Counts the instances that are registered. Forgets wishes that are over, and instances whose registration ended a
    /// day ago.
    fn count_instances(&self) -> Answer<'_, usize>;

    /// Lists the mailboxes whose sessions are held, and those that the mail server throttles.
    fn sessions(&self) -> Answer<'_, Vec<MailboxUse>>;
}
