//! These tests prove how a transaction reads the replies of a mail server, at every cut and out of step.

use super::*;
use tokio::io::duplex;

/// The reply that is read from these octets, at every cut.
async fn read(octets: &[u8]) -> Option<(u8, String)> {
    let limits = limits();
    let mut all = Vec::new();
    for cut in 0..=octets.len() {
        let (near, mut far) = duplex(64 * 1024);
        far.write_all(&octets[cut..]).await.unwrap();
        drop(far);
        let mut transaction = Transaction::new(near, &octets[..cut], limits);
        all.push(transaction.whole_reply().await.ok().map(|reply| (reply.class, reply.text)));
    }
    all.dedup();
    assert_eq!(all.len(), 1, "{all:?}");
    all.pop().unwrap()
}

/// The default limits.
fn limits() -> SubmissionLimits {
    crate::config::Config::parse(LISTENER, std::path::Path::new("x")).unwrap().config.limits.submission
}

const LISTENER: &str = "[[listener]]\nprotocol = \"smtp\"\nlisten = [\"127.0.0.1:0\"]\nobserve = true\n";

#[tokio::test]
async fn replies_are_read_whole() {
    for (octets, expected) in [
        (&b"250 2.0.0 ok\r\n"[..], Some((b'2', "250 2.0.0 ok"))),
        (b"250\r\n", Some((b'2', "250"))),
        (b"550-5.7.60 not\r\n550 5.7.60 as them\r\n", Some((b'5', "550 5.7.60 not 5.7.60 as them"))),
        (b"451 4.7.0 l\xe4ter\n", Some((b'4', "451 4.7.0 l?ter"))),
        (b"250 ok", None),
        (b"", None),
        (b"ok\r\n", None),
        (b"150 x\r\n", None),
        (b"2501\r\n", None),
        (b"550-no\r\n250 ok\r\n", None),
    ] {
        let expected = expected.map(|(class, text)| (class, text.to_owned()));
        assert_eq!(read(octets).await, expected, "{}", octets.escape_ascii());
    }
    assert_eq!(read(&[b'2'; 10_000]).await, None);
}

/// The outcome of an envelope and DATA at a server that says these octets at once, one piece for each command.
async fn played(pieces: &[&str]) -> (&'static str, String) {
    let limits = limits();
    let (near, mut far) = duplex(64 * 1024);
    let pieces: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
    let server = tokio::spawn(async move {
        let mut got = Vec::new();
        for piece in pieces {
            let mut buffer = [0; 1024];
            let count = far.read(&mut buffer).await.unwrap_or_default();
            got.extend_from_slice(&buffer[..count]);
            // The client may have had enough.
            let _ = far.write_all(piece.as_bytes()).await;
        }
        String::from_utf8(got).unwrap()
    });
    let envelope = Envelope { sender: "a@b".to_owned(), recipients: vec!["c@d".to_owned()], ..Envelope::default() };
    let mut transaction = Transaction::new(near, b"", limits);
    let outcome = match transaction.until_content(&envelope).await {
        Ok(Ok(_)) => "content",
        Ok(Err(Outcome { answer: Answer::Accepted(_), .. })) => "accepted",
        Ok(Err(Outcome { answer: Answer::Temporary(_), .. })) => "temporary",
        Ok(Err(Outcome { answer: Answer::Permanent(_), .. })) => "permanent",
        Ok(Err(Outcome { answer: Answer::Lost(_), .. })) | Err(_) => "lost",
    };
    drop(transaction);
    (outcome, server.await.unwrap())
}

