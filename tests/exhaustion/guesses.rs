//! This test proves that guessers on as many connections as the limits allow cost the memory of two password checks.

use std::io::Write;
use std::time::Instant;

use openssl::ssl::Ssl;

use crate::crowd::{self, milliseconds, tcp_from};
use support::exchange::{self, BY_SECRET, Exchange, LOGIN, PASSWORD};
use support::server;
use support::stacks::{self, Version, old};

/// Guessers from eight addresses, fifty connections each (`limits.connections_per_source`).
const GUESSERS: usize = 400;
/// Two runs of Argon2 at 19 MiB each, the allocators' reserve, and the connections.
const MEMORY: usize = 2 * (19 << 20) + GUESSERS * 64 * 1024 + (24 << 20);

/// A known device logs in meanwhile, and does not wait for the guessers.
#[test]
fn guessers_take_no_more_memory_than_two_runs() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    let visit = || {
        let begun = Instant::now();
        let mut imap = exchange::imap(&proxy);
        imap.login(LOGIN, PASSWORD);
        imap.ok("LOGOUT");
        begun.elapsed()
    };
    visit();
    let before = proxy.process.figure("VmRSS:") * 1024;
    let context = stacks::context(|context| old(context, Version::Tls1_0, "AES128-SHA"));
    let crowd = crowd::by_threads(|_, number| {
        (number < GUESSERS).then(|| {
            let stream = tcp_from(crowd::source(number), proxy.address("imap"));
            let mut stream = Ssl::new(&context).unwrap().connect(stream).unwrap();
            server::hear(&mut stream);
            // Half of the guessers use the device's login name, the others invent names.
            let name = if number % 2 == 0 { LOGIN.to_owned() } else { format!("guess{number}") };
            stream.write_all(format!("a LOGIN {name} wrong{number}\r\n").as_bytes()).unwrap();
            stream
        })
    });
    let mut visits: Vec<_> = (0..10).map(|_| visit()).collect();
    visits.sort();
    let most = (proxy.process.figure("VmHWM:") * 1024).saturating_sub(before);
    println!(
        "{GUESSERS} connections that guess passwords: memory {:.1} MiB and {:.1} MiB more at most; the good device's visit \
         {:.0} ms (longest {:.0} ms)",
        before as f64 / 1048576.0,
        most as f64 / 1048576.0,
        milliseconds(visits[5]),
        milliseconds(visits[9])
    );
    assert!(most < MEMORY, "{most} octets more");
    drop(crowd);
    visit();
}
