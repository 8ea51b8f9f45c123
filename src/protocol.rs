//! The mail protocols that devices speak, and what each of them has by nature: names, ports, greeting, permission.

/// A mail protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// RFC 3501.
    Imap,
    /// RFC 1939.
    Pop3,
    /// Submission: RFC 6409 by RFC 5321.
    Smtp,
}

/// The ways in which TLS starts on a connection to a mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS starts with the connection itself (RFC 8314 §3).
    Implicit,
    /// TLS starts by STARTTLS or STLS, after a greeting in clear.
    StartTls,
}

/// The identity in whose name an access token opens a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A person who has signed in: delegated permissions.
    Person,
    /// The application itself: application permissions.
    Application,
}

/// One value for each protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByProtocol<T> {
    /// The value of IMAP.
    pub imap: T,
    /// The value of POP3.
    pub pop3: T,
    /// The value of SMTP.
    pub smtp: T,
}

impl Protocol {
    /// Every protocol, in the order in which they are listed to people.
    pub const ALL: [Protocol; 3] = [Protocol::Imap, Protocol::Pop3, Protocol::Smtp];

    /// The protocols that read a mailbox. Without a word in the configuration these are served, and SMTP is not: it
    /// needs a permission of its own, and many hosts have a mail server at its ports.
    pub const MAILBOX: [Protocol; 2] = [Protocol::Imap, Protocol::Pop3];

    /// The protocol in which devices send mail.
    pub const SUBMISSION: Protocol = Protocol::Smtp;

    /// Returns whether devices send mail by the protocol, rather than read a mailbox.
    pub fn submits(self) -> bool {
        !Self::MAILBOX.contains(&self)
    }

    /// The word for the protocol in the configuration.
    pub fn key(self) -> &'static str {
        match self {
            Protocol::Imap => "imap",
            Protocol::Pop3 => "pop3",
            Protocol::Smtp => "smtp",
        }
    }

    /// The protocol's name, as people write it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Imap => "IMAP",
            Protocol::Pop3 => "POP3",
            Protocol::Smtp => "SMTP",
        }
    }

    /// The registered port (RFC 8314 §7 with implicit TLS; RFC 3501 §2.1, RFC 1939 §3 and RFC 6409 §3.1 in clear).
    pub fn port(self, security: Security) -> u16 {
        match (self, security) {
            (Protocol::Imap, Security::Implicit) => 993,
            (Protocol::Imap, Security::StartTls) => 143,
            (Protocol::Pop3, Security::Implicit) => 995,
            (Protocol::Pop3, Security::StartTls) => 110,
            (Protocol::Smtp, Security::Implicit) => 465,
            (Protocol::Smtp, Security::StartTls) => 587,
        }
    }

    /// Other ports that devices use, where TLS starts as at the port in clear: old devices submit mail at that of SMTP
    /// itself (RFC 5321 §4.5.4.2).
    pub fn more_ports(self) -> &'static [u16] {
        match self {
            Protocol::Imap | Protocol::Pop3 => &[],
            Protocol::Smtp => &[25],
        }
    }

    /// The way in which TLS starts at a mail server where the configuration does not say. Exchange Online takes
    /// submission by STARTTLS alone.
    pub fn usual_security(self) -> Security {
        match self {
            Protocol::Imap | Protocol::Pop3 => Security::Implicit,
            Protocol::Smtp => Security::StartTls,
        }
    }

    /// The command that starts TLS after a greeting in clear (RFC 3501 §6.2.1, RFC 2595 §4, RFC 3207 §4).
    pub fn starttls(self) -> &'static str {
        match self {
            Protocol::Imap | Protocol::Smtp => "STARTTLS",
            Protocol::Pop3 => "STLS",
        }
    }

    /// Returns whether a server's first line invites a login (RFC 3501 §7.1.1, RFC 1939 §4, RFC 5321 §3.1).
    pub fn is_greeting(self, line: &[u8]) -> bool {
        line.starts_with(match self {
            Protocol::Imap => &b"* OK"[..],
            Protocol::Pop3 => b"+OK",
            Protocol::Smtp => b"220",
        })
    }

    /// The permission of Exchange Online for this protocol, without its resource.
    pub fn permission(self, actor: Actor) -> &'static str {
        match (self, actor) {
            (Protocol::Imap, Actor::Person) => "IMAP.AccessAsUser.All",
            (Protocol::Imap, Actor::Application) => "IMAP.AccessAsApp",
            (Protocol::Pop3, Actor::Person) => "POP.AccessAsUser.All",
            (Protocol::Pop3, Actor::Application) => "POP.AccessAsApp",
            (Protocol::Smtp, Actor::Person) => "SMTP.Send",
            (Protocol::Smtp, Actor::Application) => "SMTP.SendAsApp",
        }
    }

    /// The parameter of Exchange's `Set-CASMailbox` that switches the protocol on or off for a mailbox, and the value
    /// that switches it on.
    pub fn mailbox_switch(self) -> (&'static str, bool) {
        match self {
            Protocol::Imap => ("ImapEnabled", true),
            Protocol::Pop3 => ("PopEnabled", true),
            Protocol::Smtp => ("SmtpClientAuthenticationDisabled", false),
        }
    }

    /// The longest access token that Exchange Online takes, in characters; `None` where no limit is known.
    pub fn longest_exchange_token(self) -> Option<usize> {
        match self {
            Protocol::Imap | Protocol::Smtp => None,
            // Measured since July 2025: Exchange closes the connection without a reason (jstedfast/MailKit#1948).
            Protocol::Pop3 => Some(4096),
        }
    }
}

