//! Random sessions on parked connections have the same answers as sessions that dial.
//!
//! Two devices take turns at each mailbox, in the middle of the other one's session.

use std::thread;

use support::fuzz::random::Random;

use super::script::{Act, Leave, Script};
use super::twins::{Twins, login};
use super::visit::Visit;
use super::{rounds, seed};
use crate::parked::numbers;

#[test]
fn random_sessions_at_dovecot_are_those_of_dialled_connections() {
    equal(&Twins::at_dovecot(PAIRS, MESSAGES));
}

#[test]
fn random_sessions_at_the_simulator_are_those_of_dialled_connections() {
    equal(&Twins::at_exchange(PAIRS, MESSAGES));
}

fn equal(twins: &Twins) {
    let before = twins.logins();
    thread::scope(|scope| {
        for pair in 0..PAIRS {
            scope.spawn(move || take_turns(twins, pair));
        }
    });
    let sessions = rounds() * 2 * PAIRS as u64;
    let taken = twins.proxy.metric("packetboat_parked_taken_total", "");
    println!("{sessions} sessions at each twin, {taken} of them on parked connections\n{}", numbers(&twins.proxy));
    assert!(taken > sessions / 4, "{taken} of {sessions}\n{}", numbers(&twins.proxy));
    assert_eq!(twins.proxy.metric("packetboat_parked_stale_total", ""), 0);
    assert!(twins.logins() - before + taken >= 2 * sessions, "a session has no login");
    assert!(twins.logins() - before <= 2 * sessions - taken, "{} logins", twins.logins() - before);
}

/// A device at both twins.
struct Device {
    number: usize,
    open: Option<(Script, [Visit; 2])>,
    visits: u64,
}

fn take_turns(twins: &Twins, pair: usize) {
    let mut random = Random(seed() << 32 | pair as u64);
    let mut devices = [0, 1].map(|number| Device { number, open: None, visits: 0 });
    let mut heard = Vec::new();
    loop {
        let waiting: Vec<usize> =
            (0..2).filter(|device| devices[*device].open.is_some() || devices[*device].visits < rounds()).collect();
        if waiting.is_empty() {
            return;
        }
        let device = waiting[random.below(waiting.len())];
        // Most visits are alone at the mailbox.
        let turns = if random.chance(70) { 100 } else { 1 + random.below(4) };
        for _ in 0..turns {
            if turn(twins, pair, &mut devices[device], &mut random, &mut heard) {
                break;
            }
        }
    }
}

