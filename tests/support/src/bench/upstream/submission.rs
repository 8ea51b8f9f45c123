//! The mail server's submission takes every message, drops it, and says how many octets it had.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::memmem;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

use super::say;

/// Sessions that have ended with a QUIT.
pub(super) static ENDED: AtomicU64 = AtomicU64::new(0);

/// Greets, and replies to a client until it leaves.
pub(super) async fn converse(stream: &mut (impl AsyncBufRead + AsyncWrite + Unpin)) -> io::Result<()> {
    say(stream, "220 localhost ESMTP ready\r\n").await?;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut words = line.split_ascii_whitespace();
        let verb = words.next().unwrap_or_default().to_ascii_uppercase();
        let has_initial_response = words.nth(1).is_some();
        match verb.as_str() {
            "EHLO" => say(stream, EXTENSIONS).await?,
            "AUTH" => {
                if !has_initial_response {
                    say(stream, "334 \r\n").await?;
                    stream.read_line(&mut line).await?;
                }
                say(stream, "235 2.7.0 welcome\r\n").await?;
            }
            "DATA" => {
                say(stream, "354 go ahead\r\n").await?;
                let octets = content(stream).await?;
                say(stream, &format!("250 2.6.0 {octets} octets\r\n")).await?;
            }
            "QUIT" => {
                say(stream, "221 2.0.0 bye\r\n").await?;
                ENDED.fetch_add(1, Ordering::Relaxed);
                return stream.shutdown().await;
            }
            _ => say(stream, "250 2.1.0 ok\r\n").await?,
        }
    }
}

/// Reads up to the end of the data (RFC 5321 §4.1.1.4). Returns the number of octets in front of its dot.
async fn content(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<usize> {
    let finder = memmem::Finder::new(END);
    let mut total = 0;
    // The last octets, which may be the beginning of the end.
    let mut last = Vec::new();
    loop {
        let octets = stream.fill_buf().await?;
        if octets.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let held = last.len();
        last.extend_from_slice(&octets[..octets.len().min(END.len() - 1)]);
        // The end begins in what was held, or in the octets alone.
        let end = finder.find(&last).map(|at| at + END.len() - held);
        let end = end.or_else(|| finder.find(octets).map(|at| at + END.len()));
        let count = end.unwrap_or(octets.len());
        if octets.len() >= END.len() {
            last.clear();
            last.extend_from_slice(&octets[octets.len() + 1 - END.len()..]);
        } else {
            let kept = last.len().min(END.len() - 1);
            last.drain(..last.len() - kept);
        }
        stream.consume(count);
        total += count;
        if end.is_some() {
            return Ok(total - ".\r\n".len());
        }
    }
}

const END: &[u8] = b"\r\n.\r\n";
const EXTENSIONS: &str = "250-localhost\r\n250-SIZE 157286400\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n\
    250 AUTH PLAIN LOGIN XOAUTH2\r\n";
