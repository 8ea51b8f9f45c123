//! These tests prove the deadlines before and during a login.

use tokio::time::sleep;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_silent_device_is_let_go_after_the_login_timeout() {
    for (protocol, bye) in [(Protocol::Imap, "* BYE "), (Protocol::Pop3, "-ERR ")] {
        let outcome = Fixture::with(protocol, PIPE).serve(async |peers| peers).await;
        outcome.assert_ended(LOGIN_TIMEOUT, "no_command");
        assert!(outcome.device.contains(bye), "{}", outcome.device);
    }
}

#[tokio::test(start_paused = true)]
async fn commands_before_the_login_give_a_device_no_more_time() {
    let outcome = Fixture::new().serve(async |mut peers| {
        for _ in 0..17 {
            sleep(10 * SECOND).await;
            send(&mut peers.device, "a NOOP\r\n").await;
        }
        peers
    });
    outcome.await.assert_ended(LOGIN_TIMEOUT, "login_timeout");
}

#[tokio::test(start_paused = true)]
async fn a_failed_login_gives_back_the_time_that_it_took() {
    let outcome = Fixture::new().serve(async |mut peers| {
        sleep(100 * SECOND).await;
        send(&mut peers.device, "a LOGIN u p\r\n").await;
        send(&mut peers.server, "* OK ready\r\n").await;
        read_to(&mut peers.server, "P2 LOGIN").await;
        sleep(40 * SECOND).await;
        send(&mut peers.server, "P2 NO wrong\r\n").await;
        read_to(&mut peers.device, "a NO").await;
        peers
    });
    outcome.await.assert_ended(LOGIN_TIMEOUT + 40 * SECOND, "login_timeout");
}

/// Each login takes its full 90 s: the third begins at 180 s and ends at 270 s, and the fifth would begin at 360 s.
#[tokio::test(start_paused = true)]
async fn failed_logins_give_back_no_more_than_the_login_timeout() {
    let mut fixture = Fixture::new();
    let mut servers = Vec::new();
    for _ in 0..6 {
        let (server, stream) = duplex(PIPE);
        servers.push(server);
        fixture.network.0.get_mut().unwrap().push_back(Pipe::new(stream));
    }
    let outcome = fixture.serve(async |mut peers| {
        send(&mut peers.device, &"a LOGIN u p\r\n".repeat(6)).await;
        peers
    });
    let outcome = outcome.await;
    assert_eq!(outcome.reason, "login_timeout");
    assert!(
        outcome.ended >= 2 * LOGIN_TIMEOUT && outcome.ended < 2 * LOGIN_TIMEOUT + 10 * SECOND,
        "{:?}",
        outcome.ended
    );
    assert_eq!(outcome.device.matches("a NO").count(), 4, "{}", outcome.device);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_the_login_costs_the_device_that_login() {
    let outcome = Fixture::new().serve(async |mut peers| {
        let begun = Instant::now();
        send(&mut peers.device, "a LOGIN u p\r\n").await;
        sleep(UPSTREAM_LOGIN_TIMEOUT - SECOND).await;
        // Octets that the server sends meanwhile give it no more time.
        send(&mut peers.server, "* OK ready\r\n").await;
        let answer = read_to(&mut peers.device, "a NO").await;
        let took = begun.elapsed();
        assert!(took >= UPSTREAM_LOGIN_TIMEOUT && took < UPSTREAM_LOGIN_TIMEOUT + MOMENT, "{took:?}");
        assert!(answer.contains("a NO [UNAVAILABLE]"), "{answer}");
        // The device may try again.
        send(&mut peers.device, "b NOOP\r\n").await;
        read_to(&mut peers.device, "b OK").await;
        peers
    });
    let outcome = outcome.await;
    outcome.assert_ended(LOGIN_TIMEOUT + UPSTREAM_LOGIN_TIMEOUT, "login_timeout");
    assert!(outcome.metrics.lines().any(|line| line.contains("upstream_timeout") && line.ends_with(" 1")));
}

async fn close_half_behind_a_login(peers: &mut Peers) {
    send(&mut peers.device, "a LOGIN u p\r\n").await;
    sleep(SECOND).await;
    peers.device.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_device_that_has_closed_its_half_has_the_close_timeout_for_its_login() {
    let outcome = Fixture::new().serve(async |mut peers| {
        close_half_behind_a_login(&mut peers).await;
        peers
    });
    outcome.await.assert_ended(SECOND + CLOSE_TIMEOUT, "device_lost");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_has_closed_its_half_reads_an_answer_in_time() {
    let outcome = Fixture::new().serve(async |mut peers| {
        send(&mut peers.device, "a LOGIN u p\r\n").await;
        peers.device.shutdown().await.unwrap();
        sleep(CLOSE_TIMEOUT - SECOND).await;
        send(&mut peers.server, "* OK ready\r\n").await;
        read_to(&mut peers.server, "P2 LOGIN").await;
        send(&mut peers.server, "P2 NO wrong\r\n").await;
        peers
    });
    let outcome = outcome.await;
    outcome.assert_ended(CLOSE_TIMEOUT - SECOND, "device_closed");
    assert!(outcome.device.contains("a NO"), "{}", outcome.device);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_has_closed_its_half_is_not_waited_for_while_the_server_is_dialled() {
    let outcome = Fixture::new().without_server().serve(async |mut peers| {
        close_half_behind_a_login(&mut peers).await;
        peers
    });
    outcome.await.assert_ended(SECOND + CLOSE_TIMEOUT, "device_lost");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_process_ends_a_login() {
    for fixture in [Fixture::new(), Fixture::new().without_server()] {
        let outcome = fixture.serve(async |mut peers| {
            send(&mut peers.device, "a LOGIN u p\r\n").await;
            sleep(7 * SECOND).await;
            peers.trigger.enter(lifecycle::Phase::Ending);
            peers
        });
        let outcome = outcome.await;
        assert!(outcome.device.contains("* BYE ") || outcome.device.contains("a NO"), "{}", outcome.device);
        outcome.assert_ended(7 * SECOND, "drained");
        outcome.assert_left(Duration::ZERO);
    }
}
