//! The protocol over a simulated database and a simulated endpoint, under a paused clock: instances end or freeze at
//! every step.

mod newest;
mod restored;
mod world;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::NotRenewed;
use world::{BEGUN, End, Node, Rotation, SAVED, SPENT, STEPS, World};

#[tokio::test(start_paused = true)]
async fn one_spends_and_the_others_take() {
    let world = World::new(Rotation::EndsFamily);
    let nodes: Vec<Arc<Node>> = (0..40).map(|_| Node::new(&world)).collect();
    for round in 1..=5 {
        let renewals: Vec<_> = nodes.iter().map(|node| node.begun()).collect();
        for renewal in renewals {
            renewal.await.unwrap().unwrap();
        }
        assert_eq!(world.requests(), round, "one asks for all");
        assert!(nodes.iter().all(|node| node.access() == world.newest_access()));
        sleep(world::LIFE * 6 / 10).await;
    }
    assert_eq!(world.reuses(), 0);
}

/// An instance is killed at each step, and another one goes on; or the same one starts again with its disk.
#[tokio::test(start_paused = true)]
async fn killed_at_each_step() {
    for step in 0..STEPS {
        for restarts_first in [true, false] {
            let world = World::new(Rotation::EndsFamily);
            let (killed, other) = (Node::new(&world), Node::new(&world));
            let dying = killed.begun_until(step, End::Killed);
            sleep(Duration::from_secs(2)).await;
            dying.abort();
            let again = killed.restarted();
            let (first, second) = if restarts_first { (again, other) } else { (other, again) };
            let (spent, saved) = (step >= SPENT, step >= SAVED);
            let is_lost = spent && !world.is_committed() && !(saved && restarts_first);
            let result = first.started().await;
            if is_lost {
                // The endpoint alone knows the answer that was lost. No store can do better.
                assert!(matches!(result, Err(NotRenewed::Denied(_))), "step {step}");
                continue;
            }
            result.unwrap_or_else(|error| panic!("step {step}, restart first {restarts_first}: {error:?}"));
            second.started().await.unwrap();
            assert_eq!((first.access(), second.access()), (world.newest_access(), world.newest_access()));
            assert_eq!(world.reuses(), 0, "step {step}");
        }
    }
}

/// An endpoint like Microsoft's lets earlier refresh tokens live: no kill and no freeze makes anybody sign in again.
#[tokio::test(start_paused = true)]
async fn a_lenient_endpoint_loses_nothing() {
    for step in 0..STEPS {
        for end in [End::Killed, End::Frozen] {
            let world = World::new(Rotation::Lenient);
            let (cut, other) = (Node::new(&world), Node::new(&world));
            let cut_task = cut.begun_until(step, end);
            sleep(Duration::from_secs(2)).await;
            other.renewed().await.unwrap_or_else(|error| panic!("step {step}: {error:?}"));
            match end {
                End::Killed => cut_task.abort(),
                // A question to the database that is not answered in time is given up.
                End::Frozen if step < BEGUN => {
                    assert!(matches!(cut_task.await.unwrap(), Err(NotRenewed::Database(_))));
                }
                End::Frozen | End::Stopped => cut_task.await.unwrap().unwrap(),
            }
            cut.restarted().renewed().await.unwrap();
            sleep(world::LIFE).await;
            other.renewed().await.unwrap();
            assert!(world.reuses() <= 1, "step {step}");
            assert!(world.trouble().is_none());
        }
    }
}

/// The holder freezes with the endpoint's answer, and the next one is refused: the answer that comes late is used, and
/// nobody has to sign in.
#[tokio::test(start_paused = true)]
async fn a_late_answer_is_better_than_a_sign_in() {
    for step in SPENT..=SAVED + 1 {
        let world = World::new(Rotation::Refuses);
        let (frozen, other) = (Node::new(&world), Node::new(&world));
        let thawing = frozen.begun_until(step, End::Frozen);
        sleep(Duration::from_secs(1)).await;
        assert!(matches!(other.renewed().await, Err(NotRenewed::Denied(_))), "step {step}");
        assert!(world.trouble().is_some());
        thawing.await.unwrap().unwrap();
        assert!(world.trouble().is_none(), "step {step}: the late answer ends the trouble");
        other.renewed().await.unwrap();
        sleep(world::LIFE).await;
        frozen.renewed().await.unwrap();
    }
}

/// The late answer comes while the next holder still waits for the endpoint: it becomes a candidate, which that holder
/// uses once it is refused.
#[tokio::test(start_paused = true)]
async fn a_candidate_is_tried_before_anybody_signs_in() {
    let world = World::new(Rotation::Refuses);
    let (frozen, other) = (Node::new(&world), Node::new(&world));
    let thawing = frozen.begun_until(SAVED, End::Frozen);
    // The lease of 45 s ends, the other one begins, and its answer takes longer than the freeze of 50 s.
    sleep(Duration::from_secs(1)).await;
    world.delay_answers(Duration::from_secs(10));
    let waiting = other.begun();
    thawing.await.unwrap().unwrap();
    assert_eq!(world.candidates(), 1);
    waiting.await.unwrap().unwrap();
    assert_eq!((world.candidates(), world.trouble()), (0, None));
}

