//! This test proves that no fault of a device or a mail server, in any state of a submission, makes a message of half
//! of one, or a success of a message that the server has not taken.
//!
//! Each cell is a session with a listener and a server of its own. The proxy's times are short, so that silence ends.

use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use openssl::ssl::SslContext;

use crate::fault::{Fault, Means, inflict};
use crate::peer::{Heard, Peer, accept};
use crate::setup;
use support::certificates::Certificates;
use support::process::PATIENCE;
use support::proxy::{Proxy, listener};

support::each! {
    /// The state of the session when the fault begins. At a server it has what the state names, and has not replied.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum State {
        Connected,
        Ehlo,
        StartTls,
        Auth,
        Mail,
        Rcpt,
        Data,
        /// Half of the content has passed.
        Content,
        /// The server has the whole message.
        Dot,
        /// One message is sent.
        Between,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Device,
    Server,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    side: Side,
    state: State,
    fault: Fault,
}

const FAULTS: [Fault; 9] = [
    Fault::Stall,
    Fault::Reset,
    Fault::HalfClose,
    Fault::Vanish,
    Fault::EndlessLine,
    Fault::Garbage,
    Fault::Nuls,
    // Half a command, or half a reply.
    Fault::TornRecord,
    Fault::Dribble,
];

/// The commands and messages of one session, as the server has seen them.
#[derive(Debug, Default)]
struct Seen {
    commands: Vec<String>,
    /// Messages with their end.
    messages: usize,
    /// Messages that it has answered with 250.
    taken: usize,
}

fn cells() -> Vec<Cell> {
    let states = State::ALL.into_iter().flat_map(|state| FAULTS.map(|fault| (state, fault)));
    states
        .flat_map(|(state, fault)| [Side::Device, Side::Server].map(|side| Cell { side, state, fault }))
        // A reset may overtake the login: then the server is not dialled.
        .filter(|cell| (cell.side, cell.state, cell.fault) != (Side::Device, State::Auth, Fault::Reset))
        .collect()
}

/// The server of one cell: it obeys, up to its fault.
struct Server<'a> {
    peer: Peer,
    cell: Cell,
    context: &'a SslContext,
    seen: Seen,
}

impl Server<'_> {
    /// Serves one session. An error is the end of the session.
    fn serve(&mut self) -> Result<(), String> {
        let starttls = self.cell.state == State::StartTls;
        if !starttls {
            self.peer.shake_as_server(self.context)?;
        }
        self.reply(State::Connected, "220 mail.example ESMTP\r\n")?;
        loop {
            let line = self.peer.line()?;
            let verb = line.get(..4).unwrap_or(&line).to_ascii_uppercase();
            self.seen.commands.push(line.clone());
            match verb.as_str() {
                "EHLO" if starttls && self.seen.commands.len() == 1 => {
                    self.reply(State::Ehlo, "250-mail.example\r\n250 STARTTLS\r\n")?;
                }
                "EHLO" => self.reply(State::Ehlo, "250-mail.example\r\n250 AUTH PLAIN\r\n")?,
                "STAR" => {
                    self.reply(State::StartTls, "220 go\r\n")?;
                    self.peer.shake_as_server(self.context)?;
                }
                "AUTH" => self.reply(State::Auth, "235 in\r\n")?,
                "MAIL" => self.reply(State::Mail, "250 ok\r\n")?,
                "RCPT" => self.reply(State::Rcpt, "250 ok\r\n")?,
                "DATA" => {
                    self.reply(State::Data, "354 go\r\n")?;
                    self.content()?;
                }
                "QUIT" => return self.reply(State::Between, "221 bye\r\n"),
                _ => return Err(format!("{line:?} at the server")),
            }
        }
    }

    fn content(&mut self) -> Result<(), String> {
        while self.peer.line()? != HALF {}
        self.fail(State::Content)?;
        while self.peer.line()? != ".\r\n" {}
        self.seen.messages += 1;
        self.reply(State::Dot, "250 queued\r\n")?;
        self.seen.taken += 1;
        self.fail(State::Between)
    }

    fn reply(&mut self, state: State, text: &str) -> Result<(), String> {
        if state != State::Between {
            self.fail(state)?;
        }
        self.peer.try_send(text.as_bytes()).map_err(|error| error.to_string())
    }

    /// Inflicts the fault if this is its state.
    fn fail(&mut self, state: State) -> Result<(), String> {
        if self.cell.side == Side::Device || self.cell.state != state {
            return Ok(());
        }
        ail(self.cell.fault, &mut self.peer);
        Err("the server has failed".to_owned())
    }
}

