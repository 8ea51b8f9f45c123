//! A device that logs out in step leaves its server connection behind, and a device that logs in may take one.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Connection;
use super::network::Network;
use super::session_record::Ending;
use super::staleness::shows_new_mail;
use crate::failure::{Failure, Kind};
use crate::inventory::LoginWay;
use crate::metrics::ParkedTake;
use crate::proto::parking::ParkedState;
use crate::proto::{MailboxTerms, Probe, Terms};
use crate::proxy::backend::authorize::Authorized;
use crate::proxy::backend::mailbox::{Admission, Mailbox};
use crate::proxy::parking::{self, Origin, ParkedSession, Parking, Sample, StandingLogin, Unsettled};

impl<N: Network> Connection<'_, '_, N> {
    /// Notes what the mail server has refused in a running session. The session goes on, and its connection is not parked. The
    /// mailbox's parked connection ends where the server throttles the mailbox, or does not open it any more.
    pub(super) fn refused_in_session(&mut self, failure: &Failure) {
        let Some(opened) = &self.opened else { return };
        opened.mailbox.failed(failure);
        if failure.retry_after.is_some() || failure.kind == Kind::NotAuthorized {
            self.service.parking.refused(&opened.mailbox);
        }
    }

    /// The device has logged out, and has its answer. Its server connection is parked, or is logged out: in a task of its
    /// own, because the device does not wait for that.
    pub(super) fn park(&mut self, state: ParkedState) -> Result<(), Ending> {
        // The order matters: a reload between the two is seen by one of them.
        let parking = Arc::clone(&self.service.parking);
        let generation = parking.generation();
        let present = self.registered.mailbox();
        let Some((stream, unread)) = self.driver.take_upstream() else { return Err(Ending::LoggedOut) };
        let Some(Authorized { mailbox, token, admission, since, .. }) = self.opened.take() else {
            parking.leave(stream, None);
            return Err(Ending::LoggedOut);
        };
        let is_present = present.is_ok_and(|(present, _)| Arc::ptr_eq(&present, &mailbox));
        let (Some(admission), Some(since)) = (admission, since) else {
            parking.leave(stream, None);
            return Err(Ending::LoggedOut);
        };
        let login = StandingLogin { mailbox, token, since, capability: Vec::new() };
        let may_park = is_present
            && unread.is_empty()
            && self.revoked.is_none()
            && login.usable_until() > Instant::now()
            && !login.mailbox.is_refused_since(login.since)
            && parking.takes(&login.mailbox);
        if may_park {
            let parks = Parks { generation, sample: self.sample.take(), unsettled: parking.unsettled(), parking };
            tokio::spawn(leave_behind::<N>(Idle { stream, login, admission }, state, parks));
        } else {
            parking.leave(stream, Some(admission));
        }
        Err(Ending::LoggedOut)
    }

    /// Takes the parked connection of the mailbox, where there is one that lives. Returns whether the device is in.
    pub(super) async fn take_parked(&mut self, mailbox: &Arc<Mailbox>, terms: &Terms) -> Result<bool, Failure> {
        let Terms::Mailbox(of_mailbox) = terms else { return Ok(false) };
        if !of_mailbox.parks {
            return Ok(false);
        }
        let parking = Arc::clone(&self.service.parking);
        self.sample = None;
        if mailbox.is_left_alone() {
            // Another instance of the fleet may have learnt it.
            parking.refused(mailbox);
            return Ok(false);
        }
        self.sample = parking.sample(mailbox);
        if self.sample.is_some() {
            return Ok(false);
        }
        let generation = parking.generation();
        let Some(session) = parking.take(mailbox) else { return Ok(false) };
        let mut check = Box::pin(check_alive::<N>(session));
        let answered = match self.unless_left(async { Ok((&mut check).await) }).await {
            Ok(answered) => answered,
            Err(failure) => {
                let unsettled = parking.unsettled();
                tokio::spawn(go_back::<N>(check, Parks { parking, generation, sample: None, unsettled }));
                return Err(failure);
            }
        };
        let Idle { stream, login, admission } = match answered {
            Ok(idle) => idle,
            Err(lost) => {
                lost.leave(&parking);
                return Ok(false);
            }
        };
        let state = ParkedState { capability: Some(login.capability), may_be_selected: false };
        let facts = N::facts(&stream);
        if let Err(stream) = self.driver.resume(stream, *of_mailbox, state) {
            parking.lost(mailbox);
            parking.leave(stream, Some(admission));
            return Ok(false);
        }
        let metrics = &self.service.telemetry.metrics;
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
            // It was probed, or not, when it was dialled.
            terms: Terms::Mailbox(MailboxTerms { probe: Probe::Skip, ..*of_mailbox }),
            admission: Some(admission),
            since: Some(login.since),
        });
        Ok(true)
    }
}

