//! This file measures the CPU time of a message beside what users would pick instead: Postfix as a relay with a queue,
//! and email-oauth2-proxy.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ::packetboat::state::{self, Access};
use openssl::ssl::SslVersion;
use support::bench::emailproxy::{self, Task};
use support::bench::figures::Figures;
use support::bench::packetboat;
use support::bench::submitter::{self, SENDER, Submitter};
use support::bench::upstream::{SUBMISSION, Upstream};
use support::certificates::Certificates;
use support::process::{PATIENCE, Process};
use support::stacks::{Stack, Start, Version};
use support::translated::{DEVICE_PASSWORD, account_of, device};
use support::{free_ports, proxy, server};

use crate::measure::Row;
use crate::postfix::Postfix;
use crate::proxies::submission;
use crate::tree::Tree;

/// A program that takes messages.
struct Way {
    name: &'static str,
    address: SocketAddr,
    process: u32,
}

/// CPU time of a message of 16 KiB in a session of its own with a full handshake, TLS 1.2 in and TLS 1.3 out. Several
/// devices send at a time.
pub fn measure(directory: &Path, certificates: &Certificates, upstream: &mut Upstream) -> Vec<Row> {
    let endpoint = server::tls(certificates, SslVersion::TLS1_3, |stream| {
        server::hand_out(stream, &"t".repeat(1500));
    });
    let port = upstream.ports[SUBMISSION[0]];
    let (own, address) = translating(directory, endpoint, port);
    let mut ways = vec![Way { name: "message, packetboat", address, process: own.0.id() }];
    let postfix = Postfix::start(directory, port);
    if let Some(Postfix { master, address }) = &postfix {
        ways.push(Way { name: "message, Postfix", address: *address, process: master.0.0.id() });
    }
    let token_url = format!("https://localhost:{endpoint}/token");
    let task = Task {
        protocol: "SMTP",
        server: ("localhost", port),
        mailbox: SENDER,
        token_url: &token_url,
        client_id: "1",
        client_secret: "anything",
        roots: &directory.join("ca.pem"),
    };
    let scripts =
        [("message, email-oauth2-proxy", emailproxy::PROGRAM), (WITHOUT_KEY, emailproxy::PROGRAM_WITHOUT_KEY)];
    let mut others = Vec::new();
    for (name, script) in scripts {
        let Some(python) = emailproxy::python() else { continue };
        let (process, address) = emailproxy::start(&python, script, directory, &task);
        ways.push(Way { name, address, process: process.0.id() });
        others.push(process);
    }
    let content = submitter::content(SIZE);
    let mut figures: Vec<Figures> = ways.iter().map(|_| Figures::default()).collect();
    let mut sent = upstream.submissions();
    // The first round only warms up.
    for round in 0..=ROUNDS {
        for turn in 0..ways.len() {
            let Way { address, process, .. } = ways[(turn + round) % ways.len()];
            let before = Tree::of(process).cpu();
            std::thread::scope(|scope| {
                for _ in 0..DEVICES {
                    scope.spawn(|| (0..MESSAGES / DEVICES).for_each(|_| send(address, &content)));
                }
            });
            sent += MESSAGES;
            let spent = settled(process, upstream, sent) - before;
            if round > 0 {
                figures[(turn + round) % ways.len()].0.push(spent.as_secs_f64() * 1e3 / MESSAGES as f64);
            }
        }
    }
    let row =
        |(way, figures): (&Way, Figures)| Row { name: way.name.to_owned(), unit: "ms", figures: vec![Some(figures)] };
    ways.iter().zip(figures).map(row).collect()
}

fn send(address: SocketAddr, content: &[u8]) {
    let stack = Stack::Openssl { version: Version::Tls1_2, ciphers: "ECDHE-RSA-AES128-GCM-SHA256" };
    let mut device = Submitter::greeted(stack.connect(address, Start::Implicit));
    device.login(SENDER, DEVICE_PASSWORD);
    device.submit(content);
    device.quit();
}

/// CPU time of a process tree once the server has so many messages and nothing is left to do for them: Postfix
/// delivers behind its answer.
fn settled(process: u32, upstream: &mut Upstream, sent: u64) -> Duration {
    let deadline = Instant::now() + PATIENCE;
    while upstream.submissions() < sent {
        assert!(Instant::now() < deadline, "not every message has reached the server");
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut last = Tree::of(process).cpu();
    loop {
        std::thread::sleep(Duration::from_millis(20));
        let now = Tree::of(process).cpu();
        if now - last < Duration::from_micros(100) {
            return now;
        }
        last = now;
    }
}

/// packetboat with an account for the device: it fetches a token, and rewrites the sender.
fn translating(directory: &Path, endpoint: u16, server: u16) -> (Process, SocketAddr) {
    let [port] = free_ports();
    let secret = directory.join("client-secret-of-messages");
    state::write(&secret, b"anything", Access::Private).unwrap();
    let roots = directory.join("ca.pem");
    let text = packetboat::beginning(directory, "messages-state")
        + &submission("u", server, directory)
        + &format!(
            "[limits]\nsessions_per_mailbox = 16\n\
             [submission]\nmessages_per_minute = 10000\n\
                  recipients_per_hour_of_device = 1000000\nconnections_per_mailbox = 1000\n\
             [identity.i]\ntenant = \"contoso.example\"\nclient_id = \"1\"\nclient_secret_file = {secret:?}\n\
             token_endpoint = \"https://localhost:{endpoint}/token\"\nroots = {roots:?}\n"
        )
        + &account_of("a", "scans@contoso.example", "u", "i")
        + &device(SENDER, "a", DEVICE_PASSWORD, "")
        + &packetboat::at(port, &proxy::translating_listener("smtp", "smtp", "implicit", ""));
    let command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    let (process, [address]) = packetboat::start(command, directory, "messages", &text, [port]);
    (process, address)
}

const WITHOUT_KEY: &str = "message, email-oauth2-proxy without its key derivation";
/// The size of a message, in octets.
const SIZE: usize = 16 * 1024;
const ROUNDS: usize = 7;
/// Messages in a round, and devices that send them at a time.
const MESSAGES: u64 = 80;
const DEVICES: u64 = 8;
