//! The names and addresses of this host: for the certificate, and for what to type into a device.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::pool::{self, Gate, NotDone};
use crate::state;

/// The host's name, if it has one that may stand in a certificate.
pub fn name() -> Option<String> {
    let system = rustix::system::uname();
    let name = system.nodename().to_str().ok()?;
    let fits = !name.is_empty()
        && name.len() <= LONGEST_COMMON_NAME
        && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.'));
    fits.then(|| name.to_owned())
}

/// The addresses of a host, which may be written as an address itself. The system's resolver is asked on a thread of
/// its own.
///
/// # Errors
/// The resolver knows no address, or it does not answer within `patience`.
pub async fn resolve(host: &str, port: u16, patience: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let name = host.to_owned();
    let asked = Instant::now();
    let ask = move || match answer_since(&name, asked).map_or_else(|| ask_resolver(&name), Ok) {
        Ok(addresses) => Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()),
        // The resolver does not say that it may not open one of its files.
        Err(error) => Err(match state::name_resolution_denial() {
            Some(denied) => io::Error::new(error.kind(), format!("{error}; {denied}")),
            None => error,
        }),
    };
    // One lookup of a name at a time: one that gets no answer takes no other name's thread.
    pool::NAMES.run_alone(&Gate::of(&format!("name {host}")), patience, ask).await.unwrap_or_else(|why| {
        Err(io::Error::other(match why {
            NotDone::Late => "the system's resolver does not answer".to_owned(),
            other => format!("the system's resolver cannot be asked: {other}"),
        }))
    })
}

/// The resolver's answer about a name.
struct Answer {
    came: Instant,
    addresses: Vec<IpAddr>,
}

/// Asks, and leaves the answer to all who have asked meanwhile.
fn ask_resolver(name: &str) -> io::Result<Vec<IpAddr>> {
    let addresses: Vec<IpAddr> = (name, 0).to_socket_addrs()?.map(|address| address.ip()).collect();
    let mut answers = ANSWERS.lock();
    let now = Instant::now();
    answers.retain(|_, answer| now.duration_since(answer.came) < FORGOTTEN);
    answers.insert(name.to_owned(), Answer { came: now, addresses: addresses.clone() });
    Ok(addresses)
}

fn answer_since(name: &str, asked: Instant) -> Option<Vec<IpAddr>> {
    let answers = ANSWERS.lock();
    answers.get(name).filter(|answer| answer.came > asked).map(|answer| answer.addresses.clone())
}

/// The name of an address in the DNS, where that is a name that may be shown. Takes as long as the resolver does.
pub fn name_of(address: IpAddr) -> Option<String> {
    let name = dns_lookup::lookup_addr(&address).ok()?;
    let name = name.trim_end_matches('.');
    let fits = name.len() <= LONGEST_NAME
        && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_'))
        && name.parse::<IpAddr>().is_err();
    (fits && !name.is_empty()).then(|| name.to_owned())
}

/// The addresses of its interfaces: the one that leads to the default route first, loopback last; link-local IPv6 left
/// out.
pub fn addresses() -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = if_addrs::get_if_addrs()
        .unwrap_or_default()
        .into_iter()
        .map(|interface| interface.ip())
        .filter(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect();
    // Containers and tunnels have addresses, too; devices are where the default route is.
    let main = main_address();
    addresses.sort_by_key(|address| (Some(*address) != main, address.is_loopback(), address.is_ipv6(), *address));
    addresses.dedup();
    addresses
}

/// The address that this host would use towards the Internet. Nothing is sent: connecting UDP only picks a route.
fn main_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((DOCUMENTATION, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The last answers of the resolver, for callers that waited for the same name.
static ANSWERS: LazyLock<Mutex<HashMap<String, Answer>>> = LazyLock::new(Mutex::default);
const FORGOTTEN: Duration = Duration::from_secs(60);
/// RFC 1035 §2.3.4.
const LONGEST_NAME: usize = 253;
/// RFC 5737: never anybody's.
const DOCUMENTATION: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// RFC 5280, appendix A: ub-common-name.
const LONGEST_COMMON_NAME: usize = 64;
