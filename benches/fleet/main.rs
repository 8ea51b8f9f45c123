//! This bench plays fleets of up to ten thousand instances with a hundred devices each, over packetboat's own leases,
//! borrowed sessions and registrations, with a simulated clock, database and token endpoint.
//!
//! It prints what they load, and fails where a law is broken: a mailbox beyond its bound, a refresh token spent twice
//! without a crash, a sign-in renewed before its half life, a device without a token. `make bench-fleet`, or some of it:
//! `cargo bench --bench fleet -- 30 300`, or `-- 3000 steady restart` for some scenarios. The figures are counts on a
//! simulated clock: they vary a little by chance, and only the wall time depends on the computer.

#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod table;

use std::time::Duration;

use support::bench;
use support::simulated_fleet::{Case, Mix, Report, Scenario};

fn main() {
    bench::main(|words| {
        let (numbers, names): (Vec<_>, Vec<_>) = words.iter().partition(|word| word.parse::<usize>().is_ok());
        let sizes: Vec<usize> = numbers.into_iter().map(|number: &&str| number.parse().unwrap()).collect();
        let sizes = if sizes.is_empty() { SIZES.to_vec() } else { sizes };
        let scenarios: Vec<Scenario> = names.into_iter().map(|name| named(name)).collect();
        let scenarios = if scenarios.is_empty() { Scenario::ALL.to_vec() } else { scenarios };
        let broken: Vec<String> = sizes.into_iter().flat_map(|instances| measure(instances, &scenarios)).collect();
        if !broken.is_empty() {
            println!("laws that were broken:\n{}", broken.join("\n"));
            std::process::exit(1);
        }
    });
}

/// The scenario with this name.
fn named(name: &str) -> Scenario {
    let is_it = |scenario: &Scenario| format!("{scenario:?}").eq_ignore_ascii_case(name);
    Scenario::ALL.into_iter().find(is_it).unwrap_or_else(|| panic!("{name} is no scenario: {:?}", Scenario::ALL))
}

/// Plays these scenarios with a fleet of this size, and returns the laws that were broken.
fn measure(instances: usize, scenarios: &[Scenario]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut play = |case: Case| {
        let report = case.run();
        broken.extend(report.broken());
        report
    };
    if scenarios.contains(&Scenario::Steady) {
        table::head_of_loads(instances);
        for (mix, minutes) in polls(instances) {
            let poll = minutes * MINUTE;
            let case = Case { poll, time: time_of(instances), ..Case::new(instances, mix, Scenario::Steady) };
            table::load(&play(case));
        }
    }
    let troubles = troubles(instances, scenarios);
    if !troubles.is_empty() {
        table::head_of_troubles(instances);
    }
    for (mix, scenario) in troubles {
        let case = Case { time: time_of(instances), ..Case::new(instances, mix, scenario) };
        table::trouble(&play(case));
    }
    broken
}

/// The mixes of a fleet in peace, and the minutes between two polls of a device.
fn polls(instances: usize) -> Vec<(Mix, u32)> {
    match instances {
        ..LARGE => Mix::ALL.into_iter().flat_map(|mix| [1, 5, 15].map(|minutes| (mix, minutes))).collect(),
        LARGE..MANY => Mix::ALL.into_iter().map(|mix| (mix, 5)).collect(),
        MANY..HUGE => vec![(Mix::TenDevices, 5)],
        _ => vec![(Mix::Sites, 5), (Mix::TenDevices, 5)],
    }
}

/// The mixes and the events of a fleet in trouble.
fn troubles(instances: usize, scenarios: &[Scenario]) -> Vec<(Mix, Scenario)> {
    let mixes: &[Mix] = if instances < LARGE { &Mix::ALL } else { &[Mix::TenDevices] };
    let events = scenarios.iter().filter(|scenario| **scenario != Scenario::Steady);
    events.flat_map(|scenario| mixes.iter().map(move |mix| (*mix, *scenario))).collect()
}

/// The time that is measured. In a huge fleet so many sign-ins are renewed at any time that minutes show the rate.
fn time_of(instances: usize) -> Duration {
    match instances {
        ..LARGE => 60 * MINUTE,
        LARGE..MANY => 35 * MINUTE,
        MANY..HUGE => 12 * MINUTE,
        _ => 5 * MINUTE,
    }
}

const SIZES: [usize; 5] = [3, 30, 300, 3_000, 10_000];
/// A fleet of which not every mix is played.
const LARGE: usize = 100;
/// A fleet of which one mix is played, for less time.
const MANY: usize = 1_000;
/// A fleet of which few cases are played, for less time.
const HUGE: usize = 5_000;
const MINUTE: Duration = Duration::from_secs(60);

/// The words for a case.
fn words(report: &Report) -> [String; 2] {
    let mix = match report.case.mix {
        Mix::OnePerson => "one person, a mailbox for ten devices",
        Mix::Sites => "a person and a mailbox for a site",
        Mix::TenDevices => "a person and a mailbox for ten devices",
    };
    let scenario = match report.case.scenario {
        Scenario::Steady => "steady",
        Scenario::Deaths => "instances killed at the endpoint",
        Scenario::Cut => "instances cut off for 10 min",
        Scenario::Restart => "database away for 3 min",
        Scenario::SlowEndpoint => "endpoint answers after 25 s",
        Scenario::RefusingEndpoint => "endpoint refuses for 10 min",
        Scenario::Rolling => "all instances restarted",
        Scenario::PowerCut => "all instances killed, and started together",
    };
    [mix.to_owned(), scenario.to_owned()]
}
