//! The tables of the bench, in Markdown, a line as soon as its case has been played.

use support::bench::figures::Figures;
use support::simulated_fleet::Report;
use support::simulated_records::Statement;

use super::words;

/// The head of a table of loads.
pub fn head_of_loads(instances: usize) {
    head(
        &format!("{instances} instances, {} devices, in peace", instances * 100),
        "mix | poll | statements a second | worst second | instances | news | sessions | sign-ins | rows of lists a second | rows counted a second | \
         token requests an hour | for a sign-in and half life | most sessions | refused | real time | memory",
    );
}

/// A fleet in peace.
pub fn load(report: &Report) {
    let [mix, _] = words(report);
    let of = |kinds: &[Statement]| rate(report.rate(kinds));
    row(&[
        mix,
        format!("{} min", report.case.poll.as_secs() / 60),
        of(&Statement::ALL),
        report.load.worst_second.to_string(),
        of(&[Statement::Register, Statement::List, Statement::Count]),
        of(&[Statement::News]),
        of(&[Statement::Borrow, Statement::Renew, Statement::Return, Statement::Mailbox]),
        of(&[Statement::ReadSignIn, Statement::Begin, Statement::Commit, Statement::ChangeSignIn]),
        rate_of_rows(report, report.load.listed),
        rate_of_rows(report, report.load.counted),
        format!("{:.0}", report.requests()),
        format!("{:.2}", report.requests_of_half_life()),
        report.most().to_string(),
        refused(report),
        format!("{:.1} s", report.wall.as_secs_f64()),
        format!("{:.0} MiB", report.memory),
    ]);
}

/// The head of a table of troubles.
pub fn head_of_troubles(instances: usize) {
    head(
        &format!("{instances} instances in trouble, polls each 5 min"),
        "event | mix | statements a second | worst second | connections in the worst second | token requests an hour | without the database | \
         spent again behind a death | lease handed over | sessions handed over | most sessions | longest wait | refused | \
         real time",
    );
}

/// A fleet in trouble.
pub fn trouble(report: &Report) {
    let [mix, event] = words(report);
    row(&[
        event,
        mix,
        rate(report.rate(&Statement::ALL)),
        report.load.worst_second.to_string(),
        report.load.worst_second_of_connections.to_string(),
        format!("{:.0}", report.requests()),
        report.alone().to_string(),
        report.repeated().to_string(),
        times(&report.lease_hand_overs),
        times(&report.session_hand_overs),
        format!("{} of {}", report.most(), report.bound()),
        format!("{:.1} s", report.longest_wait().as_secs_f64()),
        refused(report),
        format!("{:.1} s", report.wall.as_secs_f64()),
    ]);
}

/// Median and worst.
fn times(figures: &Figures) -> String {
    match figures.0.is_empty() {
        true => String::new(),
        false => format!("{:.0} s, {:.0} s", figures.median(), figures.quantile(1.0)),
    }
}

/// Rows a second.
fn rate_of_rows(report: &Report, rows: u64) -> String {
    rate(rows as f64 / report.time.as_secs_f64())
}

fn refused(report: &Report) -> String {
    format!("{} of {}", report.without_token() + report.without_session(), report.logins())
}

fn rate(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.2}") } else { format!("{rate:.0}") }
}

fn head(title: &str, columns: &str) {
    println!("\n## {title}\n\n| {columns} |\n|{}", "---|".repeat(columns.matches('|').count() + 1));
}

fn row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}
