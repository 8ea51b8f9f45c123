//! Measure 8: a session whose login is translated, beside the same passed through, by one packetboat.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use openssl::ssl::SslVersion;
use packetboat::device::password;
use packetboat::state::{self, Access};

use crate::measure;
use support::bench::device::Kind;
use support::bench::figures::Figures;
use support::certificates::Certificates;
use support::free_ports;
use support::process::Process;
use support::server;

/// CPU time of a session in microseconds: passed through, and translated (the password remembered, the token at hand).
pub fn measure(directory: &Path, certificates: &Certificates, upstream: u16) -> [Figures; 2] {
    let endpoint = server::tls(certificates, SslVersion::TLS1_3, |stream| {
        // As long as those of Entra for an application.
        server::hand_out(stream, &"t".repeat(1500));
    });
    let [passed, translated] = free_ports();
    let secret = directory.join("client-secret");
    state::write(&secret, b"anything", Access::Private).unwrap();
    let path = |name: &str| directory.join(name);
    let text = format!(
        "state_directory = {:?}\n[certificate.default]\nchain = {:?}\nkey = {:?}\n\
         [upstream.u]\nhost = \"127.0.0.1\"\nserver_name = \"localhost\"\nroots = {roots:?}\nimap_port = {upstream}\n\
         [identity.i]\ntenant = \"contoso.example\"\nclient_id = \"1\"\nclient_secret_file = {secret:?}\n\
         token_endpoint = \"https://localhost:{endpoint}/token\"\nroots = {roots:?}\n\
         [account.a]\nmailbox = \"scans@contoso.example\"\nupstream = \"u\"\n\
         [[device]]\nlogin = \"u\"\npasswords = [\"{hash}\"]\n\
         [limits]\nsessions_per_mailbox = 16\n\
         [[listener]]\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:{passed}\"]\nentry = \"implicit\"\n\
         logins = \"pass-through\"\nupstream = \"u\"\n\
         [[listener]]\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:{translated}\"]\nentry = \"implicit\"\n",
        path("translated-state"),
        path("server.pem"),
        path("server.key"),
        roots = path("ca.pem"),
        hash = password::hash(b"p").unwrap(),
    );
    fs::write(path("translated.toml"), text).unwrap();
    let process = Process::start(
        std::process::Command::new(env!("CARGO_BIN_EXE_packetboat"))
            .args(["run", "--config"])
            .env("PACKETBOAT_ADMIN_LISTEN", "127.0.0.1:0")
            .arg(path("translated.toml"))
            .stderr(fs::File::create(path("translated.log")).unwrap()),
    );
    let ways = [passed, translated].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    measure::wait_until_open(&ways);
    measure::in_turns(process.0.id(), &ways, &Kind::old(support::bench::device::SUITE))
}
