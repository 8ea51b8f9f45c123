//! Accepts connections to the page, and those of the operator's commands at the socket in the state directory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tracing::debug;

use super::Admin;
use super::role::Client;
use crate::lifecycle::{Lifecycle, Phase};
use crate::state;
use crate::transport::http::server::{self, Bodies};

/// Serves every client that reaches this port, within the limits.
pub(super) async fn from_network(admin: Arc<Admin>, socket: TcpListener, mut lifecycle: Lifecycle) {
    while let Some((stream, source)) = next(|| socket.accept(), &mut lifecycle).await {
        let limiter = if source.ip().to_canonical().is_loopback() { &admin.near } else { &admin.far };
        let Some(permit) = limiter.take(source.ip()) else {
            debug!(%source, "too many connections to the page");
            continue;
        };
        let client = Client::Network(Arc::new(permit));
        tokio::spawn(serve(Arc::clone(&admin), stream, client, lifecycle.clone()));
    }
}

/// Serves root and the user that this process runs as.
pub(super) async fn from_owner(admin: Arc<Admin>, socket: UnixListener, mut lifecycle: Lifecycle) {
    let connections = Arc::new(Semaphore::new(OF_OWNER));
    while let Some((stream, _)) = next(|| socket.accept(), &mut lifecycle).await {
        let user = stream.peer_cred().map(|peer| peer.uid());
        if !user.as_ref().is_ok_and(|user| state::socket::is_for(*user)) {
            debug!(?user, "this user may not use the socket in the state directory");
            continue;
        }
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            debug!("too many connections to the socket in the state directory");
            continue;
        };
        let (admin, lifecycle) = (Arc::clone(&admin), lifecycle.clone());
        tokio::spawn(async move {
            serve(admin, stream, Client::Owner, lifecycle).await;
            drop(permit);
        });
    }
}

/// The next connection, or none once the drain begins. A socket that fails is tried again after a pause.
async fn next<T, F>(mut accept: impl FnMut() -> F, lifecycle: &mut Lifecycle) -> Option<T>
where
    F: Future<Output = io::Result<T>>,
{
    loop {
        let accepted = tokio::select! {
            accepted = accept() => accepted,
            () = lifecycle.reached(Phase::Draining) => return None,
        };
        match accepted {
            Ok(connection) => return Some(connection),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn serve<S>(admin: Arc<Admin>, stream: S, client: Client, mut lifecycle: Lifecycle)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let has_request = Arc::new(AtomicBool::new(false));
    let set_request = Arc::clone(&has_request);
    let has_long = Arc::new(AtomicBool::new(false));
    let set_long = Arc::clone(&has_long);
    let serve = server::serve(stream, Bodies::Forms, move |received| {
        set_request.store(true, Ordering::Relaxed);
        let (admin, client, set_long) = (Arc::clone(&admin), client.clone(), Arc::clone(&set_long));
        async move {
            let is_change = received.method == "POST";
            set_long.fetch_or(is_change, Ordering::Relaxed);
            let mut answer = admin.handle(&received, &client).await;
            set_long.fetch_or(answer.is_stream(), Ordering::Relaxed);
            if is_change {
                // It is the last request, so that its time is never the end of another one's.
                answer.response.headers.push(("connection", "close".to_owned()));
            }
            answer
        }
    });
    let silent = async {
        sleep(FIRST_REQUEST).await;
        if has_request.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let too_long = async {
        sleep(LONGEST_VISIT).await;
        // A stream or a change that has begun late has its own time: the answer may hold a new password.
        if has_long.load(Ordering::Relaxed) {
            sleep(LONGEST_VISIT).await;
        }
    };
    tokio::select! {
        () = serve => {}
        () = silent => {}
        // A slow reader's connection ends as well; browsers reconnect.
        () = too_long => {}
        () = lifecycle.reached(Phase::Draining) => {}
    }
}

/// The most connections of the operator's commands at a time.
const OF_OWNER: usize = 32;
const FIRST_REQUEST: Duration = Duration::from_secs(5);
const LONGEST_VISIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);
