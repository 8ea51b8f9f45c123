//! This test proves that no fault of a device or a mail server, in any state of a submission, makes a message of half
//! of one, or a success of a message that the server has not taken; and that the proxy keeps nothing of it.
//!
//! Each cell is a session with a listener and a server of its own. The proxy's times are short, so that silence ends.

mod device;
mod server;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use openssl::ssl::SslContext;

use crate::fault::{Fault, Means, inflict};
use crate::peer::{Heard, Peer, accept};
use crate::setup;
use device::Device;
use server::{Seen, Server};
use support::certificates::Certificates;
use support::process::PATIENCE;
use support::proxy::{Proxy, listener};

support::each! {
    /// The state of the session when the fault begins, in the order of a submission. At a server it has what the state
    /// names, and has not replied.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum State {
        /// The device has no TLS; the server has it, and has not greeted.
        Connected,
        /// A part of the first message of the handshake has passed.
        MidHello,
        /// The device has its greeting; the server is within it.
        Greeted,
        Ehlo,
        StartTls,
        /// The reply to STARTTLS has passed, and TLS comes next.
        StartTlsAnswered,
        /// AUTH LOGIN has passed, which asks for the user.
        AuthUser,
        /// The user has passed.
        AuthPassword,
        /// AUTH XOAUTH2 has passed; the device is within its response.
        AuthToken,
        /// The server has refused the token in a challenge, and the empty response has passed.
        AuthChallenge,
        Auth,
        Mail,
        /// The device is within RCPT; the server is within the reply to it.
        MidCommand,
        Rcpt,
        Data,
        /// Half of the content has passed.
        Content,
        /// The device has sent the dot alone; the server is within the reply to the whole message.
        MidDot,
        /// The server has the whole message.
        Dot,
        /// One message is sent.
        Between,
        Quit,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Device,
    Server,
}

