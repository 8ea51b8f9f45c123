//! A device: its number decides how it uses its mailbox. It knows which messages have to be there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use openssl::ssl::SslSession;
use support::exchange::PASSWORD;

use super::client::{Client, Trouble, Visit};
use super::run::Run;

/// A way to use a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// The device fetches and deletes by IMAP, and leaves.
    PollsByImap,
    /// The same by POP3.
    PollsByPop3,
    /// The same by IMAP, and the device stays connected.
    Stays,
    /// The device sends a message, and leaves.
    Sends,
    /// The device reads in a mailbox, and sends from it, that [`CROWD`] devices use.
    Crowds,
}

impl Habit {
    pub fn of(number: usize) -> Self {
        [Self::PollsByImap, Self::PollsByPop3, Self::Stays, Self::Sends, Self::Crowds][number % 5]
    }
}

/// The address of a device's mailbox.
pub fn mailbox(number: usize) -> String {
    match Habit::of(number) {
        Habit::Crowds => format!("crowd{}@contoso.example", number / 5 / CROWD),
        _ => format!("device{number}@contoso.example"),
    }
}

/// A message that names its number and its device.
pub fn message(number: u64, device: usize) -> Vec<u8> {
    let line = format!("Line of message {number} for device {device}.\r\n").repeat(20);
    format!("From: <{}>\r\nSubject: Scan {number} of {device}\r\n\r\n{line}", mailbox(device)).into_bytes()
}

/// The number and the device of a message; none where that is none of these.
pub fn name_of(message: &[u8]) -> Option<(u64, usize)> {
    let text = std::str::from_utf8(message).ok()?;
    let (number, rest) = text.split_once("Subject: Scan ")?.1.split_once(" of ")?;
    let device = rest.split_once("\r\n")?.0;
    Some((number.parse().ok()?, device.parse().ok()?))
}

pub struct Device<'a> {
    run: &'a Run,
    number: usize,
    habit: Habit,
    login: String,
    /// The TLS session that the next connection resumes.
    session: Option<SslSession>,
    /// The connection of a device that stays.
    open: Option<Client>,
    /// The number of the next message, to the device or from it.
    next: u64,
    visits: usize,
    inbox: Inbox,
    outbox: Outbox,
}

/// The messages that have to be in the mailbox, and those that may be there: their deletion was not confirmed.
#[derive(Default)]
struct Inbox {
    certain: BTreeSet<u64>,
    doubtful: BTreeSet<u64>,
}

/// The messages that were sent, each with the number of tries.
#[derive(Default)]
pub struct Outbox {
    /// The tries so far of the next message: the server may have got it each time.
    tries: usize,
    pub sent: BTreeMap<u64, usize>,
}

impl<'a> Device<'a> {
    pub fn new(run: &'a Run, number: usize) -> Self {
        Self {
            run,
            number,
            habit: Habit::of(number),
            login: format!("device{number}"),
            session: None,
            open: None,
            next: 1,
            visits: 0,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
        }
    }

    /// Visits the mailbox; tries once. A message is there for it.
    pub fn come(&mut self) {
        if matches!(self.habit, Habit::PollsByImap | Habit::PollsByPop3 | Habit::Stays) {
            let (number, mailbox) = (self.next, mailbox(self.number));
            self.next += 1;
            assert!(self.run.exchange.simulator.deliver(&mailbox, message(number, self.number)));
            self.inbox.certain.insert(number);
        }
        self.look();
    }

    /// Visits the mailbox for what is there.
    fn look(&mut self) {
        let begun = Instant::now();
        self.visits += 1;
        let visited = match self.habit {
            Habit::PollsByImap => self.poll_by_imap(),
            Habit::PollsByPop3 => self.poll_by_pop3(),
            Habit::Stays => self.stay(),
            Habit::Sends => self.submit(),
            Habit::Crowds if self.visits.is_multiple_of(4) => self.submit(),
            Habit::Crowds => self.read_in_a_crowd(),
        };
        self.run.note(self.number, begun, visited);
    }

    /// Comes a last time, and compares the mailbox with what it knows. Returns what it has sent.
    pub fn leave(mut self) -> (usize, Outbox) {
        self.look();
        if self.outbox.tries > 0 {
            let begun = Instant::now();
            let visited = self.submit();
            self.run.note(self.number, begun, visited);
        }
        if !matches!(self.habit, Habit::Sends | Habit::Crowds) {
            let left = self.run.exchange.simulator.messages(&mailbox(self.number));
            if left > 0 || !self.inbox.certain.is_empty() {
                self.run.fault(format!("device {} leaves {left} messages, {:?}", self.number, self.inbox.certain));
            }
        }
        (self.number, self.outbox)
    }

    fn connect(&mut self, port: u16) -> Visit<Client> {
        let (source, to) = self.run.way(self.number, port);
        Client::connect(source.into(), to, &self.run.context, &mut self.session)
    }

    fn open_by_imap(&mut self) -> Visit<Client> {
        let mut client = self.connect(993)?;
        client.log_in_by_imap(&self.login, PASSWORD)?;
        Ok(client)
    }

    fn poll_by_imap(&mut self) -> Visit {
        let mut client = self.open_by_imap()?;
        self.take_by_imap(&mut client)?;
        client.imap("LOGOUT", "LOGOUT")?;
        client.close()
    }

