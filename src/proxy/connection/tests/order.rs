//! These tests prove that what packetboat says by itself stands behind the octets of the server that came before, also
//! where a device reads slowly. The octets of a buffer are known as passed once the session has seen them.

use tokio::time::sleep;

use super::*;
use crate::proto::AccessSettings;

/// Lets the server send all of this, and the device something behind it before it has read that. Returns what the device
/// hears up to this end.
async fn answered_ahead(peers: &mut Peers, answer: &str, behind: &str, end: &str) -> String {
    assert!(answer.len() > WINDOW, "the device's pipe does not take all of it");
    send(&mut peers.server, answer).await;
    // The clock moves on once nothing more can be passed on.
    sleep(SECOND).await;
    send(&mut peers.device, behind).await;
    sleep(SECOND).await;
    read_to(&mut peers.device, end).await
}

/// A device logs out without a wait for the end of a message. Its connection may be parked, and so packetboat answers.
#[tokio::test(start_paused = true)]
async fn the_answer_to_logout_stands_behind_a_message_that_is_read_slowly() {
    for deletes in [true, false] {
        let terms = Terms::translated(
            Protocol::Imap,
            AccessSettings { probe: false, delete: deletes, parks: true, submission: Arc::default() },
        );
        let outcome = Fixture::with(Protocol::Imap, WINDOW).serve_with(Some(terms), async |mut peers| {
            peers.log_in().await;
            send(&mut peers.device, "b FETCH 1 BODY[]\r\n").await;
            read_to(&mut peers.server, "FETCH").await;
            let message = format!("* 1 FETCH (BODY[] {{{WINDOW}}}\r\n{})\r\nb OK done\r\n", "x".repeat(WINDOW));
            let heard = answered_ahead(&mut peers, &message, "c LOGOUT\r\n", "c OK").await;
            assert_eq!(heard, message + "* BYE closing connection\r\nc OK LOGOUT completed\r\n");
            peers
        });
        assert_eq!(outcome.await.reason, "logged_out");
    }
}

/// The same for a command that packetboat answers in submission.
#[tokio::test(start_paused = true)]
async fn a_reply_of_ours_stands_behind_one_that_is_read_slowly() {
    let outcome = Fixture::with(Protocol::Smtp, WINDOW).serve(async |mut peers| {
        peers.submit().await;
        send(&mut peers.device, "NOOP\r\n").await;
        read_to(&mut peers.server, "NOOP").await;
        let reply = format!("250 {}\r\n", "x".repeat(WINDOW));
        let heard = answered_ahead(&mut peers, &reply, "HELP\r\n", "214 ").await;
        let (first, second) = heard.rsplit_once("\r\n214 ").unwrap();
        assert!(first.ends_with(reply.trim_end()) && !second.contains('x'), "{heard}");
        drop(peers.device.shutdown().await);
        peers
    });
    outcome.await;
}

/// Octets that a pipe takes before it is read.
const WINDOW: usize = 512;
