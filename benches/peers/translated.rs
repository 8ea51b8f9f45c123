//! This file starts packetboat with translated logins, and measures such a session beside a passed-through one.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use ::packetboat::state::{self, Access};
use openssl::ssl::SslVersion;

use crate::measure::{self, CROWD};
use crate::proxies;
use support::bench::device::Kind;
use support::bench::figures::Figures;
use support::bench::packetboat;
use support::certificates::Certificates;
use support::process::Process;
use support::translated::{account_of, device};
use support::{free_ports, proxy, server};

/// A token endpoint, and the directory that has its authority as `ca.pem`.
pub struct Endpoint<'a> {
    pub port: u16,
    pub directory: &'a Path,
}

impl<'a> Endpoint<'a> {
    /// Starts one with these certificates, which lie in the directory.
    pub fn start(certificates: &Certificates, directory: &'a Path) -> Self {
        let port = server::tls(certificates, SslVersion::TLS1_3, |stream| {
            // Entra's access tokens for an application are about this long.
            server::hand_out(stream, &"t".repeat(1500));
        });
        Self { port, directory }
    }

    /// `[identity.i]`, and an account and a device for each login of a crowd, at the upstream `u`.
    pub fn accounts(&self, directory: &Path) -> String {
        let secret = directory.join("client-secret");
        state::write(&secret, b"anything", Access::Private).unwrap();
        let (port, roots) = (self.port, self.directory.join("ca.pem"));
        let mut text = format!(
            "[identity.i]\ntenant = \"contoso.example\"\nclient_id = \"1\"\nclient_secret_file = {secret:?}\n\
             token_endpoint = \"https://localhost:{port}/token\"\nroots = {roots:?}\n\
             [limits]\nsessions_per_mailbox = 16\n"
        );
        for number in 0..CROWD {
            let account = format!("a{number}");
            text += &account_of(&account, &format!("scans{number}@contoso.example"), "u", "i");
            text += &device(&format!("u{number}"), &account, "p", "");
        }
        text
    }
}

/// Starts packetboat with a listener that translates logins, in front of this server. Returns `None` where the program
/// refuses the upstream's further lines.
pub fn start(name: &str, directory: &Path, endpoint: &Endpoint<'_>, upstream: &str) -> Option<(Process, SocketAddr)> {
    let ports @ [port] = free_ports();
    let text = packetboat::beginning(directory, &format!("{name}-state"))
        + upstream
        + &endpoint.accounts(directory)
        + &packetboat::at(port, &proxy::translating_listener("translated", "imap", "implicit", ""));
    let program = proxies::program();
    let file = directory.join(format!("{name}-check.toml"));
    fs::write(&file, &text).unwrap();
    let mut check = Command::new(&program);
    let checked = check.args(["check", "--config"]).arg(file).stdout(Stdio::null()).status().unwrap();
    if !checked.success() {
        return None;
    }
    let (process, [address]) = packetboat::start(Command::new(program), directory, name, &text, ports);
    Some((process, address))
}

/// CPU time of a session in microseconds: passed through, and translated (the password remembered, the token at hand).
pub fn measure(directory: &Path, endpoint: &Endpoint<'_>, upstream: u16) -> [Figures; 2] {
    let ports = free_ports();
    let text = packetboat::beginning(directory, "translated-state")
        + &proxy::upstream("u", [upstream; 2], directory, "")
        + &endpoint.accounts(directory)
        + &packetboat::at(ports[0], &proxy::listener("passed", "imap", "implicit", "upstream = \"u\""))
        + &packetboat::at(ports[1], &proxy::translating_listener("translated", "imap", "implicit", ""));
    let command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    let (process, ways) = packetboat::start(command, directory, "translated", &text, ports);
    measure::in_turns(process.0.id(), &ways, &Kind::old(support::bench::device::SUITE))
}
