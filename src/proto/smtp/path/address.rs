//! One address: a local part, and mostly a domain (RFC 5321 §4.1.2).

use std::fmt;

use crate::submission;

/// An address in ASCII, with no blank, control character or bracket in it. Its domain is a name or an address literal;
/// a local part without a domain is the server's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proto) struct Address {
    text: String,
    /// The length of the local part.
    local: usize,
}

impl Address {
    /// Reads an address without brackets around it. Dots at the beginning, at the end and in a row pass in a local part:
    /// the server decides.
    pub(in crate::proto) fn parse(text: &[u8]) -> Option<Self> {
        let local =
            if text.starts_with(b"\"") { quoted(text)? } else { memchr::memchr(b'@', text).unwrap_or(text.len()) };
        let (part, domain) = text.split_at_checked(local)?;
        let is_local = part.starts_with(b"\"") || (!part.is_empty() && part.iter().all(is_local_octet));
        let is_whole = domain.is_empty() || domain.strip_prefix(b"@").is_some_and(is_domain);
        if !is_local || !is_whole {
            return None;
        }
        Some(Self { text: std::str::from_utf8(text).ok()?.to_owned(), local })
    }

    /// Returns the address as a path: in brackets.
    pub(in crate::proto) fn path(&self) -> String {
        format!("<{}>", self.text)
    }

    /// Returns the address without brackets.
    #[cfg(test)]
    pub(in crate::proto) fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the domain, or the address literal with its brackets.
    pub(in crate::proto) fn domain(&self) -> Option<&str> {
        self.text.get(self.local + 1..)
    }

    /// Returns whether this is the same address. Exchange Online does not tell capitals from small letters, in either
    /// part.
    pub(in crate::proto) fn is(&self, other: &Address) -> bool {
        self.text.eq_ignore_ascii_case(&other.text)
    }

    /// Returns whether no server reads another domain into the local part. `user%other.example@here.example`,
    /// `other.example!user@here.example` and `"user@other.example"@here.example` are routes to some.
    pub(super) fn has_plain_local_part(&self) -> bool {
        let local = self.text.get(..self.local).unwrap_or_default();
        local.bytes().all(submission::is_plain)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Returns the length of the quoted string that the text begins with (RFC 5321 §4.1.2, Quoted-string).
fn quoted(text: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    for (at, octet) in text.iter().enumerate().skip(1) {
        match octet {
            _ if !octet.is_ascii_graphic() || b"<>".contains(octet) => return None,
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The octets of an atom (RFC 5322 §3.2.3), and dots.
fn is_local_octet(octet: &u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(octet)
}

fn is_domain(domain: &[u8]) -> bool {
    match domain.strip_prefix(b"[").and_then(|literal| literal.strip_suffix(b"]")) {
        Some(literal) => {
            let is_literal = |octet: &u8| octet.is_ascii_alphanumeric() || b".:-".contains(octet);
            !literal.is_empty() && literal.iter().all(is_literal)
        }
        None => domain.split(|octet| *octet == b'.').all(|label| {
            !label.is_empty() && label.iter().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(octet))
        }),
    }
}
