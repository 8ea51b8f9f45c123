//! Addresses of web services that secrets go to: over TLS, or not beyond this computer and its own link.

use std::fmt;
use std::net::IpAddr;

/// The reason why no secret may go to a URL, and what to write. The words follow the key of the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It begins neither with https nor, for a local host, with http.
    NotHttps,
    /// It is no URL with a host.
    NoUrl,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotHttps => "must begin with https://: secrets go there",
            Self::NoUrl => "is no URL; write it as \"https://host/path\"",
        })
    }
}

impl std::error::Error for Error {}

/// Checks that a secret may go to this URL: by `https`, or by `http` to a local host.
///
/// # Errors
/// The URL is none, or leads over a network without TLS.
pub fn may_carry_secrets(url: &str) -> Result<(), Error> {
    let (scheme, _) = url.split_once("://").ok_or(Error::NotHttps)?;
    let host = host(url).ok_or(Error::NoUrl)?;
    let is_http = scheme.eq_ignore_ascii_case("http");
    match scheme.eq_ignore_ascii_case("https") || (is_http && is_local(host)) {
        true => Ok(()),
        false => Err(Error::NotHttps),
    }
}

/// The host of a URL, IPv6 without brackets (RFC 3986 section 3.2).
pub fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    // A user's name in front of the host would let a reader take it for the host.
    if authority.contains(['@', '\\']) || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => authority.split(':').next()?,
    };
    Some(host).filter(|host| !host.is_empty())
}

/// Scheme, host and port of a URL as they are written, in lower case.
pub fn origin(url: &str) -> String {
    let end = url.find("://").and_then(|scheme| Some(scheme + 3 + url.get(scheme + 3..)?.find(['/', '?', '#'])?));
    end.and_then(|end| url.get(..end)).unwrap_or(url).to_lowercase()
}

/// Returns whether a host's name is one of these, in full; upper case and a dot behind it change nothing.
pub fn is_one_of(host: &str, known: &[&str]) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    known.iter().any(|known| known.eq_ignore_ascii_case(host))
}

/// Returns whether a host is this computer, or in the link-local network of cloud metadata services. It goes by the
/// address, so that a name which begins like one is none.
pub fn is_local(host: &str) -> bool {
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unicast_link_local(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_an_address_and_never_a_name_that_begins_like_one() {
        for near in ["127.0.0.1", "127.9.9.9", "169.254.169.254", "::1", "fe80::1", "::ffff:127.0.0.1", "localhost"] {
            assert!(is_local(near), "{near}");
        }
        for far in
            ["127.evil.example", "169.254.evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "127.1", ""]
        {
            assert!(!is_local(far), "{far}");
        }
    }

    #[test]
    fn names_are_compared_in_full() {
        let known = ["outlook.office365.com"];
        assert!(is_one_of("Outlook.Office365.com.", &known) && is_one_of("outlook.office365.com", &known));
        for other in ["outlook.office365.com.evil.example", "evil-outlook.office365.com", "office365.com", ""] {
            assert!(!is_one_of(other, &known), "{other}");
        }
    }

    #[test]
    fn secrets_go_over_tls_or_stay_local() {
        for good in
            ["https://login.example/x", "HTTPS://a", "http://127.0.0.1:80/x", "http://[::1]:8/", "http://localhost"]
        {
            assert_eq!(may_carry_secrets(good), Ok(()), "{good}");
        }
        for bad in [
            "http://127.evil.example/",
            "http://169.254.evil.example/",
            "http://localhost.evil.example/",
            "http://localhost@evil.example/",
            "http://[::1]@evil.example/",
            "http://127.0.0.1:80@evil.example/",
            "http://evil.example/?http://127.0.0.1/",
            "http://evil.example\\@127.0.0.1/",
            "https://user@login.example/",
            "https:///path",
            "https://a b/",
            "ftp://127.0.0.1/",
            "login.example",
        ] {
            assert!(may_carry_secrets(bad).is_err(), "{bad}");
        }
    }
}
