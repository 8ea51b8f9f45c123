//! The role of a client decides what it may see: all that there is, or the devices without any mailbox.
//!
//! Two bearer tokens give the roles: `admin.token_file` and `admin.technician_token_file`. Without tokens, every client
//! on this computer is an administrator.

use std::net::IpAddr;
use std::sync::Arc;

use super::Admin;
use super::limiter::Permit;
use crate::crypto;
use crate::secret::Secret;
use crate::transport::http::server::{Request, Response};

/// The client of a request.
#[derive(Clone)]
pub(super) enum Client {
    /// A program that reached the page's port.
    Network(Arc<Permit>),
    /// Root, or the user that this process runs as, at the socket in the state directory.
    Owner,
}

/// The role of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Anybody: health, the empty page, and the CA, which is public.
    Stranger,
    /// A technician: devices and their settings; no mailbox, account, configuration or metric.
    Technician,
    /// The administrator: everything.
    Administrator,
}

impl Role {
    /// The role's word in JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::Stranger => "stranger",
            Role::Technician => "technician",
            Role::Administrator => "administrator",
        }
    }
}

/// The bearer tokens.
#[derive(Default)]
pub(super) struct Tokens {
    pub(super) administrator: Option<Secret>,
    pub(super) technician: Option<Secret>,
}

impl Tokens {
    /// The role that a token gives; none for a wrong one.
    fn role(&self, given: Option<&Secret>) -> Option<Role> {
        let is = |token: &Option<Secret>| {
            let pair = token.as_ref().zip(given);
            pair.is_some_and(|(token, given)| crypto::is_equal(token.expose(), given.expose()))
        };
        match (is(&self.administrator), is(&self.technician)) {
            (true, _) => Some(Role::Administrator),
            (false, true) => Some(Role::Technician),
            (false, false) => None,
        }
    }
}

impl Admin {
    /// The role of the client that sends a request. Health and the empty page are for everybody. Data about devices need
    /// a token; without a token set, only clients on this computer get them.
    pub(super) fn role(&self, received: &Request, client: &Client) -> Result<Role, Response> {
        if !["GET", "HEAD", "POST"].contains(&received.method.as_str()) {
            return Err(Response::text(405, "GET alone is answered here\n"));
        }
        let Client::Network(permit) = client else { return Ok(Role::Administrator) };
        if received.method != "POST" && OPEN.contains(&received.path.as_str()) {
            return Ok(Role::Stranger);
        }
        let tokens = &self.reloadable.lock().tokens;
        let role = match (&tokens.administrator, tokens.role(received.bearer.as_ref())) {
            (Some(_), Some(role)) => role,
            (Some(_), None) => {
                let mut refusal = Response::text(401, "send the content of admin.token_file as a bearer token\n");
                refusal.headers.push(("www-authenticate", "Bearer".to_owned()));
                return Err(refusal);
            }
            // A page from elsewhere may have its name lead here (DNS rebinding); it cannot have it be localhost.
            (None, _) if received.host.as_deref().is_some_and(is_this_computer) => Role::Administrator,
            (None, _) => return Err(Response::text(403, "ask for localhost or 127.0.0.1, or set admin.token_file\n")),
        };
        permit.mark_authenticated();
        let is_for_technicians = received.method != "POST" && FOR_TECHNICIANS.contains(&received.path.as_str());
        if role == Role::Technician && !is_for_technicians {
            return Err(Response::text(403, "the technicians' token shows devices, and nothing else\n"));
        }
        Ok(role)
    }
}

/// Returns whether a Host header names this computer.
fn is_this_computer(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// The paths that every client may request: none says anything about devices. The CA is public; devices fetch it
/// themselves.
const OPEN: &[&str] = &[
    "/",
    "/device",
    "/page.css",
    "/page.js",
    "/access.js",
    "/actions.js",
    "/device.js",
    "/edit.js",
    "/sign_in.js",
    "/spool.js",
    "/devices.js",
    "/strangers.js",
    "/tree.js",
    "/favicon.ico",
    "/live",
    "/ready",
    "/ca.pem",
    "/ca.cer",
];
/// The paths that a technician may request beside those.
const FOR_TECHNICIANS: &[&str] = &["/status.json", "/device.json", "/device.events"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_this_computer() {
        for host in ["localhost", "localhost:9143", "127.0.0.1:9143", "[::1]:9143", "[::1]", "LOCALHOST", "127.0.0.2"] {
            assert!(is_this_computer(host), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example:9143", "192.168.1.1", "127.0.0.1.evil.example", "", ":9143"]
        {
            assert!(!is_this_computer(host), "{host}");
        }
    }

    #[test]
    fn a_token_gives_one_role() {
        let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
        let tokens = Tokens { administrator: Some(secret("all")), technician: Some(secret("some")) };
        let role = |text: &str| tokens.role(Some(&secret(text)));
        assert_eq!((role("all"), role("some")), (Some(Role::Administrator), Some(Role::Technician)));
        assert_eq!((role(""), role("other"), tokens.role(None)), (None, None, None));
        assert_eq!(Tokens::default().role(Some(&secret(""))), None);
    }
}
