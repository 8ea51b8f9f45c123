//! Connections that have no device any more and are not parked: packetboat makes them ready for that, or logs out. The end of
//! the process waits for them.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::Parking;
use super::exchange::{LEAVING, PATIENCE, log_out};
use crate::proxy::backend::mailbox::Admission;

/// A connection that has no device any more and is not parked. The process waits for its end. Dropping it tells that.
pub(in crate::proxy) struct Unsettled(Arc<Parking>);

impl Parking {
    /// Waits until each connection without a device is closed: after the drain none is parked.
    pub(in crate::proxy) async fn settle(&self) {
        let mut unsettled = self.unsettled.subscribe();
        // The process does not wait for a server that is gone. One may owe an answer to NOOP, and then that to LOGOUT.
        let _ = timeout(PATIENCE + LEAVING, unsettled.wait_for(|count| *count == 0)).await;
    }

    /// Does something with a connection that has no device. None where it fails, or the drain begins before.
    pub(in crate::proxy) async fn unless_draining<T>(&self, work: impl Future<Output = Option<T>>) -> Option<T> {
        let mut is_draining = self.is_draining.subscribe();
        tokio::select! {
            biased;
            done = work => done,
            _ = is_draining.wait_for(|is_draining| *is_draining) => None,
        }
    }

    /// Counts a connection that has no device any more, and is not parked.
    pub(in crate::proxy) fn unsettled(self: &Arc<Self>) -> Unsettled {
        self.unsettled.send_modify(|count| *count += 1);
        Unsettled(Arc::clone(self))
    }

    /// Logs out of a connection that has no device any more, in a task of its own. Its session is free once the server has
    /// closed it.
    pub(in crate::proxy) fn leave<S>(self: &Arc<Self>, stream: S, admission: Option<Admission>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let unsettled = self.unsettled();
        tokio::spawn(async move {
            log_out(stream).await;
            drop((admission, unsettled));
        });
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.0.unsettled.send_modify(|count| *count -= 1);
    }
}