    /// Goes on with the open connection. Where that has ended meanwhile, a new one serves at the first try.
    fn stay(&mut self) -> Visit {
        if let Some(mut client) = self.open.take() {
            match self.take_by_imap(&mut client) {
                Ok(()) => {
                    self.open = Some(client);
                    return Ok(());
                }
                Err(Trouble::Broken(..) | Trouble::Bye(..)) => self.run.note_end(),
                Err(trouble) => return Err(trouble),
            }
        }
        let mut client = self.open_by_imap()?;
        self.take_by_imap(&mut client)?;
        self.open = Some(client);
        Ok(())
    }

    /// Fetches and deletes all messages.
    fn take_by_imap(&mut self, client: &mut Client) -> Visit {
        let exists = client.imap("SELECT", "SELECT INBOX")?.exists;
        if exists == 0 {
            self.compare(&[]);
            return Ok(());
        }
        let fetched = client.imap("FETCH", &format!("FETCH 1:{exists} (BODY.PEEK[])"))?.literals;
        let numbers = self.compare(&fetched);
        client.imap("STORE", &format!("STORE 1:{exists} +FLAGS.SILENT (\\Deleted)"))?;
        self.inbox.doubt(&numbers);
        client.imap("EXPUNGE", "EXPUNGE")?;
        self.inbox.confirm(&numbers);
        Ok(())
    }

    fn poll_by_pop3(&mut self) -> Visit {
        let mut client = self.connect(995)?;
        client.log_in_by_pop3(&self.login, PASSWORD)?;
        let stat = client.pop3("STAT", "STAT")?;
        let count: usize = stat.split(' ').nth(1).and_then(|count| count.parse().ok()).unwrap_or_default();
        let mut messages = Vec::new();
        for index in 1..=count {
            client.pop3("RETR", &format!("RETR {index}"))?;
            messages.push(client.pop3_lines("RETR")?);
            client.pop3("DELE", &format!("DELE {index}"))?;
        }
        let numbers = self.compare(&messages);
        self.inbox.doubt(&numbers);
        client.pop3("QUIT", "QUIT")?;
        self.inbox.confirm(&numbers);
        client.close()
    }

    /// Compares what is in the mailbox with what has to be there; returns the numbers of the messages.
    fn compare(&mut self, messages: &[Vec<u8>]) -> Vec<u64> {
        let mut numbers = Vec::new();
        for octets in messages {
            match name_of(octets) {
                Some((number, device)) if device == self.number && *octets == message(number, device) => {
                    numbers.push(number);
                }
                other => self.run.fault(format!("device {} got a foreign or changed message: {other:?}", self.number)),
            }
        }
        for fault in self.inbox.faults(&numbers) {
            self.run.fault(format!("device {}: {fault}", self.number));
        }
        numbers
    }

    /// Sends the next message. One that was not confirmed is sent once more at the next visit.
    fn submit(&mut self) -> Visit {
        let mut client = self.connect(465)?;
        client.log_in_by_smtp(&self.login, PASSWORD)?;
        client.smtp("MAIL", &format!("MAIL FROM:<{}>", mailbox(self.number)), "250")?;
        client.smtp("RCPT", "RCPT TO:<archive@partner.example>", "250")?;
        client.smtp("DATA", "DATA", "354")?;
        self.outbox.tries += 1;
        client.content(&message(self.next, self.number))?;
        self.outbox.sent.insert(self.next, std::mem::take(&mut self.outbox.tries));
        self.next += 1;
        client.smtp("QUIT", "QUIT", "221")?;
        client.close()
    }

    /// Reads the one message that all devices of the mailbox read, and takes its time over it.
    fn read_in_a_crowd(&mut self) -> Visit {
        let mut client = self.open_by_imap()?;
        client.imap("SELECT", "SELECT INBOX")?;
        let fetched = client.imap("FETCH", "FETCH 1 (BODY.PEEK[])")?.literals;
        if fetched != [message(0, self.number / 5 / CROWD)] {
            self.run.fault(format!("device {} does not read what is there", self.number));
        }
        std::thread::sleep(READING);
        client.imap("LOGOUT", "LOGOUT")?;
        client.close()
    }
}

impl Inbox {
    /// The messages that are missing, and those that should not be there.
    fn faults(&self, numbers: &[u64]) -> Vec<String> {
        let lost = self.certain.iter().filter(|number| !numbers.contains(number));
        let is_twice = |index: &usize| numbers[..*index].contains(&numbers[*index]);
        let is_known = |number: &u64| self.certain.contains(number) || self.doubtful.contains(number);
        let again = (0..numbers.len()).filter(|index| is_twice(index) || !is_known(&numbers[*index]));
        let lost = lost.map(|number| format!("message {number} is lost"));
        lost.chain(again.map(|index| format!("message {} comes again", numbers[index]))).collect()
    }

    /// Notes that the deletion of these messages is under way.
    fn doubt(&mut self, numbers: &[u64]) {
        self.certain.retain(|number| !numbers.contains(number));
        self.doubtful.extend(numbers);
    }

    /// Notes that these messages are deleted, and with them all that were in doubt: those that are not here are gone.
    fn confirm(&mut self, numbers: &[u64]) {
        self.doubtful.clear();
        self.certain.retain(|number| !numbers.contains(number));
    }
}

/// The devices of one mailbox: more than it has sessions.
pub const CROWD: usize = 12;
/// The time that a device of a crowd takes over a message.
const READING: Duration = Duration::from_millis(500);