support::each! {
    /// The part of a session in which its cell fails.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Part {
        DeviceLogin,
        ServerLogin,
        Submission,
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Cell {
    side: Side,
    state: State,
    /// None: the server replies although nothing has asked for it, and goes on.
    fault: Option<Fault>,
}

impl Cell {
    fn is_at(self, side: Side, state: State) -> bool {
        (self.side, self.state) == (side, state)
    }

    fn part(self) -> Part {
        // A device fails behind its whole login, a server in place of its answer.
        match self.side {
            Side::Device if self.state < State::Auth => Part::DeviceLogin,
            Side::Server if self.state < State::Mail => Part::ServerLogin,
            _ => Part::Submission,
        }
    }

    fn has_token(self) -> bool {
        matches!(self.state, State::AuthToken | State::AuthChallenge)
    }

    /// Whether this side begins its connection without TLS.
    fn is_begun_in_clear(self, side: Side) -> bool {
        self.is_at(side, State::StartTls) || self.is_at(side, State::StartTlsAnswered)
    }

    /// Whether the server is left with a whole message.
    fn is_whole(self) -> bool {
        self.state >= if self.side == Side::Device { State::Dot } else { State::MidDot }
    }
}

/// All cells. A literal is none of SMTP's faults, and a forged alert in clear is the alert of the other fault.
fn cells() -> Vec<Cell> {
    let faults = || Fault::ALL.into_iter().filter(|fault| *fault != Fault::EndlessLiteral).map(Some).chain([None]);
    let states = State::ALL.into_iter().flat_map(|state| faults().map(move |fault| (state, fault)));
    states
        .flat_map(|(state, fault)| [Side::Device, Side::Server].map(|side| Cell { side, state, fault }))
        .filter(|cell| cell.fault.is_some() || (cell.side == Side::Server && server::may_speak_early(cell.state)))
        .filter(|cell| !cell.is_at(Side::Device, State::AuthChallenge))
        .filter(|cell| cell.fault != Some(Fault::ForgedAlert) || !is_in_clear(*cell))
        .filter(|cell| !(cell.is_at(Side::Device, State::Auth) && cell.fault.is_some_and(overtakes_login)))
        .collect()
}

/// Whether the fault may overtake the login that the device has just sent: then the server is not dialled.
fn overtakes_login(fault: Fault) -> bool {
    matches!(fault, Fault::Reset | Fault::Alert | Fault::ForgedAlert)
}

fn is_in_clear(cell: Cell) -> bool {
    let is_shaking = matches!(cell.state, State::MidHello | State::StartTls | State::StartTlsAnswered);
    is_shaking || cell.is_at(Side::Device, State::Connected)
}

/// Inflicts the fault, and reads until the proxy has closed.
fn ail(fault: Fault, peer: &mut Peer, cell: Cell) {
    let is_shaking =
        matches!(cell.state, State::MidHello | State::StartTlsAnswered) || cell.is_at(Side::Device, State::Connected);
    let (line, drops): (&[u8], &[u8]) = match cell.side {
        Side::Device if is_shaking => (b"NOOP\r\n", &[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 1]),
        Side::Device => (b"NOOP\r\n", b"a"),
        Side::Server if is_shaking => (b"250-x\r\n", &[22, 3, 3, 0, 122, 2, 0, 0, 118, 3, 3]),
        Side::Server => (b"250-x\r\n", b"2"),
    };
    inflict(fault, peer, &Means { line, literal: b"", drops, unending: false });
    if fault == Fault::Dribble {
        peer.close_half();
    }
    let _ = if fault == Fault::Forgotten { peer.until_let_go() } else { peer.hear_to_the_end() };
}

/// Plays a cell; returns what is wrong.
fn run(proxy: &Proxy, cell: Cell, number: usize, server: &TcpListener, context: &SslContext) -> Result<(), String> {
    let from = Ipv4Addr::new(127, 9, u8::try_from(number / 250).unwrap(), u8::try_from(number % 250 + 1).unwrap());
    let is_dialled = cell.side == Side::Server || cell.state >= State::Auth;
    // No octet, and no end, comes from a connection that is forgotten.
    let is_silent = |side| cell.side == side && cell.fault == Some(Fault::Forgotten);
    let (device, seen) = thread::scope(|scope| {
        let serving = scope.spawn(|| {
            if !is_dialled {
                return Ok(Seen::default());
            }
            let mut server = Server::new(Peer::over(accept(server)?), cell, context);
            let _ = server.serve();
            // A device's fault must not be ended by the server.
            let deadline = Instant::now() + PATIENCE;
            while !is_silent(Side::Server)
                && Instant::now() < deadline
                && server.peer.hear_for(Duration::from_millis(100)) != Heard::End
            {}
            Ok::<Seen, String>(server.seen)
        });
        let mut device = Device::new(Peer::connect(from, proxy.address(&format!("cell-{number}"))), cell);
        let _ = device.play();
        if !is_silent(Side::Device) {
            let _ = device.peer.hear_to_the_end();
        }
        device.heard.push(String::from_utf8_lossy(&device.peer.heard).into_owned());
        (device, serving.join().unwrap())
    });
    judge(proxy, cell, number, &device, &seen?)
}

fn judge(proxy: &Proxy, cell: Cell, number: usize, device: &Device, seen: &Seen) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{what}: {:?}, {:?}, {seen:?}", device.heard, device.answers));
    let successes = device.answers.iter().filter(|answer| answer.starts_with('2')).count();
    if successes > seen.taken {
        return wrong("the device was told of a success that is none");
    }
    // A reset may overtake the end of the message.
    let may_be_lost = cell.is_at(Side::Device, State::Dot) && cell.fault == Some(Fault::Reset);
    if seen.messages != usize::from(cell.is_whole()) && !(may_be_lost && seen.messages == 0) {
        return wrong("half a message became a whole one, or a whole one none");
    }
    let line = proxy.session_of("listener", &format!("cell-{number}"));
    let (reason, level) = (line["reason"].as_str().unwrap_or_default(), line["level"].clone());
    if cell.side == Side::Device {
        return Ok(());
    }
    let is_told =
        |begin: &str| device.heard.iter().any(|line| line.starts_with(begin) || line.contains(&format!("\n{begin}")));
    let is_refused = device.login.as_deref().is_some_and(|answer| answer.starts_with(['4', '5']));
    // Nothing can be said within a reply whose lines pass as they come: the device never hears its last line.
    let last = device.heard.iter().rfind(|line| line.ends_with("\r\n")).map(String::as_str);
    if cell.fault == Some(Fault::EndlessLines) && last == Some("250-x\r\n") {
        return if matches!(reason, "outcome_unknown" | "upstream_timeout") { Ok(()) } else { wrong(reason) };
    }
    match cell.state {
        State::MidDot | State::Dot if cell.fault.is_some() => {
            let is_unknown = device.answers.iter().all(|answer| answer.starts_with("451 4.4.2 "));
            if !is_unknown || device.answers.is_empty() || reason != "outcome_unknown" {
                return wrong(&format!("unknown outcome, and the reason is {reason}"));
            }
        }
        state if (State::Mail..=State::Content).contains(&state) && !is_told("421 ") => {
            return wrong(&format!("nobody tells the device, and the reason is {reason} at {level}"));
        }
        state if state < State::Mail && !is_refused => {
            return wrong(&format!("the login is not refused but {:?}, and the reason is {reason}", device.login));
        }
        _ => {}
    }
    Ok(())
}

