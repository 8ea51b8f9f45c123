//! Capability lists (RFC 3501 §7.2.1): packetboat's own before login, and the part of the server's that stays after
//! it.

use crate::proto::Offer;

/// Writes the untagged CAPABILITY response.
pub(super) fn announce(offer: &Offer, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* CAPABILITY");
    list(offer, out);
    out.extend_from_slice(b"\r\n");
}

/// Writes packetboat's own list, each word behind a space.
pub(super) fn list(offer: &Offer, out: &mut Vec<u8>) {
    out.extend_from_slice(b" IMAP4rev1 SASL-IR LITERAL+ ID");
    if offer.starttls_now() {
        out.extend_from_slice(b" STARTTLS");
    }
    if offer.login_allowed() {
        out.extend_from_slice(b" AUTH=PLAIN AUTH=LOGIN");
        if offer.xoauth2 {
            out.extend_from_slice(b" AUTH=XOAUTH2");
        }
    } else {
        // RFC 3501 §6.2.3; old clients refuse AUTH=PLAIN in clear, so nothing of the kind is announced beside it.
        out.extend_from_slice(b" LOGINDISABLED");
    }
}

/// Writes the part of a server's list that stays, each word behind a space.
pub(super) fn keep(list: &[u8], out: &mut Vec<u8>) {
    for capability in words(list).filter(|capability| is_kept(capability)) {
        out.push(b' ');
        out.extend_from_slice(capability);
    }
}

/// Returns whether everything in the list stays, so that the line can pass as it is.
pub(super) fn is_kept_whole(list: &[u8]) -> bool {
    words(list).all(is_kept)
}

fn words(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&octet| octet == b' ').filter(|capability| !capability.is_empty())
}

/// Returns whether a capability holds between this device and this server through packetboat.
///
/// Some do not: everything about the login and TLS, which are over; ENABLE and what needs it, IMAP4rev2 and COMPRESS,
/// because they change the syntax of the relay; Exchange's own words between its servers; and every unknown word.
fn is_kept(capability: &[u8]) -> bool {
    let name = capability.split(|&octet| octet == b'=').next().unwrap_or_default();
    KEPT.iter().any(|kept| kept.eq_ignore_ascii_case(capability))
        || KEPT_WITH_VALUE.iter().any(|kept| kept.eq_ignore_ascii_case(name))
}

/// Capabilities without a value, from the registry that RFC 3501 §11 (IANA considerations) set up.
const KEPT: &[&[u8]] = &[
    b"IMAP4",
    b"IMAP4rev1",
    b"ACL",
    b"BINARY",
    b"CATENATE",
    b"CHILDREN",
    b"CONDSTORE",
    b"CREATE-SPECIAL-USE",
    b"ESEARCH",
    b"ESORT",
    b"FILTERS",
    b"ID",
    b"IDLE",
    b"INPROGRESS",
    b"LANGUAGE",
    b"LIST-EXTENDED",
    b"LIST-METADATA",
    b"LIST-MYRIGHTS",
    b"LIST-STATUS",
    b"LITERAL+",
    b"LITERAL-",
    b"METADATA",
    b"METADATA-SERVER",
    b"MOVE",
    b"MULTIAPPEND",
    b"MULTISEARCH",
    b"NAMESPACE",
    b"NOTIFY",
    b"OBJECTID",
    b"PARTIAL",
    b"REPLACE",
    b"SAVEDATE",
    b"SEARCHRES",
    b"SPECIAL-USE",
    b"UIDPLUS",
    b"UNSELECT",
    b"URL-PARTIAL",
    b"URLAUTH",
    b"WITHIN",
];

/// Capabilities that come with a value, or with and without one.
const KEPT_WITH_VALUE: &[&[u8]] = &[
    b"APPENDLIMIT",
    b"CONTEXT",
    b"I18NLEVEL",
    b"IMAPSIEVE",
    b"PREVIEW",
    b"QUOTA",
    b"QUOTASET",
    b"RIGHTS",
    b"SEARCH",
    b"SNIPPET",
    b"SORT",
    b"STATUS",
    b"THREAD",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(list: &str) -> String {
        let mut out = Vec::new();
        keep(list.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn capabilities_of_exchange_after_login() {
        assert_eq!(
            kept(
                "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT ENABLE IMAP4rev2 \
                 CLIENTACCESSRULES CLIENTNETWORKPRESENCELOCATION BACKENDAUTHENTICATE BACKENDAUTHENTICATE-IR \
                 CHILDREN IDLE NAMESPACE LITERAL+"
            ),
            " IMAP4 IMAP4rev1 UIDPLUS MOVE ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+"
        );
        assert_eq!(kept("imap4REV1 COMPRESS=DEFLATE THREAD=REFS QUOTA QUOTA=RES-STORAGE X-NEW"), {
            " imap4REV1 THREAD=REFS QUOTA QUOTA=RES-STORAGE"
        });
    }

    #[test]
    fn our_own_list() {
        let mut offer =
            Offer { encrypted: false, starttls: true, plaintext_login: false, xoauth2: true, ..Offer::NONE };
        let say = |offer: &Offer| {
            let mut out = Vec::new();
            list(offer, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(say(&offer), " IMAP4rev1 SASL-IR LITERAL+ ID STARTTLS LOGINDISABLED");
        offer.encrypted = true;
        assert_eq!(say(&offer), " IMAP4rev1 SASL-IR LITERAL+ ID AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2");
    }
}
