//! Pasted values are normalised: as portals and mail programs put them on the clipboard, where only one thing can be
//! meant.

use crate::text::is_invisible;

/// The text without blanks and invisible characters at both ends.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || is_invisible(c))
}

/// An id without the braces of a registry or a script around it.
pub(super) fn id(text: &str) -> &str {
    let text = trimmed(text);
    text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).map_or(text, trimmed)
}

/// A mail address out of `smtp:x@y` (Exchange's proxyAddresses), `mailto:x@y`, `<x@y>` or `Name <x@y>` (RFC 5322
/// section 3.4).
pub(super) fn address(text: &str) -> &str {
    let text = trimmed(text);
    let inner = text.strip_suffix('>').and_then(|text| text.rsplit_once('<')).map_or(text, |(_, address)| address);
    let scheme = ["smtp:", "mailto:"]
        .iter()
        .find(|scheme| inner.get(..scheme.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(scheme)));
    trimmed(inner.get(scheme.map_or(0, |scheme| scheme.len())..).unwrap_or(inner))
}

/// A host without the brackets of IPv6 in a URL.
pub(super) fn host(text: &str) -> &str {
    let text = trimmed(text);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    bare.filter(|bare| bare.contains(':')).unwrap_or(text)
}

/// An authority without the tenant behind it, which stands in a key of its own.
pub(super) fn authority<'a>(text: &'a str, tenant: &str) -> &'a str {
    let text = text.trim_end_matches('/');
    let bare = text.strip_suffix("/v2.0").or_else(|| text.strip_suffix("/oauth2")).unwrap_or(text);
    match bare.rsplit_once('/') {
        Some((front, behind)) if !tenant.is_empty() && behind.eq_ignore_ascii_case(tenant) => front,
        _ => text,
    }
}

/// Returns whether the text is a GUID, as directories and applications of Microsoft's have.
pub(super) fn is_guid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|octet| octet == b'-' || octet.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unambiguous_values_are_accepted() {
        for pasted in [
            "x@y.z",
            " x@y.z\n",
            "smtp:x@y.z",
            "SMTP:x@y.z",
            "<x@y.z>",
            "X Y <x@y.z>",
            "mailto:x@y.z",
            "\u{200b}x@y.z\u{a0}",
        ] {
            assert_eq!(address(pasted), "x@y.z", "{pasted:?}");
        }
        for pasted in ["{1-2}", " { 1-2 } ", "1-2", "\u{feff}1-2"] {
            assert_eq!(id(pasted), "1-2", "{pasted:?}");
        }
        for (pasted, expected) in [("[::1]", "::1"), (" mail.example ", "mail.example"), ("[x]", "[x]")] {
            assert_eq!(host(pasted), expected);
        }
        for pasted in
            ["https://a", "https://a/", "https://a/T.example", "https://a/t.example/", "https://a/t.example/v2.0"]
        {
            assert_eq!(authority(pasted, "t.example"), "https://a", "{pasted}");
        }
        assert_eq!(authority("https://a/other", "t.example"), "https://a/other");
        assert_eq!(authority("https://a/x", ""), "https://a/x");
    }
}
