//! Events keep the page of one device up to date: its view is sent anew with each change.
//!
//! Streams are bounded in number and in time, and each holds one event for a reader that is slow. The view itself is in
//! memory once, so that a reader that stops costs nobody anything. A reload and the drain end every stream.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Admin;
use super::role::Role;
use crate::transport::http::event_stream::{EventSender, event_stream};
use crate::transport::http::server::{Answer, Request, Response};

impl Admin {
    /// A stream of the views of one device.
    pub(super) async fn device_events(self: &Arc<Self>, received: &Request, role: Role) -> Answer {
        let name = received.field("name").unwrap_or_default().to_owned();
        if self.device_view(&name, role).await.is_none() {
            return Response::text(404, "the configuration has no device of this name\n").into();
        }
        let Ok(permit) = Arc::clone(&self.streams).try_acquire_owned() else {
            return Response::text(503, "too many pages follow a device; this one reloads instead\n").into();
        };
        let (sender, stream) = event_stream();
        let (admin, mut reloads) = (Arc::clone(self), self.reloads.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                () = admin.follow(&name, role, &sender) => {}
                () = sender.closed() => {}
                _ = reloads.changed() => {}
                () = sleep(LONGEST) => {}
            }
            drop(permit);
        });
        Answer::events(stream)
    }

    /// Sends the view of a device, and sends it again whenever it changes.
    async fn follow(&self, name: &str, role: Role, sender: &EventSender) {
        let Some(mut changes) = self.common.inventory.activities().watch(name) else { return };
        while let Some(view) = self.device_view(name, role).await {
            if sender.send(&view.to_string()).await.is_err() {
                return;
            }
            // Changes in between are sent together.
            sleep(PAUSE).await;
            // Times on the page go on without a change.
            if timeout(IDLE, changes.changed()).await.is_ok_and(|changed| changed.is_err()) {
                return;
            }
        }
    }
}

/// The most streams at a time: half of the connections that one source may have.
pub(super) const STREAMS: usize = 8;
/// The longest stream. The connection would end soon after.
const LONGEST: Duration = Duration::from_secs(55);
const PAUSE: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_secs(10);