/// Inflicts the fault, and reads until the proxy has closed.
fn ail(fault: Fault, peer: &mut Peer) {
    inflict(fault, peer, &Means { line: b"250-x\r\n", literal: b"", drops: b"2", unending: false });
    if fault == Fault::Dribble {
        peer.close_half();
    }
    let _ = peer.hear_to_the_end();
}

/// The device of one cell; returns its replies behind the dot.
struct Device {
    peer: Peer,
    cell: Cell,
    /// The replies to the end of a message.
    answers: Vec<String>,
    heard: Vec<String>,
}

impl Device {
    fn play(&mut self) -> Result<(), String> {
        self.fail(State::Connected)?;
        if self.cell.state != State::StartTls || self.cell.side == Side::Server {
            self.peer.shake_as_device()?;
        }
        self.reply()?;
        self.ask(State::Ehlo, "EHLO x\r\n")?;
        if self.cell.state == State::StartTls && self.cell.side == Side::Device {
            self.ask(State::StartTls, "STARTTLS\r\n")?;
        }
        // NUL, u, NUL, p
        self.ask(State::Auth, "AUTH PLAIN AHUAcA==\r\n")?;
        self.ask(State::Mail, "MAIL FROM:<a@b.example>\r\n")?;
        self.ask(State::Rcpt, "RCPT TO:<c@d.example>\r\n")?;
        self.ask(State::Data, "DATA\r\n")?;
        self.send("Subject: x\r\n\r\nfirst\r\n")?;
        self.send(HALF)?;
        self.fail(State::Content)?;
        if (self.cell.side, self.cell.state) == (Side::Server, State::Content) {
            // The server fails before the end can be on its way.
            return self.reply().map(drop);
        }
        self.send("second\r\n.\r\n")?;
        self.fail(State::Dot)?;
        let answer = self.reply()?;
        self.answers.push(answer);
        self.fail(State::Between)?;
        self.ask(State::Between, "QUIT\r\n").map(drop)
    }

    fn send(&mut self, text: &str) -> Result<(), String> {
        self.peer.try_send(text.as_bytes()).map_err(|error| error.to_string())
    }

    /// Sends a command, and reads the reply. A device's fault stands between the two.
    fn ask(&mut self, state: State, command: &str) -> Result<String, String> {
        self.send(command)?;
        self.fail(state)?;
        self.reply()
    }

    fn reply(&mut self) -> Result<String, String> {
        loop {
            let line = self.peer.line()?;
            self.heard.push(line.clone());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line);
            }
        }
    }

    fn fail(&mut self, state: State) -> Result<(), String> {
        if self.cell.side == Side::Server || self.cell.state != state {
            return Ok(());
        }
        ail(self.cell.fault, &mut self.peer);
        Err("the device has failed".to_owned())
    }
}

