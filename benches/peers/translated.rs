//! This file is measure 8: a session with a translated login beside a passed-through one, in one packetboat.

use std::path::Path;
use std::process::Command;

use ::packetboat::state::{self, Access};
use openssl::ssl::SslVersion;

use crate::measure;
use support::bench::device::Kind;
use support::bench::figures::Figures;
use support::bench::packetboat;
use support::certificates::Certificates;
use support::translated::{account_of, device};
use support::{free_ports, proxy, server};

/// CPU time of a session in microseconds: passed through, and translated (the password remembered, the token at hand).
pub fn measure(directory: &Path, certificates: &Certificates, upstream: u16) -> [Figures; 2] {
    let endpoint = server::tls(certificates, SslVersion::TLS1_3, |stream| {
        // Entra's access tokens for an application are about this long.
        server::hand_out(stream, &"t".repeat(1500));
    });
    let ports = free_ports();
    let secret = directory.join("client-secret");
    state::write(&secret, b"anything", Access::Private).unwrap();
    let roots = directory.join("ca.pem");
    let text = packetboat::beginning(directory, "translated-state")
        + &proxy::upstream("u", [upstream; 2], directory, "")
        + &format!(
            "[identity.i]\ntenant = \"contoso.example\"\nclient_id = \"1\"\nclient_secret_file = {secret:?}\n\
             token_endpoint = \"https://localhost:{endpoint}/token\"\nroots = {roots:?}\n\
             [limits]\nsessions_per_mailbox = 16\n"
        )
        + &account_of("a", "scans@contoso.example", "u", "i")
        + &device("u", "a", "p", "")
        + &packetboat::at(ports[0], &proxy::listener("passed", "imap", "implicit", "upstream = \"u\""))
        + &packetboat::at(ports[1], &proxy::translating_listener("translated", "imap", "implicit", ""));
    let command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    let (process, ways) = packetboat::start(command, directory, "translated", &text, ports);
    measure::in_turns(process.0.id(), &ways, &Kind::old(support::bench::device::SUITE))
}
