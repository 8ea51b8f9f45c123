//! These tests prove the deadlines of a session after its login.

use tokio::time::sleep;

use super::*;
use crate::proto::AccessSettings;

#[tokio::test(start_paused = true)]
async fn a_session_without_octets_ends_after_the_idle_timeout() {
    let outcome = Fixture::new().serve(async |mut peers| {
        peers.log_in().await;
        peers
    });
    let outcome = outcome.await;
    outcome.assert_ended(IDLE_TIMEOUT, "idle_timeout");
    assert!(outcome.device.contains("* BYE "), "{}", outcome.device);
    outcome.assert_left(LINGER);
}

#[tokio::test(start_paused = true)]
async fn octets_of_either_side_begin_the_idle_timeout_anew() {
    let outcome = Fixture::new().serve(async |mut peers| {
        peers.log_in().await;
        sleep(IDLE_TIMEOUT - SECOND).await;
        send(&mut peers.device, "b IDLE\r\n").await;
        sleep(IDLE_TIMEOUT - SECOND).await;
        send(&mut peers.server, "+ idling\r\n").await;
        peers
    });
    outcome.await.assert_ended(3 * IDLE_TIMEOUT - 2 * SECOND, "idle_timeout");
}

/// The answer to a login that packetboat refuses waits behind a literal of the server that never ends.
#[tokio::test(start_paused = true)]
async fn a_response_that_something_waits_for_has_the_upstream_login_timeout() {
    let terms = Terms::translated(
        Protocol::Imap,
        AccessSettings { probe: false, delete: true, parks: false, submission: Arc::default() },
    );
    let outcome = Fixture::new().serve_with(Some(terms), async |mut peers| {
        peers.log_in().await;
        send(&mut peers.server, "* 1 FETCH (BODY[] {100}\r\n").await;
        sleep(1000 * SECOND).await;
        send(&mut peers.device, "b LOGIN u p\r\n").await;
        sleep(UPSTREAM_LOGIN_TIMEOUT - SECOND).await;
        // The response goes on, and has as much time once more.
        send(&mut peers.server, "some of it").await;
        peers
    });
    let outcome = outcome.await;
    outcome.assert_ended(1000 * SECOND + 2 * UPSTREAM_LOGIN_TIMEOUT - SECOND, "upstream_protocol");
    assert!(outcome.device.contains("* BYE "), "{}", outcome.device);
}

/// The device holds the response up, so the server is not to blame.
#[tokio::test(start_paused = true)]
async fn a_response_that_the_device_does_not_read_has_the_idle_timeout() {
    let terms = Terms::translated(
        Protocol::Imap,
        AccessSettings { probe: false, delete: true, parks: false, submission: Arc::default() },
    );
    let outcome = Fixture::with(Protocol::Imap, 256).serve_with(Some(terms), async |mut peers| {
        peers.log_in().await;
        send(&mut peers.server, "* 1 FETCH (BODY[] {1000}\r\n").await;
        send(&mut peers.device, "b LOGIN u p\r\n").await;
        tokio::time::timeout(SECOND, send(&mut peers.server, &"x".repeat(900))).await.unwrap_err();
        peers
    });
    outcome.await.assert_ended(IDLE_TIMEOUT, "idle_timeout");
}

/// Octets that a peer does not take are no sign of life, whichever side it is.
#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_ends_the_session_after_the_idle_timeout() {
    let to_device = Fixture::with(Protocol::Imap, 256).serve(async |mut peers| {
        peers.log_in().await;
        tokio::time::timeout(SECOND, send(&mut peers.server, &"* OK x\r\n".repeat(100))).await.unwrap_err();
        peers
    });
    let to_device = to_device.await;
    to_device.assert_ended(IDLE_TIMEOUT, "idle_timeout");
    assert!(!to_device.device.contains("BYE"), "nothing of ours stands in the middle of a response");
    let to_server = Fixture::with(Protocol::Imap, 256).serve(async |mut peers| {
        peers.log_in().await;
        tokio::time::timeout(SECOND, send(&mut peers.device, &"b NOOP\r\n".repeat(100))).await.unwrap_err();
        peers
    });
    to_server.await.assert_ended(IDLE_TIMEOUT, "idle_timeout");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_process_ends_a_session_at_once() {
    let outcome = Fixture::new().serve(async |mut peers| {
        peers.log_in().await;
        sleep(100 * SECOND).await;
        peers.trigger.enter(lifecycle::Phase::Draining);
        sleep(100 * SECOND).await;
        peers.trigger.enter(lifecycle::Phase::Ending);
        peers
    });
    let outcome = outcome.await;
    outcome.assert_ended(200 * SECOND, "drained");
    assert!(outcome.device.contains("* BYE "), "{}", outcome.device);
    // The proxy does not wait for the device's close.
    outcome.assert_left(Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_permission_ends_a_session_between_responses_at_once() {
    let outcome = Fixture::new().serve(async |mut peers| {
        peers.log_in().await;
        sleep(5 * SECOND).await;
        peers.revoke();
        peers
    });
    let outcome = outcome.await;
    outcome.assert_ended(5 * SECOND, "revoked");
    assert!(outcome.device.contains("* BYE "), "{}", outcome.device);
}

/// Logs in, and withdraws the permission 5 s after the beginning of a response.
async fn revoke_within_a_response(peers: &mut Peers) {
    peers.log_in().await;
    send(&mut peers.server, "* 1 FETCH (BODY[] {5}\r\n").await;
    sleep(5 * SECOND).await;
    peers.revoke();
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_permission_lets_a_response_end_that_is_on_its_way() {
    let outcome = Fixture::new().serve(async |mut peers| {
        revoke_within_a_response(&mut peers).await;
        sleep(CLOSE_TIMEOUT - SECOND).await;
        send(&mut peers.server, "hello)\r\n").await;
        peers
    });
    let outcome = outcome.await;
    outcome.assert_ended(5 * SECOND + CLOSE_TIMEOUT - SECOND, "revoked");
    assert!(outcome.device.contains("hello)\r\n* BYE "), "{}", outcome.device);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_permission_gives_a_response_the_close_timeout_to_end() {
    let outcome = Fixture::new().serve(async |mut peers| {
        revoke_within_a_response(&mut peers).await;
        // Octets that move give it no more time.
        sleep(CLOSE_TIMEOUT - SECOND).await;
        send(&mut peers.server, "hel").await;
        peers
    });
    outcome.await.assert_ended(5 * SECOND + CLOSE_TIMEOUT, "revoked");
}

/// The end of the process does not wait for a session that a reload ends.
#[tokio::test(start_paused = true)]
async fn the_end_of_the_process_ends_a_session_that_ends_for_a_reload() {
    let outcome = Fixture::new().serve(async |mut peers| {
        peers.log_in().await;
        send(&mut peers.server, "* 1 FETCH (BODY[] {5}\r\n").await;
        peers.revoke();
        sleep(2 * SECOND).await;
        peers.trigger.enter(lifecycle::Phase::Ending);
        peers
    });
    outcome.await.assert_ended(2 * SECOND, "drained");
}
