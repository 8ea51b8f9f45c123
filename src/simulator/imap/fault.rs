//! Faults at commands of IMAP: the lines in place of an answer or behind it, and the fate of the connection.

use super::ImapService;
use crate::simulator::connection::End;
use crate::simulator::quirks::imap::ImapFault;
use crate::simulator::world::World;

impl ImapService<'_> {
    /// Sends the fault's lines, and lets the connection live or die.
    pub(super) async fn play_fault(&mut self, fault: &ImapFault, tag: &str) -> Result<(), End> {
        let shown = fault.reply.as_deref().unwrap_or("no response");
        self.world.log_event(format!("IMAP: {shown}, as asked for at {}", fault.command.unwrap_or("any command")));
        if let Some(reply) = &fault.reply {
            self.send(reply.replace("TAG", tag)).await?;
        }
        self.connection.end_as(fault.then).await
    }
}

/// The next fault of a command, which happens one time less from now on.
pub(super) fn next_fault(world: &World, name: &str, is_in_session: bool) -> Option<ImapFault> {
    let fits = |fault: &ImapFault| fault.command.map_or(is_in_session, |command| command == name);
    if !world.quirk(|quirks| quirks.imap.faults.iter().any(fits)) {
        return None;
    }
    let mut found = None;
    world.quirks.send_if_modified(|quirks| {
        let faults = &mut quirks.imap.faults;
        let Some(fault) = faults.iter_mut().find(|fault| fits(fault)) else { return false };
        if let Some(passes) = fault.passes.checked_sub(1) {
            fault.passes = passes;
            return false;
        }
        found = Some(fault.clone());
        if let Some(times) = &mut fault.times {
            *times = times.saturating_sub(1);
        }
        faults.retain(|fault| fault.times != Some(0));
        true
    });
    found
}
