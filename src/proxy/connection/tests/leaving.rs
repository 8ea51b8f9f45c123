//! These tests prove the deadlines after a side has closed, and those of the connection's end.

use tokio::time::sleep;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_device_that_has_closed_its_half_is_answered_for_the_upstream_login_timeout() {
    let outcome = Fixture::new().serve(async |mut peers| {
        peers.log_in().await;
        send(&mut peers.device, "b FETCH 1 ALL\r\n").await;
        peers.device.shutdown().await.unwrap();
        sleep(UPSTREAM_LOGIN_TIMEOUT - SECOND).await;
        // The answer's next octets give it the same time once more.
        send(&mut peers.server, "* 1 FETCH (FLAGS ())\r\n").await;
        peers
    });
    let outcome = outcome.await;
    outcome.assert_ended(2 * UPSTREAM_LOGIN_TIMEOUT - SECOND, "upstream_timeout");
    assert!(outcome.device.contains("* 1 FETCH"), "{}", outcome.device);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_has_closed_behind_logout_is_answered_for_the_close_timeout() {
    let outcome = Fixture::new().serve(async |mut peers| {
        peers.log_in().await;
        sleep(SECOND).await;
        send(&mut peers.device, "b LOGOUT\r\n").await;
        peers.device.shutdown().await.unwrap();
        peers
    });
    outcome.await.assert_ended(SECOND + CLOSE_TIMEOUT, "upstream_timeout");
}

/// The proxy closes the server's side after the device's, and the server ignores it.
#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_take_the_close_has_the_close_timeout_for_it() {
    let outcome = Fixture::new().with_stuck_close().serve(async |mut peers| {
        peers.log_in().await;
        peers.device.shutdown().await.unwrap();
        sleep(CLOSE_TIMEOUT - SECOND).await;
        // The octets are not read before: the server's line arrives after the close.
        send(&mut peers.server, "* BYE\r\n").await;
        peers
    });
    let outcome = outcome.await;
    outcome.assert_ended(CLOSE_TIMEOUT + UPSTREAM_LOGIN_TIMEOUT, "upstream_timeout");
    assert!(outcome.device.contains("* BYE"), "{}", outcome.device);
    outcome.assert_left(CLOSE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_close_is_waited_for_two_seconds() {
    let outcome = Fixture::new().serve(async |mut peers| {
        read_to(&mut peers.device, "ready").await;
        send(&mut peers.device, "a LOGOUT\r\n").await;
        // Further octets of the server give it no more time.
        sleep(SECOND).await;
        send(&mut peers.device, "b NOOP\r\n").await;
        peers
    });
    let outcome = outcome.await;
    outcome.assert_ended(Duration::ZERO, "logged_out");
    outcome.assert_left(LINGER);
    assert!(outcome.device.contains("a OK"), "{}", outcome.device);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_closes_is_waited_for_no_longer() {
    let outcome = Fixture::new().serve(async |mut peers| {
        send(&mut peers.device, "a LOGOUT\r\n").await;
        sleep(SECOND).await;
        peers.device.shutdown().await.unwrap();
        peers
    });
    let outcome = outcome.await;
    outcome.assert_ended(Duration::ZERO, "logged_out");
    outcome.assert_left(SECOND);
}

/// The device's pipe is full before the last line.
#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_take_the_last_line_has_the_close_timeout_for_it() {
    let outcome = Fixture::with(Protocol::Imap, 16).serve(async |peers| peers).await;
    outcome.assert_ended(LOGIN_TIMEOUT, "no_command");
    outcome.assert_left(CLOSE_TIMEOUT + LINGER);
}

#[tokio::test(start_paused = true)]
async fn a_close_that_gets_stuck_has_the_close_timeout() {
    let outcome = Fixture::new().with_stuck_close().serve(async |peers| peers).await;
    outcome.assert_ended(LOGIN_TIMEOUT, "no_command");
    outcome.assert_left(CLOSE_TIMEOUT + LINGER);
}
