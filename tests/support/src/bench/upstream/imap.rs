//! The bench's server speaks a scripted IMAP, with answers to what the benches' devices and proxies send.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{LOGINS, MESSAGES, PUSHING, say};

/// The capabilities behind TLS. UNSELECT lets a proxy keep a connection for the next session (RFC 3691).
pub(super) const CAPABILITY: &str = "CAPABILITY IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR IDLE UNSELECT LITERAL+";

/// The capabilities before STARTTLS.
const BEFORE_TLS: &str = "CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED UNSELECT LITERAL+";

/// Answers commands until the peer leaves. A login takes this long.
pub(super) async fn converse(
    stream: &mut (impl AsyncBufRead + AsyncWrite + Unpin),
    slowness: Duration,
) -> io::Result<()> {
    let mut line = String::new();
    let mut pushed = 0;
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut words = line.split_ascii_whitespace();
        let (tag, verb) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let argument = words.next().unwrap_or_default();
        let answer = match verb {
            "CAPABILITY" => &format!("* {CAPABILITY}\r\n"),
            "LOGIN" | "AUTHENTICATE" => {
                literal(stream, &line).await?;
                LOGINS.fetch_add(1, Ordering::Relaxed);
                if !slowness.is_zero() {
                    tokio::time::sleep(slowness).await;
                }
                say(stream, &format!("{tag} OK [{CAPABILITY}] {verb} completed\r\n")).await?;
                continue;
            }
            "SELECT" => {
                pushed = argument.strip_prefix(PUSHING).map_or(0, |count| count.parse().unwrap());
                "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n* 2 EXISTS\r\n* 0 RECENT\r\n\
                 * OK [UIDVALIDITY 1] ok\r\n* OK [UIDNEXT 3] ok\r\n"
            }
            "STATUS" => "* STATUS INBOX (MESSAGES 2 UIDNEXT 3 UIDVALIDITY 1)\r\n",
            "FETCH" => {
                let size = MESSAGES[argument.parse::<usize>().unwrap() - 1];
                fetch(stream, argument, size).await?;
                ""
            }
            "APPEND" => {
                literal(stream, &line).await?;
                ""
            }
            "IDLE" => {
                idle(stream, pushed).await?;
                ""
            }
            "LOGOUT" => "* BYE bye\r\n",
            _ => "",
        };
        say(stream, &format!("{answer}{tag} OK {verb} completed\r\n")).await?;
        if verb == "LOGOUT" {
            return stream.shutdown().await;
        }
    }
}

/// Greets a peer that has to say STARTTLS first, up to the answer to that.
pub(super) async fn until_starttls(stream: &mut (impl AsyncBufRead + AsyncWrite + Unpin)) -> io::Result<()> {
    say(stream, &format!("* OK [{BEFORE_TLS}] ready\r\n")).await?;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (tag, command) = line.trim_end().split_once(' ').unwrap_or_default();
        let answer = if command == "CAPABILITY" { &format!("* {BEFORE_TLS}\r\n") } else { "" };
        say(stream, &format!("{answer}{tag} OK {command} completed\r\n")).await?;
        if command == "STARTTLS" {
            return Ok(());
        }
    }
}

/// Reads the literals of a command, with the rest of its line.
async fn literal(stream: &mut (impl AsyncBufRead + AsyncWrite + Unpin), line: &str) -> io::Result<()> {
    let mut line = line.to_owned();
    while let Some((_, size)) = line.trim_end().strip_suffix('}').and_then(|line| line.rsplit_once('{')) {
        let number = size.trim_end_matches('+');
        if number == size {
            say(stream, "+ go ahead\r\n").await?;
        }
        let size: u64 = number.parse().unwrap();
        let read = tokio::io::copy(&mut AsyncReadExt::take(&mut *stream, size), &mut tokio::io::sink()).await?;
        assert_eq!(read, size);
        line.clear();
        stream.read_line(&mut line).await?;
    }
    Ok(())
}

async fn idle(stream: &mut (impl AsyncBufRead + AsyncWrite + Unpin), pushed: usize) -> io::Result<()> {
    say(stream, "+ idling\r\n").await?;
    for number in 0..pushed {
        tokio::time::sleep(Duration::from_millis(1)).await;
        say(stream, &format!("* {} EXISTS\r\n", number + 3)).await?;
    }
    let mut done = String::new();
    stream.read_line(&mut done).await?;
    Ok(())
}

async fn fetch(stream: &mut (impl AsyncWriteExt + Unpin), number: &str, size: usize) -> io::Result<()> {
    let piece = [b'x'; 64 * 1024];
    stream.write_all(format!("* {number} FETCH (BODY[] {{{size}}}\r\n").as_bytes()).await?;
    let mut left = size;
    while left > 0 {
        let count = left.min(piece.len());
        stream.write_all(&piece[..count]).await?;
        left -= count;
    }
    stream.write_all(b")\r\n").await
}
