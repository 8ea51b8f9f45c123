//! This file reads the records of the bench, and writes README's tables of costs from the newest of them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The table of one record.
pub struct Record {
    /// The file's name without its ending, in the form `2026-11-27-peers`.
    pub name: String,
    /// The names of the programs, in the order of the columns.
    programs: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Record {
    /// The figure of a program in the row of this name, as the record has it, with its unit.
    pub fn figure(&self, row: &str, program: &str) -> Option<(&str, &str)> {
        let cells = self.rows.iter().find(|cells| cells[0] == row)?;
        let place = self.programs.iter().position(|name| name.eq_ignore_ascii_case(program))?;
        let figure = cells.get(place + 2)?.as_str();
        (figure != MISSING).then_some((figure, cells[1].as_str()))
    }

    /// Reads a record's first table.
    fn read(name: &str, text: &str) -> Option<Self> {
        let mut lines = text.lines().skip_while(|line| !line.starts_with(HEAD));
        let mut programs = cells(lines.next()?).split_off(2);
        programs.retain(|name| !name.starts_with("by "));
        let rows = lines.skip(1).map_while(|line| line.starts_with('|').then(|| cells(line))).collect();
        Some(Self { name: name.to_owned(), programs, rows })
    }
}

/// The newest record below `benches/record/` that has a row of this name.
pub fn newest(root: &Path, row: &str) -> Option<Record> {
    let mut names: Vec<String> = fs::read_dir(root.join(DIRECTORY))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".md").map(str::to_owned))
        .collect();
    // A day's record of `make bench` comes before one that a person has written.
    names.sort_by_key(|name| (name.get(..10).unwrap_or_default().to_owned(), name.ends_with("-peers")));
    let read = |name: &String| {
        let text = fs::read_to_string(root.join(DIRECTORY).join(format!("{name}.md"))).unwrap();
        Record::read(name, &text).filter(|record| record.rows.iter().any(|cells| cells[0] == row))
    };
    names.iter().rev().find_map(read)
}

/// README with its tables of costs as the newest records have them.
///
/// # Panics
/// README lacks the two lines between which the tables stand, or there is no record.
pub fn readme(root: &Path) -> String {
    let text = fs::read_to_string(root.join(README)).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("README has the line before the tables of costs");
    let (_, after) = rest.split_once(END).expect("README has the line behind the tables of costs");
    format!("{before}{BEGIN}{}{END}{after}", costs(root))
}

/// Writes README's tables of costs.
pub fn write_readme(root: &Path) {
    fs::write(root.join(README), readme(root)).unwrap();
}

fn costs(root: &Path) -> String {
    let mut text = String::new();
    for (what, rows) in [("Reading", &READING[..]), ("Sending", &SENDING[..])] {
        let record = newest(root, rows[0].1).expect("a record has the row");
        let name = &record.name;
        let _ = writeln!(text, "\n{what}, measured on {} ([record](benches/record/{name}.md)):\n", &name[..10]);
        text += "| | packetboat | nginx stream | HAProxy | stunnel |\n|---|---|---|---|---|\n";
        for (label, row) in rows {
            if record.figure(row, PROGRAMS[0]).is_some() {
                let figures = PROGRAMS.map(|program| record.figure(row, program).map_or(String::new(), shown));
                let _ = writeln!(text, "| {label} | {} |", figures.join(" | "));
            }
        }
    }
    text += &waits(root);
    let name = newest(root, READING[0].1).expect("a record has the row").name;
    let _ = writeln!(text, "\n![CPU time and memory beside nginx, HAProxy and stunnel](benches/record/{name}.svg)\n");
    text
}

/// The waits for a login, where a record has them.
fn waits(root: &Path) -> String {
    let Some(record) = newest(root, &format!("{}, parked", WAITS[0].1)) else { return String::new() };
    let name = &record.name;
    let mut text = format!(
        "\nA device's wait from LOGIN to OK by the server's connection that it gets ([record](benches/record/{name}.md)):\n\n\
         | | dialled | warm | parked |\n|---|---|---|---|\n"
    );
    for (label, row) in WAITS {
        let figure = |way: &str| record.figure(&format!("{row}, {way}"), PROGRAMS[0]).map_or(String::new(), shown);
        let _ = writeln!(text, "| {label} | {} |", ["dialled", "warm", "parked"].map(figure).join(" | "));
    }
    text
}

/// A figure with its unit; a row says by itself that it is for a MiB.
fn shown((figure, unit): (&str, &str)) -> String {
    format!("{figure} {}", unit.trim_end_matches("/MiB"))
}

fn cells(line: &str) -> Vec<String> {
    line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// README's lines, and the record's rows that they show.
const READING: [(&str, &str); 8] = [
    (
        "a session: full handshake, login, SELECT, FETCH of 16 KiB",
        "session, full handshake, 16 devices at a time, TLS 1.3 out",
    ),
    ("the same, and the device resumes its TLS session", "session, device resumes, 16 devices at a time, TLS 1.3 out"),
    (
        "the same, and the server's connection is a parked one",
        "translated session, device resumes, 16 devices at a time, TLS 1.3 out, parked",
    ),
    ("download, a MiB in records of 16 KiB", "bulk, AES-256, records of 16 KiB"),
    (
        "the same from a device with a new library (encrypt-then-MAC)",
        "bulk, AES-256, records of 16 KiB, device offers encrypt-then-MAC",
    ),
    ("download, a MiB in records of 1,400 octets", "bulk, AES-256, records of 1,400 octets"),
    ("upload, a MiB", "upload"),
    ("memory of one idle connection, while 9,900 are open", "idle connection, memory (PSS), of 9900"),
];
const SENDING: [(&str, &str); 4] = [
    (
        "a session that sends 16 KiB: full handshake, login, message",
        "session that sends, full handshake, 16 devices at a time, TLS 1.3 out",
    ),
    (
        "the same, and the device resumes its TLS session",
        "session that sends, device resumes, 16 devices at a time, TLS 1.3 out",
    ),
    ("a message of 35 MB, a MiB", "message of 35 MB, TLS 1.3 out"),
    (
        "memory of one idle connection that sends, while 1,000 are open",
        "idle connection that sends, memory (PSS), of 1000",
    ),
];
const WAITS: [(&str, &str); 2] = [
    ("the server is 40 ms away", "LOGIN to OK, server 40 ms away"),
    ("and its logins take five seconds", "LOGIN to OK, server 40 ms away whose login takes 5 s"),
];
const PROGRAMS: [&str; 4] = ["packetboat", "nginx", "haproxy", "stunnel"];
/// The beginning of a table's head in a record.
const HEAD: &str = "| CPU time";
/// The cell of a figure that was not measured.
const MISSING: &str = "–";
const DIRECTORY: &str = "benches/record";
const README: &str = "README.md";
const BEGIN: &str = "<!-- make cost-table: from here -->\n";
const END: &str = "<!-- make cost-table: to here -->\n";
