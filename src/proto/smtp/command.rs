//! Commands (RFC 5321 §4.1.1, RFC 4954 §4, RFC 3207 §4): a verb in any case, then its arguments.

use crate::proto::sasl::Mechanism;

/// The commands, before login and after it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Ehlo,
    Helo,
    Noop,
    Rset,
    Help,
    Vrfy,
    Expn,
    Quit,
    StartTls,
    /// STARTTLS with an argument, which it does not take (RFC 3207 §4).
    StartTlsWith,
    Auth {
        mechanism: Mechanism,
        initial: Option<&'a [u8]>,
    },
    UnknownMechanism,
    /// MAIL with what follows it.
    Mail(&'a [u8]),
    /// RCPT with what follows it.
    Rcpt(&'a [u8]),
    Data,
    /// BDAT (RFC 3030 §2). Octets of a message follow that are no commands.
    Bdat,
    /// A command that is known and not offered.
    NotOffered,
    Unknown,
}

impl<'a> Command<'a> {
    /// Reads a line without its line end. A device may send any name with EHLO and HELO, or none.
    pub(super) fn read(line: &'a [u8]) -> Self {
        let line = line.trim_ascii();
        let (verb, rest) = line.split_at(line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len()));
        let arguments = rest.trim_ascii();
        match verb.to_ascii_uppercase().as_slice() {
            b"EHLO" => Command::Ehlo,
            b"HELO" => Command::Helo,
            b"NOOP" => Command::Noop,
            b"RSET" => Command::Rset,
            b"HELP" => Command::Help,
            b"VRFY" => Command::Vrfy,
            b"EXPN" => Command::Expn,
            b"QUIT" => Command::Quit,
            b"STARTTLS" if arguments.is_empty() => Command::StartTls,
            b"STARTTLS" => Command::StartTlsWith,
            b"AUTH" => {
                let end = arguments.iter().position(u8::is_ascii_whitespace).unwrap_or(arguments.len());
                let (name, initial) = arguments.split_at(end);
                let initial = initial.trim_ascii();
                match Mechanism::parse(name) {
                    Some(mechanism) => Command::Auth { mechanism, initial: (!initial.is_empty()).then_some(initial) },
                    None => Command::UnknownMechanism,
                }
            }
            b"MAIL" => Command::Mail(arguments),
            b"RCPT" => Command::Rcpt(arguments),
            b"DATA" => Command::Data,
            b"BDAT" => Command::Bdat,
            b"ETRN" | b"TURN" | b"ATRN" | b"SEND" | b"SOML" | b"SAML" | b"XCLIENT" | b"XFORWARD" | b"BURL" => {
                Command::NotOffered
            }
            _ => Command::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_in_any_case_with_any_name() {
        for line in [&b"EHLO printer"[..], b"ehlo", b"Ehlo [192.168.1.21]", b" EHLO a_b c", b"EHLO\t\xfc"] {
            assert_eq!(Command::read(line), Command::Ehlo, "{line:?}");
        }
        assert_eq!(Command::read(b"mail FROM:<a@b>"), Command::Mail(b"FROM:<a@b>"));
        assert_eq!(Command::read(b"RCPT  TO: a@b "), Command::Rcpt(b"TO: a@b"));
        assert_eq!(Command::read(b"STARTTLS "), Command::StartTls);
        assert_eq!(Command::read(b"STARTTLS now"), Command::StartTlsWith);
        assert_eq!(Command::read(b"ZTQ5ZjM5"), Command::Unknown);
        assert_eq!(Command::read(b""), Command::Unknown);
    }

    #[test]
    fn auth_in_every_form() {
        let auth = |mechanism, initial| Command::Auth { mechanism, initial };
        assert_eq!(Command::read(b"auth login"), auth(Mechanism::Login, None));
        assert_eq!(Command::read(b"AUTH LOGIN "), auth(Mechanism::Login, None));
        assert_eq!(Command::read(b"AUTH LOGIN dXNlcg=="), auth(Mechanism::Login, Some(b"dXNlcg==")));
        assert_eq!(Command::read(b"AUTH PLAIN ="), auth(Mechanism::Plain, Some(b"=")));
        assert_eq!(Command::read(b"AUTH CRAM-MD5"), Command::UnknownMechanism);
        assert_eq!(Command::read(b"AUTH"), Command::UnknownMechanism);
    }
}
