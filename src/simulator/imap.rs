//! The simulator's IMAP service behaves like Exchange's (RFC 3501) behind implicit TLS: only XOAUTH2 opens a mailbox.

mod command;
mod fault;
mod item;
mod select;

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::connection::{Connection, End};
use super::login::{LoginResult, OpenSession, log_in, refuse};
use super::quirks::imap::EXPIRED;
use super::quirks::{Excess, Greeting, Moment};
use super::world::World;
use crate::protocol::Protocol;
use command::{Word, split};
use fault::next_fault;
use select::Selected;

/// Serves IMAP until the connection has to end; returns why, and the last line.
pub(super) async fn serve(world: Arc<World>, connection: &mut Connection) -> (End, String) {
    let mut imap = ImapService { world, connection, session: None, selected: None, has_rev2: false };
    let end = match imap.run().await {
        Ok(()) => End::Finished,
        Err(end) => end,
    };
    let farewell = match end {
        End::Gone | End::Finished | End::Reset => String::new(),
        End::Expired => format!("{EXPIRED}\r\n"),
        End::Closed => "* BYE Connection is closed. 13\r\n".to_owned(),
        End::TooLong => "* BAD Command Error. 10\r\n* BYE Connection closed. 14\r\n".to_owned(),
    };
    (end, farewell)
}

struct ImapService<'a> {
    world: Arc<World>,
    connection: &'a mut Connection,
    session: Option<OpenSession>,
    selected: Option<Selected>,
    /// True once the client has enabled IMAP4rev2.
    has_rev2: bool,
}

/// A complete command.
struct Command {
    tag: String,
    /// The command's name in upper case.
    name: String,
    words: Vec<Word>,
}

impl Command {
    fn text(&self, at: usize) -> String {
        self.words.get(at).map(Word::text).unwrap_or_default()
    }
}

