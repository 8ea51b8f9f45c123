//! The envelope of the present message is kept until its content begins, so that another server can get it.

use crate::failure::Refuser;
use crate::proto::{Failure, KeepReason, Kind};
use crate::submission::Reservation;

/// The commands of a message before its content, as far as the server has taken them.
pub(super) struct Transaction {
    /// The arguments of MAIL, as the device gave them.
    mail: Box<[u8]>,
    /// The lines of RCPT as they went up: those that the server has taken, and the present one behind them.
    lines: Vec<u8>,
    /// The octets of the lines that the server has taken.
    taken: usize,
    recipients: u32,
    /// There are more lines than are kept.
    is_too_long: bool,
    /// The reason for which the message goes to no server, and is kept here.
    pub(super) kept_for: Option<KeepReason>,
    /// The server's refusal, which the device hears where the message cannot be kept.
    pub(super) refusal: Option<String>,
    /// The refusal of a recipient; one that passes, if there is any.
    refused: Option<Failure>,
    /// The recipients of this message in the quotas, the present one included.
    pub(super) reserved: Reservation,
}

impl Transaction {
    /// Begins the envelope of a message, with a reservation that has no recipient yet.
    pub(super) fn new(mail: &[u8], reserved: Reservation) -> Self {
        Self {
            mail: mail.into(),
            lines: Vec::new(),
            taken: 0,
            recipients: 0,
            is_too_long: false,
            kept_for: None,
            refusal: None,
            refused: None,
            reserved,
        }
    }

    /// The arguments of MAIL.
    pub(super) fn mail(&self) -> &[u8] {
        &self.mail
    }

    /// The number of recipients that the server has taken.
    pub(super) fn recipients(&self) -> u32 {
        self.recipients
    }

    /// Returns whether every line is kept.
    pub(super) fn is_whole(&self) -> bool {
        !self.is_too_long
    }

    /// Keeps the line of a recipient that the server is asked to take.
    pub(super) fn ask(&mut self, line: &[u8]) {
        if self.lines.len() + line.len() > LONGEST {
            self.is_too_long = true;
        } else {
            self.lines.extend_from_slice(line);
        }
    }

    /// Notes the server's answer to the recipient that it was asked to take.
    pub(super) fn answered(&mut self, is_taken: bool) {
        if is_taken {
            self.recipients += 1;
            self.taken = self.lines.len();
        } else {
            self.lines.truncate(self.taken);
            self.reserved.remove();
        }
    }

    /// Notes the refusal of a recipient.
    pub(super) fn note_refused(&mut self, failure: &Failure, refuser: Refuser) {
        if self.refused.as_ref().is_none_or(|before| before.kind == Kind::RecipientRefused) {
            self.refused = Some(Failure { message_refused_by: Some(refuser), ..failure.clone() });
        }
    }

    /// The failure of the message where no recipient is left.
    pub(super) fn without_recipients(&self) -> Failure {
        let (kind, refuser, why) = match &self.refused {
            Some(refused) => (refused.kind, refused.message_refused_by, format!(": {}", refused.detail)),
            None => (Kind::RecipientRefused, Some(Refuser::Rules), String::new()),
        };
        let detail = format!("a message has no recipient, and is not sent{why}");
        Failure { message_refused_by: refuser, ..Failure::new(kind, detail) }
    }

    /// The line of a recipient that the server has taken, which begins at this octet.
    pub(super) fn taken_at(&self, at: usize) -> Option<&[u8]> {
        let rest = self.lines.get(at..self.taken)?;
        rest.split_inclusive(|octet| *octet == b'\n').next()
    }

    /// The domain of the first recipient that is outside of this one.
    pub(super) fn other_domain(&self, own: &str) -> Option<Box<str>> {
        let lines = self.lines.get(..self.taken)?.split(|octet| *octet == b'\n');
        let domains = lines.filter_map(|line| std::str::from_utf8(line).ok()?.rsplit_once('@'));
        let mut domains = domains.map(|(_, domain)| domain.trim_end().trim_end_matches('>'));
        domains.find(|domain| !domain.eq_ignore_ascii_case(own)).map(Into::into)
    }

    /// The line of the recipient that the server is asked to take.
    pub(super) fn present(&self) -> &[u8] {
        self.lines.get(self.taken..).unwrap_or_default()
    }
}

/// The octets of recipients that are kept: a thousand, which is all that Exchange Online takes.
const LONGEST: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_recipients_that_were_taken_are_replayed() {
        let mut transaction = Transaction::new(b"FROM:<a@b.example>", Reservation::default());
        for (line, is_taken) in [("RCPT TO:<a>\r\n", true), ("RCPT TO:<b>\r\n", false), ("RCPT TO:<c>\r\n", true)] {
            transaction.ask(line.as_bytes());
            assert_eq!(transaction.present(), line.as_bytes());
            transaction.answered(is_taken);
        }
        transaction.ask(b"RCPT TO:<d>\r\n");
        let (mut at, mut lines) = (0, Vec::new());
        while let Some(line) = transaction.taken_at(at) {
            at += line.len();
            lines.push(String::from_utf8(line.to_vec()).unwrap());
        }
        assert_eq!(lines, ["RCPT TO:<a>\r\n", "RCPT TO:<c>\r\n"]);
        assert_eq!((transaction.recipients(), transaction.present()), (2, &b"RCPT TO:<d>\r\n"[..]));
    }

    #[test]
    fn an_envelope_beyond_the_bound_is_not_replayed() {
        let mut transaction = Transaction::new(b"", Reservation::default());
        let line = [b"RCPT TO:<", &[b'a'; 240][..], b">\r\n"].concat();
        for _ in 0..LONGEST / line.len() {
            transaction.ask(&line);
            transaction.answered(true);
        }
        assert!(transaction.is_whole());
        transaction.ask(&line);
        assert!(!transaction.is_whole());
    }

    #[test]
    fn a_recipient_outside_is_found_by_its_domain() {
        let outside = |paths: &[&str]| {
            let mut transaction = Transaction::new(b"FROM:<a@b.example>", Reservation::default());
            for path in paths {
                transaction.ask(format!("RCPT TO:<{path}>\r\n").as_bytes());
                transaction.answered(!path.contains("refused"));
            }
            transaction.other_domain("contoso.example").map(String::from)
        };
        assert_eq!(outside(&["a@contoso.example", "b@CONTOSO.example", "postmaster"]), None);
        assert_eq!(outside(&["a@contoso.example", "x@fabrikam.example"]).as_deref(), Some("fabrikam.example"));
        assert_eq!(outside(&["\"x@contoso.example\"@other.example"]).as_deref(), Some("other.example"));
        assert_eq!(outside(&["a@mail.contoso.example"]).as_deref(), Some("mail.contoso.example"));
        assert_eq!(outside(&["refused@fabrikam.example"]), None);
    }
}
