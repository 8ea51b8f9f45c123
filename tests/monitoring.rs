//! These tests prove that Prometheus accepts the alert rules, that alerts fire when they should, and that rules and
//! dashboard name real metrics.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Words of a text that begin with `beginning`.
fn words(text: &str, beginning: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_word(c)).filter(|word| word.starts_with(beginning)).map(str::to_owned).collect()
}

#[test]
fn prometheus_takes_the_rules_and_they_fire_when_they_should() {
    let check: &[&str] = &["check", "rules", "packetboat.rules.yml"];
    let test: &[&str] = &["test", "rules", "packetboat.test.yml", "packetboat-expiry.test.yml"];
    for arguments in [check, test] {
        let mut promtool = Command::new("promtool");
        let output = promtool.args(arguments).current_dir(root().join("config/prometheus")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}

/// An alert on a misspelt metric would never fire.
#[test]
fn rules_and_dashboard_ask_for_metrics_that_there_are() {
    let source = read("src/metrics/definitions.rs")
        + &read("src/metrics/process.rs")
        + &read("src/metrics/fleet.rs")
        + &read("src/metrics/spool.rs")
        + &read("src/metrics/parking.rs");
    let known: BTreeSet<String> = words(&source, "packetboat_").into_iter().chain(words(&source, "process_")).collect();
    assert!(known.len() > 20);
    for file in ["config/prometheus/packetboat.rules.yml", "config/grafana/packetboat.json"] {
        // Recorded series are left out; their names have colons.
        let text: String =
            read(file).split_whitespace().filter(|word| !word.contains(":packetboat_")).collect::<Vec<_>>().join(" ");
        for name in words(&text, "packetboat_").into_iter().chain(words(&text, "process_")) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
            assert!(known.contains(base), "{file} asks for {name}");
        }
    }
    serde_json::from_str::<serde_json::Value>(&read("config/grafana/packetboat.json")).unwrap();
}

/// Each alert has a section of the operations page that says what to do.
#[test]
fn every_alert_has_its_chapter() {
    let (rules, pages) = (read("config/prometheus/packetboat.rules.yml"), read("docs/operations.md"));
    let headings: BTreeSet<String> = pages
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')))
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let runbooks: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("runbook: ")).collect();
    assert!(alerts.len() > 20);
    assert_eq!(alerts.len(), runbooks.len());
    // Two alerts of one name would have one section, which is about one of them alone.
    let mut seen = BTreeSet::new();
    let twice: Vec<&&str> = alerts.iter().filter(|alert| !seen.insert(**alert)).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for runbook in runbooks {
        let anchor =
            runbook.trim_matches('"').strip_prefix("docs/operations.md#").unwrap_or_else(|| panic!("{runbook}"));
        assert!(headings.contains(anchor), "{runbook} leads nowhere");
    }
}

/// systemd-analyze accepts the unit, and the unit shuts the service off from everything it does not need. The program
/// itself is not installed.
#[test]
fn the_service_is_hardened() {
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("packetboat.service");
    fs::copy(root().join("config/systemd/packetboat.service"), &unit).unwrap();
    let analysed = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=15", "--no-pager"])
        .arg(&unit)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&analysed.stdout).into_owned();
    let verdict = said.lines().last().unwrap_or_default().to_owned();
    assert!(analysed.status.success() && verdict.contains("exposure level"), "{said}");
}
