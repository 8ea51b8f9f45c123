//! The newest state is found wherever it is: in the database, among the candidates, or on the local disk.

use std::time::Duration;

use tokio::time::sleep;

use super::world::{self, BEGUN, End, Node, Rotation, SAVED, STEPS, World};
use crate::fleet::lease::{LIFE, LastRenewal, Provenance};

/// An instance is killed at each step of a renewal. From its own disk the newest refresh token is found, unless the
/// endpoint alone knows it; another computer finds what the database has, and learns that there may be more.
#[tokio::test(start_paused = true)]
async fn after_a_kill_at_each_step() {
    for step in 0..STEPS {
        let world = World::new(Rotation::EndsFamily);
        let (killed, other) = (Node::new(&world), Node::new(&world));
        let dying = killed.begun_until(step, End::Killed);
        sleep(Duration::from_secs(2)).await;
        dying.abort();
        let (is_saved, is_committed) = (step >= SAVED, world.is_committed());
        let has_begun = step >= BEGUN - 1 && !is_committed;
        let under_way = if has_begun { LastRenewal::UnderWay } else { LastRenewal::Known };
        let newest = world.newest_access().unwrap();
        let in_database = if is_committed { newest } else { 0 };
        let expected = match is_saved && !is_committed {
            true => (newest, Provenance::Disk, LastRenewal::Known),
            false => (in_database, Provenance::Database, under_way),
        };
        assert_eq!(killed.restarted().newest().await, Some(expected), "step {step}");
        let by_other = |renewal| Some((in_database, Provenance::Database, renewal));
        assert_eq!(other.newest().await, by_other(under_way), "step {step}");
        sleep(LIFE).await;
        let ended = if has_begun { LastRenewal::Unknown } else { LastRenewal::Known };
        assert_eq!(other.newest().await, by_other(ended), "step {step}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_candidate_is_newer_than_the_spent_token() {
    let world = World::new(Rotation::EndsFamily);
    world.leave_candidate(7);
    let found = Node::new(&world).newest().await;
    assert_eq!(found, Some((7, Provenance::Candidate, LastRenewal::Known)));
}

/// The database was restored, or is empty: the disk has what it lacks. Another instance has renewed since: the disk's is
/// the earlier one.
#[tokio::test(start_paused = true)]
async fn the_higher_number_counts() {
    let world = World::new(Rotation::EndsFamily);
    let (one, other) = (Node::new(&world), Node::new(&world));
    let backup = world.snapshot();
    one.renewed().await.unwrap();
    let on_disk = Some((1, Provenance::Disk, LastRenewal::Known));
    for restored in [backup, None] {
        let before = world.snapshot();
        world.restore(restored);
        assert_eq!(one.restarted().newest().await, on_disk);
        world.restore(before);
    }
    sleep(world::LIFE * 6 / 10).await;
    other.renewed().await.unwrap();
    let in_database = Some((2, Provenance::Database, LastRenewal::Known));
    assert_eq!(one.restarted().newest().await, in_database);
    world.restore(None);
    assert_eq!(Node::new(&world).newest().await, None);
}
