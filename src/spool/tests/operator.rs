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
