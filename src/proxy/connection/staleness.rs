//! The watch for stale mail: now and then a fresh login looks at INBOX before a device gets a parked connection.
//!
//! UIDNEXT never falls (RFC 3501 §2.3.1.1). A parked connection that shows a lower one than the fresh login did before it
//! does not see new mail.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, empty};
use tokio::time::timeout;
use tracing::error;

use super::Connection;
use super::alone::log_in;
use super::network::Network;
use crate::failure::Failure;
use crate::proto::{self, AccessSettings, Terms, UpstreamLogin};
use crate::proxy::backend::mailbox::Mailbox;
use crate::proxy::connection::driver::Driver;
use crate::proxy::parking;

impl<N: Network> Connection<'_, '_, N> {
    /// Looks at INBOX by a fresh login, where it is this login's turn. The device waits for it as it would without parking.
    pub(super) async fn watch_staleness(&mut self, mailbox: &Arc<Mailbox>) -> Result<(), Failure> {
        self.fresh_uidnext = None;
        if self.service.parking.is_sampled() {
            let network = self.network;
            let fresh = async { Ok(timeout(PATIENCE, fresh_uidnext(network, mailbox)).await.ok().flatten()) };
            self.fresh_uidnext = self.unless_left(fresh).await?;
        }
        Ok(())
    }

    /// Compares what the parked connection has shown to its device with what the fresh login had seen before.
    pub(super) fn judge_staleness(&mut self) {
        let shown = self.driver.session().activity().first_uidnext;
        let (Some(fresh), Some(shown), Some(opened)) = (self.fresh_uidnext.take(), shown, &self.opened) else { return };
        let upstream = &opened.mailbox.account.upstream;
        if shown < fresh && self.service.parking.distrust(upstream) {
            let mailbox = opened.mailbox.account.mailbox.as_str();
            error!(
                mailbox,
                upstream,
                shown,
                fresh,
                "a parked connection showed older mail than a fresh login: packetboat parks no connection to this server \
                 until the next reload; set park = \"0s\" below [upstream.{upstream}]"
            );
        }
    }
}

/// Logs in beside the parked connection, and asks for INBOX's UIDNEXT. None where no session of the mailbox is free, or the
/// login fails.
async fn fresh_uidnext<N: Network>(network: &N, mailbox: &Arc<Mailbox>) -> Option<u32> {
    let _admission = mailbox.try_admit()?;
    let token = mailbox.token().await.ok()?;
    let server = network.dial(&mailbox.server).await.ok()?;
    let protocol = mailbox.server.protocol();
    let settings = AccessSettings { probe: false, delete: false, parks: false, submission: mailbox.submission() };
    let terms = Terms::translated(protocol, settings);
    let login = UpstreamLogin { credentials: mailbox.credentials(&token), security: server.security, terms };
    let mut driver = Driver::new(proto::login(protocol), empty());
    driver.connect(server.stream, login);
    log_in(network, &mut driver, mailbox).await.ok()?;
    let (mut stream, unread) = driver.take_upstream()?;
    if !unread.is_empty() {
        return None;
    }
    let uidnext = parking::uidnext(&mut stream).await;
    // The login has served its purpose, whatever the server answers.
    let _ = stream.write_all(proto::logout(protocol)).await;
    let _ = stream.flush().await;
    let _ = timeout(parking::LEAVING, parking::read_to_end(&mut stream)).await;
    let _ = stream.shutdown().await;
    uidnext
}

/// The longest time for the fresh login, in which a device still waits.
const PATIENCE: Duration = Duration::from_secs(25);
