//! The spool on the page and for the commands: its messages, and their removal and retry.
//!
//! A message's content is given to the socket in the state directory alone, that is, to root and to the user of this
//! process, who can read the key as well. The page removes and retries where `admin.edit = true`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tracing::{info, warn};

use super::Admin;
use super::handler::JSON;
use super::role::Client;
use crate::lifecycle::unix_time;
use crate::metrics::SpoolNumbers;
use crate::pool;
use crate::spool::{Details, Id, Item, Refusal, Retried, Summary};
use crate::transport::http::server::{Request, Response};

impl Admin {
    /// The spool for the status page: its state, and the first of its messages.
    pub(super) fn spool_status(&self) -> Value {
        let mut status = state(&self.common.spool.summary());
        let shown: Vec<Value> = self.common.spool.oldest(SHOWN).iter().map(in_short).collect();
        if let Some(fields) = status.as_object_mut() {
            fields.insert("messages".to_owned(), json!(shown));
        }
        status
    }

    /// The spool for a technician: numbers alone.
    pub(super) fn spool_counts(&self) -> Value {
        let summary = self.common.spool.summary();
        json!({
            "on": summary.is_open,
            "waiting": summary.waiting,
            "needs_operator": summary.needs_operator,
            "oldest": summary.oldest.as_secs(),
        })
    }

    /// The spool for the metrics.
    pub(super) fn spool_numbers(&self) -> SpoolNumbers {
        numbers(&self.common.spool.summary())
    }

    /// All messages, for `packetboat spool list`.
    pub(super) fn spool_list(&self) -> Response {
        let messages: Vec<Value> = self.common.spool.list().iter().map(item).collect();
        let mut answer = state(&self.common.spool.summary());
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("messages".to_owned(), json!(messages));
        }
        Response::of(200, JSON, answer.to_string())
    }

    /// One message, for `packetboat spool show`.
    pub(super) fn spool_message(&self, received: &Request) -> Response {
        match id(received).and_then(|id| self.common.spool.show(id).ok_or_else(|| refused(Refusal::Unknown))) {
            Ok(Details { item: message, reason, before_retry }) => {
                let mut answer = item(&message);
                if let Some(fields) = answer.as_object_mut() {
                    fields.insert("reason".to_owned(), json!(reason));
                    fields.insert("before_retry".to_owned(), json!(before_retry));
                }
                Response::of(200, JSON, answer.to_string())
            }
            Err(refused) => refused,
        }
    }

    /// The content of one message, for `packetboat spool show --content`.
    pub(super) async fn spool_content(&self, received: &Request, client: &Client) -> Response {
        if !matches!(client, Client::Owner) {
            return Response::text(403, "a message's content is shown by packetboat spool show --content alone\n");
        }
        let id = match id(received) {
            Ok(id) => id,
            Err(refused) => return refused,
        };
        let spool = Arc::clone(&self.common.spool);
        match pool::SPOOL.run_within(PATIENCE, move || spool.content(id)).await {
            Ok(Ok(content)) => {
                warn!(%id, "an administrator reads the content of a message in the spool");
                Response::of(200, "message/rfc822", content)
            }
            Ok(Err(why)) => Response::text(404, format!("{why}\n")),
            Err(why) => Response::text(503, format!("{why}\n")),
        }
    }

    /// Removes or retries a message. The page may where it may change the configuration, too.
    pub(super) async fn change_spool(&self, received: &Request, client: &Client) -> Response {
        let by = match client {
            Client::Owner => "packetboat spool",
            Client::Network(_) if self.serving.read().await.config().admin.edit => "the page",
            Client::Network(_) => {
                return Response::text(403, "set admin.edit = true, or run packetboat spool on this computer\n");
            }
        };
        let id = match id(received) {
            Ok(id) => id,
            Err(refused) => return refused,
        };
        if received.path == "/spool/remove" {
            self.remove_message(id, by).await
        } else {
            self.retry_message(id, by).await
        }
    }

    async fn remove_message(&self, id: Id, by: &str) -> Response {
        let spool = Arc::clone(&self.common.spool);
        let message = match changed(move || spool.remove(id)).await {
            Ok(message) => message,
            Err(refused) => return refused,
        };
        let (mailbox, connection) = (&message.envelope.mailbox, &message.envelope.connection);
        warn!(%id, mailbox, connection, "a kept message is removed without being sent, by {by}");
        Response::of(200, JSON, json!({ "id": id.to_string(), "removed": true }).to_string())
    }

    async fn retry_message(&self, id: Id, by: &str) -> Response {
        let spool = Arc::clone(&self.common.spool);
        let account = spool.show(id).map(|details| details.item.envelope.account);
        let serving = self.serving.read().await;
        let throttled = account.and_then(|account| serving.sending_throttled_for(&account));
        drop(serving);
        let Retried { item: message, wait, why } = match changed(move || spool.retry(id, throttled)).await {
            Ok(retried) => retried,
            Err(refused) => return refused,
        };
        let (mailbox, connection) = (&message.envelope.mailbox, &message.envelope.connection);
        info!(%id, mailbox, connection, "a kept message is tried at once, by {by}");
        let answer = json!({ "id": id.to_string(), "removed": false, "wait": wait.as_secs(), "why": why });
        Response::of(200, JSON, answer.to_string())
    }
}

