//! Commands before login (RFC 1939 §3, RFC 2449 §5, RFC 2595 §4, RFC 5034 §4): a keyword in any case, then its
//! arguments.

use crate::proto::line::word;
use crate::proto::sasl::Mechanism;

/// The commands before login.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Capa,
    Noop,
    Quit,
    Stls,
    User(&'a [u8]),
    /// PASS with all that follows the first space, spaces included (RFC 1939 §7).
    Pass(&'a [u8]),
    Auth {
        mechanism: Mechanism,
        initial: Option<&'a [u8]>,
    },
    /// AUTH without a mechanism (RFC 1734).
    AuthList,
    UnknownMechanism,
    Apop,
    Unknown,
}

impl<'a> Command<'a> {
    /// Reads a line without its line end.
    pub(super) fn read(line: &'a [u8]) -> Self {
        let (keyword, argument) = word(line);
        match keyword.to_ascii_uppercase().as_slice() {
            b"CAPA" => Command::Capa,
            b"NOOP" => Command::Noop,
            b"QUIT" => Command::Quit,
            b"STLS" => Command::Stls,
            b"USER" => Command::User(argument.trim_ascii()),
            b"PASS" => Command::Pass(argument),
            b"APOP" => Command::Apop,
            b"AUTH" => {
                let (name, initial) = word(argument.trim_ascii());
                let initial = initial.trim_ascii();
                match Mechanism::parse(name) {
                    Some(mechanism) => Command::Auth { mechanism, initial: (!initial.is_empty()).then_some(initial) },
                    None if name.is_empty() => Command::AuthList,
                    None => Command::UnknownMechanism,
                }
            }
            _ => Command::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_keep_their_spaces() {
        assert_eq!(Command::read(b"PASS two words "), Command::Pass(b"two words "));
        assert_eq!(Command::read(b"pass"), Command::Pass(b""));
        assert_eq!(Command::read(b"user  scan "), Command::User(b"scan"));
    }

    #[test]
    fn auth_in_every_form() {
        assert_eq!(Command::read(b"AUTH"), Command::AuthList);
        assert_eq!(Command::read(b"auth plain"), Command::Auth { mechanism: Mechanism::Plain, initial: None });
        assert_eq!(
            Command::read(b"AUTH LOGIN dXNlcg=="),
            Command::Auth { mechanism: Mechanism::Login, initial: Some(b"dXNlcg==") }
        );
        assert_eq!(Command::read(b"AUTH CRAM-MD5"), Command::UnknownMechanism);
    }
}
