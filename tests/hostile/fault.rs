//! This file has the faults that a peer may have, by accident or on purpose.

use std::time::{Duration, Instant};

use crate::peer::{Heard, Peer};
use support::connection::HANDSHAKE_FAILURE;
use support::process::PATIENCE;

support::each! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Fault {
        /// The peer sends nothing more.
        Stall,
        /// The peer sends RST.
        Reset,
        /// The peer sends close_notify if it has TLS, then FIN, and goes on reading.
        HalfClose,
        /// The peer sends FIN without close_notify.
        Vanish,
        /// The peer sends one octet a second.
        Dribble,
        /// The peer sends a line without end.
        EndlessLine,
        /// The peer sends valid lines without end.
        EndlessLines,
        /// The peer announces a literal of a gigabyte, and begins it.
        EndlessLiteral,
        /// The peer sends lines of octets that are no text.
        Garbage,
        /// The peer sends lines of NUL.
        Nuls,
        /// The peer sends CR, and never LF.
        BareCr,
        /// The peer sends LF alone.
        BareLf,
        /// The peer sends a fatal alert, encrypted if the connection is.
        Alert,
        /// An attacker on the path injects a fatal alert in clear.
        ForgedAlert,
        /// The peer sends the beginning of a record, and FIN.
        TornRecord,
        /// The peer sends the beginning of a record, and stalls.
        StalledRecord,
        /// Everything on the way has forgotten the connection: nothing that comes for the peer is acknowledged.
        Forgotten,
    }
}

/// The octets that a fault uses in one state.
pub struct Means<'a> {
    /// A valid line.
    pub line: &'a [u8],
    /// The announcement of a literal.
    pub literal: &'a [u8],
    /// The octets that the peer sends one at a time.
    pub drops: &'a [u8],
    /// Whether lines and drops go on until the other side ends them; else the peer closes after a while.
    pub unending: bool,
}

/// Inflicts the fault. [`Peer::said`] records the octets sent from here on.
pub fn inflict(fault: Fault, peer: &mut Peer, means: &Means<'_>) {
    if let Some(tcp) = peer.tcp() {
        // A write to a peer that has stopped reading must not block the test.
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

/// Sends more than any limit allows, unless the other side stops reading first.
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
            // The peer reads the answers, so that only time ends the connection.
            let next = Instant::now() + Duration::from_millis(20);
            while let Some(left) = next.checked_duration_since(Instant::now()) {
                if peer.hear_for(left) == Heard::End {
                    return;
                }
            }
        }
    }
}

/// Lines of octets from 0x80 up, the same on each run.
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
/// The number of single octets, which takes longer than the short idle time.
const DROPS: usize = 7;
/// A record of 32 octets, cut after the first 5.
const TORN: &[u8] = &[23, 3, 1, 0, 32, 1, 2, 3, 4, 5];
