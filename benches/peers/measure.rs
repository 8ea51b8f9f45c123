//! The measures give every proxy the same work, in turns.

use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use openssl::ssl::SslSession;
use support::imap::Imap;

use crate::proxies::Proxy;
use crate::tree::Tree;
use support::bench::device::Kind;
use support::bench::figures::Figures;
use support::bench::submitter::{self, Submitter};
use support::bench::upstream::{MANNERS, MESSAGES, Manner, PUSHING};

/// A row of the table.
pub struct Row {
    pub name: String,
    pub unit: &'static str,
    /// Figures of each proxy, in the order of the table; `None` where the proxy was not measured.
    pub figures: Vec<Option<Figures>>,
}

/// The work of one session: a device of this kind with this login, the proxy's address, and the TLS session to resume.
pub type Session = fn(&Kind, SocketAddr, Option<&SslSession>, &str);

/// Measures the CPU time of work that runs `count` times in each round, for each proxy in turn.
pub fn cpu(
    proxies: &[&Proxy],
    (name, unit, per_second): (String, &'static str, f64),
    (rounds, count): (usize, f64),
    mut work: impl FnMut(usize, &Proxy),
) -> Row {
    let trees: Vec<Tree> = proxies.iter().map(|proxy| proxy.tree()).collect();
    let mut figures: Vec<Figures> = proxies.iter().map(|_| Figures::default()).collect();
    // The first round only warms up.
    for round in 0..=rounds {
        for turn in 0..proxies.len() {
            // The order rotates, so that each proxy follows each other one.
            let place = (turn + round) % proxies.len();
            let before = trees[place].cpu();
            work(place, proxies[place]);
            if round > 0 {
                figures[place].0.push((trees[place].cpu() - before).as_secs_f64() * per_second / count);
            }
        }
    }
    Row { name, unit, figures: figures.into_iter().map(Some).collect() }
}

/// Connect, log in, select, fetch 16 KiB, log out.
pub fn reading(kind: &Kind, address: SocketAddr, resumed: Option<&SslSession>, login: &str) {
    let mut device = kind.connect(address, resumed);
    device.login(login, "p");
    device.ok("SELECT INBOX");
    assert_eq!(device.fetch_size(1), MESSAGES[0]);
    device.log_out();
}

/// Connect, log in, send a message of 16 KiB, leave.
pub fn sending(kind: &Kind, address: SocketAddr, resumed: Option<&SslSession>, login: &str) {
    let mut device = kind.connect_submitter(address, resumed);
    device.login(login, "p");
    assert_eq!(device.submit(&SMALL_CONTENT), submitter::taken(MESSAGES[0]));
    device.quit();
}

/// A TLS session to resume with each proxy.
pub fn sessions(work: Session, kind: &Kind, proxies: &[&Proxy], manner: usize) -> Vec<SslSession> {
    let session = |proxy: &&Proxy| {
        // The first session logs in, because packetboat keeps the TLS sessions of known devices in a cache of their
        // own.
        work(kind, proxy.addresses[manner], None, "u0");
        if MANNERS[manner].protocol == "smtp" {
            let device = kind.connect_submitter(proxy.addresses[manner], None);
            let session = support::bench::device::session(device.device());
            device.quit();
            return session;
        }
        let mut device = kind.connect(proxy.addresses[manner], None);
        device.ok("NOOP");
        let session = support::bench::device::session(&device.device);
        device.log_out();
        session
    };
    proxies.iter().map(session).collect()
}

/// Runs [`CROWD`] devices at a time, with [`SESSIONS`] sessions each. Their logins are `u0`, `u1` and so on.
pub fn crowd(work: Session, kind: &Kind, address: SocketAddr, resumed: Option<&SslSession>) {
    at_a_time(CROWD, work, kind, address, resumed);
}

/// Runs so many devices at a time, with as many sessions in all as [`crowd`] has.
pub fn at_a_time(devices: usize, work: Session, kind: &Kind, address: SocketAddr, resumed: Option<&SslSession>) {
    let sessions = CROWD * SESSIONS / devices;
    std::thread::scope(|scope| {
        for number in 0..devices {
            let login = format!("u{number}");
            scope.spawn(move || (0..sessions).for_each(|_| work(kind, address, resumed, &login)));
        }
    });
}

/// CPU time of one process for a session by each of two ways, in turns, a crowd at a time.
pub fn in_turns(process: u32, ways: &[SocketAddr; 2], kind: &Kind) -> [Figures; 2] {
    let tree = Tree::of(process);
    let mut figures = [Figures::default(), Figures::default()];
    for round in 0..=3 * ROUNDS {
        for place in [round % 2, (round + 1) % 2] {
            let before = tree.cpu();
            crowd(reading, kind, ways[place], None);
            if round > 0 {
                figures[place].0.push((tree.cpu() - before).as_secs_f64() * 1e6 / (CROWD * SESSIONS) as f64);
            }
        }
    }
    figures
}

/// Measures 1 and 2: one device at a time, and a crowd. They read or send, as the manner's protocol has it.
pub fn whole_sessions(proxies: &[&Proxy], kind: &Kind, manner: usize, resumes: bool) -> Vec<Row> {
    let Manner { protocol, tls, .. } = MANNERS[manner];
    let (session, work): (_, Session) =
        if protocol == "smtp" { ("session that sends", sending) } else { ("session", reading) };
    let what = if resumes { "device resumes" } else { "full handshake" };
    let resumed = if resumes { sessions(work, kind, proxies, manner) } else { Vec::new() };
    let named = |how: &str| (format!("{session}, {what}, {how}, TLS {tls} out"), "µs", 1e6);
    let at_a_time = format!("{CROWD} devices at a time");
    vec![
        cpu(proxies, named(&at_a_time), (ROUNDS, (CROWD * SESSIONS) as f64), |place, proxy| {
            crowd(work, kind, proxy.addresses[manner], resumed.get(place));
        }),
        cpu(proxies, named("one at a time"), (ROUNDS, 100.0), |place, proxy| {
            (0..100).for_each(|_| work(kind, proxy.addresses[manner], resumed.get(place), "u0"));
        }),
    ]
}

/// Measure 3: CPU time per MiB of a large download.
pub fn bulk(proxies: &[&Proxy], name: &str, kind: &Kind, manner: usize) -> Row {
    let mut devices = logged_in(proxies, kind, manner);
    cpu(proxies, (format!("bulk, {name}"), "ms/MiB", 1e3), (ROUNDS, 64.0), |place, _| {
        for _ in 0..4 {
            assert_eq!(devices[place].fetch_size(2), MESSAGES[1]);
        }
    })
}

/// Measure 4: CPU time per MiB of a large upload.
pub fn upload(proxies: &[&Proxy], kind: &Kind) -> Row {
    let mut devices = logged_in(proxies, kind, 0);
    cpu(proxies, ("upload".to_owned(), "ms/MiB", 1e3), (ROUNDS, 64.0), |place, _| {
        for _ in 0..4 {
            devices[place].append(MESSAGES[1]);
        }
    })
}

/// CPU time per MiB of a message as large as Exchange Online takes by default.
pub fn large_message(proxies: &[&Proxy], kind: &Kind, manner: usize) -> Row {
    let mut devices: Vec<Submitter> =
        proxies.iter().map(|proxy| kind.connect_submitter(proxy.addresses[manner], None)).collect();
    devices.iter_mut().for_each(|device| device.login("u", "p"));
    let content = submitter::content(LARGE);
    let name = format!("message of 35 MB, TLS {} out", MANNERS[manner].tls);
    let mebibytes = LARGE as f64 / f64::from(1 << 20);
    cpu(proxies, (name, "ms/MiB", 1e3), (ROUNDS, 2.0 * mebibytes), |place, _| {
        for _ in 0..2 {
            assert_eq!(devices[place].submit(&content), submitter::taken(LARGE));
        }
    })
}

/// Measure 5: CPU time of small messages.
pub fn small(proxies: &[&Proxy], kind: &Kind) -> Vec<Row> {
    let mut rows = noop_round_trips(proxies, kind, "");
    let mut devices = logged_in(proxies, kind, 0);
    let push = cpu(proxies, ("IDLE push of a line".to_owned(), "µs", 1e6), (ROUNDS, 200.0), |place, _| {
        devices[place].ok(&format!("SELECT {PUSHING}200"));
        let tag = devices[place].idle();
        devices[place].pushed(&tag, 200);
    });
    rows.push(push);
    rows
}

/// CPU time of NOOPs: one at a time, a crowd's, and those that a device sends together. The rows' names end with `with`.
pub fn noop_round_trips(proxies: &[&Proxy], kind: &Kind, with: &str) -> Vec<Row> {
    let mut devices = logged_in(proxies, kind, 0);
    let named = |name: &str| (format!("{name}{with}"), "µs", 1e6);
    let one = cpu(proxies, named("NOOP round trip, one at a time"), (ROUNDS, 1000.0), |place, _| {
        (0..1000).for_each(|_| drop(devices[place].ok("NOOP")));
    });
    let together = cpu(proxies, named(&format!("NOOP, {TOGETHER} in one write")), (ROUNDS, 1600.0), |place, _| {
        (0..1600 / TOGETHER).for_each(|_| devices[place].noops(TOGETHER));
    });
    let many: Vec<Mutex<Vec<Imap>>> = proxies
        .iter()
        .map(|proxy| Mutex::new((0..CROWD).map(|number| logged_in_as(number, kind, proxy, 0)).collect()))
        .collect();
    let name = named(&format!("NOOP round trip, {CROWD} devices at a time"));
    let crowd = cpu(proxies, name, (ROUNDS, (CROWD * NOOPS) as f64), |place, _| {
        noops(&mut many[place].lock().unwrap());
    });
    vec![one, crowd, together]
}

/// Has each device say [`NOOPS`] NOOPs, all devices at a time.
pub fn noops(devices: &mut [Imap]) {
    std::thread::scope(|scope| {
        for device in devices {
            scope.spawn(|| (0..NOOPS).for_each(|_| drop(device.ok("NOOP"))));
        }
    });
}

/// Measure 7: sessions per second of a crowd, and the latency of a session when half as many arrive at even intervals.
pub fn rate(proxies: &[&Proxy], kind: &Kind) -> Vec<Row> {
    let row = |name: &str, unit| Row { name: name.to_owned(), unit, figures: Vec::new() };
    let mut rows = [
        row("connections per second: two cores by the CPU time of each", "1/s"),
        row("connections per second beside their load on two cores", "1/s"),
        row("a session at half of that, median", "ms"),
        row("a session at half of that, 99th percentile", "ms"),
    ];
    for proxy in proxies {
        let tree = proxy.tree();
        let (mut by_cpu, mut by_clock) = (Figures::default(), Figures::default());
        for _ in 0..ROUNDS {
            let (began, before) = (Instant::now(), tree.cpu());
            crowd(reading, kind, proxy.addresses[0], None);
            let count = (CROWD * SESSIONS) as f64;
            by_clock.0.push(count / began.elapsed().as_secs_f64());
            by_cpu.0.push(CORES * count / (tree.cpu() - before).as_secs_f64());
        }
        let interval = Duration::from_secs_f64(2.0 / by_clock.median());
        let taken = Mutex::new(Figures::default());
        let next = Mutex::new(0_u32);
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..CROWD {
                scope.spawn(|| {
                    loop {
                        let number = {
                            let mut next = next.lock().unwrap();
                            *next += 1;
                            *next
                        };
                        if number > ARRIVALS {
                            return;
                        }
                        let due = began + interval * number;
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        reading(kind, proxy.addresses[0], None, "u0");
                        taken.lock().unwrap().0.push(due.elapsed().as_secs_f64() * 1e3);
                    }
                });
            }
        });
        let taken = taken.into_inner().unwrap();
        for (row, figures) in
            rows.iter_mut().zip([by_cpu, by_clock, Figures(vec![taken.median()]), Figures(vec![taken.quantile(0.99)])])
        {
            row.figures.push(Some(figures));
        }
    }
    rows.into()
}

