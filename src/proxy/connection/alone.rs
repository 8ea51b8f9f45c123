//! Logins at a mail server without a device: for checks, for kept messages, and beside a parked connection.

use tokio::io::{AsyncRead, AsyncWrite};

use super::driver::{Driver, Event};
use super::network::Network;
use super::starttls::secure_server;
use crate::failure::{Failure, Kind, Side};
use crate::proxy::backend::mailbox::Mailbox;

/// Goes on until the server has let the session in. The stream of the device is one that nobody writes to.
///
/// # Errors
/// The failure that a device's login would have met.
pub(in crate::proxy) async fn log_in<D, N>(
    network: &N,
    driver: &mut Driver<D, N::Stream>,
    mailbox: &Mailbox,
) -> Result<(), Failure>
where
    D: AsyncRead + AsyncWrite + Unpin,
    N: Network,
{
    loop {
        match driver.next().await? {
            Event::StartTls(Side::Upstream) => {
                let stream = secure_server(network, driver, &mailbox.server).await?;
                driver.upstream_secured(stream);
            }
            Event::LoggedIn => return Ok(()),
            Event::LoginFailed(failure) => return Err(failure),
            Event::Ended(Side::Upstream) => {
                return Err(Failure::new(Kind::UpstreamLost, "in the middle of the login"));
            }
            // The empty device has closed; nothing here depends on it.
            Event::HalfClosed
            | Event::Waits
            | Event::Notice(_)
            | Event::Submitted(_)
            | Event::MessageBegins(_)
            | Event::Keep(_) => {}
            Event::Authenticate(_)
            | Event::Connect
            | Event::ServerLeft
            | Event::StartTls(_)
            | Event::Ended(_)
            | Event::Park(_)
            | Event::Close
            | Event::Stopped => {
                return Err(Failure::new(Kind::UpstreamProtocol, "an event of a device that is not there"));
            }
        }
    }
}
