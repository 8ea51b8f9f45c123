//! A device that logs out in step leaves its server connection behind, and a device that logs in may take one.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::Connection;
use super::network::Network;
use super::session_record::Ending;
use super::staleness::shows_new_mail;
use super::wait::within;
use crate::failure::Failure;
use crate::inventory::LoginWay;
use crate::metrics::ParkedTake;
use crate::proto::parking::ParkedState;
use crate::proto::{Terms, logout};
use crate::proxy::backend::authorize::Authorized;
use crate::proxy::backend::mailbox::{Admission, Mailbox};
use crate::proxy::parking::{self, ParkedSession, StandingLogin};

impl<N: Network> Connection<'_, '_, N> {
    /// The device has logged out, and has its answer. Its server connection is parked, or is logged out: in a task of its
    /// own, because the device does not wait for that.
    pub(super) fn park(&mut self, state: ParkedState) -> Result<(), Ending> {
        // The order matters: a reload between the two is seen by one of them.
        let generation = self.service.parking.generation();
        let present = self.registered.mailbox();
        let is_sampled = self.is_sampled;
        let opened = self.opened.take();
        let left = self.driver.take_upstream();
        let (Some(opened), Some((stream, unread))) = (opened, left) else { return Err(Ending::LoggedOut) };
        let Authorized { mailbox, token, admission, since, .. } = opened;
        let is_present = present.is_ok_and(|(present, _)| Arc::ptr_eq(&present, &mailbox));
        let (Some(admission), Some(since)) = (admission, since) else { return Err(Ending::LoggedOut) };
        let login = StandingLogin { mailbox, token, since, capability: Vec::new() };
        let parking = Arc::clone(&self.service.parking);
        let may_park = is_present
            && unread.is_empty()
            && self.revoked.is_none()
            && login.usable_until() > Instant::now()
            && !login.mailbox.is_left_alone()
            && parking.takes(&login.mailbox);
        let parks = may_park.then_some(Parks { parking, state, generation, is_sampled });
        tokio::spawn(leave_behind::<N>(stream, (login, admission), parks));
        Err(Ending::LoggedOut)
    }

    /// Takes the parked connection of the mailbox, where there is one that lives. Returns whether the device is in.
    pub(super) async fn take_parked(&mut self, mailbox: &Arc<Mailbox>, terms: &Terms) -> Result<bool, Failure> {
        let Terms::Mailbox(of_mailbox) = terms else { return Ok(false) };
        if !of_mailbox.parks {
            return Ok(false);
        }
        self.is_sampled = self.service.parking.samples(mailbox);
        if self.is_sampled {
            return Ok(false);
        }
        let Some(ParkedSession { connection, login, admission, .. }) = self.service.parking.take(mailbox) else {
            return Ok(false);
        };
        let metrics = &self.service.telemetry.metrics;
        let Ok(mut stream) = N::unpark(connection) else {
            metrics.parked_taken(ParkedTake::Lost);
            return Ok(false);
        };
        let lives = self.unless_left(async { Ok(parking::still_lives(&mut stream).await) }).await?;
        let state = ParkedState { capability: Some(login.capability), may_be_selected: false };
        if !lives {
            metrics.parked_taken(ParkedTake::Lost);
            return Ok(false);
        }
        let facts = N::facts(&stream);
        if !self.driver.resume(stream, *of_mailbox, state) {
            return Ok(false);
        }
        metrics.parked_taken(ParkedTake::Taken);
        self.record.upstream_tls = facts;
        self.record.mailbox = Some(Arc::clone(mailbox));
        self.record.way = Some(LoginWay::Parked);
        self.retry = None;
        self.server = Some(Arc::clone(&mailbox.server));
        self.connected = Instant::now();
        self.opened = Some(Authorized {
            mailbox: Arc::clone(mailbox),
            token: login.token,
            is_second: false,
            terms: terms.clone(),
            admission: Some(admission),
            since: Some(login.since),
        });
        Ok(true)
    }
}

/// The conditions under which a connection is parked.
struct Parks {
    parking: Arc<parking::Parking>,
    state: ParkedState,
    /// The number of the configuration that it belongs to.
    generation: u64,
    /// It is compared with the mailbox's parked connection before.
    is_sampled: bool,
}

/// Parks a connection, or logs out of it.
async fn leave_behind<N: Network>(
    mut stream: N::Stream,
    (mut login, admission): (StandingLogin, Admission),
    parks: Option<Parks>,
) {
    if let Some(Parks { parking, state, generation, is_sampled }) = parks
        && let Some(capability) = parking::prepare(&mut stream, state).await
        && (!is_sampled || shows_new_mail::<N>(&parking, &login.mailbox, &mut stream).await)
    {
        login.capability = capability;
        if let Ok(connection) = N::park(stream).await {
            parking.park(ParkedSession::new(connection, login, admission), generation);
        }
        return;
    }
    let leave = async {
        // The server may be gone; nothing depends on it any more.
        let _ = stream.write_all(logout(login.mailbox.server.protocol())).await;
        let _ = stream.flush().await;
        let _ = parking::read_to_end(&mut stream).await;
        let _ = stream.shutdown().await;
    };
    within(parking::LEAVING, leave).await;
    drop(admission);
}
