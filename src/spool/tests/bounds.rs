//! The bounds of the spool: sums that follow every change, shares, threads that compete, and many messages.

use super::super::entries::Entries;
use super::super::record::Record;
use super::super::share::{Owner, Shares};
use super::*;

/// A small generator of numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

fn envelope_of(mailbox: u64, device: u64) -> Envelope {
    Envelope { mailbox: format!("m{mailbox}@x"), device: format!("d{device}"), ..envelope() }
}

fn entry(numbers: &mut Numbers, now: Instant) -> Entry {
    let phase = [Phase::Message, Phase::Report, Phase::Kept, Phase::Damaged][numbers.below(4) as usize];
    let name = FileName { id: Id::new().unwrap(), unknown: 0, phase };
    let mut entry = Entry::found(name, numbers.below(1000), Record::default(), now);
    entry.envelope = (numbers.below(10) > 0).then(|| envelope_of(numbers.below(3), numbers.below(3)));
    entry.is_busy = numbers.below(5) == 0;
    entry.due = now + Duration::from_secs(numbers.below(100));
    entry
}

/// The messages put in anew, one by one.
fn anew(entries: &Entries, reserved: &[(Owner, Used)]) -> Entries {
    let mut other = Entries::default();
    for entry in entries.values() {
        other.insert(entry.name.id, entry.clone());
    }
    for (owner, used) in reserved {
        other.shares.add(Some(owner), *used);
    }
    other
}

#[tokio::test(start_paused = true)]
async fn sums_and_order_follow_every_change() {
    let (mut numbers, now) = (Numbers(7), Instant::now());
    let (mut entries, mut reserved) = (Entries::default(), Vec::new());
    for step in 0..5000 {
        let ids: Vec<Id> = entries.values().map(|entry| entry.name.id).collect();
        let id = ids.get(numbers.below(ids.len().max(1) as u64) as usize).copied();
        match (numbers.below(6), id) {
            (0 | 1, _) | (_, None) => {
                let entry = entry(&mut numbers, now);
                entries.insert(entry.name.id, entry);
            }
            (2, Some(id)) => drop(entries.remove(&id).unwrap()),
            (3, Some(id)) => {
                let other = Entry { name: entries.get(&id).unwrap().name, ..entry(&mut numbers, now) };
                entries.change(id, |entry| *entry = other).unwrap();
            }
            (4, _) => {
                let owner = Owner::of(&envelope_of(numbers.below(3), numbers.below(3)));
                let used = Used { octets: numbers.below(500), messages: 1 };
                entries.shares.add(Some(&owner), used);
                reserved.push((owner, used));
            }
            _ if reserved.is_empty() => {}
            _ => {
                let (owner, used) = reserved.swap_remove(numbers.below(reserved.len() as u64) as usize);
                entries.shares.take(Some(&owner), used);
            }
        }
        let other = anew(&entries, &reserved);
        assert!(entries.shares.equals(&other.shares), "step {step}");
        let octets: u64 = entries.values().map(|entry| entry.octets).sum();
        let total = octets + reserved.iter().map(|(_, used)| used.octets).sum::<u64>();
        assert_eq!(entries.shares.total().octets, total, "step {step}");
        let waits = |entry: &&Entry| entry.is_tried() && !entry.is_busy;
        let mut first: BTreeMap<MailboxKey, (Instant, Id)> = BTreeMap::new();
        for entry in entries.values().filter(waits) {
            let at = (entry.due, entry.name.id);
            first.entry(entry.mailbox().unwrap()).and_modify(|before| *before = at.min(*before)).or_insert(at);
        }
        let found = entries.next_of_mailboxes().map(|(mailbox, due, id)| (mailbox.clone(), (due, id)));
        assert!(found.eq(first), "step {step}");
    }
    for id in entries.values().map(|entry| entry.name.id).collect::<Vec<_>>() {
        entries.remove(&id);
    }
    for (owner, used) in reserved {
        entries.shares.take(Some(&owner), used);
    }
    assert!(entries.shares.equals(&Shares::default()) && entries.next_of_mailboxes().next().is_none());
}

/// Sixteen threads keep messages at once. Neither bound is passed. Two that compete for the last room may both be
/// refused; that room is free again for the messages that come after them one at a time, until all of it is used.
#[test]
fn threads_that_compete_keep_no_more_than_there_is_room_for_and_hold_no_room_afterwards() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(16).enable_all().build().unwrap();
    for (max_messages, max_size) in [(25, 1 << 40), (1000, 40_000)] {
        let directory = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::default());
        let bounds = SpoolSettings { max_messages, max_size, ..settings(directory.path()) };
        spool.open(&bounds, &[7; 32]).unwrap();
        let keep = |number: u64| {
            let spool = Arc::clone(&spool);
            runtime.spawn(async move {
                let Some(mut writer) = spool.begin(envelope_of(number % 3, number % 7)) else { return false };
                writer.append(CONTENT.as_bytes());
                writer.commit(Outcome::Refused("451 later".to_owned())).await.is_ok()
            })
        };
        let tasks: Vec<_> = (0..200).map(keep).collect();
        let kept = tasks.into_iter().map(|task| runtime.block_on(task).unwrap());
        let at_once = kept.filter(|is_kept| *is_kept).count();
        let one_by_one = (0..).take_while(|_| runtime.block_on(keep(0)).unwrap()).count();
        let used = spool.queue.lock().entries.shares.total();
        let files = fs::read_dir(&bounds.directory).unwrap().flatten();
        let on_disk: Vec<u64> = files
            .filter(|file| file.path().extension().is_some_and(|one| one == "message"))
            .map(|file| file.metadata().unwrap().len())
            .collect();
        assert_eq!((at_once + one_by_one, used.messages), (on_disk.len(), on_disk.len()));
        assert_eq!(used.octets, on_disk.iter().sum::<u64>());
        assert!(used.messages <= max_messages && used.octets <= max_size);
        let one_more = used.octets + on_disk[0];
        assert!(used.messages == max_messages || one_more > max_size, "room for another is left: {used:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_has_the_size_of_its_file_before_and_after_a_restart() {
    let mut bench = Bench::new();
    // Around the length of a frame, and with none.
    for length in [0, 1, 65_535, 65_536, 65_537, 200_000] {
        drop(bench.keep(&"x".repeat(length), Outcome::Refused("451 later".to_owned())).await);
    }
    let sizes = |bench: &Bench| {
        let sizes: BTreeMap<Id, u64> = bench.spool.list().iter().map(|item| (item.id, item.octets)).collect();
        assert_eq!(bench.spool.summary().octets, sizes.values().sum::<u64>());
        sizes
    };
    let before = sizes(&bench);
    for (id, octets) in &before {
        let path = bench.directory.path().join("spool").join(format!("{id}.0.message"));
        assert_eq!(fs::metadata(path).unwrap().len(), *octets);
    }
    bench.reopen().await;
    assert_eq!((sizes(&bench), before.len()), (before.clone(), 6));
}

