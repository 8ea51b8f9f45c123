//! The guard against cross-site request forgery lets only the page itself ask for a change, and no other site that is open
//! in the same browser.
//!
//! A request that changes anything is a `POST` with the form token in `X-Form-Token`. The page reads the token from
//! `status.json`; a page of another site cannot read it, and cannot send the header without a permission that packetboat
//! gives nobody. The origin that the browser gives must fit as well. The guard says nothing about who asks:
//! the bearer token and the role do.

use super::role::Client;
use crate::crypto;
use crate::secret::Secret;
use crate::transport::http::server::{Request, Response};

/// The form token of this process. A restart makes another one; pages read it anew.
pub(super) struct CsrfGuard {
    form_token: Secret,
}

impl CsrfGuard {
    /// A guard with a random token. Without random octets it lets no change pass.
    pub(super) fn new() -> Self {
        let octets: Vec<u8> = crypto::random::<16>().map(Vec::from).unwrap_or_default();
        let digits: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        Self { form_token: Secret::new(digits.into_bytes()) }
    }

    /// The form token, for the page's own JSON and for nothing else.
    pub(super) fn form_token(&self) -> &str {
        std::str::from_utf8(self.form_token.expose()).unwrap_or_default()
    }

    /// Checks that the page itself has sent this request. The socket in the state directory is out of every browser's
    /// reach, so that commands need no form token there.
    pub(super) fn check(&self, received: &Request, client: &Client) -> Result<(), Response> {
        if matches!(client, Client::Owner) {
            return Ok(());
        }
        if received.fetch_site.as_deref().is_some_and(|site| site != "same-origin") {
            return Err(Response::text(
                403,
                "changes are taken from the page itself, and this request is of another site\n",
            ));
        }
        let host = received.host.as_deref().unwrap_or_default();
        if received.origin.as_deref().is_some_and(|origin| !is_of(origin, host)) {
            let words =
                "the request's origin is not the page's address; a proxy in front must pass the Host header on\n";
            return Err(Response::text(403, words));
        }
        let token = self.form_token.expose();
        let is_right = received.form_token.as_ref().is_some_and(|given| crypto::is_equal(token, given.expose()));
        if token.is_empty() || !is_right {
            let words = "send the form token of status.json in X-Form-Token; packetboat makes a new one at its start\n";
            return Err(Response::text(403, words));
        }
        Ok(())
    }
}

/// Returns whether an origin, as `https://name:port`, is that of a host, as `name:port`.
fn is_of(origin: &str, host: &str) -> bool {
    let name = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    !host.is_empty() && name.is_some_and(|name| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::super::limiter::ConnectionLimiter;
    use super::*;

    fn request(origin: Option<&str>, fetch_site: Option<&str>, form_token: Option<&str>) -> Request {
        let mut request = Request::default();
        (request.host, request.origin) = (Some("mailproxy:9143".to_owned()), origin.map(str::to_owned));
        request.fetch_site = fetch_site.map(str::to_owned);
        request.form_token = form_token.map(|token| Secret::new(token.as_bytes().to_vec()));
        request
    }

    #[test]
    fn only_the_page_itself_passes() {
        let guard = CsrfGuard::new();
        let permit = Arc::<ConnectionLimiter>::default().take(IpAddr::from([127, 0, 0, 1]));
        let client = Client::Network(Arc::new(permit.unwrap()));
        let token = guard.form_token().to_owned();
        assert_eq!(token.len(), 32);
        assert_ne!(token, CsrfGuard::new().form_token());
        let own = Some("http://mailproxy:9143");
        let passes = |origin, site, token| guard.check(&request(origin, site, token), &client).is_ok();
        assert!(passes(own, Some("same-origin"), Some(&token)));
        assert!(passes(Some("https://MAILPROXY:9143"), Some("same-origin"), Some(&token)), "TLS by a proxy in front");
        // A program such as curl says neither.
        assert!(passes(None, None, Some(&token)));
        for site in ["cross-site", "same-site", "none", ""] {
            assert!(!passes(own, Some(site), Some(&token)), "{site}");
        }
        for origin in ["null", "", "http://evil.example", "http://mailproxy", "http://mailproxy:9143.evil.example"] {
            assert!(!passes(Some(origin), Some("same-origin"), Some(&token)), "{origin}");
        }
        for wrong in [None, Some(""), Some("0123456789abcdef0123456789abcdef")] {
            assert!(!passes(own, Some("same-origin"), wrong), "{wrong:?}");
        }
        guard.check(&request(None, None, None), &Client::Owner).unwrap_or_else(|_| panic!("the owner's socket"));
        let broken = CsrfGuard { form_token: Secret::new(Vec::new()) };
        assert!(broken.check(&request(own, None, Some("")), &client).is_err(), "no token, no change");
    }
}
