//! This test proves that a parked connection may die at every point of its life, with every fault, and the next login of
//! its mailbox succeeds all the same, on a connection to its own server.
//!
//! Each cell has a server, an account and a device of its own. A device logs in and out, and leaves the connection; the
//! server takes it to the cell's state and plays the fault. Then the device logs in again.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use openssl::ssl::SslContext;

use crate::fault::{Fault, Means, inflict};
use crate::peer::{Peer, accept, lossy};
use crate::setup::server;
use support::certificates::Certificates;
use support::issuer::Issuer;
use support::proxy::{Proxy, translating_listener, upstream};
use support::strain::until;
use support::translated::{DEVICE_PASSWORD, account_of, device};

support::each! {
    /// The life of a parked connection.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum State {
        /// The server has UNSELECT.
        UnselectHeard,
        /// The server has begun its answer to UNSELECT.
        MidUnselect,
        /// The connection is parked.
        Parked,
        /// A device logs in, and the server has NOOP.
        NoopHeard,
        /// The server has begun its answer to NOOP.
        MidNoop,
        /// The device is in.
        Taken,
    }
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    state: State,
    fault: Fault,
}

impl Cell {
    /// All cells. A device that is in meets the server's faults in the table's own states; here the ones that end a
    /// session at once are enough.
    fn all() -> Vec<Self> {
        let ends = [Fault::Reset, Fault::HalfClose, Fault::Vanish, Fault::Alert, Fault::TornRecord];
        let cells = State::ALL.into_iter().flat_map(|state| Fault::ALL.map(|fault| Cell { state, fault }));
        cells.filter(|cell| cell.state != State::Taken || ends.contains(&cell.fault)).collect()
    }
}

struct Scene {
    proxy: Proxy,
    servers: Vec<TcpListener>,
    context: SslContext,
    _issuer: Issuer,
    _directory: tempfile::TempDir,
}

impl Scene {
    /// A proxy with as many servers, accounts and devices.
    fn new(count: usize) -> Self {
        let (certificates, directory) = Certificates::ecdsa_for_name("localhost", 30).in_directory();
        let issuer = Issuer::start();
        let servers: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let mut text = "lines_per_minute = 1000000\nlines_per_minute_of_source = 1000000\n[admin]\n\
                        listen = [\"127.0.0.1:0\"]\n[limits]\nupstream_handshake_timeout = \"20s\"\n"
            .to_owned();
        for (number, server) in servers.iter().enumerate() {
            let port = server.local_addr().unwrap().port();
            text += &upstream(&format!("s{number}"), [port, port], directory.path(), "park = \"10m\"");
        }
        text += &translating_listener("imap", "imap", "implicit", "");
        text += &issuer.identity("office", "scan@contoso.example");
        for number in 0..count {
            let (name, mailbox) = (format!("d{number}"), format!("d{number}@contoso.example"));
            text += &(account_of(&name, &mailbox, &format!("s{number}"), "office") + "probe = false\n");
            text += &device(&name, &name, DEVICE_PASSWORD, "");
        }
        let proxy = Proxy::start_at("debug", &text);
        let context = server(&certificates);
        Self { proxy, servers, context, _issuer: issuer, _directory: directory }
    }

    fn parked(&self) -> u64 {
        self.proxy.metric("packetboat_parked_total", "")
    }

    /// Connects the cell's device, and sends its login.
    fn begin(&self, number: usize) -> Result<Peer, String> {
        let from = Ipv4Addr::new(127, 9, 0, u8::try_from(number + 1).unwrap());
        let mut device = Peer::connect(from, self.address());
        device.shake_as_device()?;
        device.line_with("* OK ")?;
        device.send(&format!("a LOGIN d{number} {DEVICE_PASSWORD}\r\n"));
        Ok(device)
    }

    fn address(&self) -> SocketAddr {
        self.proxy.address("imap")
    }

    /// Accepts a connection at the cell's server, and lets its login in.
    fn let_in(&self, number: usize) -> Result<Peer, String> {
        let mut peer = Peer::over(accept(&self.servers[number])?);
        peer.shake_as_server(&self.context)?;
        peer.send("* OK ready\r\n");
        peer.line_with("P2 AUTHENTICATE XOAUTH2 ")?;
        peer.send("P2 OK [CAPABILITY IMAP4rev1 UNSELECT IDLE] in\r\n");
        Ok(peer)
    }

