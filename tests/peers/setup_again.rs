//! `packetboat init` in a terminal, for programs, and a second time: questions, JSON, old sheets, and the file's own form.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use support::exchange::{APP, Ran, TENANT};
use support::process::{Lines, Process, program};

use crate::first_hour::{DEVICES, Office, move_listeners};

/// Runs `packetboat init` in a terminal, in which a person types these lines.
fn in_a_terminal(office: &Office, arguments: &str, typed: &str) -> Ran {
    let command = format!("{} init {arguments} --config {}", program().display(), office.file().display());
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--echo", "never", "--command", &command, "/dev/null"]);
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    Ran::of(child.wait_with_output().unwrap())
}

fn password(office: &Office, directory: &str) -> String {
    let sheet = fs::read_to_string(office.path(directory).join("device1.txt")).unwrap();
    let line = sheet.lines().find_map(|line| line.trim_start().strip_prefix("password "));
    line.unwrap().trim().to_owned()
}

fn text(office: &Office) -> String {
    fs::read_to_string(office.file()).unwrap()
}

#[test]
fn a_terminal_is_asked_for_everything_with_defaults() {
    for (typed, length, networks, names) in [
        ("\n\n\n", 15, None, None),
        (
            "seven\n40\n12\nscans.contoso.example 192.0.2.7\n127.0.0.1/33\n127.0.0.0/8, 192.168.1.20\n",
            12,
            Some("allowed_networks = [\"127.0.0.0/8\", \"192.168.1.20/32\"]"),
            Some("names = [\"scans.contoso.example\", \"192.0.2.7\"]"),
        ),
    ] {
        let office = Office::new();
        let roster = office.path("devices.csv");
        // Without addresses: a device outside the networks would be refused.
        let lines = fs::read_to_string(&roster).unwrap();
        fs::write(&roster, lines.replace(",127.0.0.1", "")).unwrap();
        let arguments =
            format!("--devices {} --output {} --upstream exchange", roster.display(), office.path("out").display());
        let ran = in_a_terminal(&office, &arguments, &format!("{TENANT}\n{typed}"));
        assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
        for question in [
            "Tenant (a domain, such as contoso.onmicrosoft.com): ",
            "Length of the passwords, 8 to 31 (many devices accept no more than 15) [15]: ",
            "Name or address of this computer that devices will use [its own]: ",
            "Networks of the devices, such as 192.168.1.0/24 [all private networks]: ",
        ] {
            assert!(ran.output.contains(question), "{question}: {}", ran.output);
        }
        assert_eq!(password(&office, "out").len(), length);
        let text = text(&office);
        assert_eq!(text.contains("allowed_networks"), networks.is_some(), "{text}");
        assert!(networks.is_none_or(|line| text.contains(line)), "{text}");
        assert!(names.is_none_or(|line| text.contains(line)), "{text}");
    }
}

#[test]
fn the_end_of_the_setup_is_json_for_programs() {
    let office = Office::new();
    assert_eq!(office.init(&["--name", "localhost"]).code, 0);
    move_listeners(&office.file());
    office.run_script();
    let mut command = Command::new(program());
    command.args(["run", "--config"]).arg(office.file()).stdin(Stdio::null()).stderr(Stdio::piped());
    let mut process = Process::start(&mut command);
    let log = Lines::of(process.0.stderr.take().unwrap());
    log.wait_for("line that it is ready", |line| line.contains("\"message\":\"ready\""));
    let finished = office.run(&["init", "--finish", APP, "--wait", "0s", "--json"]);
    assert_eq!(finished.code, 0, "{}{}", finished.output, finished.errors);
    let value: Value = serde_json::from_str(&finished.output).unwrap_or_else(|_| panic!("{}", finished.output));
    assert_eq!(value["client_id"], APP);
    assert_eq!(value["result"], format!("{DEVICES} of {DEVICES} accounts ready"));
    assert!(value["loaded"].as_str().unwrap().contains("configuration reloaded"), "{value}");
    assert_eq!(office.run(&["init", "--json"]).code, 64, "a person may be asked");
}

#[test]
fn sheets_of_devices_that_are_gone_are_named_and_stay() {
    let office = Office::new();
    assert_eq!(office.init(&[]).code, 0);
    fs::write(office.path("out/notes.txt"), "Mail to the office\n").unwrap();
    let roster = office.path("devices.csv");
    let lines: Vec<String> = fs::read_to_string(&roster).unwrap().lines().map(str::to_owned).collect();
    fs::write(&roster, lines[..lines.len() - 2].join("\n")).unwrap();
    let again = office.init(&["--replace"]);
    assert_eq!(again.code, 0, "{}", again.errors);
    let said = "these sheets are of an earlier setup, and their passwords no longer work; delete them: ";
    let line =
        again.output.lines().find_map(|line| line.strip_prefix(said)).unwrap_or_else(|| panic!("{}", again.output));
    let old = [DEVICES - 2, DEVICES - 1]
        .iter()
        .flat_map(|number| ["html", "txt"].map(|kind| office.path(&format!("out/device{number}.{kind}"))));
    let mut old: Vec<String> = old.map(|path| path.display().to_string()).collect();
    old.sort();
    assert_eq!(line.split(' ').collect::<Vec<_>>(), old);
    assert!(old.iter().all(|path| fs::metadata(path).is_ok()), "nothing is deleted");
    let json = office.init(&["--replace", "--json"]);
    let value: Value = serde_json::from_str(&json.output).unwrap();
    assert_eq!(value["old_sheets"].as_array().unwrap().len(), 4, "{value}");
    assert_eq!(office.path("out").read_dir().unwrap().count(), 2 * DEVICES + 3, "sheets, script, CA and notes");
}

#[test]
fn lines_that_end_with_cr_and_lf_still_do() {
    let office = Office::new();
    fs::write(office.file(), text(&office).replace('\n', "\r\n")).unwrap();
    assert_eq!(office.init(&[]).code, 0);
    let after = text(&office);
    assert!(after.contains("# The simulator.\r\n[upstream.exchange]\r\n"), "{after}");
    assert_eq!(after.matches('\n').count(), after.matches("\r\n").count(), "{after:?}");
    assert_eq!(office.run(&["check"]).code, 0);
}

#[test]
fn a_read_only_file_stays_and_nothing_is_made() {
    let office = Office::new();
    fs::set_permissions(office.file(), fs::Permissions::from_mode(0o444)).unwrap();
    let before = text(&office);
    let refused = office.init(&[]);
    assert_eq!(refused.code, 69, "{}", refused.errors);
    assert!(refused.errors.contains("packetboat.toml is read-only, and nothing was changed"), "{}", refused.errors);
    assert_eq!(text(&office), before);
    assert!(!office.path("out").exists() && !office.path("app.key").exists());
    assert_eq!(office.init(&["--dry-run"]).code, 0);
}
