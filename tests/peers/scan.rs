//! These tests prove, profile by profile, which TLS a scan of the devices' side finds, and that none of it reaches the
//! servers' side.
//!
//! They try the well-known attacks on old TLS by hand, octet by octet, and compare answers, not times. [`scanners`] has
//! the findings of public scanners about the same listeners.

mod floods;
mod offers;
mod oracles;
mod scanners;
mod sessions;
mod upstream;

use support::proxy::{Proxy, listener};

/// A listener for each profile, by its name.
const PROFILES: [&str; 3] = ["modern", "legacy", "ancient"];

fn profiles() -> Proxy {
    let listeners = PROFILES.map(|name| listener(name, "imap", "implicit", &format!("profile = \"{name}\"")));
    // The limits allow the many handshakes of a scanner.
    let limits = "[limits]\nhandshakes_per_minute = 1000000\nhandshakes_per_minute_of_source = 1000000\n";
    Proxy::start(&(limits.to_owned() + &listeners.concat()))
}
