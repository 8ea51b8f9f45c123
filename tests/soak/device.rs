//! This file is one of the devices: its number decides how it speaks, how often it comes, and how rude it is.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use openssl::ssl::{SslRef, SslSession};

use crate::run::{Run, add};
use support::connection::Connection;
use support::fuzz::random::Random;
use support::translated::DEVICE_PASSWORD;

pub struct Device<'a> {
    run: &'a Run,
    pub number: usize,
    random: Random,
    is_imap: bool,
    /// Whether the device uses STARTTLS or STLS, and not implicit TLS.
    starts_in_clear: bool,
    version: usize,
    idles: bool,
    /// The TLS session that the next connection resumes.
    session: Option<SslSession>,
    /// A connection that was forgotten on the way, kept until the next visit.
    vanished: Option<Connection>,
    tag: u32,
    /// Whether the present fetch is reported.
    is_told: bool,
}

/// Misbehaviours of a device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rude {
    WrongPassword,
    HalfHello,
    HalfCommand,
    ResetInFetch,
    ResetBehindDelete,
    NoFarewell,
    VanishInFetch,
}

/// Reasons why a visit failed.
#[derive(Debug)]
pub enum Trouble {
    /// The connection broke, when this was under way.
    Broken(&'static str, io::Error),
    /// The login was not taken.
    Refused(String),
    /// Something was answered that there is no reason for.
    Answered(String),
    /// The device broke the visit off itself.
    Rude,
}

type Visit<T = ()> = Result<T, Trouble>;

impl<'a> Device<'a> {
    pub fn new(run: &'a Run, number: usize) -> Self {
        let mut random = Random(run.seed ^ (number as u64 + 1).wrapping_mul(0x5851_f42d_4c95_7f2d));
        let is_imap = random.chance(60) || Self::polls(number);
        let (starts_in_clear, version) = (random.chance(40), random.below(3));
        let idles = is_imap && random.chance(20) && !Self::polls(number);
        Self {
            run,
            number,
            random,
            is_imap,
            starts_in_clear,
            version,
            idles,
            session: None,
            vanished: None,
            tag: 0,
            is_told: false,
        }
    }

    /// The device's own source address, as on a network.
    pub fn source(number: usize) -> Ipv4Addr {
        let of = |number: usize| u8::try_from(number).unwrap();
        Ipv4Addr::new(127, 1, of(number / 250), of(1 + number % 250))
    }

    /// Whether the device is rude, as a tenth of them are.
    pub fn is_rude(number: usize) -> bool {
        number % 10 == 9
    }

    /// Whether the secret of the device's application lies where files hang now and then, as for a quarter of them.
    pub fn has_a_file_that_hangs(number: usize) -> bool {
        number % 4 == 3
    }

    /// Whether the device comes every few seconds, to a server whose connections are parked.
    pub fn polls(number: usize) -> bool {
        number.is_multiple_of(10)
    }

    /// Comes again and again, and at the end once more, until everything is fetched.
    pub fn live(&mut self) {
        let first = self.random.below(30_000) as u64;
        let mut pause = Duration::from_millis(first);
        while self.run.over.pause(pause) {
            let rude = (Self::is_rude(self.number) && self.random.chance(40)).then(|| self.rudeness());
            self.come(rude);
            let (least, more) = match self.vanished {
                Some(_) => (UNTIL_GIVEN_UP, 80_000),
                None if Self::polls(self.number) => (1000, 4000),
                None => (20_000, 80_000),
            };
            pause = Duration::from_millis(least + self.random.below(more) as u64);
        }
        self.idles = false;
        for _ in 0..LAST_TRIES {
            if self.come(None) {
                return;
            }
        }
    }

    /// Makes one visit, counts it, and returns whether nothing went wrong.
    fn come(&mut self, rude: Option<Rude>) -> bool {
        let begun = SystemTime::now();
        self.vanished = None;
        add(&self.run.tally.visits, 1);
        match self.visit(rude) {
            Ok(()) => true,
            Err(Trouble::Rude) => {
                add(&self.run.tally.rude, 1);
                false
            }
            Err(trouble) => {
                self.run.troubled(self.number, begun, &trouble);
                false
            }
        }
    }

    fn rudeness(&mut self) -> Rude {
        use Rude::*;
        let all = [WrongPassword, HalfHello, HalfCommand, ResetInFetch, ResetBehindDelete, NoFarewell, VanishInFetch];
        all[self.random.below(all.len())]
    }

