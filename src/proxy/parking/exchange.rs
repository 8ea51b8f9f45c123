//! The commands that packetboat sends by itself on a connection that is parked, or about to be, with their answers.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::proto::logout;
use crate::proto::parking::{Answer, InboxNumbers, OwnCommand, ParkedState, has_unselect};
use crate::protocol::Protocol;

/// Makes a connection ready to be parked: no mailbox is selected any more. Returns its capability list; none where it
/// cannot be parked.
pub(in crate::proxy) async fn prepare<S>(stream: &mut S, state: ParkedState) -> Option<Vec<u8>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let capability = match state.capability {
        Some(list) => list,
        None => ask(stream, OwnCommand::Capability).await??,
    };
    if !has_unselect(&capability) {
        return None;
    }
    if state.may_be_selected {
        ask(stream, OwnCommand::Unselect).await?;
    }
    Some(capability)
}

/// Returns whether a connection that was parked still answers.
pub(in crate::proxy) async fn still_lives<S>(stream: &mut S) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    ask(stream, OwnCommand::Noop).await.is_some()
}

/// Asks for INBOX's numbers. None where the server does not say them in time.
pub(in crate::proxy) async fn inbox<S>(stream: &mut S) -> Option<InboxNumbers>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    InboxNumbers::read(&ask(stream, OwnCommand::Status).await??)
}

/// Sends a command, and waits for its answer. None where it does not come in time, or is another one.
async fn ask<S>(stream: &mut S, command: OwnCommand) -> Option<Option<Vec<u8>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    timeout(PATIENCE, answer(stream, command)).await.ok()?.ok()?
}

async fn answer<S>(stream: &mut S, command: OwnCommand) -> io::Result<Option<Option<Vec<u8>>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(command.octets()).await?;
    stream.flush().await?;
    let mut received = Vec::new();
    loop {
        let mut octets = [0; 2048];
        let count = stream.read(&mut octets).await?;
        if count == 0 {
            return Ok(None);
        }
        received.extend_from_slice(octets.get(..count).unwrap_or_default());
        match command.answer(&received) {
            Answer::Incomplete => {}
            Answer::Done(capability) => return Ok(Some(capability)),
            Answer::Other => return Ok(None),
        }
    }
}

/// Logs out, and waits until the server has closed: it counts the connection until then.
pub(in crate::proxy) async fn log_out<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let leave = async {
        stream.write_all(logout(Protocol::Imap)).await?;
        stream.flush().await?;
        let mut octets = [0; 256];
        while stream.read(&mut octets).await? > 0 {}
        stream.shutdown().await
    };
    // The server may be gone; nothing depends on it any more.
    let _ = timeout(LEAVING, leave).await;
}

/// The longest wait for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// The longest wait for a server's answer to LOGOUT.
pub(super) const LEAVING: Duration = Duration::from_secs(2);
