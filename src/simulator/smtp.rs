//! The simulator's submission service behaves like Exchange's (RFC 6409) behind STARTTLS: only XOAUTH2 opens a mailbox,
//! and a message is judged at the end of its data.

mod command;
mod data;
mod judgement;
mod login;
mod transaction;

use std::sync::Arc;
use std::time::SystemTime;

use super::connection::{Connection, End};
use super::quirks::smtp::{SmtpFault, SmtpMoment};
use super::world::World;
use crate::transport::downstream::Acceptor;
use command::line_end;
use login::Sender;

/// Serves SMTP until the connection has to end; returns why, and the last line.
pub(super) async fn serve(world: Arc<World>, connection: &mut Connection, acceptor: &Acceptor) -> (End, String) {
    let number = world.submissions.new_connection();
    let mut smtp = SmtpService { world, connection, acceptor, number, hello: None, sender: None, envelope: None };
    let end = match smtp.run().await {
        Ok(()) => End::Finished,
        Err(end) => end,
    };
    let farewell = match end {
        End::Gone | End::Finished | End::Reset | End::Expired => "",
        End::Closed => "421 4.4.1 Connection timed out. Total session duration: 00:10:01.8900000\r\n",
        End::TooLong => "500 5.3.3 Line too long\r\n",
    };
    smtp.world.submissions.add_reply(number, farewell);
    (end, farewell.to_owned())
}

struct SmtpService<'a> {
    world: Arc<World>,
    connection: &'a mut Connection,
    acceptor: &'a Acceptor,
    /// The connection's number.
    number: u64,
    /// The name in EHLO or HELO.
    hello: Option<String>,
    sender: Option<Sender>,
    envelope: Option<Envelope>,
}

/// The sender and the recipients of a message.
struct Envelope {
    address: String,
    parameters: Vec<String>,
    recipients: Vec<String>,
}

