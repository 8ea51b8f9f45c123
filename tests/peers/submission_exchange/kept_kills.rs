//! This test kills packetboat two hundred times while devices send and the spool delivers: every 250 given to a device is
//! one message delivered or one report, and the log names every second copy.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use packetboat::simulator::client::stuffed;
use packetboat::simulator::quirks::smtp::{Afterwards, SmtpFault, SmtpMoment};
use support::exchange::*;
use support::proxy::Proxy;

use super::{Scanner, proxy_at};

/// Four times fifty kills, each with a server of its own.
#[test]
fn two_hundred_kills_lose_nothing_and_hide_no_copy() {
    let runs: Vec<_> = (0..4_u64).map(|run| thread::spawn(move || Run::new(run).fifty_kills())).collect();
    for run in runs {
        run.join().unwrap();
    }
}

struct Run {
    exchange: Exchange,
    number: u64,
    random: u64,
    /// The Message-IDs that a device has sent, and those for which it heard 250.
    sent: Arc<Mutex<Vec<String>>>,
    accepted: Arc<Mutex<Vec<String>>>,
    log: String,
}

impl Run {
    fn new(number: u64) -> Self {
        let random = 0x9e37_79b9_7f4a_7c15 ^ (number + 1);
        let (sent, accepted) = Default::default();
        Self { exchange: Exchange::new(), number, random, sent, accepted, log: String::new() }
    }

    fn fifty_kills(mut self) {
        for life in 0..50 {
            self.set_fault();
            let mut proxy = self.start();
            let devices: Vec<_> = (0..2).map(|device| self.device(&proxy, life, device)).collect();
            thread::sleep(Duration::from_millis(10 + self.next(250)));
            proxy.process.0.kill().unwrap();
            proxy.process.wait();
            self.log += &proxy.log.all();
            // A device that has lost its server has its own way to end.
            devices.into_iter().for_each(|device| drop(device.join()));
        }
        self.exchange.quirk(|quirks| {
            quirks.smtp.faults.clear();
            quirks.smtp.final_delay = Duration::ZERO;
        });
        let proxy = self.start();
        let deadline = Instant::now() + Duration::from_secs(120);
        // Nobody helps: packetboat itself brings each message to a delivery or a report.
        while !left(&self.exchange.state()).is_empty() {
            assert!(Instant::now() < deadline, "{:?}\n{}", left(&self.exchange.state()), proxy.log.all());
            thread::sleep(Duration::from_millis(20));
        }
        self.log += &proxy.log.all();
        self.judge();
    }

    #[allow(clippy::print_stdout)]
    fn judge(&self) {
        let (mut messages, mut reports): (BTreeMap<String, usize>, BTreeMap<String, usize>) = Default::default();
        for content in self.exchange.simulator.contents(SCAN) {
            let text = String::from_utf8(content).unwrap();
            let is_report = text.contains("\r\nAuto-Submitted: auto-replied\r\n");
            // Every message has arrived whole.
            assert!(is_report || text.ends_with("the end\r\n"));
            let counted = if is_report { &mut reports } else { &mut messages };
            // A report has its own Message-ID, and that of its message.
            let ids = text.lines().filter_map(|line| line.strip_prefix("Message-ID: "));
            for id in ids.filter(|id| !id.starts_with("<report.")) {
                *counted.entry(id.to_owned()).or_default() += 1;
            }
        }
        let accepted = self.accepted.lock().unwrap();
        assert!(accepted.len() > 50, "{}", accepted.len());
        for id in accepted.iter() {
            assert!(messages.contains_key(id) || reports.contains_key(id), "{id} is lost");
        }
        let sent = self.sent.lock().unwrap();
        assert!(messages.keys().chain(reports.keys()).all(|id| sent.contains(id)), "a message that nobody has sent");
        let seconds: usize = messages.values().map(|copies| copies - 1).sum();
        let named = self.log.matches("\"a kept message goes up once more").count();
        let kept = self.log.matches("message kept in the spool").count();
        println!(
            "run {}: {} sent, {} accepted, {kept} kept, {} reports, {seconds} second copies, {named} named",
            self.number,
            sent.len(),
            accepted.len(),
            reports.len()
        );
        assert!(seconds <= named, "{seconds} second copies, and the log names {named}");
        assert!(kept > 10 && named > 0);
    }

    fn start(&self) -> Proxy {
        // Without their records the messages are due at once.
        for file in fs::read_dir(self.exchange.state().join("spool")).into_iter().flatten().flatten() {
            if file.path().extension().is_some_and(|one| one == "record") {
                fs::remove_file(file.path()).unwrap();
            }
        }
        let below = self.exchange.identity(BY_SECRET) + &account("scans", SCAN, "");
        let more = "[spool]\npatience = \"50ms\"\n[submission]\nmessages_per_minute = 10000\n\
             recipients_per_hour_of_device = 1000000\n";
        proxy_at(&self.exchange, "spool = \"fallback\"\n", &(below + more))
    }

    /// A device that sends one message after the other until it loses its server.
    fn device(&self, proxy: &Proxy, life: usize, device: usize) -> thread::JoinHandle<()> {
        let mut scanner = Scanner::log_in(proxy);
        let (sent, accepted, run) = (Arc::clone(&self.sent), Arc::clone(&self.accepted), self.number);
        thread::spawn(move || {
            for number in 0.. {
                let id = format!("<{run}.{life}.{device}.{number}@contoso.example>");
                sent.lock().unwrap().push(id.clone());
                let text = format!(
                    "From: <{SCAN}>\r\nTo: <{SCAN}>\r\nDate: Fri, 27 Nov 2026 10:00:00 +0000\r\nMessage-ID: {id}\r\n\r\n{}\
                     the end\r\n",
                    "page\r\n".repeat(if number % 3 == 0 { 12_000 } else { 10 })
                );
                if scanner.submit(&stuffed(text.as_bytes())).starts_with("250 ") {
                    accepted.lock().unwrap().push(id);
                }
            }
        })
    }

    /// One of the ways in which a server is bad.
    fn set_fault(&mut self) {
        let fault = |moment, reply: Option<&str>, is_kept| SmtpFault {
            moment,
            reply: reply.map(str::to_owned),
            then: if reply.is_some() { Afterwards::Continue } else { Afterwards::Close },
            is_kept,
            times: None,
        };
        let which = self.next(6);
        let delay = Duration::from_millis(if which == 0 { 150 } else { 0 });
        let faults = match which {
            1 => vec![fault(SmtpMoment::EndOfData, Some("451 4.7.500 busy"), false)],
            2 => vec![fault(SmtpMoment::EndOfData, None, false)],
            3 => vec![fault(SmtpMoment::EndOfData, None, true)],
            4 => vec![fault(SmtpMoment::Data, Some("451 4.3.2 busy"), false)],
            _ => Vec::new(),
        };
        self.exchange.quirk(|quirks| {
            quirks.smtp.faults = faults;
            quirks.smtp.final_delay = delay;
        });
    }

    /// A number below a bound (xorshift).
    fn next(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }
}

/// The messages that are still in the spool.
fn left(state: &Path) -> Vec<String> {
    let files = fs::read_dir(state.join("spool")).into_iter().flatten().flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    names.filter(|name| name != "lock" && !name.ends_with(".record")).collect()
}
