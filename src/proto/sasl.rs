//! SASL (RFC 4422): the mechanisms, each as two pure functions: read what the device says, say it to the server.

mod login;
mod plain;
mod xoauth2;

use std::collections::VecDeque;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Who wants in, and with what.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// How they were said; the server hears them in the same way.
    pub method: Method,
    /// User name (authentication identity), as the device wrote it. Never holds NUL, CR or LF.
    pub login: Vec<u8>,
    /// Authorisation identity (RFC 4616); empty where none was given.
    pub authzid: Vec<u8>,
    /// Password, or access token with [`Mechanism::Xoauth2`].
    pub secret: Secret,
}

/// The ways to say a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The protocol's own command: LOGIN (RFC 3501 §6.2.3), USER and PASS (RFC 1939 §7).
    Command,
    /// A SASL mechanism.
    Sasl(Mechanism),
}

/// The SASL mechanisms we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// draft-murchison-sasl-login-00.
    Login,
    /// OAuth 2.0 access token as Google and Microsoft document it.
    Xoauth2,
}

impl Mechanism {
    /// The mechanism of that name; names are case-insensitive (RFC 4422 §3.1).
    pub fn parse(name: &[u8]) -> Option<Self> {
        [Mechanism::Plain, Mechanism::Login, Mechanism::Xoauth2]
            .into_iter()
            .find(|mechanism| name.eq_ignore_ascii_case(mechanism.name().as_bytes()))
    }

    /// Its registered name.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
            Mechanism::Xoauth2 => "XOAUTH2",
        }
    }
}

/// The device's side of one exchange.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    login: Option<Vec<u8>>,
}

