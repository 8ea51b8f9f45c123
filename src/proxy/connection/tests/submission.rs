//! These tests prove how a submission ends, whoever is lost in it, and when: half a message never becomes a whole one,
//! and a lost answer is never taken for a yes or a no.

use tokio::time::sleep;

use super::*;

/// The defaults of RFC 5321 §4.5.3.2.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const REPLY_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const CONTENT_TIMEOUT: Duration = Duration::from_secs(10 * 60);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10 * 60);

impl Peers {
    /// The device logs in.
    pub(super) async fn submit(&mut self) {
        send(&mut self.device, "EHLO x\r\nAUTH PLAIN AHUAcA==\r\n").await;
        send(&mut self.server, "220 ready\r\n").await;
        read_to(&mut self.server, "EHLO ").await;
        send(&mut self.server, "250 AUTH PLAIN\r\n").await;
        read_to(&mut self.server, "AUTH PLAIN AHUAcA==\r\n").await;
        send(&mut self.server, "235 in\r\n").await;
        read_to(&mut self.device, "235 2.7.0").await;
    }

    /// The device has sent its envelope, and may send the message.
    pub(super) async fn begin_message(&mut self) {
        self.submit().await;
        send(&mut self.device, "MAIL FROM:<a@b.example>\r\n").await;
        read_to(&mut self.server, "MAIL").await;
        send(&mut self.server, "250 ok\r\n").await;
        send(&mut self.device, "RCPT TO:<a@b.example>\r\n").await;
        read_to(&mut self.server, "RCPT").await;
        send(&mut self.server, "250 ok\r\n").await;
        send(&mut self.device, "DATA\r\n").await;
        read_to(&mut self.server, "DATA").await;
        send(&mut self.server, "354 go\r\n").await;
        read_to(&mut self.device, "354 go").await;
    }

    /// The server has all of the message.
    pub(super) async fn end_message(&mut self) {
        self.begin_message().await;
        send(&mut self.device, "Subject: x\r\n\r\n.\r\n").await;
        read_to(&mut self.server, "\r\n.\r\n").await;
    }

    /// All that the server gets until its connection ends.
    async fn rest_of_server(&mut self) -> String {
        let mut rest = Vec::new();
        self.server.read_to_end(&mut rest).await.unwrap();
        String::from_utf8(rest).unwrap()
    }
}

fn submission() -> Fixture {
    Fixture::with(Protocol::Smtp, PIPE)
}

