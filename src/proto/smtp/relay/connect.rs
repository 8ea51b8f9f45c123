//! The relay goes on without its server, and with another one: the login there, and the envelope once more.

use super::keep::may_pass;
use super::transaction::Transaction;
use super::{LOST, Pending, Relay, Stage, endless, unexpected};
use crate::failure::{Refuser, Reply};
use crate::proto::dialect::{Client as _, Progress};
use crate::proto::line::Line;
use crate::proto::smtp::capability;
use crate::proto::smtp::envelope::{self, Stopped};
use crate::proto::smtp::not_authenticated::{DONE, HELO};
use crate::proto::smtp::refusal::{self, Meaning, Refused};
use crate::proto::smtp::reply::{self, ReplyLine};
use crate::proto::{Action, Failure, KeepReason, Kind, Outbox, RESPONSE_LINE, Step};
use crate::text::excerpt;

impl Relay {
    /// Returns whether the server is there and has nothing of a message, so that another one serves as well.
    pub(super) fn is_between_messages(&self) -> bool {
        self.has_server && self.transaction.is_none() && self.rules.can_reconnect
    }

    /// Goes on without the server, where that can be. Returns whether it can.
    pub(super) fn server_lost(&mut self, out: &mut Outbox) -> bool {
        if self.keep_without_server() {
            return true;
        }
        let pending = match self.stage {
            _ if !self.rules.can_reconnect => return false,
            Stage::Ready | Stage::Skipping => {
                self.has_server = false;
                return true;
            }
            Stage::Pending(pending) => pending,
            Stage::Replaying(pending, _) => pending,
            // The content was lost with the server, or the session ends anyway.
            _ => return false,
        };
        self.has_server = false;
        self.held = None;
        match pending {
            Pending::Mail | Pending::Rcpt | Pending::Data { .. } => self.want_server(pending, out),
            Pending::Noop | Pending::Rset | Pending::Greeting { .. } => self.answer(pending, out),
            Pending::Message | Pending::Quit => return false,
        }
        true
    }

    /// Asks for another server for this command; or tells the device that the message has failed, if its envelope
    /// cannot be sent again or was sent again before.
    fn want_server(&mut self, pending: Pending, out: &mut Outbox) {
        self.replaced = None;
        let is_kept = self.transaction.as_ref().is_some_and(|transaction| transaction.is_whole());
        if self.is_second_server || !is_kept {
            return match self.may_keep() {
                true => self.go_local(pending, KeepReason::ServerLost, out),
                false => self.give_up(pending, LOST, out),
            };
        }
        self.is_second_server = true;
        self.stage = Stage::Wanting(pending);
    }

    /// Answers a command of a message whose server is away.
    pub(super) fn without_server(&mut self, pending: Pending, out: &mut Outbox) -> Option<Action> {
        out.upstream.clear();
        // Nobody was asked yet. Behind the reply, a line that is no command still ends the connection.
        let answered_at_once = if matches!(pending, Pending::Data { .. }) { DATA } else { pending };
        match pending {
            // A device may try again at once, and so the server of before does not count.
            Pending::Mail => self.stage = Stage::Connecting(pending, None),
            Pending::Rcpt | Pending::Data { .. } if self.transaction.is_none() => {
                self.give_up(answered_at_once, "503 5.5.1 MAIL comes first", out);
            }
            Pending::Data { .. } if self.recipients() == 0 => {
                let failure = self.without_recipients();
                self.give_up(DATA, "503 5.5.1 RCPT comes first", out);
                return failure.map(Action::Notice);
            }
            Pending::Rcpt | Pending::Data { .. } => {
                self.want_server(pending, out);
                if matches!(self.stage, Stage::Wanting(_)) {
                    self.stage = Stage::Connecting(pending, None);
                }
            }
            Pending::Quit => {
                reply::line("221 2.0.0 closing connection", &mut out.downstream);
                self.stage = Stage::Over;
                return Some(Action::Close);
            }
            Pending::Message | Pending::Rset | Pending::Greeting { .. } | Pending::Noop => self.answer(pending, out),
        }
        matches!(self.stage, Stage::Connecting(..)).then_some(Action::Connect)
    }

    /// Answers a command that needs no server.
    fn answer(&mut self, pending: Pending, out: &mut Outbox) {
        self.stage = Stage::Ready;
        match pending {
            Pending::Greeting { is_extended: true } => capability::announce(&self.offer, true, &mut out.downstream),
            Pending::Greeting { is_extended: false } => reply::line(HELO, &mut out.downstream),
            _ => reply::line(DONE, &mut out.downstream),
        }
        if pending != Pending::Noop {
            self.transaction = None;
        }
    }

    /// Ends the present message with a reply to this command.
    pub(super) fn give_up(&mut self, pending: Pending, answer: &str, out: &mut Outbox) {
        self.transaction = None;
        self.is_data_refused = matches!(pending, Pending::Data { .. });
        self.stage = match pending {
            // The octets behind DATA are a message, and would be read as commands.
            Pending::Data { is_hasty: true } => Stage::SentAhead,
            _ => Stage::Ready,
        };
        if !matches!(self.stage, Stage::SentAhead) {
            reply::line(answer, &mut out.downstream);
        }
    }

    /// Tells the device that there is no server for its command.
    pub(super) fn not_connected(&mut self, failure: &Failure, out: &mut Outbox) {
        let (Stage::Connecting(pending, _) | Stage::Wanting(pending)) = self.stage else { return };
        if self.may_keep() && may_pass(failure) {
            return self.go_local(pending, KeepReason::NoServer(failure.to_string()), out);
        }
        let answer = if pending == Pending::Mail { refusal(failure.kind.reply()) } else { LOST };
        self.give_up(pending, answer, out);
    }

