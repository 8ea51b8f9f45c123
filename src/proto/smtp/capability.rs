//! Service extensions (RFC 5321 §4.1.1.1): packetboat's own answer to EHLO, and the server's.

use super::reply::ReplyLine;
use crate::proto::Offer;
use crate::proto::sasl::Mechanism;

/// Writes the answer to EHLO. It is short, and never the server's own: a device must not use what packetboat does not
/// read. PIPELINING, CHUNKING, DSN and SMTPUTF8 are not among it.
pub(super) fn announce(offer: &Offer, is_logged_in: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"250-packetboat\r\n250-SIZE ");
    out.extend_from_slice(offer.submission.max_message_size.to_string().as_bytes());
    out.extend_from_slice(b"\r\n250-8BITMIME\r\n");
    if offer.starttls_now() && !is_logged_in {
        out.extend_from_slice(b"250-STARTTLS\r\n");
    }
    // Nothing else than LOGIN and PLAIN: devices prefer mechanisms that no hash can answer.
    if offer.login_allowed() {
        let mechanisms: &[u8] = if offer.xoauth2 { b"LOGIN PLAIN XOAUTH2\r\n" } else { b"LOGIN PLAIN\r\n" };
        out.extend_from_slice(b"250-AUTH ");
        out.extend_from_slice(mechanisms);
        if offer.submission.auth_equals {
            out.extend_from_slice(b"250-AUTH=");
            out.extend_from_slice(mechanisms);
        }
    }
    out.extend_from_slice(b"250 ENHANCEDSTATUSCODES\r\n");
}

/// The extensions of a server that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    /// BODY= may stand behind MAIL (RFC 6152).
    pub(super) eight_bit: bool,
    /// SIZE= may stand behind MAIL (RFC 1870).
    pub(super) size: bool,
    plain: bool,
    login: bool,
    xoauth2: bool,
}

impl Extensions {
    /// Reads a line of the answer to EHLO.
    pub(super) fn note(&mut self, line: &ReplyLine<'_>) {
        // Some servers announce AUTH in a second form, `AUTH=LOGIN`, for clients of the last century.
        let mut words = line.text.split(|octet| matches!(octet, b' ' | b'\t' | b'=')).filter(|word| !word.is_empty());
        match words.next().unwrap_or_default().to_ascii_uppercase().as_slice() {
            b"8BITMIME" => self.eight_bit = true,
            b"SIZE" => self.size = true,
            b"AUTH" => {
                for mechanism in words.filter_map(Mechanism::parse) {
                    match mechanism {
                        Mechanism::Plain => self.plain = true,
                        Mechanism::Login => self.login = true,
                        Mechanism::Xoauth2 => self.xoauth2 = true,
                    }
                }
            }
            _ => {}
        }
    }

    /// Returns whether the server takes a login by this mechanism.
    pub(super) fn takes(&self, mechanism: Mechanism) -> bool {
        match mechanism {
            Mechanism::Plain => self.plain,
            Mechanism::Login => self.login,
            Mechanism::Xoauth2 => self.xoauth2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submission::Announcement;

    fn ehlo(offer: Offer, is_logged_in: bool) -> String {
        let mut out = Vec::new();
        announce(&offer, is_logged_in, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn logins_are_announced_where_they_are_allowed() {
        let clear = Offer { encrypted: false, starttls: true, plaintext_login: false, xoauth2: false, ..Offer::NONE };
        assert_eq!(
            ehlo(clear, false),
            "250-packetboat\r\n250-SIZE 157286400\r\n250-8BITMIME\r\n250-STARTTLS\r\n250 ENHANCEDSTATUSCODES\r\n"
        );
        let secured = "250-packetboat\r\n250-SIZE 157286400\r\n250-8BITMIME\r\n250-AUTH LOGIN PLAIN\r\n250 ENHANCEDSTATUSCODES\r\n";
        let tls = Offer { encrypted: true, ..clear };
        assert_eq!((ehlo(tls, false).as_str(), ehlo(tls, true).as_str()), (secured, secured));
        let plaintext = Offer { plaintext_login: true, xoauth2: true, ..clear };
        assert!(ehlo(plaintext, false).contains("250-STARTTLS\r\n250-AUTH LOGIN PLAIN XOAUTH2\r\n"));
        assert!(!ehlo(plaintext, true).contains("STARTTLS"));
        let submission = Announcement { max_message_size: 70_000, auth_equals: true };
        assert_eq!(
            ehlo(Offer { submission, ..tls }, false),
            "250-packetboat\r\n250-SIZE 70000\r\n250-8BITMIME\r\n250-AUTH LOGIN PLAIN\r\n250-AUTH=LOGIN PLAIN\r\n\
             250 ENHANCEDSTATUSCODES\r\n"
        );
        assert!(!ehlo(Offer { submission, ..clear }, false).contains("AUTH"));
    }

    #[test]
    fn a_server_s_list() {
        let mut extensions = Extensions::default();
        for line in ["250-mail.example Hello", "250-SIZE 1", "250-AUTH LOGIN XOAUTH2", "250-8BITMIME", "250 SMTPUTF8"] {
            extensions.note(&ReplyLine::read(line.as_bytes()).unwrap());
        }
        assert!(extensions.eight_bit && extensions.size);
        let takes = [Mechanism::Plain, Mechanism::Login, Mechanism::Xoauth2].map(|one| extensions.takes(one));
        assert_eq!(takes, [false, true, true]);
        extensions.note(&ReplyLine::read(b"250-AUTH=PLAIN").unwrap());
        assert!(extensions.takes(Mechanism::Plain));
    }
}