    fn visit(&mut self, rude: Option<Rude>) -> Visit {
        let (protocol, way) = match (self.is_imap, self.starts_in_clear) {
            (true, false) => ("imap", "imap"),
            (true, true) => ("imap", "imap-clear"),
            (false, false) => ("pop3", "pop3"),
            (false, true) => ("pop3", "pop3-clear"),
        };
        let mut connection = connect(Self::source(self.number), self.run.address(way)).map_err(broken("connect"))?;
        if self.starts_in_clear {
            self.greeting(&mut connection, protocol)?;
            let command: &[u8] = if self.is_imap { b"s STARTTLS\r\n" } else { b"STLS\r\n" };
            connection.send(command).map_err(broken("STARTTLS"))?;
            let answer = connection.line().map_err(broken("STARTTLS"))?;
            if !answer.contains("OK") {
                return Err(Trouble::Answered(answer));
            }
        }
        if rude == Some(Rude::HalfHello) {
            connection.send(HALF_HELLO).map_err(broken("hello"))?;
            connection.reset();
            return Err(Trouble::Rude);
        }
        connection.connect_tls(&self.run.contexts[self.version], &mut self.session).map_err(broken("handshake"))?;
        add(&self.run.tally.versions[self.version], 1);
        add(&self.run.tally.resumed, usize::from(connection.ssl().is_some_and(SslRef::session_reused)));
        if !self.starts_in_clear {
            self.greeting(&mut connection, protocol)?;
        }
        if rude == Some(Rude::HalfCommand) {
            connection.send(b"a1 LOG").map_err(broken("half a command"))?;
            return Err(Trouble::Rude);
        }
        if self.is_imap { self.imap(connection, rude) } else { self.pop3(connection, rude) }
    }

    fn greeting(&self, connection: &mut Connection, protocol: &str) -> Visit {
        let greeting = connection.line().map_err(broken("greeting"))?;
        let expected = if protocol == "imap" { "* OK " } else { "+OK " };
        if greeting.starts_with(expected) { Ok(()) } else { Err(Trouble::Answered(greeting)) }
    }

    fn imap(&mut self, mut connection: Connection, rude: Option<Rude>) -> Visit {
        let login = self.run.login(self.number);
        if rude == Some(Rude::WrongPassword) {
            add(&self.run.tally.wrong_passwords, 1);
            let answer = self.command(&mut connection, "login", &format!("LOGIN {login} wrong"))?;
            return match answer.status {
                status if status.starts_with("NO [AUTHENTICATIONFAILED]") => Err(Trouble::Rude),
                status => Err(Trouble::Answered(status)),
            };
        }
        let answer = self.command(&mut connection, "login", &format!("LOGIN {login} {DEVICE_PASSWORD}"))?;
        if !answer.status.starts_with("OK") {
            return Err(Trouble::Refused(answer.status));
        }
        add(&self.run.tally.logins, 1);
        add(&self.run.tally.polls, usize::from(Self::polls(self.number)));
        self.ok(&mut connection, "LIST", "LIST \"\" *")?;
        let mut exists = self.ok(&mut connection, "SELECT", "SELECT INBOX")?.exists.unwrap_or(0);
        let begun = Instant::now();
        let until = Duration::from_secs(60 + self.random.below(120) as u64);
        loop {
            if rude == Some(Rude::ResetInFetch) && exists > 0 {
                connection.send(b"r FETCH 1 BODY[]\r\n").map_err(broken("FETCH"))?;
                connection.line().map_err(broken("FETCH"))?;
                connection.reset();
                return Err(Trouble::Rude);
            }
            if rude == Some(Rude::VanishInFetch) && exists > 0 {
                connection.send(b"r FETCH 1 BODY[]\r\n").map_err(broken("FETCH"))?;
                return self.vanish(connection);
            }
            let taken = self.take(&mut connection, exists, rude);
            self.is_told = false;
            exists = taken?;
            if !self.idles || begun.elapsed() > until || self.run.over.is_set() {
                break;
            }
            if exists == 0 {
                exists = self.idle(&mut connection, until.saturating_sub(begun.elapsed()))?;
                self.is_told = exists > 0;
            }
        }
        if rude == Some(Rude::NoFarewell) {
            let _ = connection.close();
            return Err(Trouble::Rude);
        }
        self.ok(&mut connection, "LOGOUT", "LOGOUT")?;
        connection.close().map_err(broken("close"))
    }