/// Measures 6 and 9: memory of idle connections, and the cost of work beside so many of them.
pub fn growth(proxies: &[&Proxy], kind: &Kind, most: usize, stages: &[usize]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (proxy, place) in proxies.iter().zip(0..) {
        let tree = proxy.tree();
        let mut at_work = one_logged_in(kind, proxy, 0);
        let before = tree.memory();
        let mut idle: Vec<Imap> = Vec::new();
        let mut stage_number = 0;
        for &stage in stages {
            let figures = (stage * proxy.descriptors <= most).then(|| {
                while idle.len() < stage {
                    let mut device = one_logged_in(kind, proxy, 0);
                    device.ok("SELECT INBOX");
                    device.idle();
                    idle.push(device);
                }
                // The pause lets the proxy finish with the connections just opened.
                std::thread::sleep(Duration::from_millis(500));
                let memory = (tree.memory() - before) / stage as f64;
                let resting = tree.cpu();
                std::thread::sleep(RESTING);
                let resting = (tree.cpu() - resting).as_secs_f64() * 1e3 / RESTING.as_secs_f64();
                let repeat = |count: usize, work: &mut dyn FnMut()| {
                    let each = (0..5).map(|_| {
                        let before = tree.cpu();
                        work();
                        (tree.cpu() - before).as_secs_f64() * 1e6 / count as f64
                    });
                    Figures(each.collect())
                };
                let sessions = repeat(CROWD * SESSIONS, &mut || crowd(reading, kind, proxy.addresses[0], None));
                let noop = repeat(500, &mut || (0..500).for_each(|_| drop(at_work.ok("NOOP"))));
                [Figures(vec![memory]), Figures(vec![resting]), sessions, noop]
            });
            let mut figures = figures.map(|figures| figures.map(Some)).unwrap_or_default().into_iter();
            for (name, unit) in [
                ("idle connection, memory (PSS)", "KiB"),
                ("CPU while all idle", "ms/s"),
                ("session, full handshake", "µs"),
                ("NOOP round trip, one at a time", "µs"),
            ] {
                if place == 0 {
                    let beside = if unit == "µs" { "beside" } else { "of" };
                    rows.push(Row { name: format!("{name}, {beside} {stage}"), unit, figures: Vec::new() });
                }
                rows[stage_number].figures.push(figures.next().flatten());
                stage_number += 1;
            }
        }
        drop(idle);
        let deadline = Instant::now() + Duration::from_secs(30);
        while tree.descriptors() > 500 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    rows
}

fn logged_in(proxies: &[&Proxy], kind: &Kind, manner: usize) -> Vec<Imap> {
    proxies.iter().map(|proxy| one_logged_in(kind, proxy, manner)).collect()
}

pub fn one_logged_in(kind: &Kind, proxy: &Proxy, manner: usize) -> Imap {
    logged_in_as(0, kind, proxy, manner)
}

/// The device of this number in a crowd.
fn logged_in_as(number: usize, kind: &Kind, proxy: &Proxy, manner: usize) -> Imap {
    let mut device = kind.connect(proxy.addresses[manner], None);
    device.login(&format!("u{number}"), "p");
    device
}

static SMALL_CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| submitter::content(MESSAGES[0]));
const LARGE: usize = 35_000_000;
/// Devices at a time, and sessions of each in a round.
pub const CROWD: usize = 16;
pub const SESSIONS: usize = 20;
/// NOOPs that a device sends together.
const TOGETHER: u32 = 16;
/// NOOPs of each device.
pub const NOOPS: usize = 200;
pub const ROUNDS: usize = 7;
pub const CORES: f64 = 2.0;
/// Sessions whose latency is measured.
const ARRIVALS: u32 = 1000;
const RESTING: Duration = Duration::from_secs(2);
