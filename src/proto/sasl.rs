//! SASL (RFC 4422): each mechanism is two pure functions, one that reads what a device sends and one that writes it
//! for a server.

mod login;
mod plain;
mod xoauth2;

use std::collections::VecDeque;

use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Base64 with padding (RFC 4648 §4). Input may lack the padding: some encoders leave it out, and it carries nothing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A user and the proof of who it is.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The way in which the device sent them. The server gets them in the same way.
    pub method: Method,
    /// User name (authentication identity), as the device wrote it. It never holds NUL, CR or LF.
    pub login: Vec<u8>,
    /// Authorisation identity (RFC 4616); empty where the device gave none.
    pub authzid: Vec<u8>,
    /// Password, or access token with [`Mechanism::Xoauth2`].
    pub secret: Secret,
}

/// The reason for refusing a login that is not [sane](Credentials::is_sane).
pub(crate) const NOT_SANE: &str = "no user name, or control characters in user name or password";

/// The ways to send a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The protocol's own command: LOGIN (RFC 3501 §6.2.3), USER and PASS (RFC 1939 §7).
    Command,
    /// A SASL mechanism.
    Sasl(Mechanism),
    /// None: the device's address stands for the login. There is neither a user name nor a secret.
    Source,
}

/// The SASL mechanisms that packetboat knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// PLAIN (RFC 4616).
    Plain,
    /// LOGIN (draft-murchison-sasl-login-00).
    Login,
    /// XOAUTH2, with an OAuth 2.0 access token, as Google and Microsoft document it.
    Xoauth2,
}

impl Mechanism {
    /// Finds the mechanism of that name. Names are case-insensitive (RFC 4422 §3.1).
    pub fn parse(name: &[u8]) -> Option<Self> {
        [Mechanism::Plain, Mechanism::Login, Mechanism::Xoauth2]
            .into_iter()
            .find(|mechanism| name.eq_ignore_ascii_case(mechanism.name().as_bytes()))
    }

    /// Returns the registered name.
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

/// The next event of an exchange.
#[derive(Debug)]
pub enum Next {
    /// Send this challenge, which is in base64 already, and wait for a response.
    Challenge(&'static str),
    /// The exchange is complete.
    Done(Credentials),
    /// The device gave up with `*`.
    Cancelled,
    /// The response is not base64, or not what the mechanism asks for.
    Malformed(&'static str),
}

impl Exchange {
    /// Makes an exchange that has not begun.
    pub fn new(mechanism: Mechanism) -> Self {
        Self { mechanism, login: None }
    }

    /// Begins the exchange, with the initial response where the command had one. `=` stands for an empty one (RFC
    /// 4959 §3).
    pub fn begin(&mut self, initial: Option<&[u8]>) -> Next {
        match (initial, self.mechanism) {
            (Some(b"="), _) => self.respond(b""),
            (Some(response), _) => self.respond(response),
            (None, Mechanism::Login) => Next::Challenge(login::USERNAME),
            (None, Mechanism::Plain | Mechanism::Xoauth2) => Next::Challenge(""),
        }
    }

    /// Reads a response line, without its line end.
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
                Some(user) => login::read(&user, &response),
            },
        };
        match credentials {
            Some(credentials) if credentials.is_sane() => Next::Done(credentials),
            Some(_) => Next::Malformed(NOT_SANE),
            None => Next::Malformed("malformed response"),
        }
    }
}

impl Credentials {
    /// Makes the credentials that the protocol's own login command carried.
    pub fn from_command(login: &[u8], password: Vec<u8>) -> Self {
        Self { method: Method::Command, login: name(login), authzid: Vec::new(), secret: Secret::new(password) }
    }

    /// Makes the credentials of a device that is known by its address alone.
    pub fn from_source() -> Self {
        Self { method: Method::Source, login: Vec::new(), authzid: Vec::new(), secret: Secret::new(Vec::new()) }
    }

    /// Returns whether no field is empty or dangerous. NUL, 0x01 (XOAUTH2), CR and LF could end a line or a field
    /// towards the server and start another.
    pub fn is_sane(&self) -> bool {
        !self.login.is_empty()
            && [self.login.as_slice(), &self.authzid, self.secret.expose()]
                .iter()
                .all(|field| !field.iter().any(|octet| matches!(octet, 0 | 1 | b'\r' | b'\n')))
    }

