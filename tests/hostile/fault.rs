//! What can go wrong with a peer, or what it does on purpose.

use std::time::{Duration, Instant};

use crate::peer::{Heard, Peer};
use support::connection::HANDSHAKE_FAILURE;
use support::process::PATIENCE;

support::each! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Fault {
        /// Not a word any more.
        Stall,
        /// RST.
        Reset,
        /// close_notify where there is TLS, FIN, and it goes on reading.
        HalfClose,
        /// FIN without close_notify.
        Vanish,
        /// One octet a second.
        Dribble,
        /// A line that does not end.
        EndlessLine,
        /// Lines that make sense, without end.
        EndlessLines,
        /// A literal of a gigabyte is announced, and begun.
        EndlessLiteral,
        /// Lines of octets that are no text.
        Garbage,
        /// Lines of NUL.
        Nuls,
        /// CR, and never LF.
        BareCr,
        /// LF alone.
        BareLf,
        /// A fatal alert, encrypted where the connection is.
        Alert,
        /// A fatal alert that somebody on the way puts in, in clear.
        ForgedAlert,
        /// The beginning of a record, and FIN.
        TornRecord,
        /// The beginning of a record, and no more.
        StalledRecord,
        /// Everything on the way has forgotten the connection: nothing that comes for the peer is acknowledged.
        Forgotten,
    }
}

/// What a fault is made of in one state.
pub struct Means<'a> {
    /// A line that makes sense.
    pub line: &'a [u8],
    /// The announcement of a literal.
    pub literal: &'a [u8],
    /// What is dribbled.
    pub drops: &'a [u8],
    /// Whether lines and drops go on until the other side ends it; else they end, and the peer closes.
    pub unending: bool,
}

/// Does it. What is said from here on is in [`Peer::said`].
pub fn inflict(fault: Fault, peer: &mut Peer, means: &Means<'_>) {
    if let Some(tcp) = peer.tcp() {
        // Who is not read from any more has said enough.
        tcp.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    }
    match fault {
        Fault::Stall => {}
        Fault::Reset => peer.reset(),
        Fault::HalfClose => peer.close_half(),
        Fault::Vanish => peer.end_half(),
        Fault::Dribble => dribble(peer, means),
        Fault::EndlessLine => pour(peer, &[b'a'; CHUNK]),
        Fault::EndlessLines => lines(peer, means),
        Fault::EndlessLiteral => {
            if peer.try_send(means.literal).is_ok() {
                pour(peer, &[b'a'; CHUNK]);
            }
        }
        Fault::Garbage => drop(peer.try_send(&garbage())),
        Fault::Nuls => drop(peer.try_send(&b"\0\0\0\r\n".repeat(2000))),
        Fault::BareCr => pour(peer, &[b'\r'; CHUNK]),
        Fault::BareLf => drop(peer.try_send(&[b'\n'; 4000])),
        Fault::Alert => peer.alert(),
        Fault::ForgedAlert => drop(peer.send_beneath(HANDSHAKE_FAILURE)),
        Fault::TornRecord => {
            let _ = peer.send_beneath(TORN);
            peer.end_half();
        }
        Fault::StalledRecord => drop(peer.send_beneath(TORN)),
        Fault::Forgotten => peer.forget(),
    }
}

fn dribble(peer: &mut Peer, means: &Means<'_>) {
    let deadline = Instant::now() + PATIENCE;
    for (number, drop) in means.drops.iter().cycle().enumerate() {
        if Instant::now() >= deadline || (!means.unending && number >= DROPS) || peer.try_send(&[*drop]).is_err() {
            return;
        }
        let next = Instant::now() + Duration::from_secs(1);
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            if peer.hear_for(left) == Heard::End {
                return;
            }
        }
    }
}

/// As much as no limit lets through, unless the other side stops reading first.
fn pour(peer: &mut Peer, chunk: &[u8]) {
    for _ in 0..POURED / chunk.len() {
        if peer.try_send(chunk).is_err() {
            return;
        }
    }
}

fn lines(peer: &mut Peer, means: &Means<'_>) {
    let deadline = Instant::now() + PATIENCE;
    let chunk = means.line.repeat(100);
    let mut sent = 0;
    while Instant::now() < deadline && (means.unending || sent < POURED) {
        if peer.try_send(&chunk).is_err() {
            return;
        }
        sent += chunk.len();
        if means.unending {
            // The answers are read, so that nothing but time ends it.
            let next = Instant::now() + Duration::from_millis(20);
            while let Some(left) = next.checked_duration_since(Instant::now()) {
                if peer.hear_for(left) == Heard::End {
                    return;
                }
            }
        }
    }
}

/// Octets of 0x80 and more, in lines; the same ones each time.
fn garbage() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut octets = Vec::new();
    for _ in 0..200 {
        for _ in 0..40 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            octets.push(state as u8 | 0x80);
        }
        octets.extend(b"\r\n");
    }
    octets
}

const CHUNK: usize = 16 * 1024;
const POURED: usize = 1 << 20;
/// Longer than the short time without an octet.
const DROPS: usize = 7;
/// A record of 32 octets, of which 5 come.
const TORN: &[u8] = &[23, 3, 1, 0, 32, 1, 2, 3, 4, 5];
