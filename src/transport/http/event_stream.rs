//! An event stream is a response that goes on: server-sent events, as browsers read them (WHATWG HTML §9.2).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::mpsc;

/// The sending end of a stream. The stream ends when it is dropped.
pub struct EventSender(mpsc::Sender<Bytes>);

/// The receiving end, for the response.
pub struct EventStream(mpsc::Receiver<Bytes>);

/// The reader of a stream has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderLeft;

/// A stream that holds one event for a slow reader.
pub fn event_stream() -> (EventSender, EventStream) {
    let (sender, receiver) = mpsc::channel(1);
    (EventSender(sender), EventStream(receiver))
}

impl EventSender {
    /// Sends one event, whose data is a text without line ends. A slow reader has it wait.
    ///
    /// # Errors
    /// The reader has left.
    pub async fn send(&self, data: &str) -> Result<(), ReaderLeft> {
        self.0.send(format!("data: {data}\n\n").into()).await.map_err(|_| ReaderLeft)
    }

    /// Waits until the reader has left.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// The body of a response, as it is sent.
pub(super) enum Outgoing {
    Whole(Full<Bytes>),
    Events(EventStream),
}

impl Default for Outgoing {
    fn default() -> Self {
        Self::Whole(Full::default())
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Events(EventStream(events)) => {
                events.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Events(_) => SizeHint::default(),
        }
    }
}