/// The process is stopped between the database's answer and the request. Its lease is over when it goes on: it looks
/// again, and does not spend a refresh token that another instance has spent meanwhile.
#[tokio::test(start_paused = true)]
async fn a_lease_that_is_over_spends_nothing() {
    let world = World::new(Rotation::EndsFamily);
    let (stopped, other) = (Node::new(&world), Node::new(&world));
    // The answer to the beginning is there; what another one does meanwhile happens before this one goes on.
    let going_on = stopped.begun_until(BEGUN - 1, End::Stopped);
    let (going_on, renewed) = tokio::join!(going_on, other.begun());
    going_on.unwrap().unwrap();
    renewed.unwrap().unwrap();
    assert_eq!((world.reuses(), world.requests()), (0, 1));
    assert_eq!((stopped.access(), other.access()), (world.newest_access(), world.newest_access()));
}

/// Candidates that are refused slowly take the time of the lease: the refresh token is sent under the next lease.
#[tokio::test(start_paused = true)]
async fn no_request_goes_on_behind_the_lease() {
    let world = World::new(Rotation::Refuses);
    let node = Node::new(&world);
    world.leave_candidate(world.spent_token());
    world.delay_answers(Duration::from_secs(20));
    assert!(matches!(node.renewed().await, Err(NotRenewed::Held)));
    assert_eq!(world.requests(), 1, "20 s for the candidate, and 30 s for the next answer, are more than 45 s");
    node.renewed().await.unwrap();
    assert_eq!(world.requests(), 2);
}

/// Numbers that no packetboat has written are no reason to stop.
#[tokio::test(start_paused = true)]
async fn the_last_numbers_have_no_next_one() {
    let world = World::new(Rotation::Refuses);
    let (node, other) = (Node::new(&world), Node::new(&world));
    world.write_last_numbers();
    assert!(matches!(node.renewed().await, Err(NotRenewed::OtherKey)));
    node.sign_in().await;
    world.end_family();
    assert!(matches!(other.renewed().await, Err(NotRenewed::Denied(_))));
    node.sign_in().await;
    other.renewed().await.unwrap();
}

/// A refusal is noted for all: nobody else knocks before the pause is over, and then one does.
#[tokio::test(start_paused = true)]
async fn one_refusal_holds_for_all() {
    let world = World::new(Rotation::EndsFamily);
    world.end_family();
    let nodes: Vec<Arc<Node>> = (0..10).map(|_| Node::new(&world)).collect();
    assert!(matches!(nodes[0].renewed().await, Err(NotRenewed::Denied(_))));
    for node in &nodes {
        assert!(matches!(node.renewed().await, Err(NotRenewed::Paused { .. })));
    }
    assert_eq!(world.requests(), 1);
    sleep(world::PAUSE).await;
    assert!(matches!(nodes[1].renewed().await, Err(NotRenewed::Denied(_))));
    // A new sign-in ends the pause.
    nodes[2].sign_in().await;
    nodes[3].renewed().await.unwrap();
    assert_eq!(world.trouble(), None);
}

/// The endpoint is not reached from one instance: the others go on at once.
#[tokio::test(start_paused = true)]
async fn silence_is_one_instances_trouble() {
    let world = World::new(Rotation::EndsFamily);
    let (deaf, other) = (Node::new(&world), Node::new(&world));
    deaf.cut_off_from_endpoint();
    assert!(matches!(deaf.renewed().await, Err(NotRenewed::Denied(_))));
    other.renewed().await.unwrap();
    assert_eq!(world.trouble(), None);
    deaf.renewed().await.unwrap();
    assert_eq!(deaf.access(), world.newest_access());
}

/// A failover loses a commit: the instance that knows it puts it there again, before anybody spends the old token.
#[tokio::test(start_paused = true)]
async fn a_lost_commit_is_put_again() {
    let world = World::new(Rotation::EndsFamily);
    let (one, other) = (Node::new(&world), Node::new(&world));
    let before = world.snapshot();
    one.renewed().await.unwrap();
    world.restore(before);
    sleep(world::LIFE * 6 / 10).await;
    one.renewed().await.unwrap();
    other.renewed().await.unwrap();
    assert_eq!((world.reuses(), other.access()), (0, world.newest_access()));
    // Even if nothing is left, and also after a sign-in that a lost database did not know about.
    world.restore(None);
    one.renewed().await.unwrap();
    world.restore(None);
    other.sign_in().await;
    let newest = world.snapshot().unwrap();
    assert!(matches!(one.renewed().await, Ok(())));
    assert!(world.snapshot().unwrap().generation > newest.generation, "the new sign-in is not replaced by an old one");
}

/// The database is away: each instance renews alone, and the first that delivers counts.
#[tokio::test(start_paused = true)]
async fn without_the_database_each_goes_on_alone() {
    let world = World::new(Rotation::Lenient);
    let (one, other) = (Node::new(&world), Node::new(&world));
    for node in [&one, &other] {
        node.renewed().await.unwrap();
    }
    world.set_away(true);
    for _ in 0..3 {
        sleep(world::LIFE * 7 / 10).await;
        for node in [&one, &other] {
            assert!(matches!(node.renewed().await, Err(NotRenewed::Database(_))));
            node.renewed_alone().await.unwrap();
        }
    }
    world.set_away(false);
    let generation = world.snapshot().unwrap().generation;
    // The disk of one that starts anew has what it did alone.
    for node in [one.restarted(), other] {
        node.renewed().await.unwrap();
        assert!(!node.is_unsent());
    }
    assert!(world.snapshot().unwrap().generation > generation);
    assert_eq!(world.trouble(), None);
}
