//! Connections to the page, and those of the operator's commands by the socket in the state directory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tracing::debug;

use super::Admin;
use super::answer::Asker;
use crate::lifecycle::{Lifecycle, Phase};
use crate::state;
use crate::transport::http::server::{self, Bodies};

/// Serves whoever reaches this port.
pub(super) async fn from_network(admin: Arc<Admin>, socket: TcpListener, mut lifecycle: Lifecycle) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = lifecycle.reached(Phase::Draining) => return,
        };
        let Ok((stream, source)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        let places = if source.ip().to_canonical().is_loopback() { &admin.near } else { &admin.far };
        match places.take(source.ip()) {
            Some(place) => drop(tokio::spawn(serve(
                Arc::clone(&admin),
                stream,
                Asker::Stranger(Arc::new(place)),
                lifecycle.clone(),
            ))),
            None => debug!(%source, "too many connections to the page"),
        }
    }
}

/// Serves root and the user that this process runs as.
pub(super) async fn from_owner(admin: Arc<Admin>, socket: UnixListener, mut lifecycle: Lifecycle) {
    let places = Arc::new(Semaphore::new(OF_OWNER));
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = lifecycle.reached(Phase::Draining) => return,
        };
        let Ok((stream, _)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        let user = stream.peer_cred().map(|peer| peer.uid());
        if !user.as_ref().is_ok_and(|user| state::socket::is_for(*user)) {
            debug!(?user, "this user may not ask at the socket in the state directory");
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            debug!("too many connections to the socket in the state directory");
            continue;
        };
        let (admin, lifecycle) = (Arc::clone(&admin), lifecycle.clone());
        tokio::spawn(async move {
            serve(admin, stream, Asker::Owner, lifecycle).await;
            drop(place);
        });
    }
}

async fn serve<S>(admin: Arc<Admin>, stream: S, asker: Asker, mut lifecycle: Lifecycle)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let has_asked = Arc::clone(&asked);
    let serve = server::serve(stream, Bodies::Ignored, move |received| {
        has_asked.store(true, Ordering::Relaxed);
        let (admin, asker) = (Arc::clone(&admin), asker.clone());
        async move { admin.answer(&received, &asker).await }
    });
    let silent = async {
        sleep(FIRST_REQUEST).await;
        if asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = serve => {}
        () = silent => {}
        // Who is slow to read does not stay for ever either; browsers come again.
        () = sleep(LONGEST_VISIT) => {}
        () = lifecycle.reached(Phase::Draining) => {}
    }
}

/// Connections of the operator's commands at a time.
const OF_OWNER: usize = 32;
const FIRST_REQUEST: Duration = Duration::from_secs(5);
const LONGEST_VISIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);