/// The time-outs of the part in which the cells fail are short. The others are long, and end no cell on a slow machine.
fn configuration(part: Part, cells: &[Cell], ports: &[u16], roots: &std::path::Path) -> String {
    let times = |parts: &[Part]| if parts.contains(&part) { "4s" } else { "5m" };
    // Some faults of a device are logins, whose server does not answer.
    let (device, server) = (times(&[Part::DeviceLogin]), times(&[Part::DeviceLogin, Part::ServerLogin]));
    let submission = times(&[Part::Submission]);
    let mut text = format!(
        "lines_per_minute = 1000000\nlines_per_minute_of_source = 1000000\n[admin]\nlisten = [\"127.0.0.1:0\"]\n\
         [limits]\nhandshake_timeout = \"{device}\"\nlogin_timeout = \"{device}\"\n\
         upstream_handshake_timeout = \"{server}\"\nupstream_login_timeout = \"{server}\"\nkeep_alive = \"1s\"\n\
         [submission]\ncommand_timeout = \"{submission}\"\ncontent_timeout = \"{submission}\"\n\
         reply_timeout = \"{submission}\"\nanswer_timeout = \"{submission}\"\n"
    );
    for (number, (cell, port)) in cells.iter().zip(ports).enumerate() {
        let beginning = |side| if cell.is_begun_in_clear(side) { "starttls" } else { "implicit" };
        let security = beginning(Side::Server);
        text += &format!(
            "[upstream.u{number}]\nroots = {roots:?}\n[upstream.u{number}.smtp]\nhost = \"127.0.0.1\"\n\
             server_name = \"localhost\"\nport = {port}\nsecurity = \"{security}\"\n"
        );
        let upstream = format!("upstream = \"u{number}\"");
        text += &listener(&format!("cell-{number}"), "smtp", beginning(Side::Device), &upstream);
    }
    text
}

/// Runs these cells side by side, a number of them at a time; returns the failures.
fn run_all(cells: &[(usize, Cell)], run: impl Fn(usize, Cell) -> Result<(), String> + Sync) -> Vec<String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some((number, cell)) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = run(*number, *cell) {
                        failures.lock().unwrap().push(format!("{number} {cell:?}: {why}"));
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

#[test]
fn every_fault_in_every_state_of_a_submission() {
    let mut failures = Vec::new();
    for part in Part::ALL {
        let (figures, more) = play(part);
        println!("{part:?}: {figures}");
        failures.extend(more);
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Plays the cells of a part; returns figures, and the failures with their log lines.
fn play(part: Part) -> (String, Vec<String>) {
    let (certificates, directory) = Certificates::ecdsa_for_name("localhost", 30).in_directory();
    let context = setup::server(&certificates);
    let mut cells: Vec<Cell> = cells().into_iter().filter(|cell| cell.part() == part).collect();
    if let Ok(only) = std::env::var("CELLS") {
        cells.retain(|cell| format!("{cell:?}").contains(&only));
    }
    let count = cells.len();
    // A fifth of the cells warms the proxy up, so that the measurement sees only growth.
    let first: Vec<Cell> = cells.iter().step_by(5).copied().collect();
    cells.splice(..0, first.iter().copied());
    let servers: Vec<TcpListener> = cells.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<u16> = servers.iter().map(|server| server.local_addr().unwrap().port()).collect();
    let proxy = Proxy::start_at("debug", &configuration(part, &cells, &ports, &directory.path().join("ca.pem")));
    let cells: Vec<(usize, Cell)> = cells.into_iter().enumerate().collect();
    let run = |number: usize, cell| run(&proxy, cell, number, &servers[number], &context);
    let (warm, rest) = cells.split_at(first.len());
    let mut failures = run_all(warm, run);
    proxy.until_open(0);
    let before = (proxy.process.open_files(), proxy.process.figure("VmRSS:"));
    let begun = Instant::now();
    failures.extend(run_all(rest, run));
    let took = begun.elapsed();
    proxy.until_open(0);
    proxy.until_files(before.0 + KEPT);
    let grown = proxy.process.figure("VmRSS:").saturating_sub(before.1);
    let log = proxy.log.all();
    for failure in &mut failures {
        let listener = format!("\"cell-{}\"", failure.split(' ').next().unwrap());
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&listener)).collect();
        *failure += &format!("\n{}", lines.join("\n"));
    }
    if grown > GROWTH_KIB {
        failures.push(format!("the proxy has grown by {grown} KiB"));
    }
    (format!("{count} cells in {took:.1?}, grown by {grown} KiB"), failures)
}

const HALF: &str = "the middle\r\n";
/// The page's connections, which close on their own.
const KEPT: usize = 4;
/// Cells that run side by side.
const AT_A_TIME: usize = 32;
/// The memory that the proxy may gain over all cells, after the first fifth: less than 40 KiB a cell, and several
/// faults send a megabyte.
const GROWTH_KIB: usize = 24 * 1024;
