//! Many devices at a time use few mailboxes over parked connections: none has the mail or the answers of another mailbox,
//! nothing is selected at a login, and no message is lost or there twice.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use support::fuzz::random::Random;

use super::twins::{Twin, Twins, login};
use super::visit::Visit;
use super::{rounds, seed};
use crate::parked::numbers;

#[test]
fn a_crowd_of_devices_at_dovecot_has_its_own_mail() {
    crowd(&Twins::at_dovecot(MAILBOXES, &[]));
}

#[test]
fn a_crowd_of_devices_at_the_simulator_has_its_own_mail() {
    crowd(&Twins::at_exchange(MAILBOXES, &[]));
}

fn crowd(twins: &Twins) {
    let before = twins.logins();
    let ledgers: [Ledger; MAILBOXES] = Default::default();
    thread::scope(|scope| {
        for (mailbox, ledger) in ledgers.iter().enumerate() {
            for device in 0..DEVICES {
                scope.spawn(move || Device::new(twins, ledger, mailbox, device).live());
            }
        }
    });
    for (mailbox, ledger) in ledgers.iter().enumerate() {
        let mut device = Device::new(twins, ledger, mailbox, DEVICES);
        let mut visit = device.begin(0);
        visit.ask("SELECT INBOX");
        device.fetch(&mut visit);
        ledger.settle(&device.seen);
    }
    let taken = twins.proxy.metric("packetboat_parked_taken_total", "");
    let sessions = rounds() * (MAILBOXES * DEVICES) as u64;
    println!("{sessions} sessions, {taken} of them on parked connections\n{}", numbers(&twins.proxy));
    assert!(taken > sessions / 10, "{taken} of {sessions}\n{}", numbers(&twins.proxy));
    assert_eq!(twins.proxy.metric("packetboat_parked_stale_total", ""), 0);
    assert!(twins.logins() - before <= sessions + MAILBOXES as u64 - taken, "{} logins", twins.logins() - before);
}

/// The messages of a mailbox, by their number.
#[derive(Default)]
struct Ledger(Mutex<BTreeMap<u64, Entry>>);

#[derive(Clone, Copy, Default)]
struct Entry {
    /// The server has taken the message.
    is_kept: bool,
    /// A device has tried to delete it.
    is_deleted: bool,
}

impl Ledger {
    fn change(&self, number: u64, change: impl FnOnce(&mut Entry)) {
        change(self.0.lock().unwrap().entry(number).or_default());
    }

    /// Checks what a mailbox has at the end.
    fn settle(&self, seen: &BTreeMap<u64, u64>) {
        let ledger = self.0.lock().unwrap();
        let kept = ledger.values().filter(|entry| entry.is_kept).count();
        let deleted = ledger.values().filter(|entry| entry.is_deleted).count();
        println!("{kept} messages were added, {deleted} deleted, {} are left", seen.len());
        assert!(kept > 0 && deleted > 0);
        for (number, Entry { is_kept, is_deleted }) in ledger.iter() {
            assert!(!is_kept || *is_deleted || seen.contains_key(number), "message {number} is lost");
        }
    }
}

struct Device<'a> {
    twins: &'a Twins,
    ledger: &'a Ledger,
    mailbox: usize,
    number: usize,
    random: Random,
    count: u64,
    /// The messages of the last fetch with their UIDs.
    seen: BTreeMap<u64, u64>,
}

impl<'a> Device<'a> {
    fn new(twins: &'a Twins, ledger: &'a Ledger, mailbox: usize, number: usize) -> Self {
        let random = Random(seed() << 32 | (mailbox * 100 + number) as u64);
        Self { twins, ledger, mailbox, number, random, count: 0, seen: BTreeMap::new() }
    }

    fn live(&mut self) {
        for round in 1..=rounds() {
            let mut visit = self.begin(round);
            if self.random.chance(85) {
                let select = if self.random.chance(80) { "SELECT INBOX" } else { "EXAMINE INBOX" };
                is_ok(&visit.ask(select), select);
                for _ in 0..self.random.below(7) {
                    self.act(&mut visit);
                }
            } else if self.random.chance(50) {
                self.append(&mut visit);
            }
            self.leave(visit);
        }
    }

    fn begin(&mut self, round: u64) -> Visit {
        let login = login(Twin::Parked, self.mailbox, self.number % 2);
        let name = format!("m{}d{}v{round}", self.mailbox, self.number);
        let (mut visit, answer) = Visit::begin(&self.twins.proxy, &login, &name);
        is_ok(&answer, "LOGIN");
        assert_eq!(answer.len(), 1, "{answer:?}");
        let answer = visit.ask("FETCH 1 FLAGS");
        assert!(answer.len() == 1 && answer[0].contains(" BAD "), "{name}: something is selected: {answer:?}");
        visit
    }