    /// Makes the connection drop all that arrives without an acknowledgement.
    fn vanish(&mut self, connection: Connection) -> Visit {
        connection.forget();
        add(&self.run.tally.vanished, 1);
        self.vanished = Some(connection);
        Err(Trouble::Rude)
    }

    /// Fetches and deletes all messages; returns the number that arrived meanwhile.
    fn take(&mut self, connection: &mut Connection, exists: usize, rude: Option<Rude>) -> Visit<usize> {
        if exists == 0 {
            return Ok(0);
        }
        let (mut numbers, mut now) = (Vec::new(), exists);
        for index in 1..=exists {
            let answer = self.ok(connection, "FETCH", &format!("FETCH {index} BODY.PEEK[]"))?;
            now = answer.exists.unwrap_or(now);
            let Some(octets) = answer.literal else {
                return Err(Trouble::Answered(format!("no message {index}")));
            };
            numbers.extend(self.had(&octets));
        }
        let all = if exists == 1 { "1".to_owned() } else { format!("1:{exists}") };
        now = self.ok(connection, "STORE", &format!("STORE {all} +FLAGS.SILENT (\\Deleted)"))?.exists.unwrap_or(now);
        if rude == Some(Rude::ResetBehindDelete) {
            connection.send(b"r EXPUNGE\r\n").map_err(broken("EXPUNGE"))?;
            return Err(Trouble::Rude);
        }
        let answer = self.ok(connection, "EXPUNGE", "EXPUNGE")?;
        self.run.ledger.deleted(&numbers);
        // An EXISTS after the EXPUNGE responses counts the remaining messages.
        Ok(answer.exists.unwrap_or(now.saturating_sub(exists)))
    }

    /// Waits for a notice of new mail; returns the number of messages.
    fn idle(&mut self, connection: &mut Connection, limit: Duration) -> Visit<usize> {
        self.tag += 1;
        let tag = format!("d{}", self.tag);
        connection.send(format!("{tag} IDLE\r\n").as_bytes()).map_err(broken("IDLE"))?;
        let mut exists = 0;
        let begun = Instant::now();
        add(&self.run.tally.idles, 1);
        while exists == 0 && begun.elapsed() < limit && !self.run.over.is_set() {
            let line = connection.line_within(Duration::from_secs(1)).map_err(broken("IDLE"))?;
            let Some(line) = line else { continue };
            if let Some(count) = existing(&line) {
                exists = count;
                add(&self.run.tally.told, 1);
            } else if line.starts_with("* BYE") || line.starts_with(&tag) {
                return Err(Trouble::Answered(line));
            }
        }
        connection.send(b"DONE\r\n").map_err(broken("DONE"))?;
        let answer = self.answer(connection, "DONE", &tag)?;
        Ok(answer.exists.unwrap_or(exists))
    }

    fn ok(&mut self, connection: &mut Connection, what: &'static str, command: &str) -> Visit<Answer> {
        let answer = self.command(connection, what, command)?;
        if answer.status.starts_with("OK") { Ok(answer) } else { Err(Trouble::Answered(answer.status)) }
    }

    fn command(&mut self, connection: &mut Connection, what: &'static str, command: &str) -> Visit<Answer> {
        self.tag += 1;
        let tag = format!("d{}", self.tag);
        connection.send(format!("{tag} {command}\r\n").as_bytes()).map_err(broken(what))?;
        self.answer(connection, what, &tag)
    }

    fn answer(&mut self, connection: &mut Connection, what: &'static str, tag: &str) -> Visit<Answer> {
        let mut answer = Answer::default();
        loop {
            let line = connection.line().map_err(broken(what))?;
            if let Some(status) = line.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) {
                answer.status = status.to_owned();
                return Ok(answer);
            }
            answer.exists = existing(&line).or(answer.exists);
            let literal = line.strip_suffix('}').and_then(|line| line.rsplit_once('{'));
            if let Some(size) = literal.and_then(|(_, size)| size.parse().ok()) {
                answer.literal = Some(connection.octets(size).map_err(broken(what))?);
                self.run.tally.fetched(size);
            }
        }
    }

