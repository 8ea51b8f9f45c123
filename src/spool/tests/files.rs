//! Files of the spool that somebody has damaged, removed, closed or put there, and a clock that jumps.

use std::os::unix::fs::PermissionsExt;

use super::super::entry::unix_time;
use super::super::record::Record;
use super::*;

fn refused() -> Outcome {
    Outcome::Refused("451 later".to_owned())
}

/// The path of the only message's file.
fn file(bench: &Bench) -> std::path::PathBuf {
    let [name] = <[String; 1]>::try_from(
        bench.files().into_iter().filter(|name| !name.ends_with(".record")).collect::<Vec<_>>(),
    )
    .unwrap();
    bench.directory.path().join("spool").join(name)
}

/// The words of a message that is set aside are not those of its last answer. The advice that they give works.
#[tokio::test(start_paused = true)]
async fn a_damaged_file_says_so_and_is_sent_once_its_key_is_back() {
    let mut bench = Bench::new();
    drop(bench.keep(CONTENT, refused()).await);
    bench.spool.queue.lock().store = None;
    let other_key = Arc::new(Spool::default());
    let opened = || other_key.open(&settings(bench.directory.path()), &[8; 32]).is_ok();
    until(opened).await;
    let [item] = <[Item; 1]>::try_from(other_key.list()).unwrap();
    let (id, words) = (item.id, "is damaged, or was sealed with another key");
    assert_eq!((item.state, item.last.contains(words)), (ItemState::Damaged, true), "{}", item.last);
    for advice in [format!("packetboat spool retry {id}"), format!("packetboat spool remove {id}")] {
        assert!(item.last.contains(&advice), "{}", item.last);
    }
    assert!(!item.last.contains("451"));
    assert_eq!(other_key.retry(id, None), Err(Refusal::Damaged));
    // The refusal leaves the message as it was.
    assert_eq!(other_key.list()[0], item);
    other_key.queue.lock().store = None;
    drop(other_key);
    bench.reopen().await;
    assert_eq!(bench.spool.list()[0].state, ItemState::Damaged);
    bench.run();
    bench.spool.retry(id, None).unwrap();
    bench.until_empty().await;
    assert_eq!(bench.got(), [(envelope(), CONTENT.to_owned())]);
}

/// A disk that does not give a file at the start is not taken for damage: the message is sent once the file is read.
#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_read_stays_as_it_is() {
    let mut bench = Bench::new();
    drop(bench.keep(CONTENT, refused()).await);
    let path = file(&bench);
    let aside = bench.directory.path().join("aside");
    // A link is not followed: the file cannot be read, whoever runs the test.
    fs::rename(&path, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &path).unwrap();
    bench.reopen().await;
    let [item] = <[Item; 1]>::try_from(bench.spool.list()).unwrap();
    assert_eq!((item.state, bench.spool.summary().needs_operator), (ItemState::Unreadable, 1));
    let advice = format!("let packetboat read it, then run packetboat spool retry {}", item.id);
    assert!(item.last.contains("cannot be read") && item.last.ends_with(&advice), "{}", item.last);
    assert_eq!(bench.spool.retry(item.id, None), Err(Refusal::Unreadable));
    assert!(path.is_symlink(), "nothing is renamed");
    fs::rename(&aside, &path).unwrap();
    bench.run();
    bench.spool.retry(item.id, None).unwrap();
    bench.until_empty().await;
    assert_eq!(bench.got(), [(envelope(), CONTENT.to_owned())]);
}

/// Whatever somebody puts into the directory, the start does not wait for it, and sends nothing of it.
#[tokio::test(start_paused = true)]
async fn files_of_others_are_not_sent() {
    let mut bench = Bench::new();
    drop(bench.keep(CONTENT, refused()).await);
    let (path, spool) = (file(&bench), bench.directory.path().join("spool"));
    rustix::fs::mkfifoat(rustix::fs::CWD, spool.join("0000000000000001.0.message"), 0o600.into()).unwrap();
    fs::create_dir(spool.join("0000000000000002.0.message")).unwrap();
    fs::write(spool.join("0000000000000003.0.message"), "From: somebody\r\n").unwrap();
    fs::copy(&path, spool.join("0000000000000004.0.message")).unwrap();
    fs::set_permissions(spool.join("0000000000000004.0.message"), fs::Permissions::from_mode(0o666)).unwrap();
    fs::write(spool.join("0000000000000005.record"), "no record").unwrap();
    fs::write(spool.join("notes.txt"), "a note").unwrap();
    bench.restart().await;
    until(|| bench.spool.list().iter().all(|item| item.state == ItemState::Damaged)).await;
    assert_eq!(bench.got(), [(envelope(), CONTENT.to_owned())]);
    assert_eq!(bench.spool.summary().needs_operator, 4);
    assert!(spool.join("notes.txt").exists(), "another's file is left alone");
}

#[tokio::test(start_paused = true)]
async fn a_second_process_does_not_get_the_directory() {
    let bench = Bench::new();
    drop(bench.keep(CONTENT, refused()).await);
    let second = Spool::default();
    let why = second.open(&settings(bench.directory.path()), &[7; 32]).unwrap_err();
    assert!(!why.passes() && why.to_string().contains("is in use by another packetboat"), "{why}");
    assert!(second.list().is_empty() && bench.files().len() == 2);
}

/// A message whose file was removed becomes a report. A directory that was removed is made anew, and is locked.
#[tokio::test(start_paused = true)]
async fn what_is_removed_while_packetboat_runs_is_reported() {
    for is_directory in [false, true] {
        let mut bench = Bench::new();
        drop(bench.keep(CONTENT, refused()).await);
        let id = bench.spool.list()[0].id;
        if is_directory {
            fs::remove_dir_all(bench.directory.path().join("spool")).unwrap();
            drop(bench.keep(CONTENT, refused()).await);
            let second = Spool::default();
            assert!(matches!(second.open(&settings(bench.directory.path()), &[7; 32]), Err(Error::InUse(_))));
        } else {
            fs::remove_file(file(&bench)).unwrap();
        }
        bench.run();
        until(|| bench.spool.list().iter().all(|item| item.state == ItemState::Damaged)).await;
        let got = bench.got();
        let reports = got.iter().filter(|(sent, text)| {
            sent.recipients == ["scans@contoso.example"] && text.contains(&format!("by id {id}"))
        });
        assert_eq!((reports.count(), got.len()), (1, 1 + usize::from(is_directory)), "{got:?}");
        // The file in the place of the lost one is no message.
        assert_eq!(bench.spool.retry(id, None), Err(Refusal::Damaged));
        bench.spool.remove(id).unwrap();
        assert!(bench.files().is_empty(), "{:?}", bench.files());
    }
}

/// The wall clock decides no more than when within one interval a message is tried after a restart.
#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_neither_expires_a_message_nor_holds_it() {
    let (now, day) = (Instant::now(), 24 * 60 * 60);
    let name = FileName { id: Id::new().unwrap(), unknown: 0, phase: Phase::Message };
    for next_at in [0, 1, unix_time() - day, unix_time() + day, unix_time() + 3650 * day, u64::MAX] {
        for step in [0, 1, 2, 3, u32::MAX] {
            let record = Record { next_at, step, last_at: next_at, ..Record::default() };
            let mut entry = Entry::found(name, 1, record, now);
            assert!(entry.due - now <= Duration::from_secs(60 * 60), "{next_at} {step}");
            assert_eq!(entry.age(now), Duration::ZERO);
            entry.note_attempt("451 later", now);
            assert!(entry.due > now && entry.due - now <= Duration::from_secs(60 * 60));
        }
    }
}
