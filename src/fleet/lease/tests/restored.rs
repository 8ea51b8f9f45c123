//! The database comes back in an earlier state, an instance has another key, and a person signs out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::world::{self, Node, Rotation, World};
use crate::fleet::lease::NotRenewed;
use crate::fleet::records::PATIENCE;

/// The database is back as it was before the last renewal. Returns the instance that knows the newest refresh token, and one
/// that knows the one before.
async fn behind_a_backup() -> (Arc<World>, Arc<Node>, Arc<Node>) {
    let world = World::new(Rotation::EndsFamily);
    let (newest, earlier) = (Node::new(&world), Node::new(&world));
    earlier.looked().await;
    let backup = world.snapshot();
    newest.renewed().await.unwrap();
    world.restore(backup);
    (world, newest, earlier)
}

/// The instance with the earlier refresh token begins, and waits until the other one looks at the database.
async fn wait_for_the_newest(world: &World, newest: &Node, earlier: &Arc<Node>) {
    let waiting = earlier.begun();
    sleep(Duration::from_secs(20)).await;
    assert_eq!(world.requests(), 1, "nobody begins from the backup");
    newest.looked().await;
    waiting.await.unwrap().unwrap();
    assert_eq!((world.reuses(), earlier.access()), (0, world.newest_access()));
}

/// A backup from before the last renewal is restored. The instance that knows only the refresh token before waits until
/// the one that knows the newest has brought it, and no refresh token is spent twice.
#[tokio::test(start_paused = true)]
async fn a_restored_backup_costs_no_refresh_token() {
    let (world, newest, earlier) = behind_a_backup().await;
    wait_for_the_newest(&world, &newest, &earlier).await;
    newest.renewed().await.unwrap();
    assert_eq!((world.reuses(), newest.access()), (0, world.newest_access()));
}

/// All instances are started again while the backup is restored.
#[tokio::test(start_paused = true)]
async fn a_restored_backup_and_a_restart_cost_no_refresh_token() {
    let (world, newest, earlier) = behind_a_backup().await;
    let (newest, earlier) = (newest.restarted(), earlier.restarted());
    // The registration of an instance that has started makes it look.
    wait_for_the_newest(&world, &newest, &earlier).await;
}

/// A restart alone delays nobody, nor does a new sign-in behind the loss of the database.
#[tokio::test(start_paused = true)]
async fn a_restart_alone_delays_nobody() {
    let world = World::new(Rotation::EndsFamily);
    let node = Node::new(&world);
    node.looked().await;
    let (node, begun) = (node.restarted(), Instant::now());
    node.renewed().await.unwrap();
    world.restore(None);
    node.sign_in().await;
    node.renewed().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!((world.requests(), world.reuses()), (2, 0));
}

/// The instance that knows the newest refresh token does not come back: the others go on with what there is.
#[tokio::test(start_paused = true)]
async fn the_wait_behind_a_restored_backup_ends() {
    let world = World::new(Rotation::Refuses);
    let (newest, earlier) = (Node::new(&world), Node::new(&world));
    earlier.looked().await;
    let backup = world.snapshot();
    world.restore(backup);
    drop(newest);
    earlier.renewed().await.unwrap();
    assert_eq!(world.requests(), 1);
    sleep(world::LIFE * 6 / 10).await;
    earlier.renewed().await.unwrap();
}