/// A device that sends on and on fills its own share, and a mailbox its own. Others are kept.
#[tokio::test(start_paused = true)]
async fn neither_a_device_nor_a_mailbox_fills_the_spool_for_others() {
    let bench = Bench::new();
    let shared =
        SpoolSettings { max_messages: 20, mailbox_share: 50, device_share: 25, ..settings(bench.directory.path()) };
    bench.spool.open(&shared, &[7; 32]).unwrap();
    let keep = async |mailbox, device| {
        let mut writer = bench.spool.begin(envelope_of(mailbox, device))?;
        writer.append(CONTENT.as_bytes());
        writer.commit(Outcome::Refused("451 later".to_owned())).await.ok()
    };
    let mut kept = [0; 3];
    for (mailbox, device) in [(0, 1), (0, 2), (0, 3)] {
        for _ in 0..10 {
            kept[device as usize - 1] += usize::from(keep(mailbox, device).await.is_some());
        }
    }
    assert_eq!(kept, [5, 5, 0], "two devices of a quarter, and then the mailbox has its half");
    let full = bench.spool.summary().full_shares;
    let device = |number: u8| Share::Device { device: format!("d{number}"), mailbox: "m0@x".to_owned() };
    assert_eq!(full, [Share::Mailbox("m0@x".to_owned()), device(1), device(2)]);
    assert_eq!(bench.spool.summary().problem, None, "the spool has room");
    assert!(keep(1, 1).await.is_some());
    // Once a quarter of the share is free again, it counts as full no more.
    let is_of_first = |item: &&Item| item.envelope.device == "d1" && item.envelope.mailbox == "m0@x";
    let of_first: Vec<Id> = bench.spool.list().iter().filter(is_of_first).map(|item| item.id).take(2).collect();
    bench.spool.remove(of_first[0]).unwrap();
    assert!(bench.spool.summary().full_shares.contains(&device(1)));
    bench.spool.remove(of_first[1]).unwrap();
    assert_eq!(bench.spool.summary().full_shares, [Share::Mailbox("m0@x".to_owned()), device(2)]);
}

/// Devices that open messages and are silent in them take no place, and their octets are bounded by their share.
#[tokio::test(start_paused = true)]
async fn messages_that_never_end_lock_nobody_out() {
    let bench = Bench::new();
    let shared =
        SpoolSettings { mailbox_share: 50, device_share: 25, max_messages: 8, ..settings(bench.directory.path()) };
    bench.spool.open(&shared, &[7; 32]).unwrap();
    let mut silent: Vec<Writer> = (0..100).map(|_| bench.spool.begin(envelope_of(0, 0)).unwrap()).collect();
    for writer in &mut silent {
        writer.append(&[b'x'; 10_000]);
    }
    assert!(bench.spool.summary().octets <= 256 * 1024, "a quarter of the spool");
    for device in [1, 1, 2, 2] {
        let mut writer = bench.spool.begin(envelope_of(1, device)).unwrap();
        writer.append(CONTENT.as_bytes());
        writer.commit(Outcome::Refused("451 later".to_owned())).await.unwrap();
    }
    drop(silent);
    let octets = bench.spool.list().iter().map(|item| item.octets).sum::<u64>();
    until(|| bench.spool.summary().octets == octets).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_of_ten_thousand_recipients_is_kept_and_sent() {
    let mut bench = Bench::new();
    let recipients = (0..10_000).map(|one| format!("a-recipient-with-a-long-name-{one}@contoso.example")).collect();
    let many = Envelope { recipients, ..envelope() };
    bench.spool.queue.lock().settings.as_mut().unwrap().max_size = 1 << 30;
    let mut writer = bench.spool.begin(many.clone()).unwrap();
    writer.append(CONTENT.as_bytes());
    drop(writer.commit(Outcome::Refused("451 later".to_owned())).await.unwrap());
    bench.reopen().await;
    bench.run();
    bench.until_empty().await;
    assert!(bench.got() == [(many.clone(), CONTENT.to_owned())]);
    // What no file has room for only streams.
    let long = Envelope { recipients: vec!["x".repeat(17 * 1024 * 1024)], ..envelope() };
    assert!(bench.spool.begin(long).is_none());
    assert!(bench.spool.summary().problem.unwrap().contains("too many recipients"));
}
