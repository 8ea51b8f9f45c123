//! What a scan of the devices' side finds, profile by profile, and what of it ever shows on the servers' side.
//!
//! The well-known attacks on old TLS are tried by hand, octet by octet, and answers are compared, not times. What
//! scanners that others have written make of the same listeners is in [`scanners`].

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
    // Scanners begin many handshakes.
    let limits = "[limits]\nhandshakes_per_minute = 1000000\nhandshakes_per_minute_of_source = 1000000\n";
    Proxy::start(&(limits.to_owned() + &listeners.concat()))
}
