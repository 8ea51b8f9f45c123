//! These tests prove translated logins: devices with passwords of their own, and a pretend Exchange Online that accepts
//! only tokens.

mod endpoint;
mod gateway;
mod grants;
mod hour;
mod issuer;
mod mailbox;
mod measures;
mod online;
mod pasted;
mod root;
mod rotation;
mod store;