/// A connection without a device, on which no command is open.
struct Idle<S> {
    stream: S,
    login: StandingLogin,
    admission: Admission,
}

/// A connection that was parked and does not answer. Its stream may still be there.
struct Lost<S> {
    stream: Option<S>,
    mailbox: Arc<Mailbox>,
    admission: Admission,
}

/// The conditions under which a connection is parked.
struct Parks {
    parking: Arc<Parking>,
    /// The number of the configuration that it belongs to.
    generation: u64,
    /// It is compared with the mailbox's parked connection before.
    sample: Option<Box<Sample>>,
    unsettled: Unsettled,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Lost<S> {
    /// Counts the connection as lost, and logs out of it if that can be.
    fn leave(self, parking: &Arc<Parking>) {
        parking.lost(&self.mailbox);
        if let Some(stream) = self.stream {
            parking.leave(stream, Some(self.admission));
        }
    }
}

/// Asks a connection that was parked whether it lives.
async fn check_alive<N: Network>(session: ParkedSession) -> Result<Idle<N::Stream>, Lost<N::Stream>> {
    let ParkedSession { connection, login, admission, .. } = session;
    let Ok(mut stream) = N::unpark(connection) else {
        return Err(Lost { stream: None, mailbox: login.mailbox, admission });
    };
    if parking::still_lives(&mut stream).await {
        Ok(Idle { stream, login, admission })
    } else {
        Err(Lost { stream: Some(stream), mailbox: login.mailbox, admission })
    }
}

/// Parks a connection again whose device has left while it was asked. It may go to another device, because the answer is
/// waited for.
async fn go_back<N: Network>(
    check: impl Future<Output = Result<Idle<N::Stream>, Lost<N::Stream>>> + Send,
    parks: Parks,
) {
    let Parks { parking, generation, unsettled, .. } = parks;
    match check.await {
        Ok(Idle { stream, login, admission }) => match N::park(stream).await {
            Ok(connection) => {
                parking.park(ParkedSession::new(connection, login, admission), generation, Origin::Return);
            }
            Err(stream) => Lost { stream, mailbox: login.mailbox, admission }.leave(&parking),
        },
        Err(lost) => lost.leave(&parking),
    }
    drop(unsettled);
}

/// Parks a connection whose device has logged out, or logs out of it.
async fn leave_behind<N: Network>(idle: Idle<N::Stream>, state: ParkedState, parks: Parks) {
    let Idle { mut stream, mut login, admission } = idle;
    let Parks { parking, generation, sample, unsettled } = parks;
    let capability = parking.unless_draining(parking::prepare(&mut stream, state)).await;
    let is_fit = capability.is_some()
        && match sample {
            Some(sample) => shows_new_mail::<N>(&parking, &login.mailbox, &mut stream, sample).await,
            None => true,
        };
    login.capability = capability.unwrap_or_default();
    let left = if is_fit { N::park(stream).await } else { Err(Some(stream)) };
    match left {
        Ok(connection) => parking.park(ParkedSession::new(connection, login, admission), generation, Origin::Logout),
        Err(stream) => {
            if let Some(stream) = stream {
                parking::log_out(stream).await;
            }
            drop(admission);
        }
    }
    drop(unsettled);
}
