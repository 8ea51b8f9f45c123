//! This file plays the good server behind a faulty device: it obeys commands, has limits of its own, and records its
//! input.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use openssl::ssl::SslContext;

use packetboat::protocol::Protocol;

use crate::peer::{Heard, Peer};
use support::process::PATIENCE;

/// Notes that the server and a cell share about one login.
#[derive(Clone, Default)]
pub struct Notes(Arc<(Mutex<Note>, Condvar)>);

#[derive(Default)]
struct Note {
    /// The login has arrived, whether or not its answer is held back.
    logging_in: bool,
    holds_login: bool,
    holds_logout: bool,
    logging_out: bool,
    /// All octets after the login.
    heard: Vec<u8>,
    over: bool,
}

impl Notes {
    pub fn hold_login(&self) {
        self.0.0.lock().unwrap().holds_login = true;
    }

    pub fn hold_logout(&self) {
        self.0.0.lock().unwrap().holds_logout = true;
    }

    /// Releases the held answers.
    pub fn release(&self) {
        self.change(|note| (note.holds_login, note.holds_logout) = (false, false));
    }

    pub fn until_logging_in(&self) -> Result<(), String> {
        self.until("login", |note| note.logging_in)
    }

    pub fn until_logging_out(&self) -> Result<(), String> {
        self.until("logout", |note| note.logging_out)
    }

    /// The octets after the login, once the connection is over.
    pub fn heard(&self) -> Result<Vec<u8>, String> {
        self.until("end of the server's connection", |note| note.over)?;
        Ok(self.0.0.lock().unwrap().heard.clone())
    }

    pub fn was_dialled(&self) -> bool {
        self.0.0.lock().unwrap().logging_in
    }

    fn change(&self, change: impl FnOnce(&mut Note)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    fn until(&self, what: &str, condition: impl Fn(&Note) -> bool) -> Result<(), String> {
        let note = self.0.0.lock().unwrap();
        let (note, _) = self.0.1.wait_timeout_while(note, PATIENCE, |note| !condition(note)).unwrap();
        if !condition(&note) { Err(format!("no {what} at the server")) } else { Ok(()) }
    }
}

pub struct Good {
    pub port: u16,
    notes: Arc<Mutex<HashMap<String, Notes>>>,
}

impl Good {
    pub fn start(protocol: Protocol, context: SslContext) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let notes = Arc::new(Mutex::new(HashMap::new()));
        let known = Arc::clone(&notes);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (known, context) = (Arc::clone(&known), context.clone());
                std::thread::spawn(move || {
                    let mut peer = Peer::over(stream);
                    if peer.shake_as_server(&context).is_ok() {
                        serve(protocol, peer, &known);
                    }
                });
            }
        });
        Self { port, notes }
    }

    /// The notes of this login, which begin here.
    pub fn notes(&self, login: &str) -> Notes {
        self.notes.lock().unwrap().entry(login.to_owned()).or_default().clone()
    }
}

fn serve(protocol: Protocol, mut peer: Peer, known: &Mutex<HashMap<String, Notes>>) {
    let imap = protocol == Protocol::Imap;
    let said = peer.try_send(if imap { b"* OK ready\r\n" } else { b"+OK ready\r\n" });
    let Ok(login) = said.map_err(|error| error.to_string()).and_then(|()| peer.line()) else { return };
    let login = login.trim().trim_start_matches("P2 LOGIN ").trim_start_matches("USER ");
    let login = login.split(' ').next().unwrap().trim_matches('"').to_owned();
    if !imap && (peer.try_send(b"+OK\r\n").is_err() || peer.line().is_err()) {
        return;
    }
    let notes = known.lock().unwrap().entry(login).or_default().clone();
    notes.change(|note| note.logging_in = true);
    let _ = notes.until("release", |note| !note.holds_login);
    if peer.try_send(if imap { b"P2 OK in\r\n" } else { b"+OK in\r\n" }).is_ok() {
        Conversation { imap, peer: &mut peer, notes: &notes, bad: 0, skip: 0, idling: false }.hold();
    }
    peer.close_half();
    // The server waits until the proxy has closed as well.
    let _ = peer.hear_to_the_end();
    notes.change(|note| note.over = true);
}

struct Conversation<'a> {
    imap: bool,
    peer: &'a mut Peer,
    notes: &'a Notes,
    bad: usize,
    /// Octets of a literal that are still to come.
    skip: usize,
    idling: bool,
}

impl Conversation<'_> {
    fn hold(&mut self) {
        let mut swallowed = 0;
        loop {
            let heard = &mut self.peer.heard;
            if self.skip > 0 && !heard.is_empty() {
                let count = self.skip.min(heard.len());
                heard.drain(..count);
                self.skip -= count;
                swallowed += count;
                if swallowed > LONGEST_LITERAL {
                    let _ = self.peer.try_send(b"* BYE literal too long\r\n");
                    return;
                }
                continue;
            }
            if let Some(end) = heard.iter().position(|&octet| octet == b'\n') {
                let line: Vec<u8> = heard.drain(..=end).collect();
                if !self.obey(&line) {
                    return;
                }
                continue;
            }
            if heard.len() > LONGEST_LINE {
                let _ = self.peer.try_send(if self.imap { b"* BYE line too long\r\n" } else { b"-ERR too long\r\n" });
                return;
            }
            let before = heard.len();
            if self.peer.hear_for(Duration::from_secs(1)) == Heard::End {
                return;
            }
            let new = self.peer.heard[before..].to_vec();
            self.notes.change(|note| note.heard.extend(new));
        }
    }

    /// Obeys a line. Returns whether the conversation goes on.
    fn obey(&mut self, line: &[u8]) -> bool {
        let text = String::from_utf8_lossy(line);
        let mut words = text.split_ascii_whitespace();
        let tag = if self.imap { words.next().unwrap_or_default().to_owned() } else { String::new() };
        let verb = words.next().unwrap_or_default().to_ascii_uppercase();
        let answer = match (self.imap, verb.as_str()) {
            (_, "NOOP") => format!("{tag} OK done\r\n"),
            (true, "APPEND") => {
                let size = text.trim_end().trim_end_matches('}').rsplit('{').next().unwrap().trim_end_matches('+');
                self.skip = size.parse().unwrap_or(0);
                "+ go\r\n".to_owned()
            }
            (true, "IDLE") => {
                self.idling = true;
                "+ idling\r\n".to_owned()
            }
            (true, "LOGOUT") | (false, "QUIT") => {
                self.notes.change(|note| note.logging_out = true);
                let _ = self.notes.until("release", |note| !note.holds_logout);
                let bye = if self.imap { format!("* BYE bye\r\n{tag} OK bye\r\n") } else { "+OK bye\r\n".to_owned() };
                let _ = self.peer.try_send(bye.as_bytes());
                return false;
            }
            _ => {
                self.bad += 1;
                if self.bad > BAD {
                    let _ = self.peer.try_send(if self.imap { b"* BYE enough\r\n" } else { b"-ERR enough\r\n" });
                    return false;
                }
                "* BAD what\r\n".to_owned()
            }
        };
        let answer = if self.imap { answer } else { answer.replace("* BAD", "-ERR").replace(" OK", "+OK") };
        self.peer.try_send(answer.as_bytes()).is_ok()
    }
}

const LONGEST_LINE: usize = 64 * 1024;
const LONGEST_LITERAL: usize = 256 * 1024;
const BAD: usize = 10;
