//! The sender of the spool: it logs in by a message's account, as a device's connection does, and submits the message.

use std::sync::Arc;

use tokio::io::duplex;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::backend::Directory;
use super::backend::mailbox::Mailbox;
use super::backend::sent_mail::SentMail;
use super::connection::alone::log_in;
use super::connection::driver::Driver;
use super::connection::network::{Network, Tcp};
use super::transaction::{Error, Outcome, Transaction};
use crate::config::Limits;
use crate::failure::{Failure, Kind, Reply};
use crate::proto::{self, AccessSettings, Terms, UpstreamLogin};
use crate::protocol::Protocol;
use crate::spool::{Answered, Attempt, Envelope, Hold, Outgoing, Submit};
use crate::token::AccessToken;
use crate::transport::Stream;

/// The accounts of one configuration.
pub(super) struct SpoolSender {
    directory: Option<Arc<Directory>>,
    sent_mail: SentMail,
    limits: Limits,
}

impl SpoolSender {
    pub(super) fn new(directory: Option<Arc<Directory>>, sent_mail: SentMail, limits: Limits) -> Self {
        Self { directory, sent_mail, limits }
    }

    /// The mailbox that a message belongs to.
    fn mailbox(&self, envelope: &Envelope) -> Result<Arc<Mailbox>, Hold> {
        let Envelope { account, mailbox, .. } = envelope;
        let directory = self.directory.as_ref();
        let found = directory.and_then(|directory| directory.mailboxes.of(account, Protocol::Smtp));
        let Some(found) = found else {
            let why = format!("the configuration has no account \"{account}\" that sends any more");
            return Err(Hold::NoAccount(why));
        };
        if found.account.mailbox.eq_ignore_ascii_case(mailbox) {
            return Ok(Arc::clone(found));
        }
        let why =
            format!("account \"{account}\" opens {} now, and the message is from {mailbox}", found.account.mailbox);
        Err(Hold::NoAccount(why))
    }

    /// Logs in. A token that the server refuses is tried once more, as for a device.
    async fn log_in(&self, mailbox: &Mailbox) -> Result<(Stream, Zeroizing<Vec<u8>>), Failure> {
        let token = mailbox.token().await?;
        let failure = match self.log_in_with(mailbox, &token).await {
            Ok(stream) => {
                mailbox.login_succeeded();
                return Ok(stream);
            }
            Err(failure) => failure,
        };
        let is_about_token = matches!(failure.kind, Kind::LoginRefused | Kind::TokenExpired);
        let other = if is_about_token { mailbox.token_instead_of(&token).await } else { None };
        let Some(other) = other else { return Err(mailbox.explain(failure)) };
        let stream = self.log_in_with(mailbox, &other).await.map_err(|failure| mailbox.explain(failure))?;
        mailbox.login_succeeded();
        Ok(stream)
    }

    async fn log_in_with(
        &self,
        mailbox: &Mailbox,
        token: &AccessToken,
    ) -> Result<(Stream, Zeroizing<Vec<u8>>), Failure> {
        let server = Tcp.dial(&mailbox.server).await?;
        let access = AccessSettings { probe: false, delete: false, parks: false, submission: mailbox.submission() };
        let terms = Terms::translated(Protocol::Smtp, access);
        let login = UpstreamLogin { credentials: mailbox.credentials(token), security: server.security, terms };
        // Nobody reads what the session says to its device.
        let (_near, far) = duplex(REPLIES);
        let mut driver = Driver::new(proto::login(Protocol::Smtp), far);
        driver.connect(server.stream, login);
        timeout(self.limits.upstream_login_timeout, log_in(&Tcp, &mut driver, mailbox))
            .await
            .unwrap_or_else(|_| Err(Failure::new(Kind::UpstreamTimeout, "")))?;
        driver.take_upstream().ok_or_else(|| Failure::new(Kind::UpstreamLost, "behind the login"))
    }
}

impl Submit for SpoolSender {
    async fn submit(&self, mut outgoing: Outgoing) -> Attempt {
        let mailbox = match self.mailbox(outgoing.envelope()) {
            Ok(mailbox) => mailbox,
            Err(hold) => return Attempt::Held(hold),
        };
        let _admission = match mailbox.admit().await {
            Ok(admission) => admission,
            Err(failure) => {
                return Attempt::Held(match mailbox.quiet_for() {
                    Some(wait) => Hold::Throttled { wait, why: THROTTLED.to_owned() },
                    None if failure.kind == Kind::TooManySessions => Hold::Busy,
                    None => Hold::Unreachable(failure.to_string()),
                });
            }
        };
        // Devices that send meanwhile count, too. A message that does not fit waits here, because its device was told that
        // it is sent.
        let reserved = match mailbox.submission().quota.for_message(outgoing.envelope().recipients.len()) {
            Ok(reserved) => reserved,
            Err(_) => return Attempt::Held(Hold::OverQuota(OVER_QUOTA.to_owned())),
        };
        let (stream, unread) = match self.log_in(&mailbox).await {
            Ok(stream) => stream,
            Err(failure) => {
                if let Some(wait) = failure.retry_after {
                    mailbox.leave_alone(wait);
                }
                return Attempt::Held(hold(&failure));
            }
        };
        let mut transaction = Transaction::new(stream, &unread, self.limits.submission);
        let outcome = match transaction.send(&mut outgoing).await {
            Ok(outcome) => {
                transaction.quit().await;
                outcome
            }
            Err(Error::Lost(why)) => Outcome::lost(why.to_string()),
            Err(Error::Spool(error)) => return Attempt::Unreadable(error),
        };
        let hold = self.sent_mail.settled(&outgoing.envelope().account, &mailbox, &outcome);
        drop(reserved);
        let Outcome { answer, refused, deferred, .. } = outcome;
        Attempt::Answered(Answered { answer, refused, deferred, hold })
    }
}

/// The meaning of a failed login for the mailbox's messages.
fn hold(failure: &Failure) -> Hold {
    let why = failure.to_string();
    match failure.kind.reply() {
        Reply::Unavailable | Reply::InUse | Reply::NotVerified | Reply::Observed => Hold::Unreachable(why),
        Reply::BadCredentials | Reply::NotAuthorized | Reply::ContactAdmin => Hold::RefusedLogin(why),
    }
}

/// The octets that the session's replies have room for.
const REPLIES: usize = 64 * 1024;
/// The reason for the wait of a mailbox that has sent to as many recipients as it may.
const OVER_QUOTA: &str =
    "submission.recipients_per_day is reached, and submission.refuse_over_recipients_per_day is true";
/// The reason for the wait of a mailbox that the mail server throttles.
const THROTTLED: &str = "the mail server throttles this mailbox";
