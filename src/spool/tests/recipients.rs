//! A message goes once more to those recipients alone that have not got it; a mailbox that waits or panics loses nothing.

use super::*;

/// An envelope with these recipients.
fn to(recipients: &[&str]) -> Envelope {
    Envelope { recipients: recipients.iter().map(|one| (*one).to_owned()).collect(), ..envelope() }
}

fn replies(replies: &[(&str, &str)]) -> Vec<(String, String)> {
    replies.iter().map(|(recipient, reply)| ((*recipient).to_owned(), (*reply).to_owned())).collect()
}

/// A message that was taken for all recipients but these.
fn taken_but(refused: &[(&str, &str)], deferred: &[(&str, &str)]) -> Attempt {
    let accepted = Answer::Accepted("250 2.0.0 ok".to_owned());
    Attempt::Answered(Answered { refused: replies(refused), deferred: replies(deferred), ..Answered::whole(accepted) })
}

fn recipients(bench: &Bench) -> Vec<Vec<String>> {
    bench.got().into_iter().map(|(envelope, _)| envelope.recipients).collect()
}

const B: (&str, &str) = ("b@x", "450 4.2.0 later");
const C: (&str, &str) = ("c@x", "550 5.1.1 nobody");

#[tokio::test(start_paused = true)]
async fn the_others_get_it_at_once_and_one_that_is_deferred_later_and_alone() {
    for is_restarted in [false, true] {
        let mut bench = Bench::with(vec![taken_but(&[C], &[B]), temporary()]);
        drop(bench.keep_as(to(&["a@x", "b@x", "c@x"]), CONTENT, Outcome::ServerLost("lost".to_owned())).await);
        bench.run();
        until(|| bench.got().len() == 1).await;
        if is_restarted {
            bench.until_state(ItemState::Waiting).await;
            bench.restart().await;
        }
        let shown = bench.spool.list();
        assert_eq!(shown[0].envelope.recipients, ["c@x", "b@x"], "those that have not got it");
        assert!(!shown[0].may_exist_twice, "the record says who has got it");
        bench.until_empty().await;
        assert_eq!(recipients(&bench), [&["a@x", "b@x", "c@x"][..], &["b@x"], &["scans@contoso.example"]]);
        let (_, report) = bench.got().pop().unwrap();
        for line in ["Final-Recipient: rfc822; c@x", "Diagnostic-Code: smtp; 550 5.1.1 nobody", "Status: 5.1.1"] {
            assert!(report.contains(line), "{line} is not in {report}");
        }
        assert!(report.contains("Its other recipients have got it.") && !report.contains("a@x"), "{report}");
        assert!(!report.contains("rfc822; b@x"), "{report}");
        let counts = bench.spool.summary().counts;
        assert_eq!((counts.repeated, counts.reported), (0, 1));
        assert!(bench.files().is_empty(), "{:?}", bench.files());
    }
}

/// The message is too old for the last of its recipients: the report names that one alone, and an operator's retry
/// reaches that one alone.
#[tokio::test(start_paused = true)]
async fn a_recipient_that_is_deferred_for_too_long_is_reported_alone() {
    let mut bench = Bench::with(vec![taken_but(&[], &[B])]);
    bench.server.answers.lock().extend((0..100).map(|_| temporary()));
    drop(bench.keep_as(to(&["a@x", "b@x"]), CONTENT, Outcome::ServerLost("lost".to_owned())).await);
    bench.run();
    bench.until_state(ItemState::Kept).await;
    assert_eq!(recipients(&bench), [["a@x", "b@x"]]);
    bench.server.answers.lock().clear();
    bench.spool.retry(bench.spool.list()[0].id, None).unwrap();
    bench.until_empty().await;
    assert_eq!(recipients(&bench), [&["a@x", "b@x"][..], &["b@x"]]);
}

/// An operator's retry of a message that some have got reaches those that were refused, and nobody twice.
#[tokio::test(start_paused = true)]
async fn a_retry_reaches_those_that_were_refused() {
    let mut bench = Bench::with(vec![taken_but(&[C], &[]), permanent()]);
    drop(bench.keep_as(to(&["a@x", "c@x"]), CONTENT, Outcome::ServerLost("lost".to_owned())).await);
    bench.run();
    bench.until_state(ItemState::Kept).await;
    bench.restart().await;
    bench.spool.retry(bench.spool.list()[0].id, None).unwrap();
    bench.until_empty().await;
    assert_eq!(recipients(&bench), [&["a@x", "c@x"][..], &["c@x"]]);
    assert_eq!(bench.spool.summary().counts.repeated, 0);
}

