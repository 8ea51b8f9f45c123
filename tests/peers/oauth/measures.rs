//! These tests prove that `packetboat check --online --measure` tells how long logins take, whether a kept connection is
//! fit for another session, and what to write into the configuration, without a change to the mailbox.

use std::process::Stdio;
use std::time::Duration;

use packetboat::simulator::quirks::Quirks;
use packetboat::simulator::quirks::imap::ImapFault;
use packetboat::simulator::quirks::smtp::Afterwards;
use serde_json::Value;

use support::exchange::*;
use support::process::Process;

const MESSAGE: &[u8] = b"Subject: scan\r\n\r\nhello\r\n";
/// The delay of a login, above what has to be saved before packetboat advises to park.
const SLOW: Duration = Duration::from_millis(400);

/// Measures the account, with a message in the pause; the pause ends when the message is there.
fn measured_with_mail(exchange: &Exchange, configuration: &str) -> Ran {
    let arguments = ["check", "--online", "--account", "scans", "--measure=3s"];
    let mut command = exchange.command(&arguments, configuration);
    let check = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    exchange.until("end of the first session", |counts| counts.mailbox(SCAN).command("UNSELECT") == 1);
    assert!(exchange.simulator.deliver(SCAN, MESSAGE.to_vec()));
    Ran::of(check.wait_with_output().unwrap())
}

fn measured(quirks: impl FnOnce(&mut Quirks)) -> (Exchange, Ran) {
    let exchange = Exchange::new();
    exchange.quirk(|all| all.mail.login_delay = SLOW);
    exchange.quirk(quirks);
    let ran = exchange.run(&["check", "--online", "--measure=10ms"], &exchange.configuration(BY_SECRET));
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    (exchange, ran)
}

/// The advice's lines: those that are indented further than the rest.
fn advised(ran: &Ran) -> Vec<&str> {
    ran.output.lines().filter_map(|line| line.strip_prefix("           ")).collect()
}

#[test]
fn a_slow_login_and_new_mail_that_shows() {
    let exchange = Exchange::new();
    exchange.simulator.deliver(SCAN, MESSAGE.to_vec());
    exchange.quirk(|quirks| quirks.mail.login_delay = SLOW);
    let configuration = exchange.configuration(BY_SECRET);
    let ran = measured_with_mail(&exchange, &configuration);
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    let line = ran.output.lines().find(|line| line.starts_with("  times  a login takes ")).unwrap();
    for step in ["name ", "TCP ", "TLS ", "greeting ", "LOGIN to OK "] {
        assert!(line.contains(step), "{line}");
    }
    let login: u64 = line.rsplit_once("LOGIN to OK ").unwrap().1.strip_suffix(" ms").unwrap().parse().unwrap();
    assert!(login >= 400, "{line}");
    assert!(ran.output.contains("UNSELECT is announced; mail of the last 3s shows"), "{}", ran.output);
    assert!(ran.output.contains("add below [upstream.exchange] in "), "{}", ran.output);
    assert_eq!(advised(&ran), ["park = \"5m\""]);
    let section = "[upstream.exchange]\n";
    let followed = configuration.replacen(section, &format!("{section}{}\n", advised(&ran)[0]), 1);
    assert_ne!(followed, configuration);
    let check = exchange.run(&["check"], &followed);
    assert_eq!((check.code, check.errors.as_str()), (0, ""), "{}", check.output);
    let counts = exchange.until("end of all sessions", |counts| counts.open_sessions() == 0);
    let scan = counts.mailbox(SCAN);
    // The usual check, the kept connection and the new login, which only look.
    assert_eq!((scan.imap().accepted, scan.most_sessions), (3, 2));
    assert_eq!(["EXAMINE", "SELECT", "APPEND", "LOGOUT"].map(|name| scan.command(name)), [3, 0, 0, 3]);
    assert_eq!(exchange.simulator.messages(SCAN), 2);
}

#[test]
fn mail_that_stays_hidden() {
    let exchange = Exchange::new();
    exchange.quirk(|quirks| {
        quirks.mail.login_delay = SLOW;
        quirks.imap.stale_views = true;
    });
    let ran = measured_with_mail(&exchange, &exchange.configuration(BY_SECRET));
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    assert!(ran.output.contains("mail of the last 3s does not show"), "{}", ran.output);
    assert!(ran.output.contains("leave park at its default, \"0s\": devices would not see new mail"), "{}", ran.output);
    assert_eq!(advised(&ran), [""; 0]);
}

