//! The events of the measured time.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::site::Site;
use super::{SITE, Scenario, World};

/// Plays the events of the case until its time is over. Returns the times for which sessions of killed instances were
/// still borrowed.
pub(super) async fn play(world: &Arc<World>, sites: &[Arc<Site>]) -> Vec<Duration> {
    let end = Instant::now() + world.case.time;
    let mut blocked = Vec::new();
    match world.case.scenario {
        Scenario::Steady => {}
        Scenario::Deaths => blocked = deaths(world, sites, end).await,
        Scenario::Cut => {
            sleep(MINUTE).await;
            let cut: Vec<_> = sites.iter().take(victims(world)).filter_map(|site| site.member(0)).collect();
            cut.iter().for_each(|instance| instance.way.cut(true));
            sleep(TROUBLE).await;
            cut.iter().for_each(|instance| instance.way.cut(false));
        }
        Scenario::Restart => {
            sleep(MINUTE).await;
            world.database.set_away(true);
            world.database.crash();
            sleep(DOWN).await;
            world.database.set_away(false);
        }
        Scenario::SlowEndpoint => world.endpoint.set_delay(SLOW),
        Scenario::RefusingEndpoint => {
            sleep(MINUTE).await;
            world.endpoint.refuse(true);
            sleep(TROUBLE).await;
            world.endpoint.refuse(false);
        }
        Scenario::Rolling => rolling(world, sites).await,
        Scenario::PowerCut => {
            sleep(MINUTE).await;
            blocked = power_cut(world, sites).await;
        }
    }
    sleep_until(end).await;
    blocked
}

/// The number of instances that something befalls, one of a site.
fn victims(world: &World) -> usize {
    (world.case.instances / 100).clamp(1, MOST_VICTIMS)
}

/// Kills instances while they wait for the token endpoint, and starts each again later.
async fn deaths(world: &Arc<World>, sites: &[Arc<Site>], end: Instant) -> Vec<Duration> {
    let mut blocked = Vec::new();
    for _ in 0..victims(world) {
        let whole = |instance: usize| sites[instance / SITE].serving() == SITE;
        let Ok((number, person)) = timeout_at(end, world.endpoint.until_asked(whole)).await else { break };
        let (site, member) = (Arc::clone(&sites[number / SITE]), number % SITE);
        let Some(instance) = site.take_out(member) else { continue };
        blocked.extend(world.database.held_by(instance.id()));
        world.endpoint.died(person);
        instance.kill();
        let world = Arc::clone(world);
        tokio::spawn(async move {
            sleep(BURIED).await;
            site.begin(&world, member).await;
        });
    }
    blocked
}

/// Kills all instances at once, and starts them together.
async fn power_cut(world: &Arc<World>, sites: &[Arc<Site>]) -> Vec<Duration> {
    let mut blocked = Vec::new();
    world.endpoint.cut_power();
    for site in sites {
        for member in 0..world.case.members(site.number).len() {
            if let Some(instance) = site.take_out(member) {
                blocked.extend(world.database.held_by(instance.id()));
                instance.kill();
            }
        }
    }
    sleep(DARK).await;
    for site in sites {
        for member in 0..world.case.members(site.number).len() {
            let (world, site) = (Arc::clone(world), Arc::clone(site));
            tokio::spawn(async move {
                sleep(world.within(TOGETHER)).await;
                site.begin(&world, member).await;
            });
        }
    }
    blocked
}

/// Restarts all instances, at each site one after the other.
async fn rolling(world: &Arc<World>, sites: &[Arc<Site>]) {
    let mut restarts = JoinSet::new();
    for site in sites {
        let (world, site) = (Arc::clone(world), Arc::clone(site));
        restarts.spawn(async move {
            sleep(world.within(ROLLED)).await;
            for member in 0..world.case.members(site.number).len() {
                // Where a site has one instance, nobody else would serve its devices.
                if site.serving() > 1
                    && let Some(old) = site.take_out(member)
                {
                    // The next process has the state directory of the one before, and starts when that has ended.
                    old.stop().await;
                    site.begin(&world, member).await;
                }
                sleep(BETWEEN_RESTARTS).await;
            }
        });
    }
    while restarts.join_next().await.is_some() {}
}

const MINUTE: Duration = Duration::from_secs(60);
/// The time of a trouble.
const TROUBLE: Duration = Duration::from_secs(10 * 60);
/// The time for which the database is away.
const DOWN: Duration = Duration::from_secs(3 * 60);
/// The answer of a slow endpoint: packetboat waits for 30 s.
const SLOW: Duration = Duration::from_secs(25);
/// The time until a killed instance starts again.
const BURIED: Duration = Duration::from_secs(5 * 60);
/// The time in which the sites begin to restart.
const ROLLED: Duration = Duration::from_secs(5 * 60);
/// The time from one restart of a site to the next.
const BETWEEN_RESTARTS: Duration = Duration::from_secs(30);
/// The time without power, with the start of the computers.
const DARK: Duration = Duration::from_secs(30);
/// The time within which all instances start.
const TOGETHER: Duration = Duration::from_secs(2);
const MOST_VICTIMS: usize = 30;
