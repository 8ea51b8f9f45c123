//! This bench runs packetboat beside the relays that people use today, and compares CPU time and memory for the same
//! work.
//!
//! `make bench` installs them, runs this, and leaves a dated record with a chart. One measure alone, without a record:
//! `cargo bench --bench peers -- bulk`. Nothing is asserted but that every session goes well.

#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod calls;
mod idle;
mod imapproxy;
mod measure;
mod messages;
mod parked;
mod polls;
mod postfix;
mod proxies;
mod report;
mod translated;
mod tree;
mod waits;

use std::path::Path;

use measure::Row;
use proxies::{Proxy, Setting, Start};
use support::bench::device::{Kind, SUITE};
use support::bench::upstream::{MANNERS, Manner, SUBMISSION, Upstream};
use support::bench::{self, emailproxy};
use support::certificates::Certificates;
use translated::Endpoint;

fn main() {
    bench::main(|words| match words {
        [waits::NEAR, directory, ports @ ..] => waits::near(Path::new(directory), ports),
        _ => run(words),
    });
}

/// Runs the named measures, or all of them, and then writes the record.
fn run(filter: &[&str]) {
    let wanted = |name: &str| filter.is_empty() || filter.contains(&name);
    let (certificates, directory) = Certificates::for_names(&["localhost", waits::FAR], 30).in_directory();
    let mut upstream = Upstream::start(directory.path());
    let descriptors = proxies::most_descriptors();
    let most = (descriptors - 200).min(2 * 10_000);
    let setting = Setting { directory: directory.path(), upstream: upstream.ports, connections: most / 2 + 50 };
    let only = std::env::var("PROXIES").unwrap_or_default();
    let starts: Vec<Start> =
        proxies::ALL.into_iter().filter(|(name, _)| name.contains(only.as_str())).map(|(_, start)| start).collect();
    let proxies: Vec<Proxy> = starts.iter().filter_map(|start| start(&setting)).collect();
    let endpoint = Endpoint::start(&certificates, directory.path());
    let all: Vec<&Proxy> = proxies.iter().collect();
    let names: Vec<&str> = proxies.iter().map(|proxy| proxy.name).collect();
    let mut rows = Rows { names: names.clone(), rows: Vec::new() };
    let mut notes = notes();

    let old = Kind::old(SUITE);
    if wanted("parked") {
        let relays = all.iter().filter(|proxy| proxy.name != "packetboat").copied().collect::<Vec<_>>();
        rows.add(parked::sessions(&relays, (directory.path(), &endpoint), &mut upstream, &old, &mut notes));
    }
    for (measure, manners) in [("session", [0, 3]), ("sending", SUBMISSION)] {
        for (manner, resumes) in manners.into_iter().flat_map(|manner| [(manner, false), (manner, true)]) {
            if wanted(measure) {
                upstream.handshakes();
                rows.add(measure::whole_sessions(&all, &old, manner, resumes));
                let (all, resumed) = upstream.handshakes();
                let Manner { protocol, tls, .. } = MANNERS[manner];
                notes.push(format!("{protocol}, TLS {tls} out: {resumed} of {all} handshakes with the server resumed"));
            }
        }
    }
    if wanted("instead") {
        rows.add(messages::measure(directory.path(), &certificates, &mut upstream));
    }
    if wanted("message") {
        rows.add(SUBMISSION.map(|manner| measure::large_message(&all, &old, manner)));
    }
    if wanted("bulk") {
        let aes_128 = Kind::old("ECDHE-RSA-AES128-SHA");
        for (kind, suite) in [(&old, "AES-256"), (&aes_128, "AES-128")] {
            for (manner, record) in [(0, "16 KiB"), (1, "4 KiB"), (2, "1,400 octets")] {
                rows.add([measure::bulk(&all, &format!("{suite}, records of {record}"), kind, manner)]);
            }
        }
        rows.add([measure::bulk(&all, "AES-256, records of 16 KiB, TLS 1.2 out", &old, 3)]);
        let new = Kind::new_library(SUITE);
        let name = "AES-256, records of 16 KiB, device offers encrypt-then-MAC";
        rows.add([measure::bulk(&all, name, &new, 0)]);
    }
    if wanted("upload") {
        rows.add([measure::upload(&all, &old)]);
    }
    if wanted("small") {
        rows.add(measure::small(&all, &old));
    }
    if wanted("calls") {
        rows.add(calls::measure(directory.path(), &all, &old));
    }
    if wanted("rate") {
        rows.add(measure::rate(&all, &old));
    }
    if wanted("translated") {
        let [passed, translated] = translated::measure(directory.path(), &endpoint, upstream.ports[0]);
        rows.add([
            Row { name: "passed through".to_owned(), unit: "µs", figures: vec![Some(passed)] },
            Row { name: "translated session".to_owned(), unit: "µs", figures: vec![Some(translated)] },
        ]);
    }
    if wanted("waits") {
        rows.add(waits::measure(directory.path()));
    }
    if wanted("polls") {
        rows.add(polls::measure(directory.path(), &endpoint, &mut upstream, &old));
    }
    if wanted("growth") {
        let stages = [10, 100, 1000, most / 2];
        rows.add(measure::growth(&all, &old, most, &stages));
    }
    if wanted("idle") {
        rows.add(idle::measure(&starts, &setting, &old, most));
    }
    let mut versions: Vec<String> = proxies.iter().map(|proxy| proxy.version.clone()).collect();
    versions.extend(postfix::version().into_iter().chain(imapproxy::version()));
    drop(proxies);
    if wanted("translated")
        && let Some([packetboat, emailproxy, without_key]) = emailproxy::measure()
    {
        let row = |name: &str, figures| Row { name: name.to_owned(), unit: "ms", figures: vec![Some(figures)] };
        rows.add([
            row("translated session, TLS 1.2 in, simulator", packetboat),
            row("email-oauth2-proxy", emailproxy),
            row("email-oauth2-proxy without its key derivation", without_key),
        ]);
    }
    println!("{}", report::aims(&rows.names, &rows.rows));
    if filter.is_empty() {
        report::record(Path::new("benches/record"), &rows.names, &versions, &notes, &rows.rows);
        support::bench::records::write_readme(Path::new(env!("CARGO_MANIFEST_DIR")));
    }
}

