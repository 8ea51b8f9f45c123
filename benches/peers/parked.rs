//! This file measures sessions by the server's connection that they get: dialled, warm or parked; beside the relays, and
//! beside imapproxy, which parks connections as well. NOOPs in a session that may be parked are measured here, too.

use std::path::Path;

use support::bench::device::Kind;
use support::bench::figures::Figures;
use support::bench::upstream::Upstream;
use support::proxy;

use crate::imapproxy;
use crate::measure::{self, CORES, CROWD, ROUNDS, Row, SESSIONS, at_a_time, reading};
use crate::proxies::Proxy;
use crate::translated::{self, Endpoint};

/// Ways to the server's connection, each with its line under `[upstream.u]`.
pub const WAYS: [(&str, &str); 3] = [("dialled", ""), ("warm", "warm_connections = 16"), ("parked", "park = \"5m\"")];
/// The way that is compared with them: an imapproxy, which has stunnel in front for TLS.
pub const IMAPPROXY: &str = "imapproxy behind stunnel";
/// The most devices that connect to imapproxy at a time. Its queue of connections has five places, and beyond them a
/// connection may seem open on one side only, so that both sides wait: the device for the greeting.
const AT_IMAPPROXY: usize = 4;

/// Sessions in each way, with full handshakes and with resumed ones, and what follows from them: connections a second.
pub fn sessions(
    relays: &[&Proxy],
    (directory, endpoint): (&Path, &Endpoint<'_>),
    upstream: &mut Upstream,
    kind: &Kind,
    notes: &mut Vec<String>,
) -> Vec<Row> {
    let started = WAYS.map(|(name, more)| {
        let text = proxy::upstream("u", [upstream.ports[0]; 2], directory, more);
        let (process, address) = translated::start(name, directory, endpoint, &text)?;
        Some(Proxy::of(name, process, address, None))
    });
    let other = imapproxy::start(directory, ("localhost", upstream.starttls), imapproxy::EXPIRATION);
    let ways: Vec<&Proxy> = started.iter().flatten().chain(&other).collect();
    let all: Vec<&Proxy> = ways.iter().chain(relays).copied().collect();
    let mut logins = vec![(0, 0); ways.len()];
    let mut rows = Vec::new();
    for what in ["full handshake", "device resumes"] {
        let resumed = if what == "full handshake" { Vec::new() } else { measure::sessions(reading, kind, &all, 0) };
        let mut add = |devices: [&str; 2], count: usize, work: &mut dyn FnMut(usize, &Proxy)| {
            let [how, at_imapproxy] = devices;
            let row = measure::cpu(&all, (String::new(), "µs", 1e6), (ROUNDS, count as f64), |place, proxy| {
                let before = upstream.logins();
                work(place, proxy);
                if let Some((logins, sessions)) = logins.get_mut(place) {
                    *logins += upstream.logins() - before;
                    *sessions += count;
                }
            });
            let (own, relays) = row.figures.split_at(ways.len());
            for name in WAYS.map(|(name, _)| name) {
                let figures = ways.iter().position(|way| way.name == name).and_then(|place| own[place].clone());
                let figures = std::iter::once(figures).chain(relays.iter().cloned()).collect();
                let name = format!("translated session, {what}, {how}, TLS 1.3 out, {name}");
                rows.push(Row { name, unit: "µs", figures });
            }
            if other.is_some() {
                let name = format!("session, {what}, {at_imapproxy}, {IMAPPROXY}, parked");
                rows.push(Row { name, unit: "µs", figures: vec![own[ways.len() - 1].clone()] });
            }
        };
        let [many, fewer] = [CROWD, AT_IMAPPROXY].map(|devices| format!("{devices} devices at a time"));
        add([&many, &fewer], CROWD * SESSIONS, &mut |place, proxy| {
            let devices = if proxy.name == "imapproxy" { AT_IMAPPROXY } else { CROWD };
            at_a_time(devices, reading, kind, proxy.addresses[0], resumed.get(place));
        });
        add(["one at a time"; 2], 100, &mut |place, proxy| {
            (0..100).for_each(|_| reading(kind, proxy.addresses[0], resumed.get(place), "u0"));
        });
    }
    for (way, (logins, sessions)) in ways.iter().zip(logins) {
        notes.push(format!("{}: {logins} logins at the server for {sessions} sessions", way.name));
    }
    rows.extend(rates(&rows));
    if let Some(parked) = ways.iter().find(|way| way.name == "parked") {
        let all: Vec<&Proxy> = std::iter::once(parked).chain(relays).copied().collect();
        rows.extend(measure::noop_round_trips(&all, kind, ", park = \"5m\""));
    }
    rows
}

/// Connections a second that two cores allow by the CPU time of each.
fn rates(rows: &[Row]) -> Vec<Row> {
    let rate = |name: &str| {
        let session = format!("translated session, full handshake, {CROWD} devices at a time, TLS 1.3 out, {name}");
        let row = rows.iter().find(|row| row.name == session)?;
        let of = |figures: &Figures| Figures(figures.0.iter().map(|each| CORES * 1e6 / each).collect());
        let figures = row.figures.iter().map(|figures| figures.as_ref().map(of)).collect();
        Some(Row { name: format!("connections per second by the CPU time of each, {name}"), unit: "1/s", figures })
    };
    WAYS.iter().filter_map(|(name, _)| rate(name)).collect()
}
