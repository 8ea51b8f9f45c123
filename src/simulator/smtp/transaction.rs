//! A mail transaction of the simulator runs from MAIL to the end of the data (RFC 5321 §3.3); then the message is
//! judged, delivered and kept.

use std::sync::Arc;

use super::command::Path;
use super::data::{Data, DataReader};
use super::judgement::{Judgement, TOO_BIG, judge};
use super::{Envelope, HOST, SmtpService, next_fault};
use crate::simulator::connection::End;
use crate::simulator::quirks::smtp::SmtpMoment;
use crate::simulator::submission::{Defect, RepeatedError, Submission, defects_of_octets};
use crate::simulator::world::World;

impl SmtpService<'_> {
    /// Executes MAIL (RFC 5321 §4.1.1.2). Any sender is accepted; it is judged at the end of the data.
    pub(super) async fn mail(&mut self, argument: &str) -> Result<(), End> {
        if self.hello.is_none() {
            return self.send("503 5.5.2 Send hello first").await;
        }
        if self.sender.is_none() {
            return self.send("530 5.7.57 Client not authenticated to send mail.").await;
        }
        if self.envelope.is_some() {
            return self.send("503 5.5.2 Sender already specified").await;
        }
        let Some(path) = Path::parse(argument, "FROM:") else {
            return self.send("501 5.5.4 Invalid arguments").await;
        };
        let offered: Vec<&str> = [("SIZE", "SIZE"), ("BODY", "8BITMIME"), ("RET", "DSN"), ("ENVID", "DSN")]
            .into_iter()
            .chain([("SMTPUTF8", "SMTPUTF8"), ("AUTH", "AUTH")])
            .filter(|(_, extension)| !self.is_left_out(extension))
            .map(|(parameter, _)| parameter)
            .collect();
        if path.unknown(&offered).is_some() {
            return self.send("501 5.5.4 Invalid arguments").await;
        }
        let most = self.world.quirk(|quirks| quirks.smtp.size.min(quirks.smtp.max_send_size));
        if path.parameter("SIZE").is_some_and(|size| size.parse::<usize>().is_ok_and(|size| size > most)) {
            return self.send(TOO_BIG).await;
        }
        if self.play_fault(SmtpMoment::Mail).await? {
            return Ok(());
        }
        let Path { address, parameters } = path;
        self.envelope = Some(Envelope { address, parameters, recipients: Vec::new() });
        self.send("250 2.1.0 Sender OK").await
    }

    /// Executes RCPT (RFC 5321 §4.1.1.3).
    pub(super) async fn recipient(&mut self, argument: &str) -> Result<(), End> {
        let (most, errors) =
            self.world.quirk(|quirks| (quirks.smtp.recipients_per_message, quirks.smtp.errors_before_throttle));
        let Some(envelope) = &self.envelope else { return self.send("503 5.5.2 Need mail command").await };
        let count = envelope.recipients.len();
        let has_dsn = !self.is_left_out("DSN");
        let path = Path::parse(argument, "TO:").filter(|path| !path.address.is_empty());
        let Some(path) = path else {
            self.note_error(RepeatedError::InvalidRecipients, errors);
            return self.send("501 5.1.3 Invalid address").await;
        };
        if path.unknown(if has_dsn { &["NOTIFY", "ORCPT"] } else { &[] }).is_some() {
            return self.send("501 5.5.4 Invalid arguments").await;
        }
        if count >= most {
            self.note_error(RepeatedError::TooManyRecipients, errors);
            return self.send("452 4.5.3 Too many recipients").await;
        }
        if self.play_fault(SmtpMoment::Recipient).await? {
            return Ok(());
        }
        if let Some(envelope) = &mut self.envelope {
            envelope.recipients.push(path.address);
        }
        self.send("250 2.1.5 Recipient OK").await
    }

    fn note_error(&self, error: RepeatedError, most: Option<u32>) {
        if let Some(sender) = &self.sender {
            self.world.submissions.ledger.lock().note_error(&sender.mailbox, error, most);
        }
    }

    /// Executes DATA (RFC 5321 §4.1.1.4).
    pub(super) async fn data(&mut self) -> Result<(), End> {
        if self.envelope.as_ref().is_none_or(|envelope| envelope.recipients.is_empty()) {
            let wanted = if self.envelope.is_none() { "mail" } else { "rcpt" };
            return self.send(format!("503 5.5.2 Need {wanted} command")).await;
        }
        if self.play_fault(SmtpMoment::Data).await? {
            return Ok(());
        }
        self.send("354 Start mail input; end with <CRLF>.<CRLF>").await?;
        let (ends, most) = self.world.quirk(|quirks| (quirks.smtp.also_ends_data.clone(), quirks.smtp.kept_octets));
        let mut reader = DataReader::new(ends, most);
        let data = loop {
            if let Some(data) = reader.push(&self.connection.take_unread()) {
                break data;
            }
            if let Err(end) = self.connection.fill().await {
                let length = reader.length();
                self.world.count(|counts| counts.submissions.cut += 1);
                self.world.log_event(format!("SMTP: the connection ended after {length} octets of a message"));
                return Err(end);
            }
        };
        self.connection.put_back(&data.rest);
        self.world.submissions.add_command(self.number, b"(message)");
        self.finish(data).await
    }

    /// Judges a message, delivers it or not, and responds.
    async fn finish(&mut self, data: Data) -> Result<(), End> {
        let (Some(sender), Some(envelope)) = (self.sender.take(), self.envelope.take()) else { return Ok(()) };
        let fault = next_fault(&self.world, SmtpMoment::EndOfData);
        let final_delay = self.world.quirk(|quirks| quirks.smtp.final_delay);
        let judgement = match &fault {
            Some(fault) if !fault.is_kept => Judgement::Refused(fault.reply.clone().unwrap_or_default()),
            _ => judge(&self.world, &sender, &envelope, &data),
        };
        let mut submission = Submission {
            connection: self.number,
            mailbox: sender.mailbox.clone(),
            principal: sender.principal.clone(),
            hello: self.hello.clone().unwrap_or_default(),
            sender: envelope.address,
            parameters: envelope.parameters,
            recipients: envelope.recipients,
            data: Arc::new(data.octets),
            length: data.length,
            ended_by: data.ended_by,
            reply: String::new(),
            is_delivered: false,
        };
        self.sender = Some(sender);
        let delay = match judgement {
            Judgement::Accepted { delay } => {
                let id = self.world.random_text();
                submission.reply = format!("250 2.0.0 OK <{}@{HOST}> [Hostname={HOST}]", id.get(..16).unwrap_or(&id));
                submission.is_delivered = true;
                final_delay + delay
            }
            Judgement::Refused(reply) => {
                submission.reply = reply;
                final_delay
            }
        };
        if let Some(fault) = &fault {
            submission.reply = fault.reply.clone().unwrap_or_default();
        }
        let reply = submission.reply.clone();
        deliver(&self.world, submission);
        tokio::time::sleep(delay).await;
        match fault {
            Some(fault) => self.play(&fault).await,
            None => self.send(reply).await,
        }
    }
}