/// The table, as it grows.
struct Rows<'a> {
    names: Vec<&'a str>,
    rows: Vec<Row>,
}

impl Rows<'_> {
    fn add(&mut self, more: impl IntoIterator<Item = Row>) {
        let more: Vec<Row> = more.into_iter().collect();
        print!("{}", report::table(&self.names, &more));
        self.rows.extend(more);
    }
}

fn notes() -> Vec<String> {
    [
        "TLS 1.0 ECDHE-RSA-AES256-SHA in, RSA-2048, without encrypt-then-MAC (RFC 7366 is younger than such devices); verified \
         TLS out, with resumption in every proxy. The device is OpenSSL, the server a scripted IMAP over rustls, each in a process \
         of its own on the same two cores.",
        "CPU time is the kernel's for the proxy's process tree, user and system. Medians of rounds in turns; a session is connect, \
         handshake, LOGIN, SELECT, FETCH of 16 KiB, LOGOUT, close.",
        "packetboat logs a line a session, as it comes; the others log nothing. stunnel has TLS on one side of a service only: two \
         of its services are chained.",
        "The reasons of aims that were not reached: a session's cryptography alone (OpenSSL's handshake 0.46 ms, rustls's resumed one \
         0.1 ms) and its packets in the kernel (0.2 ms) are more than half of nginx's session, which has the same; a download's \
         AES-CBC with SHA-1 (0.85 ms/MiB) and its two passes through the kernel are three quarters of nginx's, unless the device \
         offers encrypt-then-MAC, which packetboat declines and nginx takes; a NOOP is two packets that wake somebody, for both.",
        "Memory beside 10 and 100 connections says little: what earlier measures have freed is used again.",
        "With one device at a time most of a session's kernel time is for waking the other side; with 16 it is not.",
        "email-oauth2-proxy dials when the device connects, because each of its ports has one server: its device has waited \
         before the greeting for what packetboat's waits for between LOGIN and OK. packetboat learns from the login which server \
         and mailbox the device wants.",
    ]
    .map(str::to_owned)
    .into()
}