/// A server whose replies are out of step never makes a message count as taken that it has not got.
#[tokio::test]
async fn no_reply_before_the_content_counts_as_the_answer_to_the_message() {
    for (pieces, expected) in [
        (&["250 ok\r\n", "250 ok\r\n", "354 go\r\n"][..], "content"),
        (&["250 ok\r\n", "250 ok\r\n", "250 ok\r\n"], "lost"),
        (&["250 ok\r\n250 ok\r\n", "250 ok\r\n"], "lost"),
        (&["250 ok\r\n", "250 ok\r\n250 ok\r\n", ""], "lost"),
        (&["354 go\r\n"], "lost"),
        (&["250 ok\r\n", "354 go\r\n"], "lost"),
        (&["250 ok\r\n", "250 ok\r\n", "451 later\r\n"], "temporary"),
        (&["250 ok\r\n", "250 ok\r\n", "554 no\r\n"], "permanent"),
        (&["250 ok\r\n", "550 no\r\n"], "permanent"),
    ] {
        let (outcome, got) = played(pieces).await;
        assert_eq!(outcome, expected, "{pieces:?}: {got}");
    }
}

/// A TLS stream may hold the end of the message back until it is flushed.
#[tokio::test(start_paused = true)]
async fn a_late_answer_comes_to_an_end_that_was_not_flushed() {
    let limits = limits();
    let (near, mut far) = duplex(64 * 1024);
    let mut near = tokio::io::BufStream::new(near);
    near.write_all(b"text\r\n.\r\n").await.unwrap();
    let server = async {
        let mut octets = [0; 9];
        far.read_exact(&mut octets).await.unwrap();
        assert_eq!(&octets, b"text\r\n.\r\n");
        far.write_all(b"250 2.0.0 queued\r\n").await.unwrap();
    };
    let mut transaction = Transaction::new(near, b"", limits);
    let (outcome, ()) = tokio::join!(transaction.late_answer(3), server);
    assert_eq!((outcome.answer, outcome.taken), (Answer::Accepted("250 2.0.0 queued".to_owned()), 3));
}

/// The recipients go their own ways, unless the server closes or throttles the mailbox.
#[tokio::test]
async fn each_recipient_has_its_own_reply() {
    const OK: &str = "250 ok\r\n";
    const LATER: &str = "450 4.2.0 later\r\n";
    const NOBODY: &str = "550 5.1.1 nobody\r\n";
    let limits = limits();
    for (replies, expected) in [
        ([OK, OK, OK], "content 3 0 0"),
        ([OK, LATER, NOBODY], "content 1 1 1"),
        ([LATER, LATER, LATER], "temporary 0 0 0"),
        ([LATER, NOBODY, NOBODY], "temporary 0 0 2"),
        ([NOBODY, NOBODY, NOBODY], "permanent 0 0 3"),
        ([OK, "421 4.3.2 closing\r\n", OK], "temporary 0 0 0"),
        ([OK, "550 5.2.254 Sender throttled\r\n", OK], "temporary 0 0 0"),
        ([NOBODY, "452 4.5.3 too many\r\n", OK], "content 1 1 1"),
    ] {
        let (near, mut far) = duplex(64 * 1024);
        let server = tokio::spawn(async move {
            for reply in [OK].into_iter().chain(replies).chain(["354 go\r\n"]) {
                let mut buffer = [0; 1024];
                // The client may have had enough.
                if far.read(&mut buffer).await.unwrap_or_default() == 0
                    || far.write_all(reply.as_bytes()).await.is_err()
                {
                    return;
                }
            }
        });
        let recipients = ["a@x", "b@x", "c@x"].map(str::to_owned).to_vec();
        let envelope = Envelope { sender: "s@x".to_owned(), recipients, ..Envelope::default() };
        let mut transaction = Transaction::new(near, b"", limits);
        let got = match transaction.until_content(&envelope).await {
            Ok(Ok(all)) => format!("content {} {} {}", all.taken, all.deferred.len(), all.refused.len()),
            Ok(Err(outcome)) => {
                let failure = outcome.failure.unwrap();
                let is_throttled = failure.kind == crate::failure::Kind::MailboxThrottled;
                assert_eq!(failure.retry_after.is_some(), is_throttled, "{replies:?}");
                let class = if matches!(outcome.answer, Answer::Temporary(_)) { "temporary" } else { "permanent" };
                format!("{class} {} {} {}", outcome.taken, outcome.deferred.len(), outcome.refused.len())
            }
            Err(_) => "lost".to_owned(),
        };
        assert_eq!(got, expected, "{replies:?}");
        drop(transaction);
        server.await.unwrap();
    }
}
