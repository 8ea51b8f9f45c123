//! Logins that are translated: devices with passwords of their own, a pretend Exchange Online that wants tokens.

mod endpoint;
mod gateway;
mod grants;
mod hour;
mod issuer;
mod mailbox;
mod online;
mod pasted;
mod rotation;
mod store;