/// The command that the advice gives works, and ends in an answer.
#[test]
fn without_mail_the_advice_is_a_command() {
    let (exchange, ran) = measured(|_| {});
    assert!(ran.output.contains("no mail came within 10ms"), "{}", ran.output);
    let advice = format!("send a message to {SCAN} while this runs: packetboat ");
    let (_, command) = ran.output.split_once(&advice).unwrap_or_else(|| panic!("{}", ran.output));
    let arguments: Vec<&str> = command.lines().next().unwrap().split(' ').collect();
    assert_eq!(arguments, ["check", "--online", "--account", "scans", "--measure=5m"]);
    let mut command = exchange.command(&arguments, &exchange.configuration(BY_SECRET));
    let mut check = Process::start(command.stdout(Stdio::null()));
    exchange.until("end of the first session", |counts| counts.mailbox(SCAN).command("UNSELECT") == 2);
    assert!(check.0.try_wait().unwrap().is_none(), "it waits for five minutes");
}

#[test]
fn servers_that_are_not_fit() {
    let (_exchange, ran) = measured(|quirks| quirks.mail.unselect = false);
    assert!(ran.output.contains("UNSELECT is not announced"), "{}", ran.output);
    assert!(ran.output.contains("leave park at its default, \"0s\": without UNSELECT"), "{}", ran.output);
    let closes = ImapFault::silent("UNSELECT", Afterwards::Close).behind_the_answer();
    let expires = ImapFault::expired("NOOP");
    let refuses = ImapFault::reply("UNSELECT", "TAG BAD Command Error. 12");
    let hangs = ImapFault::silent("NOOP", Afterwards::Hang);
    for (fault, words) in [
        (closes, "after 10ms: NOOP: "),
        (expires, "NOOP: the server ended the session with \"* BYE Session invalidated - AccessTokenExpired\""),
        (refuses, "UNSELECT: the server answered \"BAD Command Error. 12\""),
        (hangs, "NOOP: no answer within 2s"),
    ] {
        let (_exchange, ran) = measured(|quirks| quirks.imap.faults = vec![fault]);
        assert!(ran.output.contains(words), "{words}: {}", ran.output);
        assert!(ran.output.contains("default, \"0s\": the server did not keep the connection; "), "{}", ran.output);
        assert!(ran.output.ends_with("1 of 1 account ready\n"), "{}", ran.output);
    }
}

/// Only IMAP knows UNSELECT, and only its connections are kept.
#[test]
fn accounts_without_imap_are_not_measured() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_SECRET).replacen("protocol = \"imap\"", "protocol = \"pop3\"", 1);
    let ran = exchange.run(&["check", "--online", "--measure"], &configuration);
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    assert!(ran.output.contains("  times  not measured: no listener for this account's devices"), "{}", ran.output);
    assert_eq!(exchange.simulator.counts().mailbox(SCAN).logins.pop3.accepted, 1);
}

#[test]
fn results_for_programs() {
    let exchange = Exchange::new();
    exchange.quirk(|quirks| quirks.mail.login_delay = SLOW);
    let configuration = exchange.configuration(BY_SECRET);
    let arguments = ["check", "--online", "--json", "--measure=10ms"];
    let ran = exchange.run(&arguments, &configuration);
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    let all: Value = serde_json::from_str(&ran.output).unwrap();
    assert_eq!((&all["tokens"][0]["ok"], &all["tokens"][0]["accounts"][0]), (&true.into(), &"scans".into()));
    let account = &all["accounts"][0];
    assert_eq!(
        (&account["account"], &account["mailbox"], &account["ready"]),
        (&"scans".into(), &SCAN.into(), &true.into())
    );
    assert_eq!((&account["steps"][0]["protocol"], &account["steps"][1]["ok"]), (&"IMAP".into(), &true.into()));
    let measures = &account["measures"];
    let dialled = &measures["dialled_ms"];
    let steps = ["resolve", "connect", "tls", "greeting", "login"].map(|step| dialled[step].as_u64().unwrap());
    assert!(steps[4] >= 400 && measures["warm_ms"].as_u64().unwrap() >= 400, "{measures}");
    assert!(measures["kept_ms"].as_u64().unwrap() < dialled["total"].as_u64().unwrap(), "{measures}");
    assert_eq!((&measures["unselect"], &measures["new_mail"]), (&true.into(), &"none".into()));
    assert_eq!((&measures["advice"]["upstream"], &measures["advice"]["park"]), (&"exchange".into(), &Value::Null));
    assert!(measures["advice"]["why"].as_str().unwrap().contains("--measure=5m"), "{measures}");
    assert!(!ran.output.contains("eyJ") && !ran.output.contains(SECRET), "{}", ran.output);

    exchange.quirk(|quirks| quirks.mail.refuse_logins = true);
    let ran = exchange.run(&arguments, &configuration);
    assert_eq!(ran.code, 69, "{}", ran.output);
    let all: Value = serde_json::from_str(&ran.output).unwrap();
    let account = &all["accounts"][0];
    assert_eq!((&account["ready"], &account["measures"]), (&false.into(), &Value::Null));
    assert!(account["steps"][0]["text"].as_str().unwrap().starts_with("failed at "), "{account}");
}
