//! What this host is called and where it is reached: for the certificate, and for what to type into a device.

use std::net::IpAddr;

/// The host's name, if it has one that may stand in a certificate.
pub fn name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    let fits = !name.is_empty()
        && name.len() <= LONGEST_COMMON_NAME
        && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.'));
    fits.then(|| name.to_owned())
}

/// The addresses of its interfaces, those on the LAN first, loopback last; link-local IPv6 left out.
pub fn addresses() -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = if_addrs::get_if_addrs()
        .unwrap_or_default()
        .into_iter()
        .map(|interface| interface.ip())
        .filter(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect();
    addresses.sort_by_key(|address| (address.is_loopback(), address.is_ipv6(), *address));
    addresses.dedup();
    addresses
}

/// RFC 5280, appendix A: ub-common-name.
const LONGEST_COMMON_NAME: usize = 64;