/// Plays a cell; returns what is wrong.
fn run(proxy: &Proxy, cell: Cell, number: usize, server: &TcpListener, context: &SslContext) -> Result<(), String> {
    let from = Ipv4Addr::new(127, 9, u8::try_from(number / 250).unwrap(), u8::try_from(number % 250 + 1).unwrap());
    let is_dialled = cell.side == Side::Server || cell.state >= State::Auth;
    let (device, seen) = thread::scope(|scope| {
        let serving = scope.spawn(|| {
            if !is_dialled {
                return Ok(Seen::default());
            }
            let mut server = Server { peer: Peer::over(accept(server)?), cell, context, seen: Seen::default() };
            let _ = server.serve();
            // A device's fault must not be ended by the server.
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline && server.peer.hear_for(Duration::from_millis(100)) != Heard::End {}
            Ok::<Seen, String>(server.seen)
        });
        let peer = Peer::connect(from, proxy.address(&format!("cell-{number}")));
        let mut device = Device { peer, cell, answers: Vec::new(), heard: Vec::new() };
        let _ = device.play();
        let _ = device.peer.hear_to_the_end();
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
    let whole = usize::from(cell.state >= State::Dot);
    // A reset may overtake the end of the message.
    let may_be_lost = (cell.side, cell.state, cell.fault) == (Side::Device, State::Dot, Fault::Reset);
    if seen.messages != whole && !(may_be_lost && seen.messages == 0) {
        return wrong("half a message became a whole one, or a whole one none");
    }
    let line = proxy.session_of("listener", &format!("cell-{number}"));
    let (reason, level) = (line["reason"].as_str().unwrap_or_default(), line["level"].clone());
    if (cell.side, cell.state) == (Side::Server, State::Dot) {
        let is_told = device.answers.iter().all(|answer| answer.starts_with("451 4.4.2 "));
        if !is_told || device.answers.is_empty() || reason != "outcome_unknown" {
            return wrong(&format!("unknown outcome, and the reason is {reason}"));
        }
    }
    let is_lost = cell.side == Side::Server && (State::Mail..=State::Content).contains(&cell.state);
    if is_lost && !device.heard.iter().any(|line| line.starts_with("421 ") || line.contains("\n421 ")) {
        return wrong(&format!("nobody tells the device, and the reason is {reason} at {level}"));
    }
    Ok(())
}

fn configuration(cells: &[Cell], ports: &[u16], roots: &std::path::Path) -> String {
    let mut text = "lines_per_minute = 1000000\nlines_per_minute_of_source = 1000000\n[admin]\n\
        listen = [\"127.0.0.1:0\"]\n[limits]\nhandshake_timeout = \"2s\"\nlogin_timeout = \"3s\"\n\
        upstream_handshake_timeout = \"2s\"\nupstream_login_timeout = \"2s\"\n\
        [submission]\ncommand_timeout = \"3s\"\ncontent_timeout = \"2s\"\nreply_timeout = \"2s\"\n\
        answer_timeout = \"2s\"\n"
        .to_owned();
    for (number, (cell, port)) in cells.iter().zip(ports).enumerate() {
        let is_begun_in_clear =
            |side| if (cell.side, cell.state) == (side, State::StartTls) { "starttls" } else { "implicit" };
        let security = is_begun_in_clear(Side::Server);
        text += &format!(
            "[upstream.u{number}]\nroots = {roots:?}\n[upstream.u{number}.smtp]\nhost = \"127.0.0.1\"\n\
             server_name = \"localhost\"\nport = {port}\nsecurity = \"{security}\"\n"
        );
        let upstream = format!("upstream = \"u{number}\"");
        text += &listener(&format!("cell-{number}"), "smtp", is_begun_in_clear(Side::Device), &upstream);
    }
    text
}

#[test]
fn every_fault_in_every_state_of_a_submission() {
    let (certificates, directory) = Certificates::ecdsa_for_name("localhost", 30).in_directory();
    let context = setup::server(&certificates);
    let mut cells = cells();
    if let Ok(only) = std::env::var("CELLS") {
        cells.retain(|cell| format!("{cell:?}").contains(&only));
    }
    let servers: Vec<TcpListener> = cells.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<u16> = servers.iter().map(|server| server.local_addr().unwrap().port()).collect();
    let proxy = Proxy::start_at("debug", &configuration(&cells, &ports, &directory.path().join("ca.pem")));
    let files = proxy.process.open_files();
    let failures: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> = cells
            .iter()
            .zip(&servers)
            .enumerate()
            .map(|(number, (cell, server))| {
                let (proxy, context) = (&proxy, &context);
                scope.spawn(move || {
                    run(proxy, *cell, number, server, context).map_err(|why| format!("{number} {cell:?}: {why}"))
                })
            })
            .collect();
        running.into_iter().filter_map(|one| one.join().unwrap().err()).collect()
    });
    proxy.until_open(0);
    let deadline = Instant::now() + PATIENCE;
    while proxy.process.open_files() > files + KEPT && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let left = proxy.process.open_files();
    assert!(left <= files + KEPT, "{files} files before, {left} after");
    failures.iter().for_each(|failure| println!("FAILURE {failure}"));
    println!("{} cells", cells.len());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

const HALF: &str = "the middle\r\n";
/// The page's connections, which close on their own.
const KEPT: usize = 4;
