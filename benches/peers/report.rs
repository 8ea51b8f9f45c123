//! This file prints the figures as a table and a chart, and compares them with the aims.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use support::bench::records;

use crate::measure::Row;

/// An aim for packetboat's figure in a row.
struct Aim {
    row: &'static str,
    bound: Bound,
}

/// The kind of figure that an aim bounds.
enum Bound {
    /// The ratio to the figure of a proxy, or of another row, at most.
    Ratio(&'static str, f64),
    /// The ratio to the figure of a proxy, at least.
    Times(&'static str, f64),
    /// The figure, at most.
    Figure(f64),
    /// The figure, at most what the record before has.
    Before,
}

use Bound::{Before, Figure, Ratio, Times};

const fn aim(row: &'static str, bound: Bound) -> Aim {
    Aim { row, bound }
}

/// The aims of the last work on each row.
const AIMS: [Aim; 38] = [
    aim("translated session, device resumes, 16 devices at a time, TLS 1.3 out, parked", Ratio("nginx", 0.45)),
    aim("translated session, full handshake, 16 devices at a time, TLS 1.3 out, parked", Ratio("nginx", 0.66)),
    aim("translated session, device resumes, 16 devices at a time, TLS 1.3 out, dialled", Ratio("nginx", 0.58)),
    aim("translated session, full handshake, 16 devices at a time, TLS 1.3 out, dialled", Ratio("nginx", 0.72)),
    aim("session, device resumes, 16 devices at a time, TLS 1.3 out", Ratio("nginx", 0.58)),
    aim("session, device resumes, 16 devices at a time, TLS 1.2 out", Ratio("nginx", 0.58)),
    aim("session, full handshake, 16 devices at a time, TLS 1.3 out", Ratio("nginx", 0.72)),
    aim("session, full handshake, 16 devices at a time, TLS 1.2 out", Ratio("nginx", 0.72)),
    aim("NOOP round trip, one at a time", Ratio("nginx", 0.90)),
    aim("NOOP round trip, 16 devices at a time", Ratio("nginx", 0.80)),
    aim("NOOP round trip, one at a time, park = \"5m\"", Ratio("nginx", 0.90)),
    aim("NOOP round trip, 16 devices at a time, park = \"5m\"", Ratio("nginx", 0.80)),
    aim("system calls of a session, full handshake, 16 devices at a time", Ratio("nginx", 1.0)),
    aim("system calls of a NOOP, 16 devices at a time", Ratio("nginx", 1.0)),
    aim("connections per second by the CPU time of each, parked", Times("nginx", 1.5)),
    aim("connections per second by the CPU time of each, dialled", Times("nginx", 1.3)),
    aim("connections per second: two cores by the CPU time of each", Times("nginx", 1.3)),
    // One round trip and 2 ms.
    aim("LOGIN to OK, server 40 ms away, parked", Figure(42.0)),
    aim("LOGIN to OK, server 40 ms away whose login takes 5 s, parked", Figure(100.0)),
    aim("logins at the server in a day of a poll each minute, park = \"5m\"", Figure(72.0)),
    aim("idle connection, memory (PSS), of 1000", Before),
    aim("idle connection, memory (PSS), of 9900", Before),
    aim("idle connection, memory (PSS), of 1000", Ratio("haproxy", 0.60)),
    aim("idle connection, memory (PSS), of 9900", Ratio("haproxy", 0.60)),
    aim("bulk, AES-256, records of 16 KiB", Ratio("nginx", 0.60)),
    aim("bulk, AES-256, records of 4 KiB", Ratio("nginx", 0.60)),
    aim("bulk, AES-256, records of 1,400 octets", Ratio("nginx", 0.60)),
    aim("bulk, AES-256, records of 16 KiB, device offers encrypt-then-MAC", Ratio("nginx", 0.60)),
    aim("translated session", Ratio("passed through", 1.10)),
    aim("session that sends, full handshake, 16 devices at a time, TLS 1.3 out", Ratio("nginx", 0.80)),
    aim("session that sends, full handshake, 16 devices at a time, TLS 1.2 out", Ratio("nginx", 0.80)),
    aim("session that sends, device resumes, 16 devices at a time, TLS 1.3 out", Ratio("nginx", 0.80)),
    aim("session that sends, device resumes, 16 devices at a time, TLS 1.2 out", Ratio("nginx", 0.80)),
    aim("message of 35 MB, TLS 1.3 out", Ratio("nginx", 0.85)),
    aim("message of 35 MB, TLS 1.2 out", Ratio("nginx", 0.85)),
    aim("message, packetboat", Ratio("message, Postfix", 0.20)),
    aim("message, packetboat", Ratio("message, email-oauth2-proxy", 0.02)),
    aim("translated session, TLS 1.2 in, simulator", Ratio("email-oauth2-proxy", 0.05)),
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

/// The aims and the results beside them. A row that was wanted and has no figure was not measured.
pub fn aims(names: &[&str], rows: &[Row]) -> String {
    let mut text = String::from("| aimed at | bound | is |\n|---|---|---|\n");
    for Aim { row: name, bound } in &AIMS {
        let Some(row) = rows.iter().find(|row| row.name == *name) else { continue };
        let (bound, result) = match bound {
            Ratio(by, most) => {
                (format!("by {by}, at most {most:.2}"), ratio(names, rows, row, by).map(|is| (is, is <= *most)))
            }
            Times(by, least) => {
                (format!("by {by}, at least {least:.2}"), ratio(names, rows, row, by).map(|is| (is, is >= *least)))
            }
            Figure(most) => {
                (format!("{} {}, at most", number(*most), row.unit), median(row, 0).map(|is| (is, is <= *most)))
            }
            Before => {
                let root = Path::new(env!("CARGO_MANIFEST_DIR"));
                let Some(record) = records::newest(root, name) else { continue };
                let Some((most, unit)) = record.figure(name, "packetboat") else { continue };
                let most: f64 = most.parse().unwrap();
                let bound = format!("{} {unit} as in {}, at most", number(most), record.name);
                (bound, median(row, 0).map(|is| (is, is <= most)))
            }
        };
        let result = match result {
            Some((is, met)) => format!("{} {}", number(is), if met { "yes" } else { "**no**" }),
            None => "not measured".to_owned(),
        };
        let _ = writeln!(text, "| {name} | {bound} | {result} |");
    }
    text
}

/// The ratio of packetboat's figure to that of a proxy in the same row, or to that of another row.
fn ratio(names: &[&str], rows: &[Row], row: &Row, by: &str) -> Option<f64> {
    let other = match names.iter().position(|name| *name == by) {
        Some(place) => median(row, place),
        None => median(rows.iter().find(|row| row.name == by)?, 0),
    };
    Some(median(row, 0)? / other?)
}

/// The median of the proxy in this place.
fn median(row: &Row, place: usize) -> Option<f64> {
    Some(row.figures.get(place)?.as_ref()?.median())
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
        aims(names, rows),
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
