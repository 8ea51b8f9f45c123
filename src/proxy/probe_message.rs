//! A probe message goes the way of a device's mail, from a pretend device that is logged in already.

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream};

use super::connection::driver::{Driver, Event};
use crate::failure::{Failure, Kind, Side};
use crate::proto::Awaited;
use crate::text::excerpt;

/// The commands of a pretend device.
pub(super) struct ProbeMessage<'a> {
    mailbox: &'a str,
    recipient: Option<&'a str>,
}

impl<'a> ProbeMessage<'a> {
    /// A message from the mailbox to the recipient. Without one, the sender alone is given and taken back.
    pub(super) fn new(mailbox: &'a str, recipient: Option<&'a str>) -> Self {
        Self { mailbox, recipient }
    }

    /// Plays the device at the other end of the driver's stream. Returns the server's last answer.
    ///
    /// # Errors
    /// The server, or a rule of the account, refuses the sender, the recipient or the message.
    pub(super) async fn play<U>(
        &self,
        driver: &mut Driver<DuplexStream, U>,
        device: DuplexStream,
    ) -> Result<String, Failure>
    where
        U: AsyncRead + AsyncWrite + Unpin,
    {
        // The driver comes first: it knows what a refusal means, and the device knows the reply alone.
        tokio::select! {
            biased;
            ended = relay(driver) => ended,
            answer = self.device(device) => answer,
        }
    }

    async fn device(&self, device: DuplexStream) -> Result<String, Failure> {
        let mut device = Device(BufReader::new(device));
        // Logged in.
        device.reply().await?;
        device.ask(&format!("MAIL FROM:<{}>", self.mailbox)).await?;
        let Some(recipient) = self.recipient else { return device.ask("RSET").await };
        device.ask(&format!("RCPT TO:<{recipient}>")).await?;
        device.ask("DATA").await?;
        device.ask(&self.text(recipient)).await
    }

    /// The message with the end of its data, without the last line end.
    fn text(&self, recipient: &str) -> String {
        let mailbox = self.mailbox;
        format!(
            "From: packetboat <{mailbox}>\r\nTo: <{recipient}>\r\nSubject: Test message of packetboat\r\n\r\n\
             An administrator has sent this message with packetboat check --online --send.\r\n\
             Devices can send from {mailbox}.\r\n."
        )
    }
}

/// Relays until the server has taken or refused something, or is gone.
async fn relay<U>(driver: &mut Driver<DuplexStream, U>) -> Result<String, Failure>
where
    U: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let next = driver.next().await;
        let has_message = driver.session().awaited() == Some(Awaited::Answer);
        let event = next.map_err(|failure| if has_message { unanswered(&failure) } else { failure })?;
        match event {
            Event::Submitted(submitted) => return Ok(submitted.answer),
            Event::Notice(failure) => return Err(failure),
            Event::Waits | Event::HalfClosed => {}
            Event::Ended(Side::Upstream) if has_message => {
                return Err(unanswered(&Failure::new(Kind::UpstreamLost, "before it answered")));
            }
            Event::Ended(Side::Upstream) | Event::Connect | Event::ServerLeft => {
                return Err(Failure::new(Kind::UpstreamLost, "behind the login"));
            }
            _ => return Err(Failure::new(Kind::UpstreamProtocol, "an event that no message has")),
        }
    }
}

/// The failure of a server that has the message, and has not answered.
fn unanswered(cause: &Failure) -> Failure {
    Failure::new(Kind::OutcomeUnknown, format!("{cause}; look for the message in Sent Items before you send it again"))
}

struct Device(BufReader<DuplexStream>);

impl Device {
    async fn ask(&mut self, line: &str) -> Result<String, Failure> {
        let sent = self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).await;
        sent.map_err(|_| lost())?;
        self.reply().await
    }

    /// The last line of a reply.
    async fn reply(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.0.read_line(&mut line).await.map_err(|_| lost())?;
            if read == 0 {
                return Err(lost());
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        let line = line.trim_end();
        if line.starts_with(['2', '3']) {
            Ok(line.to_owned())
        } else {
            Err(Failure::new(Kind::MessageRefused, format!("the reply is \"{}\"", excerpt(line.as_bytes()))))
        }
    }
}

fn lost() -> Failure {
    Failure::new(Kind::UpstreamLost, "in the middle of a message")
}