    /// Plays the first session of a cell, and takes its connection into the state, or as far as being parked.
    fn leave(&self, number: usize, state: State) -> Result<Peer, String> {
        let mut device = self.begin(number)?;
        let mut first = self.let_in(number)?;
        session(&mut device, &mut first, 1)?;
        let unselect = own_command(&mut first, "UNSELECT")?;
        let ok = format!("{unselect} OK done\r\n");
        match state {
            State::UnselectHeard => {}
            State::MidUnselect => first.send(&ok[..ok.len() / 2]),
            _ => first.send(&ok),
        }
        Ok(first)
    }

    /// Plays the second session of a device whose login dials although a connection is parked: packetboat compares the
    /// two after the device's LOGOUT, for stale mail, and parks the dialled one.
    fn sample(&self, number: usize, mut first: Peer) -> Result<Peer, String> {
        let mut device = self.begin(number)?;
        let mut second = self.let_in(number)?;
        session(&mut device, &mut second, 2)?;
        let unselect = own_command(&mut second, "UNSELECT")?;
        second.send(&format!("{unselect} OK done\r\n"));
        for peer in [&mut second, &mut first] {
            let status = own_command(peer, "STATUS INBOX (UIDNEXT UIDVALIDITY)")?;
            peer.send(&format!("* STATUS INBOX (UIDNEXT 9 UIDVALIDITY 1)\r\n{status} OK done\r\n"));
        }
        first.line_with("P5 LOGOUT")?;
        Ok(second)
    }

    /// Waits until packetboat knows that the cell's device is gone.
    fn until_lost(&self, number: usize) {
        let login = format!("\"login\":\"d{number}\"");
        self.proxy.log.wait_for("its end", |line| line.contains("device_lost") && line.contains(&login));
    }

    /// Has a connection parked whose login was compared with the one before. The next login takes it.
    fn parked_and_compared(&self, number: usize) -> Result<Peer, String> {
        let before = self.parked();
        let first = self.leave(number, State::Parked)?;
        // A login that came earlier would find no parked connection, and would not be compared.
        until("parked connection", || self.parked() > before);
        self.sample(number, first)
    }

    /// Plays the fault, with the second session of a cell.
    fn come_back(&self, number: usize, Cell { state, fault }: Cell, mut first: Peer) -> Result<(), String> {
        if state < State::NoopHeard {
            inflict(fault, &mut first, &MEANS);
        }
        let mut device = self.begin(number)?;
        if state >= State::NoopHeard {
            let noop = own_command(&mut first, "NOOP")?;
            let ok = format!("{noop} OK done\r\n");
            match state {
                State::NoopHeard => {}
                State::MidNoop => first.send(&ok[..ok.len() / 2]),
                _ => first.send(&ok),
            }
            if state == State::Taken {
                return taken(&mut device, &mut first, fault);
            }
            inflict(fault, &mut first, &MEANS);
        }
        let mut second = self.let_in(number)?;
        session(&mut device, &mut second, 2)?;
        own_command(&mut second, "UNSELECT")?;
        Ok(())
    }
}

/// Does the work for each of these cells, some at a time. Returns the results by the cells' numbers, and the failures.
fn side_by_side<T: Send>(
    cells: &[(usize, Cell)],
    work: impl Fn(usize, Cell) -> Result<T, String> + Sync,
) -> (Vec<(usize, T)>, Vec<String>) {
    let next = AtomicUsize::new(0);
    let (results, failures) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(&(number, cell)) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = catch_unwind(AssertUnwindSafe(|| work(number, cell)));
                    match outcome.unwrap_or_else(|_| Err("panicked".to_owned())) {
                        Ok(result) => results.lock().unwrap().push((number, result)),
                        Err(why) => failures.lock().unwrap().push(format!("{cell:?}: {why}")),
                    }
                }
            });
        }
    });
    (results.into_inner().unwrap(), failures.into_inner().unwrap())
}

/// A session with this number of messages, from the OK to its login to its end.
fn session(device: &mut Peer, server: &mut Peer, messages: u8) -> Result<(), String> {
    device.line_with("a OK [CAPABILITY IMAP4rev1 UNSELECT IDLE")?;
    device.send("b SELECT INBOX\r\n");
    server.line_with("b SELECT INBOX")?;
    server.send(&format!("* {messages} EXISTS\r\nb OK [READ-WRITE] done\r\n"));
    device.line_with(&format!("* {messages} EXISTS"))?;
    device.line_with("b OK ")?;
    device.send("c LOGOUT\r\n");
    device.line_with("* BYE ")?;
    device.line_with("c OK ")?;
    device.hear_to_the_end()?;
    if device.heard.is_empty() { Ok(()) } else { Err(format!("behind LOGOUT came {:?}", lossy(&device.heard))) }
}