/// Plays the next act of a device at both twins. Returns whether its visit is over.
fn turn(twins: &Twins, pair: usize, device: &mut Device, random: &mut Random, heard: &mut Vec<String>) -> bool {
    let number = device.number;
    let mut check = |what: &str, [parked, dialled]: [Vec<String>; 2]| {
        heard.push(format!("device {number}: {what}\n  {}", dialled.join("\n  ")));
        let tail = heard.len().saturating_sub(40);
        assert!(
            parked == dialled,
            "pair {pair}, seed {}:\n{}\nin place of that the parked one has\n  {}",
            seed(),
            heard[tail..].join("\n"),
            parked.join("\n  ")
        );
    };
    let Some((script, visits)) = &mut device.open else {
        device.visits += 1;
        let name = format!("d{number}v{}", device.visits);
        let begun = Twins::BOTH.map(|twin| Visit::begin(&twins.proxy, &login(twin, pair, number), &name));
        let [(parked, first), (dialled, second)] = begun;
        let mut visits = [parked, dialled];
        let mut lists = [first, second].map(|lines| lines.iter().map(|line| without_text(line)).collect::<Vec<_>>());
        if lists[0] != lists[1] || random.chance(20) {
            // A server may volunteer no list to a login: then the one that is told has to be the one that it has.
            let asked = both(&mut visits, |visit| visit.ask("CAPABILITY"));
            let told = lists[0][0]
                .split_once("[CAPABILITY ")
                .map(|(_, list)| format!("* CAPABILITY {}", list.trim_end_matches(']')));
            assert!(told.is_none_or(|told| told == asked[1][0]), "{lists:?}, {asked:?}");
            check("CAPABILITY", asked);
            lists = lists.map(|lines| lines.iter().map(|line| line.split(" [").next().unwrap().to_owned()).collect());
        }
        check("log in", lists);
        // Nothing is selected, whatever the device before has done.
        check("FETCH", both(&mut visits, |visit| visit.ask("FETCH 1 FLAGS")));
        device.open = Some((Script::random(random), visits));
        return false;
    };
    if !script.acts.is_empty() {
        match script.acts.remove(0) {
            Act::Commands(commands) => check(&format!("{commands:?}"), both(visits, |visit| visit.ask_all(&commands))),
            Act::Literals(command, literals) => {
                check(&command, both(visits, |visit| visit.ask_with(&command, &literals)));
            }
            Act::Idle => check("IDLE", both(visits, Visit::idle)),
        }
        return false;
    }
    let Some((script, mut visits)) = device.open.take() else { return true };
    match script.leave {
        Leave::LogOut => {
            let of_logout = both(&mut visits, |visit| visit.ask("LOGOUT"));
            check("LOGOUT", of_logout.map(|lines| lines.iter().map(|line| without_text(line)).collect()));
        }
        Leave::LogOutTogether(mut commands) => {
            commands.push("LOGOUT".to_owned());
            let answers = both(&mut visits, |visit| visit.ask_all(&commands));
            check("LOGOUT, together", answers.map(|lines| lines.iter().map(|line| without_bye(line)).collect()));
        }
        Leave::BreakOff => {
            let same = random.0;
            for visit in visits {
                *random = Random(same);
                visit.break_off(random);
            }
        }
    }
    true
}

/// The answers of both twins, without what may differ between two connections.
fn both(visits: &mut [Visit; 2], mut ask: impl FnMut(&mut Visit) -> Vec<String>) -> [Vec<String>; 2] {
    let [parked, dialled] = visits;
    [parked, dialled].map(|visit| {
        let mut lines = ask(visit);
        lines.retain(|line| !line.ends_with(" RECENT"));
        // packetboat writes its own refusals where there is room for them.
        let (refusals, answers): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.contains(" NO [NOPERM]"));
        answers.into_iter().chain(refusals).map(|line| comparable(line)).collect()
    })
}

/// A line without \Recent (RFC 3501 §2.3.2), without the numbers of the mailbox itself, and without times.
fn comparable(line: &str) -> String {
    let mut line = line.replace(" \\Recent", "").replace("\\Recent ", "").replace("\\Recent", "");
    for name in ["UIDVALIDITY ", "APPENDUID ", "COPYUID ", "HIGHESTMODSEQ "] {
        if let Some(at) = line.find(name) {
            let begin = at + name.len();
            let end = begin + line[begin..].find(|octet: char| !octet.is_ascii_digit()).unwrap_or(line.len() - begin);
            line.replace_range(begin..end, "N");
        }
    }
    if let Some(at) = line.find(" (0.").filter(|_| line.ends_with(" secs).")) {
        line.truncate(at);
    }
    line
}

/// A line of a login or LOGOUT without its text, which is packetboat's or the server's.
fn without_text(line: &str) -> String {
    match (
        line.split_once(" OK [").and_then(|(tag, rest)| Some((tag, rest.split_once(']')?.0))),
        line.split(' ').take(2),
    ) {
        (Some((tag, code)), _) => format!("{tag} OK [{code}]"),
        (None, words) => words.collect::<Vec<_>>().join(" "),
    }
}

/// The same for the lines that may belong to LOGOUT.
fn without_bye(line: &str) -> String {
    if line.starts_with("* BYE") || line.contains("OK Logout completed") || line.contains("OK LOGOUT completed") {
        return without_text(line);
    }
    comparable(line)
}

const PAIRS: usize = 3;
const MESSAGES: &[&[u8]] =
    &[b"Subject: n1\r\n\r\none\r\n", b"Subject: n2\r\n\r\ntwo\r\n{5}\r\n", b"Subject: three\r\n\r\nx OK done\r\n"];
