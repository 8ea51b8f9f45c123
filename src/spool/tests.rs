//! The spool against a server that is a list of answers, under a paused clock.

mod bounds;
mod files;
mod hanging;
mod operator;
mod recipients;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::share::Used;
use super::*;
use crate::lifecycle::{self, Trigger};

/// A server that gives these answers, one for each attempt, and keeps what it has accepted or lost.
#[derive(Default)]
struct Server {
    answers: Mutex<Vec<Attempt>>,
    got: Mutex<Vec<(Envelope, String)>>,
    /// The number of attempts that panic behind the message.
    panics: Mutex<u32>,
    /// The number of attempts whose file did not let itself be read.
    unreadable: Mutex<u32>,
}

impl Submit for Arc<Server> {
    async fn submit(&self, mut outgoing: Outgoing) -> Attempt {
        let next = {
            let mut answers = self.answers.lock();
            if answers.is_empty() { answered(Answer::Accepted("250 2.0.0 ok".to_owned())) } else { answers.remove(0) }
        };
        if matches!(next, Attempt::Held(_)) {
            return next;
        }
        let mut content = Vec::new();
        loop {
            match outgoing.next().await {
                Ok(Piece::More(piece)) => content.extend_from_slice(&piece),
                Ok(Piece::Last(piece)) => {
                    content.extend_from_slice(&piece);
                    break;
                }
                Err(error) => {
                    *self.unreadable.lock() += 1;
                    return Attempt::Unreadable(error);
                }
            }
        }
        let is_refused =
            matches!(&next, Attempt::Answered(Answered { answer: Answer::Temporary(_) | Answer::Permanent(_), .. }));
        let panics = std::mem::take(&mut *self.panics.lock());
        *self.panics.lock() = panics.saturating_sub(1);
        assert!(panics == 0, "the test wants it");
        if !is_refused {
            self.got.lock().push((outgoing.envelope().clone(), String::from_utf8(content).unwrap()));
        }
        next
    }
}

fn answered(answer: Answer) -> Attempt {
    Attempt::Answered(Answered::whole(answer))
}

fn temporary() -> Attempt {
    answered(Answer::Temporary("451 4.7.0 later".to_owned()))
}

fn permanent() -> Attempt {
    answered(Answer::Permanent("550 5.7.60 SendAs denied".to_owned()))
}

fn lost() -> Attempt {
    answered(Answer::Lost("connection reset".to_owned()))
}

fn settings(directory: &Path) -> SpoolSettings {
    SpoolSettings {
        directory: directory.join("spool"),
        max_size: 1024 * 1024,
        max_messages: 10,
        mailbox_share: 100,
        device_share: 100,
        max_age: Duration::from_secs(6 * 60 * 60),
        patience: Duration::from_secs(25),
        report_to: None,
    }
}

fn envelope() -> Envelope {
    Envelope {
        account: "scans".to_owned(),
        mailbox: "scans@contoso.example".to_owned(),
        device: "scanner3".to_owned(),
        upstream: "office".to_owned(),
        sender: "scans@contoso.example".to_owned(),
        recipients: vec!["you@contoso.example".to_owned()],
        parameters: "BODY=8BITMIME".to_owned(),
        received: 1_795_826_100,
        connection: "c1".to_owned(),
    }
}

const CONTENT: &str = "Message-ID: <1@x>\r\nSubject: scan\r\n\r\n..dots\r\ntext\r\n.\r\n";