/// How an exchange goes on.
#[derive(Debug)]
pub enum Next {
    /// Send this challenge (base64 already) and wait for a response.
    Challenge(&'static str),
    /// That is all.
    Done(Credentials),
    /// The device gave up with `*`.
    Cancelled,
    /// Not base64, or not what the mechanism asks for.
    Malformed(&'static str),
}

impl Exchange {
    /// An exchange that has not begun.
    pub fn new(mechanism: Mechanism) -> Self {
        Self { mechanism, login: None }
    }

    /// Begins, with the initial response where the command had one (`=` stands for an empty one, RFC 4959 §3).
    pub fn begin(&mut self, initial: Option<&[u8]>) -> Next {
        match (initial, self.mechanism) {
            (Some(b"="), _) => self.respond(b""),
            (Some(response), _) => self.respond(response),
            (None, Mechanism::Login) => Next::Challenge(login::USERNAME),
            (None, Mechanism::Plain | Mechanism::Xoauth2) => Next::Challenge(""),
        }
    }

    /// Takes a response line, without its line end.
    pub fn respond(&mut self, line: &[u8]) -> Next {
        if line == b"*" {
            return Next::Cancelled;
        }
        let Ok(response) = BASE64.decode(line).map(Zeroizing::new) else {
            return Next::Malformed("invalid base64");
        };
        let credentials = match self.mechanism {
            Mechanism::Plain => plain::read(&response),
            Mechanism::Xoauth2 => xoauth2::read(&response),
            Mechanism::Login => match self.login.take() {
                None => {
                    self.login = Some(response.to_vec());
                    return Next::Challenge(login::PASSWORD);
                }
                Some(user) => login::read(user, &response),
            },
        };
        match credentials {
            Some(credentials) if credentials.is_sane() => Next::Done(credentials),
            Some(_) => Next::Malformed("control characters in user name or password"),
            None => Next::Malformed("malformed response"),
        }
    }
}

impl Credentials {
    /// What the protocol's own login command said.
    pub fn from_command(login: Vec<u8>, password: Vec<u8>) -> Self {
        Self { method: Method::Command, login, authzid: Vec::new(), secret: Secret::new(password) }
    }

    /// NUL, 0x01 (XOAUTH2), CR and LF could end a line or a field towards the server and start another: they are refused.
    pub fn is_sane(&self) -> bool {
        !self.login.is_empty()
            && [self.login.as_slice(), &self.authzid, self.secret.expose()]
                .iter()
                .all(|field| !field.iter().any(|octet| matches!(octet, 0 | 1 | b'\r' | b'\n')))
    }

    /// Whether a server that does not take the mechanism may be told in its protocol's own command: a password that
    /// was said by SASL, for nobody else's mailbox.
    pub(crate) fn can_be_said_by_command(&self) -> bool {
        match self.method {
            Method::Sasl(Mechanism::Plain | Mechanism::Login) => self.authzid.is_empty(),
            Method::Sasl(Mechanism::Xoauth2) | Method::Command => false,
        }
    }

    /// The responses to send to a server, one for each of its challenges, without line ends.
    /// Empty with [`Method::Command`].
    pub fn responses(&self) -> VecDeque<Zeroizing<Vec<u8>>> {
        let raw = match self.method {
            Method::Command => vec![],
            Method::Sasl(Mechanism::Plain) => vec![plain::write(self)],
            Method::Sasl(Mechanism::Login) => vec![self.login.clone(), self.secret.expose().to_vec()],
            Method::Sasl(Mechanism::Xoauth2) => vec![xoauth2::write(self)],
        };
        raw.into_iter()
            .map(|response| Zeroizing::new(BASE64.encode(Zeroizing::new(response).as_slice()).into_bytes()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(mechanism: Mechanism, initial: &[u8]) -> Credentials {
        match Exchange::new(mechanism).begin(Some(initial)) {
            Next::Done(credentials) => credentials,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_known_answers() {
        let credentials = done(Mechanism::Plain, b"AHNjYW5AY29udG9zby5leGFtcGxlAFBhNTV3b3Jk");
        assert_eq!(credentials.login, b"scan@contoso.example");
        assert_eq!(credentials.secret.expose(), b"Pa55word");
        assert_eq!(credentials.responses()[0].as_slice(), b"AHNjYW5AY29udG9zby5leGFtcGxlAFBhNTV3b3Jk");
        // RFC 4616 §4
        let credentials = done(Mechanism::Plain, BASE64.encode("Ursel\0Kurt\0xipj3plmq").as_bytes());
        assert_eq!((credentials.authzid.as_slice(), credentials.login.as_slice()), (&b"Ursel"[..], &b"Kurt"[..]));
    }

    #[test]
    fn xoauth2_known_answers() {
        let blob = b"dXNlcj1zY2FuQGNvbnRvc28uZXhhbXBsZQFhdXRoPUJlYXJlciBleUowLnRlc3QudG9rZW4BAQ==";
        let credentials = done(Mechanism::Xoauth2, blob);
        assert_eq!(credentials.login, b"scan@contoso.example");
        assert_eq!(credentials.secret.expose(), b"eyJ0.test.token");
        assert_eq!(credentials.responses()[0].as_slice(), blob);
    }

    #[test]
    fn login_prompts_and_answers() {
        let mut exchange = Exchange::new(Mechanism::Login);
        assert!(matches!(exchange.begin(None), Next::Challenge("VXNlcm5hbWU6")));
        assert!(matches!(exchange.respond(b"c2NhbkBjb250b3NvLmV4YW1wbGU="), Next::Challenge("UGFzc3dvcmQ6")));
        let Next::Done(credentials) = exchange.respond(b"UGE1NXdvcmQ=") else { panic!() };
        assert_eq!(credentials.login, b"scan@contoso.example");
        assert_eq!(credentials.responses()[1].as_slice(), b"UGE1NXdvcmQ=");
    }

    #[test]
    fn cancel_nonsense_and_injection() {
        let mut exchange = Exchange::new(Mechanism::Plain);
        assert!(matches!(exchange.respond(b"*"), Next::Cancelled));
        assert!(matches!(exchange.respond(b"%%%"), Next::Malformed(_)));
        assert!(matches!(exchange.begin(Some(b"=")), Next::Malformed(_)));
        let injected = BASE64.encode("\0user\r\nQUIT\0password");
        assert!(matches!(exchange.respond(injected.as_bytes()), Next::Malformed(_)));
    }
}
