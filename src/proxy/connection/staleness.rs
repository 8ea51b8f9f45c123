//! The watch for stale mail: now and then a device's login dials although its mailbox has a parked connection, and the two
//! are compared after the device's LOGOUT.
//!
//! The device waits for nothing. Meanwhile the parked connection stays parked: it keeps its session of the mailbox, another
//! device may take it, and it gives way. UIDNEXT never falls (RFC 3501 §2.3.1.1), and the parked connection is asked after
//! the fresh one has answered: an honest one shows as much or more, whenever mail arrives.

use std::sync::Arc;

use tracing::error;

use super::network::Network;
use crate::metrics::ParkedEnd;
use crate::proxy::backend::mailbox::Mailbox;
use crate::proxy::parking::{self, ParkedSession, Parking, Sample};

/// Compares the mailbox's parked connection with one that was dialled, on which no mailbox is selected. The parked one
/// ends, because the other one is younger. Returns whether the dialled one may be parked in its place.
pub(super) async fn shows_new_mail<N: Network>(
    parking: &Arc<Parking>,
    mailbox: &Mailbox,
    dialled: &mut N::Stream,
    sample: Box<Sample>,
) -> bool {
    let Some(fresh) = parking.unless_draining(parking::inbox(dialled)).await else { return false };
    let Some(ParkedSession { connection, login, admission, .. }) = parking.take_to_compare(mailbox) else {
        return true;
    };
    let Ok(mut stream) = N::unpark(connection) else {
        parking.lost(mailbox);
        return true;
    };
    let Some(shown) = parking.unless_draining(parking::inbox(&mut stream)).await else {
        parking.lost(mailbox);
        parking.leave(stream, Some(admission));
        return true;
    };
    sample.compared();
    let is_stale = shown.are_older_than(fresh);
    if is_stale {
        let (name, upstream) = (mailbox.account.mailbox.as_str(), mailbox.account.upstream.as_str());
        if parking.distrust(upstream) {
            error!(
                mailbox = name,
                upstream,
                shown = shown.uidnext,
                fresh = fresh.uidnext,
                shown_validity = shown.uidvalidity,
                fresh_validity = fresh.uidvalidity,
                "a parked connection showed older mail than a fresh login: packetboat parks no connection to this server \
                 until the next reload; set park = \"0s\" below [upstream.{upstream}]"
            );
        }
    }
    parking.ended(&login.mailbox, if is_stale { ParkedEnd::Stale } else { ParkedEnd::Full });
    parking.leave(stream, Some(admission));
    !is_stale
}