struct Bench {
    directory: tempfile::TempDir,
    spool: Arc<Spool>,
    server: Arc<Server>,
    running: Option<(Trigger, Trigger)>,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::default());
        spool.open(&settings(directory.path()), &[7; 32]).unwrap();
        Self { directory, spool, server: Arc::default(), running: None }
    }

    fn with(answers: Vec<Attempt>) -> Self {
        let bench = Self::new();
        *bench.server.answers.lock() = answers;
        bench
    }

    async fn keep(&self, content: &str, outcome: Outcome) -> KeptMessage {
        self.keep_as(envelope(), content, outcome).await
    }

    async fn keep_as(&self, envelope: Envelope, content: &str, outcome: Outcome) -> KeptMessage {
        let mut writer = self.spool.begin(envelope).unwrap();
        for piece in content.as_bytes().chunks(7) {
            writer.ready().await;
            writer.append(piece);
        }
        writer.commit(outcome).await.unwrap()
    }

    fn run(&mut self) {
        let ((configuration, of_configuration), (process, of_process)) = (lifecycle::begin(), lifecycle::begin());
        let server = Arc::new(Arc::clone(&self.server));
        tokio::spawn(run(Arc::clone(&self.spool), server, of_configuration, of_process));
        self.running = Some((configuration, process));
    }

    /// Ends the process without a word, and starts another one.
    async fn restart(&mut self) {
        self.reopen().await;
        self.run();
    }

    /// The same, without any attempt.
    async fn reopen(&mut self) {
        self.running = None;
        // The directory is closed once nobody has the old spool any more.
        let spool = std::mem::replace(&mut self.spool, Arc::new(Spool::default()));
        let old = Arc::downgrade(&spool);
        spool.queue.lock().store = None;
        drop(spool);
        until(|| old.strong_count() == 0).await;
        self.spool.open(&settings(self.directory.path()), &[7; 32]).unwrap();
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path().join("spool")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "lock")
            .collect();
        names.sort();
        names
    }

    fn got(&self) -> Vec<(Envelope, String)> {
        self.server.got.lock().clone()
    }

    async fn until_empty(&self) {
        until(|| self.spool.list().is_empty()).await;
    }

    async fn until_state(&self, state: ItemState) {
        until(|| self.spool.list().iter().any(|item| item.state == state)).await;
    }
}

