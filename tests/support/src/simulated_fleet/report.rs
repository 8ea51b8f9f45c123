//! The result of a case: the load, what devices and the token endpoint saw, and the laws that were broken.

use std::time::Duration;

use super::endpoint::EARLIEST;
use super::{Case, MOST, Mix, SITE, Scenario, World, endpoint, tally};
use crate::bench::figures::Figures;
use crate::simulated_records::{Load, Statement};

/// The result of a case.
pub struct Report {
    pub case: Case,
    /// The load of the database.
    pub load: Load,
    /// The time that was simulated.
    pub time: Duration,
    /// The time from an instance's death while it asked the endpoint until another instance had the next token.
    pub lease_hand_overs: Figures,
    /// The time until the sessions of an instance that died were free.
    pub session_hand_overs: Figures,
    /// The time of the computer that played it.
    pub wall: Duration,
    /// The memory of the process at the end, in MiB.
    pub memory: f64,
    endpoint: endpoint::Counts,
    devices: tally::Counts,
}

impl Report {
    pub(super) fn of(world: &World, time: Duration, blocked: Vec<Duration>) -> Self {
        let seconds = |times: &[Duration]| Figures(times.iter().map(Duration::as_secs_f64).collect());
        let endpoint = world.endpoint.counts();
        Self {
            case: world.case,
            load: world.database.load(),
            time,
            lease_hand_overs: seconds(&endpoint.hand_overs),
            session_hand_overs: seconds(&blocked),
            wall: Duration::ZERO,
            memory: memory(),
            endpoint,
            devices: world.tally.counts(),
        }
    }

    /// Statements a second of these kinds.
    pub fn rate(&self, kinds: &[Statement]) -> f64 {
        let count: u64 = kinds.iter().map(|kind| self.load.statements.of(*kind)).sum();
        count as f64 / self.time.as_secs_f64()
    }

    /// Requests at the token endpoint an hour.
    pub fn requests(&self) -> f64 {
        self.endpoint.requests as f64 * 3600.0 / self.time.as_secs_f64()
    }

    /// Requests for a sign-in and half the life of a token.
    pub fn requests_of_half_life(&self) -> f64 {
        let halves = self.time.as_secs_f64() / (self.case.life.as_secs_f64() / 2.0);
        self.endpoint.requests as f64 / self.case.all_persons() as f64 / halves
    }

    /// Logins of devices.
    pub fn logins(&self) -> u64 {
        self.devices.logins
    }

    /// Logins that found no access token.
    pub fn without_token(&self) -> u64 {
        self.devices.without_token
    }

    /// Logins that got no session of the mailbox within 10 s, or found no instance.
    pub fn without_session(&self) -> u64 {
        self.devices.without_session + self.devices.without_instance
    }

    /// The longest wait of a device for a session.
    pub fn longest_wait(&self) -> Duration {
        self.devices.longest_wait
    }

    /// Refresh tokens that were sent a second time, because an instance died or the database was away.
    pub fn repeated(&self) -> u64 {
        self.endpoint.repeated
    }

    /// Renewals without the database.
    pub fn alone(&self) -> u64 {
        self.endpoint.alone
    }

    /// The most sessions of one mailbox at once.
    pub fn most(&self) -> usize {
        self.devices.most
    }

    /// The most sessions of a mailbox that the rules allow: eight, and the shares of those that have no database.
    pub fn bound(&self) -> usize {
        let share = (MOST / self.case.instances).max(1);
        let alone = match self.case.scenario {
            Scenario::Cut => 1,
            Scenario::Restart => SITE,
            Scenario::Steady
            | Scenario::Deaths
            | Scenario::SlowEndpoint
            | Scenario::RefusingEndpoint
            | Scenario::Rolling
            | Scenario::PowerCut => 0,
        };
        MOST + alone * share
    }

    /// The laws that were broken.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut hold = |is_kept: bool, what: String| {
            if !is_kept {
                broken.push(format!("{:?}: {what}", self.case));
            }
        };
        let (most, bound, counts) = (self.most(), self.bound(), &self.endpoint);
        hold(most <= bound, format!("a mailbox had {most} sessions at once, and {bound} are its bound"));
        hold(counts.reused == 0, format!("{} refresh tokens were spent twice without a crash", counts.reused));
        hold(counts.early == 0, format!("{} renewals came before {EARLIEST} of a life were over", counts.early));
        hold(self.without_token() == 0, format!("{} devices found no token", self.without_token()));
        hold(self.logins() > 0 && self.endpoint.requests > 0, "nothing was simulated".to_owned());
        let is_crowded = self.case.mix == Mix::Sites && self.case.scenario != Scenario::Steady;
        // Without power no instance serves.
        let is_dark = self.case.scenario == Scenario::PowerCut;
        let refused = if is_dark { self.devices.without_session } else { self.without_session() };
        hold(is_crowded || refused == 0, format!("{refused} devices got no session"));
        broken
    }
}

/// The memory of this process, in MiB.
fn memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