    fn pop3(&mut self, mut connection: Connection, rude: Option<Rude>) -> Visit {
        let login = self.run.login(self.number);
        plus_ok(&mut connection, "USER", &format!("USER {login}"))?;
        if rude == Some(Rude::WrongPassword) {
            add(&self.run.tally.wrong_passwords, 1);
            let answer = said(&mut connection, "PASS", "PASS wrong")?;
            return Err(if answer.starts_with("-ERR [AUTH]") { Trouble::Rude } else { Trouble::Answered(answer) });
        }
        let answer = said(&mut connection, "PASS", &format!("PASS {DEVICE_PASSWORD}"))?;
        if !answer.starts_with("+OK") {
            return Err(Trouble::Refused(answer));
        }
        add(&self.run.tally.logins, 1);
        let stat = plus_ok(&mut connection, "STAT", "STAT")?;
        let count: usize = stat.split(' ').nth(1).and_then(|count| count.parse().ok()).unwrap_or(0);
        plus_ok(&mut connection, "LIST", "LIST")?;
        multi(&mut connection, "LIST")?;
        let mut numbers = Vec::new();
        for index in 1..=count {
            if rude == Some(Rude::VanishInFetch) {
                connection.send(format!("RETR {index}\r\n").as_bytes()).map_err(broken("RETR"))?;
                return self.vanish(connection);
            }
            plus_ok(&mut connection, "RETR", &format!("RETR {index}"))?;
            if rude == Some(Rude::ResetInFetch) {
                connection.reset();
                return Err(Trouble::Rude);
            }
            let octets = multi(&mut connection, "RETR")?;
            self.run.tally.fetched(octets.len());
            numbers.extend(self.had(&octets));
            plus_ok(&mut connection, "DELE", &format!("DELE {index}"))?;
        }
        match rude {
            Some(Rude::ResetBehindDelete) => {
                connection.send(b"QUIT\r\n").map_err(broken("QUIT"))?;
                connection.reset();
                return Err(Trouble::Rude);
            }
            Some(Rude::NoFarewell) => {
                let _ = connection.close();
                return Err(Trouble::Rude);
            }
            _ => {}
        }
        plus_ok(&mut connection, "QUIT", "QUIT")?;
        self.run.ledger.deleted(&numbers);
        connection.close().map_err(broken("close"))
    }

    fn had(&self, octets: &[u8]) -> Option<u64> {
        let (number, age) = self.run.ledger.had(self.number, octets)?;
        if self.is_told {
            self.run.tally.waited(age);
        }
        Some(number)
    }
}

#[derive(Default)]
struct Answer {
    status: String,
    exists: Option<usize>,
    literal: Option<Vec<u8>>,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(what, error) => write!(f, "{what}: {error}"),
            Self::Refused(answer) => write!(f, "login refused: {answer}"),
            Self::Answered(answer) => write!(f, "answered: {answer}"),
            Self::Rude => f.write_str("rude"),
        }
    }
}

fn broken(what: &'static str) -> impl Fn(io::Error) -> Trouble {
    move |error| Trouble::Broken(what, error)
}

fn existing(line: &str) -> Option<usize> {
    line.strip_prefix("* ")?.strip_suffix(" EXISTS")?.parse().ok()
}

fn said(connection: &mut Connection, what: &'static str, command: &str) -> Visit<String> {
    connection.send(format!("{command}\r\n").as_bytes()).map_err(broken(what))?;
    connection.line().map_err(broken(what))
}

fn plus_ok(connection: &mut Connection, what: &'static str, command: &str) -> Visit<String> {
    let answer = said(connection, what, command)?;
    if answer.starts_with("+OK") { Ok(answer) } else { Err(Trouble::Answered(answer)) }
}

/// The lines of a multi-line answer, unstuffed.
fn multi(connection: &mut Connection, what: &'static str) -> Visit<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        let line = connection.octets_of_line().map_err(broken(what))?;
        if line == b"." {
            return Ok(text);
        }
        text.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        text.extend_from_slice(b"\r\n");
    }
}

/// Connects from this address.
pub fn connect(source: Ipv4Addr, to: SocketAddr) -> io::Result<Connection> {
    let mut connection = Connection::connect(source, to)?;
    connection.set_patience(PATIENCE)?;
    Ok(connection)
}

/// The device's own patience, which exceeds every delay of a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// The beginning of a ClientHello.
const HALF_HELLO: &[u8] = &[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 1, 7, 7, 7, 7];
/// Milliseconds after which the proxy has given up a vanished device: its `keep_alive` is 10 s.
const UNTIL_GIVEN_UP: u64 = 40_000;
const LAST_TRIES: usize = 5;