impl SmtpService<'_> {
    async fn run(&mut self) -> Result<(), End> {
        tokio::time::sleep(self.world.quirk(|quirks| quirks.mail.greeting_delay)).await;
        if !self.play_fault(SmtpMoment::Greeting).await? {
            let date = greeting_time(SystemTime::now());
            let has_number = self.world.quirk(|quirks| quirks.smtp.greeting_number);
            let number = if has_number { format!(" [{NUMBER}]") } else { String::new() };
            self.send(format!("220 {HOST} Microsoft ESMTP MAIL Service ready at {date}{number}")).await?;
        }
        loop {
            let line = self.line().await?;
            let text = String::from_utf8_lossy(&line).into_owned();
            let (verb, argument) = text.split_once(' ').unwrap_or((&text, ""));
            let verb = verb.to_ascii_uppercase();
            let has_secret = verb == "AUTH" && argument.trim().contains(' ');
            let kept =
                if has_secret { argument.split(' ').next().map(|name| format!("AUTH {name} ****")) } else { None };
            self.world.submissions.add_command(self.number, kept.as_deref().map_or(line.as_slice(), str::as_bytes));
            self.execute(&verb, argument.trim()).await?;
        }
    }

    async fn execute(&mut self, verb: &str, argument: &str) -> Result<(), End> {
        match verb {
            "EHLO" | "HELO" => self.hello(verb, argument).await,
            "STARTTLS" => self.starttls(argument).await,
            "AUTH" => self.auth(argument).await,
            "MAIL" => self.mail(argument).await,
            "RCPT" => self.recipient(argument).await,
            "DATA" => self.data().await,
            "RSET" => {
                self.envelope = None;
                self.answer(SmtpMoment::Reset, "250 2.0.0 Resetting").await
            }
            "NOOP" => self.answer(SmtpMoment::Noop, "250 2.0.0 OK").await,
            "VRFY" => self.send("252 2.1.5 Cannot VRFY user").await,
            "HELP" => self.send("214 HELO EHLO STARTTLS AUTH MAIL RCPT DATA RSET NOOP VRFY HELP QUIT").await,
            "QUIT" => {
                self.answer(SmtpMoment::Quit, "221 2.0.0 Service closing transmission channel").await?;
                Err(End::Finished)
            }
            _ => {
                let shown = crate::text::excerpt(verb.as_bytes());
                self.world.count(|counts| counts.submissions.unknown_commands += 1);
                self.world.log_event(format!("SMTP: unknown command {shown}"));
                tokio::time::sleep(self.world.quirk(|quirks| quirks.smtp.unknown_delay)).await;
                self.send(format!("500 5.3.3 Unrecognized command '{shown}'")).await
            }
        }
    }

    async fn hello(&mut self, verb: &str, name: &str) -> Result<(), End> {
        if self.play_fault(SmtpMoment::Hello).await? {
            return Ok(());
        }
        self.hello = Some(name.to_owned());
        self.envelope = None;
        let greeting = format!("{HOST} Hello [127.0.0.1]");
        if verb == "HELO" {
            return self.send(format!("250 {greeting}")).await;
        }
        let mut lines = vec![greeting];
        lines.extend(self.extensions());
        let last = lines.pop().unwrap_or_default();
        let lines: String = lines.iter().map(|line| format!("250-{line}\r\n")).collect();
        self.send(format!("{lines}250 {last}")).await
    }

    /// The extensions, as Exchange lists them in clear and under TLS.
    fn extensions(&self) -> Vec<String> {
        let quirks = self.world.quirk(|quirks| quirks.smtp.clone());
        let middle = match (self.connection.is_secure(), quirks.plain) {
            (true, false) => "AUTH LOGIN XOAUTH2",
            (true, true) => "AUTH LOGIN PLAIN XOAUTH2",
            (false, _) => "STARTTLS",
        };
        let size = format!("SIZE {}", quirks.size);
        let all = [&size, "PIPELINING", "DSN", "ENHANCEDSTATUSCODES", middle, "8BITMIME", "BINARYMIME", "CHUNKING"];
        let is_offered = |name: &str| match name {
            "STARTTLS" => quirks.starttls,
            name => !self.is_left_out(name),
        };
        let all = all.into_iter().chain(["SMTPUTF8"]).filter(|line| is_offered(line)).map(str::to_owned);
        all.chain(quirks.more_extensions).collect()
    }

    /// Returns whether an extension is left out, by the first word of its line.
    fn is_left_out(&self, line: &str) -> bool {
        let word = line.split([' ', '=']).next().unwrap_or_default();
        self.world.quirk(|quirks| quirks.smtp.left_out.iter().any(|name| name.eq_ignore_ascii_case(word)))
    }

    /// Executes STARTTLS (RFC 3207). Octets that the client has sent behind it in clear are dropped.
    async fn starttls(&mut self, argument: &str) -> Result<(), End> {
        if self.play_fault(SmtpMoment::StartTls).await? {
            return Ok(());
        }
        let (is_offered, injection) =
            self.world.quirk(|quirks| (quirks.smtp.starttls, quirks.smtp.starttls_injection.clone()));
        if !argument.is_empty() {
            return self.send("501 5.5.4 Invalid arguments").await;
        }
        if self.connection.is_secure() || !is_offered {
            return self.send("503 5.5.2 STARTTLS is not available").await;
        }
        let injection = injection.unwrap_or_default();
        let injected = self.connection.take_unread().len();
        if injected > 0 {
            self.world.count(|counts| counts.submissions.injected += injected as u64);
            self.world.log_event(format!("SMTP: {injected} octets in clear behind STARTTLS dropped"));
        }
        self.send_raw(format!("220 2.0.0 SMTP server ready\r\n{injection}")).await?;
        if let Err(why) = self.connection.secure(self.acceptor).await {
            self.world.log_event(format!("SMTP: TLS handshake failed: {why}"));
            return Err(End::Gone);
        }
        (self.hello, self.sender, self.envelope) = (None, None, None);
        Ok(())
    }

    /// Sends a response, or plays the fault of this moment.
    async fn answer(&mut self, moment: SmtpMoment, reply: &str) -> Result<(), End> {
        if self.play_fault(moment).await? { Ok(()) } else { self.send(reply).await }
    }

    /// Plays the fault of this moment, if there is one; returns whether there was.
    async fn play_fault(&mut self, moment: SmtpMoment) -> Result<bool, End> {
        let Some(fault) = next_fault(&self.world, moment) else { return Ok(false) };
        self.play(&fault).await?;
        Ok(true)
    }

    async fn play(&mut self, fault: &SmtpFault) -> Result<(), End> {
        let shown = fault.reply.as_deref().unwrap_or("no response");
        self.world.log_event(format!("SMTP: {shown}, as asked for at {:?}", fault.moment));
        if let Some(reply) = &fault.reply {
            self.send(reply).await?;
        }
        self.connection.end_as(fault.then).await
    }

    /// The next command line, without its end.
    async fn line(&mut self) -> Result<Vec<u8>, End> {
        let world = &self.world;
        self.connection.line_by(|octets| line_end(octets, world.quirk(|quirks| quirks.smtp.command_ends))).await
    }

    async fn send(&mut self, reply: impl AsRef<str>) -> Result<(), End> {
        self.send_raw(format!("{}\r\n", reply.as_ref())).await
    }

    async fn send_raw(&mut self, reply: String) -> Result<(), End> {
        self.world.submissions.add_reply(self.number, &reply);
        self.connection.send(reply).await
    }
}

/// The next fault of this moment, which happens one time less from now on.
fn next_fault(world: &World, moment: SmtpMoment) -> Option<SmtpFault> {
    let mut found = None;
    world.quirks.send_if_modified(|quirks| {
        let faults = &mut quirks.smtp.faults;
        let Some(fault) = faults.iter_mut().find(|fault| fault.moment == moment) else { return false };
        found = Some(fault.clone());
        if let Some(times) = &mut fault.times {
            *times = times.saturating_sub(1);
        }
        faults.retain(|fault| fault.times != Some(0));
        true
    });
    found
}

/// The time as Exchange greets with it, as `Fri, 27 Nov 2026 10:00:00 +0000`.
fn greeting_time(time: SystemTime) -> String {
    httpdate::fmt_http_date(time).replace("GMT", "+0000")
}

/// The host that the simulator greets as.
const HOST: &str = "FR4P281CA0012.outlook.office365.com";
/// The machine behind that host, as it stands in refusals.
const INNER_HOST: &str = "FR4P281CA0012.DEUP281.PROD.OUTLOOK.COM";
const NUMBER: &str = "08DDD30471EE4ED5";
