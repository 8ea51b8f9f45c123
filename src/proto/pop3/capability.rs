//! Capability lists (RFC 2449 §5, §6): packetboat's own before login, and the part of the server's that stays after
//! it.

use crate::proto::Offer;
use crate::proto::line::word;

/// Writes the whole response to CAPA before login.
pub(super) fn announce(offer: &Offer, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"+OK capability list follows\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\n",
    );
    if offer.starttls_now() {
        out.extend_from_slice(b"STLS\r\n");
    }
    logins(offer, out);
    out.extend_from_slice(b"IMPLEMENTATION packetboat\r\n.\r\n");
}

/// Writes the lines that name the ways to log in.
pub(super) fn logins(offer: &Offer, out: &mut Vec<u8>) {
    if !offer.login_allowed() {
        return;
    }
    out.extend_from_slice(b"USER\r\n");
    // c-client refuses a server that announces SASL PLAIN in clear; there USER has to do.
    if offer.encrypted {
        out.extend_from_slice(b"SASL");
        for mechanism in mechanisms(offer) {
            out.push(b' ');
            out.extend_from_slice(mechanism.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Returns the SASL mechanisms that may be used now.
pub(super) fn mechanisms(offer: &Offer) -> impl Iterator<Item = &'static str> {
    let allowed = offer.login_allowed();
    let xoauth2 = allowed && offer.xoauth2;
    ["PLAIN", "LOGIN"].into_iter().filter(move |_| allowed).chain(xoauth2.then_some("XOAUTH2"))
}

/// Returns whether a line of the server's list stays, because it holds between this device and this server through
/// packetboat. Login and TLS are packetboat's own, UTF8 and LANG (RFC 6856) would change the syntax, and nothing is
/// promised of unknown words.
pub(super) fn is_kept(line: &[u8]) -> bool {
    let name = word(line).0;
    KEPT.iter().any(|kept| kept.eq_ignore_ascii_case(name))
}

const KEPT: &[&[u8]] =
    &[b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"LOGIN-DELAY", b"PIPELINING", b"EXPIRE", b"IMPLEMENTATION"];

#[cfg(test)]
mod tests {
    use super::*;

    fn capa(offer: Offer) -> String {
        let mut out = Vec::new();
        announce(&offer, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn logins_are_announced_where_they_are_allowed() {
        let clear = Offer { encrypted: false, starttls: true, plaintext_login: false, xoauth2: false, ..Offer::NONE };
        let list = capa(clear);
        assert!(list.contains("STLS\r\n") && !list.contains("USER") && !list.contains("SASL"));
        let list = capa(Offer { encrypted: true, ..clear });
        assert!(!list.contains("STLS") && list.contains("USER\r\nSASL PLAIN LOGIN\r\n"));
        let list = capa(Offer { plaintext_login: true, ..clear });
        assert!(list.contains("USER\r\n") && !list.contains("SASL"));
    }
}
