//! These tests prove that octets alone prolong nothing: a device has its time for a login, a command and a whole message,
//! however it dribbles; and a slow line is no fault of it.

use tokio::time::sleep;

use super::*;
use crate::proto::{AccessSettings, SubmissionTerms};

const COMMAND_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30 * 60);
const IDLE_SERVER_TIMEOUT: Duration = Duration::from_secs(20);
const MINUTE: Duration = Duration::from_secs(60);

fn submission() -> Fixture {
    Fixture::with(Protocol::Smtp, PIPE)
}

/// Sends an octet of this text each minute until the connection ends.
async fn dribble(stream: &mut DuplexStream, text: &str) {
    for octet in text.bytes().cycle() {
        sleep(MINUTE).await;
        if stream.write_all(&[octet]).await.is_err() {
            return;
        }
    }
}

impl Peers {
    /// A command that the server answers with 250.
    async fn ok(&mut self, command: &str) {
        send(&mut self.device, &format!("{command}\r\n")).await;
        read_to(&mut self.server, command.split(' ').next().unwrap()).await;
        send(&mut self.server, "250 ok\r\n").await;
        read_to(&mut self.device, "250 ok").await;
    }
}

#[tokio::test(start_paused = true)]
async fn octets_before_the_login_give_a_device_no_more_time() {
    for protocol in [Protocol::Imap, Protocol::Pop3, Protocol::Smtp] {
        for text in ["a", "a NOOP\r\n", "AUTH PLAIN\r\nx"] {
            let outcome = Fixture::with(protocol, PIPE).serve(async |mut peers| {
                for octet in text.bytes().cycle().take(19) {
                    sleep(10 * SECOND).await;
                    // It may be over.
                    let _ = peers.device.write_all(&[octet]).await;
                }
                peers
            });
            let outcome = outcome.await;
            let ended = outcome.ended;
            assert!(ended >= LOGIN_TIMEOUT && ended < LOGIN_TIMEOUT + MOMENT, "{protocol:?} {text:?}: {ended:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_is_dribbled_has_the_time_of_a_command() {
    // Between two messages, and in the middle of one.
    for commands in [&[][..], &["MAIL FROM:<a@b.example>"], &["MAIL FROM:<a@b.example>", "RCPT TO:<a@b.example>"]] {
        let outcome = submission().serve(async |mut peers| {
            peers.submit().await;
            for command in commands {
                peers.ok(command).await;
            }
            dribble(&mut peers.device, "N").await;
            peers
        });
        let outcome = outcome.await;
        outcome.assert_ended(COMMAND_TIMEOUT, "idle_timeout");
        assert!(outcome.device.starts_with("421 4.4.2 "), "{}", outcome.device);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_dribbled_has_half_an_hour() {
    let outcome = submission().serve(async |mut peers| {
        peers.begin_message().await;
        dribble(&mut peers.device, "x").await;
        peers
    });
    let outcome = outcome.await;
    outcome.assert_ended(MESSAGE_TIMEOUT, "message_too_slow");
    assert!(outcome.device.starts_with("421 4.4.2 the device took too long over a message"), "{}", outcome.device);
    let counted = "result=\"refused_by_rules\"} 1";
    let line = outcome.metrics.lines().find(|line| line.contains("message_too_slow") && line.contains(counted));
    assert!(line.is_some_and(|line| line.starts_with("packetboat_submitted_messages_total")), "{}", outcome.metrics);
}

/// A device that never comes to its message holds the server no longer than one that dribbles it, whatever it says.
#[tokio::test(start_paused = true)]
async fn commands_that_lead_nowhere_do_not_prolong_a_message() {
    let outcome = submission().serve(async |mut peers| {
        peers.submit().await;
        peers.ok("MAIL FROM:<a@b.example>").await;
        for _ in 0..9 {
            sleep(3 * MINUTE).await;
            peers.ok("NOOP").await;
        }
        sleep(2 * MINUTE).await;
        // A message that is broken off leaves its time to the next one.
        peers.ok("RSET").await;
        peers.ok("MAIL FROM:<a@b.example>").await;
        peers
    });
    outcome.await.assert_ended(MESSAGE_TIMEOUT, "message_too_slow");
}

/// 75 minutes at 64 kbit/s, with a pause of nine minutes for the next page.
#[tokio::test(start_paused = true)]
async fn a_slow_line_is_no_fault() {
    let line = format!("{}\r\n", "x".repeat(998));
    let outcome = submission().serve(async |mut peers| {
        peers.begin_message().await;
        for second in 0..75 * 60 {
            if second == 60 {
                sleep(9 * MINUTE).await;
            }
            send(&mut peers.device, &line).await;
            read_to(&mut peers.server, "\r\n").await;
            sleep(SECOND).await;
        }
        send(&mut peers.device, ".\r\n").await;
        read_to(&mut peers.server, ".\r\n").await;
        send(&mut peers.server, "250 queued\r\n").await;
        read_to(&mut peers.device, "250 queued").await;
        send(&mut peers.device, "QUIT\r\n").await;
        read_to(&mut peers.server, "QUIT").await;
        send(&mut peers.server, "221 bye\r\n").await;
        peers.server.shutdown().await.unwrap();
        peers
    });
    assert_eq!(outcome.await.reason, "logged_out");
}

/// The time that the server takes is not the device's.
#[tokio::test(start_paused = true)]
async fn a_slow_server_costs_the_device_nothing() {
    let outcome = submission().serve(async |mut peers| {
        peers.submit().await;
        peers.ok("MAIL FROM:<a@b.example>").await;
        for _ in 0..10 {
            send(&mut peers.device, "RCPT TO:<a@b.example>\r\n").await;
            read_to(&mut peers.server, "RCPT").await;
            sleep(4 * MINUTE).await;
            send(&mut peers.server, "250 ok\r\n").await;
            read_to(&mut peers.device, "250 ok").await;
        }
        dribble(&mut peers.device, "N").await;
        peers
    });
    outcome.await.assert_ended(40 * MINUTE + COMMAND_TIMEOUT, "idle_timeout");
}

/// A server that does not read is told from a device that does not send.
#[tokio::test(start_paused = true)]
async fn a_server_that_takes_a_message_too_slowly_is_to_blame() {
    let outcome = Fixture::with(Protocol::Smtp, 256).serve(async |mut peers| {
        peers.begin_message().await;
        let Peers { device, server, .. } = &mut peers;
        let text = ("x".repeat(254) + "\r\n").repeat(400);
        // The connection ends before.
        let sends = async { drop(device.write_all(text.as_bytes()).await) };
        let reads = async {
            let mut octet = [0];
            loop {
                sleep(MINUTE).await;
                if server.read(&mut octet).await.is_ok_and(|count| count == 0) {
                    return;
                }
            }
        };
        tokio::join!(sends, reads);
        peers
    });
    let outcome = outcome.await;
    assert_eq!(outcome.reason, "upstream_timeout");
    // What packetboat holds of the message is a little time, too.
    assert!(outcome.ended >= MESSAGE_TIMEOUT && outcome.ended < MESSAGE_TIMEOUT + 5 * MINUTE, "{:?}", outcome.ended);
}

/// NOOP keeps the device's connection, and not the server's: another device may send.
#[tokio::test(start_paused = true)]
async fn noop_does_not_hold_the_server_between_two_messages() {
    let submission_terms = SubmissionTerms { mailbox: "a@b.example".to_owned(), ..SubmissionTerms::default() };
    let access = AccessSettings { probe: false, delete: true, parks: false, submission: Arc::new(submission_terms) };
    let terms = Terms::translated(Protocol::Smtp, access);
    let outcome = submission().serve_with(Some(terms), async |mut peers| {
        peers.submit().await;
        let began = Instant::now();
        for _ in 0..3 {
            sleep(6 * SECOND).await;
            peers.ok("NOOP").await;
        }
        read_to(&mut peers.server, "QUIT").await;
        let took = began.elapsed();
        assert!(took >= IDLE_SERVER_TIMEOUT && took < IDLE_SERVER_TIMEOUT + MOMENT, "{took:?}");
        drop(std::mem::replace(&mut peers.server, duplex(1).0));
        send(&mut peers.device, "NOOP\r\n").await;
        read_to(&mut peers.device, "250 2.0.0 OK").await;
        peers
    });
    outcome.await.assert_ended(IDLE_SERVER_TIMEOUT + COMMAND_TIMEOUT, "idle_timeout");
}