#[tokio::test(start_paused = true)]
async fn a_device_lost_in_a_message_never_ends_it() {
    // A part of the end of the data is held back at each of these places.
    for part in ["", "Subj", "Subject: x\r\n\r\nHello", "x\r", "x\r\n", "x\r\n.", "x\r\n.\r", "x\n.\n", ".\r"] {
        let outcome = submission().serve(async |mut peers| {
            peers.begin_message().await;
            send(&mut peers.device, part).await;
            peers.device.shutdown().await.unwrap();
            let rest = peers.rest_of_server().await;
            assert!(!rest.contains("\r\n.\r\n") && rest != ".\r\n" && !rest.contains("QUIT"), "{part:?}: {rest:?}");
            drop(std::mem::replace(&mut peers.server, duplex(1).0));
            peers
        });
        assert_eq!(outcome.await.reason, "device_closed", "{part:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_lost_behind_a_message_leaves_the_outcome_unknown() {
    let outcome = submission().serve(async |mut peers| {
        peers.end_message().await;
        drop(std::mem::replace(&mut peers.server, duplex(1).0));
        peers
    });
    let outcome = outcome.await;
    outcome.assert_ended(Duration::ZERO, "outcome_unknown");
    assert!(outcome.device.starts_with("451 4.4.2 "), "{}", outcome.device);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_a_message_has_ten_minutes() {
    let outcome = submission().serve(async |mut peers| {
        peers.end_message().await;
        peers
    });
    let outcome = outcome.await;
    outcome.assert_ended(ANSWER_TIMEOUT, "outcome_unknown");
    assert!(outcome.device.starts_with("451 4.4.2 "), "{}", outcome.device);
}

#[tokio::test(start_paused = true)]
async fn a_device_hears_421_where_the_server_is_lost_in_a_message() {
    for more in ["", "more\r\n"] {
        let outcome = submission().serve(async |mut peers| {
            peers.begin_message().await;
            send(&mut peers.device, "Subject: x\r\n\r\n").await;
            read_to(&mut peers.server, "Subject").await;
            drop(std::mem::replace(&mut peers.server, duplex(1).0));
            // The device may not read before it has sent its message, or not be there any more.
            let _ = peers.device.write_all(more.as_bytes()).await;
            peers
        });
        let outcome = outcome.await;
        assert_eq!(outcome.reason, "upstream_lost", "{more:?}");
        assert!(outcome.device.starts_with("421 4.4.2 "), "{more:?}: {}", outcome.device);
    }
}

/// The message is at the server: its answer is waited for, and logged.
#[tokio::test(start_paused = true)]
async fn a_device_that_leaves_behind_the_dot_does_not_cut_the_answer() {
    for last in ["", "QUIT\r\n"] {
        let outcome = submission().serve(async |mut peers| {
            peers.begin_message().await;
            send(&mut peers.device, &format!("Subject: x\r\n\r\n.\r\n{last}")).await;
            peers.device.shutdown().await.unwrap();
            read_to(&mut peers.server, "\r\n.\r\n").await;
            sleep(ANSWER_TIMEOUT - SECOND).await;
            send(&mut peers.server, "250 queued\r\n").await;
            if !last.is_empty() {
                read_to(&mut peers.server, "QUIT").await;
                send(&mut peers.server, "221 bye\r\n").await;
            }
            peers.server.shutdown().await.unwrap();
            peers
        });
        let outcome = outcome.await;
        let (reason, answers) = if last.is_empty() {
            ("device_closed", "250 queued\r\n")
        } else {
            ("logged_out", "250 queued\r\n221 bye\r\n")
        };
        assert_eq!((outcome.reason, outcome.device.as_str()), (reason, answers));
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_has_the_time_of_rfc_5321() {
    let outcome = submission().serve(async |mut peers| {
        peers.submit().await;
        peers
    });
    let outcome = outcome.await;
    outcome.assert_ended(COMMAND_TIMEOUT, "idle_timeout");
    assert!(outcome.device.starts_with("421 4.4.2 "), "{}", outcome.device);
    let outcome = submission().serve(async |mut peers| {
        peers.submit().await;
        send(&mut peers.device, "MAIL FROM:<a@b.example>\r\n").await;
        peers
    });
    outcome.await.assert_ended(REPLY_TIMEOUT, "upstream_timeout");
    let outcome = submission().serve(async |mut peers| {
        peers.begin_message().await;
        sleep(CONTENT_TIMEOUT - SECOND).await;
        send(&mut peers.device, "a page\r\n").await;
        peers
    });
    outcome.await.assert_ended(2 * CONTENT_TIMEOUT - SECOND, "idle_timeout");
}

#[tokio::test(start_paused = true)]
async fn a_device_hears_421_at_the_end_of_the_process() {
    let outcome = submission().serve(async |mut peers| {
        peers.submit().await;
        peers.trigger.enter(lifecycle::Phase::Ending);
        peers
    });
    let outcome = outcome.await;
    outcome.assert_ended(Duration::ZERO, "drained");
    assert!(outcome.device.starts_with("421 4.3.2 "), "{}", outcome.device);
}

/// The time counts from the command, and from the end of the message: octets that the device sends ahead do not prolong
/// it, nor does a reply that never ends.
#[tokio::test(start_paused = true)]
async fn a_reply_has_its_time_whatever_else_moves() {
    let outcome = submission().serve(async |mut peers| {
        peers.submit().await;
        send(&mut peers.device, "MAIL FROM:<a@b.example>\r\n").await;
        sleep(REPLY_TIMEOUT / 2).await;
        send(&mut peers.device, "RCPT TO:<a@b.example>\r\n").await;
        peers
    });
    outcome.await.assert_ended(REPLY_TIMEOUT, "upstream_timeout");
    let outcome = submission().serve(async |mut peers| {
        peers.end_message().await;
        for _ in 0..3 {
            sleep(ANSWER_TIMEOUT / 4).await;
            send(&mut peers.device, "NOOP\r\n").await;
            send(&mut peers.server, "250-not yet\r\n").await;
        }
        peers
    });
    let outcome = outcome.await;
    outcome.assert_ended(ANSWER_TIMEOUT, "outcome_unknown");
    assert!(outcome.device.starts_with("451 4.4.2 "), "{}", outcome.device);
}

/// The device hears of its message in one whole reply.
#[tokio::test(start_paused = true)]
async fn a_server_lost_within_its_answer_leaves_the_outcome_unknown() {
    for part in ["2", "250-queued\r\n", "250-queued\r\n250", "250-queued\r\n550 no\r\n"] {
        let outcome = submission().serve(async |mut peers| {
            peers.end_message().await;
            send(&mut peers.server, part).await;
            drop(std::mem::replace(&mut peers.server, duplex(1).0));
            peers
        });
        let outcome = outcome.await;
        outcome.assert_ended(Duration::ZERO, "outcome_unknown");
        assert!(outcome.device.starts_with("451 4.4.2 "), "{part}: {}", outcome.device);
        assert_eq!(outcome.device.lines().count(), 1, "{part}: {}", outcome.device);
    }
}
