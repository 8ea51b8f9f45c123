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

/// The devices of a pair of mailboxes take turns.
fn take_turns(twins: &Twins, pair: usize) {
    let mut random = Random(seed() << 32 | pair as u64);
    let mut devices = [0, 1].map(|number| Device { pair, number, open: None, visits: 0 });
    let mut heard = Heard { pair, answers: Vec::new() };
    loop {
        let is_there = |device: &Device| device.open.is_some() || device.visits < rounds();
        let waiting: Vec<usize> = (0..2).filter(|device| is_there(&devices[*device])).collect();
        if waiting.is_empty() {
            return;
        }
        let device = &mut devices[waiting[random.below(waiting.len())]];
        // Most visits are alone at the mailbox.
        let turns = if random.chance(70) { 100 } else { 1 + random.below(4) };
        for _ in 0..turns {
            if device.open.is_none() {
                device.begin(twins, &mut random, &mut heard);
            } else if device.goes_on(&mut random, &mut heard) {
                break;
            }
        }
    }
}

/// The answers that the devices of a pair have had so far.
struct Heard {
    pair: usize,
    answers: Vec<String>,
}

impl Heard {
    /// Checks that both twins have answered the same.
    fn check(&mut self, device: usize, what: &str, [parked, dialled]: [Vec<String>; 2]) {
        self.answers.push(format!("device {device}: {what}\n  {}", dialled.join("\n  ")));
        let tail = self.answers.len().saturating_sub(40);
        let (pair, before, other) = (self.pair, self.answers[tail..].join("\n"), parked.join("\n  "));
        assert!(parked == dialled, "pair {pair}, seed {}:\n{before}\nbut the parked one has\n  {other}", seed());
    }
}

/// A device at both twins.
struct Device {
    pair: usize,
    number: usize,
    open: Option<(Script, [Visit; 2])>,
    visits: u64,
}

impl Device {
    fn begin(&mut self, twins: &Twins, random: &mut Random, heard: &mut Heard) {
        self.visits += 1;
        let name = format!("d{}v{}", self.number, self.visits);
        let begun = Twins::BOTH.map(|twin| Visit::begin(&twins.proxy, &login(twin, self.pair, self.number), &name));
        let [(parked, first), (dialled, second)] = begun;
        let mut visits = [parked, dialled];
        let mut lists = [first, second].map(|lines| in_short(&lines));
        if lists[0] != lists[1] || random.chance(20) {
            // A server may volunteer no list to a login: then the list that a device is told is the one of the connection.
            let asked = both(&mut visits, |visit| visit.ask("CAPABILITY"));
            let told = lists[0][0].split_once("[CAPABILITY ").map(|(_, list)| list.trim_end_matches(']'));
            let is_right = told.is_none_or(|told| format!("* CAPABILITY {told}") == asked[1][0]);
            assert!(is_right, "{lists:?}, {asked:?}");
            heard.check(self.number, "CAPABILITY", asked);
            lists = lists.map(|lines| lines.iter().map(|line| line.split(" [").next().unwrap().to_owned()).collect());
        }
        heard.check(self.number, "log in", lists);
        // Nothing is selected, whatever the device before has done.
        heard.check(self.number, "FETCH", both(&mut visits, |visit| visit.ask("FETCH 1 FLAGS")));
        self.open = Some((Script::random(random), visits));
    }

    /// Plays the next act. Returns whether the visit is over.
    fn goes_on(&mut self, random: &mut Random, heard: &mut Heard) -> bool {
        let Some((script, mut visits)) = self.open.take() else { return true };
        let Script { mut acts, leave } = script;
        if acts.is_empty() {
            self.leaves(leave, visits, random, heard);
            return true;
        }
        match acts.remove(0) {
            Act::Commands(commands) => {
                let answers = both(&mut visits, |visit| visit.ask_all(&commands));
                let answers = answers.map(|lines| in_any_order(lines, commands.len()));
                heard.check(self.number, &format!("{commands:?}"), answers);
            }
            Act::Literals(command, literals) => {
                let answers = both(&mut visits, |visit| visit.ask_with(&command, &literals));
                heard.check(self.number, &command, answers);
            }
            Act::Idle => heard.check(self.number, "IDLE", both(&mut visits, Visit::idle)),
        }
        self.open = Some((Script { acts, leave }, visits));
        false
    }

    fn leaves(&self, leave: Leave, mut visits: [Visit; 2], random: &mut Random, heard: &mut Heard) {
        match leave {
            Leave::LogOut => {
                let answers = both(&mut visits, |visit| visit.ask("LOGOUT"));
                heard.check(self.number, "LOGOUT", answers.map(|lines| in_short(&lines)));
            }
            Leave::LogOutTogether(mut commands) => {
                commands.push("LOGOUT".to_owned());
                let answers = both(&mut visits, |visit| visit.ask_all(&commands));
                let answers = answers.map(|lines| in_any_order(lines, commands.len()));
                let answers = answers.map(|lines| lines.iter().map(|line| without_bye(line)).collect());
                heard.check(self.number, &format!("{commands:?}"), answers);
            }
            Leave::BreakOff => {
                let same = random.0;
                for visit in visits {
                    *random = Random(same);
                    visit.break_off(random);
                }
            }
        }
    }
}

/// The answers of both twins, without what may differ between two connections.
fn both(visits: &mut [Visit; 2], mut ask: impl FnMut(&mut Visit) -> Vec<String>) -> [Vec<String>; 2] {
    let [parked, dialled] = visits;
    [parked, dialled].map(|visit| {
        let mut lines = ask(visit);
        lines.retain(|line| !line.ends_with(" RECENT"));
        lines.iter().map(|line| comparable(line)).collect()
    })
}

/// The answers to commands that were sent together, which come in any order: packetboat writes its refusals where there is
/// room for them, and Dovecot answers quick commands before slow ones.
fn in_any_order(mut lines: Vec<String>, commands: usize) -> Vec<String> {
    if commands > 1 {
        lines.sort();
    }
    lines
}

/// A line without \Recent (RFC 3501 §2.3.2), without the numbers of the mailbox itself, and without times.
fn comparable(line: &str) -> String {
    let mut line = line.replace(" \\Recent", "").replace("\\Recent ", "").replace("\\Recent", "");
    // Dovecot keeps a keyword that a read-only mailbox has refused, for as long as the connection lasts.
    if line.starts_with("* FLAGS ") || line.starts_with("* OK [PERMANENTFLAGS ") {
        line = line.replace(" keyword", "");
    }
    // A guess of Dovecot's that depends on what it has in memory (RFC 3501 §7.2.2).
    line = line.replace(" \\UnMarked", "").replace(" \\Marked", "");
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

/// The lines of a login or LOGOUT without their texts, which are packetboat's or the server's.
fn in_short(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| without_text(line)).collect()
}

/// A line of a login or LOGOUT without its text, which is packetboat's or the server's.
fn without_text(line: &str) -> String {
    match line.split_once(" OK [").and_then(|(tag, rest)| Some((tag, rest.split_once(']')?.0))) {
        Some((tag, code)) => format!("{tag} OK [{code}]"),
        None => line.split(' ').take(2).collect::<Vec<_>>().join(" "),
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
