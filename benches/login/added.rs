//! This bench measures the CPU time that a translated login adds to a passed-through one, with one device, one Dovecot
//! and one proxy.
//!
//! Dovecot takes the user's password by LOGIN or PASS; by XOAUTH2 it takes it as the token, and a token endpoint hands
//! it out as one.

use std::path::Path;

use openssl::ssl::SslVersion;
use packetboat::device::password;
use packetboat::state::{self, Access};

use support::bench::cost::{self, Cost};
use support::bench::figures::Figures;
use support::certificates::Certificates;
use support::dovecot::{Dovecot, PASSWORD};
use support::imap::Imap;
use support::pop3::Pop3;
use support::proxy::{Proxy, listener, translating_listener, upstreams};
use support::server;
use support::stacks::{Stack, Start, Version};

/// A way through the proxy: the listeners' name behind the protocol, and the login.
struct Way {
    name: &'static str,
    listener: &'static str,
    login: &'static str,
}

pub fn measure() {
    // Accounts are addresses; this Dovecot's users are not, so it drops the domain.
    let dovecot = Dovecot::start_with_mechanisms("plain login xoauth2\nauth_username_format = %Ln");
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(dovecot.user_with(&[]), "user0");
    let proxy = Proxy::start(&configuration(&dovecot, directory.path()));
    let cost = Cost::of(&proxy.process);
    println!("CPU of the proxy per session (TLS 1.0 AES128-SHA, log in, log out), in us");
    println!("median (quartiles) of {ROUNDS} rounds of {SESSIONS} sessions each, in turns\n");
    for protocol in ["imap", "pop3"] {
        let run = |way: &Way| {
            let before = cost.cpu();
            (0..SESSIONS).for_each(|_| session(&proxy, protocol, way));
            (cost.cpu() - before).as_secs_f64() * 1e6 / SESSIONS as f64
        };
        // The password is verified and the token fetched before the first measurement.
        for way in &WAYS {
            run(way);
        }
        let mut figures = WAYS.map(|_| Figures::default());
        for round in 0..ROUNDS {
            // A session's late work falls into the next measurement, so the order rotates and each way follows each
            // other way.
            for turn in 0..WAYS.len() {
                let place = (round + if round % 2 == 0 { turn } else { 2 * turn }) % WAYS.len();
                figures[place].0.push(run(&WAYS[place]));
            }
        }
        for (way, of_it) in WAYS.iter().zip(&figures) {
            print!("{protocol}  {:32} {of_it}", way.name);
            if way.listener != WAYS[0].listener {
                let more = of_it.beyond(&figures[0]);
                let (least, most) = more.median_interval();
                print!("   beyond pass-through: {more}, the median between {least:.0} and {most:.0}");
            }
            println!();
        }
    }
    let failed = |line: &str| line.contains("\"reason\":") && !line.contains("\"reason\":\"logged_out\"");
    assert_eq!(proxy.log.count(failed), 0, "a session went wrong: {}", proxy.log.all());
    println!("\nthe first session: {}", proxy.session_line("imap-translate"));
    println!("{}\n", cost::resumed(&proxy));
}

fn session(proxy: &Proxy, protocol: &str, way: &Way) {
    let stack = Stack::Openssl { version: Version::Tls1_0, ciphers: "AES128-SHA" };
    let device = stack.connect(proxy.address(&format!("{protocol}-{}", way.listener)), Start::Implicit);
    if protocol == "imap" {
        let mut imap = Imap::greeted(device);
        imap.login(way.login, PASSWORD);
        imap.ok("LOGOUT");
        assert!(imap.device.has_ended());
    } else {
        let mut pop3 = Pop3::greeted(device);
        pop3.login(way.login, PASSWORD);
        pop3.ok("QUIT");
        assert!(pop3.device.has_ended());
    }
}

fn configuration(dovecot: &Dovecot, directory: &Path) -> String {
    let certificates = Certificates::for_name("localhost", 30);
    certificates.write(directory);
    let endpoint = server::tls(&certificates, SslVersion::TLS1_3, |stream| server::hand_out(stream, PASSWORD));
    let (roots, secret) = (directory.join("ca.pem"), directory.join("client-secret"));
    state::write(&secret, b"anything", Access::Private).unwrap();
    let hash = password::hash(PASSWORD.as_bytes()).unwrap();
    let mut text = format!(
        "{}[identity.office]\ntenant = \"contoso.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\nclient_secret_file = {secret:?}\n\
         token_endpoint = \"https://localhost:{endpoint}/token\"\nroots = {roots:?}\n",
        upstreams(dovecot)
    );
    for (name, login, probe) in [("probed", PROBED, true), ("unprobed", UNPROBED, false)] {
        text += &format!(
            "[account.{name}]\nmailbox = \"{PROBED}\"\nupstream = \"implicit\"\nprobe = {probe}\n\
             [[device]]\nlogin = \"{login}\"\naccount = \"{name}\"\npasswords = [\"{hash}\"]\n"
        );
    }
    for protocol in ["imap", "pop3"] {
        text += &listener(&format!("{protocol}-pass-through"), protocol, "implicit", "upstream = \"implicit\"");
        text += &translating_listener(&format!("{protocol}-translate"), protocol, "implicit", "");
    }
    text
}

/// The ways; the first one is the reference for the others.
const WAYS: [Way; 3] = [
    Way { name: "pass-through", listener: "pass-through", login: PROBED },
    Way { name: "translate", listener: "translate", login: PROBED },
    Way { name: "translate, account.probe = false", listener: "translate", login: UNPROBED },
];
/// The mailbox, and the login of the device whose mailbox is probed.
const PROBED: &str = "user0@contoso.example";
const UNPROBED: &str = "user1@contoso.example";
const ROUNDS: usize = 200;
/// Sessions in a row of one way. The number is small, because the machine's other load comes and goes.
const SESSIONS: usize = 10;