impl<T> ByProtocol<T> {
    /// Makes the value of each protocol.
    pub fn new(mut make: impl FnMut(Protocol) -> T) -> Self {
        Self { imap: make(Protocol::Imap), pop3: make(Protocol::Pop3), smtp: make(Protocol::Smtp) }
    }

    /// Makes the value of each protocol, unless one fails.
    ///
    /// # Errors
    /// The first error of `make`.
    pub fn try_new<E>(mut make: impl FnMut(Protocol) -> Result<T, E>) -> Result<Self, E> {
        Ok(Self { imap: make(Protocol::Imap)?, pop3: make(Protocol::Pop3)?, smtp: make(Protocol::Smtp)? })
    }

    /// The value of one protocol.
    pub fn of(&self, protocol: Protocol) -> &T {
        match protocol {
            Protocol::Imap => &self.imap,
            Protocol::Pop3 => &self.pop3,
            Protocol::Smtp => &self.smtp,
        }
    }

    /// The value of one protocol, to be changed.
    pub fn of_mut(&mut self, protocol: Protocol) -> &mut T {
        match protocol {
            Protocol::Imap => &mut self.imap,
            Protocol::Pop3 => &mut self.pop3,
            Protocol::Smtp => &mut self.smtp,
        }
    }

    /// Makes another value out of each one.
    pub fn map<'a, U>(&'a self, mut make: impl FnMut(Protocol, &'a T) -> U) -> ByProtocol<U> {
        ByProtocol::new(|protocol| make(protocol, self.of(protocol)))
    }

    /// Each protocol with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Protocol, &T)> {
        Protocol::ALL.into_iter().map(|protocol| (protocol, self.of(protocol)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_the_protocol_s_own() {
        assert!(Protocol::Imap.is_greeting(b"* OK ready\r\n"));
        assert!(Protocol::Pop3.is_greeting(b"+OK\r\n"));
        assert!(Protocol::Smtp.is_greeting(b"220-mail.example ESMTP\r\n"));
        for (protocol, line) in [
            (Protocol::Imap, &b"+OK\r\n"[..]),
            (Protocol::Imap, b"* BYE\r\n"),
            (Protocol::Imap, b"* PREAUTH in\r\n"),
            (Protocol::Imap, b""),
            (Protocol::Pop3, b"* OK ready\r\n"),
            (Protocol::Pop3, b"-ERR\r\n"),
            (Protocol::Smtp, b"554 no service\r\n"),
        ] {
            assert!(!protocol.is_greeting(line), "{protocol:?} {line:?}");
        }
    }

    #[test]
    fn a_protocol_reads_or_submits() {
        for protocol in Protocol::ALL {
            assert_eq!(protocol.submits(), protocol == Protocol::SUBMISSION, "{protocol:?}");
        }
    }

    #[test]
    fn keys_and_names_are_told_apart() {
        for protocol in Protocol::ALL {
            assert_eq!(protocol.key(), protocol.name().to_lowercase());
            assert_eq!(Protocol::ALL.iter().filter(|other| other.key() == protocol.key()).count(), 1);
        }
    }

    #[test]
    fn each_protocol_has_its_own_value() {
        let mut by_protocol = ByProtocol::new(Protocol::key);
        assert_eq!(by_protocol.iter().map(|(_, key)| *key).collect::<Vec<_>>(), ["imap", "pop3", "smtp"]);
        *by_protocol.of_mut(Protocol::Pop3) = "other";
        assert_eq!((*by_protocol.of(Protocol::Imap), *by_protocol.of(Protocol::Pop3)), ("imap", "other"));
        assert_eq!(ByProtocol::try_new(|protocol| if protocol == Protocol::Pop3 { Err(1) } else { Ok(()) }), Err(1));
    }
}