    fn act(&mut self, visit: &mut Visit) {
        match self.random.below(10) {
            0..2 => self.fetch(visit),
            2..5 => self.append(visit),
            5 => self.delete(visit),
            6 => is_ok(&visit.idle(), "IDLE"),
            7 => is_ok(&visit.ask("STATUS INBOX (MESSAGES UIDNEXT)"), "STATUS"),
            8 => {
                let commands =
                    ["NOOP", "LIST \"\" *", "UID STORE 1:* +FLAGS (\\Seen)", "NOOP", "SELECT INBOX", "SEARCH ALL"];
                visit.ask_all(&commands.map(str::to_owned));
            }
            _ => {
                visit.ask("UNSELECT");
                is_ok(&visit.ask("SELECT INBOX"), "SELECT");
            }
        }
    }

    fn message(&mut self) -> (u64, Vec<u8>) {
        self.count += 1;
        let number = self.number as u64 * 1_000_000 + self.count;
        self.ledger.change(number, |_| {});
        let filler = "x.1 OK done\r\n* 9 EXISTS\r\n".repeat(self.random.below(40));
        let text = format!("{SUBJECT}{number}\r\n\r\n{filler}of mailbox {}\r\n", self.mailbox);
        (number, text.into_bytes())
    }

    fn append(&mut self, visit: &mut Visit) {
        let (number, message) = self.message();
        let answer = if self.random.chance(50) {
            visit.ask_with("APPEND INBOX", &[message])
        } else {
            let message = String::from_utf8(message).unwrap();
            visit.ask(&format!("APPEND INBOX {{{}+}}\r\n{message}", message.len()))
        };
        is_ok(&answer, "APPEND");
        self.ledger.change(number, |entry| entry.is_kept = true);
    }

    /// Fetches all messages, and checks that each one is of this mailbox, and there once.
    fn fetch(&mut self, visit: &mut Visit) {
        self.seen.clear();
        let lines = visit.ask("UID FETCH 1:* BODY.PEEK[]");
        is_ok(&lines, "FETCH");
        for pair in lines.windows(2).filter(|pair| pair[0].ends_with('}') && pair[0].starts_with("* ")) {
            let number = pair[1].strip_prefix(SUBJECT).and_then(|rest| rest.split_once('\r')?.0.parse().ok()).unwrap();
            assert!(pair[1].ends_with(&format!("of mailbox {}\r\n", self.mailbox)), "{pair:?}");
            let uid = pair[0].split("UID ").nth(1).unwrap().split([' ', ')']).next().unwrap().parse().unwrap();
            assert_eq!(self.seen.insert(number, uid), None, "message {number} is there twice");
            assert!(self.ledger.0.lock().unwrap().contains_key(&number), "nobody has sent message {number}");
        }
    }

    fn delete(&mut self, visit: &mut Visit) {
        let Some((&number, &uid)) = self.seen.iter().next() else { return self.fetch(visit) };
        self.seen.remove(&number);
        if self.number.is_multiple_of(2) {
            self.ledger.change(number, |entry| entry.is_deleted = true);
        }
        visit.ask(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"));
        visit.ask("EXPUNGE");
    }

    fn leave(&mut self, mut visit: Visit) {
        match self.random.below(10) {
            0 => visit.break_off(&mut self.random),
            1 => {
                // A message in front of LOGOUT, in one write.
                let (number, message) = self.message();
                let message = String::from_utf8(message).unwrap();
                let append = format!("APPEND INBOX {{{}+}}\r\n{message}", message.len());
                let answer = visit.ask_all(&[append, "LOGOUT".to_owned()]);
                is_ok(&answer, "LOGOUT");
                self.ledger.change(number, |entry| entry.is_kept = true);
            }
            _ => {
                let answer = visit.ask("LOGOUT");
                is_ok(&answer, "LOGOUT");
                assert!(answer.len() == 2 && answer[0].starts_with("* BYE "), "{answer:?}");
            }
        }
    }
}

#[track_caller]
fn is_ok(lines: &[String], command: &str) {
    let last = lines.last().unwrap();
    assert!(last.split(' ').nth(1) == Some("OK"), "{command}: {lines:?}");
}

const MAILBOXES: usize = 2;
const DEVICES: usize = 5;
const SUBJECT: &str = "Subject: number ";
