//! The browser that comes back from a sign-in, to a port of this computer (RFC 8252 §7.3).

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::enrol::{Enrolment, Pasted};
use crate::transport::http;
use crate::transport::http::server::{self, Response};

/// A port of this computer that a browser comes back to.
pub struct Redirect {
    listener: TcpListener,
    port: u16,
}

impl Redirect {
    /// Listens on this port of 127.0.0.1; 0 takes a free one.
    ///
    /// # Errors
    /// The operating system refuses the port.
    pub async fn listen(port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    /// The address to come back to. It is the registered one, but for its port, which does not count (RFC 8252 §7.3).
    pub fn address(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// Serves the browser, and hands on what it brings, until nobody waits for that any more.
    pub async fn receive(self, enrolment: Arc<Enrolment>, sender: mpsc::Sender<Pasted>) {
        // Every program of this computer reaches the port.
        let connections = Arc::new(Semaphore::new(AT_A_TIME));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = sender.closed() => return,
            };
            let Ok((stream, _)) = accepted else { return };
            let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { continue };
            let (enrolment, sender) = (Arc::clone(&enrolment), sender.clone());
            let serve = server::serve(stream, server::Bodies::Forms, move |received| {
                let fields: Vec<(&str, &str)> =
                    received.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let pasted = enrolment.read(&format!("{}?{}", received.path, http::encode(&fields).as_str()));
                let sender = sender.clone();
                async move { answer(pasted, &sender).await }
            });
            tokio::spawn(async move {
                let _ = timeout(LONGEST_VISIT, serve).await;
                drop(permit);
            });
        }
    }
}

async fn answer(pasted: Pasted, sender: &mpsc::Sender<Pasted>) -> Response {
    let (status, text) = match &pasted {
        Pasted::Code(_) => (200, "Signed in. You can close this page, and go on at packetboat."),
        Pasted::Refused(_) => (200, "The sign-in was refused. packetboat says why."),
        Pasted::Strange(_) => (404, "This is not the address that the sign-in leads to."),
    };
    if status == 200 {
        // The receiver has gone if another answer was faster.
        let _ = sender.send(pasted).await;
    }
    Response { status, headers: vec![("content-type", "text/plain".to_owned())], body: text.into() }
}

/// The most connections at a time: a browser opens up to six.
const AT_A_TIME: usize = 16;
/// The longest connection: a program that holds all of them keeps no browser out for long.
const LONGEST_VISIT: Duration = Duration::from_secs(10);