    /// Reads a line of the server during the login there.
    pub(super) fn logging_in(&mut self, input: &[u8], out: &mut Outbox) -> Step {
        let Stage::Connecting(pending, client) = &mut self.stage else { return Step::Read };
        let (pending, Some(mut logging_in)) = (*pending, client.take()) else { return Step::Read };
        let progress = match Line::split(input, RESPONSE_LINE) {
            Line::Incomplete => (Step::Read, true),
            Line::TooLong => (Step::Act(0, Action::LoginFailed(endless())), false),
            Line::Complete { text, len } => match logging_in.receive(text, &mut out.upstream) {
                Progress::Wait => (Step::Consume(len), true),
                Progress::StartTls => (Step::Act(len, Action::StartTls), true),
                Progress::Failed(failure) => (Step::Act(0, Action::LoginFailed(failure)), false),
                Progress::LoggedIn => {
                    let (server, rules) = logging_in.into_parts();
                    self.server = server;
                    self.has_server = true;
                    // A message keeps the rules by which its envelope was judged.
                    if pending == Pending::Mail {
                        let reserved = rules.quota.begin();
                        self.rules = rules;
                        if let Some(transaction) = &mut self.transaction {
                            transaction.reserved = reserved;
                        }
                    }
                    self.resume(pending, out);
                    return Step::Act(len, Action::LoggedIn);
                }
            },
        };
        let (step, goes_on) = progress;
        if goes_on {
            *client = Some(logging_in);
        } else {
            out.upstream.clear();
        }
        step
    }

    /// Sends the command for which the server was wanted, behind the envelope so far.
    fn resume(&mut self, pending: Pending, out: &mut Outbox) {
        let largest = self.offer.submission.max_message_size;
        let mail = self.transaction.as_ref().map_or(&b""[..], |transaction| transaction.mail());
        match envelope::mail(mail, &self.rules, self.server, largest, &mut out.upstream) {
            Ok(()) if pending == Pending::Mail => self.stage = Stage::Pending(pending),
            Ok(()) => self.stage = Stage::Replaying(pending, 0),
            // A reload has changed the rules.
            Err(Stopped { reply, .. }) => self.give_up(pending, reply, out),
        }
    }

    /// Reads a line of the server's reply to a command that it gets because another server was lost.
    pub(super) fn replayed(&mut self, input: &[u8], out: &mut Outbox) -> Result<Step, Failure> {
        let (line, len) = match Line::split(input, RESPONSE_LINE) {
            Line::Incomplete => return Ok(Step::Read),
            Line::TooLong => return Err(endless()),
            Line::Complete { text, len } => (text, len),
        };
        let reply = ReplyLine::read(line).filter(|reply| reply.code / 100 != 3).ok_or_else(|| unexpected(line))?;
        let Stage::Replaying(pending, at) = self.stage else { return Ok(Step::Read) };
        if !reply.is_last {
            return Ok(Step::Consume(len));
        }
        if reply.is_transient() && self.may_keep() {
            let reason = KeepReason::Refused(format!("{} {}", reply.code, excerpt(reply.text)), None);
            self.has_server = false;
            self.go_local(pending, reason, out);
            return Ok(Step::Act(len, Action::LeaveServer));
        }
        if !reply.is_positive() {
            let Meaning { failure, .. } = refusal::of(Refused::Message, &reply);
            let detail =
                format!("another server was asked, and did not take what the first one took: {}", failure.detail);
            let message_refused_by = Some(Refuser::MailServer);
            let failure = Failure { message_refused_by, ..Failure::new(Kind::MessageDeferred, detail) };
            self.has_server = false;
            self.give_up(pending, LOST, out);
            return Ok(Step::Act(len, Action::DropServer(failure)));
        }
        self.resume_behind(pending, at, out);
        Ok(Step::Consume(len))
    }

    /// Sends the next recipient that the lost server had taken, or the command for which the server was wanted.
    fn resume_behind(&mut self, pending: Pending, at: usize, out: &mut Outbox) {
        let Some(transaction) = &self.transaction else { return self.give_up(pending, LOST, out) };
        if let Some(line) = transaction.taken_at(at) {
            out.upstream.extend_from_slice(line);
            self.stage = Stage::Replaying(pending, at + line.len());
            return;
        }
        out.upstream.extend_from_slice(if pending == Pending::Rcpt { transaction.present() } else { b"DATA\r\n" });
        self.stage = Stage::Pending(pending);
    }

    /// Begins the envelope of another message, which is to replace the present one.
    pub(super) fn begin(&mut self, arguments: &[u8]) {
        self.replaced = self.transaction.replace(Box::new(Transaction::new(arguments, self.rules.quota.begin())));
        self.is_second_server = false;
    }
}

/// DATA that is answered at once. The octets that came with it say nothing: they depend on how the device's are cut.
const DATA: Pending = Pending::Data { is_hasty: false };

/// Returns the reply to MAIL where no server was reached for it, or none has let the mailbox in.
fn refusal(reply: Reply) -> &'static str {
    match reply {
        Reply::BadCredentials | Reply::NotAuthorized => "550 5.7.1 no right to send from this mailbox",
        Reply::ContactAdmin => "550 5.7.0 mail server setup needs attention",
        Reply::Unavailable | Reply::Observed | Reply::NotVerified => {
            "451 4.4.1 mail server not reachable, try again later"
        }
        Reply::InUse => "451 4.3.2 mailbox is in use, try again later",
    }
}
