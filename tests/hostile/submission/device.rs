//! This file plays the device of one cell: it submits a message, up to its fault.

use super::{Cell, HALF, Side, State, ail};
use crate::peer::{Peer, client_hello};

pub struct Device {
    pub peer: Peer,
    cell: Cell,
    /// The reply to the login.
    pub login: Option<String>,
    /// The replies to the end of a message.
    pub answers: Vec<String>,
    pub heard: Vec<String>,
}

impl Device {
    pub fn new(peer: Peer, cell: Cell) -> Self {
        Self { peer, cell, login: None, answers: Vec::new(), heard: Vec::new() }
    }

    /// Plays up to the fault, or to the end of the connection. An error is its end.
    pub fn play(&mut self) -> Result<(), String> {
        self.begin()?;
        self.ask(State::Ehlo, "EHLO x\r\n")?;
        if self.is_begun_in_clear() {
            self.ask(State::StartTls, "STARTTLS\r\n")?;
            self.fail(State::StartTlsAnswered)?;
        }
        self.log_in()?;
        self.ask(State::Mail, "MAIL FROM:<a@b.example>\r\n")?;
        if self.is_at(State::MidCommand) {
            self.send("RCPT TO:<c@")?;
        }
        self.fail(State::MidCommand)?;
        self.ask(State::Rcpt, "RCPT TO:<c@d.example>\r\n")?;
        self.ask(State::Data, "DATA\r\n")?;
        self.submit()?;
        self.ask(State::Quit, "QUIT\r\n").map(drop)
    }

    fn begin(&mut self) -> Result<(), String> {
        self.fail(State::Connected)?;
        if self.is_at(State::MidHello) {
            self.peer.try_send(&client_hello()[..20]).map_err(|error| error.to_string())?;
        }
        self.fail(State::MidHello)?;
        if !self.is_begun_in_clear() {
            self.peer.shake_as_device()?;
        }
        self.reply()?;
        self.fail(State::Greeted)
    }

    fn log_in(&mut self) -> Result<(), String> {
        let answer = if self.is_at(State::AuthUser) || self.is_at(State::AuthPassword) {
            self.ask(State::AuthUser, "AUTH LOGIN\r\n")?;
            self.ask(State::AuthPassword, "dQ==\r\n")?;
            self.ask(State::Auth, "cA==\r\n")?
        } else if self.cell.has_token() {
            self.send("AUTH XOAUTH2\r\n")?;
            self.reply()?;
            // user=u^Aauth=Bearer t^A^A
            let (half, rest) = "dXNlcj11AWF1dGg9QmVhcmVyIHQBAQ==\r\n".split_at(8);
            self.send(half)?;
            self.fail(State::AuthToken)?;
            self.ask(State::Auth, rest)?
        } else {
            // NUL, u, NUL, p
            self.ask(State::Auth, "AUTH PLAIN AHUAcA==\r\n")?
        };
        self.login = Some(answer);
        Ok(())
    }

    fn submit(&mut self) -> Result<(), String> {
        self.send("Subject: x\r\n\r\nfirst\r\n")?;
        self.send(HALF)?;
        self.fail(State::Content)?;
        if (self.cell.side, self.cell.state) == (Side::Server, State::Content) {
            // The server fails before the end can be on its way.
            return self.reply().and_then(|_| Err("the server has failed".to_owned()));
        }
        self.send("second\r\n.")?;
        self.fail(State::MidDot)?;
        self.send("\r\n")?;
        self.fail(State::Dot)?;
        let answer = self.reply()?;
        self.answers.push(answer);
        self.fail(State::Between)
    }

    fn is_at(&self, state: State) -> bool {
        self.cell.is_at(Side::Device, state)
    }

    fn is_begun_in_clear(&self) -> bool {
        self.cell.is_begun_in_clear(Side::Device)
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
        match self.cell.fault {
            Some(fault) if self.is_at(state) => {
                ail(fault, &mut self.peer, self.cell);
                Err("the device has failed".to_owned())
            }
            _ => Ok(()),
        }
    }
}