async fn until(condition: impl Fn() -> bool) {
    for _ in 0..200_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("it never came to that");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_refused_for_the_moment_is_sent_later_as_it_was() {
    let mut bench = Bench::with(vec![temporary(), Attempt::Held(Hold::Unreachable("no route".to_owned()))]);
    drop(bench.keep(CONTENT, Outcome::Refused("451 4.3.2 later".to_owned())).await);
    assert_eq!(bench.files().len(), 2, "{:?}", bench.files());
    let begun = Instant::now();
    bench.run();
    bench.until_empty().await;
    assert_eq!(bench.got(), [(envelope(), CONTENT.to_owned())]);
    assert!(bench.files().is_empty());
    let counts = bench.spool.summary().counts;
    assert_eq!((counts.kept, counts.delivered, counts.repeated, counts.reported), (1, 1, 0, 0));
    // After 1, 5 and 15 minutes.
    let took = begun.elapsed().as_secs() / 60;
    assert!((20..=22).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn what_is_discarded_or_does_not_fit_leaves_nothing() {
    let bench = Bench::new();
    let mut writer = bench.spool.begin(envelope()).unwrap();
    writer.append(&[b'x'; 300_000]);
    writer.discard();
    let mut writer = bench.spool.begin(envelope()).unwrap();
    writer.append(&vec![b'x'; 1024 * 1024 + 1]);
    assert!(!writer.is_able());
    assert!(matches!(writer.commit(Outcome::Slow).await, Err(Error::Full)));
    until(|| bench.files().is_empty() && bench.spool.summary().octets == 0).await;
    assert_eq!(bench.spool.queue.lock().entries.shares.total(), Used::default());
    for _ in 0..10 {
        drop(bench.keep(CONTENT, Outcome::Refused(String::new())).await);
    }
    assert!(bench.spool.begin(envelope()).is_none(), "the eleventh");
    assert!(bench.spool.summary().problem.unwrap().contains("full"));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_good_becomes_a_report_and_is_never_tried_again() {
    let mut bench = Bench::with(vec![permanent()]);
    drop(bench.keep(CONTENT, Outcome::ServerLost("lost".to_owned())).await);
    bench.run();
    bench.until_empty().await;
    let [(sent, report)] = <[_; 1]>::try_from(bench.got()).unwrap();
    assert_eq!(sent.recipients, ["scans@contoso.example"]);
    for line in [
        "To: <scans@contoso.example>",
        "Content-Type: multipart/report; report-type=delivery-status;",
        "Final-Recipient: rfc822; you@contoso.example",
        "Status: 5.7.60",
        "Diagnostic-Code: smtp; 550 5.7.60 SendAs denied",
        "Message-ID: <1@x>\r\nSubject: scan",
    ] {
        assert!(report.contains(line), "{line} is not in {report}");
    }
    assert!(report.ends_with("\r\n.\r\n") && !report.contains("text\r\n"));
    assert!(bench.files().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_old_becomes_a_report_and_both_are_kept_where_that_fails() {
    let mut bench = Bench::with((0..200).map(|_| temporary()).collect());
    drop(bench.keep(CONTENT, Outcome::NoServer("no route".to_owned())).await);
    bench.run();
    bench.until_state(ItemState::Kept).await;
    let summary = bench.spool.summary();
    assert_eq!((summary.needs_operator, summary.waiting, summary.counts.expired), (1, 0, 1));
    assert!(bench.files()[0].ends_with(".0.kept"), "{:?}", bench.files());
    bench.restart().await;
    let id = bench.spool.list()[0].id;
    bench.server.answers.lock().clear();
    bench.spool.retry(id, None).unwrap();
    bench.until_empty().await;
    assert_eq!(bench.got(), [(envelope(), CONTENT.to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_tried_once_more_and_then_reported() {
    let mut bench = Bench::with(vec![lost()]);
    drop(bench.keep(CONTENT, Outcome::Unknown("reset".to_owned())).await);
    assert!(bench.files()[0].ends_with(".1.message"));
    assert!(bench.spool.list()[0].may_exist_twice);
    bench.run();
    bench.until_empty().await;
    let got: Vec<String> = bench.got().into_iter().map(|(_, text)| text).collect();
    assert_eq!(got[0], CONTENT);
    assert!(got[1].contains("lost twice") && got[1].contains("Status: 4.4.2") && got.len() == 2, "{got:?}");
    assert_eq!(bench.spool.summary().counts.repeated, 1);
}

#[tokio::test(start_paused = true)]
async fn a_report_with_an_unknown_outcome_is_tried_until_it_arrives_or_is_too_old() {
    // One message, and the report up to thirteen times; or hourly for a day, until an operator has to look.
    for (losses, left, sent) in [(13, 0, 14..15), (1000, 1, 20..40)] {
        let mut bench = Bench::with((0..losses).map(|_| lost()).collect());
        drop(bench.keep(CONTENT, Outcome::Unknown("reset".to_owned())).await);
        bench.spool.queue.lock().settings.as_mut().unwrap().max_age = Duration::from_secs(24 * 60 * 60);
        bench.run();
        until(|| bench.spool.list().iter().all(|item| item.state == ItemState::Kept)).await;
        assert!(bench.spool.list().len() == left && sent.contains(&bench.got().len()), "{}", bench.got().len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_settles_the_message() {
    for (answer, expected) in [
        (Answer::Accepted("250 ok".to_owned()), 0),
        (Answer::Temporary("451 later".to_owned()), 1),
        (Answer::Permanent("550 5.7.60 no".to_owned()), 1),
        (Answer::Lost("reset".to_owned()), 1),
    ] {
        let mut bench = Bench::new();
        let kept = bench.keep(CONTENT, Outcome::Slow).await;
        bench.run();
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(bench.spool.list()[0].state, ItemState::Sending);
        kept.answered(answer.clone());
        bench.until_empty().await;
        assert_eq!(bench.got().len(), expected, "{answer:?}");
        let repeated = u64::from(matches!(answer, Answer::Lost(_)));
        assert_eq!(bench.spool.summary().counts.repeated, repeated, "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_finds_the_queue_and_what_was_under_way() {
    let mut bench = Bench::new();
    let kept = bench.keep(CONTENT, Outcome::Slow).await;
    drop(bench.keep(CONTENT, Outcome::Refused("451 later".to_owned())).await);
    // A kill tells nobody.
    std::mem::forget(kept);
    let spool = bench.directory.path().join("spool");
    fs::write(spool.join("0123456789abcdef.0.new-0123456789abcdef"), b"half").unwrap();
    let spool = std::mem::replace(&mut bench.spool, Arc::new(Spool::default()));
    // The forgotten handle keeps the old spool; its directory is closed all the same.
    spool.queue.lock().store = None;
    drop(spool);
    until(|| bench.spool.open(&settings(bench.directory.path()), &[7; 32]).is_ok()).await;
    assert_eq!(bench.spool.list().len(), 2);
    assert_eq!(bench.files().len(), 4, "{:?}", bench.files());
    bench.run();
    bench.until_empty().await;
    assert_eq!(bench.got().len(), 2);
    assert_eq!(bench.spool.summary().counts.repeated, 1);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_file_is_never_sent() {
    let mut bench = Bench::new();
    let long = format!("Subject: long\r\n\r\n{}\r\n.\r\n", "x".repeat(200_000));
    for _ in 0..2 {
        drop(bench.keep(&long, Outcome::Refused("451 later".to_owned())).await);
    }
    drop(bench.keep(CONTENT, Outcome::Refused("451 later".to_owned())).await);
    let path = |name: &str| bench.directory.path().join("spool").join(name);
    let files: Vec<String> = bench.files().into_iter().filter(|name| name.ends_with(".message")).collect();
    let is_long = |name: &&String| fs::metadata(path(name)).unwrap().len() > 100_000;
    let long_ones: Vec<&String> = files.iter().filter(is_long).collect();
    // The end of one is cut, and the third has the name of the second.
    let whole = fs::read(path(long_ones[0])).unwrap();
    fs::write(path(long_ones[0]), &whole[..whole.len() - 1]).unwrap();
    let short = files.iter().find(|name| !is_long(name)).unwrap();
    fs::copy(path(short), path(long_ones[1])).unwrap();
    bench.run();
    until(|| {
        let states: Vec<ItemState> = bench.spool.list().iter().map(|item| item.state).collect();
        states == [ItemState::Damaged; 2]
    })
    .await;
    let got = bench.got();
    assert!(got.iter().all(|(envelope, text)| text == CONTENT || envelope.recipients == ["scans@contoso.example"]));
    assert_eq!(got.iter().filter(|(_, text)| text == CONTENT).count(), 1);
    assert_eq!(got.iter().filter(|(_, text)| text.contains("is damaged")).count(), 2);
    assert_eq!(bench.spool.summary().counts.damaged, 2);
    assert_eq!(bench.spool.retry(bench.spool.list()[0].id, None), Err(Refusal::Damaged));
}

#[tokio::test(start_paused = true)]
async fn recipients_that_are_refused_get_a_report_and_the_others_one_message() {
    let refused = vec![("nobody@contoso.example".to_owned(), "550 5.1.10 unknown".to_owned())];
    let accepted = Answer::Accepted("250 ok".to_owned());
    let mut bench = Bench::with(vec![Attempt::Answered(Answered { refused, ..Answered::whole(accepted) })]);
    drop(bench.keep(CONTENT, Outcome::Refused("451 later".to_owned())).await);
    bench.run();
    bench.until_empty().await;
    let got = bench.got();
    assert_eq!((got.len(), got[0].1.as_str()), (2, CONTENT));
    assert!(got[1].1.contains("Final-Recipient: rfc822; nobody@contoso.example"));
    assert!(!got[1].1.contains("Final-Recipient: rfc822; you@"));
}
