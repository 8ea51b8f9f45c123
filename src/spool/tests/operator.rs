//! The spool under an operator who removes, retries and reloads.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_operator_removes_and_retries() {
    let mut bench = Bench::with(vec![temporary(), temporary(), temporary(), temporary()]);
    drop(bench.keep(CONTENT, Outcome::Refused("451 later".to_owned())).await);
    drop(bench.keep(CONTENT, Outcome::Refused("451 later".to_owned())).await);
    let [one, other] = <[Item; 2]>::try_from(bench.spool.list()).unwrap();
    let plain = b"Message-ID: <1@x>\r\nSubject: scan\r\n\r\n.dots\r\ntext\r\n";
    assert_eq!(bench.spool.content(one.id).unwrap(), plain);
    assert_eq!(bench.spool.remove(one.id).unwrap().id, one.id);
    assert_eq!(bench.spool.remove(one.id), Err(Refusal::Unknown));
    bench.run();
    until(|| bench.spool.list()[0].attempts == 4).await;
    bench.server.answers.lock().clear();
    let begun = Instant::now();
    bench.spool.retry(other.id, None).unwrap();
    bench.until_empty().await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(bench.got().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_names_another_directory_leaves_no_message_behind() {
    let mut bench = Bench::new();
    let mut writer = bench.spool.begin(envelope()).unwrap();
    bench.keep(CONTENT, Outcome::Refused("451 later".to_owned())).await;
    let other = SpoolSettings { directory: bench.directory.path().join("other"), ..settings(bench.directory.path()) };
    bench.spool.open(&other, &[7; 32]).unwrap();
    writer.append(CONTENT.as_bytes());
    writer.commit(Outcome::Refused("451 later".to_owned())).await.unwrap();
    bench.run();
    bench.until_empty().await;
    assert_eq!(bench.got().len(), 2);
}

/// A retry behind a message that some have got goes to the others, and one whose outcome is not known says so before.
#[tokio::test(start_paused = true)]
async fn a_retry_goes_to_those_who_did_not_get_it() {
    let nobody = "nobody@contoso.example";
    let some = Attempt::Answered(Answered {
        refused: vec![(nobody.to_owned(), "550 5.1.10 unknown".to_owned())],
        ..Answered::whole(Answer::Accepted("250 ok".to_owned()))
    });
    let mut bench = Bench::with(vec![some, temporary()]);
    let two = vec!["you@contoso.example".to_owned(), nobody.to_owned()];
    let mut writer = bench.spool.begin(Envelope { recipients: two, ..envelope() }).unwrap();
    writer.append(CONTENT.as_bytes());
    drop(writer.commit(Outcome::Refused("451 later".to_owned())).await.unwrap());
    let id = bench.spool.list()[0].id;
    assert_eq!(bench.spool.show(id).unwrap().before_retry, None);
    bench.run();
    until(|| bench.spool.list()[0].last.contains("451 4.7.0 later")).await;
    // It is so after a restart, too.
    bench.reopen().await;
    let before = bench.spool.show(id).unwrap().before_retry;
    assert_eq!(before.unwrap(), format!("the others have this message already: it goes to {nobody} alone"));
    bench.spool.retry(id, None).unwrap();
    bench.run();
    bench.until_empty().await;
    let again = Envelope { recipients: vec![nobody.to_owned()], ..envelope() };
    assert_eq!(bench.got().last().unwrap(), &(again, CONTENT.to_owned()));

    let bench = Bench::new();
    drop(bench.keep(CONTENT, Outcome::Unknown("reset".to_owned())).await);
    let id = bench.spool.list()[0].id;
    let before = bench.spool.show(id).unwrap().before_retry.unwrap();
    assert!(before.starts_with("nobody knows") && before.ends_with("its recipient may get it twice"), "{before}");
}

/// A retry says when the message is tried, and waits as long as the mail server wants.
#[tokio::test(start_paused = true)]
async fn a_retry_says_when_the_message_is_tried() {
    let mut bench = Bench::new();
    drop(bench.keep(CONTENT, Outcome::Refused("451 later".to_owned())).await);
    let id = bench.spool.list()[0].id;
    bench.run();
    let throttled = bench.spool.retry(id, Some(Duration::from_secs(240))).unwrap();
    assert_eq!((throttled.wait.as_secs(), throttled.why.unwrap().contains("throttles this mailbox")), (240, true));
    assert_eq!(bench.spool.list()[0].next_in, Some(240));
    let begun = Instant::now();
    bench.until_empty().await;
    assert_eq!((bench.got().len(), begun.elapsed().as_secs() / 10), (1, 24));

    let bench = Bench::new();
    drop(bench.keep(CONTENT, Outcome::Refused("451 later".to_owned())).await);
    let id = bench.spool.list()[0].id;
    let mailbox = bench.spool.queue.lock().entries.get(&id).unwrap().mailbox().unwrap();
    let pace = Duration::from_secs(30);
    let held = HeldMailbox { until: Instant::now() + pace, step: 0, hold: Hold::Pace(pace) };
    bench.spool.queue.lock().held.insert(mailbox.clone(), held);
    assert_eq!(bench.spool.retry(id, None).unwrap().wait, pace);
    bench.spool.queue.lock().held.clear();
    bench.spool.queue.lock().sending.insert(mailbox);
    let behind = bench.spool.retry(id, None).unwrap();
    assert_eq!((behind.wait, behind.why.unwrap().contains("is being sent first")), (Duration::ZERO, true));
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_holds_the_whole_mailbox() {
    let refused = || Attempt::Held(Hold::RefusedLogin("535 5.7.3".to_owned()));
    let mut bench = Bench::with(vec![refused(), refused()]);
    for _ in 0..5 {
        drop(bench.keep(CONTENT, Outcome::NoServer("no login".to_owned())).await);
    }
    bench.run();
    until(|| bench.spool.summary().refused_logins == 1).await;
    // One login for all five.
    let attempts: u32 = bench.spool.list().iter().map(|item| item.attempts).sum();
    assert_eq!(attempts, 6);
    assert!(bench.spool.list().iter().all(|item| item.hold.as_deref() == Some("535 5.7.3")));
    bench.until_empty().await;
    assert_eq!((bench.got().len(), bench.spool.summary().refused_logins), (5, 0));
}
