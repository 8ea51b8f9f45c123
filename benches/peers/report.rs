//! This file prints the figures as a table and a chart, and compares them with the targets.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use crate::measure::Row;

/// A target: a row, the proxy that it is compared with, and the largest ratio allowed.
struct Target {
    row: &'static str,
    by: &'static str,
    most: f64,
}

/// Targets; each bounds the ratio of packetboat's figure to another proxy's.
const TARGETS: [Target; 23] = [
    Target { row: "session, full handshake, 16 devices at a time, TLS 1.3 out", by: "nginx", most: 0.50 },
    Target { row: "session, full handshake, 16 devices at a time, TLS 1.2 out", by: "nginx", most: 0.50 },
    Target { row: "session, device resumes, 16 devices at a time, TLS 1.3 out", by: "nginx", most: 0.40 },
    Target { row: "session, device resumes, 16 devices at a time, TLS 1.2 out", by: "nginx", most: 0.40 },
    Target { row: "bulk, AES-256, records of 16 KiB", by: "nginx", most: 0.60 },
    Target { row: "bulk, AES-256, records of 4 KiB", by: "nginx", most: 0.60 },
    Target { row: "bulk, AES-256, records of 1,400 octets", by: "nginx", most: 0.60 },
    Target { row: "bulk, AES-256, records of 16 KiB, device offers encrypt-then-MAC", by: "nginx", most: 0.60 },
    Target { row: "NOOP round trip, one at a time", by: "nginx", most: 0.80 },
    Target { row: "NOOP round trip, 16 devices at a time", by: "nginx", most: 0.80 },
    Target { row: "idle connection, memory (PSS), of 1000", by: "haproxy", most: 0.60 },
    Target { row: "idle connection, memory (PSS), of 9900", by: "haproxy", most: 0.60 },
    // nginx must need 1.8 times the CPU time, which means 1.8 times as many sessions per second.
    Target { row: "session, full handshake, 16 devices at a time, TLS 1.3 out", by: "nginx", most: 1.0 / 1.8 },
    Target { row: "translated session", by: "passed through", most: 1.10 },
    Target { row: "session that sends, full handshake, 16 devices at a time, TLS 1.3 out", by: "nginx", most: 0.80 },
    Target { row: "session that sends, full handshake, 16 devices at a time, TLS 1.2 out", by: "nginx", most: 0.80 },
    Target { row: "session that sends, device resumes, 16 devices at a time, TLS 1.3 out", by: "nginx", most: 0.80 },
    Target { row: "session that sends, device resumes, 16 devices at a time, TLS 1.2 out", by: "nginx", most: 0.80 },
    Target { row: "message of 35 MB, TLS 1.3 out", by: "nginx", most: 0.85 },
    Target { row: "message of 35 MB, TLS 1.2 out", by: "nginx", most: 0.85 },
    Target { row: "message, packetboat", by: "message, Postfix", most: 0.20 },
    Target { row: "message, packetboat", by: "message, email-oauth2-proxy", most: 0.02 },
    Target { row: "translated session, TLS 1.2 in, simulator", by: "email-oauth2-proxy", most: 0.05 },
];

/// The rows as a table, with ratios to nginx and to the best of the others.
pub fn table(names: &[&str], rows: &[Row]) -> String {
    let mut text =
        format!("| CPU time, unless it says otherwise | | {} | by nginx | by the best other |\n", names.join(" | "));
    let _ = writeln!(text, "|---|---|{}---|---|", "---|".repeat(names.len()));
    for row in rows {
        let medians: Vec<Option<f64>> =
            row.figures.iter().map(|figures| figures.as_ref().map(support::bench::figures::Figures::median)).collect();
        let shown = (0..names.len()).map(|place| medians.get(place).copied().flatten().map_or("–".to_owned(), number));
        let own = medians.first().copied().flatten();
        let more_is_better = row.unit == "1/s";
        let others = medians.iter().skip(1).flatten().copied();
        let best = if more_is_better { others.reduce(f64::max) } else { others.reduce(f64::min) };
        let nginx =
            names.iter().position(|name| *name == "nginx").and_then(|place| medians.get(place).copied().flatten());
        let ratio = |other: Option<f64>| match (own, other) {
            (Some(own), Some(other)) if other > 0.0 => format!("{:.2}", own / other),
            _ => "–".to_owned(),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            row.name,
            row.unit,
            shown.collect::<Vec<_>>().join(" | "),
            ratio(nginx),
            ratio(best)
        );
    }
    text
}