    /// Returns whether the server may get the login in its protocol's own command instead, if it does not take the
    /// mechanism. It may if a password came by SASL for the user's own mailbox.
    pub(crate) fn may_use_login_command(&self) -> bool {
        match self.method {
            Method::Sasl(Mechanism::Plain | Mechanism::Login) => self.authzid.is_empty(),
            Method::Sasl(Mechanism::Xoauth2) | Method::Command | Method::Source => false,
        }
    }

    /// Writes the responses to a server, one for each of its challenges, without line ends. They are none with
    /// [`Method::Command`] and [`Method::Source`].
    pub fn responses(&self) -> VecDeque<Zeroizing<Vec<u8>>> {
        let raw = match self.method {
            Method::Command | Method::Source => vec![],
            Method::Sasl(Mechanism::Plain) => vec![plain::write(self)],
            Method::Sasl(Mechanism::Login) => vec![self.login.clone(), self.secret.expose().to_vec()],
            Method::Sasl(Mechanism::Xoauth2) => vec![xoauth2::write(self)],
        };
        raw.into_iter()
            .map(|response| Zeroizing::new(BASE64.encode(Zeroizing::new(response).as_slice()).into_bytes()))
            .collect()
    }
}

/// Returns a user name without the blanks around it, which people type on a device's small keyboard. No name has any;
/// passwords may, and stay as they are.
fn name(name: &[u8]) -> Vec<u8> {
    let is_blank = |octet: &u8| matches!(octet, b' ' | b'\t');
    let start = name.iter().position(|octet| !is_blank(octet)).unwrap_or(name.len());
    let end = name.iter().rposition(|octet| !is_blank(octet)).map_or(start, |last| last + 1);
    name.get(start..end).unwrap_or_default().to_vec()
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
    fn padding_may_be_missing() {
        for (response, password) in [
            // One and two `=`, and where none is needed; each left out, and one of two.
            (&b"AHUAcA=="[..], &b"p"[..]),
            (b"AHUAcA=", b"p"),
            (b"AHUAcA", b"p"),
            (b"AHUAcHA=", b"pp"),
            (b"AHUAcHA", b"pp"),
            (b"AHUAcHBw", b"ppp"),
        ] {
            assert_eq!(done(Mechanism::Plain, response).secret.expose(), password);
        }
        assert_eq!(done(Mechanism::Plain, b"AHUAcA").responses()[0].as_slice(), b"AHUAcA==", "the server has it whole");
        for response in [&b"AHUAcA==="[..], b"AHUAcHBw=", b"AHUAc", b"AHUA=cA", b"AHUAcB"] {
            assert!(matches!(Exchange::new(Mechanism::Plain).respond(response), Next::Malformed(_)), "{response:?}");
        }
    }

    #[test]
    fn names_lose_blanks_around_them_and_passwords_do_not() {
        let credentials = done(Mechanism::Plain, BASE64.encode(" \t\0 us er\t \0 p ").as_bytes());
        assert_eq!((credentials.login.as_slice(), credentials.authzid.as_slice()), (&b"us er"[..], &b""[..]));
        assert_eq!(credentials.secret.expose(), b" p ");
        let mut exchange = Exchange::new(Mechanism::Login);
        exchange.begin(Some(BASE64.encode("user ").as_bytes()));
        let Next::Done(credentials) = exchange.respond(BASE64.encode("p ").as_bytes()) else { panic!() };
        assert_eq!((credentials.login.as_slice(), credentials.secret.expose()), (&b"user"[..], &b"p "[..]));
        assert_eq!(Credentials::from_command(b" u ", Vec::new()).login, b"u");
        assert!(!Credentials::from_command(b"  ", Vec::new()).is_sane());
        assert!(!Credentials::from_command(b"u\r\n", Vec::new()).is_sane());
        let token = done(Mechanism::Xoauth2, BASE64.encode("user=u \x01auth=Bearer t\x01\x01").as_bytes());
        assert_eq!(token.login, b"u ", "a token comes from a program");
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