impl ImapService<'_> {
    async fn run(&mut self) -> Result<(), End> {
        let (greeting, delay) = self.world.quirk(|quirks| (quirks.mail.greeting, quirks.mail.greeting_delay));
        tokio::time::sleep(delay).await;
        self.send(match greeting {
            Greeting::Classic => format!("* OK The Microsoft Exchange IMAP4 service is ready. [{}]", server_name()),
            Greeting::TcpProxy => format!(
                "* OK Microsoft Exchange IMAP4 service ready. 6b1f3c1e-6f6f-4c57-9f0e-0d3b3a2f9c11 \
                 (tcpproxy/15.21.0406.000 BACKENDAUTHENTICATE) [{}]",
                server_name()
            ),
            Greeting::Bye => "* BYE Connection is closed. 13".to_owned(),
        })
        .await?;
        if greeting == Greeting::Bye {
            return Ok(());
        }
        loop {
            match self.command().await? {
                Some(command) => self.execute(command).await?,
                None => self.send("* BAD Command Error. 10").await?,
            }
        }
    }

    /// Reads a command with its literals; `None` for a line that is no command.
    async fn command(&mut self) -> Result<Option<Command>, End> {
        let line = self.connection.line().await?;
        let Some((mut words, mut literal)) = split(&line) else { return Ok(None) };
        while let Some(expected) = literal {
            if expected.length > LONGEST_LITERAL {
                return Err(End::TooLong);
            }
            if expected.waits {
                self.send("+ Ready for additional command text.").await?;
            }
            words.push(Word::Text(self.connection.octets(expected.length).await?));
            let line = self.connection.line().await?;
            let Some((more, next)) = split(&line) else { return Ok(None) };
            words.extend(more);
            literal = next;
        }
        let mut words = words.into_iter();
        let (Some(Word::Atom(tag)), Some(Word::Atom(name))) = (words.next(), words.next()) else { return Ok(None) };
        Ok(Some(Command { tag, name: name.to_ascii_uppercase(), words: words.collect() }))
    }

    /// Executes a command, with the fault that the quirks want in its place or behind it.
    async fn execute(&mut self, command: Command) -> Result<(), End> {
        if let Some(session) = &self.session {
            self.world.count(|counts| counts.count_command(&session.name, &command.name));
            self.connection.check_expiry()?;
        }
        match next_fault(&self.world, &command.name, self.session.is_some()) {
            None => self.execute_well(command).await,
            Some(fault) if fault.is_served => {
                let tag = command.tag.clone();
                self.execute_well(command).await?;
                self.play_fault(&fault, &tag).await
            }
            Some(fault) => self.play_fault(&fault, &command.tag).await,
        }
    }

    async fn execute_well(&mut self, command: Command) -> Result<(), End> {
        let Command { tag, name, .. } = &command;
        if self.session.is_some() && name != "LOGOUT" && self.inject_fault(tag, Moment::Command).await? {
            return Ok(());
        }
        match name.as_str() {
            "CAPABILITY" => {
                let words = self.capabilities();
                self.answer(&[&format!("* CAPABILITY {words}")], tag, "OK CAPABILITY completed.").await
            }
            "ID" => {
                let own = r#"* ID ("name" "Microsoft.Exchange.Imap4.Imap4Server" "version" "15.20")"#;
                self.answer(&[own], tag, "OK ID completed").await
            }
            "LOGOUT" => {
                let bye = "* BYE Microsoft Exchange Server IMAP4 server signing off.";
                self.answer(&[bye], tag, "OK LOGOUT completed.").await?;
                Err(End::Finished)
            }
            "NOOP" if self.session.is_none() => self.answer(&[], tag, "OK NOOP completed.").await,
            _ if self.session.is_some() => self.execute_in_session(command).await,
            "AUTHENTICATE" => self.authenticate(&command).await,
            "LOGIN" => {
                tokio::time::sleep(self.world.quirk(|quirks| quirks.mail.login_delay)).await;
                let text = format!("LOGIN with a password as {} refused", command.text(0));
                refuse(&self.world, Protocol::Imap, &text);
                self.answer(&[], tag, "NO LOGIN failed.").await
            }
            "STARTTLS" => self.answer(&[], tag, "BAD Command is not valid in this state.").await,
            _ => self.answer(&[], tag, "BAD Command received in Invalid state.").await,
        }
    }

    async fn execute_in_session(&mut self, command: Command) -> Result<(), End> {
        let tag = &command.tag;
        let folders = self.session.as_ref().and_then(|session| session.folders.clone());
        let Some(folders) = folders else {
            self.answer(&[], tag, "BAD User is authenticated but not connected.").await?;
            self.send("* BYE Connection closed. 14").await?;
            return Err(End::Finished);
        };
        match command.name.as_str() {
            "AUTHENTICATE" | "LOGIN" | "STARTTLS" => {
                self.answer(&[], tag, "BAD Command received in Invalid state.").await
            }
            "NAMESPACE" => self.answer(&[r#"* NAMESPACE (("" "/")) NIL NIL"#], tag, "OK NAMESPACE completed.").await,
            "ENABLE" if self.world.quirk(|quirks| quirks.mail.rev2) => {
                self.has_rev2 = command.text(0).eq_ignore_ascii_case("IMAP4rev2");
                self.answer(&["* ENABLED IMAP4rev2"], tag, "OK ENABLE completed.").await
            }
            _ => self.execute_on_mailbox(folders, command).await,
        }
    }

    /// Executes AUTHENTICATE XOAUTH2, with and without an initial response (RFC 4959).
    async fn authenticate(&mut self, command: &Command) -> Result<(), End> {
        let tag = &command.tag;
        if !command.text(0).eq_ignore_ascii_case("XOAUTH2") {
            refuse(&self.world, Protocol::Imap, &format!("AUTHENTICATE {} refused", command.text(0)));
            return self.answer(&[], tag, "NO AUTHENTICATE failed.").await;
        }
        let response = match command.words.get(1) {
            Some(initial) => initial.text(),
            None => {
                let is_spaced = self.world.quirk(|quirks| quirks.mail.continuation_space);
                self.send(if is_spaced { "+ " } else { "+" }).await?;
                String::from_utf8_lossy(&self.connection.line().await?).into_owned()
            }
        };
        if response == "*" {
            return self.answer(&[], tag, "BAD AUTHENTICATE cancelled.").await;
        }
        let Ok(response) = STANDARD.decode(response.as_bytes()) else {
            return self.answer(&[], tag, "BAD Command Argument Error. 11").await;
        };
        tokio::time::sleep(self.world.quirk(|quirks| quirks.mail.login_delay)).await;
        if self.inject_fault(tag, Moment::Login).await? {
            return Ok(());
        }
        match log_in(&self.world, Protocol::Imap, self.connection.facts(), &response) {
            LoginResult::Excessive(excess) => self.refuse_excess(tag, excess).await,
            LoginResult::Accepted(session) => {
                self.connection.logged_in(session.token_ends);
                self.session = Some(session);
                self.answer(&[], tag, "OK AUTHENTICATE completed.").await
            }
            LoginResult::Refused { user } => {
                let mail = self.world.quirk(|quirks| quirks.mail.clone());
                if mail.json_challenge {
                    self.send(format!("+ {}", STANDARD.encode(CHALLENGE))).await?;
                    // The client has to say something, and nothing is right.
                    self.connection.line().await?;
                }
                if mail.long_diagnostics {
                    let status = format!("NO {}", diagnostics(&user));
                    return self.answer(&[], tag, &status).await;
                }
                self.answer(&[], tag, "NO AUTHENTICATE failed.").await
            }
        }
    }

    /// Answers with the fault that the quirks want at this moment; returns whether it did.
    async fn inject_fault(&mut self, tag: &str, moment: Moment) -> Result<bool, End> {
        let (throttle, unavailable) = self.world.quirk(|quirks| (quirks.mail.throttle, quirks.mail.unavailable));
        if let Some((_, milliseconds)) = throttle.filter(|(when, _)| *when == moment) {
            self.refuse_excess(tag, Excess::Throttled(milliseconds)).await?;
            return Ok(true);
        }
        if unavailable == Some(moment) {
            self.refuse_excess(tag, Excess::Unavailable).await?;
            return Ok(true);
        }
        Ok(false)
    }

    async fn refuse_excess(&mut self, tag: &str, excess: Excess) -> Result<(), End> {
        match excess {
            Excess::Throttled(milliseconds) => {
                let status = format!("BAD Request is throttled. Suggested Backoff Time: {milliseconds} milliseconds");
                self.answer(&[], tag, &status).await
            }
            Excess::Unavailable => self.answer(&[], tag, "NO Server Unavailable. 15").await,
            Excess::Reset | Excess::NotConnected => Err(End::Reset),
        }
    }

    fn capabilities(&self) -> String {
        let mail = self.world.quirk(|quirks| quirks.mail.clone());
        let words = match (self.session.is_some(), mail.login_disabled, mail.rev2) {
            (false, false, _) => BEFORE_LOGIN,
            (false, true, _) => BEFORE_LOGIN_2026,
            (true, _, false) => AFTER_LOGIN,
            (true, _, true) => AFTER_LOGIN_REV2,
        };
        if mail.unselect { words.to_owned() } else { words.replace(" UNSELECT", "") }
    }

    async fn send(&mut self, line: impl AsRef<str>) -> Result<(), End> {
        self.connection.send(format!("{}\r\n", line.as_ref())).await
    }

    /// Sends untagged lines, and the tagged one behind them.
    async fn answer(&mut self, untagged: &[&str], tag: &str, status: &str) -> Result<(), End> {
        let lines: String = untagged.iter().map(|line| format!("{line}\r\n")).collect();
        self.connection.send(format!("{lines}{tag} {status}\r\n")).await
    }
}

/// The text in brackets of the greeting: the server's name in UTF-16, in base64.
pub(super) fn server_name() -> String {
    let name = "SI2PR01CA0042.apcprd01.prod.exchangelabs.com";
    STANDARD.encode(name.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>())
}

/// The long diagnostics of a refused login.
pub(super) fn diagnostics(user: &str) -> String {
    format!(
        "AUTHENTICATE failed. Error=\"AuthFailed:LogonDenied-MailboxId: NULL-OAuthLog:AuthExc_UserNotFound-\
         User:{user}-Proxy:SI2PR01MB3811.apcprd01.prod.exchangelabs.com:9933:SSL\""
    )
}

/// The challenge of a refused XOAUTH2, as Google and RFC 7628 §3.2.2 have it.
pub(super) const CHALLENGE: &str = r#"{"status":"400","schemes":"Bearer","scope":"https://outlook.office.com/"}"#;
const BEFORE_LOGIN: &str = "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT CHILDREN IDLE \
                            NAMESPACE LITERAL+";
const BEFORE_LOGIN_2026: &str = "IMAP4 IMAP4rev1 AUTH=XOAUTH2 LOGINDISABLED SASL-IR UIDPLUS MOVE ID UNSELECT CHILDREN \
                                 IDLE NAMESPACE LITERAL+";
const AFTER_LOGIN: &str = "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT CLIENTACCESSRULES \
                           CLIENTNETWORKPRESENCELOCATION BACKENDAUTHENTICATE CHILDREN IDLE NAMESPACE LITERAL+";
const AFTER_LOGIN_REV2: &str = "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT ENABLE \
                                IMAP4rev2 CLIENTACCESSRULES CLIENTNETWORKPRESENCELOCATION BACKENDAUTHENTICATE \
                                BACKENDAUTHENTICATE-IR CHILDREN IDLE NAMESPACE LITERAL+";
const LONGEST_LITERAL: usize = 64 * 1024 * 1024;
