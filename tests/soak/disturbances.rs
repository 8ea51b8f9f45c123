//! A run has disturbances beside its devices: mail comes, the server and the token endpoint go away and come back, the
//! configuration and the certificate change.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::RwLock;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant, SystemTime};

use crate::run::{Cause, Latch, Run, add};
use support::certificates::Certificates;
use support::dovecot::Dovecot;
use support::fuzz::random::Random;
use support::issuer::Issuer;
use support::proxy::Proxy;
use support::strain::until;

/// Puts a message into each mailbox about once a minute, and a large one somewhere now and then.
pub fn feed(run: &Run, calm: &Latch, dovecot: &RwLock<Dovecot>, mailboxes: &[String]) {
    let mut random = Random(run.seed + 1);
    let each = Duration::from_secs(60) / u32::try_from(mailboxes.len()).unwrap();
    let large_of = (LARGE_EVERY.as_micros() / each.as_micros()).max(1) as usize;
    for turn in 1.. {
        if !calm.pause(each) {
            return;
        }
        let owner = random.below(mailboxes.len());
        let length = match random.below(100) {
            _ if turn % large_of == 0 => 25 << 20,
            0..80 => 1000 + random.below(20_000),
            80..97 => 100_000 + random.below(200_000),
            _ => 1_000_000 + random.below(1_000_000),
        };
        let (number, message) = run.ledger.write(owner, length);
        dovecot.read().unwrap().post(&mailboxes[owner], &format!("1.M{number}P1.soak"), &message);
    }
}

/// Stops the mail server for a few seconds every minute.
pub fn restarts(run: &Run, calm: &Latch, dovecot: &RwLock<Dovecot>) {
    let mut random = Random(run.seed + 2);
    let mut pause = Duration::from_secs(25);
    while calm.pause(pause) {
        let mut dovecot = dovecot.write().unwrap();
        let _restart = run.disturbances.begins(Cause::Server);
        dovecot.stop();
        calm.pause(Duration::from_millis(500 + random.below(4000) as u64));
        dovecot.start_again();
        pause = Duration::from_secs(60);
    }
}

/// Stops the token endpoint: for a short time that no device notices, and for one that outlasts a token.
pub fn outages(run: &Run, calm: &Latch, issuer: &Issuer) {
    // Tokens that began together are renewed after half a minute, and then again.
    let mut pause = Duration::from_secs(26);
    for length in [12, 45].into_iter().cycle() {
        if !calm.pause(pause) {
            return;
        }
        let _outage = run.disturbances.begins(Cause::Tokens);
        issuer.take_down(true);
        calm.pause(Duration::from_secs(length));
        issuer.take_down(false);
        pause = Duration::from_secs(90);
    }
}

/// The configuration that a reload changes.
pub struct Reloaded<C> {
    /// The configuration of each turn.
    pub configuration: C,
    /// The directory of the certificate that devices see.
    pub certificate: PathBuf,
    /// The address of the listener that comes and goes.
    pub second: SocketAddr,
}

/// Reloads another configuration every twenty seconds, each third time with a new certificate; a listener comes and
/// goes. Counts the reloads.
pub fn reloads(
    run: &Run,
    calm: &Latch,
    proxy: &Proxy,
    reloaded: &Reloaded<impl Fn(usize) -> String>,
    count: &AtomicUsize,
) {
    let mut turn = 0_usize;
    // The last configuration is without the second listener, as at the beginning.
    while turn % 2 == 1 || !calm.is_set() {
        calm.pause(Duration::from_secs(20));
        turn += 1;
        let _change = turn.is_multiple_of(3).then(|| {
            let change = run.disturbances.begins(Cause::Certificate);
            Certificates::for_name("localhost", 30 + turn as i64).write(&reloaded.certificate);
            change
        });
        proxy.configure(&(reloaded.configuration)(turn));
        let mut begun = Instant::now();
        let (mut code, mut said) = proxy.reload();
        while code == 69
            && said.contains(HANGS)
            && run.disturbances.explains(Cause::Files, now() - begun.elapsed(), now())
        {
            println!("reload {turn} refused: files hang");
            begun = Instant::now();
            (code, said) = proxy.reload();
        }
        assert!(
            code == 0 && said.starts_with("configuration reloaded; open sessions are unaffected\n"),
            "reload {turn}: {said}"
        );
        // A socket closes a moment after the reload that has no listener for it.
        let is_open = || TcpStream::connect(reloaded.second).is_ok();
        until(&format!("second listener of reload {turn}"), || is_open() == (turn % 2 == 1));
        add(count, 1);
        println!("reload {turn} within {:.1} s", begun.elapsed().as_secs_f64());
    }
}

fn now() -> SystemTime {
    SystemTime::now()
}

pub const HANGS: &str = "does a network file system hang?";
const LARGE_EVERY: Duration = Duration::from_secs(12);