/// The targets and the results beside them.
pub fn targets(names: &[&str], rows: &[Row]) -> String {
    let mut text = String::from("| aimed at | at most | is |\n|---|---|---|\n");
    for Target { row: name, by, most } in TARGETS {
        let find = |whose: &str| {
            let row = rows.iter().find(|row| row.name == name)?;
            let place = names.iter().position(|one| *one == whose)?;
            row.figures.get(place)?.as_ref().map(support::bench::figures::Figures::median)
        };
        let other = rows.iter().find(|row| row.name == name).and_then(|_| find(by));
        let other =
            other.or_else(|| rows.iter().find(|row| row.name == by)?.figures.first()?.as_ref().map(|f| f.median()));
        if let (Some(own), Some(other)) = (find("packetboat"), other) {
            let ratio = own / other;
            let mark = if ratio <= most { "yes" } else { "**no**" };
            let _ = writeln!(text, "| {name}, by {by} | {most:.2} | {ratio:.2} {mark} |");
        }
    }
    text
}

/// A chart of each proxy's rows, with bars relative to packetboat's own.
pub fn chart(names: &[&str], rows: &[Row]) -> String {
    const SHOWN: [(&str, &str); 7] = [
        ("session, full handshake, 16 devices at a time, TLS 1.3 out", "whole session, full handshake"),
        ("session, device resumes, 16 devices at a time, TLS 1.3 out", "whole session, device resumes"),
        ("bulk, AES-256, records of 16 KiB", "download, records of 16 KiB"),
        ("bulk, AES-256, records of 1,400 octets", "download, records of 1,400 octets"),
        ("upload", "upload"),
        ("NOOP round trip, 16 devices at a time", "NOOP round trip"),
        ("idle connection, memory (PSS), of 1000", "memory of an idle connection"),
    ];
    const COLOURS: [&str; 4] = ["#0b6e99", "#7a9e3b", "#c98a1b", "#a4506c"];
    let (left, bar, gap, scale) = (250, 13, 16, 110.0);
    let height = 60 + SHOWN.len() * (names.len() * bar + gap);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1000 {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"1000\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"15\" fill=\"#222\">CPU time and memory, packetboat = 1 (less is better)</text>\n"
    );
    for (place, name) in names.iter().enumerate() {
        let x = left + place * 120;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"32\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{}\" y=\"42\" fill=\"#222\">{name}</text>",
            COLOURS[place % COLOURS.len()],
            x + 17
        );
    }
    let mut y = 60;
    for (name, label) in SHOWN {
        let Some(row) = rows.iter().find(|row| row.name == name) else { continue };
        let median = |place: usize| row.figures.get(place)?.as_ref().map(support::bench::figures::Figures::median);
        let Some(own) = median(0) else { continue };
        let middle = y + names.len() * bar / 2 + 4;
        let _ =
            writeln!(svg, "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\" fill=\"#222\">{label}</text>", left - 10);
        for place in 0..names.len() {
            if let Some(figure) = median(place) {
                let width = figure / own * scale;
                let _ = writeln!(
                    svg,
                    "<rect x=\"{left}\" y=\"{y}\" width=\"{width:.0}\" height=\"{}\" fill=\"{}\"/>\
                     <text x=\"{:.0}\" y=\"{}\" font-size=\"10\" fill=\"#222\">{:.2} ({} {})</text>",
                    bar - 2,
                    COLOURS[place % COLOURS.len()],
                    left as f64 + width + 4.0,
                    y + 9,
                    figure / own,
                    number(figure),
                    row.unit
                );
            }
            y += bar;
        }
        y += gap;
    }
    svg + "</svg>\n"
}

/// Writes the dated record, with the chart beside it.
pub fn record(directory: &Path, names: &[&str], versions: &[String], notes: &[String], rows: &[Row]) {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let (date, _) = now.split_once('T').unwrap();
    let output = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown").to_owned();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let text = format!(
        "# Beside the relays that people use today, {date}\n\n`make bench` writes this file. {model}, {cores} cores; Linux {}; {}; {}.\n\n\
         ![CPU time and memory beside nginx, HAProxy and stunnel]({date}-peers.svg)\n\n{}\n## What was aimed at\n\n{}\n## How\n\n{}\n",
        output("uname", "-r"),
        output("rustc", "--version"),
        versions.join(", "),
        table(names, rows),
        targets(names, rows),
        notes.iter().map(|note| format!("- {note}\n")).collect::<String>()
    );
    fs::write(directory.join(format!("{date}-peers.md")), text).unwrap();
    fs::write(directory.join(format!("{date}-peers.svg")), chart(names, rows)).unwrap();
}

fn number(figure: f64) -> String {
    match figure {
        figure if figure >= 100.0 => format!("{figure:.0}"),
        figure if figure >= 10.0 => format!("{figure:.1}"),
        figure => format!("{figure:.2}"),
    }
}