/// The tag of packetboat's own command.
fn own_command(server: &mut Peer, command: &str) -> Result<String, String> {
    let line = server.line()?;
    let tag = line.strip_suffix(&format!(" {command}\r\n"));
    tag.map(str::to_owned).ok_or_else(|| format!("{line:?} in place of {command}"))
}

/// The device is in, and its server dies: the device's session ends with it, and no command of it goes elsewhere.
fn taken(device: &mut Peer, first: &mut Peer, fault: Fault) -> Result<(), String> {
    device.line_with("a OK ")?;
    inflict(fault, first, &MEANS);
    device.hear_to_the_end()?;
    let heard = lossy(&device.heard);
    if heard.is_empty() || heard.starts_with("* BYE ") { Ok(()) } else { Err(format!("the device heard {heard:?}")) }
}

#[test]
fn a_parked_connection_dies_at_every_point_of_its_life() {
    let cells: Vec<(usize, Cell)> = Cell::all().into_iter().enumerate().collect();
    let scene = Scene::new(cells.len());
    let (parked, unparked): (Vec<_>, Vec<_>) = cells.iter().partition(|(_, cell)| cell.state >= State::Parked);
    let (left, mut failures) = side_by_side(&parked, |number, cell| scene.leave(number, cell.state));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    until("parked connections", || scene.parked() == parked.len() as u64);
    // At each server the first login that could take a parked connection is a sample, however many others have one.
    let left = Mutex::new(BTreeMap::from_iter(left));
    let take = |number: usize| left.lock().unwrap().remove(&number).unwrap();
    let (left, failed) = side_by_side(&parked, |number, _| scene.sample(number, take(number)));
    failures.extend(failed);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    until("parked connections", || scene.parked() == 2 * parked.len() as u64);
    let left = Mutex::new(BTreeMap::from_iter(left));
    let come_back = |number, cell| {
        let first = left.lock().unwrap().remove(&number).unwrap();
        scene.come_back(number, cell, first)
    };
    failures.extend(side_by_side(&parked, come_back).1);
    let whole = |number, cell: Cell| scene.come_back(number, cell, scene.leave(number, cell.state)?);
    failures.extend(side_by_side(&unparked, whole).1);
    assert!(failures.is_empty(), "{} of {} cells:\n{}", failures.len(), cells.len(), failures.join("\n"));
    scene.proxy.until_open(0);
    let metric = |what| scene.proxy.metric(&format!("packetboat_parked_{what}_total"), "");
    let (taken, lost) = (metric("taken"), metric("lost"));
    let count = |of: fn(&Cell) -> bool| parked.iter().filter(|(_, cell)| of(cell)).count() as u64;
    assert_eq!(taken, count(|cell| cell.state == State::Taken));
    assert!(lost >= count(|cell| matches!(cell.state, State::NoopHeard | State::MidNoop)), "{lost}");
}

/// The device is gone while packetboat asks the parked connection whether it lives. The server's answer decides: the
/// connection is parked again, or hears LOGOUT.
#[test]
fn a_device_leaves_while_its_parked_connection_is_asked() {
    let scene = Scene::new(2);
    for (number, answer, parked) in [(0, "OK done", 2), (1, "NO not now", 5)] {
        let mut second = scene.parked_and_compared(number).unwrap();
        until("parked connection", || scene.parked() == parked);
        let mut device = scene.begin(number).unwrap();
        let noop = own_command(&mut second, "NOOP").unwrap();
        until("one that is taken out", || scene.proxy.metric("packetboat_parked_connections", "") == 0);
        inflict(Fault::Reset, &mut device, &MEANS);
        scene.until_lost(number);
        second.send(&format!("{noop} {answer}\r\n"));
        if number == 1 {
            second.line_with("P5 LOGOUT").unwrap();
            continue;
        }
        until("a connection that is parked again", || scene.proxy.metric("packetboat_parked_connections", "") == 1);
        let mut device = scene.begin(number).unwrap();
        let noop = own_command(&mut second, "NOOP").unwrap();
        second.send(&format!("{noop} OK done\r\n"));
        session(&mut device, &mut second, 1).unwrap();
        let unselect = own_command(&mut second, "UNSELECT").unwrap();
        second.send(&format!("{unselect} OK done\r\n"));
        until("parked connection", || scene.parked() == 3);
        assert_eq!(scene.proxy.reload().0, 0);
        second.line_with("P5 LOGOUT").unwrap();
    }
    let metric = |what| scene.proxy.metric(&format!("packetboat_parked_{what}_total"), "");
    until("one taken, and one lost", || (metric("taken"), metric("lost")) == (1, 1));
}