/// Changes a message on a thread of the spool.
async fn changed<T: Send + 'static>(
    change: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Response> {
    match pool::SPOOL.run_within(PATIENCE, change).await {
        Ok(done) => done.map_err(refused),
        Err(why) => Err(Response::text(503, format!("{why}\n"))),
    }
}

fn id(received: &Request) -> Result<Id, Response> {
    let given = received.field("id").and_then(Id::parse);
    given.ok_or_else(|| Response::text(400, "id is not the id of a message: packetboat spool list has them\n"))
}

fn refused(why: Refusal) -> Response {
    match why {
        Refusal::Unknown => Response::text(404, "there is no such message in the spool\n"),
        Refusal::Sending => {
            Response::text(409, "the message is being sent now: see packetboat spool list in a minute\n")
        }
        Refusal::Damaged => Response::text(
            409,
            "the message's file is damaged, and cannot be sent: packetboat spool show says what to do\n",
        ),
        Refusal::Unreadable => {
            Response::text(409, "the message's file cannot be read: packetboat spool show says why\n")
        }
        Refusal::Taken => {
            let why =
                "the mail server has this message already: make room on the disk, and packetboat removes its file\n";
            Response::text(409, why)
        }
        Refusal::Disk => Response::text(500, "the disk does not let the message's file be changed\n"),
    }
}

fn numbers(summary: &Summary) -> SpoolNumbers {
    let count = |messages: usize| u64::try_from(messages).unwrap_or(u64::MAX);
    let counts = &summary.counts;
    SpoolNumbers {
        waiting: count(summary.waiting),
        needs_operator: count(summary.needs_operator),
        octets: summary.octets,
        oldest: summary.oldest.as_secs(),
        refused_logins: count(summary.refused_logins),
        full_shares: count(summary.full_shares.len()),
        kept: counts.kept,
        not_kept: counts.not_kept,
        delivered: counts.delivered,
        repeated: counts.repeated,
        reported: counts.reported,
        expired: counts.expired,
        damaged: counts.damaged,
        removed: counts.removed,
    }
}

fn state(summary: &Summary) -> Value {
    json!({
        "on": summary.is_open,
        "waiting": summary.waiting,
        "needs_operator": summary.needs_operator,
        "octets": summary.octets,
        "oldest": summary.oldest.as_secs(),
        "refused_logins": summary.refused_logins,
        "full_shares": summary.full_shares.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "problem": summary.problem,
    })
}

/// A message for the page, which is asked for every few seconds: without its recipients, who may be ten thousand.
fn in_short(message: &Item) -> Value {
    let mut shown = item(message);
    if let Some(fields) = shown.as_object_mut() {
        fields.remove("recipients");
    }
    shown
}

fn item(message: &Item) -> Value {
    let envelope = &message.envelope;
    json!({
        "id": message.id.to_string(),
        "state": message.state.name(),
        "account": envelope.account,
        "mailbox": envelope.mailbox,
        "device": envelope.device,
        "sender": envelope.sender,
        "recipients": envelope.recipients,
        "received": envelope.received,
        "connection": envelope.connection,
        "octets": message.octets,
        "age": message.age,
        "attempts": message.attempts,
        "last_attempt": message.last_at,
        "last_answer": message.last,
        "next_attempt": message.next_in.map(|seconds| unix_time().saturating_add(seconds)),
        "held": message.hold,
        "may_exist_twice": message.may_exist_twice,
    })
}

/// The messages that the page shows; the command shows all.
const SHOWN: usize = 100;
const PATIENCE: Duration = Duration::from_secs(20);