/// At an endpoint that lets earlier refresh tokens live nobody waits.
#[tokio::test(start_paused = true)]
async fn a_lenient_endpoint_is_renewed_at_once() {
    let world = World::new(Rotation::Lenient);
    let node = Node::new(&world);
    node.looked().await;
    world.restore(world.snapshot());
    let begun = Instant::now();
    node.renewed().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

/// An instance that cannot open the record takes no lease: the others would wait for it, again and again.
#[tokio::test(start_paused = true)]
async fn another_key_takes_no_lease() {
    let world = World::new(Rotation::EndsFamily);
    let (stranger, node) = (Node::with_other_key(&world), Node::new(&world));
    let before = world.epoch();
    assert!(matches!(stranger.renewed().await, Err(NotRenewed::OtherKey)));
    assert_eq!((world.epoch(), world.requests()), (before, 0));
    node.renewed().await.unwrap();
}

/// A candidate that the endpoint has refused is not sent again behind each pause.
#[tokio::test(start_paused = true)]
async fn a_refused_candidate_goes() {
    let world = World::new(Rotation::Refuses);
    let node = Node::new(&world);
    world.leave_candidate(world.spent_token());
    world.end_family();
    assert!(matches!(node.renewed().await, Err(NotRenewed::Denied(_))));
    assert_eq!((world.candidates(), world.requests()), (0, 2));
    sleep(world::PAUSE).await;
    assert!(matches!(node.renewed().await, Err(NotRenewed::Denied(_))));
    assert_eq!(world.requests(), 3, "the refresh token alone");
}

/// A new sign-in replaces candidates as well.
#[tokio::test(start_paused = true)]
async fn a_new_sign_in_removes_earlier_candidates() {
    let world = World::new(Rotation::Refuses);
    let node = Node::new(&world);
    world.leave_candidate(world.spent_token());
    node.sign_in().await;
    assert_eq!(world.candidates(), 0);
    node.renewed().await.unwrap();
    assert_eq!(world.requests(), 1);
}

/// No instance brings the sign-in back from its copy: neither at once, nor from a database that was lost.
#[tokio::test(start_paused = true)]
async fn who_has_signed_out_stays_so() {
    for rotation in [Rotation::Lenient, Rotation::EndsFamily] {
        let world = World::new(rotation);
        let nodes: Vec<Arc<Node>> = (0..3).map(|_| Node::new(&world)).collect();
        for node in &nodes {
            node.renewed().await.unwrap();
        }
        let (backup, requests) = (world.snapshot(), world.requests());
        nodes[0].sign_out().await;
        sleep(world::LIFE).await;
        for node in [&nodes[1], &nodes[1].restarted(), &nodes[0].restarted()] {
            assert!(matches!(node.renewed().await, Err(NotRenewed::SignedOut)));
            assert!(matches!(node.renewed_alone().await, Err(NotRenewed::SignedOut)));
        }
        // An instance that has learnt it brings it to a restored database.
        for state in [backup, None] {
            world.restore(state);
            nodes[1].looked().await;
            assert!(matches!(nodes[2].renewed().await, Err(NotRenewed::SignedOut)));
        }
        assert_eq!(world.requests(), requests);
        nodes[2].sign_in().await;
        nodes[0].renewed().await.unwrap();
    }
}

/// The person signs out while a renewal waits for the endpoint: its answer is dropped.
#[tokio::test(start_paused = true)]
async fn an_answer_behind_the_sign_out_is_dropped() {
    let world = World::new(Rotation::EndsFamily);
    let (slow, other) = (Node::new(&world), Node::new(&world));
    world.delay_answers(Duration::from_secs(10));
    let waiting = slow.begun();
    sleep(Duration::from_secs(5)).await;
    other.sign_out().await;
    waiting.await.unwrap().unwrap();
    assert_eq!(world.candidates(), 0);
    sleep(world::LIFE).await;
    assert!(matches!(slow.renewed().await, Err(NotRenewed::SignedOut)));
    assert_eq!(world.requests(), 1);
}

/// A database that is slow with each of several statements keeps a device, which waits behind them, no longer than one that
/// does not answer.
#[tokio::test(start_paused = true)]
async fn several_slow_statements_have_one_bound() {
    let world = World::new(Rotation::EndsFamily);
    let node = Node::new(&world);
    let backup = world.snapshot();
    node.renewed().await.unwrap();
    world.restore(backup);
    world.delay_statements(Some(Duration::from_millis(2500)));
    let begun = Instant::now();
    assert!(node.looked_in_time().await.is_err());
    assert!(begun.elapsed() <= PATIENCE, "{:?}", begun.elapsed());
    world.delay_statements(None);
    node.looked_in_time().await.unwrap();
    node.renewed().await.unwrap();
    assert_eq!(world.reuses(), 0);
}