/// A recipient that is refused for good is not asked again, although nobody has got the message yet.
#[tokio::test(start_paused = true)]
async fn a_refused_recipient_is_not_tried_again() {
    let later = Attempt::Answered(Answered {
        refused: replies(&[C]),
        ..Answered::whole(Answer::Temporary("451 4.3.2 busy".to_owned()))
    });
    let mut bench = Bench::with(vec![later]);
    drop(bench.keep_as(to(&["a@x", "c@x"]), CONTENT, Outcome::ServerLost("lost".to_owned())).await);
    bench.run();
    bench.until_empty().await;
    assert_eq!(recipients(&bench), [&["a@x"][..], &["scans@contoso.example"]]);
    let (_, report) = bench.got().pop().unwrap();
    assert!(report.contains("rfc822; c@x") && !report.contains("rfc822; a@x"), "{report}");
}

/// The disk takes no record: this process knows who has got the message, and the name says that another one does not.
#[tokio::test(start_paused = true)]
async fn without_a_record_the_outcome_stays_unknown() {
    let mut bench = Bench::with(vec![taken_but(&[], &[B]), taken_but(&[], &[B])]);
    drop(bench.keep_as(to(&["a@x", "b@x"]), CONTENT, Outcome::ServerLost("lost".to_owned())).await);
    let id = bench.spool.list()[0].id;
    let record = bench.directory.path().join(format!("spool/{id}.record"));
    fs::remove_file(&record).unwrap();
    fs::create_dir_all(record.join("in the way")).unwrap();
    bench.run();
    until(|| bench.got().len() == 1).await;
    bench.until_state(ItemState::Waiting).await;
    assert!(bench.files().iter().any(|name| name.ends_with(".1.message")), "{:?}", bench.files());
    assert!(bench.spool.list()[0].may_exist_twice);
    fs::remove_dir_all(&record).unwrap();
    bench.until_empty().await;
    assert_eq!(recipients(&bench), [&["a@x", "b@x"][..], &["b@x"], &["b@x"]]);
}

/// A mailbox that the server throttles waits that long; nobody is asked meanwhile, and so no try is counted.
#[tokio::test(start_paused = true)]
async fn waiting_for_a_throttled_mailbox_is_no_try() {
    let wait = Duration::from_secs(15 * 60);
    let throttled =
        || Attempt::Held(Hold::Throttled { wait, why: "the mail server throttles this mailbox".to_owned() });
    let mut bench = Bench::with(vec![throttled(), throttled(), throttled(), temporary()]);
    drop(bench.keep(CONTENT, Outcome::ServerLost("lost".to_owned())).await);
    let begun = Instant::now();
    bench.run();
    until(|| bench.server.answers.lock().len() == 2).await;
    let shown = bench.spool.list();
    assert_eq!((shown[0].attempts, shown[0].state), (1, ItemState::Waiting));
    assert_eq!(shown[0].hold.as_deref(), Some("the mail server throttles this mailbox"));
    assert_eq!(bench.spool.summary().refused_logins, 0);
    bench.until_empty().await;
    assert_eq!(bench.got().len(), 1);
    // One minute, three waits, and the second interval of the schedule.
    let took = begun.elapsed().as_secs() / 60;
    assert!((51..=53).contains(&took), "{took}");
}

/// An attempt that panics frees its mailbox. The server had the whole message, so that the next attempt may be a second
/// copy.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_panics_frees_its_mailbox() {
    let mut bench = Bench::new();
    *bench.server.panics.lock() = 1;
    drop(bench.keep(CONTENT, Outcome::ServerLost("lost".to_owned())).await);
    bench.run();
    until(|| bench.spool.list().first().is_some_and(|one| one.hold.is_some())).await;
    let shown = bench.spool.list();
    assert_eq!((shown[0].state, shown[0].may_exist_twice), (ItemState::Waiting, true));
    assert_eq!(shown[0].hold.as_deref(), Some("the last attempt ended by a fault of packetboat"));
    bench.until_empty().await;
    assert_eq!((bench.got().len(), bench.spool.summary().counts.repeated), (1, 1));
}