/// Delivers an accepted message to mailboxes of the tenant, and keeps it for tests. A message with a bare LF comes back.
fn deliver(world: &World, submission: Submission) {
    let (from, length) = (crate::text::excerpt(submission.sender.as_bytes()), submission.length);
    let to = match submission.recipients.as_slice() {
        [one] => crate::text::excerpt(one.as_bytes()),
        all => format!("{} recipients", all.len()),
    };
    if submission.is_delivered {
        let message = submission.message();
        let has_bare_lf = defects_of_octets(&submission.data).iter().any(|one| matches!(one, Defect::BareLf(_)));
        let sender = world.mailbox(&submission.mailbox);
        if has_bare_lf && world.quirk(|quirks| quirks.smtp.bounces_bare_lf) {
            let report = BARE_LF_REPORT.replace('\n', "\r\n").replace("MAILBOX", &submission.mailbox);
            sender.as_ref().map(|mailbox| mailbox.deliver(report.into_bytes(), Vec::new()));
        } else {
            for mailbox in submission.recipients.iter().filter_map(|recipient| world.mailbox(recipient)) {
                mailbox.deliver(message.clone(), Vec::new());
            }
        }
        let folder = sender.as_ref().and_then(|mailbox| mailbox.sent());
        folder.map(|folder| folder.deliver(message, vec!["\\Seen".to_owned()]));
        world.count(|counts| counts.submissions.delivered += 1);
        world.log_event(format!("SMTP: message from {from} to {to} delivered, {length} octets"));
    } else {
        world.count(|counts| counts.submissions.refused += 1);
        let reply = crate::text::excerpt(submission.reply.as_bytes());
        world.log_event(format!("SMTP: message from {from} to {to} refused: {reply}"));
    }
    world.submissions.add(submission);
}

const BARE_LF_REPORT: &str = "\
From: Microsoft Outlook <postmaster@contoso.example>
To: <MAILBOX>
Subject: Undeliverable
Content-Type: text/plain; charset=us-ascii

550 5.6.11 SMTPSEND.BareLinefeedsAreIllegal; message contains bare linefeeds, which cannot be sent via DATA
";