/// The server answers UNSELECT only after it has told another session that it opens the mailbox no more. The connection is as
/// old as that one, and hears LOGOUT.
#[test]
fn a_mailbox_that_closes_while_a_connection_is_made_ready() {
    let scene = Scene::new(1);
    let mut first = scene.leave(0, State::UnselectHeard).unwrap();
    let mut device = scene.begin(0).unwrap();
    let mut second = scene.let_in(0).unwrap();
    device.line_with("a OK ").unwrap();
    device.send("b LIST \"\" *\r\n");
    second.line_with("b LIST ").unwrap();
    second.send("b BAD User is authenticated but not connected.\r\n");
    device.line_with("b BAD ").unwrap();
    first.send("P7 OK done\r\n");
    first.line_with("P5 LOGOUT").unwrap();
    device.send("c LOGOUT\r\n");
    device.line_with("* BYE ").unwrap();
    second.line_with("P5 LOGOUT").unwrap();
    assert_eq!(scene.parked(), 0);
    until("its end", || scene.proxy.metric("packetboat_parked_ended_total", "refused") == 1);
}

/// The mailbox was made anew: a parked connection that still shows the one before is as stale as one that lacks new mail.
#[test]
fn a_parked_connection_shows_a_mailbox_of_before() {
    let scene = Scene::new(1);
    let mut first = scene.leave(0, State::Parked).unwrap();
    until("parked connection", || scene.parked() == 1);
    let mut device = scene.begin(0).unwrap();
    let mut second = scene.let_in(0).unwrap();
    session(&mut device, &mut second, 2).unwrap();
    let unselect = own_command(&mut second, "UNSELECT").unwrap();
    second.send(&format!("{unselect} OK done\r\n"));
    for (peer, numbers) in [(&mut second, "UIDNEXT 1 UIDVALIDITY 2"), (&mut first, "UIDNEXT 9 UIDVALIDITY 1")] {
        let status = own_command(peer, "STATUS INBOX (UIDNEXT UIDVALIDITY)").unwrap();
        peer.send(&format!("* STATUS INBOX ({numbers})\r\n{status} OK done\r\n"));
    }
    first.line_with("P5 LOGOUT").unwrap();
    second.line_with("P5 LOGOUT").unwrap();
    until("alert", || scene.proxy.metric("packetboat_parked_stale_total", "") == 1);
}

/// The drain comes while the server owes an answer to UNSELECT, and to NOOP for a device that has left: both connections hear
/// LOGOUT, and the process waits for their end.
#[test]
fn the_drain_logs_out_of_what_is_not_parked_yet() {
    let mut scene = Scene::new(3);
    let mut asked = scene.parked_and_compared(0).unwrap();
    until("parked connection", || scene.parked() == 2);
    let mut device = scene.begin(0).unwrap();
    let noop = own_command(&mut asked, "NOOP").unwrap();
    inflict(Fault::Reset, &mut device, &MEANS);
    scene.until_lost(0);
    let mut unselects = scene.leave(1, State::UnselectHeard).unwrap();
    // A server that never answers does not keep the process.
    let silent = scene.leave(2, State::UnselectHeard).unwrap();
    let began = Instant::now();
    scene.proxy.process.signal("TERM");
    unselects.line_with("P5 LOGOUT").unwrap();
    asked.send(&format!("{noop} OK done\r\n"));
    asked.line_with("P5 LOGOUT").unwrap();
    drop((asked, unselects));
    assert!(scene.proxy.process.wait().success());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    drop(silent);
}

const AT_A_TIME: usize = 32;
const MEANS: Means<'static> =
    Means { line: b"* OK still here\r\n", literal: b"* 1 FETCH (BODY[] {999999999}\r\n", drops: b"a", unending: false };
