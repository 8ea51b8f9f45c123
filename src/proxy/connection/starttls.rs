//! TLS in the middle of a connection: STARTTLS and STLS, towards the device and towards the server.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Connection;
use super::driver::Driver;
use super::network::{Clear, Network};
use super::session_record::Ending;
use super::wait::unless_over;
use crate::failure::{Failure, Kind, Side};
use crate::proto::is_client_hello;
use crate::transport::upstream::Server;

impl<N: Network> Connection<'_, '_, N> {
    /// Shakes hands on one side. A server with which that fails costs the device its login; a device is gone with it.
    pub(super) async fn start_tls(&mut self, side: Side) -> Result<(), Ending> {
        match side {
            Side::Downstream => self.secure_device().await.map_err(Ending::Failed),
            Side::Upstream => {
                if let Err(failure) = self.secure_server().await {
                    self.login_failed(&failure);
                }
                Ok(())
            }
        }
    }

    async fn secure_device(&mut self) -> Result<(), Failure> {
        let Some((stream, unread)) = self.driver.take_downstream() else {
            return Err(Failure::new(Kind::Handshake, "STARTTLS without a device"));
        };
        // A device may send its ClientHello without waiting for our OK. Anything else was put there by somebody on
        // the way, to be taken for the device's own commands behind the handshake.
        if is_client_hello(&unread) == Some(false) {
            return Err(Failure::new(Kind::Injection, "the device's side sent commands in clear behind STARTTLS"));
        }
        let secure = self.network.secure_device(self.service, self.record, Clear { stream, unread });
        let stream = unless_over(&self.registered, secure).await?;
        self.registered.channel_established(N::facts(&stream), false);
        self.driver.downstream_secured(stream);
        self.channel_began = Instant::now();
        Ok(())
    }

    async fn secure_server(&mut self) -> Result<(), Failure> {
        let Some(server) = self.server.as_ref().map(Arc::clone) else {
            return Err(Failure::new(Kind::UpstreamTls, "STARTTLS without a server"));
        };
        let secure = secure_server(self.network, &mut self.driver, &server);
        let stream = unless_over(&self.registered, secure).await?;
        self.record.upstream_tls = N::facts(&stream);
        self.driver.upstream_secured(stream);
        Ok(())
    }
}

/// Takes the server's stream out of a driver, and shakes hands on it. Plaintext that is left behind STARTTLS is an
/// attack.
pub(in crate::proxy) async fn secure_server<D, N>(
    network: &N,
    driver: &mut Driver<D, N::Stream>,
    server: &Server,
) -> Result<N::Stream, Failure>
where
    D: AsyncRead + AsyncWrite + Unpin,
    N: Network,
{
    let Some((stream, unread)) = driver.take_upstream() else {
        return Err(Failure::new(Kind::UpstreamTls, "STARTTLS without a server"));
    };
    if !unread.is_empty() {
        return Err(Failure::new(Kind::Injection, "the server's side sent answers in clear behind STARTTLS"));
    }
    network.secure_server(server, stream).await
}
